//! `dr diff`

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use clap::Args;
use dr_core::{
    DiffKind, DiffOptions, DiffReport, DiffTotals, Difference, Error, ErrorKind, LocalDiffOptions, Repository,
};
use serde::Serialize;

use super::ls;
use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::entry::{Node, Paths};
use crate::render::{json, text};
use crate::selector::Selector;
use crate::session::Session;

/// Compares two snapshots, or a snapshot with what is on the disk.
#[derive(Debug, Args)]
#[command(after_help = "Signs:\n  +  only the newer one has it        -  only the older one has it\n  \
M  its content is another            T  it is another kind of thing\n  \
U  its metadata is another           ?  its content is another, and neither its size nor its times say so:\n     \
(with --metadata)                      its bytes may have rotted on the disk, before or after a backup\n\
With --local the disk is the newer one; a file of the same size and time is taken to be the same unless --read-data.")]
pub(crate) struct DiffArgs {
    /// The older snapshot, also as SNAP:path
    #[arg(value_name = "SNAP")]
    old: OsString,
    /// The newer snapshot, also as SNAP:path
    #[arg(value_name = "SNAP", required_unless_present = "local", conflicts_with = "local")]
    new: Option<OsString>,
    /// Compare with this directory on the disk
    #[arg(long, value_name = "DIR")]
    local: Option<PathBuf>,
    /// Read all files on the disk, and compare what they hold
    #[arg(long, requires = "local")]
    read_data: bool,
    /// Also show what differs in its metadata only
    #[arg(long)]
    metadata: bool,
    /// Show only files whose contents differ
    #[arg(long, conflicts_with = "metadata")]
    content_only: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct ChangeLine<'a> {
    message_type: &'static str,
    schema: u32,
    modifier: &'static str,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Node<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<Node<'a>>,
}

#[derive(Debug, Serialize)]
struct TotalsRecord {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
}

#[derive(Debug, Serialize)]
struct Summary {
    message_type: &'static str,
    schema: u32,
    equal: bool,
    added: TotalsRecord,
    removed: TotalsRecord,
    modified: u64,
    silent: u64,
    metadata: u64,
    types: u64,
    equal_directories: u64,
    bytes_read: u64,
    unread: u64,
}

/// Runs the command.
pub(crate) fn run(args: &DiffArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let mut data = session.output.data();
    let paths = if io::stdout().is_terminal() { Paths::Escaped } else { Paths::Raw };
    let mut unwritten = None;
    let mut visit = |path: &[u8], difference: dr_core::Result<Difference<'_>>| {
        let difference = match difference {
            Ok(difference) => difference,
            Err(error) => {
                ls::tell_unread(&session.output, "diff", path, &error);
                return Ok(());
            }
        };
        let written = if session.output.is_json() {
            json::write_line(&mut data, &line(path, &difference))
        } else {
            write_line(&mut data, paths, path, &difference)
        };
        written.map_err(|error| {
            unwritten = Some(error);
            Error::new(ErrorKind::Cancelled, "nobody reads the differences")
        })
    };
    let report = compare(args, &repository, &mut visit, session);
    if let Some(error) = unwritten {
        return Err(CliError::output(error));
    }
    let flushed = data.flush().map_err(CliError::output);
    drop(data);
    let report = report?;
    flushed?;
    let summary = summary(&report);
    session.output.summary(&summary, |to| write_summary(to, &summary))?;
    ls::unless_unread(report.unread, "the comparison")
}

fn compare(
    args: &DiffArgs,
    repository: &Repository,
    visit: &mut dr_core::VisitDifference<'_>,
    session: &Session,
) -> Result<DiffReport> {
    let filter = args.filter.to_filter();
    let old = Selector::parse(&args.old)?;
    let older = old.find(repository, &filter)?;
    let context = session.context(&());
    let report = match (&args.new, &args.local) {
        (Some(new), _) => {
            let new = Selector::parse(new)?;
            let newer = new.find(repository, &filter)?;
            let mut options = DiffOptions::new();
            options.old_path = old.path.unwrap_or_default();
            options.new_path = new.path.unwrap_or_default();
            (options.metadata, options.content_only) = (args.metadata, args.content_only);
            repository.diff(&older, &newer, &options, visit, &context)
        }
        (None, Some(local)) => {
            let mut options = LocalDiffOptions::new();
            // Without a path, the directory's own place in the snapshot.
            options.path = match old.path {
                Some(path) => path,
                None => crate::args::absolute(local).into_os_string().into_encoded_bytes(),
            };
            (options.metadata, options.content_only) = (args.metadata, args.content_only);
            options.read_data = args.read_data;
            repository.diff_local(&older, local, &options, visit, &context)
        }
        (None, None) => return Err(CliError::usage("there is nothing to compare with")),
    };
    session.answer(report)
}

fn sign(kind: DiffKind) -> &'static str {
    match kind {
        DiffKind::Added => "+",
        DiffKind::Removed => "-",
        DiffKind::Modified => "M",
        DiffKind::Silent => "?",
        DiffKind::Metadata => "U",
        DiffKind::Type => "T",
        _ => "*",
    }
}

fn line<'a>(path: &[u8], difference: &Difference<'a>) -> ChangeLine<'a> {
    ChangeLine {
        message_type: "change",
        schema: json::SCHEMA,
        modifier: sign(difference.kind),
        path: String::from_utf8_lossy(path).into_owned(),
        path_b64: json::unless_text(path),
        old: difference.old.map(|entry| Node::new(path, entry)),
        new: difference.new.map(|entry| Node::new(path, entry)),
    }
}

fn write_line(to: &mut dyn Write, paths: Paths, path: &[u8], difference: &Difference<'_>) -> io::Result<()> {
    write!(to, "{}    ", sign(difference.kind))?;
    paths.write(to, path)?;
    let is_directory = difference.new.or(difference.old).is_some_and(dr_core::Entry::is_directory);
    to.write_all(if is_directory { b"/\n" } else { b"\n" })
}

fn totals(totals: &DiffTotals) -> TotalsRecord {
    TotalsRecord {
        files: totals.files,
        directories: totals.directories,
        others: totals.others,
        bytes: totals.bytes,
    }
}

fn summary(report: &DiffReport) -> Summary {
    Summary {
        message_type: "summary",
        schema: json::SCHEMA,
        equal: report.is_equal(),
        added: totals(&report.added),
        removed: totals(&report.removed),
        modified: report.modified,
        silent: report.silent,
        metadata: report.metadata,
        types: report.types,
        equal_directories: report.equal_directories,
        bytes_read: report.bytes_read,
        unread: report.unread,
    }
}

fn write_summary(to: &mut dyn Write, summary: &Summary) -> io::Result<()> {
    let shown = |totals: &TotalsRecord| {
        format!(
            "{}, {} and {} ({})",
            text::count(totals.files, "file", "files"),
            text::count(totals.directories, "directory", "directories"),
            text::count(totals.others, "other entry", "other entries"),
            text::bytes(totals.bytes)
        )
    };
    writeln!(to, "added:    {}", shown(&summary.added))?;
    writeln!(to, "removed:  {}", shown(&summary.removed))?;
    write!(to, "modified: {}", summary.modified)?;
    if summary.silent > 0 {
        write!(to, " ({} though neither size nor times say so)", summary.silent)?;
    }
    writeln!(to, "; metadata only: {}; another type: {}", summary.metadata, summary.types)
}
