//! Snapshots copied between repositories: the same bytes, read no more often than they must be, and nothing lost whatever
//! comes between.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::{
    Case, Context, CopyOptions, CopyReport, CreateOptions, Credentials, Damaged, ErrorKind, Event, Relation,
    Repository, RepositoryOptions, Result, RewriteOptions, Snapshot, SnapshotFilter, SnapshotId,
};
use dr_store::sim::SimStore;
use dr_tests::damage::{Harm, Patient, open};
use dr_tests::garbage::prune;
use dr_tests::history::{data_reads, open_hooked, without};
use dr_tests::steps::{CancelAfter, Workshop, alone, check};
use dr_tests::{Node, TestRepo, TreeSpec, key};

use crate::crash::at_every_call;

fn copy(target: &Repository, source: &Repository) -> Result<CopyReport> {
    copy_as(target, source, &CopyOptions::new())
}

fn copy_as(target: &Repository, source: &Repository, options: &CopyOptions) -> Result<CopyReport> {
    alone(&(), |ctx| target.copy_from(source, &all(source), options, ctx))
}

fn all(repository: &Repository) -> Vec<Snapshot> {
    repository.snapshots(&SnapshotFilter::new()).unwrap()
}

/// Whether a new repository gets the keys of ids of the other one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ids {
    Own,
    Shared,
}

/// An empty repository with keys of its own.
fn empty(ids: Ids, source: &SimStore) -> SimStore {
    let store = SimStore::new();
    let mut options = CreateOptions::new();
    if ids == Ids::Shared {
        options = options.sharing_ids_with(&open(source).unwrap());
    }
    Repository::create(Arc::new(store.clone()), &key(), &options, RepositoryOptions::new()).unwrap();
    store
}

fn tree(round: u64) -> TreeSpec {
    let mut tree =
        TreeSpec::files(&[("a/large", 700_000), ("a/small", 1200), ("empty", 0), ("b/c/d", 90_000)]);
    tree.put("link", Node::Symlink(b"a/small".to_vec()));
    tree.put("fifo", Node::Fifo);
    tree.put("changing", Node::File { seed: 100 + round, bytes: 30_000 });
    // Holds the same as another file.
    tree.put("again", Node::File { seed: 0, bytes: 700_000 });
    for number in 0..300 {
        tree.put(&format!("many/{number:03}"), Node::File { seed: 5000 + number, bytes: 100 });
    }
    tree
}

/// A repository with so many snapshots of a tree that changes.
fn patient(workshop: &Workshop, rounds: u64) -> Patient {
    let mut patient = Patient::new(workshop);
    for round in 0..rounds {
        tree(round).write(&patient.source);
        patient.backup(workshop);
    }
    patient
}

/// Every snapshot that is here restores as its original would.
fn assert_copies(workshop: &Workshop, patient: &Patient, store: &SimStore) -> Vec<Snapshot> {
    let repository = open(store).unwrap();
    let report = check(&repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let snapshots = all(&repository);
    for snapshot in &snapshots {
        let of = snapshot.origins[0].snapshot;
        assert_eq!(snapshot.origins[0].relation(), Some(Relation::Copy));
        let (_, copy) = patient.copies.iter().find(|(id, _)| *id == of).unwrap();
        workshop.assert_restores(&repository, snapshot, &patient.source, copy);
    }
    snapshots
}

#[test]
fn a_copy_holds_the_same_and_is_made_once() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, 3);
    let source = open(&patient.store).unwrap();
    for ids in [Ids::Own, Ids::Shared] {
        let store = empty(ids, &patient.store);
        let target = open(&store).unwrap();
        let report = copy(&target, &source).unwrap();
        assert!(report.is_complete());
        assert_eq!(report.snapshots.len(), 3);
        let (originals, copies) = (all(&source), assert_copies(&workshop, &patient, &store));
        for (original, copy) in originals.iter().zip(&copies) {
            assert_eq!((copy.time, copy.finished), (original.time, original.finished));
            assert_eq!(
                (&copy.host, &copy.paths, &copy.tags),
                (&original.host, &original.paths, &original.tags)
            );
            assert_eq!(
                (copy.totals.files, copy.totals.bytes),
                (original.totals.files, original.totals.bytes)
            );
            assert_ne!(copy.id, original.id);
        }
        assert_eq!(copies[1].parent, Some(copies[0].id));
        // What both hold is stored once, and read once.
        let bytes: u64 = 700_000 + 1200 + 90_000 + 3 * 30_000 + 300 * 100;
        assert!((bytes..bytes + 10_000).contains(&report.bytes_read), "{ids:?}: {report:?}");
        let objects = store.objects().len();
        patient.store.clear_calls();
        let again = copy(&target, &source).unwrap();
        assert!(again.snapshots.iter().all(|copied| copied.was_there && copied.copy.is_some()));
        assert_eq!((data_reads(&patient.store), store.objects().len()), (0, objects));

        // Without the originals, and without the repository that they were in.
        let target = open(&store).unwrap();
        prune(&target).unwrap();
        assert_eq!(assert_copies(&workshop, &patient, &store).len(), 3);
    }
}

