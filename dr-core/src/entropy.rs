//! The randomness that the caller injects.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::error::{Error, ErrorKind, Result};

/// Gives random bytes. The engine never asks the operating system itself, so that whole histories can be replayed.
pub trait Entropy: Debug + Send + Sync {
    /// Fills `bytes`.
    ///
    /// # Errors
    /// `Internal` where there is no randomness to be had.
    fn fill(&self, bytes: &mut [u8]) -> Result<()>;

    /// The number of this process, and one that is never given twice in it. Salts hash them beside the randomness, so that
    /// repeated randomness alone repeats no key. Only who replays a history gives anything else.
    fn hedge(&self) -> (u32, u64) {
        static COUNTER: AtomicU64 = AtomicU64::new(0);
        (std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
    }
}

/// The operating system's randomness.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) -> Result<()> {
        #[expect(clippy::disallowed_methods, reason = "the one place that asks the system for randomness")]
        getrandom::fill(bytes).map_err(|error| {
            Error::new(ErrorKind::Internal, "the system gives no randomness").with_source(error.to_string())
        })
    }
}

/// Draws an array of random bytes.
pub(crate) fn random<const N: usize>(entropy: &dyn Entropy) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    entropy.fill(&mut bytes)?;
    Ok(bytes)
}
