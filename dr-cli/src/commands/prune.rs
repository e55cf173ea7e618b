//! `dr prune`

use std::io::{self, Write};
use std::time::Duration;

use clap::Args;
use dr_core::{MaxUnused, PruneOptions, PruneReport, Repository, Shard, SnapshotId};
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::quantity;
use crate::render::{Operation, json, text};
use crate::session::Session;

/// Collects forgotten snapshots and deletes what nothing needs. It may be killed at any time, and runs beside backups.
#[derive(Debug, Args)]
pub(crate) struct PruneCommand {
    /// Only say what would be done
    #[arg(short = 'n', long)]
    dry_run: bool,
    #[command(flatten)]
    args: PruneArgs,
}

/// How to collect.
#[derive(Debug, Args)]
#[command(next_help_heading = "How to collect")]
pub(crate) struct PruneArgs {
    /// How much may be wasted before packs are rewritten: a share as in 5%, bytes as in 10G, or 'unlimited'
    #[arg(long, value_name = "LIMIT", default_value = "5%", value_parser = limit)]
    max_unused: MaxUnused,
    /// Rewrite at most so many bytes of packs, as in 10G
    #[arg(long, value_name = "BYTES", value_parser = quantity::bytes)]
    max_repack_size: Option<u64>,
    /// Collect only what was forgotten at least so long ago by the store's clock, as in 14d; never less than the repository
    /// requires ('dr hold')
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    hold: Option<Duration>,
    /// Delete only what was condemned at least so long ago by the store's clock, as in 7d
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    grace: Option<Duration>,
    /// Take what no entry of the log names for a leftover of a broken run when it is so old
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = quantity::duration)]
    leftover_age: Duration,
    /// Rewrite only the packs of shard N of M, and delete nothing: run it for every shard, then once without this
    /// ('auto': as a Kubernetes indexed job or a Slurm array says)
    #[arg(long, value_name = "N/M", value_parser = crate::shard::parse)]
    shard: Option<Shard>,
    /// Promise that nobody else is writing to the repository
    #[arg(long)]
    exclusive: bool,
}

fn limit(text: &str) -> std::result::Result<MaxUnused, String> {
    if text == "unlimited" {
        return Ok(MaxUnused::Unlimited);
    }
    if let Some(percent) = text.strip_suffix('%') {
        let percent: f32 = percent.parse().map_err(|_| "give a number before the percent sign".to_owned())?;
        return if (0.0..=100.0).contains(&percent) {
            Ok(MaxUnused::Percent(percent))
        } else {
            Err("a share is between 0% and 100%".to_owned())
        };
    }
    quantity::bytes(text).map(MaxUnused::Bytes)
}

/// What a collection did.
#[derive(Debug, Serialize)]
pub(crate) struct PruneDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    collected: Vec<String>,
    held: u64,
    packs_dead: u64,
    bytes_dead: u64,
    packs_repacked: u64,
    bytes_repacked: u64,
    bytes_written: u64,
    leftovers: u64,
    bytes_leftover: u64,
    segments_merged: u64,
    objects_deleted: u64,
    bytes_deleted: u64,
    objects_waiting: u64,
    packs_damaged: Vec<String>,
    bytes_live: u64,
    bytes_unused: u64,
    seconds: f64,
}

/// Runs the command.
pub(crate) fn run(command: &PruneCommand, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let document = collect(&command.args, command.dry_run, Vec::new(), &repository, session)?;
    session.output.summary(&document, |to| write_report(to, &document))?;
    if document.packs_damaged.is_empty() {
        return Ok(());
    }
    Err(CliError::damage_found(format!(
        "{} could not be rewritten because of damage",
        text::count(document.packs_damaged.len() as u64, "pack", "packs")
    ))
    .with_remedy("nothing of them was deleted: run 'dr check --read-data', then 'dr repair packs'"))
}

