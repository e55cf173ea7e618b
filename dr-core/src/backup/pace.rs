//! How long the source lets its readers wait: whether more of them should wait at once.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

/// A directory whose entries take longer than this each to be listed came from a disk or a network. From memory they take a
/// twentieth.
const SLOW_NANOSECONDS: i128 = 100_000;
/// What a slow listing counts for: as much as so many fast ones. A thread that had to wait for a processor looks slow too.
const SLOW_LISTING: i32 = 4;
/// What a file that was not in memory counts for: that is certain.
const FETCHED_FILE: i32 = 16;
/// From here on the source is taken to be slow.
const SLOW_FROM: i32 = 64;
const SCORE_MAX: i32 = 256;
/// Of so many files one is asked whether it is in memory, as long as the source is not slow.
const FILES_PER_SAMPLE: u32 = 8;

/// What the last answers of a source were like.
#[derive(Debug, Default)]
pub(super) struct Pace {
    score: AtomicI32,
    files: AtomicU32,
}

impl Pace {
    /// Takes in that so many entries were listed in so many nanoseconds; says whether the source turned out to be slow by that.
    pub(super) fn listed(&self, nanoseconds: i128, entries: usize) -> bool {
        let is_slow = nanoseconds > SLOW_NANOSECONDS * entries.max(1) as i128;
        self.add(if is_slow { SLOW_LISTING } else { -1 })
    }

    /// Takes in whether a file had to be fetched; says whether the source turned out to be slow by that.
    pub(super) fn fetched(&self, was_fetched: bool) -> bool {
        self.add(if was_fetched { FETCHED_FILE } else { -1 })
    }

    fn add(&self, change: i32) -> bool {
        let next = |score: i32| Some((score + change).clamp(0, SCORE_MAX));
        // The closure always gives a value.
        let before = self.score.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        before < SLOW_FROM && before + change >= SLOW_FROM
    }

    pub(super) fn is_slow(&self) -> bool {
        self.score.load(Ordering::Relaxed) >= SLOW_FROM
    }

    /// Whether the next file should be asked whether it is in memory.
    pub(super) fn wants_sample(&self) -> bool {
        self.files.fetch_add(1, Ordering::Relaxed).is_multiple_of(FILES_PER_SAMPLE) && !self.is_slow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_not_in_memory_make_a_slow_source_and_those_that_are_a_fast_one() {
        let pace = Pace::default();
        assert_eq!((0..17).filter(|_| pace.wants_sample()).count(), 3);
        let turned: Vec<bool> = (0..6).map(|_| pace.fetched(true)).collect();
        assert_eq!(turned, [false, false, false, true, false, false]);
        assert!(pace.is_slow() && !(0..17).any(|_| pace.wants_sample()));
        assert!(!(0..100).any(|_| pace.fetched(false)) && !pace.is_slow());
    }

    #[test]
    fn a_listing_that_was_interrupted_now_and_then_is_not_slow() {
        let pace = Pace::default();
        // One in ten waited for a processor.
        assert!((0..1000).all(|number| !pace.listed(if number % 10 == 0 { 5_000_000 } else { 50_000 }, 10)));
        assert!(!pace.is_slow());
        // A listing counts by its entries; half of them slow are slow.
        assert!((0..100).all(|_| !pace.listed(10_000_000, 1000)));
        assert!((0..100).any(|number| pace.listed(if number % 2 == 0 { 5_000_000 } else { 50_000 }, 10)));
    }
}
