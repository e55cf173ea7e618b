//! The store stops at every single call of a collection, or is full: nothing is lost, and the next run finishes the job.

use std::sync::Arc;

use dr_core::ErrorKind;
use dr_store::sim::SimStore;
use dr_store::{PutMode, Store};
use dr_tests::TestRepo;
use dr_tests::damage::open;
use dr_tests::garbage::{Waste, assert_clean, prune, prune_as, thorough};
use dr_tests::steps::Workshop;

use crate::crash::at_every_call;

#[test]
fn a_crash_at_any_call_of_a_collection_loses_nothing() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let visited = at_every_call(
        &waste.patient.store,
        &|store, seed, _| {
            let repo = TestRepo::open(Arc::new(store.clone()), seed)?;
            let report = prune(&repo.repository)?;
            assert_eq!(report.collected, waste.forgotten);
            assert!(report.packs_dead > 0 && report.packs_repacked > 0 && report.segments_merged > 0);
            assert_eq!(report.leftovers, 3);
            Ok(())
        },
        &|wreck| {
            waste.assert_whole(&workshop, &wreck.store);
            let repo = TestRepo::open(Arc::new(wreck.store.clone()), wreck.seed).unwrap();
            prune(&repo.repository).unwrap();
            waste.assert_whole(&workshop, &wreck.store);
            assert_clean(&wreck.store);
            assert!(objects_in(&wreck.store, "probe").is_empty());
        },
    );
    assert!(visited >= 150, "{visited}");
}

fn objects_in(store: &SimStore, folder: &str) -> Vec<String> {
    let names = store.objects().into_iter().map(|(name, _)| name.as_str().to_owned());
    names.filter(|name| name.split('/').next() == Some(folder)).collect()
}

/// What is left after a crash at any call takes no more than what is left after a run without one, but for slots of the log.
#[test]
fn nothing_that_is_not_needed_outlives_a_crash_and_the_next_run() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let count = |store: &SimStore| ["data", "tree", "index", "ckpt"].map(|at| objects_in(store, at).len());
    let whole = waste.patient.store.crash_image();
    prune(&open(&whole).unwrap()).unwrap();
    let expected = count(&whole);
    at_every_call(
        &waste.patient.store,
        &|store, seed, _| prune(&TestRepo::open(Arc::new(store.clone()), seed)?.repository).map(drop),
        &|wreck| {
            prune(&TestRepo::open(Arc::new(wreck.store.clone()), wreck.seed).unwrap().repository).unwrap();
            let found = count(&wreck.store);
            let fits = found.iter().zip(&expected).all(|(found, expected)| found <= expected);
            assert!(fits, "{found:?}, not {expected:?}, after call {}", wreck.seed - 1000);
        },
    );
}

fn bytes_of(store: &SimStore) -> u64 {
    store.objects().iter().map(|(_, bytes)| bytes.len() as u64).sum()
}

/// A slot of the log still fits, and no pack does: what is dead goes first, and makes room for the rest.
#[test]
fn a_full_store_is_emptied_without_losing_anything() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    for spare in [0, 1000, 6000, 20_000, 100_000, 400_000, 1_500_000] {
        let store = waste.patient.store.crash_image();
        let before = bytes_of(&store);
        store.set_capacity(Some(before + spare));
        let outcome = prune(&open(&store).unwrap());
        match &outcome {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::StorageFull, "{spare}: {error:?}"),
        }
        if spare >= 6000 {
            assert!(bytes_of(&store) < before, "{spare}: nothing was freed");
        }
        waste.assert_whole(&workshop, &store);
        store.set_capacity(None);
        prune(&open(&store).unwrap()).unwrap();
        waste.assert_whole(&workshop, &store);
        assert_clean(&store);
    }
}

/// Shrinks no pack, so that a store that has room for nothing but slots ends in a good run.
#[test]
fn a_full_store_is_emptied_of_what_is_dead_in_one_run() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let store = waste.patient.store.crash_image();
    let before = bytes_of(&store);
    store.set_capacity(Some(before + 8000));
    let mut options = thorough();
    options.max_unused = dr_core::MaxUnused::Unlimited;
    let report = prune_as(&open(&store).unwrap(), &options).unwrap();
    assert!(report.objects_deleted > 3 && bytes_of(&store) < before, "{report:?}");
    waste.assert_whole(&workshop, &store);
}

/// A probe of the store's clock that a crash left behind says nothing, and does not stay.
#[test]
fn probes_that_were_left_behind_are_swept() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let store = &waste.patient.store;
    let name = dr_store::Name::new(format!("probe/{}", "0".repeat(32))).unwrap();
    store.put(&name, dr_store::Bytes::new().into(), PutMode::Create).unwrap();
    prune(&open(store).unwrap()).unwrap();
    assert!(objects_in(store, "probe").is_empty());
}
