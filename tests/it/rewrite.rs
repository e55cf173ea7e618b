//! Rewritten snapshots: what stays is as it was, what was left out is gone, and nothing else is touched, whatever comes between.

use std::path::Path;
use std::sync::Arc;

use dr_core::{
    Case, ErrorKind, Event, ForgetOptions, KeepPolicy, KeepReason, Patterns, Relation, Repository, Result,
    RetentionTimes, RewriteOptions, Rewritten, Snapshot, SnapshotFilter, TagChange, Timestamp,
};
use dr_store::sim::SimStore;
use dr_tests::damage::{Harm, Patient, open};
use dr_tests::garbage::{Waste, prune};
use dr_tests::history::{data_reads, open_hooked, snapshot, without};
use dr_tests::steps::{CancelAfter, Workshop, alone, check};
use dr_tests::{Node, TreeSpec};

use crate::crash::at_every_call;

fn excluding(patterns: &[&str]) -> RewriteOptions {
    let mut exclude = Patterns::new();
    for pattern in patterns {
        exclude.add(pattern.as_bytes(), Case::Sensitive).unwrap();
    }
    let mut options = RewriteOptions::new();
    options.exclude = exclude;
    options
}

fn rewrite(
    repository: &Repository,
    snapshots: &[Snapshot],
    options: &RewriteOptions,
) -> Result<Vec<Rewritten>> {
    alone(&(), |ctx| repository.rewrite(snapshots, options, ctx))
}

fn all(repository: &Repository) -> Vec<Snapshot> {
    repository.snapshots(&SnapshotFilter::new()).unwrap()
}

fn tree() -> TreeSpec {
    let mut tree = TreeSpec::files(&[
        ("keep/one", 5000),
        ("keep/deep/er/two", 300_000),
        ("secret/key", 700),
        ("secret/more/key", 900),
        ("cache/blob", 200_000),
        ("cache.txt", 100),
    ]);
    tree.put("keep/link", Node::Symlink(b"one".to_vec()));
    for number in 0..400 {
        tree.put(&format!("many/{number:03}"), Node::File { seed: 5000 + number, bytes: 40 });
    }
    tree.put("many/secret", Node::File { seed: 9000, bytes: 50 });
    tree
}

/// A repository with one snapshot of that tree.
fn patient(workshop: &Workshop) -> Patient {
    let mut patient = Patient::new(workshop);
    tree().write(&patient.source);
    patient.backup(workshop);
    patient
}

const LEFT_OUT: &[&str] = &["secret", "cache", "many/secret"];

#[test]
fn what_is_left_out_is_gone_and_the_rest_is_as_it_was() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let expected = without(&workshop, &patient.source, LEFT_OUT);
    let repository = open(&patient.store).unwrap();
    let before = all(&repository);
    patient.store.clear_calls();
    let done = rewrite(&repository, &before, &excluding(&["secret", "cache/"])).unwrap();
    assert_eq!(data_reads(&patient.store), 0, "file contents were read");
    let [done] = &done[..] else { panic!("{done:?}") };
    assert!(done.changed && !done.forgotten);
    assert_eq!(done.entries_left_out, 3);
    assert_eq!((done.totals_before.files - done.totals.files, done.totals.others), (4, 1));
    assert_eq!(done.totals_before.bytes - done.totals.bytes, 700 + 900 + 200_000 + 50);
    assert_eq!(done.totals_before.directories - done.totals.directories, 3);

    let [old, new] = &all(&repository)[..] else { panic!("two snapshots") };
    assert_eq!((old.id, Some(new.id)), (before[0].id, done.replacement));
    assert_eq!(
        (new.time, new.finished, &new.host, &new.paths),
        (old.time, old.finished, &old.host, &old.paths)
    );
    assert_eq!(new.origins[0].relation(), Some(Relation::Rewritten));
    assert_eq!((new.origins[0].snapshot, new.origins[0].repository()), (old.id, repository.id()));
    // The directories on the way, and one of two runs of the large one.
    assert!(new.totals.new_chunks <= 8, "{:?}", new.totals);
    workshop.assert_restores(&repository, new, &patient.source, &expected);
    workshop.assert_restores(&repository, old, &patient.source, &patient.source);

    repository.forget(&[old.id]).unwrap();
    prune(&repository).unwrap();
    let again = open(&patient.store).unwrap();
    workshop.assert_restores(&again, &all(&again)[0], &patient.source, &expected);
    let report = check(&again).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    // What was left out is in no pack any more.
    let stats = again.stats().unwrap();
    assert!(stats.chunk_bytes < done.totals.bytes + 200_000, "{stats:?}");
}

