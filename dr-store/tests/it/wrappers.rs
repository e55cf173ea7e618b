//! Retrying and metering.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dr_store::sim::SimStore;
use dr_store::{
    Bytes, FolderListing, MemoryStore, MeteredStore, Name, ObjectMeta, Payload, PutMode, Result,
    RetryOptions, RetryStore, Store, StoreCounts, StoreError, StoreErrorKind,
};

use crate::name;

/// What happens to the next call of a [`Scripted`] store.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Next {
    Run,
    Fail(StoreErrorKind),
    RunAndFail,
}

/// A store whose calls follow a script, and then succeed.
#[derive(Debug)]
struct Scripted {
    inner: SimStore,
    script: Mutex<Vec<Next>>,
}

impl Scripted {
    fn call<T>(&self, run: impl FnOnce() -> Result<T>) -> Result<T> {
        let next = {
            let mut script = self.script.lock().unwrap();
            if script.is_empty() { Next::Run } else { script.remove(0) }
        };
        match next {
            Next::Run => run(),
            Next::Fail(kind) => Err(StoreError::new(kind, "scripted", "")),
            Next::RunAndFail => run().and(Err(StoreError::new(StoreErrorKind::Unavailable, "scripted", ""))),
        }
    }
}

impl Store for Scripted {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.call(|| self.inner.put(name, payload, mode))
    }
    fn get(&self, name: &Name) -> Result<Bytes> {
        self.call(|| self.inner.get(name))
    }
    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        self.call(|| self.inner.get_range(name, range))
    }
    /// With `RunAndFail`, fails in the middle: after all objects but the last were visited.
    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        let is_cut = self.script.lock().unwrap().first() == Some(&Next::RunAndFail);
        let mut left = self.inner.objects().len() - usize::from(is_cut);
        self.call(|| {
            self.inner.list(folder, after, &mut |object| {
                if left > 0 {
                    left -= 1;
                    visit(object)?;
                }
                Ok(())
            })
        })
    }
    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        self.call(|| self.inner.list_folder(folder))
    }
    fn delete(&self, name: &Name) -> Result<()> {
        self.call(|| self.inner.delete(name))
    }
    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.call(|| self.inner.stat(name))
    }
    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}

/// A retrying store over a script, the simulator below, and the pauses made.
fn retrying(script: &[Next]) -> (RetryStore, SimStore, Arc<Mutex<Vec<Duration>>>) {
    let sim = SimStore::new();
    let scripted = Scripted { inner: sim.clone(), script: Mutex::new(script.to_vec()) };
    let pauses = Arc::new(Mutex::new(Vec::new()));
    let sleep = {
        let pauses = Arc::clone(&pauses);
        Arc::new(move |pause| pauses.lock().unwrap().push(pause))
    };
    let options = RetryOptions {
        attempts_max: 4,
        first_delay: Duration::from_millis(100),
        delay_max: Duration::from_millis(300),
        seed: 42,
    };
    (RetryStore::new(Arc::new(scripted), options, sleep), sim, pauses)
}

const DOWN: Next = Next::Fail(StoreErrorKind::Unavailable);

#[test]
fn pauses_double_up_to_a_limit_with_jitter() {
    let (store, _, pauses) = retrying(&[DOWN; 10]);
    assert_eq!(store.get(&name("a")).unwrap_err().kind(), StoreErrorKind::Unavailable);
    let first = pauses.lock().unwrap().clone();
    assert_eq!(first.len(), 3, "four attempts are three pauses");
    for (pause, longest_ms) in first.iter().zip([100, 200, 300]) {
        let longest = Duration::from_millis(longest_ms);
        assert!(*pause >= longest / 2 && *pause <= longest, "{pause:?} of {longest:?}");
    }
    // Another store of the same seed pauses alike; the same store does not repeat itself.
    let (other, _, other_pauses) = retrying(&[DOWN; 10]);
    other.get(&name("a")).unwrap_err();
    assert_eq!(*other_pauses.lock().unwrap(), first);
    store.get(&name("a")).unwrap_err();
    assert_ne!(pauses.lock().unwrap()[3..], first[..]);
}

