//! Several threads and several programs at once, inside and outside of an asynchronous runtime.

use std::path::PathBuf;
use std::sync::{Arc, Barrier};

use dr_core::{
    CreateOptions, Credentials, ErrorKind, Repository, RepositoryOptions, SnapshotFilter, SnapshotId,
};
use dr_store::sim::SimStore;
use dr_store::{LocalStore, MemoryStore, Store};
use dr_tests::hook::HookStore;
use dr_tests::steps::{Workshop, backup, check};
use dr_tests::{Node, TreeSpec, key};

fn create(store: Arc<dyn Store>) -> dr_core::Result<Repository> {
    Repository::create(store, &key(), &CreateOptions::new(), RepositoryOptions::new())
}

fn open(store: Arc<dyn Store>) -> Repository {
    Repository::open(store, &key(), RepositoryOptions::new()).unwrap()
}

/// A writer's tree in some round: a part that is its own, and a part that all writers have.
fn tree(writer: u64, round: u64) -> TreeSpec {
    let mut tree = TreeSpec::files(&[("shared/one", 5000), ("shared/two", 40_000)]);
    tree.put("own", Node::File { seed: 1000 + writer, bytes: 3000 });
    tree.put("changing", Node::File { seed: 2000 + writer * 10 + round, bytes: 200_000 });
    tree
}

/// Three backups of a tree of the writer's own. Gives the snapshots and copies of what they hold.
fn write(workshop: &Workshop, repository: &Repository, writer: u64) -> Vec<(SnapshotId, PathBuf, PathBuf)> {
    let source = workshop.path().join(format!("writer{writer}"));
    let rounds = 0..3;
    rounds
        .map(|round| {
            tree(writer, round).write(&source);
            let copy = workshop.copy_of(&source);
            let report = backup(repository, &source).unwrap();
            (report.snapshot.unwrap(), source.clone(), copy)
        })
        .collect()
}

/// Every snapshot that any writer was told of is there and whole.
fn assert_all_there(
    workshop: &Workshop,
    repository: &Repository,
    written: &[(SnapshotId, PathBuf, PathBuf)],
) {
    let snapshots = repository.snapshots(&SnapshotFilter::new()).unwrap();
    assert_eq!(snapshots.len(), written.len());
    for (id, source, copy) in written {
        let snapshot = snapshots.iter().find(|snapshot| snapshot.id == *id).unwrap();
        workshop.assert_restores(repository, snapshot, source, copy);
    }
    let report = check(repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
}

#[test]
fn two_threads_back_up_into_one_repository() {
    let workshop = Workshop::new();
    let repository = create(Arc::new(MemoryStore::new())).unwrap();
    let written: Vec<_> = std::thread::scope(|scope| {
        let run = |writer| {
            let (repository, workshop) = (repository.clone(), &workshop);
            scope.spawn(move || write(workshop, &repository, writer))
        };
        let writers = [run(0), run(1)];
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
    });
    assert_all_there(&workshop, &repository, &written);
    assert_all_there(&workshop, &open(repository.store().clone()), &written);
}

#[test]
fn eight_programs_back_up_into_one_store() {
    let folder = tempfile::tempdir().unwrap();
    let stores: [Arc<dyn Store>; 3] = [
        Arc::new(SimStore::new()),
        Arc::new(MemoryStore::new()),
        Arc::new(LocalStore::create(folder.path().join("repository")).unwrap()),
    ];
    for store in stores {
        let workshop = Workshop::new();
        create(store.clone()).unwrap();
        let start = Barrier::new(8);
        let written: Vec<_> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|writer| {
                    let (store, workshop, start) = (store.clone(), &workshop, &start);
                    scope.spawn(move || {
                        let repository = open(store);
                        start.wait();
                        write(workshop, &repository, writer)
                    })
                })
                .collect();
            writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect()
        });
        assert_all_there(&workshop, &open(store), &written);
    }
}

/// A reader beside writers: what it lists, it can restore.
#[test]
fn snapshots_are_restored_while_others_are_written() {
    let workshop = Workshop::new();
    let repository = create(Arc::new(MemoryStore::new())).unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write(&workshop, &repository, 0));
        let reader = open(repository.store().clone());
        while !writer.is_finished() {
            for snapshot in reader.snapshots(&SnapshotFilter::new()).unwrap() {
                let target = workshop.room();
                let report = dr_tests::steps::restore(&reader, &snapshot, &target).unwrap();
                assert!(report.is_complete(), "{:?}", report.problems);
                std::fs::remove_dir_all(target).unwrap();
            }
            let report = check(&reader).unwrap();
            assert!(report.is_intact(), "{:#?}", report.errors);
        }
        writer.join().unwrap();
    });
}