/// What was made of a copy stands for it, unless the caller says otherwise; and what was rewritten where it is copied from is
/// another snapshot.
#[test]
fn a_rewritten_snapshot_is_no_copy_of_its_original() {
    let workshop = Workshop::new();
    let mut leaving = RewriteOptions::new();
    leaving.exclude.add(b"changing", Case::Sensitive).unwrap();
    let rewrite = |repository: &Repository, forget: bool| {
        let mut options = leaving.clone();
        options.forget = forget;
        let done = alone(&(), |ctx| repository.rewrite(&all(repository), &options, ctx)).unwrap();
        done[0].replacement.unwrap()
    };
    let mut beside = CopyOptions::new();
    beside.beside_rewritten = true;
    for ids in [Ids::Own, Ids::Shared] {
        let patient = patient(&workshop, 1);
        let less = without(&workshop, &patient.source, &["changing"]);
        let (source, store) = (open(&patient.store).unwrap(), empty(ids, &patient.store));
        let target = open(&store).unwrap();
        let was_there =
            |report: CopyReport| report.snapshots.iter().filter(|copied| copied.was_there).count();
        assert_eq!(was_there(copy(&target, &source).unwrap()), 0);
        // Here it was rewritten, and the copy forgotten: whoever copies again does not get back what was left out.
        let made = rewrite(&target, true);
        assert_eq!(was_there(copy(&target, &source).unwrap()), 1);
        assert_eq!(all(&target).iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), [made]);
        // Whoever asks for it does, once.
        for (round, known) in [(0, 0), (1, 1)] {
            assert_eq!(was_there(copy_as(&target, &source, &beside).unwrap()), known, "round {round}");
            assert_eq!(all(&target).len(), 2);
        }
        assert_eq!(was_there(copy(&target, &source).unwrap()), 1);
        // There it was rewritten as well: that is a snapshot of its own, and copied once.
        let theirs = rewrite(&source, false);
        for known in [1, 2] {
            for options in [&beside, &CopyOptions::new()] {
                let report = copy_as(&target, &source, options).unwrap();
                let copied = report.snapshots.iter().find(|copied| copied.snapshot == theirs).unwrap();
                let expected = if std::ptr::eq(options, &beside) && known == 1 { 1 } else { 2 };
                assert_eq!((was_there(report.clone()), all(&target).len()), (expected, 3), "{copied:?}");
            }
        }
        // And back: the source has all of it, but what the target made itself.
        let report = copy(&source, &target).unwrap();
        assert_eq!((report.snapshots.len(), all(&source).len()), (3, 3));
        for repository in [&source, &target] {
            for snapshot in all(repository) {
                let is_less =
                    snapshot.origins.iter().any(|origin| origin.relation() == Some(Relation::Rewritten));
                let expected = if is_less { &less } else { &patient.source };
                workshop.assert_restores(repository, &snapshot, &patient.source, expected);
            }
        }
    }
}

