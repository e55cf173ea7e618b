//! `dr dump`

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dr_core::{
    ArchiveFormat, Context, DumpOptions, EntryKind, FileContent, Repository, Snapshot, SnapshotView,
};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::{Format, Operation, Output, Progress, Verbosity, json, text};
use crate::selector::Selector;
use crate::session::Session;

/// Writes a file of a snapshot, or a directory as one archive, to standard output or to a file.
#[derive(Debug, Args)]
#[command(
    after_help = "SNAP:path of a file writes its content. SNAP, or SNAP:path of a directory, needs --archive: \
names in the archive begin below that directory.\n\
A tar archive (pax format) keeps everything but sockets; a ZIP archive keeps files, directories and symbolic links with \
permissions and times.\n\
An archive that meets damage breaks off with exit code 1 and has no end, so that no program takes it for whole; what can be \
read can be restored with 'dr restore'. With --target the file appears only when it is complete."
)]
pub(crate) struct DumpArgs {
    /// The snapshot, also as SNAP:path
    #[arg(value_name = "SNAP")]
    snapshot: OsString,
    /// Write an archive of this format
    #[arg(short, long, value_name = "FORMAT")]
    archive: Option<FormatArg>,
    /// Write to FILE instead of standard output
    #[arg(short, long, value_name = "FILE")]
    target: Option<PathBuf>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    Tar,
    Zip,
}

#[derive(Debug, Serialize)]
struct Summary {
    message_type: &'static str,
    schema: u32,
    snapshot_id: String,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    complete: bool,
    problem_count: u64,
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    seconds: f64,
}

/// What was written, for the summary.
#[derive(Debug, Default)]
struct Written {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    problems: Vec<dr_core::Problem>,
    problem_count: u64,
}

/// Runs the command.
pub(crate) fn run(args: &DumpArgs, session: &Session) -> Result<()> {
    let selector = Selector::parse(&args.snapshot)?;
    if args.archive.is_some() && args.target.is_none() && io::stdout().is_terminal() {
        return Err(CliError::usage("an archive is nothing for a terminal")
            .with_remedy("use --target FILE, or a pipe"));
    }
    let repository = session.open_repository()?;
    let snapshot = selector.find(&repository, &args.filter.to_filter())?;
    let progress = Progress::begin(Operation::Dump, &progress_output(args, session));
    let context = session.context(&progress);
    let graceful = session.signals.graceful();
    let path = selector.path.unwrap_or_default();
    let mut write = |to: &mut dyn Write| write(args, (&repository, &snapshot, &path), to, &context);
    let written = match &args.target {
        Some(file) => write_file(file, &mut write),
        None => {
            let mut stdout = raw_stdout()?;
            write(&mut stdout)
        }
    };
    drop(graceful);
    progress.finish(written.as_ref().map_or(&[], |written| written.problems.as_slice()));
    let written = written.map_err(|error| {
        if session.signals.cancel().is_cancelled() { CliError::interrupted() } else { error }
    })?;
    finish(&written, &snapshot, args, &progress, session)
}

/// Who reads an archive on standard output must find nothing else there.
fn progress_output(args: &DumpArgs, session: &Session) -> Output {
    let output = &session.output;
    match (args.target.is_some(), output.is_json()) {
        (true, _) => output.clone(),
        (false, true) => Output::new(Format::Json, Verbosity::Quiet),
        (false, false) => Output::new(Format::Text, output.verbosity().min(Verbosity::Normal)),
    }
}

/// Standard output without the library's buffer, which looks for ends of lines.
pub(crate) fn raw_stdout() -> Result<File> {
    io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(CliError::output)
}

fn write(
    args: &DumpArgs,
    (repository, snapshot, path): (&Repository, &Snapshot, &[u8]),
    to: &mut dyn Write,
    ctx: &Context<'_>,
) -> Result<Written> {
    let Some(format) = args.archive else {
        let view = repository.view(snapshot)?;
        let bytes = write_content(&view, path, to, ctx)?;
        return Ok(Written { files: 1, bytes, ..Written::default() });
    };
    let format = match format {
        FormatArg::Tar => ArchiveFormat::Tar,
        FormatArg::Zip => ArchiveFormat::Zip,
    };
    let options = DumpOptions::new().path(path).format(format);
    let report = repository.dump(snapshot, to, &options, ctx).map_err(written_out)?;
    Ok(Written {
        files: report.files,
        directories: report.directories,
        others: report.others,
        bytes: report.bytes,
        problem_count: report.problem_count,
        problems: report.problems,
    })
}

