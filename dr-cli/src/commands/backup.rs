//! `dr backup`

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use dr_core::{
    BackupOptions, BackupReport, Compression, LocalTree, LocalTreeOptions, Parent, Patterns, Repository,
    SelectedTree, SnapshotFilter, Source, StreamInput, TarInput,
};
use serde::Serialize;

use crate::child::SourceCommand;
use crate::counting;
use crate::error::{CliError, Result};
use crate::filing_args::FilingArgs;
use crate::path_lists::PathListArgs;
use crate::pattern_lists::{warn_of_unreaching, warn_of_unused};
use crate::quantity;
use crate::render::json::{self, TotalsRecord};
use crate::render::{self, Operation, Progress, text};
use crate::selection_args::{PATTERNS, SelectionArgs};
use crate::selector::Selector;
use crate::session::Session;
use crate::source_args::SourceArgs;

/// How paths are recorded, and what becomes of those that cannot be read.
const PATHS: &str = "\
Paths: a snapshot holds absolute paths. A relative one starts at the working directory;
  '.' and '..' are taken away by name alone, so 'a/../b' is 'b' even where 'a' is a link
  to somewhere else. A link that is named is saved as a link; links on the way to what is
  named are saved as the directories they lead to. A path below another that is named is
  part of that one.
  What cannot be read is named, the rest is saved, and the exit code is 3.";

/// Saves files and directories, whole and with everything that is known of them, as a new snapshot. A relative path
/// starts at the working directory; the snapshot holds absolute paths.
#[derive(Debug, Args)]
#[command(after_help = format!("{PATHS}\n\n{PATTERNS}"))]
pub(crate) struct BackupArgs {
    /// What to save: paths, or one bucket (s3://BUCKET/PREFIX, gs://, az://, https:// of a WebDAV server); after --stdin-from-command or --from-tar-command the command
    #[arg(
        value_name = "PATH",
        required_unless_present_any = ["stdin", "from_tar", "files_from", "files_from_verbatim", "files_from_raw"]
    )]
    paths: Vec<OsString>,
    #[command(flatten)]
    lists: PathListArgs,
    #[command(flatten)]
    filing: FilingArgs,
    /// Read and count, but store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Save no snapshot where nothing differs from the one it is compared with
    #[arg(long, conflicts_with_all = ["force", "stdin", "stdin_from_command"])]
    skip_if_unchanged: bool,
    /// Compare with this snapshot instead of the newest of the same host and paths
    #[arg(long, value_name = "SNAP")]
    parent: Option<OsString>,
    /// Compare with none: read everything
    #[arg(short, long, conflicts_with = "parent")]
    force: bool,
    /// Take a file for unchanged though its inode number differs (network file systems)
    #[arg(long)]
    ignore_inode: bool,
    /// Take a file for unchanged though its change time differs; its modification time counts
    #[arg(long)]
    ignore_ctime: bool,
    /// Stay on the file systems of the paths that were named
    #[arg(short = 'x', long)]
    one_file_system: bool,
    /// Save when files were last read
    #[arg(long)]
    with_atime: bool,
    /// How hard to compress
    #[arg(long, value_enum, default_value_t = Level::Auto, value_name = "LEVEL")]
    compression: Level,
    /// Take at most SIZE of memory, 64M or more, beside 300 bytes for each new chunk
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    max_memory: Option<u64>,
    /// Do not count beforehand how much there is: a first backup then shows no end
    #[arg(long)]
    no_scan: bool,
    /// Do not open and hash what was sealed again before it leaves this machine
    #[arg(long)]
    no_verify_frames: bool,
    /// Save what standard input gives, as one file
    #[arg(long, conflicts_with_all = [
        "paths", "stdin_from_command", "from_tar", "from_tar_command",
        "files_from", "files_from_verbatim", "files_from_raw", "SelectionArgs",
    ])]
    stdin: bool,
    /// The name of the file that --stdin or --stdin-from-command makes, or of the directory that --from-tar or
    /// --from-tar-command makes ('/': the topmost) [default: stdin, or the archive's name]
    #[arg(long, value_name = "NAME")]
    stdin_filename: Option<String>,
    /// Run the command after '--' and save its output as one file; if it fails, there is no snapshot
    #[arg(long, conflicts_with_all = ["files_from", "files_from_verbatim", "files_from_raw", "SelectionArgs"])]
    stdin_from_command: bool,
    /// Save the files that the tar archive FILE holds ('-': standard input), as if they were unpacked
    #[arg(long, value_name = "FILE", conflicts_with_all = ["paths", "stdin_from_command", "from_tar_command", "SelectionArgs"])]
    from_tar: Option<PathBuf>,
    /// Run the command after '--' and save the files that the tar archive which it writes holds; if it fails, there is no
    /// snapshot
    #[arg(long, conflicts_with_all = ["stdin_from_command", "SelectionArgs"])]
    from_tar_command: bool,
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    selection: SelectionArgs,
}

