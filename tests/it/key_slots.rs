//! The passwords and keys of a repository: what is added opens it, what is taken out does not, and whatever happens in between
//! leaves at least one that does.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use dr_core::{
    CreateOptions, Credentials, Error, ErrorKind, KeySlotOptions, ObjectHash, Repository, RepositoryOptions,
    SnapshotFilter,
};
use dr_store::sim::SimStore;
use dr_store::{
    Bytes, FolderListing, MemoryStore, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError,
    StoreErrorKind,
};
use dr_tests::hook::HookStore;
use dr_tests::steps::{Workshop, backup, check};
use dr_tests::{TestClock, TestEntropy, TestRepo, TreeSpec, key};

use crate::crash::at_every_call;

fn numbered(number: u8) -> Credentials {
    Credentials::key([number; 32])
}

fn labelled(label: &str) -> KeySlotOptions {
    let mut options = KeySlotOptions::new();
    options.label = label.to_owned();
    options
}

fn open_as(store: Arc<dyn Store>, credentials: &Credentials, seed: u64) -> dr_core::Result<Repository> {
    let options = RepositoryOptions::new()
        .with_clock(Arc::new(TestClock::default()))
        .with_entropy(Arc::new(TestEntropy::new(seed)));
    Repository::open(store, credentials, options)
}

fn assert_closed(store: Arc<dyn Store>, credentials: &Credentials) {
    let error = open_as(store, credentials, 70).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::WrongCredentials, "{error:?}");
}

fn slots(repository: &Repository) -> Vec<ObjectHash> {
    repository.key_slots().unwrap().iter().map(|slot| slot.id).collect()
}

fn names_in(store: &dyn Store, folder: &str) -> BTreeSet<String> {
    store.list_folder(folder).unwrap().objects.iter().map(|meta| meta.name.to_string()).collect()
}

/// There is one ring, and exactly the slots that it speaks of.
fn assert_tidy(repository: &Repository, store: &dyn Store) {
    assert_eq!(names_in(store, "ring").len(), 1);
    let named = slots(repository).iter().map(|slot| format!("keys/{slot}")).collect();
    assert_eq!(names_in(store, "keys"), named);
    let report = check(repository).unwrap();
    assert!(report.is_intact() && report.notes.is_empty(), "{report:#?}");
}

#[test]
fn keys_are_added_changed_and_removed() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let workshop = Workshop::new();
    TreeSpec::files(&[("a", 5000)]).write(&workshop.source());
    let first = TestRepo::create(store.clone()).unwrap();
    let _ = backup(&first.repository, &workshop.source()).unwrap();
    let added = first.repository.add_key_slot(&numbered(1), &labelled("safe")).unwrap();
    assert!(added.removed.is_none() && added.left_behind.is_empty(), "{added:?}");
    let known = first.repository.key_slots().unwrap();
    assert_eq!(known.iter().map(|slot| slot.is_current).collect::<Vec<_>>(), [true, false]);
    assert_eq!((Some(known[1].id), known[1].label.as_str(), known[1].cost), (added.added, "safe", None));
    assert_tidy(&first.repository, &*store);

    // Whoever has it open goes on, and sees the change.
    let safe = open_as(store.clone(), &numbered(1), 2).unwrap();
    let changed = safe.change_key_slot(&numbered(2), &labelled("new")).unwrap();
    assert_eq!(changed.removed, added.added);
    assert_closed(store.clone(), &numbered(1));
    assert_eq!(slots(&first.repository), [known[0].id, changed.added.unwrap()]);
    let _ = backup(&safe, &workshop.source()).unwrap();
    assert_tidy(&safe, &*store);
    let current = safe.key_slots().unwrap().into_iter().find(|slot| slot.is_current).unwrap();
    assert_eq!((Some(current.id), current.label.as_str()), (changed.added, "new"));

    safe.remove_key_slot(&known[0].id).unwrap();
    assert_closed(store.clone(), &key());
    assert_tidy(&safe, &*store);
    // Who was put out can still back up until it ends, but has no say about keys.
    for denied in
        [first.repository.key_slots().err(), first.repository.add_key_slot(&key(), &labelled("")).err()]
    {
        assert_eq!(denied.unwrap().kind(), ErrorKind::WrongCredentials);
    }
    let last = open_as(store.clone(), &numbered(2), 3).unwrap();
    assert_eq!(last.snapshots(&SnapshotFilter::new()).unwrap().len(), 2);
    // A password costs what was asked for.
    last.add_key_slot(&Credentials::password("p").unwrap(), &labelled("")).unwrap();
    let cost = last.key_slots().unwrap()[1].cost.unwrap();
    assert_eq!((cost.memory_kib, cost.passes, cost.lanes), (64 << 10, 3, 4));
    open_as(store, &Credentials::password("p").unwrap(), 4).unwrap();
}

