//! Appends an entry: reads to the end, validates there, creates the next slot; whatever is unclear is read back.

use dr_store::{Name, PutMode, Store, StoreError, StoreErrorKind};

use super::read::{Log, Sync};
use super::siblings::append_sibling;
use crate::crypto::{KeyRing, seal_object};
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::ObjectType;
use crate::format::log::{Event, LogEntry};
use crate::format::names;
use crate::id::ObjectHash;
use crate::limits::SLOT_BYTES_MAX;

/// How often another writer may be faster before an append gives up.
const ATTEMPTS_MAX: usize = 1000;
/// How often an unclear answer of the store is followed up.
const UNCLEAR_MAX: usize = 5;

/// Who appends, and with what.
#[derive(Clone, Copy)]
pub(crate) struct Appender<'a> {
    pub(crate) store: &'a dyn Store,
    pub(crate) ring: &'a KeyRing,
    pub(crate) entropy: &'a dyn Entropy,
    pub(crate) writer: [u8; 16],
    pub(crate) behind: Behind,
}

/// What the newest slot may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behind {
    /// An entry, in a log without damage.
    Entry,
    /// Also bytes that are none: an entry behind them says that they were written so, and makes them void.
    BadSlot,
}

/// Appends an entry. `validate` is called on the newest state before every attempt and gives the event to append, or an
/// error that ends the append: what it saw is what the entry follows, or the attempt fails.
pub(crate) fn append(
    log: &mut Log,
    appender: Appender<'_>,
    validate: &mut dyn FnMut(&Log) -> Result<Event>,
) -> Result<()> {
    let Appender { store, ring, entropy, writer, behind } = appender;
    let sync = Sync { store, ring, copies: None };
    if log.siblings.is_some() {
        return append_sibling(log, &sync, entropy, writer, validate);
    }
    let nonce: [u8; 16] = random(entropy)?;
    let mut unclear = 0;
    for _ in 0..ATTEMPTS_MAX {
        log.synchronise(&sync)?;
        if log.fold.has_attempt(writer, nonce) {
            // An earlier attempt, whose answer was unclear, got there after all; it was validated on this very prefix.
            return Ok(());
        }
        if log.fold.next > 0 && (behind == Behind::Entry || log.bad_head().is_none()) {
            log.check_writable()?;
        }
        let event = validate(log)?;
        let slot = log.fold.next;
        let entry = log.next_entry(writer, nonce, event, Vec::new());
        let (bytes, hash) = seal_entry(&sync, &entry, entropy)?;
        let name = names::slot(slot);
        let put = store.put(&name, bytes.into(), PutMode::Create);
        if let Err(error) = put {
            match look_at(store, &name, &hash, error)? {
                Seen::Own => {}
                Seen::Another => continue,
                Seen::Nothing(_) if unclear < UNCLEAR_MAX => {
                    unclear += 1;
                    continue;
                }
                Seen::Nothing(error) => return Err(error),
            }
        }
        log.synchronise(&sync)?;
        if log.hash_of(slot) != Some(hash) {
            return Err(
                Error::corrupt("the store lost an entry of the log that it had accepted").with_object(&name)
            );
        }
        // The bytes are there; but what nobody can read back says nothing, and must not be reported as done.
        if !log.fold.has_attempt(writer, nonce) {
            return Err(Error::corrupt("an entry of the log was written bad").with_object(&name));
        }
        return Ok(());
    }
    Err(Error::new(ErrorKind::StoreUnavailable, "other writers were faster a thousand times over"))
}

impl Log {
    /// The entry that would follow the newest one.
    pub(super) fn next_entry(
        &self,
        writer: [u8; 16],
        nonce: [u8; 16],
        event: Event,
        heads: Vec<ObjectHash>,
    ) -> LogEntry {
        LogEntry {
            slot: self.fold.next,
            previous: self.head,
            previous_ms: self.head_ms,
            writer,
            nonce,
            event,
            heads,
            read_only: false,
        }
    }
}

/// Seals an entry; gives the object and its hash.
pub(super) fn seal_entry(
    sync: &Sync<'_>,
    entry: &LogEntry,
    entropy: &dyn Entropy,
) -> Result<(Vec<u8>, ObjectHash)> {
    let body = entry.encode();
    if body.len() > SLOT_BYTES_MAX {
        return Err(Error::new(ErrorKind::LimitExceeded, "an entry is longer than a slot may be"));
    }
    let header = sync.ring.header(ObjectType::Slot);
    let bytes = seal_object(&sync.ring.kek(&header)?, header, entry.slot, &body, entropy)?;
    let hash = ObjectHash::of_parts([bytes.as_slice()]);
    Ok((bytes, hash))
}

/// What stands in a slot after a put that was not plainly a success.
enum Seen {
    Own,
    Another,
    /// Nothing, or the store does not say: the put may still arrive.
    Nothing(Error),
}

/// Whatever the answer to the put was, only the slot itself says what happened.
fn look_at(store: &dyn Store, name: &Name, hash: &ObjectHash, put: StoreError) -> Result<Seen> {
    match store.get(name) {
        Ok(found) if ObjectHash::of_parts([&found[..]]) == *hash => Ok(Seen::Own),
        Ok(_) => Ok(Seen::Another),
        // Whose the slot is stays unknown: that is what the caller must hear, not that it is taken.
        Err(unknown) if unknown.is_retryable() => Ok(Seen::Nothing(unknown.into())),
        Err(missing) if missing.kind() == StoreErrorKind::NotFound && put.is_retryable() => {
            Ok(Seen::Nothing(put.into()))
        }
        Err(_) => Err(put.into()),
    }
}

#[cfg(test)]
mod tests;
