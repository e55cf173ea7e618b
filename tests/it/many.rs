//! Very many small backups and never a collection: what opening costs does not grow with them.

use std::sync::Arc;

use dr_core::{Repository, RepositoryOptions, SnapshotFilter};
use dr_store::sim::{CallKind, SimStore};
use dr_tests::damage::open;
use dr_tests::garbage::prune;
use dr_tests::key;
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::repo::noise;
use dr_tests::steps::{alone, check, options};

/// Backs so many small files up that the segment is an object of its own, or so few that it stands in the log.
fn backup(repository: &Repository, round: u64, files: u64) {
    let file = |number: u64| {
        let bytes = noise(round * 1000 + number, 40);
        let changed = Some(i128::from(round + 1) * 1_000_000_000);
        (format!("file{number}"), MemoryFile { bytes, changed, ..MemoryFile::default() })
    };
    let files = (0..files).map(file).collect();
    let source = MemorySource { files, paths: vec!["/data".into()], ..MemorySource::default() };
    let report = alone(&(), |ctx| repository.backup(&SharedSource(Arc::new(source)), &options(), ctx));
    assert!(report.unwrap().is_complete());
}

#[test]
fn a_repository_that_is_never_pruned_keeps_its_index_short() {
    for (files, backups) in [(1, 200), (400, 110)] {
        let store = SimStore::new();
        let create = dr_core::CreateOptions::new();
        let shared = Arc::new(store.clone());
        Repository::create(shared, &key(), &create, RepositoryOptions::new()).unwrap();
        // Every client draws another number from which it merges.
        for round in 0..backups {
            backup(&open(&store).unwrap(), round, files);
        }
        let repository = open(&store).unwrap();
        let segments = repository.stats().unwrap().segments;
        assert!(segments < 100, "{files} files: {segments} segments after {backups} backups");
        assert_eq!(repository.snapshots(&SnapshotFilter::new()).unwrap().len() as u64, backups);
        let report = check(&repository).unwrap();
        assert!(report.is_intact(), "{:#?}", report.errors);
        // A client without a cache does not ask for more than those.
        store.clear_calls();
        backup(&open(&store).unwrap(), backups, files);
        let is_index = |call: &&dr_store::sim::Call| {
            call.object.starts_with("index/") && matches!(call.kind, CallKind::Get | CallKind::GetRange)
        };
        let calls = store.calls();
        let reads = calls.iter().filter(is_index).count() as u64;
        assert!(reads <= 2 * segments + 2, "{files} files: {reads} reads of {segments} segments");
        prune(&open(&store).unwrap()).unwrap();
        assert!(check(&open(&store).unwrap()).unwrap().is_intact());
    }
}
