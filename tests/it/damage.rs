//! Every kind of object deleted, cut and altered: the damage is found and named, what is whole is restored, and no byte is
//! ever wrong.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use dr_core::{CreateOptions, Credentials, ErrorKind, Repository, RepositoryOptions, SnapshotFilter, scrub};
use dr_store::Name;
use dr_store::sim::SimStore;
use dr_tests::damage::{Harm, Patient, Restored, assert_found, names, open};
use dr_tests::steps::{Dice, Workshop, alone, backup, backup_as, check, options};
use dr_tests::{Node, TreeSpec, key};

/// The kinds of objects that matter to single snapshots, and those that matter to all.
const FOLDERS: [&str; 7] = ["config", "keys", "ring", "data", "tree", "index", "log"];

/// A repository with three snapshots and every kind of object but lists. The files are so many that an index segment
/// is too long to stand in the log.
fn patient(workshop: &Workshop) -> Patient {
    let mut patient = Patient::new(workshop);
    let mut tree = TreeSpec::default();
    for number in 0..600 {
        tree.put(&format!("d{}/f{number}", number % 10), Node::File { seed: number, bytes: 300 });
    }
    for round in 0..3 {
        tree.put("changing", Node::File { seed: 1000 + round, bytes: 2000 });
        tree.write(&patient.source);
        patient.backup(workshop);
    }
    patient
}

fn harms(bytes: usize) -> [Harm; 6] {
    let (bytes, middle) = (bytes as u64, bytes as u64 / 2);
    [
        Harm::Delete,
        Harm::Truncate(0),
        Harm::Truncate(middle),
        Harm::Truncate(bytes - 1),
        Harm::Flip { offset: middle, bit: 0 },
        Harm::Flip { offset: bytes - 1, bit: 7 },
    ]
}

/// Calls `judge` for every harm to every object of a folder, on all threads.
fn for_each_harm(patient: &Patient, folder: &str, judge: &(dyn Fn(&Name, Harm, &SimStore) + Sync)) {
    let names = patient.names_in(folder);
    assert!(!names.is_empty(), "no object in {folder}/");
    let objects = patient.store.objects();
    let bytes =
        |name: &Name| objects.iter().find(|(found, _)| found == name).map_or(0, |(_, bytes)| bytes.len());
    let cases: Vec<(Name, Harm)> =
        names.iter().flat_map(|name| harms(bytes(name)).map(|harm| (name.clone(), harm))).collect();
    on_all_threads(&cases, &|(name, harm)| judge(name, *harm, &patient.harmed(name, *harm)));
}

fn on_all_threads<T: Sync>(cases: &[T], judge: &(dyn Fn(&T) + Sync)) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    judge(case);
                }
            });
        }
    });
}

fn newest_slot(patient: &Patient) -> Name {
    // Slots are numbered downwards.
    patient.names_in("log").into_iter().min().unwrap()
}

#[test]
fn the_tests_repository_has_every_kind_of_object() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for folder in FOLDERS {
        assert!(!patient.names_in(folder).is_empty(), "{folder}");
    }
    let repository = open(&patient.store).unwrap();
    assert!(check(&repository).unwrap().is_intact());
    let outcomes = patient.restore_all(&repository, &workshop).unwrap();
    assert!(
        outcomes.len() == 3 && outcomes.iter().all(|(_, outcome)| *outcome == Restored::Whole),
        "{outcomes:?}"
    );
}

#[test]
fn damage_to_what_opens_the_repository_is_refused_by_name() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for folder in ["config", "keys", "ring"] {
        for_each_harm(&patient, folder, &|name, harm, store| {
            let error = open(store).unwrap_err();
            match harm {
                Harm::Delete if folder == "config" => assert_eq!(error.kind(), ErrorKind::NotFound),
                // Nobody can tell a lost key slot from a wrong key.
                Harm::Delete if folder == "keys" => assert_eq!(error.kind(), ErrorKind::WrongCredentials),
                Harm::Delete => assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}"),
                _ => {
                    let is_clear = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFormat);
                    assert!(is_clear && names(&error, name), "{name}, {harm:?}: {error:?}");
                }
            }
        });
    }
}

