//! Packs that are being sealed and put: on all threads, while the next ones are filled as far as there is room for both.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::observer::lock;
use crate::threads::Threads;

/// Counts the packs that are being sealed and put, so that no more is gathered than memory is meant for.
#[derive(Debug)]
pub(super) struct Sealing {
    /// Bytes of open packs and of those under way, together: mostly one pack is sealed while the one before it is put and the
    /// next ones are filled.
    bytes_max: usize,
    threads: OnceLock<Threads>,
    bytes: Mutex<usize>,
    ended: Condvar,
}

/// The right to seal and put a pack, until it is dropped.
pub(super) struct Turn<'s> {
    sealing: &'s Sealing,
    bytes: usize,
}

impl Sealing {
    pub(super) fn new(bytes_max: usize) -> Sealing {
        Sealing { bytes_max, threads: OnceLock::new(), bytes: Mutex::default(), ended: Condvar::new() }
    }

    /// Begins with a pack of so many bytes. That takes no more memory than the open pack did, so nobody waits for it.
    pub(super) fn begin(&self, bytes: usize) -> Turn<'_> {
        *lock(&self.bytes) += bytes;
        Turn { sealing: self, bytes }
    }

    /// Waits until open packs may hold so many bytes beside those that are under way, or none are.
    pub(super) fn wait_for_room(&self, open_bytes: usize) {
        let mut under_way = lock(&self.bytes);
        while *under_way > 0 && *under_way + open_bytes > self.bytes_max {
            under_way = self.ended.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Turn<'_> {
    /// The threads to seal with, beside those that fill the next packs.
    pub(super) fn threads(&self, count: usize) -> Result<&Threads> {
        let _only_one_makes_them = lock(&self.sealing.bytes);
        let threads = &self.sealing.threads;
        if threads.get().is_none() {
            let _ = threads.set(Threads::new(count, "dr-seal")?);
        }
        threads.get().ok_or_else(|| Error::new(ErrorKind::Internal, "no thread could be started"))
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *lock(&self.sealing.bytes) -= self.bytes;
        self.sealing.ended.notify_all();
    }
}
