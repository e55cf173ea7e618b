//! One pack at a time is sealed and put, on all threads.

use std::sync::{Mutex, MutexGuard};

use crate::error::{Error, ErrorKind, Result};
use crate::observer::lock;

/// Lets one pack after the other be sealed and put.
#[derive(Debug, Default)]
pub(super) struct Sealing {
    pool: std::sync::OnceLock<rayon::ThreadPool>,
    turn: Mutex<()>,
}

/// The right to seal and put a pack, until it is dropped.
pub(super) struct Turn<'s> {
    sealing: &'s Sealing,
    _turn: MutexGuard<'s, ()>,
}

impl Sealing {
    /// Waits until no other pack is under way.
    pub(super) fn begin(&self) -> Turn<'_> {
        Turn { sealing: self, _turn: lock(&self.turn) }
    }
}

impl Turn<'_> {
    /// The threads to seal with, beside those that fill the next packs; none where there is to be only one.
    pub(super) fn pool(&self, threads: usize) -> Result<Option<&rayon::ThreadPool>> {
        if threads <= 1 {
            return Ok(None);
        }
        let pool = &self.sealing.pool;
        if pool.get().is_none() {
            let made = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .thread_name(|_| "dr-seal".to_owned())
                .build()
                .map_err(|error| {
                    Error::new(ErrorKind::Internal, "no thread could be started").with_source(error)
                })?;
            // Only who has the turn makes one.
            let _ = pool.set(made);
        }
        Ok(pool.get())
    }
}