#[test]
fn only_retryable_failures_are_retried() {
    let kinds = [StoreErrorKind::NotFound, StoreErrorKind::PermissionDenied, StoreErrorKind::StorageFull];
    for kind in kinds {
        let (store, sim, pauses) = retrying(&[Next::Fail(kind)]);
        assert_eq!(store.get(&name("a")).unwrap_err().kind(), kind);
        assert!(pauses.lock().unwrap().is_empty());
        assert_eq!(sim.call_count(), 0);
    }
}

#[test]
fn an_unclear_create_is_made_clear() {
    let bytes = || Payload::from_parts(vec!["on".into(), "".into(), "e".into()]);
    // The first attempt had its effect.
    let (store, ..) = retrying(&[Next::RunAndFail]);
    store.put(&name("a"), bytes(), PutMode::Create).unwrap();
    // Another writer was faster, with other bytes: longer, shorter, or different.
    for theirs in ["one more", "on", "two"] {
        let (store, sim, _) = retrying(&[DOWN]);
        sim.put(&name("a"), Payload::from(theirs), PutMode::Create).unwrap();
        let lost = store.put(&name("a"), bytes(), PutMode::Create).unwrap_err();
        assert_eq!(lost.kind(), StoreErrorKind::AlreadyExists);
        assert_eq!(sim.get(&name("a")).unwrap(), theirs);
    }
    // A create that was answered at once is not doubted, even where the bytes are the same.
    let (store, ..) = retrying(&[]);
    store.put(&name("a"), bytes(), PutMode::Create).unwrap();
    let again = store.put(&name("a"), bytes(), PutMode::Create).unwrap_err();
    assert_eq!(again.kind(), StoreErrorKind::AlreadyExists);
    // Where it cannot be read back, the outcome stays unclear.
    let denied = Next::Fail(StoreErrorKind::PermissionDenied);
    let (store, ..) = retrying(&[Next::RunAndFail, Next::Run, denied]);
    let unclear = store.put(&name("a"), bytes(), PutMode::Create).unwrap_err();
    assert_eq!(unclear.kind(), StoreErrorKind::PermissionDenied);
}

#[test]
fn an_unclear_deletion_is_made_clear() {
    let (store, sim, _) = retrying(&[Next::RunAndFail]);
    sim.put(&name("a"), Payload::from("x"), PutMode::Create).unwrap();
    store.delete(&name("a")).unwrap();
    assert_eq!(store.delete(&name("a")).unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[test]
fn a_listing_made_again_visits_nothing_twice() {
    let (store, sim, _) = retrying(&[DOWN, Next::RunAndFail, Next::RunAndFail]);
    for text in ["a", "b", "c"] {
        sim.put(&name(text), Payload::from("x"), PutMode::Create).unwrap();
    }
    assert_eq!(crate::listed(&store), ["a", "b", "c"]);
}

#[test]
fn every_kind_of_call_is_counted() {
    let store = MeteredStore::new(Arc::new(MemoryStore::new()));
    let a = name("a");
    store.put(&a, Payload::from("12345"), PutMode::Create).unwrap();
    store.put(&a, Payload::from("12345"), PutMode::Create).unwrap_err();
    let before = store.counts();
    store.get(&a).unwrap();
    store.get_range(&a, 1..3).unwrap();
    store.get_range(&a, 1..30).unwrap_err();
    store.list("", None, &mut |_| Ok(())).unwrap();
    store.list_folder("").unwrap();
    store.stat(&a).unwrap();
    store.delete(&a).unwrap();
    let after = StoreCounts {
        gets: 1,
        range_gets: 2,
        lists: 1,
        folder_lists: 1,
        stats: 1,
        deletes: 1,
        failures: 1,
        bytes_read: 7,
        ..StoreCounts::default()
    };
    assert_eq!(before, StoreCounts { puts: 2, failures: 1, bytes_written: 5, ..StoreCounts::default() });
    assert_eq!(store.counts().since(&before), after);
    assert_eq!(store.counts().calls(), 9);
}
