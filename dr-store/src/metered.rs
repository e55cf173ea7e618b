//! A store that counts what is asked of it.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store};

/// How many calls of each kind were made, failed ones included, and how many bytes they moved.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreCounts {
    /// Calls of `put`.
    pub puts: u64,
    /// Calls of `get`.
    pub gets: u64,
    /// Calls of `get_range`.
    pub range_gets: u64,
    /// Calls of `list`.
    pub lists: u64,
    /// Calls of `list_folder`.
    pub folder_lists: u64,
    /// Calls of `delete`.
    pub deletes: u64,
    /// Calls of `stat`.
    pub stats: u64,
    /// Calls of any kind that failed.
    pub failures: u64,
    /// Bytes of successful puts.
    pub bytes_written: u64,
    /// Bytes of successful reads.
    pub bytes_read: u64,
}

impl StoreCounts {
    /// The calls of all kinds together.
    pub fn calls(&self) -> u64 {
        self.puts + self.gets + self.range_gets + self.lists + self.folder_lists + self.deletes + self.stats
    }

    /// What was counted since the `earlier` snapshot of the same store.
    #[must_use]
    pub fn since(&self, earlier: &StoreCounts) -> StoreCounts {
        StoreCounts {
            puts: self.puts - earlier.puts,
            gets: self.gets - earlier.gets,
            range_gets: self.range_gets - earlier.range_gets,
            lists: self.lists - earlier.lists,
            folder_lists: self.folder_lists - earlier.folder_lists,
            deletes: self.deletes - earlier.deletes,
            stats: self.stats - earlier.stats,
            failures: self.failures - earlier.failures,
            bytes_written: self.bytes_written - earlier.bytes_written,
            bytes_read: self.bytes_read - earlier.bytes_read,
        }
    }
}

/// Passes every call on to another store and counts it.
#[derive(Debug)]
pub struct MeteredStore {
    inner: Arc<dyn Store>,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    puts: AtomicU64,
    gets: AtomicU64,
    range_gets: AtomicU64,
    lists: AtomicU64,
    folder_lists: AtomicU64,
    deletes: AtomicU64,
    stats: AtomicU64,
    failures: AtomicU64,
    bytes_written: AtomicU64,
    bytes_read: AtomicU64,
}

impl MeteredStore {
    /// Wraps `inner`, with all counts at zero.
    pub fn new(inner: Arc<dyn Store>) -> MeteredStore {
        MeteredStore { inner, counters: Counters::default() }
    }

    /// The counts now. While calls are under way they are not one instant's.
    pub fn counts(&self) -> StoreCounts {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let counters = &self.counters;
        StoreCounts {
            puts: load(&counters.puts),
            gets: load(&counters.gets),
            range_gets: load(&counters.range_gets),
            lists: load(&counters.lists),
            folder_lists: load(&counters.folder_lists),
            deletes: load(&counters.deletes),
            stats: load(&counters.stats),
            failures: load(&counters.failures),
            bytes_written: load(&counters.bytes_written),
            bytes_read: load(&counters.bytes_read),
        }
    }

    fn count<T>(&self, calls: &AtomicU64, result: Result<T>) -> Result<T> {
        add(calls, 1);
        if result.is_err() {
            add(&self.counters.failures, 1);
        }
        result
    }
}

fn add(counter: &AtomicU64, amount: u64) {
    // The counters order nothing else in memory.
    counter.fetch_add(amount, Ordering::Relaxed);
}

impl Store for MeteredStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        let bytes = payload.bytes();
        self.count(&self.counters.puts, self.inner.put(name, payload, mode))?;
        add(&self.counters.bytes_written, bytes);
        Ok(())
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        let bytes = self.count(&self.counters.gets, self.inner.get(name))?;
        add(&self.counters.bytes_read, bytes.len() as u64);
        Ok(bytes)
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let bytes = self.count(&self.counters.range_gets, self.inner.get_range(name, range))?;
        add(&self.counters.bytes_read, bytes.len() as u64);
        Ok(bytes)
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        self.count(&self.counters.lists, self.inner.list(folder, after, visit))
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        self.count(&self.counters.folder_lists, self.inner.list_folder(folder))
    }

    fn delete(&self, name: &Name) -> Result<()> {
        self.count(&self.counters.deletes, self.inner.delete(name))
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.count(&self.counters.stats, self.inner.stat(name))
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