#[test]
fn a_new_repository_is_never_made_over_a_damaged_one() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for folder in FOLDERS {
        for_each_harm(&patient, folder, &|name, harm, store| {
            let before = store.objects();
            let create = Repository::create(
                Arc::new(store.clone()),
                &key(),
                &Default::default(),
                RepositoryOptions::new(),
            );
            assert!(create.is_err(), "{name}, {harm:?}");
            let lost = before.iter().filter(|object| !store.objects().contains(object)).count();
            assert_eq!(lost, 0, "{name}, {harm:?}");
            assert!(
                folder != "log"
                    || store.objects().iter().filter(|(name, _)| name.as_str().starts_with("log/")).count()
                        <= 4
            );
        });
    }
}

#[test]
fn damage_to_packs_is_found_and_the_other_files_are_restored() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for folder in ["data", "tree"] {
        for_each_harm(&patient, folder, &|name, harm, store| {
            let repository = open(store).unwrap();
            assert_found(&repository, name, harm);
            let outcomes = patient.restore_all(&repository, &workshop).unwrap();
            assert_eq!(outcomes.len(), 3, "{name}, {harm:?}");
            let refused = |outcome: &Restored| matches!(outcome, Restored::Refused(..));
            assert!(!outcomes.iter().any(|(_, outcome)| refused(outcome)), "{name}, {harm:?}: {outcomes:?}");
        });
    }
}

#[test]
fn damage_to_a_slot_of_the_log_costs_what_only_that_slot_says() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let newest = newest_slot(&patient);
    for_each_harm(&patient, "log", &|name, harm, store| {
        if harm == Harm::Delete && *name == newest {
            // Only who saw it before can tell: see the module `rollback`.
            return;
        }
        let repository = open(store).unwrap_or_else(|error| panic!("{name}, {harm:?}: {error:?}"));
        assert_found(&repository, name, harm);
        let outcomes = patient.restore_all(&repository, &workshop).unwrap();
        // A snapshot is lost with its own slot; the chunks that only that slot's segment lists are lost with it.
        assert!(outcomes.len() >= 2, "{name}, {harm:?}: {outcomes:?}");
        let refused = |outcome: &Restored| matches!(outcome, Restored::Refused(..));
        assert!(!outcomes.iter().any(|(_, outcome)| refused(outcome)), "{name}, {harm:?}: {outcomes:?}");
        let error = backup(&repository, &patient.source).unwrap_err();
        assert!(error.kind() == ErrorKind::Corrupt && names(&error, name), "{name}, {harm:?}: {error:?}");
    });
}

#[test]
fn damage_to_an_index_segment_is_found_and_never_gives_wrong_bytes() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for_each_harm(&patient, "index", &|name, harm, store| {
        let repository = open(store).unwrap();
        assert_found(&repository, name, harm);
        for (_, outcome) in patient.restore_all(&repository, &workshop).unwrap() {
            if let Restored::Refused(kind, object) = outcome {
                assert_eq!((kind, object.as_deref()), (ErrorKind::Corrupt, Some(name.as_str())), "{harm:?}");
            }
        }
    });
}

/// The segment lists what the first backup stored; `changing` and the directories above it were stored again later.
#[test]
fn a_damaged_index_segment_costs_only_the_files_that_it_lists() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for_each_harm(&patient, "index", &|name, harm, store| {
        let outcomes = patient.restore_all(&open(store).unwrap(), &workshop).unwrap();
        for (_, outcome) in &outcomes[1..] {
            // All of it, should the table have been made anew from the packs.
            let is_right = matches!(outcome, Restored::Named(600) | Restored::Whole);
            assert!(is_right, "{name}, {harm:?}: {outcomes:?}");
        }
    });
}