/// A later run reads what changed, though the keys differ; where the ids are shared, not even what another host brought.
#[test]
fn a_later_copy_reads_only_what_is_new() {
    let workshop = Workshop::new();
    let mut patient = patient(&workshop, 1);
    let stores = [Ids::Own, Ids::Shared].map(|ids| empty(ids, &patient.store));
    for store in &stores {
        assert!(copy(&open(store).unwrap(), &open(&patient.store).unwrap()).unwrap().is_complete());
    }
    tree(1).write(&patient.source);
    patient.backup(&workshop);
    for store in &stores {
        let report = copy(&open(store).unwrap(), &open(&patient.store).unwrap()).unwrap();
        assert_eq!(report.bytes_read, 30_000, "only the file that changed");
        assert_eq!(report.snapshots.iter().filter(|copied| copied.was_there).count(), 1);
        assert_eq!(assert_copies(&workshop, &patient, store).len(), 2);
    }
    // Once more with nothing to go by but the ids.
    let [_, shared] = &stores;
    let target = open(shared).unwrap();
    let ids: Vec<_> = all(&target).iter().map(|snapshot| snapshot.id).collect();
    target.forget(&ids).unwrap();
    let source = patient.store.crash_image();
    let report = copy(&target, &open(&source).unwrap()).unwrap();
    assert_eq!((report.bytes_read, data_reads(&source)), (0, 0));
    assert_eq!(report.snapshots.iter().filter(|copied| copied.was_there).count(), 0);
    assert_eq!(assert_copies(&workshop, &patient, shared).len(), 2);
}

#[test]
fn what_goes_back_and_forth_does_not_multiply() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, 2);
    let store = empty(Ids::Own, &patient.store);
    let third = empty(Ids::Own, &patient.store);
    let (one, two, three) = (open(&patient.store).unwrap(), open(&store).unwrap(), open(&third).unwrap());
    for _ in 0..2 {
        assert!(copy(&two, &one).unwrap().is_complete());
        assert!(copy(&one, &two).unwrap().is_complete());
        assert!(copy(&three, &two).unwrap().is_complete());
        assert!(copy(&three, &one).unwrap().is_complete());
        assert!(copy(&one, &three).unwrap().is_complete());
    }
    assert_eq!([&one, &two, &three].map(|repository| all(repository).len()), [2, 2, 2]);
    let itself = copy(&one, &open(&patient.store).unwrap()).unwrap_err();
    assert_eq!(itself.kind(), ErrorKind::InvalidInput);
}

#[test]
fn shared_ids_share_neither_keys_nor_credentials() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, 1);
    let source = open(&patient.store).unwrap();
    let store = SimStore::new();
    let other = Credentials::key([9; 32]);
    let options = CreateOptions::new().sharing_ids_with(&source);
    let made =
        Repository::create(Arc::new(store.clone()), &other, &options, RepositoryOptions::new()).unwrap();
    assert_ne!(made.id(), source.id());
    assert_eq!(open(&store).unwrap_err().kind(), ErrorKind::WrongCredentials);
    assert!(copy(&made, &source).unwrap().is_complete());
    // An object of one repository is refused by the other, though the chunks in it have the same ids.
    let pack = patient.names_in("data")[0].clone();
    let bytes = patient.store.objects().into_iter().find(|(name, _)| *name == pack).unwrap().1;
    let theirs = store.objects().into_iter().find(|(name, _)| name.as_str().starts_with("data/")).unwrap();
    let swapped = store.crash_image();
    swapped.remove(&theirs.0).unwrap();
    dr_store::Store::put(&swapped, &theirs.0, bytes.into(), dr_store::PutMode::Create).unwrap();
    let made = Repository::open(Arc::new(swapped), &other, RepositoryOptions::new()).unwrap();
    assert!(!check(&made).unwrap().is_intact());
}