/// Collects, and says what was done. A dry run takes these snapshots to be forgotten.
pub(crate) fn collect(
    args: &PruneArgs,
    dry_run: bool,
    assume_forgotten: Vec<SnapshotId>,
    repository: &Repository,
    session: &Session,
) -> Result<PruneDocument> {
    let mut options = PruneOptions::new();
    (options.dry_run, options.assume_forgotten) = (dry_run, assume_forgotten);
    options.max_unused = args.max_unused;
    options.max_repack_bytes = args.max_repack_size;
    options.hold = args.hold.unwrap_or_default();
    options.grace = args.grace.unwrap_or_default();
    options.leftover_age = args.leftover_age;
    options.shard = args.shard;
    options.exclusive = args.exclusive;
    let (report, elapsed) = session.call(Operation::Prune, |context| repository.prune(&options, context))?;
    Ok(document(&report, dry_run, elapsed))
}

fn document(report: &PruneReport, dry_run: bool, elapsed: Duration) -> PruneDocument {
    PruneDocument {
        message_type: "prune",
        schema: json::SCHEMA,
        dry_run,
        collected: report.collected.iter().map(ToString::to_string).collect(),
        held: report.held,
        packs_dead: report.packs_dead,
        bytes_dead: report.bytes_dead,
        packs_repacked: report.packs_repacked,
        bytes_repacked: report.bytes_repacked,
        bytes_written: report.bytes_written,
        leftovers: report.leftovers,
        bytes_leftover: report.bytes_leftover,
        segments_merged: report.segments_merged,
        objects_deleted: report.objects_deleted,
        bytes_deleted: report.bytes_deleted,
        objects_waiting: report.objects_waiting,
        packs_damaged: report.packs_damaged.iter().map(ToString::to_string).collect(),
        bytes_live: report.bytes_live,
        bytes_unused: report.bytes_unused,
        seconds: elapsed.as_secs_f64(),
    }
}

/// Writes what was done, for people.
pub(crate) fn write_report(to: &mut dyn Write, report: &PruneDocument) -> io::Result<()> {
    let would = if report.dry_run { "would be " } else { "" };
    let packs = |count| text::count(count, "pack", "packs");
    writeln!(to, "{} {would}collected", text::count(report.collected.len() as u64, "snapshot", "snapshots"))?;
    if report.held > 0 {
        let (held, are) =
            (text::count(report.held, "more", "more"), if report.held == 1 { "is" } else { "are" });
        writeln!(to, "{held} forgotten {are} held ('dr hold' says how long)")?;
    }
    writeln!(
        to,
        "{} of which nothing is needed ({})",
        packs(report.packs_dead),
        text::bytes(report.bytes_dead)
    )?;
    writeln!(
        to,
        "{} {would}rewritten ({}{})",
        packs(report.packs_repacked),
        text::bytes(report.bytes_repacked),
        if report.dry_run { String::new() } else { format!(" into {}", text::bytes(report.bytes_written)) }
    )?;
    if report.leftovers > 0 {
        let left = text::count(report.leftovers, "leftover", "leftovers");
        writeln!(to, "{left} of broken runs ({})", text::bytes(report.bytes_leftover))?;
    }
    if report.segments_merged > 0 {
        writeln!(to, "{} of the index merged", text::count(report.segments_merged, "segment", "segments"))?;
    }
    if !report.dry_run {
        let objects = text::count(report.objects_deleted, "object", "objects");
        writeln!(to, "{objects} deleted ({})", text::bytes(report.bytes_deleted))?;
    }
    if report.objects_waiting > 0 {
        let objects = text::count(report.objects_waiting, "object", "objects");
        writeln!(to, "{objects} may be deleted later, or could not be deleted yet")?;
    }
    writeln!(
        to,
        "{} are needed, {} are not and stay ({:.1} s)",
        text::bytes(report.bytes_live),
        text::bytes(report.bytes_unused),
        report.seconds
    )
}
