//! `dr check`

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use dr_core::{CheckOptions, CheckReport, Finding, Shard, Subset};
use dr_store::OpenMode;
use serde::Serialize;

use super::check_reduce;
use crate::error::{CliError, Result};
use crate::quantity;
use crate::render::{self, Operation, json, text};
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
    /// Read a part of the packs: part N of M as N/M, a random share as in 2.5%, or random ones of so many bytes as in 10G
    #[arg(long, value_name = "PART", value_parser = subset, conflicts_with_all = ["scrub", "shard"])]
    read_data_subset: Option<Subset>,
    /// Read only the packs of shard N of M ('auto': as a Kubernetes indexed job or a Slurm array says); the reports
    /// (--json) of all shards go to --reduce
    #[arg(long, value_name = "N/M", value_parser = crate::shard::parse, conflicts_with = "scrub")]
    shard: Option<Shard>,
    /// Prove from the reports of all shards that everything was read; opens no repository
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = ["scrub", "shard", "read_data", "read_data_subset"])]
    reduce: Vec<PathBuf>,
}

fn subset(text: &str) -> std::result::Result<Subset, String> {
    if text.contains('/') {
        return crate::shard::parse(text).map(Subset::Shard);
    }
    match text.strip_suffix('%') {
        None => quantity::bytes(text).map(Subset::Bytes),
        Some(percent) => match percent.parse() {
            Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(Subset::Percent(percent)),
            _ => Err("a share is between 0% and 100%".to_owned()),
        },
    }
}

#[derive(Debug, Serialize)]
struct CheckDocument<'a> {
    message_type: &'static str,
    schema: u32,
    repository: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<String>,
    read_data: bool,
    log_mode: Option<&'static str>,
    head: u64,
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
    if !args.reduce.is_empty() {
        return check_reduce::run(&args.reduce, session);
    }
    let mut id = String::new();
    let (report, elapsed) = if args.scrub {
        let store = session.open_store(OpenMode::Existing)?;
        session.call(Operation::Check, |context| dr_core::scrub(&*store, context))?
    } else {
        let repository = session.open_repository()?;
        let mut options = CheckOptions::new();
        id = repository.id();
        options.subset = args.shard.map(Subset::Shard).or(args.read_data_subset);
        options.read_data = args.read_data || options.subset.is_some();
        session.call(Operation::Check, |context| repository.check(&options, context))?
    };
    if args.scrub && report.bytes_read == 0 {
        // Without keys nothing tells an empty place from a repository that lost everything.
        return Err(CliError::no_repository(&session.open_store(OpenMode::Existing)?.endpoint()));
    }
    finish(args, id, &report, elapsed, session)
}

fn finish(
    args: &CheckArgs,
    repository: String,
    report: &CheckReport,
    elapsed: Duration,
    session: &Session,
) -> Result<()> {
    let document = CheckDocument {
        message_type: "check",
        schema: json::SCHEMA,
        repository,
        shard: args.shard.map(|shard| format!("{}/{}", shard.number(), shard.count())),
        read_data: args.read_data || args.scrub || args.shard.is_some() || args.read_data_subset.is_some(),
        log_mode: match (args.scrub, report.create_if_absent) {
            // Nothing was opened that says it.
            (true, _) => None,
            (false, true) => Some("create_if_absent"),
            (false, false) => Some("siblings"),
        },
        head: report.head,
        intact: report.is_intact(),
        error_count: report.error_count,
        errors: records(&report.errors),
        notes: records(&report.notes),
        snapshots: report.snapshots,
        packs: report.packs,
        chunks: report.chunks,
        bytes_read: report.bytes_read,
        seconds: elapsed.as_secs_f64(),
    };
    for finding in &report.errors {
        session.output.log("problem", &format!("{}: {}", finding.object, finding.detail));
    }
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
            "delete nothing; copy the named objects from another copy of the repository, or see 'dr repair --help'",
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
    if document.log_mode == Some("siblings") {
        writeln!(to, "the store does not decide between writers: prune only while nobody writes")?;
    }
    if document.intact { writeln!(to, "no damage was found") } else { Ok(()) }
}
