//! Caches on this machine: listed, and cleaned up without touching what is in use or somebody else's.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dr_core::{
    CacheCleanup, CacheInfo, CreateOptions, Repository, RepositoryOptions, clean_caches, list_caches,
};
use dr_store::MemoryStore;
use dr_tests::steps::{Workshop, backup};
use dr_tests::{Node, TestClock, TreeSpec, key};

/// Makes a repository that keeps its cache in a directory, and backs something up.
fn used(directory: &Path, source: &Path, clock: &Arc<TestClock>) -> Repository {
    let store = Arc::new(MemoryStore::new());
    let options = RepositoryOptions::new().cache_dir(directory).with_clock(clock.clone());
    let repository = Repository::create(store, &key(), &CreateOptions::new(), options).unwrap();
    let mut tree = TreeSpec::default();
    for number in 0..600 {
        tree.put(&format!("{number}"), Node::File { seed: number, bytes: 30 });
    }
    tree.write(source);
    assert!(backup(&repository, source).unwrap().is_complete());
    repository
}

fn ids(caches: &[CacheInfo]) -> Vec<&str> {
    caches.iter().map(|cache| cache.repository.as_str()).collect()
}

const DAY_MS: i64 = 24 * 3600 * 1000;

#[test]
fn caches_are_listed_by_their_last_use_and_the_old_ones_go() {
    let workshop = Workshop::new();
    let (directory, clock) = (workshop.room(), Arc::new(TestClock::default()));
    assert!(list_caches(&directory).unwrap().is_empty());
    let mut repositories = Vec::new();
    for _ in 0..3 {
        repositories.push(used(&directory, &workshop.source(), &clock).id());
        clock.advance_ms(20 * DAY_MS);
    }
    let caches = list_caches(&directory).unwrap();
    assert_eq!(ids(&caches), repositories);
    for cache in &caches {
        assert!(cache.bytes > 10_000 && cache.files >= 2, "{cache:?}");
    }
    let mut cleanup = CacheCleanup::new();
    cleanup.max_age = Some(Duration::from_secs(30 * 24 * 3600));
    cleanup.dry_run = true;
    let report = clean_caches(&directory, &cleanup, &*clock).unwrap();
    assert_eq!((ids(&report.removed).len(), list_caches(&directory).unwrap().len()), (2, 3));
    cleanup.dry_run = false;
    let report = clean_caches(&directory, &cleanup, &*clock).unwrap();
    assert_eq!(ids(&report.removed), repositories[..2]);
    assert_eq!(ids(&list_caches(&directory).unwrap()), repositories[2..]);
    assert!(!directory.join(&repositories[0]).exists());
    assert_eq!(ids(&report.kept), repositories[2..]);
}

#[test]
fn what_was_used_least_recently_goes_first_and_the_newest_can_be_spared() {
    let workshop = Workshop::new();
    let (directory, clock) = (workshop.room(), Arc::new(TestClock::default()));
    for _ in 0..3 {
        used(&directory, &workshop.source(), &clock);
        clock.advance_ms(1000);
    }
    let caches = list_caches(&directory).unwrap();
    let mut cleanup = CacheCleanup::new();
    cleanup.max_bytes = Some(caches[1].bytes + caches[2].bytes);
    assert_eq!(clean_caches(&directory, &cleanup, &*clock).unwrap().removed, caches[..1]);
    cleanup.max_bytes = Some(0);
    cleanup.spare_newest = true;
    assert_eq!(clean_caches(&directory, &cleanup, &*clock).unwrap().removed, caches[1..2]);
    cleanup.spare_newest = false;
    assert_eq!(clean_caches(&directory, &cleanup, &*clock).unwrap().removed, caches[2..]);
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn a_cache_in_use_is_kept_and_what_it_loses_is_only_a_copy() {
    let workshop = Workshop::new();
    let (directory, clock) = (workshop.room(), Arc::new(TestClock::default()));
    let repository = used(&directory, &workshop.source(), &clock);
    let mut cleanup = CacheCleanup::new();
    cleanup.max_bytes = Some(0);
    let report = clean_caches(&directory, &cleanup, &*clock).unwrap();
    assert_eq!((report.removed.len(), report.in_use.len()), (0, 1));
    assert_eq!(list_caches(&directory).unwrap().len(), 1);
    let store = repository.store().clone();
    drop(repository);
    assert_eq!(clean_caches(&directory, &cleanup, &*clock).unwrap().removed.len(), 1);
    let options = RepositoryOptions::new().cache_dir(&directory).with_clock(clock);
    let repository = Repository::open(store, &key(), options).unwrap();
    let latest = repository.find_snapshot("latest", &dr_core::SnapshotFilter::new()).unwrap();
    workshop.assert_restores(&repository, &latest, &workshop.source(), &workshop.source());
}

#[test]
fn nothing_of_anybody_else_is_touched() {
    let workshop = Workshop::new();
    let (directory, clock) = (workshop.room(), Arc::new(TestClock::default()));
    let id = used(&directory, &workshop.source(), &clock).id();
    let own = directory.join(&id);
    let outside = workshop.room();
    fs::create_dir_all(outside.join("index")).unwrap();
    let table = "ab".repeat(32);
    fs::write(outside.join("index").join(&table), "theirs").unwrap();
    fs::write(own.join("notes.txt"), "theirs").unwrap();
    fs::create_dir_all(own.join("index/deep/deeper/deepest")).unwrap();
    fs::write(own.join("index/deep/deeper/deepest").join(&table), "theirs").unwrap();
    fs::create_dir(directory.join("not-a-repository")).unwrap();
    fs::write(directory.join("not-a-repository/checkpoint"), "theirs").unwrap();
    std::os::unix::fs::symlink(&outside, directory.join("0".repeat(32))).unwrap();
    std::os::unix::fs::symlink(outside.join("index"), own.join("blocks")).unwrap();
    assert_eq!(ids(&list_caches(&directory).unwrap()), [id.as_str()]);
    let mut cleanup = CacheCleanup::new();
    cleanup.max_bytes = Some(0);
    assert_eq!(clean_caches(&directory, &cleanup, &*clock).unwrap().removed.len(), 1);
    let theirs = [
        own.join("notes.txt"),
        own.join("index/deep/deeper/deepest").join(&table),
        directory.join("not-a-repository/checkpoint"),
        outside.join("index").join(&table),
    ];
    for file in theirs {
        assert_eq!(fs::read_to_string(&file).unwrap(), "theirs", "{}", file.display());
    }
    assert!(!own.join("used").exists() && !own.join("checkpoint").exists());
}