#[test]
fn files_with_holes_and_long_lists_are_copied() {
    let workshop = Workshop::on_disk();
    let mut patient = Patient::new(&workshop);
    std::fs::create_dir_all(&patient.source).unwrap();
    let sparse = File::create(patient.source.join("sparse")).unwrap();
    // So many extents stand in a stream of their own.
    for number in 0..3000u64 {
        sparse.write_all_at(&number.to_le_bytes(), number * 16384).unwrap();
    }
    sparse.set_len(3001 * 16384).unwrap();
    patient.backup(&workshop);
    for ids in [Ids::Own, Ids::Shared] {
        let store = empty(ids, &patient.store);
        assert!(copy(&open(&store).unwrap(), &open(&patient.store).unwrap()).unwrap().is_complete());
        assert_eq!(assert_copies(&workshop, &patient, &store).len(), 1);
    }
}

/// Far more than a batch holds, on several threads, with every frame fetched once.
#[test]
fn heavy_large_trees_are_copied_on_several_threads() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    let mut tree = TreeSpec::files(&[("large", 40 << 20), ("larger", 70 << 20)]);
    for number in 0..40_000 {
        tree.put(&format!("{}/{number}", number % 13), Node::File { seed: number, bytes: 20 });
    }
    tree.write(&patient.source);
    let report =
        TestRepo::open(Arc::new(patient.store.clone()), 5).unwrap().backup(&[&patient.source]).unwrap();
    patient.copies.push((report.snapshot.unwrap(), patient.source.clone()));
    let store = empty(Ids::Own, &patient.store);
    let (target, source) = (open(&store).unwrap(), open(&patient.store).unwrap());
    let cancel = dr_core::CancelToken::new();
    let ctx = Context::new(&(), &cancel).with_parallelism(4);
    patient.store.clear_calls();
    let report = target.copy_from(&source, &all(&source), &CopyOptions::new(), &ctx).unwrap();
    assert!(report.is_complete());
    // Ranges of up to 8 MiB of 111 MB of packs, and some again where a batch ends.
    let reads = data_reads(&patient.store);
    assert!(reads < 60, "{reads}");
    assert_eq!(assert_copies(&workshop, &patient, &store).len(), 1);
}

#[test]
fn something_damaged_is_named_and_never_copied_in_silence() {
    let workshop = Workshop::new();
    let patient = patient(&workshop, 2);
    let mut cases = 0;
    for folder in ["data", "tree"] {
        for name in patient.names_in(folder) {
            let bytes =
                patient.store.objects().iter().find(|(found, _)| *found == name).unwrap().1.len() as u64;
            for harm in [Harm::Delete, Harm::Flip { offset: bytes / 3, bit: 2 }, Harm::Truncate(bytes / 2)] {
                for ids in [Ids::Own, Ids::Shared] {
                    let harmed = patient.harmed(&name, harm);
                    let store = empty(ids, &patient.store);
                    let (target, source) = (open(&store).unwrap(), open(&harmed).unwrap());
                    let report = copy(&target, &source).unwrap();
                    for copied in &report.snapshots {
                        assert_eq!(copied.copy.is_some(), copied.damaged.is_empty(), "{copied:?}");
                    }
                    assert_copies(&workshop, &patient, &store);
                    let missing = report.snapshots.iter().filter(|copied| copied.copy.is_none()).count();
                    assert_eq!(report.is_complete(), missing == 0);
                    cases += usize::from(missing > 0);

                    // The rest is copied where that is asked for, and says what is missing.
                    let mut rest = CopyOptions::new();
                    rest.damaged = Damaged::LeftOut;
                    let report = copy_as(&target, &source, &rest).unwrap();
                    assert!(report.snapshots.iter().all(|copied| copied.copy.is_some()));
                    let target = open(&store).unwrap();
                    assert!(check(&target).unwrap().is_intact());
                    for snapshot in all(&target) {
                        let origin = &snapshot.origins[0];
                        let (_, copy) = patient.copies.iter().find(|(id, _)| *id == origin.snapshot).unwrap();
                        let problems = target.problems(&snapshot).unwrap();
                        assert_eq!(problems.is_empty(), origin.relation() == Some(Relation::Copy));
                        assert_holds_but(&workshop, &target, &snapshot, (&patient.source, copy), &problems);
                    }
                    let listed = all(&target).len();
                    assert!(copy_as(&target, &source, &rest).unwrap().is_complete());
                    assert_eq!(all(&target).len(), listed, "the rest is copied once");

                    // Where it can be read again, the whole of it is copied as well.
                    let report = copy(&target, &open(&patient.store).unwrap()).unwrap();
                    assert!(report.is_complete());
                    assert_eq!(all(&target).len(), 2 + missing);
                }
            }
        }
    }
    assert!(cases >= 8, "{cases}");
}