/// How hard to compress.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Level {
    Off,
    Fast,
    Auto,
    Better,
    Max,
}

impl From<Level> for Compression {
    fn from(level: Level) -> Compression {
        match level {
            Level::Off => Compression::Off,
            Level::Fast => Compression::Fast,
            Level::Auto => Compression::Auto,
            Level::Better => Compression::Better,
            Level::Max => Compression::Max,
        }
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    message_type: &'static str,
    schema: u32,
    snapshot_id: Option<String>,
    short_id: Option<String>,
    parent: Option<String>,
    dry_run: bool,
    /// Nothing differs from the parent, and no snapshot was to be saved then.
    unchanged: bool,
    complete: bool,
    problem_count: u64,
    warning_count: u64,
    entries_new: u64,
    entries_changed: u64,
    entries_unchanged: u64,
    entries_excluded: u64,
    totals: TotalsRecord,
    seconds: f64,
}

/// What is saved.
enum Input {
    Local(Selected),
    Bucket(Selected),
    Stream(Bytes),
    Tar(Bytes),
}

/// Files, without what the patterns exclude.
struct Selected {
    tree: Box<dyn Source>,
    patterns: Patterns,
}

impl Input {
    fn patterns(&self) -> Patterns {
        match self {
            Input::Local(files) | Input::Bucket(files) => files.patterns.clone(),
            Input::Stream(_) | Input::Tar(_) => Patterns::new(),
        }
    }
}

/// Where a stream comes from.
enum Bytes {
    Read(File),
    Command,
}

/// Runs the command.
pub(crate) fn run(args: BackupArgs, session: &Session) -> Result<()> {
    let mut options = options(&args)?;
    let input = input(&args, session)?;
    let patterns = input.patterns();
    warn_of_unreaching(&patterns, &session.output);
    let repository = session.open_repository()?;
    options.parent = parent(&args, &repository)?;
    let progress = Progress::begin(Operation::Backup, &session.output);
    let context = session.context(&progress);
    let graceful = session.signals.graceful();
    let name = args.stdin_filename.clone();
    let report = match input {
        Input::Local(files) if progress.is_shown() && !args.no_scan => {
            counting::beside(&*files.tree, &progress, |watched| {
                repository.backup(&*files.tree, &options, &session.context(watched))
            })
        }
        Input::Local(files) | Input::Bucket(files) => repository.backup(&*files.tree, &options, &context),
        Input::Stream(Bytes::Read(file)) => {
            let input = StreamInput::new(name.unwrap_or_else(|| "stdin".to_owned()), file);
            repository.backup_stream(input, &options, &context)
        }
        Input::Stream(Bytes::Command) => {
            SourceCommand::with(&args.paths, &session.signals, |output, confirm| {
                let input = StreamInput::new(name.unwrap_or_else(|| "stdin".to_owned()), output);
                repository.backup_stream(input.confirmed_by(confirm), &options, &context)
            })?
        }
        Input::Tar(Bytes::Read(file)) => {
            let input = TarInput::new(name.unwrap_or_else(|| archive_name(&args)), file);
            repository.backup_tar(input, &options, &context)
        }
        Input::Tar(Bytes::Command) => {
            SourceCommand::with(&args.paths, &session.signals, |output, confirm| {
                let input = TarInput::new(name.unwrap_or_else(|| archive_name(&args)), output);
                repository.backup_tar(input.confirmed_by(confirm), &options, &context)
            })?
        }
    };
    drop(graceful);
    progress.finish(report.as_ref().map_or(&[], |report| report.problems.as_slice()));
    let report = session.answer(report)?;
    warn_of_unused(args.selection.typed(), &patterns, &session.output);
    finish(&report, args.dry_run, &progress, session)
}

/// Opens what is saved, so that a slip is told before a password is asked for.
fn input(args: &BackupArgs, session: &Session) -> Result<Input> {
    if args.stdin || args.stdin_from_command {
        refuse_lists(args, "a stream")?;
    } else if args.from_tar.is_some() || args.from_tar_command {
        refuse_lists(args, "an archive")?;
    }
    if args.stdin {
        return Ok(Input::Stream(Bytes::Read(standard_input()?)));
    }
    if args.stdin_from_command {
        return Ok(Input::Stream(Bytes::Command));
    }
    if args.from_tar_command {
        return Ok(Input::Tar(Bytes::Command));
    }
    if let Some(file) = &args.from_tar {
        let opened = if file.as_os_str() == "-" { standard_input()? } else { open(file)? };
        return Ok(Input::Tar(Bytes::Read(opened)));
    }
    let is_bucket = |path: &OsString| path.to_str().is_some_and(dr_store::is_bucket);
    if let (Some(Some(location)), true) =
        (args.paths.first().map(|path| path.to_str()), args.paths.iter().any(is_bucket))
    {
        if args.paths.len() > 1 {
            return Err(CliError::usage("a bucket is backed up alone").with_remedy(
                "make a snapshot of each; a file whose name begins so is written with './' in front",
            ));
        }
        refuse_lists(args, "a bucket")?;
        let bucket = Box::new(args.source.open(location, session)?);
        return selected(args, bucket).map(Input::Bucket);
    }
    if !args.source.is_empty() {
        return Err(CliError::usage("--source-opt is for a bucket that is backed up: s3://BUCKET/PREFIX"));
    }
    local_tree(args)
}

fn local_tree(args: &BackupArgs) -> Result<Input> {
    let mut paths: Vec<PathBuf> = args.paths.iter().map(PathBuf::from).collect();
    paths.extend(args.lists.read()?);
    selected(args, Box::new(LocalTree::open(&paths, tree_options(args))?)).map(Input::Local)
}

fn selected(args: &BackupArgs, tree: Box<dyn Source>) -> Result<Selected> {
    let selection = args.selection.to_selection()?;
    let patterns = selection.patterns.clone();
    // Where nothing is left out, nothing is asked of each entry.
    let tree = if selection.is_empty() { tree } else { Box::new(SelectedTree::new(tree, selection)) };
    Ok(Selected { tree, patterns })
}

/// Refuses lists of paths where something else is saved: they would not be.
fn refuse_lists(args: &BackupArgs, what: &str) -> Result<()> {
    if args.lists.is_empty() {
        return Ok(());
    }
    Err(CliError::usage(format!("{what} is backed up alone, without the paths of --files-from and its like"))
        .with_remedy("save the paths with a command of their own; a profile may give them too"))
}

fn open(file: &Path) -> Result<File> {
    File::open(file).map_err(|error| {
        CliError::source(format!("the archive {} cannot be read", file.display())).with_cause(&error)
    })
}

/// The directory that an archive is unpacked into: the file's name without its ending, where it has one.
fn archive_name(args: &BackupArgs) -> String {
    let file = args.from_tar.as_deref().filter(|file| file.as_os_str() != "-");
    let stem = file.and_then(Path::file_stem).and_then(|stem| stem.to_str());
    stem.filter(|stem| !matches!(*stem, "." | "..")).unwrap_or("tar").to_owned()
}

fn options(args: &BackupArgs) -> Result<BackupOptions> {
    let mut options = BackupOptions::new();
    args.filing.apply(&mut options)?;
    options.ignore_inode = args.ignore_inode;
    options.ignore_ctime = args.ignore_ctime;
    options.dry_run = args.dry_run;
    options.skip_if_unchanged = args.skip_if_unchanged;
    options.verify_frames = !args.no_verify_frames;
    options.memory_bytes_max = args.max_memory;
    options.compression = args.compression.into();
    Ok(options)
}

fn tree_options(args: &BackupArgs) -> LocalTreeOptions {
    let mut options = LocalTreeOptions::default();
    options.with_atime = args.with_atime;
    options.one_file_system = args.one_file_system;
    options
}

fn parent(args: &BackupArgs, repository: &Repository) -> Result<Parent> {
    let Some(text) = &args.parent else {
        return Ok(if args.force { Parent::Nothing } else { Parent::Newest });
    };
    let selector = Selector::parse(text)?;
    if selector.path.is_some() {
        return Err(CliError::usage("--parent takes a snapshot without a path"));
    }
    Ok(Parent::Snapshot(selector.find(repository, &SnapshotFilter::new())?.id.to_string()))
}

/// Standard input without this program's own buffer.
pub(crate) fn standard_input() -> Result<File> {
    let input = io::stdin().as_fd().try_clone_to_owned();
    input
        .map(File::from)
        .map_err(|error| CliError::source("standard input cannot be read").with_cause(&error))
}

fn finish(report: &BackupReport, dry_run: bool, progress: &Progress, session: &Session) -> Result<()> {
    let id = report.snapshot.map(|id| id.to_string());
    let summary = Summary {
        message_type: "summary",
        schema: json::SCHEMA,
        short_id: id.as_deref().map(|id| json::short(id).to_owned()),
        snapshot_id: id,
        parent: report.parent.map(|id| id.to_string()),
        dry_run,
        unchanged: report.unchanged,
        complete: report.is_complete(),
        problem_count: report.problem_count,
        warning_count: report.warning_count,
        entries_new: report.entries_new,
        entries_changed: report.entries_changed,
        entries_unchanged: report.entries_unchanged,
        entries_excluded: report.entries_excluded,
        totals: TotalsRecord::new(&report.totals),
        seconds: progress.elapsed().as_secs_f64(),
    };
    let written = session.output.summary(&summary, |to| write_summary(to, &summary, report));
    let outcome = match report.is_complete() {
        true => Ok(()),
        false => {
            let problems = text::count(report.problem_count, "problem", "problems");
            Err(CliError::partial(format!("the snapshot is incomplete: {problems}")))
        }
    };
    render::outcome(written, outcome)
}

fn write_summary(to: &mut dyn Write, summary: &Summary, report: &BackupReport) -> io::Result<()> {
    let totals = &report.totals;
    let entries = totals.files + totals.directories + totals.others;
    writeln!(
        to,
        "{} new, {} changed, {} unchanged; {} in all, {}",
        summary.entries_new,
        summary.entries_changed,
        summary.entries_unchanged,
        text::count(entries, "entry", "entries"),
        text::bytes(totals.bytes),
    )?;
    if summary.entries_excluded > 0 {
        writeln!(to, "{} left out", text::count(summary.entries_excluded, "entry", "entries"))?;
    }
    let verb = if summary.dry_run { "would add" } else { "added" };
    writeln!(
        to,
        "read {} in {:.1} s, {verb} {} ({} stored)",
        text::bytes(totals.bytes_read),
        summary.seconds,
        text::bytes(totals.new_bytes),
        text::bytes(totals.stored_bytes),
    )?;
    match (&summary.short_id, &summary.parent) {
        (Some(id), _) => writeln!(to, "snapshot {id} saved"),
        (None, Some(parent)) if summary.unchanged => {
            writeln!(to, "nothing differs from snapshot {}: none was saved", json::short(parent))
        }
        _ => writeln!(to, "dry run: no snapshot was saved"),
    }
}
