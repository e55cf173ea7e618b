//! A newest slot of the log that was written bad: found, never taken for something else, and made void on request.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dr_core::{
    ErrorKind, LogRepair, LogRepairOptions, Repository, RepositoryOptions, Result, SnapshotFilter,
};
use dr_store::sim::{SimStore, When};
use dr_store::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Store};
use dr_tests::damage::{Harm, Patient, Restored, open};
use dr_tests::garbage::{Waste, prune};
use dr_tests::hook::HookStore;
use dr_tests::key;
use dr_tests::shell::Shell;
use dr_tests::steps::{Workshop, alone, backup, check};
use dr_tests::{Node, TreeSpec};

fn write(patient: &Patient, round: u64) {
    let mut tree = TreeSpec::files(&[("same", 50_000), ("a/b", 2500)]);
    tree.put("changing", Node::File { seed: 100 + round, bytes: 120_000 });
    tree.write(&patient.source);
}

/// Three snapshots.
fn patient(workshop: &Workshop) -> Patient {
    let mut patient = Patient::new(workshop);
    for round in 0..3 {
        write(&patient, round);
        patient.backup(workshop);
    }
    patient
}

fn slots(store: &SimStore) -> Vec<Name> {
    let names = store.objects().into_iter().map(|(name, _)| name);
    // Slots are numbered downwards.
    let mut slots: Vec<Name> = names.filter(|name| name.as_str().starts_with("log/")).collect();
    slots.reverse();
    slots
}

fn newest(store: &SimStore) -> Name {
    slots(store).pop().unwrap()
}

fn length(store: &SimStore, name: &Name) -> u64 {
    store.stat(name).unwrap().bytes
}

fn replace(store: &SimStore, name: &Name, bytes: Vec<u8>) {
    store.remove(name).unwrap();
    store.put(name, bytes.into(), PutMode::Create).unwrap();
}

fn promised() -> LogRepairOptions {
    let mut options = LogRepairOptions::new();
    options.exclusive = true;
    options
}

fn dry() -> LogRepairOptions {
    let mut options = LogRepairOptions::new();
    options.dry_run = true;
    options
}

fn repair(repository: &Repository, options: &LogRepairOptions) -> Result<LogRepair> {
    alone(&(), |ctx| repository.repair_log(options, ctx))
}

/// What a bad write may leave in a slot.
fn damaged(patient: &Patient, workshop: &Workshop) -> Vec<(String, SimStore)> {
    let name = newest(&patient.store);
    let bytes = length(&patient.store, &name);
    let mut harms: Vec<Harm> = [0, 1, 7, 65, 97, bytes / 2, bytes - 1].map(Harm::Truncate).to_vec();
    // The magic number, the salt, the commitment, the sealed message and its tag.
    harms.extend([0, 40, 70, 120, bytes / 2, bytes - 1].map(|offset| Harm::Flip { offset, bit: 3 }));
    let mut damaged: Vec<(String, SimStore)> =
        harms.into_iter().map(|harm| (format!("{harm:?}"), patient.harmed(&name, harm))).collect();
    let mut foreign = Patient::new(workshop);
    for _ in 0..3 {
        foreign.backup(workshop);
    }
    for (what, bytes) in [
        ("another repository's slot", foreign.store.get(&name).unwrap().to_vec()),
        ("another slot", patient.store.get(&slots(&patient.store)[1]).unwrap().to_vec()),
        ("zeros", vec![0; bytes as usize]),
        ("text", b"<html>not found</html>".to_vec()),
    ] {
        let store = patient.store.crash_image();
        replace(&store, &name, bytes);
        damaged.push((what.to_owned(), store));
    }
    damaged
}

