//! What a caller may ask of a restore, and what it did.

use crate::snapshot::Problem;

/// What a caller may ask of a restore.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RestoreOptions {
    /// Restores only this path and what is below it; all of the snapshot where it is empty.
    pub path: Vec<u8>,
    /// Leaves out the directories above `path`: what is below it lands in the target itself.
    pub strip_path: bool,
    /// Restores owners; by default where the program runs as root.
    pub owners: Option<bool>,
    /// Takes owners by number even where their names are known here.
    pub numeric_ids: bool,
    /// Makes devices, pipes and sockets.
    pub specials: bool,
    /// Waits until everything is on the disk.
    pub fsync: bool,
}

impl Default for RestoreOptions {
    fn default() -> Self {
        RestoreOptions {
            path: Vec::new(),
            strip_path: false,
            owners: None,
            numeric_ids: false,
            specials: true,
            fsync: false,
        }
    }
}

impl RestoreOptions {
    /// Restores all of a snapshot.
    pub fn new() -> RestoreOptions {
        RestoreOptions::default()
    }

    /// Restores only a path and what is below it.
    #[must_use]
    pub fn path(mut self, path: impl Into<Vec<u8>>) -> Self {
        self.path = path.into();
        self
    }
}

/// What a restore did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "a report says what was not restored"]
pub struct RestoreReport {
    /// Regular files written.
    pub files: u64,
    /// Directories made or kept.
    pub directories: u64,
    /// Everything else that was made.
    pub others: u64,
    /// Bytes of file contents written.
    pub bytes: u64,
    /// How many things could not be restored.
    pub problem_count: u64,
    /// The first of them, at most 1,000.
    pub problems: Vec<Problem>,
}

impl RestoreReport {
    /// Whether everything was restored as it was.
    pub fn is_complete(&self) -> bool {
        self.problem_count == 0
    }
}