/// Writes what a file of a snapshot holds.
pub(crate) fn write_content(
    view: &SnapshotView,
    path: &[u8],
    to: &mut dyn Write,
    ctx: &Context<'_>,
) -> Result<u64> {
    let shown = || PathBuf::from(std::ffi::OsStr::from_bytes(path));
    let content = content_of(view, path)?;
    view.copy_file(&content, to, ctx).map_err(|error| {
        let is_damage = matches!(
            error.kind(),
            dr_core::ErrorKind::Corrupt
                | dr_core::ErrorKind::StoreFailed
                | dr_core::ErrorKind::UnsupportedFormat
        );
        written_out(if is_damage {
            error
                .with_path(shown())
                .with_remedy("what was written is only the beginning; 'dr check' says what is damaged")
        } else {
            error
        })
    })
}

fn content_of(view: &SnapshotView, path: &[u8]) -> Result<FileContent> {
    let shown = Path::new(std::ffi::OsStr::from_bytes(path));
    match view.entry(path)?.map(|entry| entry.kind) {
        Some(EntryKind::File(content)) => Ok(content),
        None | Some(EntryKind::Directory(_)) => Err(CliError::usage("this is a directory")
            .with_path(if path.is_empty() { Path::new("/") } else { shown })
            .with_remedy("write it as an archive: dr dump SNAP:path --archive tar")),
        Some(_) => Err(CliError::usage("only regular files have a content").with_path(shown)),
    }
}

/// Tells a reader that went away, which is no failure, from everything else.
pub(crate) fn written_out(error: dr_core::Error) -> CliError {
    let cause = std::error::Error::source(&error).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(cause) if cause.kind() == io::ErrorKind::BrokenPipe => CliError::output(cause.kind().into()),
        _ => CliError::from(error),
    }
}

/// Writes to a file beside the one that is meant, which takes its place when it is whole. What is no regular file (a device, a
/// pipe) is written to itself.
fn write_file(file: &Path, write: &mut dyn FnMut(&mut dyn Write) -> Result<Written>) -> Result<Written> {
    let failed =
        |error: io::Error| CliError::source("the file cannot be written").with_path(file).with_cause(&error);
    if fs::metadata(file).is_ok_and(|metadata| !metadata.is_file()) {
        let mut special = File::options().write(true).open(file).map_err(failed)?;
        let written = write(&mut special)?;
        special.flush().map_err(failed)?;
        return Ok(written);
    }
    let mut name = file
        .file_name()
        .ok_or_else(|| CliError::usage("this is no name of a file").with_path(file))?
        .to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let partial = file.with_file_name(name);
    let mut target = File::create_new(&partial).map_err(failed)?;
    let written = write(&mut target).and_then(|written| {
        target.sync_all().and_then(|()| fs::rename(&partial, file)).map_err(failed)?;
        Ok(written)
    });
    if written.is_err() {
        // It is of no use; that it could not be removed would hide why.
        let _ = fs::remove_file(&partial);
    }
    written
}

fn finish(
    written: &Written,
    snapshot: &Snapshot,
    args: &DumpArgs,
    progress: &Progress,
    session: &Session,
) -> Result<()> {
    if let Some(target) = &args.target {
        let target = target.as_os_str().as_bytes();
        let summary = Summary {
            message_type: "summary",
            schema: json::SCHEMA,
            snapshot_id: snapshot.id.to_string(),
            target: String::from_utf8_lossy(target).into_owned(),
            target_b64: json::unless_text(target),
            complete: written.problem_count == 0,
            problem_count: written.problem_count,
            files: written.files,
            directories: written.directories,
            others: written.others,
            bytes: written.bytes,
            seconds: progress.elapsed().as_secs_f64(),
        };
        session.output.summary(&summary, |to| {
            writeln!(
                to,
                "wrote {}, {} and {} ({}) from {} to {} in {:.1} s",
                text::count(summary.files, "file", "files"),
                text::count(summary.directories, "directory", "directories"),
                text::count(summary.others, "other entry", "other entries"),
                text::bytes(summary.bytes),
                json::short(&summary.snapshot_id),
                text::printable_path(target),
                summary.seconds,
            )
        })?;
    }
    if written.problem_count == 0 {
        return Ok(());
    }
    let problems = text::count(written.problem_count, "entry", "entries");
    Err(CliError::partial(format!("the archive has no place for {problems}")))
}
