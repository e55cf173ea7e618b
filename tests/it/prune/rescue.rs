//! A backup beside collections that condemn, or delete, what it rests on.

use std::sync::Arc;
use std::time::Duration;

use dr_core::{
    ErrorKind, Parent, Repository, RepositoryOptions, Result, SnapshotFilter, SnapshotId, StreamInput,
};
use dr_store::sim::SimStore;
use dr_tests::damage::open;
use dr_tests::garbage::{prune_as, thorough};
use dr_tests::hook::{HookStore, Upcoming};
use dr_tests::steps::{Workshop, alone, backup, backup_as, check, options, restore};
use dr_tests::{Node, TestRepo, TreeSpec, key, noise};

/// What kind of backup runs.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    /// Takes subtrees of its parent over.
    Child,
    /// Finds its chunks in the index.
    Alone,
    Stream,
}

/// Whether the collection deletes what it condemns.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Grace {
    Over,
    Long,
}

fn tree(round: u64) -> TreeSpec {
    let mut tree = TreeSpec::files(&[("a/large", 400_000), ("a/b", 2000), ("c/d", 5000)]);
    tree.put("e", Node::File { seed: 60 + round, bytes: 50_000 });
    tree
}

fn stream_bytes() -> Vec<u8> {
    // Most of it is what the tree's large file holds.
    [noise(0, 400_000), noise(99, 30_000)].concat()
}

/// Backs up through `store`, where garbage of everything before is collected at the calls that `choose` takes.
fn backup_beside(
    base: &SimStore,
    workshop: &Workshop,
    (kind, grace): (Kind, Grace),
    choose: impl Fn(&Upcoming<'_>) -> bool + Send + Sync + 'static,
) -> (SimStore, bool, Result<SnapshotId>) {
    let store = base.crash_image();
    let other = store.clone();
    let hooked = Arc::new(HookStore::new(Arc::new(store.clone()), choose, move || {
        let repository = open(&other).unwrap();
        let all = repository.snapshots(&SnapshotFilter::new()).unwrap();
        // A commit that got through before stays.
        if all.len() == 1 {
            repository.forget(&[all[0].id]).unwrap();
        }
        let mut options = thorough();
        options.grace = if grace == Grace::Long { Duration::from_secs(3600) } else { Duration::ZERO };
        prune_as(&repository, &options).unwrap();
    }));
    let repository = Repository::open(hooked.clone(), &key(), RepositoryOptions::new()).unwrap();
    let mut options = options();
    if kind == Kind::Alone {
        options.parent = Parent::Nothing;
    }
    let outcome = match kind {
        Kind::Stream => {
            let input = StreamInput::new("dump", std::io::Cursor::new(stream_bytes()));
            alone(&(), |ctx| repository.backup_stream(input, &options, ctx))
        }
        _ => backup_as(&repository, &workshop.source(), &options, &()),
    };
    (store, hooked.has_run(), outcome.map(|report| report.snapshot.unwrap()))
}

/// The snapshot is there, the repository is intact, and it restores bit for bit.
fn assert_backed_up(workshop: &Workshop, store: &SimStore, kind: Kind, id: SnapshotId) {
    let repository = open(store).unwrap();
    let report = check(&repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let snapshot = repository.find_snapshot(&id.to_string(), &SnapshotFilter::new()).unwrap();
    if kind == Kind::Stream {
        let target = workshop.room();
        assert!(restore(&repository, &snapshot, &target).unwrap().is_complete());
        assert!(std::fs::read(target.join("dump")).unwrap() == stream_bytes());
        std::fs::remove_dir_all(target).unwrap();
    } else {
        workshop.assert_restores(&repository, &snapshot, &workshop.source(), &workshop.source());
    }
}

/// A repository with one snapshot, and a source that is a little different by now.
fn base(workshop: &Workshop) -> SimStore {
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    tree(0).write(&workshop.source());
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    tree(1).write(&workshop.source());
    store
}

fn at_every_call(kind: Kind, grace: Grace) {
    let workshop = Workshop::new();
    let base = base(&workshop);
    let (mut refused, mut done) = (0, 0);
    for number in 0.. {
        let (store, has_run, outcome) =
            backup_beside(&base, &workshop, (kind, grace), move |call| call.number == number);
        match outcome {
            Ok(id) => {
                done += 1;
                assert_backed_up(&workshop, &store, kind, id);
            }
            Err(error) => {
                refused += 1;
                let is_clear = error.kind() == ErrorKind::StoreUnavailable && error.remedy().is_some();
                assert!(is_clear, "{kind:?}, {grace:?}, call {number}: {error:?}");
                let report = check(&open(&store).unwrap()).unwrap();
                assert!(report.is_intact(), "{:#?}", report.errors);
            }
        }
        // The next backup finds all well.
        if number % 5 == 0 {
            let id = backup(&open(&store).unwrap(), &workshop.source()).unwrap().snapshot.unwrap();
            assert_backed_up(&workshop, &store, Kind::Child, id);
        }
        if !has_run {
            break;
        }
    }
    assert!(done > 15, "{done}");
    // Only what cannot be read a second time may be lost, and only to a collection that deletes at once.
    let may_fail = kind == Kind::Stream && grace == Grace::Over;
    assert!(may_fail || refused == 0, "{kind:?}, {grace:?}: {refused} of {done} failed");
    assert!(!may_fail || refused > 0);
}

#[test]
fn a_backup_whose_parent_is_condemned_at_any_call_is_whole() {
    at_every_call(Kind::Child, Grace::Long);
}

#[test]
fn a_backup_whose_parent_is_deleted_at_any_call_is_whole() {
    at_every_call(Kind::Child, Grace::Over);
}

#[test]
fn a_backup_whose_copies_are_condemned_at_any_call_is_whole() {
    at_every_call(Kind::Alone, Grace::Long);
}

#[test]
fn a_backup_whose_copies_are_deleted_at_any_call_is_whole() {
    at_every_call(Kind::Alone, Grace::Over);
}

#[test]
fn a_stream_whose_copies_are_condemned_at_any_call_is_whole() {
    at_every_call(Kind::Stream, Grace::Long);
}

#[test]
fn a_stream_whose_copies_are_deleted_at_any_call_is_whole_or_fails_clearly() {
    at_every_call(Kind::Stream, Grace::Over);
}

/// At the commit itself everything is stored and nothing is named: the worst moment, with each kind of what it rests on.
#[test]
fn what_is_condemned_at_the_commit_is_stored_again() {
    let workshop = Workshop::new();
    let base = base(&workshop);
    for kind in [Kind::Child, Kind::Alone, Kind::Stream] {
        let is_commit = |call: &Upcoming<'_>| call.operation == "put" && call.object.starts_with("log/");
        let (store, has_run, outcome) = backup_beside(&base, &workshop, (kind, Grace::Long), is_commit);
        assert!(has_run);
        assert_backed_up(&workshop, &store, kind, outcome.unwrap());
        // Collected once more, now for good: what was condemned is gone, and nothing of the snapshot with it.
        let snapshots = open(&store).unwrap().snapshots(&SnapshotFilter::new()).unwrap();
        prune_as(&open(&store).unwrap(), &thorough()).unwrap();
        assert_backed_up(&workshop, &store, kind, snapshots[0].id);
    }
}
