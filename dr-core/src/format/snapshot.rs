//! The body of a snapshot, sealed as an object of the tree class.

use serde::{Deserialize, Serialize};

use super::body::{self, Body};
use super::{FormatError, invalid};
use crate::id::SnapshotId;
use crate::limits::SNAPSHOT_BYTES_MAX;
use crate::time::Timestamp;
use crate::tree::Stream;

const WHAT: &str = "a snapshot";

/// What a snapshot is, and what it lacks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotBody {
    /// Random, so that two snapshots of the same things at the same time differ.
    pub(crate) nonce: [u8; 16],
    /// When the backup began, as its host's clock said; nothing depends on it.
    pub(crate) time: Timestamp,
    /// When the backup ended, by the same clock.
    pub(crate) finished: Timestamp,
    pub(crate) host: String,
    pub(crate) paths: Vec<Vec<u8>>,
    pub(crate) tags: Vec<String>,
    /// Name and version of the program that made it.
    pub(crate) program: String,
    pub(crate) parent: Option<SnapshotId>,
    /// It is not the whole of what was asked for: the run was cut short, or goes on.
    pub(crate) partial: bool,
    /// The entries of `/`.
    pub(crate) root: Stream,
    pub(crate) totals: Totals,
    /// How many paths are missing or may be inconsistent, and the list of them: one body (a list of problems) a chunk.
    pub(crate) problems: u64,
    pub(crate) problem_list: Stream,
}

/// What a snapshot holds, and what was new.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Totals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// The lengths of all files together, in bytes.
    pub bytes: u64,
    /// Files that were read because they were new or changed.
    pub files_read: u64,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// New chunks, file contents and trees.
    pub new_chunks: u64,
    /// The length of the new chunks before compression, in bytes.
    pub new_bytes: u64,
    /// What was added to the store, in bytes.
    pub stored_bytes: u64,
}

impl SnapshotBody {
    pub(crate) fn encode(&self) -> Vec<u8> {
        body::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Body<SnapshotBody>, FormatError> {
        if bytes.len() > SNAPSHOT_BYTES_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let body: Body<SnapshotBody> = body::decode(WHAT, bytes)?;
        super::tree::check_stream(&body.value.root)?;
        super::tree::check_stream(&body.value.problem_list)?;
        if body.value.time.nanoseconds >= 1_000_000_000 || body.value.finished.nanoseconds >= 1_000_000_000 {
            return Err(invalid(WHAT, "a time has more than a second of nanoseconds"));
        }
        Ok(body)
    }
}

/// A path that a snapshot lacks, or holds in a state that never was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Problem {
    /// The path, in bytes.
    pub path: Vec<u8>,
    /// What happened.
    pub kind: ProblemKind,
    /// The cause in words, for people.
    pub detail: String,
}

impl Problem {
    pub(crate) fn new(path: impl Into<Vec<u8>>, kind: ProblemKind, detail: impl ToString) -> Problem {
        Problem { path: path.into(), kind, detail: detail.to_string() }
    }
}

/// What happened to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum ProblemKind {
    /// It was asked for and is not there.
    Missing,
    /// It could not be read; it is not in the snapshot.
    Unreadable,
    /// It vanished while it was being read; it is not in the snapshot.
    Vanished,
    /// It changed while it was being read; the snapshot may hold a mixture.
    Changed,
    /// Some of its metadata could not be read (or restored); the snapshot (or the target) holds the rest.
    Attributes,
    /// On restore: its stored bytes are damaged or missing.
    Damaged,
    /// On restore: it could not be written.
    NotRestored,
    /// On restore: it was left out, because it was not wanted or only root can make it.
    Skipped,
}