/// Restores a snapshot: every byte is right, and what is missing is named.
fn assert_holds_but(
    workshop: &Workshop,
    repository: &Repository,
    snapshot: &Snapshot,
    (source, copy): (&Path, &Path),
    problems: &[dr_core::Problem],
) {
    let target = workshop.room();
    let report = dr_tests::steps::restore(repository, snapshot, &target).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let found = dr_tests::steps::restored(&target, source);
    let mut stack = vec![PathBuf::new()];
    while let Some(relative) = stack.pop() {
        let (was, is) = (copy.join(&relative), found.join(&relative));
        let path = source.join(&relative);
        let is_named = problems.iter().any(|problem| {
            let named = String::from_utf8(problem.path.clone()).unwrap();
            path.starts_with(&named)
        });
        if is.symlink_metadata().is_err() {
            assert!(is_named, "{} is missing and not named in {problems:?}", path.display());
        } else if was.symlink_metadata().unwrap().is_dir() {
            stack.extend(
                std::fs::read_dir(&was).unwrap().map(|entry| relative.join(entry.unwrap().file_name())),
            );
        } else if was.symlink_metadata().unwrap().is_file() {
            assert_eq!(std::fs::read(&was).unwrap(), std::fs::read(&is).unwrap(), "{}", path.display());
        }
    }
    std::fs::remove_dir_all(target).unwrap();
}

#[test]
fn a_crash_at_any_call_of_a_copy_loses_nothing_and_the_next_goes_on() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    for round in 0..2 {
        let mut tree = TreeSpec::files(&[("a/large", 300_000), ("small", 1200), ("empty", 0)]);
        tree.put("changing", Node::File { seed: 100 + round, bytes: 3000 });
        tree.write(&patient.source);
        patient.backup(&workshop);
    }
    for ids in [Ids::Own, Ids::Shared] {
        let start = empty(ids, &patient.store);
        let visited = at_every_call(
            &start,
            &|store, seed, observer| {
                let target = TestRepo::open(Arc::new(store.clone()), seed)?.repository;
                let source = open(&patient.store)?;
                let report = alone(observer, |ctx| {
                    target.copy_from(&source, &all(&source), &CopyOptions::new(), ctx)
                })?;
                assert!(report.is_complete(), "the other repository was not touched: {report:?}");
                Ok(())
            },
            &|wreck| {
                let copies = assert_copies(&workshop, &patient, &wreck.store);
                let is_there = |id: &SnapshotId| copies.iter().any(|copy| copy.id == *id);
                assert!(wreck.acknowledged.iter().all(is_there));
                let target = open(&wreck.store).unwrap();
                assert!(copy(&target, &open(&patient.store).unwrap()).unwrap().is_complete());
                prune(&target).unwrap();
                assert_eq!(assert_copies(&workshop, &patient, &wreck.store).len(), 2);
            },
        );
        assert!(visited >= 20, "{visited}");
    }
}

