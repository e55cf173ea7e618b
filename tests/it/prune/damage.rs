//! Damage before a collection: it refuses, or takes nothing away that could be restored.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dr_core::internals::write_checkpoint;
use dr_core::{ErrorKind, Repository, RepositoryOptions};
use dr_store::Name;
use dr_store::sim::{SimStore, When};
use dr_tests::damage::{Harm, Restored, open};
use dr_tests::garbage::{Waste, assert_clean, prune};
use dr_tests::key;
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::steps::{Workshop, alone, backup, options};

fn open_with_cache(store: &SimStore, cache: &Path) -> dr_core::Result<Repository> {
    let options = RepositoryOptions::new().cache_dir(cache);
    Repository::open(Arc::new(store.clone()), &key(), options)
}

/// What cannot be restored of each live snapshot, as far as that can be counted.
fn losses(waste: &Waste, workshop: &Workshop, store: &SimStore) -> Option<Vec<usize>> {
    let outcomes = waste.patient.restore_all(&open(store).ok()?, workshop).ok()?;
    let loss = |outcome: &Restored| match outcome {
        Restored::Whole => 0,
        Restored::Named(files) => files + 1,
        Restored::Refused(..) => usize::MAX - 1,
    };
    let found = |id| outcomes.iter().find(|(known, _)| *known == id).map_or(usize::MAX, |(_, it)| loss(it));
    Some(waste.live().into_iter().map(|(id, _)| found(id)).collect())
}

/// Harms the store, collects (with a cache of the time before, where there is one), and stops the test where less can be
/// restored than right after the harm. Whether the collection went through.
fn assert_harmless(
    waste: &Waste,
    workshop: &Workshop,
    (store, name, harm): (&SimStore, &Name, Harm),
    cache: Option<&Path>,
) -> bool {
    let store = store.crash_image();
    harm.inflict(&store, name);
    let harmed = store.crash_image();
    let room = workshop.room();
    let opened = match cache {
        None => open(&store),
        Some(cache) => {
            copy_folder(cache, &room);
            open_with_cache(&store, &room)
        }
    };
    let outcome = opened.and_then(|repository| prune(&repository));
    if let Err(error) = &outcome {
        let opens = ["config", "keys", "ring"].iter().any(|at| name.as_str().starts_with(at));
        let is_clear = opens || matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::RolledBack);
        assert!(is_clear, "{name}, {harm:?}: {error:?}");
    }
    let _ = fs::remove_dir_all(room);
    // Where nothing was deleted, nothing can be worse.
    let left = store.objects();
    if harmed.objects().iter().any(|object| !left.contains(object)) {
        let before = losses(waste, workshop, &harmed);
        let after = losses(waste, workshop, &store);
        let is_no_worse = match (&before, &after) {
            (Some(before), Some(after)) => before.iter().zip(after).all(|(before, after)| after <= before),
            (before, _) => before.is_none(),
        };
        assert!(is_no_worse, "{name}, {harm:?}, {outcome:?}: {before:?} became {after:?}");
    }
    outcome.is_ok()
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let below = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &below);
        } else {
            fs::copy(entry.path(), below).unwrap();
        }
    }
}

fn harms(bytes: usize) -> Vec<Harm> {
    let end = bytes as u64;
    let mut harms = vec![Harm::Delete];
    if end > 0 {
        harms.extend([0, end / 2].map(Harm::Truncate));
        harms.extend([120, end / 2, end - 30].map(|at| Harm::Flip { offset: at.min(end - 1), bit: 3 }));
    }
    harms
}

/// Every harm to every object, but only to the first and the last slots of a long log.
fn cases(store: &SimStore) -> Vec<(Name, Harm)> {
    let objects = store.objects();
    let slots = objects.iter().filter(|(name, _)| name.as_str().starts_with("log/")).count();
    let (mut cases, mut slot) = (Vec::new(), 0);
    for (name, bytes) in objects {
        let is_slot = name.as_str().starts_with("log/");
        slot += usize::from(is_slot);
        if !is_slot || slot <= 3 || slot + 9 > slots {
            cases.extend(harms(bytes.len()).into_iter().map(|harm| (name.clone(), harm)));
        }
    }
    cases
}

