//! What takes the place of a snapshot: whatever others do meanwhile, the one or the other is there, unless somebody wanted both
//! gone.

use std::cell::Cell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dr_core::{
    Case, ErrorKind, MergeOptions, Patterns, PutContent, PutOptions, Repository, Result, RewriteOptions,
    Snapshot, SnapshotFilter, SnapshotId, StreamInput, TagChange, WhenUnchanged,
};
use dr_store::sim::SimStore;
use dr_tests::damage::{Patient, open};
use dr_tests::garbage::prune;
use dr_tests::history::{open_hooked, without};
use dr_tests::steps::{Workshop, alone, check, options};
use dr_tests::{TestRepo, TreeSpec};

fn all(repository: &Repository) -> Vec<Snapshot> {
    repository.snapshots(&SnapshotFilter::new()).unwrap()
}

fn is_there(repository: &Repository, id: &SnapshotId) -> bool {
    all(repository).iter().any(|snapshot| snapshot.id == *id)
}

fn excluding(pattern: &str) -> RewriteOptions {
    let mut options = RewriteOptions::new();
    options.exclude = Patterns::new();
    options.exclude.add(pattern.as_bytes(), Case::Sensitive).unwrap();
    options.forget = true;
    options
}

fn tagging(tag: &str) -> RewriteOptions {
    let mut options = RewriteOptions::new();
    (options.tags, options.forget) = (vec![TagChange::Add(vec![tag.to_owned()])], true);
    options
}

fn rewrite(repository: &Repository, id: SnapshotId, options: &RewriteOptions) -> Result<()> {
    let snapshot = repository.find_snapshot(&id.to_string(), &SnapshotFilter::new())?;
    alone(&(), |ctx| repository.rewrite(&[snapshot], options, ctx)).map(drop)
}

fn merge(repository: &Repository) -> Result<()> {
    let mut options = MergeOptions::new();
    options.forget = true;
    let snapshots = repository.snapshots(&SnapshotFilter::new())?;
    alone(&(), |ctx| repository.merge_snapshots(&snapshots, &options, ctx)).map(drop)
}

fn beat(repository: &Repository) -> Result<()> {
    let put = PutOptions::new(options()).mode(PutContent::Whole).unchanged(WhenUnchanged::Heartbeat);
    let input = StreamInput::new("stream", io::Cursor::new(b"content"));
    alone(&(), |ctx| repository.put(input, &put, ctx)).map(drop)
}

/// Two snapshots of one host.
fn patient(workshop: &Workshop) -> Patient {
    let mut patient = Patient::new(workshop);
    for round in 0..2 {
        let round = format!("round{round}");
        TreeSpec::files(&[("keep", 5000), ("secret/key", 700), (&round, 90)]).write(&patient.source);
        patient.backup(workshop);
    }
    patient
}

type Act<'a> = &'a dyn Fn(&Repository) -> Result<()>;

/// Does something with `meddle` just before every one of its calls, each time on a store as it was, and gives each store and
/// outcome to `look`. How many calls there are.
fn beside_every_call(
    store: &SimStore,
    act: Act<'_>,
    meddle: impl Fn(&Repository) + Clone + Send + 'static,
    look: &dyn Fn(&SimStore, Result<()>),
) -> u64 {
    for call in 0.. {
        let store = store.crash_image();
        let (other, meddle) = (store.clone(), meddle.clone());
        let chosen = move |upcoming: &dr_tests::hook::Upcoming<'_>| upcoming.number == call;
        let (hooked, repository) = open_hooked(&store, chosen, move || meddle(&open(&other).unwrap()));
        let outcome = act(&repository);
        look(&store, outcome);
        let again = open(&store).unwrap();
        prune(&again).unwrap();
        assert!(check(&again).unwrap().is_intact(), "call {call}");
        if !hooked.has_run() {
            assert!(call > 5, "{call}");
            return call;
        }
    }
    unreachable!("it never ends")
}

/// Somebody forgets what takes the place of snapshots as soon as it is there, while they are there too: then they stay.
fn assert_stays_where_its_replacement_is_forgotten(store: &SimStore, replaced: &[SnapshotId], act: Act<'_>) {
    let known: Vec<SnapshotId> = all(&open(store).unwrap()).iter().map(|snapshot| snapshot.id).collect();
    let met = Arc::new(AtomicU64::new(0));
    let ids = replaced.to_vec();
    let forget = {
        let (met, ids) = (met.clone(), ids.clone());
        move |other: &Repository| {
            let there = all(other);
            let new = there.iter().find(|snapshot| !known.contains(&snapshot.id));
            let is_both = ids.iter().all(|id| is_there(other, id));
            if let Some(new) = new.filter(|_| is_both) {
                other.forget(&[new.id]).unwrap();
                met.fetch_add(1, Ordering::Relaxed);
            }
        }
    };
    let times = Cell::new(0);
    beside_every_call(store, act, forget, &|store, outcome| {
        let repository = open(store).unwrap();
        if met.swap(0, Ordering::Relaxed) > 0 {
            assert!(ids.iter().all(|id| is_there(&repository, id)), "{:?} {outcome:?}", all(&repository));
            times.set(times.get() + 1);
        } else {
            outcome.unwrap();
        }
    });
    assert!(times.get() > 0, "nobody was in between");
}

