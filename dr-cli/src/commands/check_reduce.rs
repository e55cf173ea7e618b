//! `dr check --reduce`: proves from the reports of all shards that everything was read.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::error::{CliError, Result};
use crate::render::{json, text};
use crate::session::Session;

/// What is needed of a shard's report.
#[derive(Debug, Deserialize)]
struct ShardReport {
    message_type: String,
    repository: String,
    shard: Option<String>,
    read_data: bool,
    intact: bool,
    error_count: u64,
    bytes_read: u64,
    head: u64,
}

#[derive(Debug, Serialize)]
struct ReduceDocument {
    message_type: &'static str,
    schema: u32,
    repository: String,
    shards: u32,
    intact: bool,
    error_count: u64,
    bytes_read: u64,
    /// The newest slot of the log that every shard saw.
    head: u64,
}

/// Reads the reports, and fails unless every shard ran on the same repository and found nothing.
pub(crate) fn run(files: &[PathBuf], session: &Session) -> Result<()> {
    let mut reports: BTreeMap<u32, ShardReport> = BTreeMap::new();
    let mut shape: Option<(String, u32)> = None;
    for file in files {
        let wrong = |why: &str| {
            CliError::usage(format!("{} is no report of a shard: {why}", file.display()))
                .with_remedy("write reports with 'dr check --json --read-data --shard N/M > FILE'")
        };
        let bytes = fs::read(file).map_err(|error| wrong(&error.to_string()))?;
        let report: ShardReport =
            serde_json::from_slice(&bytes).map_err(|error| wrong(&error.to_string()))?;
        let shard = report.shard.as_deref().and_then(|shard| shard.parse::<dr_core::Shard>().ok());
        let shard =
            shard.filter(|_| report.message_type == "check").ok_or_else(|| wrong("it names no shard"))?;
        if !report.read_data {
            return Err(wrong("it read no data"));
        }
        let expected = shape.get_or_insert_with(|| (report.repository.clone(), shard.count()));
        if *expected != (report.repository.clone(), shard.count()) {
            return Err(wrong("it is of another repository, or of another number of shards"));
        }
        reports.insert(shard.number(), report);
    }
    let Some((repository, shards)) = shape else {
        return Err(CliError::usage("name the reports of all shards"));
    };
    let missing: Vec<String> = (1..=shards)
        .filter(|number| !reports.contains_key(number))
        .map(|number| format!("{number}/{shards}"))
        .collect();
    if !missing.is_empty() {
        return Err(CliError::incomplete(format!("these shards did not report: {}", missing.join(", ")))
            .with_remedy("run them, and reduce again"));
    }
    let document = ReduceDocument {
        message_type: "check_reduce",
        schema: json::SCHEMA,
        repository,
        shards,
        intact: reports.values().all(|report| report.intact),
        error_count: reports.values().map(|report| report.error_count).sum(),
        bytes_read: reports.values().map(|report| report.bytes_read).sum(),
        head: reports.values().map(|report| report.head).min().unwrap_or(0),
    };
    session.output.summary(&document, |to| {
        let count = text::count(u64::from(shards), "shard", "shards");
        writeln!(
            to,
            "all {count} reported; {} read, up to slot {} of the log",
            text::bytes(document.bytes_read),
            document.head
        )
    })?;
    if document.intact {
        return Ok(());
    }
    let errors = text::count(document.error_count, "error", "errors");
    Err(CliError::damage_found(format!("the repository is damaged: {errors}"))
        .with_remedy("the shards' reports name the objects"))
}
