//! Reads the log: finds its head, follows its chain, and says what is damaged.

use std::collections::BTreeMap;

use dr_store::{Name, ObjectMeta, Store, StoreErrorKind};

use super::fold::{Fold, resolve};
use crate::crypto::{KeyRing, open_object};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checkpoint::CheckpointBody;
use crate::format::config::LogMode;
use crate::format::envelope::ObjectType;
use crate::format::log::{HashList, LogEntry, decode_list};
use crate::format::names;
use crate::id::ObjectHash;
use crate::limits::{LIST_BYTES_MAX, SEALED_SLOT_BYTES_MAX};

/// Slots that a listing did not show are looked for where there are no more than this in a row.
const GAP_MAX: u64 = 1024;
/// How many slots' hashes are kept, of the newest.
const HASHES_KEPT: usize = 16_384;

/// A slot of the log that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DamagedSlot {
    pub(crate) slot: u64,
    pub(crate) why: String,
    /// Its successor confirms that it was written so: it never said anything, and nothing is lost.
    pub(crate) void: bool,
}

/// The log as far as it has been read.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    pub(crate) fold: Fold,
    /// The hash of the newest slot's raw bytes, and the store's time of that slot.
    pub(crate) head: ObjectHash,
    pub(crate) head_ms: i64,
    pub(crate) damaged: Vec<DamagedSlot>,
    /// It was folded from the first slot on, by this machine: it does not rest on what another one wrote.
    pub(crate) is_own: bool,
    /// The hashes of the newest slots' raw bytes, for comparing with what was seen before.
    hashes: BTreeMap<u64, ObjectHash>,
    /// Where slots may hold several entries: the hash of each by name.
    pub(super) siblings: Option<BTreeMap<u64, BTreeMap<Name, ObjectHash>>>,
    /// A slot that did not decode, and waits for its successor to say whether it was written so.
    suspect: Option<DamagedSlot>,
}

/// What a synchronisation needs.
pub(crate) struct Sync<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) ring: &'a KeyRing,
    /// Copies of entries that were read before, where they may be taken for what the store has.
    pub(crate) copies: Option<&'a dyn EntryCopies>,
}

/// Sealed entries of a log of siblings that this machine has read before. They have names of their own that nobody else writes,
/// so that a listing says which of them count.
pub(crate) trait EntryCopies {
    /// The copy of an entry, as long as it must be. Whoever opens it sees whether it is what was kept.
    fn entry(&self, name: &Name, bytes: u64) -> Option<Vec<u8>>;

    /// Keeps an entry.
    fn keep_entry(&self, name: &Name, sealed: &[u8]);
}

impl Default for Log {
    fn default() -> Self {
        Log {
            fold: Fold::default(),
            head: ObjectHash::from_bytes([0; 32]),
            head_ms: 0,
            damaged: Vec::new(),
            is_own: true,
            hashes: BTreeMap::new(),
            siblings: None,
            suspect: None,
        }
    }
}

impl Log {
    /// An empty log of a repository of that mode.
    pub(crate) fn of_mode(mode: LogMode) -> Log {
        match mode {
            LogMode::CreateIfAbsent => Log::default(),
            LogMode::Siblings => Log::of_siblings(),
        }
    }

    /// The name of a slot, or of the first entry in it.
    pub(crate) fn name_of(&self, slot: u64) -> Name {
        let first = self.siblings.as_ref().and_then(|known| known.get(&slot)?.first_key_value());
        first.map_or_else(|| names::slot(slot), |(name, _)| name.clone())
    }

    /// The hash of a slot's raw bytes, where it could be read.
    pub(crate) fn hash_of(&self, slot: u64) -> Option<ObjectHash> {
        self.hashes.get(&slot).copied()
    }

    /// A log that was folded before, up to a slot of the hash `head`.
    pub(super) fn at(fold: Fold, head: ObjectHash, head_ms: i64, damaged: Vec<DamagedSlot>) -> Log {
        let slot = fold.next.saturating_sub(1);
        let mut log = Log { fold, head, head_ms, damaged, ..Log::default() };
        log.note_hash(slot, head);
        log
    }

    fn note_hash(&mut self, slot: u64, hash: ObjectHash) {
        self.hashes.insert(slot, hash);
        while self.hashes.len() > HASHES_KEPT {
            self.hashes.pop_first();
        }
    }

