//! The passwords and keys that open a repository: listed, added, taken out, changed. Each change is a new key ring, wrapped for
//! the key slots that stay, which an entry of the log puts in force; nothing else is sealed anew, and nobody else's password
//! is needed.
//!
//! What opens a repository is never touched before the new ring was read back and opened, and before the log puts it in
//! force. Then every ring goes that was there before the new one: whoever was about to put one of those in force finds that
//! it does not follow the ring in force, and begins anew, with a key slot of another name. So nothing that was deleted can
//! come into force. Where slots hold siblings nobody can say that, and nothing is deleted.

use std::collections::HashSet;

use dr_store::{Name, StoreErrorKind};

use super::bounded::get_bounded;
use super::create::seal_ring;
use super::open::{OpenedRing, StoredRing, list_rings, open_slots, read_rings};
use super::{Inner, Repository, put_hashed};
use crate::crypto::{Credentials, KdfStrength, Secret, new_slot};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;
use crate::format::key_slot::{Derivation, KeySlot};
use crate::format::log::{Event, Keys};
use crate::format::names;
use crate::id::ObjectHash;
use crate::limits::{KEY_SLOT_BYTES_MAX, KEY_SLOTS_MAX};
use crate::log::Log;
use crate::observer::lock;

/// How often a change is made again because somebody else changed the keys meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// A password or key that opens a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeySlotInfo {
    /// The slot's name among the objects of the store.
    pub id: ObjectHash,
    /// What was written on it; whoever reads the store can read it.
    pub label: String,
    /// What a guess at the password costs; none where it is a key of 32 bytes.
    pub cost: Option<KdfCost>,
    /// Whether the repository was opened with it here.
    pub is_current: bool,
    /// Why it opens nothing: its object is missing or damaged. Nothing else is known of it then.
    pub problem: Option<String>,
}

/// What deriving a key from a password costs: the parameters of Argon2id. Source: RFC 9106.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct KdfCost {
    /// Memory, in KiB.
    pub memory_kib: u32,
    /// Passes over it.
    pub passes: u32,
    /// How many lanes may be filled at a time.
    pub lanes: u32,
}

/// How a key slot is made.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct KeySlotOptions {
    /// What a guess at the password costs.
    pub kdf: KdfStrength,
    /// A label, 128 bytes at most; whoever reads the store can read it.
    pub label: String,
}

impl KeySlotOptions {
    /// The defaults.
    pub fn new() -> KeySlotOptions {
        KeySlotOptions::default()
    }
}

/// What a change of the key slots did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeySlotChange {
    /// The slot that was added.
    pub added: Option<ObjectHash>,
    /// The slot that was taken out.
    pub removed: Option<ObjectHash>,
    /// Objects that should be gone and could not be deleted. This program refuses what they open; but whoever knows a
    /// password that was taken out, and reads them, still gets at the keys.
    pub left_behind: Vec<String>,
}

impl Repository {
    /// The passwords and keys that open the repository, in the order in which they were added.
    ///
    /// # Errors
    /// `WrongCredentials` where the one that it was opened with was taken out meanwhile; what the store answers.
    pub fn key_slots(&self) -> Result<Vec<KeySlotInfo>> {
        let repository = &self.0;
        let in_force = repository.ring_in_force(&repository.synchronise()?)?;
        let slots = in_force.ring.slots().iter();
        slots.map(|(id, _)| describe(repository, id, *id == in_force.slot)).collect()
    }

    /// Adds a password or key. It is read back and opened before anything depends on it.
    ///
    /// # Errors
    /// `AlreadyExists` where it opens the repository already, `InvalidInput` for too long a label, `LimitExceeded` with more
    /// than 64 slots; what the store answers.
    pub fn add_key_slot(&self, credentials: &Credentials, options: &KeySlotOptions) -> Result<KeySlotChange> {
        self.0.change_slots(Some((credentials, options)), |_| Ok(None))
    }

    /// Takes a password or key out. Whoever kept copies of the objects that it opens, and of all others, still reads what was
    /// written before.
    ///
    /// # Errors
    /// `NotFound` where there is no such slot, `InvalidInput` for the one that the repository was opened with; what the store
    /// answers.
    pub fn remove_key_slot(&self, slot: &ObjectHash) -> Result<KeySlotChange> {
        self.0.change_slots(None, |in_force| {
            if *slot == in_force.slot {
                return Err(Error::new(
                    ErrorKind::InvalidInput,
                    "the repository was opened with this very key slot",
                )
                .with_object(names::hashed(names::KEYS, slot))
                .with_remedy("open it with another password or key to take this one out"));
            }
            Ok(Some(*slot))
        })
    }

    /// Puts a password or key in the place of the one that the repository was opened with.
    ///
    /// # Errors
    /// Those of [`add_key_slot`](Repository::add_key_slot); the new one may be the old one.
    pub fn change_key_slot(
        &self,
        credentials: &Credentials,
        options: &KeySlotOptions,
    ) -> Result<KeySlotChange> {
        self.0.change_slots(Some((credentials, options)), |in_force| Ok(Some(in_force.slot)))
    }
}