#[test]
fn a_repository_that_is_made_while_another_is_being_made_is_no_damage() {
    for object in ["keys/", "ring/", "log/"] {
        let inner = SimStore::new();
        let others = Arc::new(inner.clone());
        let store = Arc::new(HookStore::new(
            Arc::new(inner),
            move |call| call.operation == "put" && call.object.starts_with(object),
            move || drop(create(others).unwrap()),
        ));
        let error = create(store.clone()).unwrap_err();
        assert!(store.has_run(), "{object}");
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{object}: {error:?}");
    }
}

#[test]
fn of_programs_that_make_a_repository_at_once_exactly_one_does() {
    let workshop = Workshop::new();
    let source = workshop.source();
    tree(0, 0).write(&source);
    for round in 0..25 {
        let folder = tempfile::tempdir().unwrap();
        let stores: [Arc<dyn Store>; 3] = [
            Arc::new(SimStore::new()),
            Arc::new(MemoryStore::new()),
            Arc::new(LocalStore::create(folder.path().join("repository")).unwrap()),
        ];
        let store = stores[round % 3].clone();
        let start = Barrier::new(4);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let run = || {
                start.wait();
                create(store.clone())
            };
            let makers: Vec<_> = (0..4).map(|_| scope.spawn(run)).collect();
            makers.into_iter().map(|maker| maker.join().unwrap()).collect()
        });
        let mut winners = Vec::new();
        for outcome in outcomes {
            match outcome {
                Ok(repository) => winners.push(repository),
                Err(error) => assert_eq!(error.kind(), ErrorKind::AlreadyExists, "round {round}: {error:?}"),
            }
        }
        assert_eq!(winners.len(), 1, "round {round}");
        let report = backup(&winners[0], &source).unwrap();
        let again = open(store);
        let snapshots = again.snapshots(&SnapshotFilter::new()).unwrap();
        let ids: Vec<_> = snapshots.iter().map(|snapshot| Some(snapshot.id)).collect();
        assert_eq!(ids, [report.snapshot], "round {round}");
        assert!(check(&again).unwrap().is_intact(), "round {round}");
    }
}

/// Each maker has a key of its own: the one that wins opens it, and the others do not.
#[test]
fn of_makers_with_different_keys_the_winner_can_open_it() {
    for round in 0..10 {
        let store: Arc<dyn Store> = Arc::new(SimStore::new());
        let start = Barrier::new(3);
        let outcomes: Vec<_> = std::thread::scope(|scope| {
            let run = |number: u8| {
                let (store, start) = (store.clone(), &start);
                scope.spawn(move || {
                    start.wait();
                    let key = Credentials::key([number; 32]);
                    Repository::create(store, &key, &CreateOptions::new(), RepositoryOptions::new()).map(drop)
                })
            };
            let makers = [run(0), run(1), run(2)];
            makers.map(|maker| maker.join().unwrap()).into_iter().collect()
        });
        assert_eq!(
            outcomes.iter().filter(|outcome| outcome.is_ok()).count(),
            1,
            "round {round}: {outcomes:?}"
        );
        for (number, outcome) in outcomes.iter().enumerate() {
            let key = Credentials::key([number as u8; 32]);
            let opened = Repository::open(store.clone(), &key, RepositoryOptions::new());
            assert_eq!(opened.is_ok(), outcome.is_ok(), "round {round}: {opened:?}");
        }
    }
}

/// All of it on a thread of a runtime, where blocking or dropping another runtime would panic.
fn use_it(workshop: &Workshop) {
    let folder = workshop.room();
    let source = workshop.source();
    tree(0, 0).write(&source);
    let repository = create(Arc::new(LocalStore::create(&folder).unwrap())).unwrap();
    assert!(backup(&repository, &source).unwrap().is_complete());
    drop(repository);
    let repository = open(Arc::new(LocalStore::open(&folder).unwrap()));
    let snapshots = repository.snapshots(&SnapshotFilter::new()).unwrap();
    workshop.assert_restores(&repository, &snapshots[0], &source, &source);
    assert!(check(&repository).unwrap().is_intact());
    let repository = create(Arc::new(MemoryStore::new())).unwrap();
    assert!(backup(&repository, &source).unwrap().is_complete());
}

#[test]
fn the_engine_works_inside_a_current_thread_runtime() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async { use_it(&Workshop::new()) });
}

#[test]
fn the_engine_works_on_the_threads_of_a_runtime() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let tasks: Vec<_> = (0..3).map(|_| tokio::spawn(async { use_it(&Workshop::new()) })).collect();
        let blocking = tokio::task::spawn_blocking(|| use_it(&Workshop::new()));
        use_it(&Workshop::new());
        for task in tasks {
            task.await.unwrap();
        }
        blocking.await.unwrap();
    });
}
