//! `dr repair`

use std::io::{self, Write};

use clap::{Args, Subcommand};
use dr_core::{CheckOptions, Context, LogRepair, LogRepairOptions, ObjectHash, SnapshotRepair};
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::render::{Operation, json, text};
use crate::session::Session;

/// Repairs what 'dr check' found damaged.
#[derive(Debug, Args)]
#[command(
    after_help = "In this order: 'repair log' where the newest slot of the log was written bad, 'repair index' where index segments are damaged or missing, 'repair packs' where \
packs are, 'repair snapshots' for what is lost then. Copy the named objects from another copy of the repository instead \
where there is one: that loses nothing. A backup of the same files stores again what it still finds."
)]
pub(crate) struct RepairArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Make the newest slot of the log void where it was written bad, so that backups can go on
    #[command(
        after_help = "A slot that does not open, and that nobody wrote behind, stops every writer. This writes an entry \
behind it that says so. Whatever the slot was to say then never happened: a backup, a forget or a prune that reported \
success just before must be done again. Copy the slot from another copy of the repository instead where there is a good \
one. A slot that a newer dr wrote, an older slot, or a missing one is never touched."
    )]
    Log(LogArgs),
    /// Replace index segments that cannot be read, from the packs
    Index,
    /// Store again what can be read of damaged packs, and give up the rest of them
    Packs {
        /// The packs' names after the last slash; without any, everything is read to find the damaged ones
        #[arg(value_name = "PACK", value_parser = pack_name)]
        packs: Vec<ObjectHash>,
    },
    /// Make new snapshots of those that lack something, which name what is lost
    Snapshots {
        /// Only say what is lost
        #[arg(short = 'n', long)]
        dry_run: bool,
        /// Forget the snapshots that lack something
        #[arg(long)]
        forget: bool,
    },
}

#[derive(Debug, Args)]
struct LogArgs {
    /// Only say what is wrong
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Promise that nobody else backs up to, prunes or repairs this repository meanwhile
    #[arg(long)]
    exclusive: bool,
    /// Give up packs that the index lists and that are not in the store
    #[arg(long)]
    give_up_missing: bool,
}

fn pack_name(text: &str) -> std::result::Result<ObjectHash, String> {
    let name = text.rsplit('/').next().unwrap_or(text);
    ObjectHash::from_hex(name).ok_or_else(|| "a pack's name has 64 hexadecimal digits".to_owned())
}

#[derive(Debug, Serialize)]
struct LogDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    slot: Option<u64>,
    reason: Option<String>,
    repaired: bool,
    packs_missing: Vec<String>,
    segments_missing: Vec<String>,
}

#[derive(Debug, Serialize)]
struct IndexDocument {
    message_type: &'static str,
    schema: u32,
    segments_damaged: Vec<String>,
    segments_written: u64,
    packs_listed: Vec<String>,
    packs_unreadable: Vec<String>,
}

#[derive(Debug, Serialize)]
struct PacksDocument {
    message_type: &'static str,
    schema: u32,
    packs: Vec<String>,
    chunks_saved: u64,
    chunks_lost: Vec<String>,
}

#[derive(Debug, Serialize)]
struct SnapshotsDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    snapshots: Vec<SnapshotRecord>,
}

#[derive(Debug, Serialize)]
struct SnapshotRecord {
    snapshot: String,
    replacement: Option<String>,
    lost: Vec<json::LostRecord>,
}

/// Runs the command.
pub(crate) fn run(args: &RepairArgs, session: &Session) -> Result<()> {
    match &args.what {
        What::Log(args) => repair_log(args, session),
        What::Index => repair_index(session),
        What::Packs { packs } => repair_packs(packs, session),
        What::Snapshots { dry_run, forget } => repair_snapshots(*dry_run, *forget, session),
    }
}

fn repair_log(args: &LogArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let mut options = LogRepairOptions::new();
    options.dry_run = args.dry_run;
    options.exclusive = args.exclusive;
    options.give_up_missing = args.give_up_missing;
    let (report, _) = session.call(Operation::Repair, |context| repository.repair_log(&options, context))?;
    let document = LogDocument {
        message_type: "repair_log",
        schema: json::SCHEMA,
        dry_run: args.dry_run,
        slot: report.bad.as_ref().map(|(slot, _)| *slot),
        reason: report.bad.as_ref().map(|(_, why)| why.clone()),
        repaired: report.is_repaired,
        packs_missing: names(&report.packs_missing),
        segments_missing: names(&report.segments_missing),
    };
    session.output.summary(&document, |to| write_log_repair(to, &report))?;
    match report.bad {
        Some((slot, _)) if !report.is_repaired => {
            Err(CliError::damage_found(format!("slot {slot} of the log was written bad")).with_remedy(
                "copy it from another copy of the repository; else make it void: dr repair log --exclusive",
            ))
        }
        _ => Ok(()),
    }
}

