//! Decides how much of a stream is fetched ahead, by how it was read so far.

use std::ops::Range;

/// Reads that are no further apart than this follow one another: a kernel asks for several pieces at once, in any order.
const SLACK_BYTES: u64 = 1 << 20;
/// What is fetched ahead of the second of consecutive reads; twice as much each time that it was not enough.
const WINDOW_BYTES_MIN: u64 = 1 << 20;
const WINDOW_BYTES_MAX: u64 = 8 << 20;

/// How a stream was read so far.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The furthest end of consecutive reads.
    end: u64,
    /// How far was fetched.
    fetched: u64,
    window: u64,
}

impl Ahead {
    /// Notes a read, and says what is to be fetched for it and the next ones.
    pub(super) fn note(&mut self, read: Range<u64>) -> Option<Range<u64>> {
        let follows = self.end > 0
            && read.start <= self.end.saturating_add(SLACK_BYTES)
            && read.end.saturating_add(SLACK_BYTES) >= self.end;
        if !follows {
            *self = Ahead { end: read.end, fetched: read.end, window: 0 };
            // A long read is worth several threads.
            return (read.end - read.start > SLACK_BYTES).then_some(read);
        }
        self.end = self.end.max(read.end);
        if read.end <= self.fetched {
            return None;
        }
        self.window = (self.window * 2).clamp(WINDOW_BYTES_MIN, WINDOW_BYTES_MAX);
        let from = self.fetched.max(read.start);
        self.fetched = read.end.saturating_add(self.window);
        Some(from..self.fetched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_window_grows_while_reads_follow_one_another() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.note(0..100), None);
        assert_eq!(ahead.note(100..200), Some(100..200 + MIB));
        assert_eq!(ahead.note(200..MIB), None);
        assert_eq!(ahead.note(MIB..2 * MIB), Some(200 + MIB..4 * MIB));
        let mut furthest = 4 * MIB;
        for number in 2..100 {
            if let Some(range) = ahead.note(number * MIB..(number + 1) * MIB) {
                assert_eq!(range.start, furthest);
                assert!(range.end - (number + 1) * MIB <= WINDOW_BYTES_MAX);
                furthest = range.end;
            }
        }
        assert!(furthest > 100 * MIB);
    }

    #[test]
    fn pieces_may_come_in_any_order_and_jumps_fetch_nothing() {
        let mut ahead = Ahead::default();
        assert_eq!(ahead.note(0..100), None);
        assert!(ahead.note(300..400).is_some());
        assert_eq!(ahead.note(100..200), None);
        assert_eq!(ahead.note(200..300), None);
        for place in [50, 3, 900, 7] {
            assert_eq!(ahead.note(place * MIB * 10..place * MIB * 10 + 4096), None);
        }
        assert_eq!(ahead.note(0..5 * MIB), Some(0..5 * MIB), "one long read");
        assert!(ahead.note(u64::MAX - 10..u64::MAX).is_none());
        assert!(ahead.note(u64::MAX - 10..u64::MAX).is_none());
    }
}
