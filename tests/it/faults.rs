//! Stores that are full, do not answer, or answer too late: clear errors, and everything earlier stays intact.

use std::sync::Arc;
use std::time::Duration;

use dr_core::{CreateOptions, ErrorKind, Repository, RepositoryOptions};
use dr_store::sim::{FaultRates, SimStore, When};
use dr_store::{LocalStore, RetryOptions, RetryStore, Store, StoreErrorKind};
use dr_tests::disk::SmallDisk;
use dr_tests::flaky::{FlakyStore, OneFault};
use dr_tests::steps::{Workshop, backup, check, restore, restored, skip};
use dr_tests::{Node, TestRepo, TreeSpec, key};

fn tree(round: u64) -> TreeSpec {
    let mut tree = TreeSpec::files(&[("kept", 900), ("a/large", 150_000)]);
    tree.put("changing", Node::File { seed: 100 + round, bytes: 4000 });
    tree
}

/// A repository with one snapshot; the source already differs from it, and the copy is as the snapshot has it.
fn start(workshop: &Workshop) -> (SimStore, std::path::PathBuf) {
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    tree(0).write(&workshop.source());
    let copy = workshop.copy_of(&workshop.source());
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    tree(1).write(&workshop.source());
    (store, copy)
}

/// The store works again: nothing is damaged, the first snapshot is whole, and the next backup can be restored.
fn assert_recovers(workshop: &Workshop, store: &SimStore, copy: &std::path::Path) {
    let source = workshop.source();
    let repo = TestRepo::open(Arc::new(store.clone()), 4000).unwrap();
    let report = check(&repo.repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    workshop.assert_restores(&repo.repository, &repo.snapshots()[0], &source, copy);
    repo.clock.advance_ms(90_000);
    let report = backup(&repo.repository, &source).unwrap();
    let latest = repo.latest().unwrap();
    assert_eq!(report.snapshot, Some(latest.id));
    workshop.assert_restores(&repo.repository, &latest, &source, &source);
}

fn used_bytes(store: &SimStore) -> u64 {
    store.objects().iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

#[test]
fn a_store_that_fills_up_at_any_byte_says_so_and_keeps_what_it_has() {
    let workshop = Workshop::new();
    let (start, copy) = start(&workshop);
    let used = used_bytes(&start);
    let mut refused = 0;
    // Finely at the start of each object and coarsely between: a put either fits or does not.
    for budget in (0..).map(|step| step * 8192 / 3) {
        let store = start.crash_image();
        store.set_capacity(Some(used + budget));
        let repo = TestRepo::open(Arc::new(store.clone()), budget).unwrap();
        match backup(&repo.repository, &workshop.source()) {
            Ok(report) => {
                assert!(report.is_complete());
                break;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}"),
        }
        refused += 1;
        // The same handle goes on once there is room.
        store.set_capacity(None);
        assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
        assert_recovers(&workshop, &store, &copy);
    }
    assert!(refused >= 20, "{refused}");
}

#[test]
fn a_full_store_refuses_init_and_takes_it_later() {
    for budget in [0, 63, 64, 100, 300, 500, 700, 900] {
        let store = SimStore::new();
        store.set_capacity(Some(budget));
        match TestRepo::create(Arc::new(store.clone())) {
            Ok(repo) => assert!(check(&repo.repository).unwrap().is_intact()),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
                store.set_capacity(None);
                TestRepo::create(Arc::new(store)).unwrap();
            }
        }
    }
}

/// One failure at every call of a backup, of every kind that a store has, with and without effect.
#[test]
fn a_single_failure_at_any_call_fails_clearly_and_harms_nothing() {
    let workshop = Workshop::new();
    let (start, copy) = start(&workshop);
    let kinds = [
        (StoreErrorKind::Unavailable, When::Before, ErrorKind::StoreUnavailable),
        (StoreErrorKind::Unavailable, When::After, ErrorKind::StoreUnavailable),
        (StoreErrorKind::Other, When::After, ErrorKind::StoreFailed),
        (StoreErrorKind::PermissionDenied, When::Before, ErrorKind::PermissionDenied),
        (StoreErrorKind::StorageFull, When::Before, ErrorKind::StorageFull),
    ];
    let mut visited = 0;
    for (kind, when, expected) in kinds {
        for call in 0.. {
            let store = start.crash_image();
            let flaky = Arc::new(FlakyStore::new(Arc::new(store.clone()), OneFault { call, kind, when }));
            let outcome = TestRepo::open(flaky.clone(), call)
                .and_then(|repo| backup(&repo.repository, &workshop.source()));
            if !flaky.has_failed() {
                break;
            }
            if let Err(error) = outcome {
                // A slot of the log that the disk does not give back is damage, and nothing is appended to that.
                let is_damage = kind == StoreErrorKind::Other && error.kind() == ErrorKind::Corrupt;
                assert!(error.kind() == expected || is_damage, "call {call}: {error:?}");
            }
            assert_recovers(&workshop, &store, &copy);
            visited += 1;
        }
    }
    assert!(visited >= 75, "{visited}");
}

/// Answers that are lost, some of them after the call took effect: behind a store that asks again, backups nearly always
/// succeed; where they do not, they say so.
#[test]
fn unclear_answers_never_damage_the_repository() {
    let workshop = Workshop::new();
    let (start, copy) = start(&workshop);
    let mut succeeded = 0;
    for seed in 0..200 {
        let store = start.crash_image();
        let per_mille = [20, 100, 300][seed as usize % 3];
        store.set_faults(seed, FaultRates { before_per_mille: per_mille, after_per_mille: per_mille });
        let retry = RetryOptions { attempts_max: 4, seed, ..RetryOptions::default() };
        let patient = Arc::new(RetryStore::new(Arc::new(store.clone()), retry, Arc::new(|_: Duration| {})));
        let repo = TestRepo::open(patient, seed);
        match repo.and_then(|repo| backup(&repo.repository, &workshop.source())) {
            Ok(report) => {
                let fresh = TestRepo::open(Arc::new(store.crash_image()), 1).unwrap();
                assert!(
                    fresh.snapshots().iter().any(|snapshot| Some(snapshot.id) == report.snapshot),
                    "seed {seed}"
                );
                succeeded += 1;
            }
            Err(error) => assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "seed {seed}: {error:?}"),
        }
        assert_recovers(&workshop, &store.crash_image(), &copy);
    }
    assert!(succeeded >= 100, "{succeeded}");
}

