//! Repairs of the index, of packs and of snapshots: what can be saved is, and what is lost is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dr_core::{
    CancelToken, Context, Delete, ErrorKind, ObjectHash, Repository, RestoreOptions, Result, SnapshotFilter,
    SnapshotId,
};
use dr_store::Name;
use dr_store::Store;
use dr_store::sim::SimStore;
use dr_tests::damage::{Harm, Patient, Restored, open};
use dr_tests::garbage::prune;
use dr_tests::history::open_hooked;
use dr_tests::steps::{Workshop, alone, backup, check, restore, restored};
use dr_tests::{Node, TreeSpec, assert_same_tree};

/// A directory of many small files, of which neighbours lie in different frames.
const MANY: u64 = 20_000;
/// Files of about a frame each.
const LARGE: u64 = 6;

fn patient(workshop: &Workshop, small: u64, large: u64) -> Patient {
    let mut tree = TreeSpec::files(&[("many/one", 10)]);
    for number in 0..small {
        let path = format!("many/{number:05}.e{}", number % 7);
        tree.put(&path, Node::File { seed: number, bytes: 60 });
    }
    for number in 0..large {
        tree.put(&format!("large{number}"), Node::File { seed: MANY + number, bytes: 700_000 });
    }
    let mut patient = Patient::new(workshop);
    tree.write(&patient.source);
    patient.backup(workshop);
    patient
}

fn only(names: Vec<Name>) -> Name {
    assert_eq!(names.len(), 1, "{names:?}");
    names.into_iter().next().unwrap()
}

fn hash_of(name: &Name) -> ObjectHash {
    ObjectHash::from_hex(name.as_str().rsplit('/').next().unwrap()).unwrap()
}

/// The paths of all files below a folder, which must hold what `original` holds at the same path.
fn files(folder: &Path, original: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for directory in ["", "many"] {
        for item in fs::read_dir(folder.join(directory)).unwrap() {
            let item = item.unwrap();
            if item.file_type().unwrap().is_file() {
                let path = Path::new(directory).join(item.file_name());
                assert!(
                    fs::read(item.path()).unwrap() == fs::read(original.join(&path)).unwrap(),
                    "{path:?}"
                );
                found.insert(path.to_str().unwrap().to_owned());
            }
        }
    }
    found
}

fn assert_latest_is_whole(repository: &Repository, patient: &Patient, workshop: &Workshop) {
    let latest = repository.snapshots(&SnapshotFilter::new()).unwrap().pop().unwrap();
    let target = workshop.room();
    assert!(restore(repository, &latest, &target).unwrap().is_complete());
    assert_same_tree(&patient.source, &restored(&target, &patient.source));
}

/// On one thread, which must do all that is waiting itself: of many small files, a frame of them is lost, and all of their
/// directory's tree is written anew.
#[test]
fn what_a_damaged_pack_lost_is_named_and_the_rest_goes_on() {
    for (small, large, least) in [(MANY, 0, 1000), (0, LARGE, 1)] {
        let workshop = Workshop::new();
        let patient = patient(&workshop, small, large);
        let pack = only(patient.names_in("data"));
        let offset = patient.store.stat(&pack).unwrap().bytes / 4;
        let store = patient.harmed(&pack, Harm::Flip { offset, bit: 3 });
        let repository = open(&store).unwrap();
        assert!(!check(&repository).unwrap().is_intact());
        let report = alone(&(), |ctx| repository.repair_packs(&[hash_of(&pack)], ctx)).unwrap();
        assert!(!report.chunks_lost.is_empty(), "{report:?}");

        let repairs = alone(&(), |ctx| repository.repair_snapshots(true, true, ctx)).unwrap();
        assert_eq!(repairs.len(), 1);
        assert_eq!(repairs[0].snapshot, patient.copies[0].0);
        let left = repository.snapshots(&SnapshotFilter::new()).unwrap();
        assert_eq!(left.iter().map(|left| Some(left.id)).collect::<Vec<_>>(), [repairs[0].replacement]);
        let target = workshop.room();
        assert!(restore(&repository, &left[0], &target).unwrap().is_complete());
        let found = files(&restored(&target, &patient.source), &patient.source);
        let lost: BTreeSet<String> = repairs[0]
            .lost
            .iter()
            .map(|problem| {
                let path = Path::new(std::str::from_utf8(&problem.path).unwrap());
                path.strip_prefix(&patient.source).unwrap().to_str().unwrap().to_owned()
            })
            .collect();
        assert!(lost.len() >= least, "{}", lost.len());
        let all = files(&patient.source, &patient.source);
        assert_eq!(all.len() as u64, small + large + 1);
        assert!(found.is_disjoint(&lost) && found.union(&lost).eq(all.iter()));

        // The next backup brings what was lost.
        assert!(backup(&repository, &patient.source).unwrap().is_complete());
        assert_latest_is_whole(&repository, &patient, &workshop);
        assert!(check(&repository).unwrap().is_intact());
    }
}

