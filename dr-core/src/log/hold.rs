//! How long forgotten snapshots must stay before they may be collected, whoever asks.

use std::time::Duration;

use super::fold::Fold;
use crate::error::Result;
use crate::limits::HOLD_SECONDS_MAX;

impl Fold {
    pub(super) fn apply_hold(&mut self, slot: u64, seconds: u64) {
        let seconds = seconds.min(HOLD_SECONDS_MAX);
        if seconds != self.hold_seconds() {
            self.holds.push((slot, seconds));
        }
    }

    fn hold_seconds(&self) -> u64 {
        self.holds.last().map_or(0, |(_, seconds)| *seconds)
    }

    /// What the newest entry asks for.
    pub(crate) fn hold(&self) -> Duration {
        Duration::from_secs(self.hold_seconds())
    }

    /// How often the hold was changed: what was worked out at another number does not hold any more.
    pub(crate) fn hold_changes(&self) -> usize {
        self.holds.len()
    }

    /// The longest hold that there ever was.
    pub(crate) fn longest_hold(&self) -> Duration {
        Duration::from_secs(self.holds.iter().map(|(_, seconds)| *seconds).max().unwrap_or(0))
    }

    /// The hold in force at a time, by the slots before `slot`. A longer one counts at once. One that was shortened counts on
    /// for its own length: whoever can write to the log, and forgets everything, cannot take it away from under that.
    /// `written` gives the store's time of a slot, in milliseconds since 1970.
    pub(crate) fn hold_at(
        &self,
        slot: u64,
        now_ms: i64,
        written: &mut dyn FnMut(u64) -> Result<i64>,
    ) -> Result<Duration> {
        let end = self.holds.partition_point(|(changed, _)| *changed < slot);
        let known = &self.holds[..end];
        let mut longest = known.last().map_or(0, |(_, seconds)| *seconds);
        for pair in known.windows(2).rev() {
            let [(_, before), (changed, _)] = pair else { continue };
            // Only what was longer than all that counts anyway costs a look at a slot.
            if *before > longest {
                let passed_ms = now_ms.saturating_sub(written(*changed)?);
                if passed_ms < before.saturating_mul(1000) as i64 {
                    longest = *before;
                }
            }
        }
        Ok(Duration::from_secs(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: u64 = 24 * 3600;
    const DAY_MS: i64 = DAY as i64 * 1000;

    /// Slot `n` was written on day `n`.
    fn hold_on(fold: &Fold, slot: u64, day: i64) -> u64 {
        let mut written = |slot: u64| Ok(slot as i64 * DAY_MS);
        fold.hold_at(slot, day * DAY_MS, &mut written).unwrap().as_secs() / DAY
    }

    fn fold(changes: &[(u64, u64)]) -> Fold {
        let mut fold = Fold::default();
        for (slot, days) in changes {
            fold.apply_hold(*slot, days * DAY);
        }
        fold
    }

    #[test]
    fn a_longer_hold_counts_at_once_and_a_shorter_one_after_the_longer_has_passed() {
        let fold = fold(&[(10, 14), (20, 30), (100, 7), (110, 3)]);
        for (slot, day, days) in [
            (9, 9, 0),
            // Not yet in the log.
            (10, 10, 0),
            (11, 11, 14),
            (21, 20, 30),
            (50, 99, 30),
            (101, 100, 30),
            (101, 129, 30),
            (101, 130, 7),
            (111, 110, 30),
            (111, 129, 30),
            // The 7 days ended on day 117.
            (111, 130, 3),
            (111, 1000, 3),
        ] {
            assert_eq!(hold_on(&fold, slot, day), days, "slot {slot}, day {day}");
        }
    }

    #[test]
    fn what_was_short_for_a_moment_only_ends_nothing() {
        let up_and_down = fold(&[(1, 14), (50, 0), (51, 14), (52, 0)]);
        assert_eq!(hold_on(&up_and_down, 60, 65), 14);
        assert_eq!(hold_on(&up_and_down, 60, 66), 0);
        let lowered_by_steps = fold(&[(1, 14), (50, 13), (51, 12), (52, 0)]);
        assert_eq!(hold_on(&lowered_by_steps, 60, 63), 14);
        assert_eq!(hold_on(&lowered_by_steps, 60, 64), 0);
    }

    #[test]
    fn repeated_and_endless_holds_change_nothing() {
        assert_eq!(fold(&[(1, 14), (2, 14), (3, 14)]).hold_changes(), 1);
        assert_eq!(fold(&[(1, 0)]).hold_changes(), 0);
        let mut endless = Fold::default();
        endless.apply_hold(1, u64::MAX);
        assert_eq!(endless.hold().as_secs(), HOLD_SECONDS_MAX);
    }
}