#[test]
fn unclear_answers_without_retries_never_damage_the_repository() {
    let workshop = Workshop::new();
    let (start, copy) = start(&workshop);
    for seed in 0..100 {
        let store = start.crash_image();
        store.set_faults(seed, FaultRates { before_per_mille: 30, after_per_mille: 60 });
        let repo = TestRepo::open(Arc::new(store.clone()), seed);
        if let Err(error) = repo.and_then(|repo| backup(&repo.repository, &workshop.source())) {
            assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "seed {seed}: {error:?}");
        }
        assert_recovers(&workshop, &store.crash_image(), &copy);
    }
}

/// A real disk that is full, both as the store and as the target of a restore.
#[test]
fn a_full_disk_says_so_and_keeps_what_it_has() {
    let workshop = Workshop::on_disk();
    let Some(disk) = SmallDisk::mount(&workshop.room(), "size=2m") else {
        skip("a_full_disk_says_so_and_keeps_what_it_has", "no file system can be mounted here");
        return;
    };
    let source = workshop.source();
    let store: Arc<dyn Store> = Arc::new(LocalStore::create(disk.path().join("repository")).unwrap());
    let options = RepositoryOptions::new();
    let repository = Repository::create(store, &key(), &CreateOptions::new(), options).unwrap();
    tree(0).write(&source);
    let copy = workshop.copy_of(&source);
    assert!(backup(&repository, &source).unwrap().is_complete());
    TreeSpec::files(&[("large", 6 << 20)]).write(&source);
    let error = backup(&repository, &source).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error:?}");
    let report = check(&repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let snapshots = repository.snapshots(&dr_core::SnapshotFilter::new()).unwrap();
    workshop.assert_restores(&repository, &snapshots[0], &source, &copy);
    // Now the target: another repository holds more than fits.
    let large = TestRepo::in_memory();
    assert!(backup(&large.repository, &source).unwrap().is_complete());
    let (latest, target) = (large.latest().unwrap(), disk.path().join("target"));
    let error = restore(&large.repository, &latest, &target).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Destination, "{error:?}");
    assert_eq!(error.path(), Some(restored(&target, &source).join("large").as_path()));
    assert!(error.remedy().is_some_and(|remedy| remedy.contains("space")), "{error:?}");
    workshop.assert_restores(&large.repository, &latest, &source, &source);
}
