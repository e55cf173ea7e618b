//! `dr copy`

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use dr_core::{Copied, CopyOptions, CopyReport, Damaged};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::from_args::FromArgs;
use crate::render::json::{self, LostRecord};
use crate::render::{self, Operation, Progress, text};
use crate::selector::find_whole;
use crate::session::Session;

/// Copies snapshots from another repository into this one.
#[derive(Debug, Args)]
#[command(
    after_help = "What was copied before, and is not forgotten here, is passed over. A run that was cut short keeps what it \
stored.\nWhere this repository was made with 'dr init --from-repo', only what is missing is read; else everything is that no \
earlier copy of the same host and paths holds. Copies are not protected, and 'dr forget' takes them for new unless --times \
claimed is given."
)]
pub(crate) struct CopyArgs {
    /// The snapshots to copy, as the other repository names them; without any, all whole ones
    #[arg(value_name = "SNAP")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Copy the rest of a snapshot of which something is damaged; else it is not copied
    #[arg(long)]
    leave_out_damaged: bool,
    /// Only say what would be copied
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    from: FromArgs,
}

#[derive(Debug, Serialize)]
struct CopyDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    complete: bool,
    /// Snapshots that the other repository cannot give.
    unreadable: Vec<String>,
    snapshots: Vec<CopiedRecord>,
    bytes_read: u64,
    new_bytes: u64,
    stored_bytes: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct CopiedRecord {
    snapshot: String,
    copy: Option<String>,
    was_there: bool,
    damaged: Vec<LostRecord>,
}

/// Runs the command.
pub(crate) fn run(args: &CopyArgs, session: &Session) -> Result<()> {
    let location = args.from.location().ok_or_else(|| {
        CliError::usage("no repository to copy from was named")
            .with_remedy("use --from-repo or DR_FROM_REPOSITORY")
    })?;
    let target = session.open_repository()?;
    let source = args.from.open(&location, session)?;
    let mut snapshots = find_whole(&args.snapshots, &args.filter.to_filter(), &source)?;
    let mut unreadable = Vec::new();
    if args.snapshots.is_empty() {
        snapshots.retain(|snapshot| !snapshot.partial);
        unreadable = session.warn_of_unreadable(&source)?;
    }
    let mut options = CopyOptions::new();
    options.dry_run = args.dry_run;
    options.beside_rewritten = !args.snapshots.is_empty();
    if args.leave_out_damaged {
        options.damaged = Damaged::LeftOut;
    }
    let progress = Progress::begin(Operation::Copy, &session.output);
    let graceful = session.signals.graceful();
    let answer = target.copy_from(&source, &snapshots, &options, &session.context(&progress));
    progress.finish(&[]);
    let report = session.answer(answer)?;
    drop(graceful);
    let document = CopyDocument {
        message_type: "copy",
        schema: json::SCHEMA,
        dry_run: args.dry_run,
        complete: report.is_complete() && unreadable.is_empty(),
        unreadable,
        snapshots: report.snapshots.iter().map(record).collect(),
        bytes_read: report.bytes_read,
        new_bytes: report.new_bytes,
        stored_bytes: report.stored_bytes,
        seconds: progress.elapsed().as_secs_f64(),
    };
    let written = session.output.summary(&document, |to| write_report(to, &report, args));
    render::outcome(written, outcome(&report, document.unreadable.len() as u64))
}

fn record(copied: &Copied) -> CopiedRecord {
    CopiedRecord {
        snapshot: copied.snapshot.to_string(),
        copy: copied.copy.map(|id| id.to_string()),
        was_there: copied.was_there,
        damaged: copied.damaged.iter().map(LostRecord::new).collect(),
    }
}

fn outcome(report: &CopyReport, unreadable: u64) -> Result<()> {
    if report.is_complete() && unreadable == 0 {
        return Ok(());
    }
    if report.is_complete() {
        let snapshots = text::count(unreadable, "snapshot", "snapshots");
        return Err(CliError::partial(format!("{snapshots} of the other repository cannot be read"))
            .with_remedy("run 'dr check' there"));
    }
    let refused =
        report.snapshots.iter().filter(|copied| !copied.damaged.is_empty() && copied.copy.is_none());
    match refused.count() as u64 {
        0 => Err(CliError::partial("something that is damaged is missing in the copies")),
        count => {
            let snapshots = text::count(count, "snapshot was", "snapshots were");
            Err(CliError::partial(format!("{snapshots} not copied: something is damaged"))
                .with_remedy("repair the other repository, or copy the rest with --leave-out-damaged"))
        }
    }
}

fn write_report(to: &mut dyn Write, report: &CopyReport, args: &CopyArgs) -> io::Result<()> {
    let mut was_there = 0;
    for copied in &report.snapshots {
        let id = copied.snapshot.to_string();
        let id = json::short(&id);
        match copied.copy.map(|copy| copy.to_string()) {
            Some(_) if copied.was_there => was_there += 1,
            Some(copy) => writeln!(to, "snapshot {id} copied as {}", json::short(&copy))?,
            None if args.dry_run => writeln!(to, "snapshot {id} would be copied")?,
            None => writeln!(to, "snapshot {id} not copied")?,
        }
    }
    if was_there > 0 {
        writeln!(to, "{} copied before", text::count(was_there, "snapshot", "snapshots"))?;
    }
    if args.dry_run {
        return Ok(());
    }
    writeln!(
        to,
        "read {}, added {} ({} stored)",
        text::bytes(report.bytes_read),
        text::bytes(report.new_bytes),
        text::bytes(report.stored_bytes)
    )
}
