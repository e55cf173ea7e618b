//! What a repository holds, in numbers.

use super::Repository;
use crate::error::Result;

/// What a repository holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Snapshots that are not forgotten.
    pub snapshots: u64,
    /// Packs that the index lists.
    pub packs: u64,
    /// Their lengths together, in bytes.
    pub pack_bytes: u64,
    /// Chunks that the index lists.
    pub chunks: u64,
    /// Their lengths before compression, together, in bytes.
    pub chunk_bytes: u64,
    /// Index segments.
    pub segments: u64,
    /// Slots of the log.
    pub log_slots: u64,
}

impl Repository {
    /// Counts what the repository holds, from the index alone.
    ///
    /// # Errors
    /// `Corrupt` where the index cannot be read, and what the store answers.
    pub fn stats(&self) -> Result<Stats> {
        let (log, index) = self.0.current_whole()?;
        let packs = index.packs();
        Ok(Stats {
            snapshots: log.fold.live_snapshots().count() as u64,
            packs: packs.len() as u64,
            pack_bytes: packs.iter().map(|pack| pack.bytes).sum(),
            chunks: index.chunks(),
            chunk_bytes: index
                .tables()
                .iter()
                .flat_map(|table| table.records())
                .map(|record| u64::from(record.bytes))
                .sum(),
            segments: log.fold.segments().len() as u64,
            log_slots: log.fold.next,
        })
    }
}
