//! `dr stats`

use clap::Args;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::render::{json, text};
use crate::session::Session;

use std::io::Write;

/// Says how many snapshots, packs and chunks there are, and how large they are.
#[derive(Debug, Args)]
pub(crate) struct StatsArgs {}

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
pub(crate) fn run(_args: &StatsArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
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
