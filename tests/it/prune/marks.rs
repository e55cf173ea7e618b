//! Forgetting, bringing back, protecting and tagging.

use std::sync::Arc;

use dr_core::{ErrorKind, ForgetOptions, KeepPolicy, SnapshotFilter, TagChange};
use dr_tests::TestRepo;
use dr_tests::damage::open;
use dr_tests::garbage::{Waste, assert_clean, prune};
use dr_tests::steps::Workshop;

#[test]
fn a_forgotten_snapshot_comes_back_whole_until_it_is_collected() {
    let workshop = Workshop::new();
    let mut waste = Waste::new(&workshop);
    let store = waste.patient.store.clone();
    let repository = open(&store).unwrap();
    let filter = SnapshotFilter::new();
    let forgotten = |id| repository.forgotten_snapshots(&filter).unwrap().iter().any(|found| found.id == id);
    let [first, second, third] = waste.forgotten[..] else { panic!() };
    assert!(forgotten(first) && forgotten(second));
    repository.unforget(&[first]).unwrap();
    assert!(!forgotten(first));
    assert_eq!(repository.unforget(&[first]).unwrap_err().kind(), ErrorKind::NotFound);
    waste.forgotten = vec![second, third];
    waste.assert_whole(&workshop, &store);
    assert_eq!(prune(&repository).unwrap().collected, [second, third]);
    waste.assert_whole(&workshop, &store);
    for call in [repository.unforget(&[second]), repository.forget(&[second]), repository.protect(&[second])]
    {
        assert_eq!(call.unwrap_err().kind(), ErrorKind::NotFound);
    }
    assert!(repository.forgotten_snapshots(&filter).unwrap().is_empty());
    assert_clean(&store);
}

/// Of several ids one of which is wrong, nothing is changed.
#[test]
fn a_call_that_is_refused_changes_nothing() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let repository = open(&waste.patient.store).unwrap();
    let live = waste.live();
    let (first, second) = (live[0].0, live[1].0);
    let slots = waste.patient.names_in("log").len();
    repository.forget(&[first, waste.forgotten[0]]).unwrap_err();
    repository.unforget(&[waste.forgotten[0], second]).unwrap_err();
    repository.protect(&[first, waste.forgotten[0]]).unwrap_err();
    assert_eq!(waste.patient.names_in("log").len(), slots);
    waste.assert_whole(&workshop, &waste.patient.store);
}

#[test]
fn a_protected_snapshot_survives_every_policy_and_a_forget_by_name() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let store = &waste.patient.store;
    let repository = open(store).unwrap();
    let live = waste.live();
    repository.protect(&[live[0].0]).unwrap();
    let error = repository.forget(&[live[0].0]).unwrap_err();
    assert!(
        error.kind() == ErrorKind::InvalidInput && error.remedy().unwrap().contains("--remove"),
        "{error:?}"
    );
    let mut policy = KeepPolicy::new();
    policy.last = 1;
    let groups = repository.forget_by_policy(&ForgetOptions::new(policy)).unwrap();
    assert!(groups.iter().flat_map(|group| &group.decisions).all(|decision| !decision.reasons.is_empty()));
    waste.assert_whole(&workshop, store);
    let mut all = ForgetOptions::new(KeepPolicy::new());
    assert_eq!(repository.forget_by_policy(&all).unwrap_err().kind(), ErrorKind::InvalidInput);
    all.allow_empty = true;
    all.dry_run = true;
    repository.forget_by_policy(&all).unwrap();
    waste.assert_whole(&workshop, store);
    all.dry_run = false;
    repository.forget_by_policy(&all).unwrap();
    prune(&repository).unwrap();
    let left = open(store).unwrap().snapshots(&SnapshotFilter::new()).unwrap();
    assert_eq!(left.iter().map(|found| found.id).collect::<Vec<_>>(), [live[0].0]);
    workshop.assert_restores(&open(store).unwrap(), &left[0], &waste.patient.source, &live[0].1);
    repository.unprotect(&[live[0].0]).unwrap();
    repository.forget(&[live[0].0]).unwrap();
    prune(&repository).unwrap();
    for folder in ["data", "tree", "index"] {
        assert!(waste.patient.names_in(folder).is_empty(), "{folder}/ is not empty");
    }
    assert_clean(store);
}

#[test]
fn tags_change_and_stay_through_a_collection() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let store = &waste.patient.store;
    let repo = TestRepo::open(Arc::new(store.clone()), 77).unwrap();
    let id = waste.live()[0].0;
    let tags = || repo.snapshots()[0].tags.clone();
    let change = |change: TagChange| repo.repository.tag(&[id], &change).unwrap();
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(change(TagChange::Add(texts(&["b", "a", "b"]))), [id]);
    assert_eq!(tags(), ["b", "a"]);
    change(TagChange::Remove(texts(&["b", "x"])));
    assert_eq!(tags(), ["a"]);
    let slots = waste.patient.names_in("log").len();
    assert!(change(TagChange::Set(texts(&["a"]))).is_empty());
    assert_eq!(waste.patient.names_in("log").len(), slots, "an entry that changes nothing");
    prune(&repo.repository).unwrap();
    assert_eq!(tags(), ["a"]);
    let mut filter = SnapshotFilter::new();
    filter.tags = vec!["a".to_owned()];
    assert_eq!(repo.repository.snapshots(&filter).unwrap().len(), 1);
    change(TagChange::Set(Vec::new()));
    assert!(tags().is_empty());
    let gone = repo.repository.tag(&[waste.forgotten[0]], &TagChange::Set(texts(&["x"])));
    assert_eq!(gone.unwrap_err().kind(), ErrorKind::NotFound);
}
