//! The log on a store that cannot decide who creates a name. Entries have names of their own, so several may stand in one
//! slot; each says which entries of the slot before it saw. Writers look again after the put, before they report success.

use std::collections::BTreeMap;

use dr_store::{Name, ObjectMeta, PutMode, Store};

use super::append::seal_entry;
use super::read::{DamagedSlot, EntryCopies, Log, Sync, open_slot, read_list};
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::log::{Event, LogEntry};
use crate::format::names;
use crate::id::ObjectHash;
use crate::limits::SEALED_SLOT_BYTES_MAX;

/// Entries that arrive so many slots late are found by the next process, which reads everything.
const LATE_SLOTS: u64 = 4096;
/// A gap of more slots than this is one finding.
const GAP_MAX: u64 = 1024;
/// Entries in one slot, at most: a writer that meets more of them waits for nobody.
const SIBLINGS_MAX: usize = 4096;

/// The entries of a slot, by name.
type Siblings = BTreeMap<Name, ObjectMeta>;

impl Log {
    /// An empty log whose slots may hold several entries.
    pub(crate) fn of_siblings() -> Log {
        let mut log = Log::default();
        log.siblings = Some(BTreeMap::new());
        log.fold.validates_commits = true;
        log
    }

    /// Reads everything that was appended since the last call. An entry that arrived late in an old slot makes all of it be
    /// read again.
    pub(super) fn synchronise_siblings(&mut self, sync: &Sync<'_>) -> Result<()> {
        let from = self.fold.next.saturating_sub(LATE_SLOTS);
        let mut listed = list_siblings(sync.store, from)?;
        let is_late = |slot: &u64, entries: &Siblings| {
            let known = self.siblings.as_ref().and_then(|known| known.get(slot));
            *slot < self.fold.next
                && entries.keys().any(|name| known.is_none_or(|known| !known.contains_key(name)))
        };
        if listed.iter().any(|(slot, entries)| is_late(slot, entries)) {
            *self = Log::of_siblings();
            if from > 0 {
                listed = list_siblings(sync.store, 0)?;
            }
        }
        let newest = listed.last_key_value().map_or(0, |(slot, _)| *slot);
        let new: Vec<(u64, Siblings)> =
            listed.into_iter().filter(|(slot, _)| *slot >= self.fold.next).collect();
        for (slot, entries) in new {
            for missing in (self.fold.next..slot).take(GAP_MAX as usize) {
                let why = "it is missing".to_owned();
                self.damaged.push(DamagedSlot { slot: missing, why, void: false });
            }
            // The newest ones are read from the store in any case: there it shows if it is another log than it was.
            let copies = sync.copies.filter(|_| slot < newest);
            self.read_siblings(sync, copies, slot, entries)?;
        }
        Ok(())
    }

    fn read_siblings(
        &mut self,
        sync: &Sync<'_>,
        copies: Option<&dyn EntryCopies>,
        slot: u64,
        entries: Siblings,
    ) -> Result<()> {
        if entries.len() > SIBLINGS_MAX {
            let why = format!("it holds {} entries", entries.len());
            self.damaged.push(DamagedSlot { slot, why, void: false });
        }
        let mut hashes = BTreeMap::new();
        let mut opened = Vec::new();
        for (name, meta) in entries.into_iter().take(SIBLINGS_MAX) {
            let lost = |why: String| DamagedSlot { slot, why, void: false };
            if meta.bytes > SEALED_SLOT_BYTES_MAX {
                self.damaged.push(lost("an entry is longer than a slot may be".to_owned()));
                continue;
            }
            let copy = copies.and_then(|copies| open_copy(sync, copies, slot, &name, meta.bytes));
            let hash = match copy {
                Some((hash, entry)) => {
                    opened.push(entry);
                    hash
                }
                None => {
                    let bytes = match sync.store.get(&name) {
                        Ok(bytes) => bytes,
                        Err(error) if error.is_retryable() => return Err(error.into()),
                        Err(error) => {
                            self.damaged.push(lost(error.to_string()));
                            continue;
                        }
                    };
                    match open_slot(sync.ring, slot, &bytes) {
                        Ok(entry) => opened.push(entry),
                        Err(error) => self.damaged.push(lost(error.to_string())),
                    }
                    if let Some(copies) = sync.copies {
                        copies.keep_entry(&name, &bytes);
                    }
                    ObjectHash::of_parts([&bytes[..]])
                }
            };
            (self.head, self.head_ms) = (hash, meta.modified_ms.max(self.head_ms));
            hashes.insert(name, hash);
        }
        self.check_heads(slot, &opened);
        // What is condemned beside a commit is condemned before it: every reader decides alike.
        opened.sort_by_key(|entry| (!matches!(entry.event, Event::Condemn(_)), entry.nonce));
        for entry in &opened {
            if let Err(error) = self.fold.apply(entry, &mut |list| read_list(sync, list)) {
                if error.is_retryable() {
                    // Half of a slot must not count twice.
                    *self = Log::of_siblings();
                    return Err(error);
                }
                let why = format!("a list that an entry names cannot be read: {error}");
                self.damaged.push(DamagedSlot { slot, why, void: false });
            }
        }
        self.fold.next = slot.saturating_add(1);
        if let Some(siblings) = &mut self.siblings {
            siblings.insert(slot, hashes);
        }
        Ok(())
    }

