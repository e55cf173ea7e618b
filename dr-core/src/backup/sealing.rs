//! Packs that are being sealed and put: on all threads, and only so many bytes at once.

use std::sync::{Condvar, Mutex, OnceLock, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::observer::lock;
use crate::threads::Threads;

/// Bytes of packs under way at once, unless it is one: mostly one pack is sealed while the one before it is put.
const BYTES_MAX: usize = 32 << 20;

/// Lets packs be sealed and put, as long as they do not take too much memory together.
#[derive(Debug, Default)]
pub(super) struct Sealing {
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
    /// Waits until there is room for a pack of so many bytes.
    pub(super) fn begin(&self, bytes: usize) -> Turn<'_> {
        let mut under_way = lock(&self.bytes);
        while *under_way > 0 && *under_way + bytes > BYTES_MAX {
            under_way = self.ended.wait(under_way).unwrap_or_else(PoisonError::into_inner);
        }
        *under_way += bytes;
        Turn { sealing: self, bytes }
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