#[test]
fn what_cannot_be_is_refused_and_changes_nothing() {
    let repo = TestRepo::in_memory();
    let repository = &repo.repository;
    let own = slots(repository)[0];
    let kind = |outcome: dr_core::Result<_>| outcome.map(drop).map_err(|error: Error| error.kind());
    let before = names_in(&*repo.store, "ring");
    assert_eq!(kind(repository.add_key_slot(&key(), &labelled(""))), Err(ErrorKind::AlreadyExists));
    assert_eq!(kind(repository.remove_key_slot(&own)), Err(ErrorKind::InvalidInput));
    let nobody = ObjectHash::from_bytes([7; 32]);
    assert_eq!(kind(repository.remove_key_slot(&nobody)), Err(ErrorKind::NotFound));
    let long = labelled(&"x".repeat(129));
    assert_eq!(kind(repository.add_key_slot(&numbered(1), &long)), Err(ErrorKind::InvalidInput));
    assert_eq!(names_in(&*repo.store, "ring"), before);
    assert_tidy(repository, &*repo.store);
    // The same secret again, to have another label.
    repository.change_key_slot(&key(), &labelled("again")).unwrap();
    assert_ne!(slots(repository), [own]);
    assert_tidy(repository, &*repo.store);
    for number in 100..163 {
        repository.add_key_slot(&numbered(number), &labelled("")).unwrap();
    }
    assert_eq!(kind(repository.add_key_slot(&numbered(1), &labelled(""))), Err(ErrorKind::LimitExceeded));
    open_as(repo.store.clone(), &numbered(162), 9).unwrap();
}

/// What a test does with a repository that has the keys `key()` and 1.
type Change = fn(&Repository) -> dr_core::Result<()>;

#[test]
fn a_crash_at_any_call_of_a_change_leaves_a_key_that_opens() {
    let changes: [(Change, &[u8], &[u8]); 3] = [
        (|repository| repository.add_key_slot(&numbered(2), &labelled("")).map(drop), &[1], &[1, 2]),
        (|repository| repository.change_key_slot(&numbered(2), &labelled("")).map(drop), &[1], &[1, 2]),
        (|repository| repository.remove_key_slot(&repository.key_slots()?[1].id).map(drop), &[1], &[]),
    ];
    for (number, (change, before, after)) in changes.into_iter().enumerate() {
        let start = SimStore::new();
        let repo = TestRepo::create(Arc::new(start.clone())).unwrap();
        repo.repository.add_key_slot(&numbered(1), &labelled("")).unwrap();
        let visited = at_every_call(
            &start,
            &|store, seed, _| change(&TestRepo::open(Arc::new(store.clone()), seed)?.repository),
            &|wreck| {
                let store: Arc<dyn Store> = Arc::new(wreck.store.clone());
                let opens = |number: &u8| open_as(store.clone(), &numbered(*number), wreck.seed).is_ok();
                let own = TestRepo::open(store.clone(), wreck.seed).ok();
                let is_after =
                    after.iter().all(opens) && (number != 2 || !opens(&1)) && (number != 1 || own.is_none());
                assert!(is_after || (before.iter().all(opens) && own.is_some()), "change {number}");
                // Whoever is left can make another change, which sweeps up.
                let repository = match own {
                    Some(repo) => repo.repository,
                    None => open_as(store.clone(), &numbered(2), wreck.seed + 500).unwrap(),
                };
                repository.add_key_slot(&numbered(9), &labelled("")).unwrap();
                assert_eq!(names_in(&*store, "ring").len(), 1);
                assert!(check(&repository).unwrap().is_intact());
                open_as(store.clone(), &numbered(9), wreck.seed + 600).unwrap();
            },
        );
        assert!(visited >= 20, "{visited}");
    }
}

/// At every call of one change another one is made by somebody else: both count.
#[test]
fn two_changes_at_once_both_count() {
    for call in 0.. {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let repo = TestRepo::create(store.clone()).unwrap();
        repo.repository.add_key_slot(&numbered(4), &labelled("")).unwrap();
        let rival = store.clone();
        let add_rival = move || {
            let rival = open_as(rival, &numbered(4), 5).unwrap();
            rival.add_key_slot(&numbered(5), &labelled("")).unwrap();
        };
        let hooked =
            Arc::new(HookStore::new(store.clone(), move |upcoming| upcoming.number == call, add_rival));
        let repository = open_as(hooked.clone(), &key(), 6).unwrap();
        repository.change_key_slot(&numbered(6), &labelled("")).unwrap();
        if !hooked.has_run() {
            assert!(call > 20, "{call}");
            return;
        }
        assert_closed(store.clone(), &key());
        let both = open_as(store.clone(), &numbered(5), 7).unwrap();
        assert_eq!(slots(&both).len(), 3, "call {call}");
        open_as(store.clone(), &numbered(6), 8).unwrap();
        assert_tidy(&both, &*store);
    }
}

/// At every call of an opening somebody else changes the keys: it opens all the same.
#[test]
fn a_repository_opens_while_its_keys_are_changed() {
    for call in 0.. {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let repo = TestRepo::create(store.clone()).unwrap();
        repo.repository.add_key_slot(&numbered(1), &labelled("")).unwrap();
        let change = move || {
            repo.repository.change_key_slot(&numbered(2), &labelled("")).unwrap();
        };
        let hooked = Arc::new(HookStore::new(store.clone(), move |upcoming| upcoming.number == call, change));
        let repository = open_as(hooked.clone(), &numbered(1), 6).unwrap();
        if !hooked.has_run() {
            assert!(call > 3, "{call}");
            return;
        }
        assert_eq!(slots(&repository).len(), 2, "call {call}");
    }
}

