//! What a check looks at, and what it found.

use super::subset::Subset;
use crate::id::ObjectHash;

/// How much a check looks at.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CheckOptions {
    /// Reads every object whole: every byte decrypts and hashes.
    pub read_data: bool,
    /// Which packs are read; all where there is none.
    pub subset: Option<Subset>,
}

impl CheckOptions {
    /// Checks the structure: log, index, snapshots, trees and every reference.
    pub fn new() -> CheckOptions {
        CheckOptions::default()
    }

    /// Reads every byte as well.
    #[must_use]
    pub fn read_data(mut self) -> Self {
        self.read_data = true;
        self
    }
}

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "a report says what is damaged"]
pub struct CheckReport {
    /// Snapshots looked at.
    pub snapshots: u64,
    /// Packs looked at.
    pub packs: u64,
    /// Chunks that the index lists.
    pub chunks: u64,
    /// Whether the store decides between several writers. Where not, garbage is collected only on the promise that nobody
    /// else is writing.
    pub create_if_absent: bool,
    /// The newest slot of the log that was looked at.
    pub head: u64,
    /// Packs that are missing or damaged.
    pub damaged_packs: Vec<ObjectHash>,
    /// Bytes that were read.
    pub bytes_read: u64,
    /// Damage: something is lost, or would not be noticed if it were.
    pub errors: Vec<Finding>,
    /// What is there and of no use, and costs nothing but space; and what only forgotten snapshots lack.
    pub notes: Vec<Finding>,
    /// How many errors there are; `errors` holds at most 1,000.
    pub error_count: u64,
}

impl CheckReport {
    /// Whether nothing is damaged.
    pub fn is_intact(&self) -> bool {
        self.error_count == 0
    }
}

/// One thing that a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The object, or the snapshot and path.
    pub object: String,
    /// What is wrong with it.
    pub detail: String,
}