fn on_all_threads<T: Sync>(cases: &[T], judge: &(dyn Fn(&T) + Sync)) {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::Relaxed)) {
                    judge(case);
                }
            });
        }
    });
}

/// A repository whose index segments are objects, with a checkpoint, and a cache of it.
fn patient(workshop: &Workshop) -> (Waste, std::path::PathBuf) {
    let waste = Waste::with_files(workshop, 260);
    let store = &waste.patient.store;
    let id = waste.live()[0].0;
    let repository = open(store).unwrap();
    for round in 0..40 {
        let marked = if round % 2 == 0 { repository.protect(&[id]) } else { repository.unprotect(&[id]) };
        marked.unwrap();
    }
    let cache = workshop.room();
    // The index is read for it, and the log is so long that a checkpoint is kept.
    assert!(backup_dry(&open_with_cache(store, &cache).unwrap(), &waste.patient.source));
    let files = files_in(&cache);
    assert!(files.iter().any(|file| file.ends_with("checkpoint")), "{files:?}");
    assert!(files.len() > 3, "{files:?}");
    write_checkpoint(&repository).unwrap();
    (waste, cache)
}

fn backup_dry(repository: &Repository, source: &Path) -> bool {
    let mut options = options();
    options.dry_run = true;
    dr_tests::steps::backup_as(repository, source, &options, &()).unwrap().is_complete()
}

fn files_in(folder: &Path) -> Vec<std::path::PathBuf> {
    let (mut files, mut stack) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files.sort();
    files
}