/// A whole collection of the target just before each call of the copy, with leftovers of any age: what the copy stored so far,
/// and what it found there.
#[test]
fn a_collection_beside_a_copy_takes_nothing_that_is_needed() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    for round in 0..2 {
        let mut tree = TreeSpec::files(&[("a/large", 300_000), ("small", 1200), ("b/c", 5000)]);
        tree.put("changing", Node::File { seed: 100 + round, bytes: 3000 });
        tree.write(&patient.source);
        patient.backup(&workshop);
    }
    for ids in [Ids::Own, Ids::Shared] {
        // The first was copied before; somebody forgets that copy, which the second rests on.
        let start = empty(ids, &patient.store);
        let source = open(&patient.store).unwrap();
        let first = all(&source)[..1].to_vec();
        let target = open(&start).unwrap();
        let copied = alone(&(), |ctx| target.copy_from(&source, &first, &CopyOptions::new(), ctx));
        assert!(copied.unwrap().is_complete());
        let id = all(&target)[0].id;
        for call in 0.. {
            let store = start.crash_image();
            let other = store.clone();
            let (hooked, target) = open_hooked(
                &store,
                move |upcoming| upcoming.number == call,
                move || {
                    let repository = open(&other).unwrap();
                    repository.forget(&[id]).unwrap();
                    prune(&repository).unwrap();
                },
            );
            let second = all(&source)[1..].to_vec();
            let report = alone(&(), |ctx| target.copy_from(&source, &second, &CopyOptions::new(), ctx));
            assert!(report.is_ok_and(|report| report.is_complete()), "call {call}");
            let copies = assert_copies(&workshop, &patient, &store);
            assert_eq!(copies.len(), if hooked.has_run() { 1 } else { 2 });
            prune(&open(&store).unwrap()).unwrap();
            assert_copies(&workshop, &patient, &store);
            if !hooked.has_run() {
                assert!(call > 8, "{call}");
                break;
            }
        }
    }
}

/// A whole collection of where is copied from, just before each call there: packs are rewritten under the copy's feet.
#[test]
fn a_collection_where_is_copied_from_does_not_matter() {
    let workshop = Workshop::new();
    let mut patient = patient(&workshop, 2);
    let forgotten = patient.copies.remove(0).0;
    open(&patient.store).unwrap().forget(&[forgotten]).unwrap();
    for call in 0.. {
        let store = patient.store.crash_image();
        let other = store.clone();
        let (hooked, source) = open_hooked(
            &store,
            move |upcoming| upcoming.number == call,
            move || drop(prune(&open(&other).unwrap()).unwrap()),
        );
        let target = empty(Ids::Own, &patient.store);
        let report = copy(&open(&target).unwrap(), &source).unwrap();
        assert!(report.is_complete(), "call {call}: {report:?}");
        assert_eq!(assert_copies(&workshop, &patient, &target).len(), 1);
        if !hooked.has_run() {
            assert!(call > 8, "{call}");
            return;
        }
    }
}

#[test]
fn heavy_a_cancelled_copy_keeps_what_it_stored() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    TreeSpec::files(&[("one", 45 << 20), ("two", 40 << 20)]).write(&patient.source);
    patient.backup(&workshop);
    for ids in [Ids::Own, Ids::Shared] {
        let store = empty(ids, &patient.store);
        let (target, source) = (open(&store).unwrap(), open(&patient.store).unwrap());
        let observer = CancelAfter::new(1, |event| matches!(event, Event::PackStored { .. }));
        let ctx = Context::new(&observer, &observer.cancel).with_parallelism(2);
        let error = target.copy_from(&source, &all(&source), &CopyOptions::new(), &ctx).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Cancelled);
        assert!(all(&target).is_empty());
        let report = copy(&target, &source).unwrap();
        assert!(report.new_bytes < 75 << 20, "{ids:?}: only a part is stored again: {report:?}");
        if ids == Ids::Shared {
            assert!(report.bytes_read < 75 << 20, "only a part is read again: {report:?}");
        }
        assert_eq!(assert_copies(&workshop, &patient, &store).len(), 1);
    }
}
