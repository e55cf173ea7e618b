//! How fast a long call is, and how long it will still take, in numbers that settle.

use std::time::Duration;

/// How far back the rate looks, in milliseconds: what is older counts less and less.
const RATE_MS: f64 = 20_000.0;
/// How fast the expected end follows what is newly known, in milliseconds.
const END_MS: f64 = 8_000.0;
/// Before this nothing is said of the end, in milliseconds.
const SILENT_MS: u64 = 3_000;
/// Samples nearer to each other than this are one, in milliseconds.
const STEP_MS: u64 = 50;

/// Follows one amount that grows.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    at_ms: u64,
    done: u64,
    /// The rate of bytes a millisecond, and how much of its weight is known: at the beginning, nothing is.
    rate: f64,
    weight: f64,
    /// When the call is expected to end, in milliseconds after it began.
    end_ms: Option<f64>,
    total: u64,
}

impl Meter {
    /// Takes a measurement: so much of `total` is done so long after the beginning. A total of 0 is none.
    pub(crate) fn sample(&mut self, at_ms: u64, done: u64, total: u64) {
        let elapsed = at_ms.saturating_sub(self.at_ms);
        if elapsed < STEP_MS {
            return;
        }
        if done < self.done {
            // Another stage began to count.
            *self = Meter { at_ms, done, ..Meter::default() };
            return;
        }
        let step = elapsed as f64;
        let keep = (-step / RATE_MS).exp();
        self.rate = self.rate * keep + (done - self.done) as f64 / step * (1.0 - keep);
        self.weight = self.weight * keep + (1.0 - keep);
        (self.at_ms, self.done) = (at_ms, done);
        if total != self.total {
            self.total = total;
            self.end_ms = None;
        }
        self.expect(step);
    }

    /// Moves the expected end towards what is known now.
    fn expect(&mut self, step: f64) {
        let rate = self.milli_rate();
        if self.total <= self.done || rate <= 0.0 {
            self.end_ms = None;
            return;
        }
        let newly = self.at_ms as f64 + (self.total - self.done) as f64 / rate;
        // What was expected while next to nothing was known says nothing.
        let known = self.end_ms.filter(|_| self.at_ms > SILENT_MS);
        let follow = 1.0 - (-step / END_MS).exp();
        self.end_ms = Some(known.map_or(newly, |end| end + (newly - end) * follow));
    }

    fn milli_rate(&self) -> f64 {
        if self.weight > 0.0 { self.rate / self.weight } else { 0.0 }
    }

    /// Bytes a second.
    pub(crate) fn rate(&self) -> u64 {
        (self.milli_rate() * 1000.0).round() as u64
    }

    /// How long it will still take, where that can be said.
    pub(crate) fn remaining(&self) -> Option<Duration> {
        let end = self.end_ms.filter(|_| self.at_ms >= SILENT_MS)?;
        Some(Duration::from_millis((end - self.at_ms as f64).max(0.0) as u64))
    }
}

/// A length of time in steps that do not pretend to know more than is known.
pub(crate) fn coarse(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    let step = match seconds {
        ..30.0 => 1.0,
        30.0..300.0 => 5.0,
        300.0..3600.0 => 60.0,
        _ => 300.0,
    };
    let seconds = ((seconds / step).ceil() * step).min(1e9) as u64;
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, _) => format!("{minutes}:{seconds:02}"),
        (1..48, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{} days", hours / 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a meter every 100 ms and gives what it expects after each, in milliseconds.
    fn run(rate_at: impl Fn(u64) -> u64, total: u64) -> Vec<(u64, u64)> {
        let (mut meter, mut done, mut expected) = (Meter::default(), 0, Vec::new());
        for at_ms in (100..).step_by(100) {
            done = total.min(done + rate_at(at_ms) / 10);
            meter.sample(at_ms, done, total);
            if done == total {
                break;
            }
            if let Some(left) = meter.remaining() {
                expected.push((at_ms, at_ms + left.as_millis() as u64));
            }
        }
        expected
    }

    #[test]
    fn a_steady_call_ends_when_it_was_said_to() {
        let expected = run(|_| 1_000_000, 60_000_000);
        assert!(expected.len() > 500);
        for (at, end) in expected {
            assert!(end.abs_diff(60_000) < 600, "at {at}: {end}");
        }
    }

    #[test]
    fn an_uneven_call_settles() {
        // A second of work, a second of nothing: the mean is the half.
        let expected = run(|at| if at / 1000 % 2 == 0 { 2_000_000 } else { 0 }, 120_000_000);
        for (at, end) in expected.iter().filter(|(at, _)| *at > 30_000) {
            assert!(end.abs_diff(120_000) < 8_000, "at {at}: {end}");
        }
        let jumps = expected.windows(2).map(|pair| pair[0].1.abs_diff(pair[1].1));
        assert!(jumps.max().unwrap() < 1_500);
    }

    #[test]
    fn a_slow_beginning_is_forgotten() {
        let expected = run(|at| if at < 200 { 1_000 } else { 50_000_000 }, 1_000_000_000);
        for (at, end) in expected {
            assert!(end.abs_diff(20_200) < 2_000, "at {at}: {end}");
        }
    }

    #[test]
    fn a_change_of_speed_is_followed() {
        let expected = run(|at| if at < 20_000 { 4_000_000 } else { 1_000_000 }, 180_000_000);
        let (_, last) = expected[expected.len() - 50];
        assert!(last.abs_diff(120_000) < 3_000, "{last}");
    }

    #[test]
    fn nothing_is_said_of_what_is_not_known() {
        let mut meter = Meter::default();
        assert_eq!((meter.rate(), meter.remaining()), (0, None));
        for at in 1..100 {
            meter.sample(at * 100, at * 1000, 0);
        }
        assert_eq!((meter.rate(), meter.remaining()), (10_000, None));
        meter.sample(20_000, 50, 100);
        assert_eq!((meter.rate(), meter.remaining()), (0, None));
        meter.sample(30_000, 100, 100);
        assert_eq!(meter.remaining(), None);
    }

    #[test]
    fn times_are_coarse() {
        let cases = [(0.2, "0:01"), (29.0, "0:29"), (31.0, "0:35"), (301.0, "6:00"), (3601.0, "1:05:00")];
        for (seconds, text) in cases {
            assert_eq!(coarse(Duration::from_secs_f64(seconds)), text);
        }
        assert_eq!(coarse(Duration::from_secs(50 * 86_400)), "50 days");
    }
}