    /// The oldest slot whose hash is known.
    pub(crate) fn first_hashed(&self) -> Option<u64> {
        self.hashes.first_key_value().map(|(slot, _)| *slot)
    }

    /// Reads the newest slot again: a store that was put back in time no longer has it.
    pub(crate) fn confirm_head(&self, sync: &Sync<'_>) -> Result<()> {
        let Some(slot) = self.fold.next.checked_sub(1) else { return Ok(()) };
        let (name, seen) = match &self.siblings {
            None => match self.hash_of(slot) {
                Some(seen) => (names::slot(slot), seen),
                None => return Ok(()),
            },
            Some(siblings) => match siblings.get(&slot).and_then(BTreeMap::first_key_value) {
                Some((name, seen)) => (name.clone(), *seen),
                None => return Ok(()),
            },
        };
        let is_there = match sync.store.get(&name) {
            Ok(bytes) => ObjectHash::of_parts([&bytes[..]]) == seen,
            Err(error) if error.kind() == StoreErrorKind::NotFound => false,
            Err(error) => return Err(error.into()),
        };
        if is_there {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::RolledBack,
            format!("slot {slot} of the log is not what it was a moment ago"),
        )
        .with_object(name)
        .with_remedy("the store was put back in time, or is damaged: open the repository again to see which"))
    }

    /// Whether a slot was read that holds these bytes.
    pub(crate) fn has(&self, slot: u64, hash: &ObjectHash) -> bool {
        self.hash_of(slot) == Some(*hash) || self.has_sibling(slot, hash)
    }

    /// The first slot that `other` has otherwise, or not at all.
    pub(crate) fn first_difference(&self, other: &Log) -> Option<u64> {
        let known_from = other.first_hashed().unwrap_or(u64::MAX);
        let differs = |(slot, hash): &(&u64, &ObjectHash)| {
            other.hashes.get(slot) != Some(hash) && (**slot >= known_from || **slot >= other.fold.next)
        };
        let differing = self.hashes.iter().filter(differs).map(|(slot, _)| *slot).min();
        let is_lost = |(slot, entries): &(&u64, &BTreeMap<Name, ObjectHash>)| {
            entries.values().any(|hash| !other.has_sibling(**slot, hash))
        };
        differing.or_else(|| self.siblings.iter().flatten().find(is_lost).map(|(slot, _)| *slot))
    }

    /// Damage that was not confirmed as written so: nothing may be appended before it is repaired.
    pub(crate) fn damage(&self) -> impl Iterator<Item = &DamagedSlot> {
        self.damaged.iter().chain(&self.suspect).filter(|slot| !slot.void)
    }

    /// The newest slot, where it does not open and nothing else is in the way: an entry behind it would make it void. Never
    /// one that a newer program wrote, or one that another key opens.
    pub(crate) fn bad_head(&self) -> Option<&DamagedSlot> {
        let is_alone = self.damaged.iter().all(|slot| slot.void) && self.fold.check_writable().is_ok();
        self.suspect.as_ref().filter(|_| is_alone)
    }

    /// Whether an entry may be appended.
    pub(crate) fn check_writable(&self) -> Result<()> {
        if let Some(damaged) = self.damage().next() {
            return Err(Error::corrupt(format!(
                "slot {} of the log is damaged ({})",
                damaged.slot, damaged.why
            ))
            .with_object(names::slot(damaged.slot))
            .with_remedy(if self.bad_head().is_some() {
                "snapshots can still be restored, but nothing is written to a damaged log: see 'dr repair log'"
            } else {
                "run 'dr check'; snapshots can still be restored, but nothing is written to a damaged log"
            }));
        }
        self.fold.check_writable().map_err(|_| {
            Error::new(ErrorKind::UnsupportedFormat, "a newer program has written to the repository")
                .with_remedy("use that version: this one can only read it")
        })
    }

    /// Reads everything that was appended since the last call.
    pub(crate) fn synchronise(&mut self, sync: &Sync<'_>) -> Result<()> {
        if self.siblings.is_some() {
            return self.synchronise_siblings(sync);
        }
        let listed = list_slots(sync.store, self.fold.next)?;
        self.read_listed(sync, &listed)
    }

    fn read_listed(&mut self, sync: &Sync<'_>, listed: &BTreeMap<u64, ObjectMeta>) -> Result<()> {
        for (slot, meta) in listed {
            if *slot - self.fold.next > GAP_MAX {
                // One finding for a long gap: a stray name far off must not cost a request for each slot between.
                self.lose_slot(self.fold.next, "it is missing".to_owned());
            } else {
                // A listing that was made while entries were appended may show a later one and not an earlier one.
                for unlisted in self.fold.next..*slot {
                    self.read_slot(sync, unlisted, None)?;
                }
            }
            self.read_slot(sync, *slot, Some(meta))?;
        }
        Ok(())
    }

    /// Notes a slot of which nothing is known.
    fn lose_slot(&mut self, slot: u64, why: String) {
        self.settle_suspect(None);
        self.damaged.push(DamagedSlot { slot, why, void: false });
        self.fold.next = slot.saturating_add(1);
    }

    fn read_slot(&mut self, sync: &Sync<'_>, slot: u64, listed: Option<&ObjectMeta>) -> Result<()> {
        let name = names::slot(slot);
        let length = match listed {
            Some(meta) => Ok(meta.bytes),
            None => sync.store.stat(&name).map(|meta| meta.bytes),
        };
        let read = length.and_then(|length| {
            if length <= SEALED_SLOT_BYTES_MAX { sync.store.get(&name).map(Some) } else { Ok(None) }
        });
        let bytes = match read {
            Ok(Some(bytes)) => bytes,
            Ok(None) => {
                self.lose_slot(slot, "it is longer than a slot may be".to_owned());
                return Ok(());
            }
            Err(error) if error.kind() == StoreErrorKind::NotFound => {
                self.lose_slot(slot, "it is missing".to_owned());
                return Ok(());
            }
            // The store's disk does not give it back: one slot is lost, the others may be read.
            Err(error) if error.kind() == StoreErrorKind::Other => {
                self.lose_slot(slot, error.to_string());
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let hash = ObjectHash::of_parts([&bytes[..]]);
        match open_slot(sync.ring, slot, &bytes) {
            Ok(entry) => {
                let is_chained =
                    slot == 0 || self.hash_of(slot - 1).is_none_or(|before| before == entry.previous);
                if !is_chained {
                    let why = "the next slot was written after other bytes than these".to_owned();
                    self.damaged.push(DamagedSlot { slot: slot - 1, why, void: false });
                }
                self.settle_suspect(Some(entry.previous));
                if let Err(error) = self.fold.apply(&entry, &mut |list| read_list(sync, list)) {
                    if error.is_retryable() {
                        self.fold.next = slot;
                        return Err(error);
                    }
                    let why = format!("a list that it names cannot be read: {error}");
                    self.damaged.push(DamagedSlot { slot, why, void: false });
                    self.fold.next = slot.saturating_add(1);
                }
            }
            Err(error) => {
                self.settle_suspect(None);
                let unreadable = DamagedSlot { slot, why: error.to_string(), void: false };
                if says_nothing(&error) {
                    self.suspect = Some(unreadable);
                } else {
                    self.damaged.push(unreadable);
                }
                self.fold.next = slot.saturating_add(1);
            }
        }
        self.note_hash(slot, hash);
        self.head = hash;
        self.head_ms = listed.map_or(self.head_ms, |meta| meta.modified_ms);
        Ok(())
    }

    /// Decides over a slot that did not decode: if its successor was appended after exactly these bytes, it was written
    /// bad and is void.
    fn settle_suspect(&mut self, previous: Option<ObjectHash>) {
        let Some(mut suspect) = self.suspect.take() else { return };
        suspect.void = previous.is_some() && previous == self.hash_of(suspect.slot);
        let known = self.damaged.iter().any(|damaged| damaged.slot == suspect.slot);
        if !known {
            self.damaged.push(suspect);
        }
    }
}

pub(super) fn open_slot(ring: &KeyRing, slot: u64, bytes: &[u8]) -> Result<LogEntry> {
    let body = open_object(|header| ring.kek(header), ObjectType::Slot, slot, bytes)?;
    // Who has the keys wrote this on purpose: if it says nothing to this program, it may to another.
    let entry = LogEntry::decode(&body).map_err(|error| {
        Error::new(ErrorKind::UnsupportedFormat, "an entry of the log does not decode")
            .with_source(error.to_string())
    })?;
    if entry.slot != slot {
        return Err(Error::corrupt("the entry belongs to another slot"));
    }
    Ok(entry)
}

/// Whether a slot that does not open says nothing. What a newer program wrote, or was sealed with another key, says something
/// that this one does not understand: a successor that confirms the bytes does not make it void.
fn says_nothing(error: &Error) -> bool {
    !matches!(error.kind(), ErrorKind::UnsupportedFormat | ErrorKind::WrongCredentials)
}

/// Whether bytes are none that anybody could have meant for an entry.
pub(crate) fn is_written_bad(ring: &KeyRing, slot: u64, bytes: &[u8]) -> bool {
    open_slot(ring, slot, bytes).is_err_and(|error| says_nothing(&error))
}

/// Opens a checkpoint, and reads the slot that it was made at: it must be what the checkpoint says.
pub(crate) fn open_checkpoint(sync: &Sync<'_>, bytes: &[u8]) -> Result<Log> {
    let body = open_object(|header| sync.ring.kek(header), ObjectType::Checkpoint, 0, bytes)?;
    let body = CheckpointBody::decode(&body)?;
    let name = names::slot(body.through);
    let meta = sync.store.stat(&name)?;
    let is_there = meta.bytes <= SEALED_SLOT_BYTES_MAX
        && ObjectHash::of_parts([&sync.store.get(&name)?[..]]) == body.head;
    if is_there {
        Ok(Log::from_checkpoint(body))
    } else {
        Err(Error::corrupt("the log is not the one that the checkpoint was made of").with_object(name))
    }
}

/// Reads one slot again.
pub(crate) fn read_entry(sync: &Sync<'_>, slot: u64) -> Result<LogEntry> {
    read_entry_of(sync, slot, &names::slot(slot))
}

/// The same for an entry of this name.
pub(crate) fn read_entry_of(sync: &Sync<'_>, slot: u64, name: &Name) -> Result<LogEntry> {
    open_slot(sync.ring, slot, &sync.store.get(name)?).map_err(|error| error.with_object(name))
}

/// The hashes that lists name, here or in objects of their own.
pub(crate) fn read_names<'a>(
    sync: &Sync<'_>,
    lists: impl IntoIterator<Item = &'a HashList>,
) -> Result<Vec<ObjectHash>> {
    resolve(lists, &mut |list| read_list(sync, list))
}