/// What is known of a key slot.
fn describe(repository: &Inner, id: &ObjectHash, is_current: bool) -> Result<KeySlotInfo> {
    let (label, cost, problem) = match read_slot(repository, id) {
        Ok(slot) => match slot.derivation {
            Derivation::Argon2id { memory_kib, passes, lanes } => {
                (slot.label, Some(KdfCost { memory_kib, passes, lanes }), None)
            }
            Derivation::Raw => (slot.label, None, None),
        },
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => (String::new(), None, Some(error.to_string())),
    };
    Ok(KeySlotInfo { id: *id, label, cost, is_current, problem })
}

fn read_slot(repository: &Inner, id: &ObjectHash) -> Result<KeySlot> {
    let name = names::hashed(names::KEYS, id);
    let bytes = get_bounded(&*repository.store, &name, KEY_SLOT_BYTES_MAX as u64)?;
    if ObjectHash::of_parts([&bytes[..]]) != *id {
        return Err(Error::corrupt("the key slot is damaged").with_object(&name));
    }
    KeySlot::decode(&bytes).map_err(|error| Error::from(error).with_object(&name))
}

/// A key slot that was written, and is to be added.
struct NewSlot<'c> {
    credentials: &'c Credentials,
    hash: ObjectHash,
    key: Secret,
}

impl Inner {
    /// The ring in force, and the slot that opens it here. Somebody may have changed the keys since the repository was opened.
    pub(crate) fn ring_in_force(&self, log: &Log) -> Result<OpenedRing> {
        let mut known = lock(&self.in_force);
        let newest = known.ring.generation;
        if let Some((_, hash)) = log.fold.ring.filter(|(generation, _)| *generation > newest) {
            let ring = self.read_ring(&hash)?;
            // Keys of other slots would open it as well; but who opened this repository is in or out by the own one.
            let own: Vec<_> =
                known.ring.slots().iter().filter(|(slot, _)| *slot == known.slot).cloned().collect();
            *known = ring.open(&self.config, &own)?.ok_or_else(|| {
                Error::new(
                    ErrorKind::WrongCredentials,
                    "the password or key that the repository was opened with was taken out of it",
                )
                .with_object(self.store.endpoint())
            })?;
        }
        Ok(known.clone())
    }

    fn read_ring(&self, hash: &ObjectHash) -> Result<StoredRing> {
        let name = names::hashed(names::RING, hash);
        let bytes = self.store.stat(&name)?.bytes;
        StoredRing::read(&*self.store, &self.config, name, bytes)
    }

    /// Puts a new ring in force, with one slot more, or one that `removed` names less.
    fn change_slots(
        &self,
        added: Option<(&Credentials, &KeySlotOptions)>,
        removed: impl Fn(&OpenedRing) -> Result<Option<ObjectHash>>,
    ) -> Result<KeySlotChange> {
        self.prepare_to_write(&self.synchronise()?)?;
        for _ in 0..ATTEMPTS_MAX {
            let base = self.ring_in_force(&self.synchronise()?)?;
            let gone = removed(&base)?;
            let added = added.map(|new| self.put_slot(&base, gone, new)).transpose()?;
            // All of these were made from the ring in force, or from an older one: none counts behind the entry that follows.
            let older = list_rings(&*self.store)?;
            let follows = |log: &Log| log.fold.ring.is_some_and(|(_, ring)| ring == base.hash);
            let new = match self.put_ring(&base, &older, added.as_ref(), gone) {
                // Somebody else's change may have swept it away.
                Err(error) if error.is_damage() && !follows(&self.synchronise()?) => continue,
                new => new?,
            };
            let event = Event::Keys(Keys { generation: new.ring.generation, ring: new.hash });
            let appended = self.append_if(&mut |log| Ok(follows(log).then(|| event.clone())))?;
            // Where slots hold siblings, somebody else's ring may count.
            let is_ours = |log: &Log| log.fold.ring == Some((new.ring.generation, new.hash));
            if appended.is_some_and(|log| self.decides() || is_ours(&log)) {
                let left_behind = self.delete_older(&base, &older, &new);
                let mut known = lock(&self.in_force);
                if known.ring.generation < new.ring.generation {
                    *known = new;
                }
                return Ok(KeySlotChange { added: added.map(|slot| slot.hash), removed: gone, left_behind });
            }
        }
        Err(Error::new(
            ErrorKind::StoreUnavailable,
            "the keys of the repository are changed by others all the time",
        )
        .with_remedy("nothing was changed: try again"))
    }

    /// Whether the store decides which of two entries comes first.
    fn decides(&self) -> bool {
        self.config.mode == LogMode::CreateIfAbsent
    }

