//! A store that holds calls back, so that they use no more of the network and of memory than they may.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Sleep, Store};

/// Says how long ago some fixed instant was. The caller supplies it, so that a test need not wait.
pub type Elapsed = Arc<dyn Fn() -> Duration + Send + Sync>;

/// What a get of a whole object is taken for while its length is not known.
const GET_BYTES_ASSUMED: u64 = 1 << 20;

/// How much may be under way at once, and how fast.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitOptions {
    /// How many calls may be under way; 0 counts as 1.
    pub connections: usize,
    /// How many bytes they may move together. A call that alone moves more is made alone.
    pub bytes_in_flight: u64,
    /// How many bytes a second are sent at most, on average; 0 counts as 1.
    pub upload_bytes_per_second: Option<u64>,
    /// How many bytes a second are fetched at most, on average; 0 counts as 1.
    pub download_bytes_per_second: Option<u64>,
}

impl Default for LimitOptions {
    fn default() -> LimitOptions {
        LimitOptions {
            connections: 32,
            bytes_in_flight: 256 << 20,
            upload_bytes_per_second: None,
            download_bytes_per_second: None,
        }
    }
}

/// Passes every call on to another store, when its turn has come.
///
/// Calls are let through in the order in which they were made. A rate is kept over whole objects: one is moved as fast
/// as the line allows, and the next begins when the time for the last has passed. A listing is never held back,
/// because its visitor may call the store.
pub struct LimitStore {
    inner: Arc<dyn Store>,
    options: LimitOptions,
    traffic: Mutex<Traffic>,
    changed: Condvar,
    upload: Option<Rate>,
    download: Option<Rate>,
    elapsed: Elapsed,
    sleep: Sleep,
}

#[derive(Debug, Default)]
struct Traffic {
    /// The number that the next call draws, and the number whose turn it is.
    next_ticket: u64,
    turn: u64,
    calls: usize,
    bytes: u64,
}

/// A bucket of tokens, kept as the time at which what was taken is paid for.
#[derive(Debug)]
struct Rate {
    bytes_per_second: u64,
    paid_at: Mutex<Duration>,
}

impl Rate {
    fn new(bytes_per_second: u64) -> Rate {
        Rate { bytes_per_second: bytes_per_second.max(1), paid_at: Mutex::default() }
    }

    /// Takes so many bytes, and says how long to wait for what was taken before.
    fn take(&self, bytes: u64, now: Duration) -> Duration {
        let mut paid_at = lock(&self.paid_at);
        let begin = (*paid_at).max(now);
        let nanoseconds = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        *paid_at = begin.saturating_add(Duration::from_nanos(u64::try_from(nanoseconds).unwrap_or(u64::MAX)));
        begin - now
    }
}

/// The room of a call under way; dropping it lets the next one through.
struct Room<'a> {
    store: &'a LimitStore,
    bytes: u64,
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        let mut traffic = lock(&self.store.traffic);
        traffic.calls -= 1;
        traffic.bytes -= self.bytes;
        self.store.changed.notify_all();
    }
}

impl LimitStore {
    /// Wraps `inner`. Times are taken from `elapsed`, and rates kept with `sleep`.
    pub fn new(inner: Arc<dyn Store>, options: LimitOptions, elapsed: Elapsed, sleep: Sleep) -> LimitStore {
        LimitStore {
            inner,
            options,
            traffic: Mutex::default(),
            changed: Condvar::new(),
            upload: options.upload_bytes_per_second.map(Rate::new),
            download: options.download_bytes_per_second.map(Rate::new),
            elapsed,
            sleep,
        }
    }

    /// Waits for the turn of a call that moves so many bytes.
    fn room(&self, bytes: u64) -> Room<'_> {
        let mut traffic = lock(&self.traffic);
        let ticket = traffic.next_ticket;
        traffic.next_ticket += 1;
        while traffic.turn != ticket || !self.fits(&traffic, bytes) {
            traffic = self.changed.wait(traffic).unwrap_or_else(PoisonError::into_inner);
        }
        traffic.turn += 1;
        traffic.calls += 1;
        traffic.bytes += bytes;
        self.changed.notify_all();
        Room { store: self, bytes }
    }

    fn fits(&self, traffic: &Traffic, bytes: u64) -> bool {
        let is_room_for_bytes =
            traffic.bytes == 0 || traffic.bytes.saturating_add(bytes) <= self.options.bytes_in_flight;
        traffic.calls < self.options.connections.max(1) && is_room_for_bytes
    }

    fn pace(&self, rate: Option<&Rate>, bytes: u64) {
        let pause = rate.map_or(Duration::ZERO, |rate| rate.take(bytes, (self.elapsed)()));
        if !pause.is_zero() {
            (self.sleep)(pause);
        }
    }
}

/// A panic of another thread cannot leave a number half written.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl fmt::Debug for LimitStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitStore")
            .field("inner", &self.inner)
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Store for LimitStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        let bytes = payload.bytes();
        self.pace(self.upload.as_ref(), bytes);
        let _room = self.room(bytes);
        self.inner.put(name, payload, mode)
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        // What was fetched before is paid for first; what this call fetches is known only at its end.
        self.pace(self.download.as_ref(), 0);
        let _room = self.room(GET_BYTES_ASSUMED);
        let bytes = self.inner.get(name)?;
        if let Some(rate) = &self.download {
            rate.take(bytes.len() as u64, (self.elapsed)());
        }
        Ok(bytes)
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let bytes = range.end.saturating_sub(range.start);
        self.pace(self.download.as_ref(), 0);
        let _room = self.room(bytes);
        let read = self.inner.get_range(name, range)?;
        if let Some(rate) = &self.download {
            rate.take(read.len() as u64, (self.elapsed)());
        }
        Ok(read)
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        self.inner.list(folder, after, visit)
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        let _room = self.room(0);
        self.inner.list_folder(folder)
    }

    fn delete(&self, name: &Name) -> Result<()> {
        let _room = self.room(0);
        self.inner.delete(name)
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        let _room = self.room(0);
        self.inner.stat(name)
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
