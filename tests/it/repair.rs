//! Repairs of the index, of packs and of snapshots: what can be saved is, and what is lost is named.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use dr_core::{Delete, ErrorKind, ObjectHash, Repository, RestoreOptions, SnapshotFilter};
use dr_store::Name;
use dr_store::Store;
use dr_tests::damage::{Harm, Patient, Restored, open};
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