#[test]
fn no_damage_makes_a_collection_take_what_can_be_restored() {
    let workshop = Workshop::new();
    let (waste, cache) = patient(&workshop);
    let store = &waste.patient.store;
    let (refused, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let cases = cases(store);
    for folder in ["config", "keys", "ring", "data", "tree", "index", "log", "ckpt"] {
        assert!(cases.iter().any(|(name, _)| name.as_str().starts_with(folder)), "nothing in {folder}/");
    }
    on_all_threads(&cases, &|(name, harm)| {
        for cache in [None, Some(cache.as_path())] {
            let is_done = assert_harmless(&waste, &workshop, (store, name, *harm), cache);
            if is_done { &done } else { &refused }.fetch_add(1, Ordering::Relaxed);
        }
    });
    // Both must have been seen: damage to what is dead is no hindrance, damage to what is needed is.
    assert!(refused.into_inner() > 50 && done.into_inner() > 50);
}

/// Damage after a collection was stopped somewhere: what was replaced must not go before what replaced it is known to be
/// there.
fn damage_after_a_stop_at_every(step: usize) {
    let workshop = Workshop::new();
    let (waste, _) = patient(&workshop);
    let mut images = Vec::new();
    for mutation in (0..).step_by(step) {
        let store = waste.patient.store.crash_image();
        store.crash_at_mutation(mutation, When::After);
        let cache = workshop.room();
        let outcome = open_with_cache(&store, &cache).and_then(|repository| {
            backup_dry(&repository, &waste.patient.source);
            prune(&repository)
        });
        if !store.is_crashed() {
            outcome.unwrap();
            break;
        }
        images.push((store.crash_image(), cache));
    }
    assert!(images.len() * step >= 15, "{}", images.len());
    let cases: Vec<_> = images
        .iter()
        .flat_map(|(store, cache)| {
            let needed = |(name, harm): &(Name, Harm)| {
                let is_part = ["data", "tree", "index"].iter().any(|at| name.as_str().starts_with(at));
                is_part && matches!(harm, Harm::Delete | Harm::Flip { offset: 120, .. })
            };
            cases(store).into_iter().filter(needed).map(move |(name, harm)| (store, cache, name, harm))
        })
        .collect();
    on_all_threads(&cases, &|(store, cache, name, harm)| {
        assert_harmless(&waste, &workshop, (store, name, *harm), Some(cache));
    });
}

#[test]
fn damage_after_a_collection_was_stopped_makes_the_next_take_nothing_away() {
    damage_after_a_stop_at_every(9);
}

#[test]
fn heavy_damage_after_a_collection_was_stopped_anywhere_makes_the_next_take_nothing_away() {
    damage_after_a_stop_at_every(1);
}

/// Everything in the cache is a copy, and none of it is believed.
#[test]
fn no_damage_to_the_cache_makes_a_collection_take_what_is_needed() {
    let workshop = Workshop::new();
    let (waste, cache) = patient(&workshop);
    let (files, objects) = (files_in(&cache), waste.patient.store.objects().len());
    let mut cases = Vec::new();
    for file in &files {
        let bytes = fs::read(file).unwrap();
        let end = bytes.len();
        if end == 0 {
            // The mark of the last use holds nothing that could be damaged.
            continue;
        }
        let mut harmed = vec![Vec::new(), bytes[..end / 2].to_vec(), bytes[..end - 1].to_vec()];
        for offset in [0, 9, 17, 40, 70, end / 2, end * 3 / 4, end - 1] {
            let mut flipped = bytes.clone();
            flipped[offset.min(end - 1)] ^= 4;
            harmed.push(flipped);
        }
        // Another file of the cache in its place.
        harmed.extend(files.iter().filter(|other| *other != file).map(|other| fs::read(other).unwrap()));
        cases.extend(harmed.into_iter().map(|bytes| (file.clone(), bytes)));
    }
    on_all_threads(&cases, &|(file, bytes)| {
        let (room, store) = (workshop.room(), waste.patient.store.crash_image());
        copy_folder(&cache, &room);
        fs::write(room.join(file.strip_prefix(&cache).unwrap()), bytes).unwrap();
        let outcome = open_with_cache(&store, &room).and_then(|repository| prune(&repository));
        if let Err(error) = &outcome {
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        }
        fs::remove_dir_all(room).unwrap();
        if store.objects().len() < objects {
            waste.assert_whole(&workshop, &store);
        }
    });
}

/// Such a table is too long to be compared with its checksum whenever it is opened.
#[test]
fn a_damaged_record_in_a_long_cached_table_is_noticed_before_anything_is_deleted() {
    let workshop = Workshop::new();
    let store = SimStore::new();
    let repository =
        Repository::create(Arc::new(store.clone()), &key(), &Default::default(), RepositoryOptions::new())
            .unwrap();
    let file = |number: u32| MemoryFile { bytes: number.to_le_bytes().to_vec(), ..MemoryFile::default() };
    let files = (0..400_000).map(|number| (format!("{number:06}"), file(number))).collect();
    let source =
        SharedSource(Arc::new(MemorySource { files, paths: vec!["/".into()], ..MemorySource::default() }));
    let report = alone(&(), |ctx| repository.backup(&source, &options(), ctx)).unwrap();
    assert!(report.is_complete());
    let cache = workshop.room();
    fs::create_dir_all(workshop.source()).unwrap();
    assert!(backup_dry(&open_with_cache(&store, &cache).unwrap(), &workshop.source()));
    // Whoever wants all of a long segment keeps it whole.
    open_with_cache(&store, &cache).unwrap().stats().unwrap();
    let table =
        files_in(&cache).into_iter().find(|file| fs::metadata(file).unwrap().len() > 16 << 20).unwrap();
    let sound = fs::read(&table).unwrap();
    for part in [1, 3, 5, 7] {
        let mut bytes = sound.clone();
        bytes[sound.len() * part / 8] ^= 1;
        fs::write(&table, bytes).unwrap();
        let before = store.objects().len();
        let error = prune(&open_with_cache(&store, &cache).unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
        assert_eq!(store.objects().len(), before);
    }
    fs::remove_file(&table).unwrap();
    prune(&open_with_cache(&store, &cache).unwrap()).unwrap();
}

/// Without any damage: the same repository with its cache comes out clean.
#[test]
fn a_collection_with_a_cache_ends_clean() {
    let workshop = Workshop::new();
    let (waste, cache) = patient(&workshop);
    let store = &waste.patient.store;
    prune(&open_with_cache(store, &cache).unwrap()).unwrap();
    waste.assert_whole(&workshop, store);
    assert_clean(store);
    assert!(backup(&open_with_cache(store, &cache).unwrap(), &waste.patient.source).unwrap().is_complete());
}