#[test]
fn an_original_stays_where_its_replacement_is_forgotten_meanwhile() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let ids: Vec<SnapshotId> = patient.copies.iter().map(|(id, _)| *id).collect();
    let leave_out = |repository: &Repository| rewrite(repository, ids[0], &excluding("secret"));
    assert_stays_where_its_replacement_is_forgotten(&patient.store, &ids[..1], &leave_out);
    assert_stays_where_its_replacement_is_forgotten(&patient.store, &ids, &merge);
}

/// The heartbeat before may be the last that holds the content.
#[test]
fn a_heartbeat_stays_where_the_next_is_forgotten_meanwhile() {
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    beat(&repo.repository).unwrap();
    beat(&repo.repository).unwrap();
    let snapshots = repo.snapshots();
    assert_eq!(snapshots[1].tags, ["heartbeat"]);
    repo.repository.forget(&[snapshots[0].id]).unwrap();
    assert_stays_where_its_replacement_is_forgotten(&store, &[snapshots[1].id], &beat);
}

/// Somebody forgets the original, or puts another snapshot in its place: what was asked for is there all the same.
#[test]
fn an_original_that_others_forget_or_rewrite_is_rewritten_once_for_each() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let (id, copy) = patient.copies[0].clone();
    let expected = without(&workshop, &copy, &["secret"]);
    let leave_out = |repository: &Repository| rewrite(repository, id, &excluding("secret"));
    for rewrites in [false, true] {
        let meddle = move |other: &Repository| {
            // It may be gone.
            let _ = if rewrites { rewrite(other, id, &tagging("theirs")) } else { other.forget(&[id]) };
        };
        beside_every_call(&patient.store, &leave_out, meddle, &|store, outcome| {
            let repository = open(store).unwrap();
            // Only before it was looked up is it too late.
            let is_late = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound);
            assert!(outcome.is_ok() || is_late, "{outcome:?}");
            assert!(!is_there(&repository, &id));
            let made: Vec<Snapshot> =
                all(&repository).into_iter().filter(|snapshot| !snapshot.origins.is_empty()).collect();
            let ours = made.iter().filter(|snapshot| !snapshot.tags.contains(&"theirs".to_owned())).count();
            assert_eq!(ours, usize::from(outcome.is_ok()), "{made:?}");
            for snapshot in &made {
                let is_theirs = snapshot.tags.contains(&"theirs".to_owned());
                let copy = if is_theirs { &copy } else { &expected };
                workshop.assert_restores(&repository, snapshot, &patient.source, copy);
            }
        });
    }
}

#[test]
fn an_original_that_is_protected_meanwhile_stays() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let ids: Vec<SnapshotId> = patient.copies.iter().map(|(id, _)| *id).collect();
    let leave_out = |repository: &Repository| rewrite(repository, ids[0], &excluding("secret"));
    for act in [&leave_out as Act<'_>, &merge] {
        let (met, id) = (Arc::new(AtomicU64::new(0)), ids[0]);
        let protect = {
            let met = met.clone();
            // It may be forgotten already.
            move |other: &Repository| met.store(u64::from(other.protect(&[id]).is_ok()), Ordering::Relaxed)
        };
        let told = AtomicU64::new(0);
        beside_every_call(&patient.store, act, protect, &|store, outcome| {
            let is_protected = met.swap(0, Ordering::Relaxed) > 0;
            assert_eq!(is_there(&open(store).unwrap(), &id), is_protected, "{outcome:?}");
            if let (true, Err(error)) = (is_protected, &outcome) {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
                let has_new = all(&open(store).unwrap()).iter().any(|snapshot| !snapshot.origins.is_empty());
                assert_eq!(error.to_string().contains("was made, but"), has_new, "{error}");
                told.fetch_add(u64::from(has_new), Ordering::Relaxed);
            } else {
                outcome.unwrap();
                assert!(!is_protected);
            }
        });
        assert!(told.into_inner() > 0);
    }
}