#[test]
fn what_does_not_change_is_passed_over_and_nothing_is_written() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let repository = open(&patient.store).unwrap();
    let before = patient.store.objects().len();
    for (options, changes) in [(excluding(&["nothing/of/this"]), false), (excluding(&["secret"]), true)] {
        let mut options = options;
        options.dry_run = changes;
        let done = rewrite(&repository, &all(&repository), &options).unwrap();
        assert_eq!((done[0].changed, done[0].replacement), (changes, None));
        assert_eq!(patient.store.objects().len(), before);
    }
    let everything = rewrite(&repository, &all(&repository), &excluding(&["*"])).unwrap_err();
    assert_eq!(everything.kind(), ErrorKind::InvalidInput);
    let nothing = rewrite(&repository, &all(&repository), &RewriteOptions::new()).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::InvalidInput);
    assert_eq!(patient.store.objects().len(), before);
}

#[test]
fn host_time_and_tags_change_without_a_look_at_the_tree() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let repository = open(&patient.store).unwrap();
    let before = all(&repository);
    let mut options = RewriteOptions::new();
    options.host = Some("other".to_owned());
    options.time = Some(Timestamp::from_nanoseconds(1_000_000_000_000_000_007));
    options.tags =
        vec![TagChange::Set(vec!["a".to_owned(), "b".to_owned()]), TagChange::Remove(vec!["a".to_owned()])];
    options.forget = true;
    patient.store.clear_calls();
    rewrite(&repository, &before, &options).unwrap();
    let is_pack = |name: &str| name.starts_with("tree/") || name.starts_with("data/");
    let packs = patient.store.objects().iter().filter(|(name, _)| is_pack(name.as_str())).count();
    assert_eq!(packs, 2, "the body stands in the log, and nothing else is new");
    let [new] = &all(&repository)[..] else { panic!("one snapshot") };
    assert_eq!((new.host.as_str(), new.tags.as_slice()), ("other", ["b".to_owned()].as_slice()));
    assert_eq!(new.time.as_nanoseconds(), 1_000_000_000_000_000_007);
    let took = |snapshot: &Snapshot| snapshot.finished.as_nanoseconds() - snapshot.time.as_nanoseconds();
    assert_eq!(took(new), took(&before[0]));
    assert_eq!(repository.forgotten_snapshots(&SnapshotFilter::new()).unwrap()[0].id, before[0].id);
    workshop.assert_restores(&repository, new, &patient.source, &patient.source);
}

#[test]
fn a_protected_snapshot_stays_and_so_does_what_takes_its_place() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let repository = open(&patient.store).unwrap();
    let id = patient.copies[0].0;
    repository.protect(&[id]).unwrap();
    let mut options = excluding(&["secret"]);
    options.forget = true;
    let error = rewrite(&repository, &all(&repository), &options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert_eq!(all(&repository).len(), 1);
    options.forget = false;
    rewrite(&repository, &all(&repository), &options).unwrap();
    assert!(all(&repository).iter().all(|snapshot| snapshot.protected));
    assert_eq!(all(&repository).len(), 2);
}

/// An old snapshot that is rewritten stays old: `latest` is what it was, and by default a policy takes the store's word for
/// when it was made.
#[test]
fn a_rewritten_snapshot_stands_where_the_original_stood() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    for round in 0..3 {
        let mut tree = TreeSpec::files(&[("kept", 900), ("secret", 50)]);
        tree.put("round", Node::File { seed: round, bytes: 100 });
        tree.write(&patient.source);
        patient.backup(&workshop);
    }
    let repository = open(&patient.store).unwrap();
    // No host's clock is ahead of the store's.
    patient.store.set_now_ms(4_000_000_000_000);
    let before = all(&repository);
    let mut options = excluding(&["secret"]);
    options.forget = true;
    let done = rewrite(&repository, &before[..2], &options).unwrap();
    // Once more: the place goes on.
    let mut again = RewriteOptions::new();
    (again.host, again.forget) = (Some("test".to_owned()), true);
    again.tags = vec![TagChange::Add(vec!["x".to_owned()])];
    let first = snapshot(&repository, &done[0].replacement.unwrap());
    let first = rewrite(&repository, &[first], &again).unwrap()[0].replacement.unwrap();
    let order: Vec<_> = all(&repository).iter().map(|snapshot| snapshot.id).collect();
    assert_eq!(order, [first, done[1].replacement.unwrap(), before[2].id]);
    let latest = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
    assert_eq!(latest.id, before[2].id);

    let mut policy = KeepPolicy::new();
    policy.last = 1;
    let mut by = ForgetOptions::new(policy);
    by.dry_run = true;
    for (times, kept) in [(RetentionTimes::Vouched, first), (RetentionTimes::Claimed, before[2].id)] {
        by.times = times;
        let groups = repository.forget_by_policy(&by).unwrap();
        let decisions: Vec<_> = groups.iter().flat_map(|group| &group.decisions).collect();
        let is_kept =
            |id| decisions.iter().any(|found| found.snapshot.id == id && found.reasons == [KeepReason::Last]);
        assert!(is_kept(kept), "{times:?}: {decisions:#?}");
    }
}

#[test]
fn entries_that_cannot_be_read_end_a_rewrite_and_can_be_left_out() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let names = patient.names_in("tree");
    let [name] = &names[..] else { panic!("{names:?}") };
    let store = patient.harmed(name, Harm::Delete);
    let repository = open(&store).unwrap();
    let error = rewrite(&repository, &all(&repository), &excluding(&["secret"])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.path().is_some() && error.remedy().unwrap().contains("repair snapshots"), "{error:?}");
    assert_eq!(all(&repository).len(), 1);
}