/// A store that lets nobody delete, or, from some moment on, gives back other bytes of a folder than it was given.
#[derive(Debug)]
struct Odd {
    inner: Arc<dyn Store>,
    denies: bool,
    alters: Mutex<Option<&'static str>>,
}

impl Store for Odd {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.inner.put(name, payload, mode)
    }
    fn get(&self, name: &Name) -> Result<Bytes> {
        let bytes = self.inner.get(name)?;
        if !self.alters.lock().unwrap().is_some_and(|folder| name.as_str().starts_with(folder)) {
            return Ok(bytes);
        }
        let mut altered = bytes.to_vec();
        altered[100] ^= 1;
        Ok(altered.into())
    }
    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
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
    fn delete(&self, name: &Name) -> Result<()> {
        if self.denies {
            return Err(StoreError::new(StoreErrorKind::PermissionDenied, "delete", name.as_str()));
        }
        self.inner.delete(name)
    }
    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.inner.stat(name)
    }
    fn create_is_proven(&self) -> bool {
        true
    }
    fn endpoint(&self) -> String {
        "odd:".to_owned()
    }
}

#[test]
fn what_cannot_be_deleted_is_named_and_opens_nothing() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    TestRepo::create(store.clone()).unwrap();
    let odd = Arc::new(Odd { inner: store.clone(), denies: true, alters: Mutex::default() });
    let repository = open_as(odd, &key(), 3).unwrap();
    let old = slots(&repository)[0];
    let change = repository.change_key_slot(&numbered(1), &labelled("")).unwrap();
    assert_eq!(change.left_behind.len(), 2, "{change:?}");
    assert!(change.left_behind.contains(&format!("keys/{old}")), "{change:?}");
    assert_closed(store.clone(), &key());
    // Whoever may delete sweeps up with the next change.
    let repository = open_as(store.clone(), &numbered(1), 4).unwrap();
    assert!(repository.add_key_slot(&numbered(2), &labelled("")).unwrap().left_behind.is_empty());
    assert_tidy(&repository, &*store);
}

#[test]
fn a_store_that_alters_new_keys_changes_nothing() {
    for alters in ["keys/", "ring/"] {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        TestRepo::create(store.clone()).unwrap();
        let odd = Arc::new(Odd { inner: store.clone(), denies: false, alters: Mutex::default() });
        let repository = open_as(odd.clone(), &key(), 5).unwrap();
        *odd.alters.lock().unwrap() = Some(alters);
        let error = repository.change_key_slot(&numbered(1), &labelled("")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{alters}: {error:?}");
        *odd.alters.lock().unwrap() = None;
        assert_closed(store.clone(), &numbered(1));
        assert_eq!(slots(&repository).len(), 1);
        open_as(store, &key(), 6).unwrap();
    }
}

/// The entry that puts a ring in force is damaged, or was not copied with the ring: the new key opens all the same.
#[test]
fn a_lost_entry_locks_nobody_out() {
    let sim = SimStore::new();
    let store: Arc<dyn Store> = Arc::new(sim.clone());
    let workshop = Workshop::new();
    TreeSpec::files(&[("a", 5000)]).write(&workshop.source());
    let repo = TestRepo::create(store.clone()).unwrap();
    let _ = backup(&repo.repository, &workshop.source()).unwrap();
    repo.repository.change_key_slot(&numbered(1), &labelled("")).unwrap();
    let slots_of_log = sim.objects().into_iter().map(|(name, _)| name);
    let entry = slots_of_log.filter(|name| name.as_str().starts_with("log/")).min().unwrap();
    let damages: [fn(&SimStore, &Name) -> Result<()>; 2] =
        [|sim, name| sim.corrupt(name, 200, 1), |sim, name| sim.remove(name)];
    for damage in damages {
        let copy = sim.crash_image();
        damage(&copy, &entry).unwrap();
        let copy: Arc<dyn Store> = Arc::new(copy);
        assert_closed(copy.clone(), &key());
        let opened = open_as(copy, &numbered(1), 9).unwrap();
        assert_eq!(opened.snapshots(&SnapshotFilter::new()).unwrap().len(), 1);
        assert_eq!(slots(&opened).len(), 1);
    }
}

#[test]
fn keys_change_where_slots_hold_siblings() {
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let mut options = CreateOptions::new();
    options.siblings = true;
    let repository = Repository::create(store.clone(), &key(), &options, RepositoryOptions::new()).unwrap();
    repository.add_key_slot(&numbered(1), &labelled("")).unwrap();
    let other = open_as(store.clone(), &numbered(1), 2).unwrap();
    let change = other.remove_key_slot(&slots(&other)[0]).unwrap();
    assert_eq!(change.left_behind.len(), 3, "{change:?}");
    assert_closed(store.clone(), &key());
    assert_eq!(slots(&open_as(store.clone(), &numbered(1), 3).unwrap()).len(), 1);
}
