//! Repairing: the log where its newest slot was written bad, the index from the packs, packs by what is readable of them, snapshots by what is left. Each says what is lost.

mod index;
mod log;
mod packs;

pub use log::{LogRepair, LogRepairOptions};

use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::id::{ChunkId, ObjectHash};
use crate::repository::Inner;

/// What a repair of the index did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct IndexRepair {
    /// Live segments that could not be read, and were replaced.
    pub segments_damaged: Vec<ObjectHash>,
    /// Packs that no readable segment listed, and that are listed again.
    pub packs_listed: Vec<ObjectHash>,
    /// Packs that cannot be read, and so are listed by nothing.
    pub packs_unreadable: Vec<ObjectHash>,
    /// Segments that were written.
    pub segments_written: u64,
}

/// What a repair of packs did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PackRepair {
    /// The damaged packs, which are condemned now.
    pub packs: Vec<ObjectHash>,
    /// Chunks that could be read, and were stored again.
    pub chunks_saved: u64,
    /// Chunks that lay in these packs only and cannot be read.
    pub chunks_lost: Vec<ChunkId>,
}

/// Whether a newer program or another key made what cannot be opened: it is nobody's to replace.
fn is_of_others(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::UnsupportedFormat | ErrorKind::WrongCredentials)
}

/// The packs that are in the store and not condemned, with class and length, in order of name.
fn stored_packs(
    repository: &Inner,
    is_condemned: &dyn Fn(&ObjectHash) -> bool,
) -> Result<Vec<(ObjectHash, PackClass, u64)>> {
    let mut stored = Vec::new();
    repository.list_packs(&mut |class, hash, meta| {
        if !is_condemned(&hash) {
            stored.push((hash, class, meta.bytes));
        }
    })?;
    stored.sort_unstable_by_key(|(hash, ..)| *hash);
    Ok(stored)
}
