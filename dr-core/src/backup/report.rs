//! What a backup did.

use crate::id::SnapshotId;
use crate::snapshot::{Problem, Totals};

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a report says what the snapshot lacks"]
pub struct BackupReport {
    /// The snapshot; `None` after a dry run, and where `skip_if_unchanged` found nothing to commit.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// Whether `skip_if_unchanged` found that the parent is just this tree.
    pub unchanged: bool,
    /// What the snapshot holds, and what was new.
    pub totals: Totals,
    /// Entries that no snapshot had before.
    pub entries_new: u64,
    /// Entries that differ from the parent.
    pub entries_changed: u64,
    /// Entries that were taken over.
    pub entries_unchanged: u64,
    /// Entries that were left out as the caller wished; a directory counts once, with all that is in it.
    pub entries_excluded: u64,
    /// How often what the caller wished to leave out could not be told: a file of patterns that cannot be read, for one.
    pub warning_count: u64,
    /// The first of these, at most 1,000.
    pub warnings: Vec<BackupWarning>,
    /// How many paths are missing or may be inconsistent.
    pub problem_count: u64,
    /// The first of them, at most 1,000.
    pub problems: Vec<Problem>,
}

/// Something about the caller's wishes that is not as it should be. The snapshot has more than was wished, not less.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BackupWarning {
    /// What this is about.
    pub path: Vec<u8>,
    /// What is wrong.
    pub detail: String,
}

impl BackupReport {
    /// Whether the snapshot holds everything that was asked for.
    pub fn is_complete(&self) -> bool {
        self.problem_count == 0
    }
}
