//! The simulator itself.

use std::sync::Arc;

use dr_store::sim::{CallKind, FaultRates, SimStore, When};
use dr_store::{Bytes, Payload, PutMode, Result, RetryOptions, RetryStore, Store, StoreErrorKind};

use crate::{listed, name};

/// Three mutating calls among five.
fn scenario(store: &SimStore) -> Result<()> {
    store.put(&name("a"), Payload::from("1"), PutMode::Create)?;
    store.get(&name("a"))?;
    store.put(&name("b"), Payload::from("22"), PutMode::Create)?;
    store.list("", None, &mut |_| Ok(()))?;
    store.delete(&name("a"))
}

#[test]
fn every_crash_point_can_be_visited() {
    let whole = SimStore::new();
    scenario(&whole).unwrap();
    assert_eq!((whole.call_count(), whole.mutation_count()), (5, 3));
    let left = [vec![], vec!["a"], vec!["a", "b"], vec!["b"]];
    for mutation in 0..whole.mutation_count() {
        for when in [When::Before, When::After] {
            let store = SimStore::new();
            store.crash_at_mutation(mutation, when);
            assert_eq!(scenario(&store).unwrap_err().kind(), StoreErrorKind::Other);
            assert!(store.is_crashed());
            assert!(store.get(&name("b")).is_err(), "a call after the crash succeeded");
            let expected = &left[mutation as usize + usize::from(when == When::After)];
            let image = store.crash_image();
            assert_eq!(&listed(&image), expected, "mutation {mutation}, {when:?}");
            // The image is a store of its own.
            image.put(&name("new"), Payload::from("x"), PutMode::Create).unwrap();
            assert_eq!(store.objects().len(), expected.len());
        }
    }
    let store = SimStore::new();
    store.crash_at(3, When::Before);
    scenario(&store).unwrap_err();
    assert_eq!((store.call_count(), listed(&store.crash_image())), (4, vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn calls_are_recorded() {
    let store = SimStore::new();
    scenario(&store).unwrap();
    store.get(&name("a")).unwrap_err();
    let calls = store.calls();
    let kinds: Vec<CallKind> = calls.iter().map(|call| call.kind).collect();
    use CallKind::{Delete, Get, List, PutCreate};
    assert_eq!(kinds, [PutCreate, Get, PutCreate, List, Delete, Get]);
    assert_eq!((calls[2].object.as_str(), calls[2].bytes, calls[2].failure), ("b", 2, None));
    assert_eq!(calls[5].failure, Some(StoreErrorKind::NotFound));
    store.clear_calls();
    assert!(store.calls().is_empty());
    assert_eq!(store.call_count(), 6);
}

#[test]
fn times_come_from_the_clock() {
    let store = SimStore::new();
    store.set_now_ms(1000);
    store.put(&name("a"), Payload::from("x"), PutMode::Create).unwrap();
    store.set_now_ms(2000);
    store.put(&name("b"), Payload::from("x"), PutMode::Create).unwrap();
    assert_eq!(store.stat(&name("a")).unwrap().modified_ms, 1000);
    assert_eq!(store.crash_image().stat(&name("b")).unwrap().modified_ms, 2000);
}

#[test]
fn a_full_store_refuses_growth_only() {
    let store = SimStore::new();
    store.put(&name("a"), Payload::from("12345"), PutMode::Create).unwrap();
    store.set_capacity(Some(8));
    let full = store.put(&name("b"), Payload::from("1234"), PutMode::Create).unwrap_err();
    assert_eq!(full.kind(), StoreErrorKind::StorageFull);
    store.put(&name("b"), Payload::from("123"), PutMode::Create).unwrap();
    store.put(&name("a"), Payload::from("54321"), PutMode::Replace).unwrap();
    store.delete(&name("a")).unwrap();
    store.put(&name("c"), Payload::from("12345"), PutMode::Create).unwrap();
    store.set_capacity(None);
    store.put(&name("d"), Payload::from("12345"), PutMode::Create).unwrap();
}

#[test]
fn damage_is_what_was_asked_for() {
    let store = SimStore::new();
    let a = name("a");
    store.put(&a, Payload::from(vec![0, 0, 0, 0]), PutMode::Create).unwrap();
    let before = store.get(&a).unwrap();
    store.corrupt(&a, 2, 0x81).unwrap();
    assert_eq!(store.get(&a).unwrap(), Bytes::from_static(&[0, 0, 0x81, 0]));
    assert_eq!(before, Bytes::from_static(&[0; 4]), "bytes read before changed");
    store.truncate(&a, 3).unwrap();
    assert_eq!(store.stat(&a).unwrap().bytes, 3);
    assert_eq!(store.corrupt(&a, 3, 1).unwrap_err().kind(), StoreErrorKind::InvalidInput);
    assert_eq!(store.truncate(&a, 4).unwrap_err().kind(), StoreErrorKind::InvalidInput);
    store.remove(&a).unwrap();
    assert_eq!(store.remove(&a).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert!(store.objects().is_empty());
}

fn faulty(seed: u64) -> (SimStore, Vec<bool>) {
    let store = SimStore::new();
    store.set_faults(seed, FaultRates { before_per_mille: 200, after_per_mille: 200 });
    let outcomes = (0..200)
        .map(|index| store.put(&name(&index.to_string()), Payload::from("x"), PutMode::Create).is_ok())
        .collect();
    (store, outcomes)
}

#[test]
fn faults_follow_the_seed_and_can_hide_effects() {
    let (store, outcomes) = faulty(7);
    assert_eq!(outcomes, faulty(7).1);
    assert_ne!(outcomes, faulty(8).1);
    let succeeded = outcomes.iter().filter(|ok| **ok).count();
    let stored = store.objects().len();
    assert!(succeeded < stored && stored < 200, "{succeeded} succeeded, {stored} stored");
}

#[test]
fn retries_overcome_faults() {
    for seed in 0..20 {
        let sim = SimStore::new();
        sim.set_faults(seed, FaultRates { before_per_mille: 250, after_per_mille: 250 });
        let options = RetryOptions { attempts_max: 60, seed, ..RetryOptions::default() };
        let store = RetryStore::new(Arc::new(sim.clone()), options, Arc::new(|_| {}));
        for index in 0..50 {
            let name = name(&format!("data/{index}"));
            store.put(&name, Payload::from(index.to_string()), PutMode::Create).unwrap();
            assert_eq!(store.get(&name).unwrap(), index.to_string());
            if index % 2 == 0 {
                store.delete(&name).unwrap();
            }
        }
        assert_eq!(listed(&store).len(), 25);
        assert_eq!(sim.objects().len(), 25);
    }
}
