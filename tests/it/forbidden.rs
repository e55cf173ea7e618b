//! Stores that permit a part of what is asked of them: what needs no more works, all else says what was refused on which
//! object, and nothing is lost.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use dr_core::{Context, ErrorKind, ObjectHash, Repository, RepositoryOptions, Result, SnapshotFilter};
use dr_store::sim::SimStore;
use dr_store::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Store, StoreError, StoreErrorKind};
use dr_tests::damage::{Harm, Patient, open};
use dr_tests::garbage::prune;
use dr_tests::steps::{Workshop, alone, backup, check, restore, restored};
use dr_tests::{Node, TreeSpec, assert_same_tree, key};

/// What a store refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    Puts,
    Deletes,
}

/// Refuses one kind of call.
#[derive(Debug)]
struct Forbidding {
    inner: SimStore,
    refused: Refused,
    is_proven: bool,
}

impl Forbidding {
    fn unless(&self, refused: Refused, operation: &'static str, name: &Name) -> dr_store::Result<()> {
        if self.refused == refused {
            return Err(StoreError::new(StoreErrorKind::PermissionDenied, operation, name.as_str()));
        }
        Ok(())
    }
}

impl Store for Forbidding {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> dr_store::Result<()> {
        self.unless(Refused::Puts, "put", name)?;
        self.inner.put(name, payload, mode)
    }

