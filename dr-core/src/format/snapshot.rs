//! The body of a snapshot, sealed as an object of the tree class.

use serde::{Deserialize, Serialize};

use super::body::{self, Body, Extension};
use super::{FormatError, invalid};
use crate::id::SnapshotId;
use crate::limits::{ORIGINS_MAX, SNAPSHOT_BYTES_MAX};
use crate::time::Timestamp;
use crate::tree::Stream;

const WHAT: &str = "a snapshot";
/// The tag of the extension that says which snapshots it was made of. Not critical: nothing is read or collected by it.
const ORIGINS_TAG: u16 = 1;

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

/// A snapshot that another one was made of, perhaps one of another repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Origin {
    relation: u8,
    repository: [u8; 16],
    /// Its id.
    pub snapshot: SnapshotId,
    /// Its place among the snapshots of its repository: the slot of the log that committed it, or that it stands for.
    pub slot: u64,
}

/// What a snapshot is to the one that it was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Relation {
    /// It holds the same.
    Copy,
    /// It stands in its place, and holds less of it or is filed under something else.
    Rewritten,
    /// It holds what could be read of it.
    Rest,
    /// It holds it beside others.
    Merged,
}

impl Origin {
    pub(crate) fn new(relation: Relation, repository: [u8; 16], snapshot: SnapshotId, slot: u64) -> Origin {
        let relation = match relation {
            Relation::Copy => 0,
            Relation::Rewritten => 1,
            Relation::Rest => 2,
            Relation::Merged => 3,
        };
        Origin { relation, repository, snapshot, slot }
    }

    /// What the snapshot that says this is to it; none where only a newer program knows.
    pub fn relation(&self) -> Option<Relation> {
        Some(match self.relation {
            0 => Relation::Copy,
            1 => Relation::Rewritten,
            2 => Relation::Rest,
            3 => Relation::Merged,
            _ => return None,
        })
    }

    /// The id of its repository, as 32 hexadecimal digits.
    pub fn repository(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.repository))
    }

    /// Whether it is, or was, in the repository of this id.
    pub(crate) fn is_of(&self, repository: &[u8; 16]) -> bool {
        self.repository == *repository
    }

    /// Whether both speak of the same snapshot.
    pub(crate) fn is_one_with(&self, other: &Origin) -> bool {
        self.snapshot == other.snapshot && self.repository == other.repository
    }

    /// The same snapshot, to one that is `relation` to it.
    pub(crate) fn related(&self, relation: Relation) -> Origin {
        Origin::new(relation, self.repository, self.snapshot, self.slot)
    }
}

/// What the extensions of a body say of the snapshots that it was made of. What cannot be read of that is passed over.
pub(crate) fn origins_of(extensions: &[Extension]) -> Vec<Origin> {
    let told = extensions.iter().find(|extension| extension.tag == ORIGINS_TAG);
    let mut origins: Vec<Origin> =
        told.and_then(|told| body::decode_plain(WHAT, &told.bytes).ok()).unwrap_or_default();
    origins.truncate(ORIGINS_MAX);
    origins
}

impl SnapshotBody {
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn encode(&self) -> Vec<u8> {
        self.encode_with(&[])
    }

    /// Encodes it, made of these snapshots.
    pub(crate) fn encode_with(&self, origins: &[Origin]) -> Vec<u8> {
        if origins.is_empty() {
            return body::encode(self);
        }
        let mut bytes = Vec::new();
        body::encode_plain(&&origins[..origins.len().min(ORIGINS_MAX)], &mut bytes);
        body::encode_with(self, &[Extension { tag: ORIGINS_TAG, bytes }])
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

/// Of a problem's path and detail, no more than this is kept.
const PROBLEM_PATH_BYTES_MAX: usize = 32 << 10;
const PROBLEM_DETAIL_BYTES_MAX: usize = 4 << 10;

impl Problem {
    pub(crate) fn new(path: impl Into<Vec<u8>>, kind: ProblemKind, detail: impl ToString) -> Problem {
        let (mut path, mut detail) = (path.into(), detail.to_string());
        // Whoever names them is not to be trusted with the length of a list of problems.
        path.truncate(PROBLEM_PATH_BYTES_MAX);
        detail.truncate(detail.floor_char_boundary(PROBLEM_DETAIL_BYTES_MAX));
        Problem { path, kind, detail }
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