#[test]
fn what_a_mended_snapshot_lost_is_not_deleted_from_where_it_is_left() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, 0, LARGE);
    let target = workshop.room();
    let sound = open(&patient.store).unwrap();
    let whole = sound.snapshots(&SnapshotFilter::new()).unwrap().pop().unwrap();
    assert!(restore(&sound, &whole, &target).unwrap().is_complete());
    let pack = only(patient.names_in("data"));
    let store = patient.harmed(&pack, Harm::Flip { offset: 1_000_000, bit: 0 });
    let repository = open(&store).unwrap();
    alone(&(), |ctx| repository.repair_packs(&[hash_of(&pack)], ctx)).unwrap();
    assert!(!alone(&(), |ctx| repository.repair_snapshots(true, true, ctx)).unwrap()[0].lost.is_empty());
    let mended = repository.snapshots(&SnapshotFilter::new()).unwrap().pop().unwrap();
    let there = restored(&target, &patient.source);
    let surplus = there.join("surplus");
    fs::write(&surplus, "").unwrap();
    let run = |delete| {
        let options = RestoreOptions::new().delete(delete);
        alone(&(), |ctx| repository.restore(&mended, &target, &options, ctx))
    };
    assert_eq!(run(Delete::Surplus).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(surplus.exists());
    assert_eq!(run(Delete::SurplusAnyway).unwrap().deleted, 1);
    assert!(!surplus.exists());
    assert_same_tree(&patient.source, &there);
}

#[test]
fn a_dry_run_of_the_repair_of_snapshots_writes_nothing() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, 0, LARGE);
    let pack = only(patient.names_in("data"));
    let store = patient.harmed(&pack, Harm::Flip { offset: 1_000_000, bit: 0 });
    let repository = open(&store).unwrap();
    alone(&(), |ctx| repository.repair_packs(&[hash_of(&pack)], ctx)).unwrap();
    let before = store.objects();
    let repairs = alone(&(), |ctx| repository.repair_snapshots(false, true, ctx)).unwrap();
    assert!(repairs[0].replacement.is_none() && !repairs[0].lost.is_empty());
    assert_eq!(store.objects().len(), before.len());
}

/// Whatever happens to the only segment, the packs' own tables make a new one.
#[test]
fn a_lost_index_is_rebuilt_from_the_packs() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, MANY, LARGE);
    let segment = only(patient.names_in("index"));
    let bytes = patient.store.stat(&segment).unwrap().bytes;
    for harm in [Harm::Delete, Harm::Truncate(bytes / 2), Harm::Flip { offset: bytes / 3, bit: 7 }] {
        let store = patient.harmed(&segment, harm);
        let repository = open(&store).unwrap();
        let found = check(&repository);
        assert!(found.is_err() || !found.unwrap().is_intact(), "{harm:?}");
        let report = alone(&(), |ctx| repository.repair_index(ctx)).unwrap();
        assert_eq!(report.segments_damaged, [hash_of(&segment)], "{harm:?}");
        assert!(!report.packs_listed.is_empty() && report.packs_unreadable.is_empty(), "{report:?}");
        let again = open(&store).unwrap();
        let outcomes = patient.restore_all(&again, &workshop).unwrap();
        assert_eq!(outcomes, [(patient.copies[0].0, Restored::Whole)], "{harm:?}");
        // What the log does not name any more is no damage.
        assert!(
            check(&again).unwrap().errors.iter().all(|error| error.object == segment.as_str()),
            "{harm:?}"
        );
        let second = alone(&(), |ctx| again.repair_index(ctx)).unwrap();
        assert!(second.segments_damaged.is_empty() && second.packs_listed.is_empty(), "{harm:?}");
    }
}