    /// Checks that what entries of a slot saw in the one before is still there, and that nobody wrote beside a collection.
    fn check_heads(&mut self, slot: u64, entries: &[LogEntry]) {
        let Some(before) = slot.checked_sub(1) else { return };
        let known: Vec<ObjectHash> = self.sibling_hashes(before);
        for entry in entries {
            if entry.heads.iter().any(|head| !known.contains(head)) {
                let why = "an entry that the next slot's saw is missing, or differs".to_owned();
                self.damaged.push(DamagedSlot { slot: before, why, void: false });
            }
            let is_collection = matches!(entry.event, Event::Condemn(_));
            if is_collection && entry.heads.len() != known.len() {
                let why = "an entry was written while somebody collected alone".to_owned();
                self.damaged.push(DamagedSlot { slot: before, why, void: false });
            }
        }
    }

    fn sibling_hashes(&self, slot: u64) -> Vec<ObjectHash> {
        let siblings = self.siblings.as_ref().and_then(|siblings| siblings.get(&slot));
        siblings.map(|siblings| siblings.values().copied().collect()).unwrap_or_default()
    }

    /// Whether a slot holds an entry of these bytes.
    pub(super) fn has_sibling(&self, slot: u64, hash: &ObjectHash) -> bool {
        self.sibling_hashes(slot).contains(hash)
    }
}

/// The copy of an entry, and its hash, where it is an entry of just that name.
fn open_copy(
    sync: &Sync<'_>,
    copies: &dyn EntryCopies,
    slot: u64,
    name: &Name,
    bytes: u64,
) -> Option<(ObjectHash, LogEntry)> {
    let sealed = copies.entry(name, bytes)?;
    let entry = open_slot(sync.ring, slot, &sealed).ok()?;
    // Else another entry of the slot could stand in for this one.
    let is_it = names::sibling(slot, &entry.nonce) == *name;
    is_it.then(|| (ObjectHash::of_parts([sealed.as_slice()]), entry))
}

/// Appends an entry beside whatever others append. `validate` is called before the put and again after it, on a state that
/// shows everything that was there by then: an entry that is not valid on that is there, but is not reported as done.
pub(super) fn append_sibling(
    log: &mut Log,
    sync: &Sync<'_>,
    entropy: &dyn Entropy,
    writer: [u8; 16],
    validate: &mut dyn FnMut(&Log) -> Result<Event>,
) -> Result<()> {
    let nonce: [u8; 16] = random(entropy)?;
    log.synchronise(sync)?;
    if log.fold.next > 0 {
        log.check_writable()?;
    }
    let event = validate(log)?;
    let slot = log.fold.next;
    let heads = slot.checked_sub(1).map(|before| log.sibling_hashes(before)).unwrap_or_default();
    let entry = log.next_entry(writer, nonce, event, heads);
    let (bytes, hash) = seal_entry(sync, &entry, entropy)?;
    let name = names::sibling(slot, &nonce);
    if let Err(error) = sync.store.put(&name, bytes.into(), PutMode::Replace) {
        // The name is nobody else's: whether the put took effect is for the store to say.
        let is_there =
            matches!(sync.store.get(&name), Ok(found) if ObjectHash::of_parts([&found[..]]) == hash);
        if !is_there {
            return Err(error.into());
        }
    }
    log.synchronise(sync)?;
    if !log.has_sibling(slot, &hash) || !log.fold.has_attempt(writer, nonce) {
        return Err(
            Error::corrupt("the store lost an entry of the log that it had accepted").with_object(&name)
        );
    }
    if log.fold.is_broken(slot, &nonce) {
        return Err(Error::new(
            ErrorKind::StoreUnavailable,
            "somebody collected garbage though others were writing: the entry is void",
        )
        .with_object(name)
        .with_remedy("do it again; prune such a repository only while nobody writes"));
    }
    Ok(())
}

/// The entries of all slots from `from` on.
fn list_siblings(store: &dyn Store, from: u64) -> Result<BTreeMap<u64, Siblings>> {
    let mut slots: BTreeMap<u64, Siblings> = BTreeMap::new();
    for folder in store.list_folder(names::LOG)?.folders {
        let Some(first) = names::first_slot_of(&folder) else { continue };
        if first.saturating_add(4095) < from {
            continue;
        }
        for meta in store.list_folder(&format!("{}/{folder}", names::LOG))?.objects {
            if let Some(slot) = names::parse_sibling(&meta.name).filter(|slot| *slot >= from) {
                slots.entry(slot).or_default().insert(meta.name.clone(), meta);
            }
        }
    }
    Ok(slots)
}