/// Either the backup says what is wrong, or what it makes can be restored but for files that a check names.
#[test]
fn the_next_backup_after_any_damage_fails_clearly_or_can_be_restored() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let newest = newest_slot(&patient);
    let mut tree = TreeSpec::default();
    tree.put("added", Node::File { seed: 9000, bytes: 1500 });
    let added = workshop.room();
    tree.write(&added);
    for folder in ["data", "tree", "index", "log"] {
        for_each_harm(&patient, folder, &|name, harm, store| {
            let repository = open(store).unwrap();
            match backup(&repository, &added) {
                Err(error) => {
                    let is_named = names(&error, name) || error.to_string().contains(name.as_str());
                    assert!(is_named && error.kind() == ErrorKind::Corrupt, "{name}, {harm:?}: {error:?}");
                }
                Ok(report) => {
                    assert!(
                        folder != "log" || *name == newest,
                        "{name}, {harm:?}: appended to a damaged log"
                    );
                    let again = open(store).unwrap();
                    let id = report.snapshot.unwrap().to_string();
                    let snapshot = again.find_snapshot(&id, &SnapshotFilter::new()).unwrap();
                    workshop.assert_restores(&again, &snapshot, &added, &added);
                }
            }
        });
    }
}

/// Deduplication trusts the index, so a backup may rely on a pack that is lost; then restore and check have to say so.
#[test]
fn a_backup_over_a_damaged_pack_never_passes_for_whole() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for_each_harm(&patient, "data", &|name, harm, store| {
        let repository = open(store).unwrap();
        let mut options = options();
        options.parent = dr_core::Parent::Nothing;
        let report = backup_as(&repository, &patient.source, &options, &()).unwrap();
        let again = open(store).unwrap();
        let id = report.snapshot.unwrap().to_string();
        let snapshot = again.find_snapshot(&id, &SnapshotFilter::new()).unwrap();
        let outcome = patient.restore_one(&again, &snapshot, &patient.source, &workshop);
        assert!(!matches!(outcome, Restored::Refused(..)), "{name}, {harm:?}: {outcome:?}");
        assert_found(&again, name, harm);
    });
}

/// Lists are written where a commit names more packs than fit a slot: 256 hashes.
#[test]
fn heavy_damage_to_a_list_is_found_by_name() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    let repository = open(&patient.store).unwrap();
    let mut all = TreeSpec::default();
    for number in 0..258 {
        let node = Node::File { seed: number, bytes: 60 };
        all.put(&format!("f{number}"), node.clone());
        let mut one = TreeSpec::default();
        one.put(&format!("f{number}"), node);
        one.write(&patient.source);
        assert!(backup(&repository, &patient.source).unwrap().is_complete());
    }
    all.write(&patient.source);
    patient.backup(&workshop);
    for_each_harm(&patient, "list", &|name, harm, store| assert_found(&open(store).unwrap(), name, harm));
}

/// Every bit of everything but packs, and every bit of many bytes of the packs, of the smallest repository that has two
/// snapshots: whatever is altered, a check says so, and what is listed is what was listed.
#[test]
fn heavy_every_flipped_bit_of_a_tiny_repository_is_found() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    let mut tree = TreeSpec::files(&[("a", 40)]);
    for round in 0..2 {
        tree.put("b", Node::File { seed: 50 + round, bytes: 30 });
        tree.write(&patient.source);
        patient.backup(&workshop);
    }
    let mut cases: Vec<(Name, u64)> = Vec::new();
    for (name, bytes) in patient.store.objects() {
        let is_pack = name.as_str().starts_with("data/") || name.as_str().starts_with("tree/");
        let end = bytes.len() as u64;
        if is_pack {
            cases.extend(bytes_of_interest(end).into_iter().map(|offset| (name.clone(), offset)));
        } else {
            cases.extend((0..end).map(|offset| (name.clone(), offset)));
        }
    }
    let visited = AtomicUsize::new(0);
    on_all_threads(&cases, &|(name, offset)| {
        for bit in 0..8 {
            let harm = Harm::Flip { offset: *offset, bit };
            assert_flip_is_found(&patient, &workshop, name, harm);
            visited.fetch_add(1, Ordering::Relaxed);
        }
    });
    assert!(visited.into_inner() > 20_000);
}

