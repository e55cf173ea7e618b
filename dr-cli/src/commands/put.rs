//! `dr put`

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use dr_core::{BackupOptions, PutContent, PutOptions, PutOutcome, PutReport, StreamInput, WhenUnchanged};
use serde::Serialize;

use super::backup::{Level, standard_input};
use crate::child::SourceCommand;
use crate::error::Result;
use crate::filing_args::FilingArgs;
use crate::render::json::{self, TotalsRecord};
use crate::render::{Operation, Progress, text};
use crate::session::Session;

/// Saves standard input, or what a command writes, under a name: a snapshot of one file.
#[derive(Debug, Args)]
#[command(after_help = "\
A name may be a path (db/main.sql). What is put under one name by one host forms one series:
'dr snapshots --path /db.sql' lists it, and 'dr forget' takes it for a group of its own.")]
pub(crate) struct PutArgs {
    /// The name
    #[arg(value_name = "NAME")]
    name: String,
    /// Save what this command writes; if it fails, there is no snapshot
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// Go on where the newest snapshot of that name ends, without reading it again
    #[arg(long)]
    append: bool,
    /// Make no snapshot where the content is that of the newest of that name
    #[arg(long)]
    if_changed: bool,
    /// Make one with the tag 'heartbeat' then, in the place of the heartbeat before it
    #[arg(long, requires = "if_changed")]
    heartbeat: bool,
    #[command(flatten)]
    filing: FilingArgs,
    /// Read and count, but store nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// How hard to compress
    #[arg(long, value_enum, default_value_t = Level::Auto, value_name = "LEVEL")]
    compression: Level,
}

#[derive(Debug, Serialize)]
struct Summary<'s> {
    message_type: &'static str,
    schema: u32,
    name: &'s str,
    outcome: &'static str,
    snapshot_id: Option<String>,
    short_id: Option<String>,
    previous: Option<String>,
    dry_run: bool,
    totals: TotalsRecord,
    seconds: f64,
}

/// Runs the command.
pub(crate) fn run(args: &PutArgs, session: &Session) -> Result<()> {
    let options = options(args)?;
    let input = if args.command.is_empty() { Some(standard_input()?) } else { None };
    let repository = session.open_repository()?;
    let progress = Progress::begin(Operation::Backup, &session.output);
    let context = session.context(&progress);
    let graceful = session.signals.graceful();
    let report = match input {
        Some(file) => repository.put(StreamInput::new(args.name.as_str(), file), &options, &context),
        None => SourceCommand::with(&args.command, &session.signals, |output, confirm| {
            let input = StreamInput::new(args.name.as_str(), output).confirmed_by(confirm);
            repository.put(input, &options, &context)
        })?,
    };
    drop(graceful);
    progress.finish(&[]);
    let report = session.answer(report)?;
    finish(args, &report, &progress, session)
}

fn options(args: &PutArgs) -> Result<PutOptions> {
    let mut backup = BackupOptions::new();
    args.filing.apply(&mut backup)?;
    backup.dry_run = args.dry_run;
    backup.compression = args.compression.into();
    let unchanged = match (args.if_changed, args.heartbeat) {
        (_, true) => WhenUnchanged::Heartbeat,
        (true, false) => WhenUnchanged::Skip,
        (false, false) => WhenUnchanged::Save,
    };
    let mode = if args.append { PutContent::Append } else { PutContent::Whole };
    Ok(PutOptions::new(backup).mode(mode).unchanged(unchanged))
}

fn finish(args: &PutArgs, report: &PutReport, progress: &Progress, session: &Session) -> Result<()> {
    let id = report.backup.snapshot.map(|id| id.to_string());
    let summary = Summary {
        message_type: "summary",
        schema: json::SCHEMA,
        name: &args.name,
        outcome: match report.outcome {
            PutOutcome::Unchanged => "unchanged",
            PutOutcome::Heartbeat => "heartbeat",
            _ => "saved",
        },
        short_id: id.as_deref().map(|id| json::short(id).to_owned()),
        snapshot_id: id,
        previous: report.previous.map(|id| id.to_string()),
        dry_run: args.dry_run,
        totals: TotalsRecord::new(&report.backup.totals),
        seconds: progress.elapsed().as_secs_f64(),
    };
    session.output.summary(&summary, |to| write_summary(to, &summary, report))
}

fn write_summary(to: &mut dyn Write, summary: &Summary<'_>, report: &PutReport) -> io::Result<()> {
    let totals = &report.backup.totals;
    let verb = if summary.dry_run { "would add" } else { "added" };
    writeln!(
        to,
        "read {} in {:.1} s, {verb} {} ({} stored); {} in all",
        text::bytes(totals.bytes_read),
        summary.seconds,
        text::bytes(totals.new_bytes),
        text::bytes(totals.stored_bytes),
        text::bytes(totals.bytes),
    )?;
    match (&summary.short_id, report.outcome) {
        (None, PutOutcome::Unchanged) => writeln!(to, "nothing has changed: no snapshot was saved"),
        (None, _) => writeln!(to, "dry run: no snapshot was saved"),
        (Some(id), PutOutcome::Heartbeat) => writeln!(to, "nothing has changed: heartbeat {id} saved"),
        (Some(id), _) => writeln!(to, "snapshot {id} saved"),
    }
}
