//! The probe, against stores that keep the promise of a create and stores that break it in the ways seen.

use std::sync::Mutex;

use dr_store::probe::{CreateSupport, probe_create};
use dr_store::{
    Bytes, FolderListing, LocalStore, MemoryStore, Name, ObjectMeta, Payload, PutMode, Result, Store,
    StoreError, StoreErrorKind,
};

use crate::listed;

/// How a store treats a create that meets an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Habit {
    /// It overwrites, and says that all is well.
    Ignores,
    /// It overwrites, and says that it did not.
    Lies,
    /// It checks first and writes later.
    ChecksEarly,
    /// It refuses such a put.
    Refuses,
    /// It keeps the promise and lets nobody delete.
    KeepsForever,
}

#[derive(Debug)]
struct Strange {
    inner: MemoryStore,
    habit: Habit,
    turn: Mutex<()>,
}

impl Store for Strange {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        let fail = |kind| StoreError::new(kind, "put", name.as_str());
        match self.habit {
            Habit::Ignores => self.inner.put(name, payload, PutMode::Replace),
            Habit::Refuses => Err(fail(StoreErrorKind::Unsupported)),
            Habit::KeepsForever => self.inner.put(name, payload, mode),
            Habit::Lies => {
                let is_taken = self.inner.stat(name).is_ok();
                self.inner.put(name, payload, PutMode::Replace)?;
                if is_taken { Err(fail(StoreErrorKind::AlreadyExists)) } else { Ok(()) }
            }
            Habit::ChecksEarly => {
                if self.inner.stat(name).is_ok() {
                    return Err(fail(StoreErrorKind::AlreadyExists));
                }
                std::thread::sleep(std::time::Duration::from_millis(20));
                let _turn = self.turn.lock().unwrap();
                self.inner.put(name, payload, PutMode::Replace)
            }
        }
    }
    fn delete(&self, name: &Name) -> Result<()> {
        if self.habit == Habit::KeepsForever {
            return Err(StoreError::new(StoreErrorKind::PermissionDenied, "delete", name.as_str()));
        }
        self.inner.delete(name)
    }
    fn get(&self, name: &Name) -> Result<Bytes> {
        self.inner.get(name)
    }
    fn get_range(&self, name: &Name, range: std::ops::Range<u64>) -> Result<Bytes> {
        self.inner.get_range(name, range)
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
        self.inner.list_folder(folder)
    }
    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.inner.stat(name)
    }
    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}

fn probed(habit: Habit) -> (CreateSupport, usize) {
    let store = Strange { inner: MemoryStore::new(), habit, turn: Mutex::new(()) };
    let found = probe_create(&store, [7; 16]).unwrap();
    (found, listed(&store).len())
}

#[test]
fn stores_of_this_machine_create_atomically() {
    let folder = tempfile::tempdir().unwrap();
    let local = LocalStore::create(folder.path()).unwrap();
    let memory = MemoryStore::new();
    for store in [&local as &dyn Store, &memory] {
        assert_eq!(probe_create(store, [1; 16]).unwrap(), CreateSupport::Atomic);
        assert!(listed(store).is_empty());
    }
}

#[test]
fn stores_that_break_the_promise_are_told_apart() {
    assert_eq!(probed(Habit::Ignores), (CreateSupport::Ignored, 0));
    assert_eq!(probed(Habit::Lies), (CreateSupport::Ignored, 0));
    assert_eq!(probed(Habit::Refuses), (CreateSupport::Unsupported, 0));
    let (found, left) = probed(Habit::ChecksEarly);
    assert!(matches!(found, CreateSupport::Racy { winners } if winners > 1), "{found:?}");
    assert_eq!(left, 0);
}

#[test]
fn a_store_that_permits_no_deleting_is_probed_all_the_same() {
    assert_eq!(probed(Habit::KeepsForever), (CreateSupport::Atomic, 5));
}
