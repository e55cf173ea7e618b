//! The store stops at every single call of init, of backups and of the recovery from such a stop: nothing that was
//! committed before is ever lost, and no repair is needed.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dr_core::{
    CreateOptions, ErrorKind, Event, RecordingObserver, Repository, RepositoryOptions, SnapshotFilter,
    SnapshotId,
};
use dr_store::sim::{SimStore, When};
use dr_tests::steps::{Dice, Workshop, backup, backup_as, check, options};
use dr_tests::{Node, TestRepo, TreeSpec, key};

/// What a run that was stopped left behind.
pub(crate) struct Wreck {
    pub(crate) store: SimStore,
    /// Tells runs apart, so that each has randomness of its own.
    pub(crate) seed: u64,
    /// The snapshots whose commit the caller was told of.
    pub(crate) acknowledged: Vec<SnapshotId>,
}

/// Runs `work` on a copy of `start` once for every call that it makes, and stops the store there: before the call
/// takes effect, and after. `verify` looks at what is left. Gives the number of calls visited.
pub(crate) fn at_every_call(
    start: &SimStore,
    work: &(dyn Fn(&SimStore, u64, &RecordingObserver) -> dr_core::Result<()> + Sync),
    verify: &(dyn Fn(Wreck) + Sync),
) -> u64 {
    let visit = |when| {
        for call in 0.. {
            let store = start.crash_image();
            store.crash_at(call, when);
            let observer = RecordingObserver::new();
            let outcome = work(&store, call, &observer);
            if !store.is_crashed() {
                outcome.unwrap();
                return call;
            }
            let committed = |event: &Event| match event {
                Event::Committed { snapshot, .. } => Some(*snapshot),
                _ => None,
            };
            let acknowledged = observer.events().iter().filter_map(committed).collect();
            verify(Wreck { store: store.crash_image(), seed: 1000 + call, acknowledged });
        }
        0
    };
    std::thread::scope(|scope| {
        let before = scope.spawn(|| visit(When::Before));
        visit(When::After) + before.join().unwrap()
    })
}

fn first_tree() -> TreeSpec {
    let mut tree =
        TreeSpec::files(&[("empty", 0), ("small", 700), ("a/b/deep.txt", 5000), ("large", 300_000)]);
    tree.put("link", Node::Symlink(b"a/b".to_vec()));
    tree
}

fn second_tree() -> TreeSpec {
    let mut tree = first_tree();
    tree.put("small", Node::File { seed: 77, bytes: 900 });
    tree.put("a/new", Node::File { seed: 78, bytes: 2000 });
    tree.0.remove(b"empty".as_slice());
    tree
}

/// Opens what is left without any repair, and stops the test where it is not intact or lacks what was acknowledged.
fn reopen(wreck: &Wreck) -> TestRepo {
    let repo = TestRepo::open(Arc::new(wreck.store.clone()), wreck.seed).unwrap();
    let report = check(&repo.repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let present: Vec<_> = repo.snapshots().iter().map(|snapshot| snapshot.id).collect();
    for id in &wreck.acknowledged {
        assert!(present.contains(id), "the acknowledged snapshot {id} is lost");
    }
    repo
}

/// Makes a backup, opens the repository afresh as the next command would, and restores that backup.
fn go_on(workshop: &Workshop, store: &SimStore, repo: &TestRepo, source: &Path) {
    repo.clock.advance_ms(60_000);
    let report = backup(&repo.repository, source).unwrap();
    let repo = TestRepo::open(Arc::new(store.clone()), 9999).unwrap();
    let latest = repo.latest().unwrap();
    assert_eq!(Some(latest.id), report.snapshot);
    workshop.assert_restores(&repo.repository, &latest, source, source);
    assert!(check(&repo.repository).unwrap().is_intact());
}

#[test]
fn a_crash_at_any_call_of_init_leaves_a_repository_or_room_for_one() {
    let workshop = Workshop::new();
    let source = workshop.source();
    first_tree().write(&source);
    let visited = at_every_call(
        &SimStore::new(),
        &|store, _, _| TestRepo::create(Arc::new(store.clone())).map(drop),
        &|wreck| {
            let store: Arc<SimStore> = Arc::new(wreck.store.clone());
            let repo = match TestRepo::open(store.clone(), wreck.seed) {
                Ok(repo) => repo,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NotFound, "{error:?}");
                    TestRepo::create(store).unwrap()
                }
            };
            assert!(check(&repo.repository).unwrap().is_intact());
            go_on(&workshop, &wreck.store, &repo, &source);
        },
    );
    assert!(visited >= 20, "{visited}");
}

#[test]
fn a_crash_at_any_call_of_the_first_backup_harms_nothing() {
    let workshop = Workshop::new();
    let source = workshop.source();
    first_tree().write(&source);
    let start = SimStore::new();
    TestRepo::create(Arc::new(start.clone())).unwrap();
    let visited = at_every_call(
        &start,
        &|store, seed, observer| {
            let repo = TestRepo::open(Arc::new(store.clone()), seed)?;
            backup_as(&repo.repository, &source, &options(), observer).map(drop)
        },
        &|wreck| {
            let repo = reopen(&wreck);
            for snapshot in repo.snapshots() {
                workshop.assert_restores(&repo.repository, &snapshot, &source, &source);
            }
            go_on(&workshop, &wreck.store, &repo, &source);
        },
    );
    assert!(visited >= 30, "{visited}");
}

