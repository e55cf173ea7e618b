//! `dr restore`

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use dr_core::{RestoreOptions, RestoreReport};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::{self, Operation, Progress, Skipping, json, text};
use crate::selector::Selector;
use crate::session::Session;

/// Writes what is in a snapshot to a directory. SNAP makes DIR/absolute/path; SNAP:sub/path leaves out the directories
/// above: what is in sub/path lands in DIR itself.
#[derive(Debug, Args)]
#[command(
    after_help = "SNAP makes DIR/absolute/path. SNAP:sub/path leaves out the directories above: what is \
in sub/path lands in DIR itself.\nWhat cannot be restored is named, the rest is restored, and the exit code is 1; or 3 \
where only attributes or special files are missing.\nA restore that finds the target full ends there with exit code 1: make \
room and run it again."
)]
pub(crate) struct RestoreArgs {
    /// The snapshot, also as SNAP:path
    #[arg(value_name = "SNAP")]
    snapshot: OsString,
    /// Where to write; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Leave owners alone (only root can set them, and does so otherwise)
    #[arg(long)]
    no_owner: bool,
    /// Take owners by number even where their names are known here
    #[arg(long)]
    numeric_ids: bool,
    /// Make no devices, pipes and sockets
    #[arg(long)]
    no_special: bool,
    /// Wait until everything is on the disk
    #[arg(long)]
    fsync: bool,
    #[command(flatten)]
    filter: FilterArgs,
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

/// Runs the command.
pub(crate) fn run(args: &RestoreArgs, session: &Session) -> Result<()> {
    let selector = Selector::parse(&args.snapshot)?;
    let repository = session.open_repository()?;
    let snapshot = selector.find(&repository, &args.filter.to_filter())?;
    let mut options = RestoreOptions::new();
    options.strip_path = selector.path.is_some();
    options.path = selector.path.unwrap_or_default();
    options.owners = args.no_owner.then_some(false);
    options.numeric_ids = args.numeric_ids;
    options.specials = !args.no_special;
    options.fsync = args.fsync;
    let skipping = if args.no_special { Skipping::Wanted } else { Skipping::Unwanted };
    let progress = Progress::begin(Operation::Restore(skipping), &session.output);
    let graceful = session.signals.graceful();
    let report = repository.restore(&snapshot, &args.target, &options, &session.context(&progress));
    drop(graceful);
    progress.finish(report.as_ref().map_or(&[], |report| report.problems.as_slice()));
    let report = session.answer(report)?;
    finish(&report, snapshot.id.to_string(), args, &progress, session)
}

fn finish(
    report: &RestoreReport,
    snapshot_id: String,
    args: &RestoreArgs,
    progress: &Progress,
    session: &Session,
) -> Result<()> {
    let target = args.target.as_os_str().as_encoded_bytes();
    let summary = Summary {
        message_type: "summary",
        schema: json::SCHEMA,
        snapshot_id,
        target: String::from_utf8_lossy(target).into_owned(),
        target_b64: json::unless_text(target),
        complete: progress.problems() == 0,
        problem_count: progress.problems(),
        files: report.files,
        directories: report.directories,
        others: report.others,
        bytes: report.bytes,
        seconds: progress.elapsed().as_secs_f64(),
    };
    let written = session.output.summary(&summary, |to| write_summary(to, &summary, target));
    let problems = text::count(progress.problems(), "problem", "problems");
    let outcome = if progress.problems() == 0 {
        Ok(())
    } else if progress.lacks_content() {
        Err(CliError::incomplete(format!("not everything was restored: {problems}"))
            .with_remedy("what is named above is missing or damaged in the target; the rest is there"))
    } else {
        Err(CliError::partial(format!("all contents were restored, but not everything else: {problems}")))
    };
    render::outcome(written, outcome)
}

fn write_summary(to: &mut dyn Write, summary: &Summary, target: &[u8]) -> io::Result<()> {
    writeln!(
        to,
        "restored {}, {} and {} ({}) from {} to {} in {:.1} s",
        text::count(summary.files, "file", "files"),
        text::count(summary.directories, "directory", "directories"),
        text::count(summary.others, "other entry", "other entries"),
        text::bytes(summary.bytes),
        json::short(&summary.snapshot_id),
        text::printable_path(target),
        summary.seconds,
    )
}
