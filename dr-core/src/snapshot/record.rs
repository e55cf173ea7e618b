//! A snapshot as callers see it.

use std::path::PathBuf;

use crate::format::snapshot::{SnapshotBody, Totals};
use crate::id::SnapshotId;
use crate::observer::as_path;
use crate::time::Timestamp;
use crate::tree::Stream;

/// A snapshot: what a source held at one time.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The snapshot's id.
    pub id: SnapshotId,
    /// The slot of the log that committed it: snapshots are ordered by this, not by any clock.
    pub slot: u64,
    /// When the backup began, as its host's clock (or the caller) said.
    pub time: Timestamp,
    /// When the backup ended.
    pub finished: Timestamp,
    /// The store's time just before it was committed, in milliseconds since 1970-01-01 UTC.
    pub store_ms: i64,
    /// The host it was made on.
    pub host: String,
    /// What was asked for, as absolute paths.
    pub paths: Vec<PathBuf>,
    /// The caller's tags.
    pub tags: Vec<String>,
    /// Name and version of the program that made it.
    pub program: String,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// It is not the whole of what was asked for, because the run was cut short or was still going on.
    pub partial: bool,
    /// What it holds and what was new.
    pub totals: Totals,
    /// How many paths are missing, or may be inconsistent.
    pub problems: u64,
    /// It is forgotten, and stays only until it is collected.
    pub forgotten: bool,
    pub(crate) root: Stream,
    pub(crate) problem_list: Stream,
}

impl Snapshot {
    pub(crate) fn new(
        id: SnapshotId,
        slot: u64,
        store_ms: i64,
        forgotten: bool,
        body: SnapshotBody,
    ) -> Snapshot {
        Snapshot {
            id,
            slot,
            store_ms,
            forgotten,
            time: body.time,
            finished: body.finished,
            host: body.host,
            paths: body.paths.iter().map(|path| as_path(path).to_owned()).collect(),
            tags: body.tags,
            program: body.program,
            parent: body.parent,
            partial: body.partial,
            totals: body.totals,
            problems: body.problems,
            root: body.root,
            problem_list: body.problem_list,
        }
    }
}
