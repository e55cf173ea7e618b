//! What a backup did.

use crate::id::SnapshotId;
use crate::snapshot::{Problem, Totals};

/// What a backup did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a report says what the snapshot lacks"]
pub struct BackupReport {
    /// The snapshot; `None` after a dry run.
    pub snapshot: Option<SnapshotId>,
    /// The snapshot it was compared with.
    pub parent: Option<SnapshotId>,
    /// What the snapshot holds, and what was new.
    pub totals: Totals,
    /// Entries that no snapshot had before.
    pub entries_new: u64,
    /// Entries that differ from the parent.
    pub entries_changed: u64,
    /// Entries that were taken over.
    pub entries_unchanged: u64,
    /// How many paths are missing or may be inconsistent.
    pub problem_count: u64,
    /// The first of them, at most 1,000.
    pub problems: Vec<Problem>,
}

impl BackupReport {
    /// Whether the snapshot holds everything that was asked for.
    pub fn is_complete(&self) -> bool {
        self.problem_count == 0
    }
}
