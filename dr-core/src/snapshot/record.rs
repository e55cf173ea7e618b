//! A snapshot as callers see it.

use std::path::PathBuf;

use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Origin, SnapshotBody, Totals};
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
    /// It cannot be forgotten.
    pub protected: bool,
    /// The snapshots that it was made of, by a copy, a rewrite or a merge; the nearest one first.
    pub origins: Vec<Origin>,
    /// Where it stands among the others: at its slot, or where the one stood that it was rewritten from.
    pub(crate) place: u64,
    /// A newer program wrote it: it may be read, but nothing is written or collected by it.
    pub(crate) newer: bool,
    pub(crate) root: Stream,
    pub(crate) problem_list: Stream,
}

/// What the log says of a snapshot.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) id: SnapshotId,
    pub(crate) slot: u64,
    /// The store's time of the slot before.
    pub(crate) store_ms: i64,
    pub(crate) forgotten: bool,
    pub(crate) protected: bool,
    pub(crate) newer: bool,
    /// Its tags, where they were changed.
    pub(crate) tags: Option<Vec<String>>,
    /// The snapshots that it was made of.
    pub(crate) origins: Vec<Origin>,
    pub(crate) place: u64,
}

impl Snapshot {
    pub(crate) fn new(standing: Standing, body: SnapshotBody) -> Snapshot {
        Snapshot {
            id: standing.id,
            slot: standing.slot,
            store_ms: standing.store_ms,
            forgotten: standing.forgotten,
            newer: standing.newer,
            protected: standing.protected,
            origins: standing.origins,
            place: standing.place,
            time: body.time,
            finished: body.finished,
            host: body.host,
            paths: body.paths.iter().map(|path| as_path(path).to_owned()).collect(),
            tags: standing.tags.unwrap_or(body.tags),
            program: body.program,
            parent: body.parent,
            partial: body.partial,
            totals: body.totals,
            problems: body.problems,
            root: body.root,
            problem_list: body.problem_list,
        }
    }

    /// Refuses to write or to delete by what only a newer program understands.
    pub(crate) fn refuse_newer(&self) -> Result<()> {
        if !self.newer {
            return Ok(());
        }
        Err(Error::new(ErrorKind::UnsupportedFormat, "a newer program has written the snapshot")
            .with_object(format!("snapshot {}", self.id))
            .with_remedy("use that version: this one can only read it"))
    }
}