/// Two snapshots, of which the second has another `a`; and for each the pack of the trees that are new with it.
fn two_trees(workshop: &Workshop) -> (Patient, Vec<Name>) {
    let mut patient = Patient::new(workshop);
    let mut packs = Vec::new();
    for round in 0..2 {
        let mut tree = TreeSpec::files(&[("b/two", 5000), ("b/c/three", 70_000), ("four", 10)]);
        tree.put("a/one", Node::File { seed: 100 + round, bytes: 900 });
        tree.write(&patient.source);
        patient.backup(workshop);
        let new = patient.names_in("tree").into_iter().filter(|name| !packs.contains(name)).collect();
        packs.push(only(new));
    }
    (patient, packs)
}

/// What was lost of each snapshot, by path below the source, and the snapshot that took its place.
fn mend(repository: &Repository, source: &Path) -> Vec<(SnapshotId, Vec<String>, SnapshotId)> {
    let repairs = alone(&(), |ctx| repository.repair_snapshots(true, true, ctx)).unwrap();
    let below = |path: &[u8]| {
        let path = std::str::from_utf8(path).unwrap();
        path.strip_prefix(source.to_str().unwrap()).unwrap_or(path).to_owned()
    };
    let told = repairs.iter().map(|repair| {
        let lost = repair.lost.iter().map(|problem| below(&problem.path)).collect();
        (repair.snapshot, lost, repair.replacement.unwrap())
    });
    told.collect()
}

