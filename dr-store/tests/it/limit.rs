//! The store that holds calls back, with a clock that only its own pauses move.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use dr_store::{LimitOptions, LimitStore, MemoryStore, Payload, PutMode, Store};

use crate::{listed, name};

/// A store under limits, and the time that passed for it.
fn limited(options: LimitOptions) -> (LimitStore, Arc<Mutex<Duration>>) {
    let time = Arc::new(Mutex::new(Duration::ZERO));
    let (now, later) = (Arc::clone(&time), Arc::clone(&time));
    let elapsed = Arc::new(move || *now.lock().unwrap());
    let sleep = Arc::new(move |pause| *later.lock().unwrap() += pause);
    (LimitStore::new(Arc::new(MemoryStore::new()), options, elapsed, sleep), time)
}

#[test]
fn rates_are_kept_on_average() {
    let options = LimitOptions {
        upload_bytes_per_second: Some(1000),
        download_bytes_per_second: Some(500),
        ..LimitOptions::default()
    };
    let (store, time) = limited(options);
    for number in 0..10 {
        store.put(&name(&format!("a/{number}")), Payload::from(vec![0; 2000]), PutMode::Create).unwrap();
    }
    // Nine objects are paid for before the tenth is sent, at two seconds each.
    assert_eq!(*time.lock().unwrap(), Duration::from_secs(18));
    for number in 0..4 {
        store.get(&name(&format!("a/{number}"))).unwrap();
        store.get_range(&name(&format!("a/{number}")), 0..500).unwrap();
    }
    // Downloads have an account of their own: three of 5 seconds, and the last range waits for its object.
    assert_eq!(*time.lock().unwrap(), Duration::from_secs(18 + 3 * 5 + 4));
    // Time that passes unused is not saved up.
    *time.lock().unwrap() += Duration::from_secs(1000);
    let before = *time.lock().unwrap();
    store.get(&name("a/0")).unwrap();
    store.get(&name("a/1")).unwrap();
    assert_eq!(*time.lock().unwrap() - before, Duration::from_secs(4));
}

/// Counts how many puts are under way at once, and how many bytes they hold.
#[derive(Debug, Default)]
struct Crowd {
    inner: MemoryStore,
    calls: AtomicUsize,
    bytes: AtomicUsize,
    most: Mutex<(usize, usize)>,
}

impl Store for Crowd {
    fn put(&self, name: &dr_store::Name, payload: Payload, mode: PutMode) -> dr_store::Result<()> {
        let bytes = payload.bytes() as usize;
        let calls = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let held = self.bytes.fetch_add(bytes, Ordering::SeqCst) + bytes;
        {
            let mut most = self.most.lock().unwrap();
            *most = (most.0.max(calls), most.1.max(held));
        }
        thread::sleep(Duration::from_millis(2));
        self.calls.fetch_sub(1, Ordering::SeqCst);
        self.bytes.fetch_sub(bytes, Ordering::SeqCst);
        self.inner.put(name, payload, mode)
    }
    fn get(&self, name: &dr_store::Name) -> dr_store::Result<dr_store::Bytes> {
        self.inner.get(name)
    }
    fn get_range(
        &self,
        name: &dr_store::Name,
        range: std::ops::Range<u64>,
    ) -> dr_store::Result<dr_store::Bytes> {
        self.inner.get_range(name, range)
    }
    fn list(
        &self,
        folder: &str,
        after: Option<&dr_store::Name>,
        visit: &mut dyn FnMut(dr_store::ObjectMeta) -> dr_store::Result<()>,
    ) -> dr_store::Result<()> {
        self.inner.list(folder, after, visit)
    }
    fn list_folder(&self, folder: &str) -> dr_store::Result<dr_store::FolderListing> {
        self.inner.list_folder(folder)
    }
    fn delete(&self, name: &dr_store::Name) -> dr_store::Result<()> {
        self.inner.delete(name)
    }
    fn stat(&self, name: &dr_store::Name) -> dr_store::Result<dr_store::ObjectMeta> {
        self.inner.stat(name)
    }
    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}

#[test]
fn connections_and_bytes_in_flight_are_bounded_and_large_objects_pass_alone() {
    let crowd = Arc::new(Crowd::default());
    let options = LimitOptions { connections: 3, bytes_in_flight: 1000, ..LimitOptions::default() };
    let store = LimitStore::new(crowd.clone(), options, Arc::new(|| Duration::ZERO), Arc::new(|_| {}));
    thread::scope(|scope| {
        for number in 0..24 {
            let store = &store;
            scope.spawn(move || {
                let bytes = if number % 8 == 0 { 5000 } else { 300 };
                let object = name(&format!("a/{number}"));
                store.put(&object, Payload::from(vec![0; bytes]), PutMode::Create).unwrap();
            });
        }
    });
    let (calls, bytes) = *crowd.most.lock().unwrap();
    assert!(calls <= 3, "{calls} calls at once");
    assert!(bytes <= 5000, "{bytes} bytes at once");
    assert_eq!(listed(&store).len(), 24);
}
