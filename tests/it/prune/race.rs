//! Copies that two hosts stored at once, and readers beside a collection.

use std::sync::Arc;

use dr_core::{Repository, RepositoryOptions, SnapshotFilter};
use dr_store::sim::SimStore;
use dr_tests::damage::{Harm, Patient, Restored, open};
use dr_tests::garbage::{Waste, assert_clean, prune};
use dr_tests::hook::HookStore;
use dr_tests::steps::{Workshop, backup, check, restore, restored};
use dr_tests::{Node, TestRepo, TreeSpec, assert_same_tree, key};

fn open_through(store: HookStore) -> (Arc<HookStore>, Repository) {
    let store = Arc::new(store);
    let opened = Repository::open(store.clone(), &key(), RepositoryOptions::new());
    (store, opened.unwrap())
}

/// Two hosts back the same tree up at the same time: every chunk of it is stored twice.
fn raced(workshop: &Workshop) -> Patient {
    // Other tests make folders beside the workshop: where that changed the time of the folder above between the two backups, and
    // so their trees, they are made once more.
    let alike =
        |patient: &Patient| prune(&open(&patient.store.crash_image()).unwrap()).unwrap().packs_dead == 2;
    (0..20).map(|_| race(workshop)).find(alike).unwrap_or_else(|| race(workshop))
}

fn race(workshop: &Workshop) -> Patient {
    let mut patient = Patient::new(workshop);
    let mut tree = TreeSpec::files(&[("large", 500_000), ("b", 3000), ("c/d", 70_000)]);
    tree.put("e", Node::File { seed: 9, bytes: 900 });
    tree.write(&patient.source);
    let (store, source) = (patient.store.clone(), patient.source.clone());
    let hooked = HookStore::new(
        Arc::new(patient.store.clone()),
        |call| call.operation == "put" && call.object.starts_with("data/"),
        move || {
            let repo = TestRepo::open(Arc::new(store), 2).unwrap();
            assert!(backup(&repo.repository, &source).unwrap().is_complete());
        },
    );
    // By the clock of these tests no file is so young that it must be read again, which would be part of the trees.
    let hooked = Arc::new(hooked);
    let repository = TestRepo::open(hooked.clone(), 3).unwrap().repository;
    assert!(backup(&repository, &patient.source).unwrap().is_complete());
    assert!(hooked.has_run());
    for snapshot in repository.snapshots(&SnapshotFilter::new()).unwrap() {
        patient.copies.push((snapshot.id, patient.source.clone()));
    }
    assert_eq!(patient.copies.len(), 2);
    assert_eq!(["data", "tree"].map(|at| patient.names_in(at).len()), [2, 2]);
    patient
}

#[test]
fn of_copies_in_two_packs_one_stays() {
    let workshop = Workshop::new();
    let waste = Waste { patient: raced(&workshop), forgotten: Vec::new() };
    let report = prune(&open(&waste.patient.store).unwrap()).unwrap();
    assert_eq!(report.packs_dead, 2, "{report:?}");
    assert_eq!(["data", "tree"].map(|at| waste.patient.names_in(at).len()), [1, 1]);
    waste.assert_whole(&workshop, &waste.patient.store);
    assert_clean(&waste.patient.store);
}

#[test]
fn a_copy_is_given_up_only_where_the_one_that_stays_can_be_read() {
    let workshop = Workshop::new();
    let patient = raced(&workshop);
    let pruned = patient.store.crash_image();
    prune(&open(&pruned).unwrap()).unwrap();
    let (mut kept_more, mut cases) = (0, 0);
    for folder in ["data", "tree"] {
        let survivors: Vec<_> = pruned.objects();
        let survivor = survivors.iter().find(|(name, _)| name.as_str().starts_with(folder)).unwrap();
        let bytes = survivor.1.len() as u64;
        let flips = (100..bytes).step_by(bytes as usize / 24).map(|offset| Harm::Flip { offset, bit: 0 });
        for harm in flips.chain([Harm::Delete, Harm::Truncate(0), Harm::Truncate(bytes / 2)]) {
            let store = patient.harmed(&survivor.0, harm);
            let outcome = prune(&open(&store).unwrap());
            let left = store.objects().iter().filter(|(name, _)| name.as_str().starts_with(folder)).count();
            kept_more += usize::from(left > 1);
            cases += 1;
            for (_, restored) in patient.restore_all(&open(&store).unwrap(), &workshop).unwrap() {
                assert_eq!(restored, Restored::Whole, "{folder}, {harm:?}: {outcome:?}");
            }
        }
    }
    assert!(kept_more > 10 && kept_more < cases, "{kept_more} of {cases}");
}

/// Runs `read` once for every call that it makes, and a whole collection just before that call.
fn beside_a_collection(waste: &Waste, read: &dyn Fn(&SimStore, Repository)) -> u64 {
    for call in 0.. {
        let store = waste.patient.store.crash_image();
        let other = store.clone();
        let hooked = HookStore::new(
            Arc::new(store.clone()),
            move |upcoming| upcoming.number == call,
            move || drop(prune(&open(&other).unwrap()).unwrap()),
        );
        let (hooked, repository) = open_through(hooked);
        read(&store, repository);
        if !hooked.has_run() {
            return call;
        }
    }
    0
}

#[test]
fn a_restore_beside_a_collection_is_complete() {
    let workshop = Workshop::new();
    let waste = Waste::with_files(&workshop, 60);
    let calls = beside_a_collection(&waste, &|_, repository| {
        let (id, copy) = &waste.live()[0];
        let filter = SnapshotFilter::new();
        let snapshot = repository.find_snapshot(&id.to_string(), &filter).unwrap();
        let target = workshop.room();
        let report = restore(&repository, &snapshot, &target).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        assert_same_tree(copy, &restored(&target, &waste.patient.source));
        std::fs::remove_dir_all(target).unwrap();
    });
    assert!(calls > 15, "{calls}");
}

#[test]
fn a_listing_beside_a_collection_is_complete() {
    let workshop = Workshop::new();
    let waste = Waste::with_files(&workshop, 60);
    beside_a_collection(&waste, &|_, repository| {
        let snapshots = repository.snapshots(&SnapshotFilter::new()).unwrap();
        for (id, _) in waste.live() {
            let snapshot = snapshots.iter().find(|found| found.id == id).unwrap();
            let mut entries = 0;
            let mut visit = |_: &[u8], entry: dr_core::Result<&dr_core::Entry>| {
                entries += 1;
                entry.map(drop)
            };
            repository.list(snapshot, b"/", &mut visit).unwrap();
            assert!(entries > 60, "{entries}");
        }
    });
}

#[test]
fn a_check_beside_a_collection_finds_nothing_wrong() {
    let workshop = Workshop::new();
    let waste = Waste::with_files(&workshop, 60);
    beside_a_collection(&waste, &|_, repository| {
        let report = check(&repository).unwrap();
        assert!(report.is_intact(), "{:#?}", report.errors);
    });
}

/// Two collectors at once, at every pair of places where one can overtake the other.
#[test]
fn a_collection_beside_a_collection_loses_nothing() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    beside_a_collection(&waste, &|store, repository| {
        prune(&repository).unwrap();
        waste.assert_whole(&workshop, store);
        prune(&open(store).unwrap()).unwrap();
        assert_clean(store);
    });
}