    fn get(&self, name: &Name) -> dr_store::Result<Bytes> {
        self.inner.get(name)
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> dr_store::Result<Bytes> {
        self.inner.get_range(name, range)
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> dr_store::Result<()>,
    ) -> dr_store::Result<()> {
        self.inner.list(folder, after, visit)
    }

    fn list_folder(&self, folder: &str) -> dr_store::Result<FolderListing> {
        self.inner.list_folder(folder)
    }

    fn delete(&self, name: &Name) -> dr_store::Result<()> {
        self.unless(Refused::Deletes, "delete", name)?;
        self.inner.delete(name)
    }

    fn stat(&self, name: &Name) -> dr_store::Result<ObjectMeta> {
        self.inner.stat(name)
    }

    fn create_is_proven(&self) -> bool {
        self.is_proven
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}

fn open_refusing(store: &SimStore, refused: Refused, is_proven: bool) -> Result<Repository> {
    let store = Arc::new(Forbidding { inner: store.clone(), refused, is_proven });
    Repository::open(store, &key(), RepositoryOptions::new())
}

/// A repository with two snapshots, of which the first holds much that the second does not; the source differs from both.
fn patient(workshop: &Workshop) -> Patient {
    let tree = |round: u64| {
        let mut tree = TreeSpec::files(&[("kept", 900), ("a/large", 150_000)]);
        tree.put("a/changing", Node::File { seed: 100 + round, bytes: 700_000 });
        tree
    };
    let mut patient = Patient::new(workshop);
    for round in 0..2 {
        tree(round).write(&patient.source);
        patient.backup(workshop);
    }
    tree(2).write(&patient.source);
    patient
}

/// The second snapshot is there, whole, and nothing is damaged.
fn assert_nothing_is_lost(store: &SimStore, patient: &Patient, workshop: &Workshop) {
    let repository = open(store).unwrap();
    let report = check(&repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let (id, copy) = &patient.copies[1];
    let second = repository.find_snapshot(&id.to_string(), &SnapshotFilter::new()).unwrap();
    workshop.assert_restores(&repository, &second, &patient.source, copy);
}

/// Stops the test unless a call was refused, and says on which object.
fn assert_refused<T: std::fmt::Debug>(what: &str, outcome: Result<T>) {
    let error = outcome.expect_err(what);
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{what}: {error:?}");
    let said = format!("{} {error}", error.object().unwrap_or_default());
    let folders = ["data/", "tree/", "index/", "list/", "log/", "ckpt/", "probe/"];
    assert!(folders.iter().any(|folder| said.contains(folder)), "{what}: {said}");
}

fn assert_reads_work(repository: &Repository, patient: &Patient, workshop: &Workshop) {
    assert!(check(repository).unwrap().is_intact());
    for snapshot in repository.snapshots(&SnapshotFilter::new()).unwrap() {
        let Some((_, copy)) = patient.copies.iter().find(|(id, _)| *id == snapshot.id) else { continue };
        workshop.assert_restores(repository, &snapshot, &patient.source, copy);
    }
}

#[test]
fn without_leave_to_delete_all_but_the_deleting_works_and_nothing_is_lost() {
    for is_proven in [true, false] {
        let workshop = Workshop::new();
        let patient = patient(&workshop);
        let store = patient.store.crash_image();
        let repository = open_refusing(&store, Refused::Deletes, is_proven).unwrap();
        assert!(backup(&repository, &patient.source).unwrap().is_complete());
        assert_reads_work(&repository, &patient, &workshop);
        repository.forget(&[patient.copies[0].0]).unwrap();
        alone(&(), |ctx| repository.repair_index(ctx)).unwrap();
        assert!(alone(&(), |ctx| repository.repair_snapshots(true, true, ctx)).unwrap().is_empty());
        // What must not be deleted waits, as it does where a lock of the store holds it.
        let report = prune(&repository).unwrap();
        assert_eq!((report.objects_deleted, report.collected.len()), (0, 1), "{report:?}");
        assert!(report.objects_waiting > 0, "{report:?}");
        assert_nothing_is_lost(&store, &patient, &workshop);
        // Backups go on beside what could not be deleted, and whoever may delete ends the collection.
        assert!(backup(&repository, &patient.source).unwrap().is_complete());
        let allowed = open(&store).unwrap();
        let later = prune(&allowed).unwrap();
        assert!(later.objects_deleted >= report.objects_waiting, "{later:?}");
        assert_nothing_is_lost(&store, &patient, &workshop);
        let latest = allowed.snapshots(&SnapshotFilter::new()).unwrap().pop().unwrap();
        let target = workshop.room();
        assert!(restore(&allowed, &latest, &target).unwrap().is_complete());
        assert_same_tree(&patient.source, &restored(&target, &patient.source));
    }
}

#[test]
fn without_leave_to_write_all_that_reads_works_and_the_rest_says_so() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let store = patient.store.crash_image();
    let before = store.objects();
    let repository = open_refusing(&store, Refused::Puts, true).unwrap();
    assert_reads_work(&repository, &patient, &workshop);
    let first = patient.copies[0].0;
    assert_refused("backup", backup(&repository, &patient.source));
    assert_refused("forget", repository.forget(&[first]));
    assert_refused("protect", repository.protect(&[first]));
    assert_eq!(store.objects(), before);
    assert!(alone(&(), |ctx| repository.repair_snapshots(true, true, ctx)).unwrap().is_empty());
    assert_eq!(store.objects(), before);

    open(&store).unwrap().forget(&[first]).unwrap();
    assert_refused("prune", prune(&repository));
    assert_nothing_is_lost(&store, &patient, &workshop);
    assert_eq!(open(&store).unwrap().forgotten_snapshots(&SnapshotFilter::new()).unwrap().len(), 1);
}

/// Runs a repair on a damaged store that takes no puts, and then where it does.
fn assert_repairs_later<T: std::fmt::Debug>(
    what: &str,
    store: &SimStore,
    repair: impl Fn(&Repository, &Context<'_>) -> Result<T>,
) {
    let before = store.objects();
    let refusing = open_refusing(store, Refused::Puts, true).unwrap();
    assert_refused(what, alone(&(), |ctx| repair(&refusing, ctx)));
    assert_eq!(store.objects(), before, "{what}");
    alone(&(), |ctx| repair(&open(store).unwrap(), ctx)).unwrap();
    assert_ne!(store.objects().len(), before.len(), "{what}");
}

#[test]
fn repairs_that_may_not_write_change_nothing_and_can_be_made_later() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let largest = |folder: &str| {
        let names = patient.names_in(folder);
        let bytes = |name: &Name| patient.store.stat(name).unwrap().bytes;
        names.into_iter().max_by_key(bytes).unwrap()
    };
    let pack = largest("data");
    let hash = ObjectHash::from_hex(Path::new(pack.as_str()).file_name().unwrap().to_str().unwrap()).unwrap();
    let store = patient.harmed(&pack, Harm::Flip { offset: 5000, bit: 1 });
    assert_repairs_later("repair packs", &store, |repository, ctx| repository.repair_packs(&[hash], ctx));
    assert_repairs_later("repair snapshots", &store, |repository, ctx| {
        repository.repair_snapshots(true, true, ctx)
    });
    let report = check(&open(&store).unwrap()).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
}
