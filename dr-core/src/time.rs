//! Points in time, and the clock that the caller injects.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

/// A point in time: seconds since 1970-01-01 UTC, and nanoseconds within the second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Timestamp {
    /// Whole seconds since 1970-01-01 UTC, rounded down; negative before.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, below 10^9.
    pub nanoseconds: u32,
}

impl Timestamp {
    /// Builds a time from nanoseconds since 1970-01-01 UTC.
    pub fn from_nanoseconds(nanoseconds: i128) -> Timestamp {
        let seconds = nanoseconds.div_euclid(1_000_000_000);
        let rest = nanoseconds.rem_euclid(1_000_000_000);
        Timestamp {
            seconds: seconds.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64,
            nanoseconds: rest as u32,
        }
    }

    /// Nanoseconds since 1970-01-01 UTC.
    pub fn as_nanoseconds(self) -> i128 {
        i128::from(self.seconds) * 1_000_000_000 + i128::from(self.nanoseconds)
    }
}

/// Tells the time. The engine never asks the operating system itself, so that whole histories can be replayed.
pub trait Clock: Debug + Send + Sync {
    /// The time now.
    fn now(&self) -> Timestamp;
}

/// The operating system's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        #[expect(clippy::disallowed_methods, reason = "the one place that reads the system's clock")]
        let now = std::time::SystemTime::now();
        match now.duration_since(std::time::UNIX_EPOCH) {
            Ok(since) => Timestamp::from_nanoseconds(since.as_nanos() as i128),
            Err(before) => Timestamp::from_nanoseconds(-(before.duration().as_nanos() as i128)),
        }
    }
}
