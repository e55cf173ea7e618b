//! Repositories on a store that cannot decide who creates a name.

use std::sync::Arc;

use dr_core::{
    BackupOptions, CancelToken, Context, CreateOptions, ErrorKind, PruneOptions, Repository,
    RepositoryOptions, RestoreOptions, SnapshotFilter,
};
use dr_store::sim::SimStore;
use dr_store::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::repo::{key, noise};
use tempfile::tempdir;

/// A store that knows no conditional put, or that ignores the condition.
#[derive(Debug, Clone)]
struct Careless {
    inner: SimStore,
    ignores: bool,
}

impl Store for Careless {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        if mode == PutMode::Create && !self.ignores {
            return Err(StoreError::new(StoreErrorKind::Unsupported, "put", name.as_str()));
        }
        self.inner.put(name, payload, PutMode::Replace)
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
    fn delete(&self, name: &Name) -> Result<()> {
        self.inner.delete(name)
    }
    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.inner.stat(name)
    }
    fn endpoint(&self) -> String {
        "careless:".to_owned()
    }
}

fn careless(inner: &SimStore, ignores: bool) -> Arc<dyn Store> {
    Arc::new(Careless { inner: inner.clone(), ignores })
}

fn create(store: Arc<dyn Store>) -> dr_core::Result<Repository> {
    let mut options = CreateOptions::new();
    options.siblings = true;
    Repository::create(store, &key(), &options, RepositoryOptions::new())
}

fn open(store: Arc<dyn Store>) -> Repository {
    Repository::open(store, &key(), RepositoryOptions::new()).unwrap()
}

fn backup(repository: &Repository, host: &str, seed: u64) -> Vec<u8> {
    let bytes = noise(seed, 50_000);
    let mut source = MemorySource { paths: vec!["/data".into()], ..MemorySource::default() };
    source.files.insert(
        "file".to_owned(),
        MemoryFile {
            bytes: bytes.clone(),
            changed: Some(i128::from(seed + 1) * 1_000_000_000),
            ..MemoryFile::default()
        },
    );
    let cancel = CancelToken::new();
    let options = BackupOptions::new().host(host);
    let _ =
        repository.backup(&SharedSource(Arc::new(source)), &options, &Context::new(&(), &cancel)).unwrap();
    bytes
}

fn check(repository: &Repository) -> dr_core::CheckReport {
    let cancel = CancelToken::new();
    let options = dr_core::CheckOptions::new().read_data();
    repository.check(&options, &Context::new(&(), &cancel)).unwrap()
}

fn assert_restores(repository: &Repository, host: &str, bytes: &[u8]) {
    let mut filter = SnapshotFilter::new();
    filter.hosts.push(host.to_owned());
    let snapshot = repository.find_snapshot("latest", &filter).unwrap();
    let target = tempdir().unwrap();
    let cancel = CancelToken::new();
    let context = Context::new(&(), &cancel);
    let report = repository.restore(&snapshot, target.path(), &RestoreOptions::new(), &context).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert!(std::fs::read(target.path().join("file")).unwrap() == bytes);
}

#[test]
fn a_store_that_does_not_decide_is_refused_unless_asked_for() {
    for ignores in [false, true] {
        let inner = SimStore::new();
        let store = careless(&inner, ignores);
        let made = Repository::create(store.clone(), &key(), &CreateOptions::new(), RepositoryOptions::new());
        let error = made.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StoreFailed, "{error}");
        assert!(error.remedy().unwrap().contains("--siblings"));
        assert!(inner.objects().is_empty(), "something was left behind");
        create(store.clone()).unwrap();
        assert_eq!(create(store).unwrap_err().kind(), ErrorKind::AlreadyExists);
    }
}

#[test]
fn several_writers_at_once_lose_nothing() {
    for ignores in [false, true] {
        let store = careless(&SimStore::new(), ignores);
        create(store.clone()).unwrap();
        let written: Vec<(String, Vec<u8>)> = std::thread::scope(|scope| {
            let hosts: Vec<_> = (0..6u64)
                .map(|number| {
                    let store = store.clone();
                    scope.spawn(move || {
                        let repository = open(store);
                        let host = format!("host {number}");
                        let mut last = Vec::new();
                        for round in 0..4 {
                            last = backup(&repository, &host, number * 100 + round);
                        }
                        (host, last)
                    })
                })
                .collect();
            hosts.into_iter().map(|host| host.join().unwrap()).collect()
        });
        let repository = open(store);
        assert_eq!(repository.snapshots(&SnapshotFilter::new()).unwrap().len(), 24);
        let report = check(&repository);
        assert!(report.is_intact() && !report.create_if_absent, "{report:?}");
        for (host, bytes) in written {
            assert_restores(&repository, &host, &bytes);
        }
    }
}