#[test]
fn a_crash_at_any_call_of_a_later_backup_keeps_the_earlier_ones() {
    let workshop = Workshop::new();
    let source = workshop.source();
    first_tree().write(&source);
    let first_copy = workshop.copy_of(&source);
    let start = SimStore::new();
    let repo = TestRepo::create(Arc::new(start.clone())).unwrap();
    let first = backup(&repo.repository, &source).unwrap().snapshot.unwrap();
    second_tree().write(&source);
    let visited = at_every_call(
        &start,
        &|store, seed, observer| {
            let repo = TestRepo::open(Arc::new(store.clone()), seed)?;
            repo.clock.advance_ms(30_000);
            backup_as(&repo.repository, &source, &options(), observer).map(drop)
        },
        &|wreck| {
            let repo = reopen(&wreck);
            let snapshots = repo.snapshots();
            assert_eq!(snapshots[0].id, first);
            for (number, snapshot) in snapshots.iter().enumerate() {
                let copy = if number == 0 { &first_copy } else { &source };
                workshop.assert_restores(&repo.repository, snapshot, &source, copy);
            }
            go_on(&workshop, &wreck.store, &repo, &source);
        },
    );
    assert!(visited >= 30, "{visited}");
}

#[test]
fn a_crash_between_partial_snapshots_keeps_every_one_of_them_readable() {
    let workshop = Workshop::new();
    let source = workshop.source();
    first_tree().write(&source);
    let start = SimStore::new();
    TestRepo::create(Arc::new(start.clone())).unwrap();
    let mut partial = options();
    partial.partial_every = Some(Duration::ZERO);
    let visited = at_every_call(
        &start,
        &|store, seed, observer| {
            let repo = TestRepo::open(Arc::new(store.clone()), seed)?;
            backup_as(&repo.repository, &source, &partial, observer).map(drop)
        },
        &|wreck| {
            let repo = reopen(&wreck);
            for snapshot in repo.snapshots() {
                let mut visit = |_: &[u8], entry: dr_core::Result<&dr_core::Entry>| entry.map(drop);
                repo.repository.list(&snapshot, b"/", &mut visit).unwrap();
            }
            go_on(&workshop, &wreck.store, &repo, &source);
        },
    );
    assert!(visited >= 100, "{visited}");
}

/// One crash after another, each on what the last one left: orphans and half-made things pile up.
#[test]
fn crash_upon_crash_loses_no_committed_snapshot() {
    for seed in 0..8 {
        let (workshop, mut dice) = (Workshop::new(), Dice::new(seed));
        let source = workshop.source();
        let mut store = SimStore::new();
        TestRepo::create(Arc::new(store.clone())).unwrap();
        let mut kept: Vec<(SnapshotId, std::path::PathBuf)> = Vec::new();
        for round in 0..12 {
            let mut tree = first_tree();
            tree.put("changing", Node::File { seed: 100 + dice.below(4), bytes: 3000 });
            tree.write(&source);
            let copy = workshop.copy_of(&source);
            let when = if dice.below(2) == 0 { When::Before } else { When::After };
            store.crash_at(store.call_count() + dice.below(40), when);
            let repo = TestRepo::open(Arc::new(store.clone()), seed * 100 + round);
            let report = repo.and_then(|repo| backup(&repo.repository, &source));
            store = store.crash_image();
            let repo = TestRepo::open(Arc::new(store.clone()), 5000).unwrap();
            if let Ok(report) = report {
                kept.push((report.snapshot.unwrap(), copy));
            }
            assert!(check(&repo.repository).unwrap().is_intact(), "seed {seed}, round {round}");
            for (id, copy) in &kept {
                let snapshots = repo.snapshots();
                let snapshot = snapshots.iter().find(|snapshot| snapshot.id == *id);
                let snapshot = snapshot.unwrap_or_else(|| panic!("seed {seed}: {id} is lost"));
                workshop.assert_restores(&repo.repository, snapshot, &source, copy);
            }
        }
        assert!(!kept.is_empty(), "seed {seed}");
    }
}

/// What an interrupted init left behind opens with the same key, and must never be taken for the key ring in force.
#[test]
fn the_key_rings_of_interrupted_inits_are_never_used() {
    let workshop = Workshop::new();
    let source = workshop.source();
    first_tree().write(&source);
    for round in 0..8 {
        // Each init draws keys of its own: with repeated randomness both rings would hold the same.
        let init = |store: &SimStore| {
            Repository::create(
                Arc::new(store.clone()),
                &key(),
                &CreateOptions::new(),
                RepositoryOptions::new(),
            )
        };
        let store = SimStore::new();
        // The fourth change of the store is the log's first slot.
        store.crash_at_mutation(3, When::Before);
        init(&store).unwrap_err();
        let store = store.crash_image();
        let repository = init(&store).unwrap();
        assert!(backup(&repository, &source).unwrap().is_complete());
        let again = Repository::open(Arc::new(store), &key(), RepositoryOptions::new()).unwrap();
        let snapshots = again.snapshots(&SnapshotFilter::new()).unwrap();
        assert_eq!(snapshots.len(), 1, "round {round}: opened with the key ring of the interrupted init");
        let report = check(&again).unwrap();
        assert!(report.is_intact(), "round {round}: {:?}", report.errors);
    }
}