#[test]
fn a_cancelled_rewrite_is_taken_up_again() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    for round in 0..3 {
        let mut tree = tree();
        tree.put("round", Node::File { seed: round, bytes: 100 });
        tree.write(&patient.source);
        patient.backup(&workshop);
    }
    let repository = open(&patient.store).unwrap();
    let observer = CancelAfter::new(2, |event| matches!(event, Event::Committed { .. }));
    let before = all(&repository);
    let ctx = dr_core::Context::new(&observer, &observer.cancel).with_parallelism(2);
    let options = excluding(&["secret"]);
    let error = repository.rewrite(&before, &options, &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert_eq!(all(&repository).len(), 5, "two of three were done");
    let done = rewrite(&repository, &before, &options).unwrap();
    assert_eq!(all(&repository).len(), 6, "those two were found again");
    assert!(done.iter().all(|done| done.replacement.is_some()));
    assert!(check(&repository).unwrap().is_intact());
}

/// Every snapshot that is listed holds all, or all but what is left out.
fn assert_sound(workshop: &Workshop, store: &SimStore, source: &Path, expected: &Path) -> usize {
    let repository = open(store).unwrap();
    let report = check(&repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let snapshots = all(&repository);
    for snapshot in &snapshots {
        let copy = if snapshot.origins.is_empty() { source } else { expected };
        workshop.assert_restores(&repository, snapshot, source, copy);
    }
    snapshots.len()
}

#[test]
fn a_crash_at_any_call_of_a_rewrite_loses_nothing() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    let mut tree = TreeSpec::files(&[("keep/one", 5000), ("large", 300_000), ("secret/key", 700)]);
    tree.put("keep/link", Node::Symlink(b"one".to_vec()));
    tree.write(&patient.source);
    patient.backup(&workshop);
    let expected = without(&workshop, &patient.source, &["secret"]);
    let mut options = excluding(&["secret"]);
    options.forget = true;
    let (id, source) = (patient.copies[0].0, &patient.source);
    let visited = at_every_call(
        &patient.store,
        &|store, seed, observer| {
            let repo = dr_tests::TestRepo::open(Arc::new(store.clone()), seed)?;
            let original = repo.repository.find_snapshot(&id.to_string(), &SnapshotFilter::new())?;
            alone(observer, |ctx| repo.repository.rewrite(&[original], &options, ctx)).map(drop)
        },
        &|wreck| {
            let listed = assert_sound(&workshop, &wreck.store, source, &expected);
            assert!((1..=2).contains(&listed));
            // What is missing of it is done by the next run, and nothing twice.
            let repository = open(&wreck.store).unwrap();
            let left: Vec<_> = all(&repository).into_iter().filter(|found| found.id == id).collect();
            rewrite(&repository, &left, &options).unwrap();
            prune(&repository).unwrap();
            let listed = assert_sound(&workshop, &wreck.store, source, &expected);
            assert_eq!(listed, 1);
            assert_ne!(all(&repository)[0].id, id);
        },
    );
    assert!(visited >= 10, "{visited}");
}

/// A whole collection just before each call of the rewrite of a snapshot, which somebody forgets just then.
#[test]
fn a_collection_beside_a_rewrite_takes_nothing_that_is_needed() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let (id, copy) = waste.live()[0].clone();
    let expected = without(&workshop, &copy, &["a"]);
    let (mut made, mut refused) = (0, 0);
    for call in 0.. {
        for forgets in [false, true] {
            let store = waste.patient.store.crash_image();
            let other = store.clone();
            let (hooked, repository) = open_hooked(
                &store,
                move |upcoming| upcoming.number == call,
                move || {
                    let repository = open(&other).unwrap();
                    if forgets {
                        repository.forget(&[id]).unwrap();
                    }
                    prune(&repository).unwrap();
                },
            );
            let original = repository.find_snapshot(&id.to_string(), &SnapshotFilter::new());
            let done = original.and_then(|original| rewrite(&repository, &[original], &excluding(&["a"])));
            let listed = all(&open(&store).unwrap());
            let new = listed.iter().find(|snapshot| !snapshot.origins.is_empty());
            match done {
                Ok(done) => {
                    made += 1;
                    assert_eq!(new.map(|new| Some(new.id)), Some(done[0].replacement), "call {call}");
                }
                Err(error) => {
                    assert!(forgets, "call {call}: {error:?}");
                    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NotFound), "{error:?}");
                    refused += 1;
                }
            }
            if let Some(new) = new {
                workshop.assert_restores(&open(&store).unwrap(), new, &waste.patient.source, &expected);
            }
            prune(&open(&store).unwrap()).unwrap();
            assert!(check(&open(&store).unwrap()).unwrap().is_intact(), "call {call}");
            if !hooked.has_run() {
                assert!(made > 10 && refused > 0 && call > 8, "{made} {refused} {call}");
                return;
            }
        }
    }
}