fn write_log_repair(to: &mut dyn Write, report: &LogRepair) -> io::Result<()> {
    let Some((slot, why)) = &report.bad else {
        return writeln!(to, "the newest slot of the log can be read: there is nothing to repair");
    };
    writeln!(to, "slot {slot} of the log says nothing: {}", text::printable(why))?;
    let verb = if report.is_repaired { "given up" } else { "not in the store" };
    report.packs_missing.iter().try_for_each(|pack| writeln!(to, "pack {pack} {verb}"))?;
    let verb = if report.is_repaired { "replaced" } else { "not in the store" };
    report.segments_missing.iter().try_for_each(|segment| writeln!(to, "index segment {segment} {verb}"))?;
    if report.is_repaired {
        writeln!(to, "it is void now: whatever reported success just before it broke did not happen")?;
        writeln!(to, "run 'dr check', and then again what was lost: backups first")?;
    }
    Ok(())
}

fn repair_index(session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let (report, _) = session.call(Operation::Repair, |context| repository.repair_index(context))?;
    let document = IndexDocument {
        message_type: "repair_index",
        schema: json::SCHEMA,
        segments_damaged: names(&report.segments_damaged),
        segments_written: report.segments_written,
        packs_listed: names(&report.packs_listed),
        packs_unreadable: names(&report.packs_unreadable),
    };
    session.output.summary(&document, |to| {
        if document.segments_damaged.is_empty() {
            return writeln!(to, "every segment of the index can be read: there is nothing to repair");
        }
        let damaged = text::count(document.segments_damaged.len() as u64, "segment", "segments");
        let listed = text::count(document.packs_listed.len() as u64, "pack", "packs");
        writeln!(
            to,
            "{damaged} of the index replaced by {}: {listed} listed again",
            document.segments_written
        )?;
        document.packs_unreadable.iter().try_for_each(|pack| writeln!(to, "pack {pack} cannot be read"))
    })
}

fn repair_packs(packs: &[ObjectHash], session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let (report, _) = session.call(Operation::Repair, |context| {
        if !packs.is_empty() {
            return repository.repair_packs(packs, context);
        }
        let found = repository.check(&CheckOptions::new().read_data(), context)?;
        repository.repair_packs(&found.damaged_packs, context)
    })?;
    let document = PacksDocument {
        message_type: "repair_packs",
        schema: json::SCHEMA,
        packs: names(&report.packs),
        chunks_saved: report.chunks_saved,
        chunks_lost: names(&report.chunks_lost),
    };
    session.output.summary(&document, |to| {
        if document.packs.is_empty() {
            return writeln!(to, "no pack that the index lists is damaged: there is nothing to repair");
        }
        let packs = text::count(document.packs.len() as u64, "damaged pack", "damaged packs");
        let saved = text::count(document.chunks_saved, "chunk", "chunks");
        writeln!(to, "{packs} given up: {saved} stored again, {} lost", document.chunks_lost.len())?;
        if document.chunks_lost.is_empty() {
            return Ok(());
        }
        writeln!(
            to,
            "back up the same files to store again what is still there, then run 'dr repair snapshots'"
        )
    })
}

fn repair_snapshots(dry_run: bool, forget: bool, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let repair = |context: &Context<'_>| repository.repair_snapshots(!dry_run, forget, context);
    let (repairs, _) = session.call(Operation::Repair, repair)?;
    let document = SnapshotsDocument {
        message_type: "repair_snapshots",
        schema: json::SCHEMA,
        dry_run,
        snapshots: repairs.iter().map(record).collect(),
    };
    session.output.summary(&document, |to| write_repairs(to, &repairs, forget))?;
    if repairs.is_empty() {
        return Ok(());
    }
    let count = text::count(repairs.len() as u64, "snapshot lacks", "snapshots lack");
    Err(CliError::incomplete(format!("{count} something that is lost")))
}

fn record(repair: &SnapshotRepair) -> SnapshotRecord {
    SnapshotRecord {
        snapshot: repair.snapshot.to_string(),
        replacement: repair.replacement.map(|id| id.to_string()),
        lost: repair.lost.iter().map(json::LostRecord::new).collect(),
    }
}

fn write_repairs(to: &mut dyn Write, repairs: &[SnapshotRepair], forget: bool) -> io::Result<()> {
    if repairs.is_empty() {
        return writeln!(to, "no snapshot lacks anything");
    }
    for repair in repairs {
        let id = repair.snapshot.to_string();
        writeln!(
            to,
            "snapshot {}: {}",
            json::short(&id),
            text::count(repair.lost.len() as u64, "loss", "losses")
        )?;
        for lost in &repair.lost {
            writeln!(to, "  {}: {}", text::printable_path(&lost.path), text::printable(&lost.detail))?;
        }
        if let Some(replacement) = repair.replacement {
            let verb = if forget { "forgotten; " } else { "" };
            writeln!(to, "  {verb}snapshot {} holds the rest", json::short(&replacement.to_string()))?;
        }
    }
    if forget || repairs.iter().all(|repair| repair.replacement.is_none()) {
        return Ok(());
    }
    let ids: Vec<String> =
        repairs.iter().map(|repair| json::short(&repair.snapshot.to_string()).to_owned()).collect();
    writeln!(to, "'check' and 'prune' meet what is lost until it is forgotten: dr forget {}", ids.join(" "))
}

fn names<T: ToString>(ids: &[T]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}