#[test]
fn garbage_is_collected_only_on_a_promise() {
    let store = careless(&SimStore::new(), false);
    let repository = create(store.clone()).unwrap();
    backup(&repository, "a", 1);
    let kept = backup(&repository, "b", 2);
    let mut filter = SnapshotFilter::new();
    filter.hosts.push("a".to_owned());
    let old = repository.find_snapshot("latest", &filter).unwrap();
    repository.forget(&[old.id]).unwrap();
    let cancel = CancelToken::new();
    let context = Context::new(&(), &cancel);
    let mut options = PruneOptions::new();
    let refused = repository.prune(&options, &context).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.remedy().unwrap().contains("--exclusive"));
    options.exclusive = true;
    let report = repository.prune(&options, &context).unwrap();
    assert!(report.objects_deleted > 0 && report.collected == [old.id], "{report:?}");
    let repository = open(store);
    assert!(check(&repository).is_intact());
    assert_restores(&repository, "b", &kept);
}

#[test]
fn a_writer_beside_a_collection_is_told_that_its_entry_is_void() {
    let inner = SimStore::new();
    let store = careless(&inner, false);
    let repository = create(store.clone()).unwrap();
    backup(&repository, "a", 1);
    let before = inner.objects();
    // One writer takes the only snapshot over while a collector, who promised to be alone, removes it.
    let second = backup(&repository, "a", 2);
    let late: Vec<_> = inner.objects().into_iter().filter(|object| !before.contains(object)).collect();
    for (name, _) in late.iter().filter(|(name, _)| name.as_str().starts_with("log/")) {
        inner.remove(name).unwrap();
    }
    let collector = open(store.clone());
    let cancel = CancelToken::new();
    let context = Context::new(&(), &cancel);
    let snapshot = collector.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
    collector.forget(&[snapshot.id]).unwrap();
    let mut options = PruneOptions::new();
    (options.exclusive, options.leftover_age) = (true, std::time::Duration::ZERO);
    let _ = collector.prune(&options, &context).unwrap();
    // Now the writer's entry arrives, in a slot before the collection's.
    for (name, bytes) in late.into_iter().filter(|(name, _)| name.as_str().starts_with("log/")) {
        store.put(&name, bytes.into(), PutMode::Replace).unwrap();
    }
    let report = check(&open(store));
    assert!(!report.is_intact(), "a snapshot whose packs are gone passed for whole");
    drop(second);
}

#[test]
fn a_lost_entry_is_noticed() {
    let inner = SimStore::new();
    let store = careless(&inner, false);
    let repository = create(store.clone()).unwrap();
    for number in 0..3 {
        backup(&repository, "a", number);
    }
    let entries: Vec<Name> = inner
        .objects()
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| name.as_str().starts_with("log/"))
        .collect();
    assert_eq!(entries.len(), 4);
    for name in &entries[1..3] {
        let image = inner.crash_image();
        image.remove(name).unwrap();
        assert!(!check(&open(careless(&image, false))).is_intact(), "{name} was not missed");
    }
}

/// A machine that has read the log before asks for the newest entries and for the names of all others.
#[test]
fn entries_that_were_read_before_are_not_read_again() {
    let inner = SimStore::new();
    let store = careless(&inner, false);
    let repository = create(store.clone()).unwrap();
    for number in 0..10 {
        backup(&repository, "a", number);
    }
    let cache = tempdir().unwrap();
    let open_cached = || {
        let options = RepositoryOptions::new().cache_dir(cache.path());
        Repository::open(store.clone(), &key(), options).unwrap()
    };
    let is_read = |call: &dr_store::sim::Call| {
        call.kind == dr_store::sim::CallKind::Get && call.object.starts_with("log/")
    };
    let reads = || inner.calls().iter().filter(|call| is_read(call)).count();
    inner.clear_calls();
    let first = open_cached();
    assert_eq!(reads(), 11);
    inner.clear_calls();
    let second = open_cached();
    assert_eq!(reads(), 1, "the newest only");
    let ids = |repository: &Repository| {
        let all = repository.snapshots(&SnapshotFilter::new()).unwrap();
        all.into_iter().map(|snapshot| snapshot.id).collect::<Vec<_>>()
    };
    assert_eq!(ids(&first), ids(&second));
    backup(&repository, "b", 100);
    inner.clear_calls();
    assert_eq!(ids(&open_cached()).len(), 11);
    // One that is new, and the one below it, which was the newest.
    assert!(reads() <= 4, "{}", reads());

    // A copy that is bad, or another entry's, is none.
    let folder = cache.path().join(repository.id()).join("log/fffffffffffff");
    let mut copies: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    copies.sort();
    assert_eq!(copies.len(), 12);
    std::fs::write(&copies[3], std::fs::read(&copies[4]).unwrap()).unwrap();
    let mut bytes = std::fs::read(&copies[6]).unwrap();
    bytes[120] ^= 1;
    std::fs::write(&copies[6], bytes).unwrap();
    assert_eq!(ids(&open_cached()), ids(&repository));
    assert!(check(&open_cached()).is_intact());

    // An entry that the store lost counts no more, whatever this machine remembers of it.
    let lost =
        inner.objects().into_iter().map(|(name, _)| name).filter(|name| name.as_str().starts_with("log/"));
    inner.remove(&lost.collect::<Vec<_>>()[5]).unwrap();
    assert!(!check(&open_cached()).is_intact());
    assert_eq!(ids(&open_cached()), ids(&open(store.clone())));
    assert!(ids(&open_cached()).len() < 11);
}
