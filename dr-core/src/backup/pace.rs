//! How long the source lets its readers wait: whether more of them should wait at once.

use std::sync::atomic::{AtomicI32, Ordering};

/// An entry that takes longer than this to be listed or read came from a disk or a network. From memory it takes a tenth.
const SLOW_NANOSECONDS: i128 = 60_000;
/// What one slow answer counts for: as much as so many fast ones.
const SLOW_WEIGHT: i32 = 16;
/// From here on the source is taken to be slow.
const SLOW_FROM: i32 = 4 * SLOW_WEIGHT;
const SCORE_MAX: i32 = 16 * SLOW_WEIGHT;

/// What the last answers of a source were like.
#[derive(Debug, Default)]
pub(super) struct Pace(AtomicI32);

impl Pace {
    /// Takes in that so many entries took so many nanoseconds; says whether the source turned out to be slow by that.
    pub(super) fn took(&self, nanoseconds: i128, entries: usize) -> bool {
        self.answered(nanoseconds > SLOW_NANOSECONDS * entries.max(1) as i128)
    }

    /// Takes in an answer; says whether the source turned out to be slow by it.
    pub(super) fn answered(&self, slowly: bool) -> bool {
        let change = if slowly { SLOW_WEIGHT } else { -1 };
        let next = |score: i32| Some((score + change).clamp(0, SCORE_MAX));
        // The closure always gives a value.
        let before = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).unwrap_or_default();
        before < SLOW_FROM && before + change >= SLOW_FROM
    }

    pub(super) fn is_slow(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= SLOW_FROM
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_slow_answers_make_a_slow_source_and_many_fast_ones_a_fast_one() {
        let pace = Pace::default();
        let turned: Vec<bool> = (0..6).map(|_| pace.took(100_000, 1)).collect();
        assert_eq!(turned, [false, false, false, true, false, false]);
        assert!(pace.is_slow());
        // Three in a hundred are slow.
        for number in 0..1000 {
            pace.took(if number % 32 == 0 { 1_000_000 } else { 5_000 }, 1);
        }
        assert!(!pace.is_slow());
        // A listing counts by its entries.
        assert!((0..100).all(|_| !pace.took(1_000_000, 1000)) && !pace.is_slow());
    }
}