    /// Writes a key slot for what opens none of the slots that stay.
    fn put_slot<'c>(
        &self,
        base: &OpenedRing,
        gone: Option<ObjectHash>,
        (credentials, options): (&'c Credentials, &KeySlotOptions),
    ) -> Result<NewSlot<'c>> {
        let stays = base.ring.slots().iter().map(|(slot, _)| *slot).filter(|slot| Some(*slot) != gone);
        let stays: HashSet<ObjectHash> = stays.collect();
        if stays.len() >= KEY_SLOTS_MAX {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "a repository has 64 passwords and keys at most",
            )
            .with_remedy("take one out with 'dr key remove'"));
        }
        if !open_slots(&*self.store, &self.config, credentials, &stays, &mut None)?.is_empty() {
            return Err(Error::new(
                ErrorKind::AlreadyExists,
                "this password or key opens the repository already",
            ));
        }
        let (slot, key) =
            new_slot(self.config.repository, credentials, options.kdf, &options.label, &*self.entropy)?;
        let hash = put_hashed(&*self.store, names::KEYS, slot.encode())?;
        Ok(NewSlot { credentials, hash, key })
    }

    /// Writes the ring that follows another one, and opens it as the store gives it back.
    fn put_ring(
        &self,
        base: &OpenedRing,
        older: &[(Name, u64)],
        added: Option<&NewSlot<'_>>,
        gone: Option<ObjectHash>,
    ) -> Result<OpenedRing> {
        let mut ring = base.ring.clone();
        if let Some(gone) = gone.filter(|gone| !ring.remove_slot(gone)) {
            return Err(Error::new(ErrorKind::NotFound, "there is no such key slot")
                .with_object(names::hashed(names::KEYS, &gone))
                .with_remedy("'dr key list' shows those that there are"));
        }
        if let Some(added) = added {
            ring.add_slot(added.hash, added.key.clone());
        }
        // Above all that can be opened, also those that were never put in force.
        let stored = read_rings(&*self.store, &self.config, older, &mut None)?;
        let generations =
            stored.iter().filter_map(|ring| ring.open(&self.config, base.ring.slots()).ok().flatten());
        let newest = generations.map(|opened| opened.ring.generation).fold(base.ring.generation, u64::max);
        ring.generation = newest.checked_add(1).ok_or_else(|| {
            Error::new(ErrorKind::LimitExceeded, "the keys of the repository cannot be changed any more")
        })?;
        let hash =
            put_hashed(&*self.store, names::RING, seal_ring(&ring, self.config.hash(), &*self.entropy)?)?;
        let stored = self.read_ring(&hash)?;
        let keys = match added {
            Some(added) => {
                read_slot(self, &added.hash)?;
                let known = HashSet::from([added.hash]);
                open_slots(&*self.store, &self.config, added.credentials, &known, &mut None)?
            }
            None => {
                read_slot(self, &base.slot)?;
                ring.slots().iter().filter(|(slot, _)| *slot == base.slot).cloned().collect()
            }
        };
        let opened = stored.open(&self.config, &keys)?.filter(|opened| opened.ring == ring);
        let mut opened = opened.ok_or_else(|| {
            Error::corrupt("the store does not give the new keys back as they were written")
                .with_object(names::hashed(names::RING, &hash))
                .with_remedy("nothing was changed: look after the store")
        })?;
        // Another slot is added beside the one that this client goes on with.
        if gone != Some(base.slot) {
            opened.slot = base.slot;
        }
        Ok(opened)
    }

    /// Deletes the rings that were there before the one in force, and the slots that only those are wrapped for. Gives what
    /// could not be deleted, or must not be.
    fn delete_older(&self, base: &OpenedRing, older: &[(Name, u64)], new: &OpenedRing) -> Vec<String> {
        let stays: HashSet<ObjectHash> = new.ring.slots().iter().map(|(slot, _)| *slot).collect();
        // Those of the ring before, whatever a listing shows of it.
        let mut slots: Vec<ObjectHash> = base.ring.slots().iter().map(|(slot, _)| *slot).collect();
        let mut gone = vec![names::hashed(names::RING, &base.hash)];
        let is_other = |name: &Name| names::parse_hash(name).is_some_and(|hash| hash != new.hash);
        for (name, bytes) in older.iter().filter(|(name, _)| is_other(name)) {
            if let Ok(stored) = StoredRing::read(&*self.store, &self.config, name.clone(), *bytes) {
                slots.extend(stored.wraps.wraps.iter().map(|wrap| wrap.slot));
            }
            gone.push(name.clone());
        }
        let slots = slots.iter().filter(|slot| !stays.contains(*slot));
        gone.extend(slots.map(|slot| names::hashed(names::KEYS, slot)));
        gone.sort_unstable();
        gone.dedup();
        let is_left = |name: &Name| match self.store.delete(name) {
            Err(error) => error.kind() != StoreErrorKind::NotFound,
            Ok(()) => false,
        };
        let decides = self.decides();
        gone.iter().filter(|name| !decides || is_left(name)).map(ToString::to_string).collect()
    }
}