/// Nothing is damaged, and these snapshots are noted as forgotten ones that lack something.
fn assert_noted(repository: &Repository, lacking: &[SnapshotId]) {
    let report = check(repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    for id in lacking {
        let is_it = |note: &&dr_core::Finding| note.object.starts_with(&format!("snapshot {id}"));
        let notes: Vec<_> = report.notes.iter().filter(is_it).collect();
        assert!(notes.len() == 1 && notes[0].detail.contains("'dr prune'"), "{:#?}", report.notes);
    }
    let of_snapshots = report.notes.iter().filter(|note| note.object.starts_with("snapshot "));
    assert_eq!(of_snapshots.count(), lacking.len(), "{:#?}", report.notes);
}

/// The pack with all trees of the first snapshot, of which the second needs `b`; or the one with the second's root.
#[test]
fn what_a_lost_tree_pack_held_is_named_and_only_forgotten_snapshots_lack_it_then() {
    let workshop = Workshop::new();
    let (patient, packs) = two_trees(&workshop);
    let [first, second] = [0, 1].map(|round| patient.copies[round].0);
    let root = vec!["/".to_owned()];
    let cases = [
        (&packs[0], vec![(first, root.clone()), (second, vec!["/b".to_owned()])]),
        (&packs[1], vec![(second, root)]),
    ];
    for (pack, expected) in cases {
        let store = patient.harmed(pack, Harm::Delete);
        let repository = open(&store).unwrap();
        let report = check(&repository).unwrap();
        assert!(report.errors.iter().any(|error| error.object == pack.as_str()), "{:#?}", report.errors);
        let report = alone(&(), |ctx| repository.repair_packs(&[hash_of(pack)], ctx)).unwrap();
        assert!(report.chunks_saved == 0 && !report.chunks_lost.is_empty(), "{report:?}");
        assert!(!check(&repository).unwrap().is_intact());

        let mended = mend(&repository, &patient.source);
        let lost: Vec<_> = mended.iter().map(|(id, lost, _)| (*id, lost.clone())).collect();
        assert_eq!(lost, expected);
        for (_, lost, replacement) in &mended {
            let snapshot =
                repository.find_snapshot(&replacement.to_string(), &SnapshotFilter::new()).unwrap();
            assert_eq!(repository.problems(&snapshot).unwrap().len(), 1);
            let target = workshop.room();
            assert!(restore(&repository, &snapshot, &target).unwrap().is_complete());
            let found = restored(&target, &patient.source);
            if lost[0] == "/" {
                assert!(!found.exists());
            } else {
                assert_eq!(fs::read_dir(found.join("b")).unwrap().count(), 0);
                assert_same_tree(&patient.copies[1].1.join("a"), &found.join("a"));
                assert_eq!(
                    fs::read(found.join("four")).unwrap(),
                    fs::read(patient.source.join("four")).unwrap()
                );
            }
        }

        // Forgotten snapshots may lack what they lack, but one that is brought back is damaged again.
        let lacking: Vec<SnapshotId> = mended.iter().map(|(id, ..)| *id).collect();
        assert_noted(&repository, &lacking);
        repository.unforget(&lacking[..1]).unwrap();
        let report = check(&repository).unwrap();
        assert!(report.error_count > 0);
        assert!(
            report.errors.iter().all(|error| error.detail.contains(&lacking[0].to_string())),
            "{report:#?}"
        );
        repository.forget(&lacking[..1]).unwrap();
        assert_noted(&repository, &lacking);
        let pruned = open(&store.crash_image()).unwrap();
        prune(&pruned).unwrap();
        assert_noted(&pruned, &[]);

        assert!(backup(&repository, &patient.source).unwrap().is_complete());
        assert_latest_is_whole(&repository, &patient, &workshop);
        assert!(check(&repository).unwrap().is_intact());
    }
}

/// A pack that is damaged and not given up is an error, whoever needs it: a backup may still count on it.
#[test]
fn a_damaged_pack_that_only_a_forgotten_snapshot_needs_is_an_error_until_it_is_given_up() {
    let workshop = Workshop::new();
    let (patient, packs) = two_trees(&workshop);
    let store = patient.harmed(&packs[1], Harm::Flip { offset: 200, bit: 0 });
    let repository = open(&store).unwrap();
    let second = patient.copies[1].0;
    repository.forget(&[second]).unwrap();
    let structure = alone(&(), |ctx| repository.check(&dr_core::CheckOptions::new(), ctx)).unwrap();
    assert!(!structure.is_intact(), "{:#?}", structure.notes);
    alone(&(), |ctx| repository.repair_packs(&[hash_of(&packs[1])], ctx)).unwrap();
    assert_noted(&repository, &[second]);
}

type Repair<'a> = &'a dyn Fn(&Repository, &Context<'_>) -> Result<()>;

/// Cancels a repair at each of its calls, each time on a store as it was; after another run, `look` looks at the store.
fn cancelled_at_every_call(store: &SimStore, repair: Repair<'_>, look: &dyn Fn(&SimStore)) {
    for call in 0.. {
        let store = store.crash_image();
        let cancel = CancelToken::new();
        let asked = cancel.clone();
        let (hooked, repository) =
            open_hooked(&store, move |upcoming| upcoming.number == call, move || asked.cancel());
        let outcome = repair(&repository, &Context::new(&(), &cancel).with_parallelism(1));
        if let Err(error) = outcome {
            assert_eq!(error.kind(), ErrorKind::Cancelled, "call {call}: {error:?}");
        }
        let has_run = hooked.has_run();
        let again = open(&store).unwrap();
        alone(&(), |ctx| repair(&again, ctx)).unwrap();
        look(&store);
        if !has_run {
            assert!(call > 5, "{call}");
            return;
        }
    }
}

#[test]
fn a_repair_that_is_cancelled_at_any_call_is_completed_by_the_next() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, 1500, 1);
    let whole = |store: &SimStore| {
        let repository = open(store).unwrap();
        let latest = repository.snapshots(&SnapshotFilter::new()).unwrap().pop().unwrap();
        let target = workshop.room();
        assert!(restore(&repository, &latest, &target).unwrap().is_complete());
        (repository, restored(&target, &patient.source))
    };

    let segment = only(patient.names_in("index"));
    let index: Repair<'_> = &|repository, ctx| repository.repair_index(ctx).map(drop);
    cancelled_at_every_call(&patient.harmed(&segment, Harm::Delete), index, &|store| {
        let (repository, found) = whole(store);
        assert_same_tree(&patient.source, &found);
        assert!(check(&repository).unwrap().is_intact());
    });

    let pack = only(patient.names_in("data"));
    let offset = patient.store.stat(&pack).unwrap().bytes / 4;
    let store = patient.harmed(&pack, Harm::Flip { offset, bit: 3 });
    let packs: Repair<'_> = &|repository, ctx| repository.repair_packs(&[hash_of(&pack)], ctx).map(drop);
    let snapshots: Repair<'_> = &|repository, ctx| repository.repair_snapshots(true, true, ctx).map(drop);
    let mended = |store: &SimStore| {
        let (repository, found) = whole(store);
        let left = files(&found, &patient.source).len();
        assert!((1..1502).contains(&left), "{left}");
        let report = check(&repository).unwrap();
        assert!(report.is_intact(), "{:#?}", report.errors);
    };
    cancelled_at_every_call(&store, packs, &|store| {
        alone(&(), |ctx| snapshots(&open(store).unwrap(), ctx)).unwrap();
        mended(store);
    });
    alone(&(), |ctx| packs(&open(&store).unwrap(), ctx)).unwrap();
    cancelled_at_every_call(&store, snapshots, &mended);
}