/// Reads a list object.
pub(crate) fn read_list(sync: &Sync<'_>, list: &ObjectHash) -> Result<Vec<ObjectHash>> {
    let name = names::hashed(names::LIST, list);
    let length = sync.store.stat(&name)?.bytes;
    if length > LIST_BYTES_MAX as u64 {
        return Err(Error::corrupt("the list is longer than the format allows").with_object(&name));
    }
    let bytes = sync.store.get(&name)?;
    if ObjectHash::of_parts([&bytes[..]]) != *list {
        return Err(Error::corrupt("the list does not hash to its name").with_object(&name));
    }
    let body = open_object(|header| sync.ring.kek(header), ObjectType::List, 0, &bytes)
        .map_err(|error| error.with_object(&name))?;
    decode_list(&body).map_err(|error| Error::from(error).with_object(&name))
}

/// When the slots from `from` on were written, by the store's clock, in milliseconds since 1970.
pub(crate) fn slot_times(store: &dyn Store, from: u64) -> Result<BTreeMap<u64, i64>> {
    Ok(list_slots(store, from)?.into_iter().map(|(slot, meta)| (slot, meta.modified_ms)).collect())
}

/// The slots from `from` on that exist. Listing the folders finds the newest without listing the others.
fn list_slots(store: &dyn Store, from: u64) -> Result<BTreeMap<u64, ObjectMeta>> {
    let first_folder = from >> 12;
    let mut slots = BTreeMap::new();
    for folder in store.list_folder(names::LOG)?.folders {
        let Some(first) = names::first_slot_of(&folder) else { continue };
        if first >> 12 < first_folder {
            continue;
        }
        for meta in store.list_folder(&format!("{}/{folder}", names::LOG))?.objects {
            if let Some(slot) = names::parse_slot(&meta.name).filter(|slot| *slot >= from) {
                slots.insert(slot, meta);
            }
        }
    }
    Ok(slots)
}
