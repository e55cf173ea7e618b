//! The clock and the randomness of a test, both replayed from a seed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, Ordering};

use dr_core::{Clock, Entropy, Result, Timestamp};

/// A clock that stands still until it is moved. It begins in 2040, so that no file of a test is younger than a backup.
#[derive(Debug)]
pub struct TestClock(AtomicI64);

impl Default for TestClock {
    fn default() -> Self {
        TestClock(AtomicI64::new(2_208_988_800_000))
    }
}

impl TestClock {
    /// Moves the clock forward.
    pub fn advance_ms(&self, milliseconds: i64) {
        self.0.fetch_add(milliseconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_nanoseconds(i128::from(self.0.load(Ordering::Relaxed)) * 1_000_000)
    }
}

/// Randomness that is the same for the same seed.
#[derive(Debug)]
pub struct TestEntropy(Mutex<(u64, u64)>);

impl TestEntropy {
    /// The randomness of a seed.
    pub fn new(seed: u64) -> TestEntropy {
        TestEntropy(Mutex::new((seed, 0)))
    }
}

impl Entropy for TestEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        let material = [state.0.to_le_bytes(), state.1.to_le_bytes()].concat();
        bytes.copy_from_slice(&super::noise_of(&material, bytes.len()));
        Ok(())
    }

    fn hedge(&self) -> (u32, u64) {
        let mut state = self.0.lock().unwrap();
        state.1 += 1;
        (0, state.1)
    }
}