#[test]
fn a_newest_slot_that_was_written_bad_is_made_void_and_backups_go_on() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    write(&patient, 3);
    let copy = workshop.copy_of(&patient.source);
    for (what, store) in damaged(&patient, &workshop) {
        let (one, two) = (open(&store).unwrap(), open(&store).unwrap());
        let before = store.objects();
        let error = backup(&one, &patient.source).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{what}: {error:?}");
        assert!(error.remedy().unwrap().contains("repair log"), "{what}: {error:?}");

        let found = repair(&one, &dry()).unwrap();
        assert!(found.bad.is_some() && !found.is_repaired && found.packs_missing.is_empty(), "{what}");
        let error = repair(&one, &LogRepairOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{what}: {error:?}");
        assert_eq!(store.objects(), before, "{what}");

        let repaired = repair(&one, &promised()).unwrap();
        assert!(repaired.is_repaired && repaired.bad.unwrap().0 == 3, "{what}");
        assert_eq!(store.objects().len(), before.len() + 1, "{what}");

        // What the bad slot committed is gone, everything else is whole, and everybody goes on.
        let listed = two.snapshots(&SnapshotFilter::new()).unwrap();
        let known: Vec<_> = patient.copies[..2].iter().map(|(id, _)| *id).collect();
        assert_eq!(listed.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>(), known, "{what}");
        let newer = backup(&two, &patient.source).unwrap().snapshot.unwrap();
        assert!(repair(&one, &promised()).unwrap().bad.is_none(), "{what}");
        let again = open(&store).unwrap();
        let report = check(&again).unwrap();
        assert!(report.is_intact(), "{what}: {:#?}", report.errors);
        prune(&again).unwrap();
        for snapshot in again.snapshots(&SnapshotFilter::new()).unwrap() {
            let known_copy = patient.copies.iter().find(|(id, _)| *id == snapshot.id);
            let copy = known_copy.map_or(&copy, |(_, copy)| copy);
            assert!(snapshot.id == newer || known.contains(&snapshot.id), "{what}");
            workshop.assert_restores(&again, &snapshot, &patient.source, copy);
        }
    }
}

/// What a newer program or another key wrote says something; a slot that is not the newest was acted upon.
#[test]
fn nothing_else_is_ever_made_void() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let name = newest(&patient.store);
    let older = slots(&patient.store)[2].clone();
    let flip = |offset| Harm::Flip { offset, bit: 6 };
    let mut cases: Vec<(Name, Harm)> = [8, 9, 10, 11, 12].map(|offset| (name.clone(), flip(offset))).to_vec();
    cases.push((older.clone(), flip(120)));
    cases.push((older.clone(), Harm::Truncate(0)));
    cases.push((older, Harm::Delete));
    for (name, harm) in cases {
        let store = patient.harmed(&name, harm);
        let before = store.objects();
        let repository = open(&store).unwrap();
        let error = repair(&repository, &promised()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt, "{name}, {harm:?}: {error:?}");
        assert_eq!(store.objects(), before, "{name}, {harm:?}");
    }
    // Longer than any entry; and two slots at once.
    let store = patient.store.crash_image();
    replace(&store, &name, vec![7; 200 << 10]);
    assert_eq!(repair(&open(&store).unwrap(), &promised()).unwrap_err().kind(), ErrorKind::Corrupt);
    let store = patient.harmed(&name, flip(120));
    flip(120).inflict(&store, &slots(&patient.store)[2]);
    assert_eq!(repair(&open(&store).unwrap(), &promised()).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn a_sound_log_has_nothing_to_repair() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let before = patient.store.objects();
    let report = repair(&open(&patient.store).unwrap(), &promised()).unwrap();
    assert!(report.bad.is_none() && !report.is_repaired);
    assert_eq!(patient.store.objects(), before);
}

/// A store that shows the slot bad now and then.
#[derive(Debug)]
struct Fickle {
    inner: SimStore,
    slot: Name,
    bad: Bytes,
    reads: AtomicU64,
    bad_reads: u64,
}

impl Fickle {
    fn bytes(&self, name: &Name, good: Bytes) -> Bytes {
        let is_bad = *name == self.slot && self.reads.fetch_add(1, Ordering::SeqCst) < self.bad_reads;
        if is_bad { self.bad.clone() } else { good }
    }
}

impl Store for Fickle {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> dr_store::Result<()> {
        self.inner.put(name, payload, mode)
    }

