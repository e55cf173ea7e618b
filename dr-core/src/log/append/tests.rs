use dr_store::MemoryStore;

use super::*;
use crate::chunker::DEFAULT_PARAMS;
use crate::entropy::SystemEntropy;
use crate::format::log::{Commit, Genesis, HashList, SnapshotPlace, SnapshotRecord, Snapshots};
use crate::id::SnapshotId;
use crate::tree::Stream;

const WRITER: [u8; 16] = [1; 16];

fn genesis() -> Event {
    let zeros = ObjectHash::from_bytes([0; 32]);
    Event::Genesis(Genesis { config: zeros, ring: zeros })
}

/// An entry that is written as it is given, but that no program takes in: its stream's length is not that of its chunks.
fn undecodable() -> Event {
    let body = SnapshotPlace::Stream(Stream { bytes: 1, level: 0, chunks: Vec::new() });
    let id = SnapshotId::from_bytes([1; 32]);
    Event::Commit(Commit {
        snapshot: Some(SnapshotRecord { id, partial: false, body }),
        segments: Vec::new(),
        inline_segments: Vec::new(),
        own_packs: HashList::default(),
        dedup_packs: HashList::default(),
        reused: Vec::new(),
    })
}

struct Repository {
    store: MemoryStore,
    ring: KeyRing,
    log: Log,
}

impl Repository {
    fn new() -> Repository {
        let ring = KeyRing::new([1; 16], DEFAULT_PARAMS, &SystemEntropy).unwrap();
        let mut repository = Repository { store: MemoryStore::new(), ring, log: Log::default() };
        repository.append(genesis()).unwrap();
        repository
    }

    fn append(&mut self, event: Event) -> Result<()> {
        self.append_behind(Behind::Entry, event)
    }

    fn append_behind(&mut self, behind: Behind, event: Event) -> Result<()> {
        let (store, ring) = (&self.store, &self.ring);
        let appender = Appender { store, ring, entropy: &SystemEntropy, writer: WRITER, behind };
        append(&mut self.log, appender, &mut |_| Ok(event.clone()))
    }

    /// Puts the next slot by hand, behind what is there.
    fn put(&self, log: &Log, change: impl FnOnce(&mut Vec<u8>)) -> ObjectHash {
        let entry = LogEntry {
            slot: log.fold.next,
            previous: log.head,
            previous_ms: 0,
            writer: [2; 16],
            nonce: [log.fold.next as u8; 16],
            event: Event::Forget(Snapshots { snapshots: Vec::new() }),
            heads: Vec::new(),
            read_only: false,
        };
        let header = self.ring.header(ObjectType::Slot);
        let kek = self.ring.kek(&header).unwrap();
        let mut bytes = seal_object(&kek, header, entry.slot, &entry.encode(), &SystemEntropy).unwrap();
        change(&mut bytes);
        let hash = ObjectHash::of_parts([bytes.as_slice()]);
        self.store.put(&names::slot(entry.slot), bytes.into(), PutMode::Create).unwrap();
        hash
    }

    /// The log after a slot that `change` was done to and a sound one behind it.
    fn read_confirmed(&self, change: impl FnOnce(&mut Vec<u8>)) -> Log {
        let mut writer = self.log.clone();
        writer.head = self.put(&writer, change);
        writer.fold.next += 1;
        self.put(&writer, |_| {});
        let mut log = Log::default();
        log.synchronise(&Sync { store: &self.store, ring: &self.ring, copies: None }).unwrap();
        log
    }
}

#[test]
fn an_entry_that_cannot_be_read_back_is_not_reported_as_done() {
    let mut repository = Repository::new();
    let error = repository.append(undecodable()).unwrap_err();
    assert!(error.to_string().contains("written bad"), "{error}");
    assert!(repository.append(genesis()).is_err(), "nothing may stand behind it unseen");
}

#[test]
fn a_bad_slot_that_its_successor_confirms_is_void() {
    let log = Repository::new().read_confirmed(|bytes| *bytes.last_mut().unwrap() ^= 1);
    assert_eq!(log.damaged.iter().map(|slot| (slot.slot, slot.void)).collect::<Vec<_>>(), [(1, true)]);
    log.check_writable().unwrap();
}

#[test]
fn a_slot_that_a_newer_program_wrote_is_never_void() {
    // The envelope's version, suite and key mode, and the epoch of the key.
    for byte in [8, 10, 11, 12] {
        let log = Repository::new().read_confirmed(|bytes| bytes[byte] ^= 0x40);
        let found: Vec<(u64, bool)> = log.damaged.iter().map(|slot| (slot.slot, slot.void)).collect();
        assert_eq!(found, [(1, false)], "byte {byte}");
        assert!(log.check_writable().is_err());
    }
}
