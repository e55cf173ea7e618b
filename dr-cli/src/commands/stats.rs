//! `dr stats`

use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use dr_core::{SnapshotUsage, UsageReport};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::{json, text};
use crate::selector;
use crate::session::Session;

/// Says how many snapshots, packs and chunks there are, and how large they are; or what single snapshots take.
#[derive(Debug, Args)]
#[command(
    after_help = "For snapshots: 'Restored' is what a restore writes; 'Needed' are the different chunks, before compression; \
'Stored' is what they take in the repository; 'Own' is the part of that which no other snapshot needs, about what is freed \
when it is forgotten and collected. Chunks are compressed together: each counts by its share."
)]
pub(crate) struct StatsArgs {
    /// Say what these snapshots take
    #[arg(value_name = "SNAP")]
    snapshots: Vec<OsString>,
    /// Say what every snapshot takes
    #[arg(long, conflicts_with = "snapshots")]
    each: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct StatsDocument {
    message_type: &'static str,
    schema: u32,
    id: String,
    snapshots: u64,
    packs: u64,
    pack_bytes: u64,
    chunks: u64,
    chunk_bytes: u64,
    segments: u64,
    log_slots: u64,
}

/// Runs the command.
pub(crate) fn run(args: &StatsArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    if args.each || !args.snapshots.is_empty() {
        let filter = args.filter.to_filter();
        let snapshots = if args.each {
            repository.snapshots(&filter)?
        } else {
            selector::find_all(&args.snapshots, &filter, &repository)?
        };
        let usage = session.answer(repository.usage(&snapshots, &session.context(&())))?;
        return show_usage(&usage, session);
    }
    let stats = repository.stats()?;
    let document = StatsDocument {
        message_type: "stats",
        schema: json::SCHEMA,
        id: repository.id(),
        snapshots: stats.snapshots,
        packs: stats.packs,
        pack_bytes: stats.pack_bytes,
        chunks: stats.chunks,
        chunk_bytes: stats.chunk_bytes,
        segments: stats.segments,
        log_slots: stats.log_slots,
    };
    if session.output.is_json() {
        return session.output.document(&document);
    }
    let mut data = session.output.data();
    let lines = [
        ("repository", document.id.clone()),
        ("snapshots", stats.snapshots.to_string()),
        ("chunks", format!("{} ({} before compression)", stats.chunks, text::bytes(stats.chunk_bytes))),
        ("packs", format!("{} ({} stored)", stats.packs, text::bytes(stats.pack_bytes))),
        ("index segments", stats.segments.to_string()),
        ("log slots", stats.log_slots.to_string()),
    ];
    let written = lines.iter().try_for_each(|(name, value)| writeln!(data, "{name:<16}{value}"));
    written.and_then(|()| data.flush()).map_err(CliError::output)
}

#[derive(Debug, Serialize)]
struct UsageRecord {
    #[serde(skip_serializing_if = "Option::is_none")]
    snapshot_id: Option<String>,
    entries: u64,
    restored_bytes: u64,
    chunks: u64,
    chunk_bytes: u64,
    stored_bytes: u64,
    own_chunks: u64,
    own_chunk_bytes: u64,
    own_stored_bytes: u64,
}

#[derive(Debug, Serialize)]
struct UsageDocument {
    message_type: &'static str,
    schema: u32,
    snapshots: Vec<UsageRecord>,
    together: UsageRecord,
}

fn record(usage: &SnapshotUsage) -> UsageRecord {
    UsageRecord {
        snapshot_id: usage.snapshot.map(|id| id.to_string()),
        entries: usage.entries,
        restored_bytes: usage.restored_bytes,
        chunks: usage.chunks,
        chunk_bytes: usage.chunk_bytes,
        stored_bytes: usage.stored_bytes,
        own_chunks: usage.own_chunks,
        own_chunk_bytes: usage.own_chunk_bytes,
        own_stored_bytes: usage.own_stored_bytes,
    }
}

fn show_usage(usage: &UsageReport, session: &Session) -> Result<()> {
    if session.output.is_json() {
        return session.output.document(&UsageDocument {
            message_type: "usage",
            schema: json::SCHEMA,
            snapshots: usage.snapshots.iter().map(record).collect(),
            together: record(&usage.together),
        });
    }
    let mut data = session.output.data();
    write_usage(&mut data, usage).and_then(|()| data.flush()).map_err(CliError::output)
}

fn write_usage(to: &mut dyn Write, usage: &UsageReport) -> io::Result<()> {
    let row = |usage: &SnapshotUsage| {
        let name = usage
            .snapshot
            .map_or_else(|| "together".to_owned(), |id| json::short(&id.to_string()).to_owned());
        let sizes = [usage.restored_bytes, usage.chunk_bytes, usage.stored_bytes, usage.own_stored_bytes];
        [name, usage.entries.to_string()].into_iter().chain(sizes.map(text::bytes)).collect::<Vec<String>>()
    };
    let mut rows: Vec<Vec<String>> = usage.snapshots.iter().map(row).collect();
    if rows.len() > 1 {
        rows.push(row(&usage.together));
    }
    text::table(to, &["Snapshot", "Entries", "Restored", "Needed", "Stored", "Own"], &rows)
}