    fn get(&self, name: &Name) -> dr_store::Result<Bytes> {
        Ok(self.bytes(name, self.inner.get(name)?))
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> dr_store::Result<Bytes> {
        let whole = self.bytes(name, self.inner.get(name)?);
        Ok(whole.slice(range.start as usize..range.end as usize))
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> dr_store::Result<()>,
    ) -> dr_store::Result<()> {
        self.inner.list(folder, after, visit)
    }

    fn list_folder(&self, folder: &str) -> dr_store::Result<FolderListing> {
        self.inner.list_folder(folder)
    }

    fn delete(&self, name: &Name) -> dr_store::Result<()> {
        self.inner.delete(name)
    }

    fn stat(&self, name: &Name) -> dr_store::Result<ObjectMeta> {
        self.inner.stat(name)
    }

    fn create_is_proven(&self) -> bool {
        true
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}

#[test]
fn a_store_that_answers_otherwise_the_next_time_gets_nothing_made_void() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let slot = newest(&patient.store);
    let mut bad = patient.store.get(&slot).unwrap().to_vec();
    bad[120] ^= 1;
    for bad_reads in 1..12 {
        let inner = patient.store.crash_image();
        let before = inner.objects();
        let (slot, bad, reads) = (slot.clone(), Bytes::from(bad.clone()), AtomicU64::new(0));
        let store = Fickle { inner: inner.clone(), slot, bad, reads, bad_reads };
        let repository = Repository::open(Arc::new(store), &key(), RepositoryOptions::new()).unwrap();
        assert!(repair(&repository, &promised()).is_err(), "{bad_reads}");
        assert_eq!(inner.objects(), before, "{bad_reads}");
    }
}

/// If a store shows one client a bad slot and another a good one, the repair of the first is damage to the second.
#[test]
fn a_store_that_lies_to_the_repair_is_found_out_by_everybody_else() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let slot = newest(&patient.store);
    let mut bad = patient.store.get(&slot).unwrap().to_vec();
    bad[120] ^= 1;
    let inner = patient.store.crash_image();
    let (bad, reads) = (Bytes::from(bad), AtomicU64::new(0));
    let store = Fickle { inner: inner.clone(), slot, bad, reads, bad_reads: u64::MAX };
    let deceived = Repository::open(Arc::new(store), &key(), RepositoryOptions::new()).unwrap();
    assert!(repair(&deceived, &promised()).unwrap().is_repaired);
    let honest = open(&inner).unwrap();
    assert_eq!(backup(&honest, &patient.source).unwrap_err().kind(), ErrorKind::Corrupt);
    assert_eq!(prune(&honest).unwrap_err().kind(), ErrorKind::Corrupt);
    let outcomes = patient.restore_all(&honest, &workshop).unwrap();
    assert!(outcomes.len() == 3 && outcomes.iter().all(|(_, outcome)| *outcome == Restored::Whole));
}

#[test]
fn one_of_two_repairs_at_once_wins_and_a_writer_behind_it_goes_on() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let slot = newest(&patient.store);
    // The other repair, and then perhaps a backup, come in just before each call that could let them through.
    for (operation, object) in [("put", "log/"), ("get", "log/"), ("list_folder", "log")] {
        for with_backup in [false, true] {
            let store = patient.harmed(&slot, Harm::Truncate(100));
            let (other, source) = (store.clone(), patient.source.clone());
            let skipped = AtomicU64::new(0);
            let hooked = HookStore::new(
                Arc::new(store.clone()),
                move |call| {
                    let is_one = call.operation == operation && call.object.starts_with(object);
                    is_one && (operation == "put" || skipped.fetch_add(1, Ordering::SeqCst) > 5)
                },
                move || {
                    let other = open(&other).unwrap();
                    repair(&other, &promised()).unwrap();
                    if with_backup {
                        let _ = backup(&other, &source).unwrap();
                    }
                },
            );
            let hooked = Arc::new(hooked);
            let repository = Repository::open(hooked.clone(), &key(), RepositoryOptions::new()).unwrap();
            let repaired = repair(&repository, &promised());
            let what = format!("{operation}, {with_backup}: {repaired:?}");
            assert!(hooked.has_run(), "{what}");
            match repaired {
                // The other one looked when it was done.
                Ok(_) => assert_ne!(operation, "put", "{what}"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "{what}"),
            }
            assert_eq!(slots(&store).len(), 5 + usize::from(with_backup), "{what}");
            let again = open(&store).unwrap();
            assert!(check(&again).unwrap().is_intact(), "{what}");
            assert_eq!(
                again.snapshots(&SnapshotFilter::new()).unwrap().len(),
                2 + usize::from(with_backup),
                "{what}"
            );
        }
    }
}

/// The bad slot may be the entry of a collection that was acted upon. Were it only made void, the index would go on listing
/// packs that are gone, and the next backup would rest on them.
#[test]
fn packs_that_a_lost_collection_deleted_are_given_up_with_its_slot() {
    let workshop = Workshop::new();
    let few = Waste::new(&workshop);
    assert!(for_each_death(&few, &workshop).0 > 0);
}

/// The same where the segments of the index are objects, and are deleted too.
#[test]
fn segments_that_a_lost_collection_deleted_are_replaced() {
    let workshop = Workshop::new();
    let mut patient = Patient::new(&workshop);
    let mut tree = TreeSpec::default();
    for number in 0..500 {
        tree.put(&format!("many/{number}"), Node::File { seed: 1000 + number, bytes: 300 });
    }
    tree.write(&patient.source);
    patient.backup(&workshop);
    TreeSpec::files(&[("other", 90_000)]).write(&patient.source);
    patient.backup(&workshop);
    let forgotten = vec![patient.copies[0].0];
    open(&patient.store).unwrap().forget(&forgotten).unwrap();
    assert!(for_each_death(&Waste { patient, forgotten }, &workshop).1 > 0);
}