/// Header and first frames, trailer and footer before it, and a sample of the padding between.
fn bytes_of_interest(end: u64) -> Vec<u64> {
    let mut dice = Dice::new(end);
    let mut offsets: Vec<u64> = (0..130).chain((end - 130..end).step_by(2)).collect();
    offsets.extend((0..60).map(|_| 130 + dice.below(1500)));
    offsets.extend((0..60).map(|_| dice.below(end)));
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

fn assert_flip_is_found(patient: &Patient, workshop: &Workshop, name: &Name, harm: Harm) {
    let store = patient.harmed(name, harm);
    let repository = match open(&store) {
        Ok(repository) => repository,
        Err(error) => {
            let decides = ["config", "keys", "ring"].iter().any(|folder| name.as_str().starts_with(folder));
            assert!(decides, "{name}, {harm:?}: the repository does not open: {error:?}");
            let is_clear = matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::UnsupportedFormat);
            assert!(is_clear && names(&error, name), "{name}, {harm:?}: {error:?}");
            return;
        }
    };
    assert_found(&repository, name, harm);
    let Harm::Flip { offset, bit } = harm else { return };
    // A restore writes to a disk; one bit of every byte is enough for it.
    if u64::from(bit) == offset % 8 {
        let outcomes = patient.restore_all(&repository, workshop).unwrap();
        assert!(!outcomes.is_empty(), "{name}, {harm:?}");
    }
}

/// A slot's label, salt and costs are plain: they must be found altered before any of them is used, for else a single
/// bit asks for all memory of the machine.
#[test]
fn every_flipped_bit_of_a_password_slot_is_found_before_it_costs_anything() {
    let store = SimStore::new();
    let password = Credentials::password("correct horse").unwrap();
    let mut labelled = CreateOptions::new();
    labelled.label = "the label is not secret".to_owned();
    Repository::create(Arc::new(store.clone()), &password, &labelled, RepositoryOptions::new()).unwrap();
    let (name, bytes) =
        store.objects().into_iter().find(|(name, _)| name.as_str().starts_with("keys/")).unwrap();
    let begun = Instant::now();
    for offset in 0..bytes.len() as u64 {
        for bit in 0..8 {
            let store = store.crash_image();
            Harm::Flip { offset, bit }.inflict(&store, &name);
            let error = Repository::open(Arc::new(store), &password, RepositoryOptions::new()).unwrap_err();
            assert!(error.kind() == ErrorKind::Corrupt && names(&error, &name), "{offset}, {bit}: {error:?}");
        }
    }
    // One derivation alone takes a good part of that in a debug build.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Without any key. What a slot of the log says cannot be told without one, and what is missing neither.
#[test]
fn a_scrub_without_keys_names_what_is_altered() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let sound = alone(&(), |ctx| scrub(&patient.store, ctx)).unwrap();
    assert!(sound.is_intact() && sound.notes.is_empty(), "{sound:?}");
    for folder in ["config", "keys", "ring", "data", "tree", "index"] {
        for_each_harm(&patient, folder, &|name, harm, store| {
            let report = alone(&(), |ctx| scrub(store, ctx)).unwrap();
            let is_expected = if harm == Harm::Delete && folder != "config" { 0 } else { 1 };
            assert_eq!(report.error_count, is_expected, "{name}, {harm:?}: {report:?}");
            assert!(report.errors.iter().all(|found| found.object == name.as_str()), "{report:?}");
        });
    }
}

/// The log is read once when a repository is opened, but a check must not trust what was read then.
#[test]
fn a_check_of_an_open_repository_sees_what_was_damaged_since() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for folder in FOLDERS {
        let name = patient.names_in(folder).pop().unwrap();
        let store = patient.store.crash_image();
        let repository = open(&store).unwrap();
        let harm = Harm::Flip { offset: 20, bit: 3 };
        harm.inflict(&store, &name);
        assert_found(&repository, &name, harm);
    }
}

#[test]
fn an_empty_repository_whose_first_slot_is_damaged_says_so() {
    let workshop = Workshop::new();
    let patient = Patient::new(&workshop);
    let name = newest_slot(&patient);
    for harm in [Harm::Truncate(10), Harm::Flip { offset: 100, bit: 1 }] {
        match open(&patient.harmed(&name, harm)) {
            Ok(repository) => assert_found(&repository, &name, harm),
            Err(error) => {
                assert!(error.kind() == ErrorKind::Corrupt && names(&error, &name), "{harm:?}: {error:?}")
            }
        }
    }
}
