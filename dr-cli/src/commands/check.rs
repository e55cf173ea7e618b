//! `dr check`

use std::io::{self, Write};

use clap::Args;
use dr_core::{CheckOptions, CheckReport, Finding};
use dr_store::OpenMode;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::render::{self, Operation, Progress, json, text};
use crate::session::Session;

/// Looks for damage: the log, the index, the snapshots, the trees and every reference. What it finds is written to
/// standard error, and the exit code is 1. What is there and of no use is a note, and no failure.
#[derive(Debug, Args)]
#[command(
    after_help = "Damage is named on standard error, and the exit code is 1. What is there and of no use \
is a note, and no failure."
)]
pub(crate) struct CheckArgs {
    /// Read everything as well: every byte decrypts and hashes
    #[arg(long)]
    read_data: bool,
    /// Compare only the objects with their names; needs no password and no key
    #[arg(long, conflicts_with = "read_data")]
    scrub: bool,
}

#[derive(Debug, Serialize)]
struct CheckDocument<'a> {
    message_type: &'static str,
    schema: u32,
    intact: bool,
    error_count: u64,
    errors: Vec<FindingRecord<'a>>,
    notes: Vec<FindingRecord<'a>>,
    snapshots: u64,
    packs: u64,
    chunks: u64,
    bytes_read: u64,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct FindingRecord<'a> {
    object: &'a str,
    detail: &'a str,
}

/// Runs the command.
pub(crate) fn run(args: &CheckArgs, session: &Session) -> Result<()> {
    let (report, progress) = if args.scrub {
        let store = session.open_store(OpenMode::Existing)?;
        let progress = Progress::begin(Operation::Check, &session.output);
        let _graceful = session.signals.graceful();
        (dr_core::scrub(&*store, &session.context(&progress)), progress)
    } else {
        let repository = session.open_repository()?;
        let mut options = CheckOptions::new();
        options.read_data = args.read_data;
        let progress = Progress::begin(Operation::Check, &session.output);
        let _graceful = session.signals.graceful();
        (repository.check(&options, &session.context(&progress)), progress)
    };
    progress.finish(&[]);
    let report = session.answer(report)?;
    if args.scrub && report.bytes_read == 0 {
        // Without keys nothing tells an empty place from a repository that lost everything.
        return Err(CliError::no_repository(&session.open_store(OpenMode::Existing)?.endpoint()));
    }
    finish(&report, &progress, session)
}

fn finish(report: &CheckReport, progress: &Progress, session: &Session) -> Result<()> {
    let document = CheckDocument {
        message_type: "check",
        schema: json::SCHEMA,
        intact: report.is_intact(),
        error_count: report.error_count,
        errors: records(&report.errors),
        notes: records(&report.notes),
        snapshots: report.snapshots,
        packs: report.packs,
        chunks: report.chunks,
        bytes_read: report.bytes_read,
        seconds: progress.elapsed().as_secs_f64(),
    };
    if !session.output.is_json() {
        // Nobody is left to be told where standard error is closed; the exit code says it too.
        let _ = write_findings(&mut io::stderr().lock(), "error", &report.errors);
    }
    let written = session.output.summary(&document, |to| write_summary(to, &document, report));
    let outcome = if report.is_intact() {
        Ok(())
    } else {
        let errors = text::count(report.error_count, "error", "errors");
        Err(CliError::damage_found(format!("the repository is damaged: {errors}")).with_remedy(
            "do not delete anything; copy the named objects from another copy of the repository",
        ))
    };
    render::outcome(written, outcome)
}

fn records(findings: &[Finding]) -> Vec<FindingRecord<'_>> {
    findings
        .iter()
        .map(|finding| FindingRecord { object: &finding.object, detail: &finding.detail })
        .collect()
}

fn write_findings(to: &mut dyn Write, title: &str, findings: &[Finding]) -> io::Result<()> {
    findings.iter().try_for_each(|finding| {
        writeln!(to, "{title}: {}: {}", text::printable(&finding.object), text::printable(&finding.detail))
    })
}

fn write_summary(to: &mut dyn Write, document: &CheckDocument<'_>, report: &CheckReport) -> io::Result<()> {
    write_findings(to, "note", &report.notes)?;
    writeln!(
        to,
        "checked {}, {}, {}; read {} in {:.1} s",
        text::count(document.snapshots, "snapshot", "snapshots"),
        text::count(document.packs, "pack", "packs"),
        text::count(document.chunks, "chunk", "chunks"),
        text::bytes(document.bytes_read),
        document.seconds,
    )?;
    if document.intact { writeln!(to, "no damage was found") } else { Ok(()) }
}
