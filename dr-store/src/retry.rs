//! A store that makes a call again when the answer says that this may help.

use std::collections::HashSet;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};

/// Waits for a time. The caller supplies it, so that a test need not wait and an application can be woken.
pub type Sleep = Arc<dyn Fn(Duration) + Send + Sync>;

/// How often and how patiently a call is made again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryOptions {
    /// How many times a call is made at most; 0 counts as 1.
    pub attempts_max: u32,
    /// The longest pause after the first attempt; it doubles after each further one.
    pub first_delay: Duration,
    /// What the pause never exceeds.
    pub delay_max: Duration,
    /// Seeds the jitter. Writers that start together should use different seeds.
    pub seed: u64,
}

impl Default for RetryOptions {
    fn default() -> RetryOptions {
        RetryOptions {
            attempts_max: 6,
            first_delay: Duration::from_millis(200),
            delay_max: Duration::from_secs(10),
            seed: 0,
        }
    }
}

/// Passes every call on to another store, again after a pause where the failure is retryable.
///
/// An unclear answer is made clear where that is possible: a create that was made again and met an object reads it
/// back and succeeds where it holds the very bytes; a delete that was made again and met nothing succeeds. Two
/// writers that create the same name with the same bytes may so both succeed, which only those can see who give
/// identical bytes a different meaning.
pub struct RetryStore {
    inner: Arc<dyn Store>,
    options: RetryOptions,
    sleep: Sleep,
    jitter: AtomicU64,
}

impl RetryStore {
    /// Wraps `inner`; pauses are made with `sleep`.
    pub fn new(inner: Arc<dyn Store>, options: RetryOptions, sleep: Sleep) -> RetryStore {
        RetryStore { inner, options, sleep, jitter: AtomicU64::new(options.seed) }
    }

    /// Makes `call` with the number of the attempt, from 1, until it succeeds, fails for good or was made often
    /// enough.
    pub(crate) fn attempts<T>(&self, mut call: impl FnMut(u32) -> Result<T>) -> Result<T> {
        let mut attempt = 1;
        loop {
            match call(attempt) {
                Err(error) if error.is_retryable() && attempt < self.options.attempts_max => {
                    (self.sleep)(self.pause_after(attempt));
                    attempt += 1;
                }
                answer => return answer,
            }
        }
    }

    /// Between half of the pause and all of it, so that writers that failed together do not return together.
    fn pause_after(&self, attempt: u32) -> Duration {
        let doubled = 2u32.saturating_pow(attempt.saturating_sub(1));
        let longest = self.options.first_delay.saturating_mul(doubled).min(self.options.delay_max);
        let half = longest / 2;
        let half_ns = u64::try_from(half.as_nanos()).unwrap_or(u64::MAX - 1);
        half + Duration::from_nanos(self.random() % (half_ns + 1))
    }

    /// The next number of the generator SplitMix64.
    fn random(&self) -> u64 {
        const STEP: u64 = 0x9e37_79b9_7f4a_7c15;
        let mut z = self.jitter.fetch_add(STEP, Ordering::Relaxed).wrapping_add(STEP);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl fmt::Debug for RetryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryStore")
            .field("inner", &self.inner)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Store for RetryStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        let mut attempts_made = 0;
        let answer = self.attempts(|attempt| {
            attempts_made = attempt;
            self.inner.put(name, payload.clone(), mode)
        });
        match answer {
            Err(taken)
                if mode == PutMode::Create
                    && attempts_made > 1
                    && taken.kind() == StoreErrorKind::AlreadyExists =>
            {
                // An earlier attempt may have made it. If it cannot be read back, the outcome is unknown, and
                // that error is the answer; unless it was deleted since: a put never finds nothing.
                match self.get(name) {
                    Ok(stored) if holds(&payload, &stored) => Ok(()),
                    Ok(_) => Err(taken),
                    Err(gone) if gone.kind() == StoreErrorKind::NotFound => Err(taken),
                    Err(unknown) => Err(unknown),
                }
            }
            answer => answer,
        }
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        self.attempts(|_| self.inner.get(name))
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        self.attempts(|_| self.inner.get_range(name, range.clone()))
    }

    /// As the wrapped store's; the names visited are kept until it returns, to visit none twice.
    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        let mut visited = HashSet::new();
        let mut stopped = None;
        let answer = self.attempts(|_| {
            self.inner.list(folder, after, &mut |object| {
                if !visited.insert(object.name.clone()) {
                    return Ok(());
                }
                visit(object).map_err(|error| {
                    // The visitor's own error must end the listing, also where its kind is a retryable one.
                    stopped = Some(error);
                    StoreError::new(StoreErrorKind::Other, "list", folder)
                })
            })
        });
        stopped.map_or(answer, Err)
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        self.attempts(|_| self.inner.list_folder(folder))
    }

    fn delete(&self, name: &Name) -> Result<()> {
        self.attempts(|attempt| match self.inner.delete(name) {
            Err(error) if attempt > 1 && error.kind() == StoreErrorKind::NotFound => Ok(()),
            answer => answer,
        })
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.attempts(|_| self.inner.stat(name))
    }

    fn sweep(&self, is_name: &dyn Fn(&str) -> bool) -> Result<u64> {
        self.inner.sweep(is_name)
    }

    fn create_is_proven(&self) -> bool {
        self.inner.create_is_proven()
    }

    fn local_root(&self) -> Option<PathBuf> {
        self.inner.local_root()
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}

/// Whether the parts together are exactly `stored`, without copying them together.
fn holds(payload: &Payload, stored: &[u8]) -> bool {
    let mut rest = stored;
    payload.parts().iter().all(|part| match rest.split_at_checked(part.len()) {
        Some((head, tail)) => {
            rest = tail;
            head == part
        }
        None => false,
    }) && rest.is_empty()
}