/// Collects, dies at every third step, finds the collection's newest entry to be bad, and repairs that. Gives how many packs
/// were given up and segments replaced.
fn for_each_death(waste: &Waste, workshop: &Workshop) -> (usize, usize) {
    let until = slots(&waste.patient.store).len();
    let (mut gave_up, mut replaced) = (0, 0);
    for step in (0..).step_by(3) {
        let dying = waste.patient.store.crash_image();
        dying.crash_at_mutation(step, When::After);
        let is_over = prune(&open(&dying).unwrap()).is_ok();
        let store = dying.crash_image();
        if slots(&store).len() > until {
            Harm::Flip { offset: 120, bit: 0 }.inflict(&store, &newest(&store));
            let repaired = give_up(&store);
            gave_up += repaired.packs_missing.len();
            replaced += repaired.segments_missing.len();
            assert_usable(waste, workshop, &store);
        }
        if is_over {
            break;
        }
    }
    (gave_up, replaced)
}

/// Repairs the log, and sees that nothing is given up without being asked for.
fn give_up(store: &SimStore) -> LogRepair {
    let repository = open(store).unwrap();
    let found = repair(&repository, &dry()).unwrap();
    if !found.packs_missing.is_empty() {
        let before = store.objects();
        let error = repair(&repository, &promised()).unwrap_err();
        assert!(error.remedy().unwrap().contains("--give-up-missing"), "{error:?}");
        assert_eq!(store.objects(), before);
    }
    let mut options = promised();
    options.give_up_missing = true;
    let repaired = repair(&repository, &options).unwrap();
    assert_eq!(repaired.packs_missing, found.packs_missing);
    repaired
}

/// What was deleted is not taken to be there when it is backed up again, and what was not is whole.
fn assert_usable(waste: &Waste, workshop: &Workshop, store: &SimStore) {
    let repository = open(store).unwrap();
    let source = &waste.patient.copies[0].1;
    let new = backup(&repository, source).unwrap().snapshot.unwrap();
    prune(&open(store).unwrap()).unwrap();
    let repository = open(store).unwrap();
    let report = check(&repository).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let snapshots = repository.snapshots(&SnapshotFilter::new()).unwrap();
    assert_eq!(snapshots.len(), waste.live().len() + 1);
    for snapshot in snapshots {
        match waste.live().into_iter().find(|(id, _)| *id == snapshot.id) {
            Some((_, copy)) => {
                workshop.assert_restores(&repository, &snapshot, &waste.patient.source, &copy);
            }
            None => {
                assert_eq!(snapshot.id, new);
                workshop.assert_restores(&repository, &snapshot, source, source);
            }
        }
    }
}

#[test]
fn the_command_says_what_it_would_do_and_does_it_when_it_is_promised() {
    let shell = Shell::new();
    TreeSpec::files(&[("file", 5000)]).write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    let log = std::fs::read_dir(shell.repository().join("log/fffffffffffff")).unwrap();
    let newest = log.map(|entry| entry.unwrap().path()).min().unwrap();
    let mut bytes = std::fs::read(&newest).unwrap();
    bytes[120] ^= 1;
    std::fs::remove_file(&newest).unwrap();
    std::fs::write(&newest, bytes).unwrap();
    let command = |arguments: &[&str]| {
        let mut command = shell.command();
        command.arg("--accept-rollback").args(["repair", "log"]).args(arguments);
        command.output().unwrap()
    };
    let dry = command(&["--dry-run"]);
    assert_eq!(dry.status.code(), Some(1), "{dry:?}");
    assert!(String::from_utf8_lossy(&dry.stdout).contains("slot 1 of the log says nothing"), "{dry:?}");
    let refused = command(&[]);
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--exclusive"), "{refused:?}");
    assert_ne!(refused.status.code(), Some(0));
    let done = command(&["--exclusive", "--json"]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(String::from_utf8_lossy(&done.stdout).contains("\"repaired\":true"), "{done:?}");
    shell.run(&mut shell.backup());
    let nothing = command(&["--exclusive"]);
    assert!(String::from_utf8_lossy(&nothing.stdout).contains("nothing to repair"), "{nothing:?}");
}
