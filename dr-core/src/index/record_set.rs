//! A set of records of the index, at one bit for each record there is.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Index;

/// A record: its table's number among those of the index, and its own in the table.
pub(crate) type Place = (usize, usize);

/// Records of an index all of which is on this machine. Threads may share it.
#[derive(Debug)]
pub(crate) struct RecordSet(Vec<Vec<AtomicU64>>);

impl RecordSet {
    /// The empty set of records of `index`.
    pub(crate) fn new(index: &Index) -> RecordSet {
        let words = |chunks: usize| (0..chunks.div_ceil(64)).map(|_| AtomicU64::new(0)).collect();
        RecordSet(index.tables().iter().map(|table| words(table.chunks())).collect())
    }

    /// Whether the record is in the set; no record is that the index does not have.
    pub(crate) fn contains(&self, place: Place) -> bool {
        self.word(place).is_some_and(|(word, mask)| word.load(Ordering::Relaxed) & mask != 0)
    }

    /// Adds a record. Says whether it was not in the set, which of several threads only one hears.
    pub(crate) fn insert(&self, place: Place) -> bool {
        self.word(place).is_some_and(|(word, mask)| word.fetch_or(mask, Ordering::Relaxed) & mask == 0)
    }

    /// Takes a record out.
    pub(crate) fn remove(&self, place: Place) {
        if let Some((word, mask)) = self.word(place) {
            word.fetch_and(!mask, Ordering::Relaxed);
        }
    }

    /// How many records are in the set.
    #[cfg(feature = "internals")]
    pub(crate) fn count(&self) -> u64 {
        self.0.iter().flatten().map(|word| u64::from(word.load(Ordering::Relaxed).count_ones())).sum()
    }

    fn word(&self, (table, ordinal): Place) -> Option<(&AtomicU64, u64)> {
        Some((self.0.get(table)?.get(ordinal / 64)?, 1 << (ordinal % 64)))
    }
}
