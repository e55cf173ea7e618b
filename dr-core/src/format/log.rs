//! `log/…`: the entries of the commit log, one a slot, and the list objects they may name.

use serde::{Deserialize, Serialize};

use super::body::{self, CRITICAL, Extension};
use super::{FormatError, invalid};
use crate::id::{ObjectHash, SnapshotId};
use crate::limits::{LIST_BYTES_MAX, SLOT_BYTES_MAX};
use crate::tree::Stream;

const WHAT: &str = "a slot of the log";
/// The extension of an entry that holds what its writer saw in the slot before.
const HEADS: u16 = 1;

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogEntry {
    pub(crate) slot: u64,
    /// The BLAKE3 of the raw bytes of the slot before; zeros in slot 0.
    pub(crate) previous: ObjectHash,
    /// The store's time of the slot before, in milliseconds since 1970; 0 in slot 0.
    pub(crate) previous_ms: i64,
    /// Who wrote it: random, one a client.
    pub(crate) writer: [u8; 16],
    /// Random, one an attempt, so that a writer recognises its own entry.
    pub(crate) nonce: [u8; 16],
    pub(crate) event: Event,
    /// In a log whose slots may hold several entries: the hashes of those in the slot before that the writer saw.
    pub(crate) heads: Vec<ObjectHash>,
    /// A critical part is unknown: the repository may be read but not written.
    pub(crate) read_only: bool,
}

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    Genesis(Genesis),
    Commit(Commit),
    Forget(Snapshots),
    Unforget(Snapshots),
    Condemn(Condemn),
    Reindex(Reindex),
    Checkpoint(Checkpoint),
    Keys(Keys),
    Protect(Snapshots),
    Unprotect(Snapshots),
    Tag(Tag),
    Hold(Hold),
    /// Of a kind that this program does not know.
    Unknown {
        kind: u16,
    },
}

/// Slot 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Genesis {
    pub(crate) config: ObjectHash,
    pub(crate) ring: ObjectHash,
}

/// New index segments, and usually a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Commit {
    pub(crate) snapshot: Option<SnapshotRecord>,
    pub(crate) segments: Vec<ObjectHash>,
    /// Small segments, as the bytes that would otherwise be an object.
    pub(crate) inline_segments: Vec<Vec<u8>>,
    pub(crate) own_packs: HashList,
    /// The packs that the snapshot's chunks were found in.
    pub(crate) dedup_packs: HashList,
    /// The snapshots whose subtrees were taken over without looking.
    pub(crate) reused: Vec<SnapshotId>,
}

/// A snapshot as the log knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotRecord {
    pub(crate) id: SnapshotId,
    pub(crate) partial: bool,
    pub(crate) body: SnapshotPlace,
}

/// Where a snapshot's body is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SnapshotPlace {
    /// Here, sealed.
    Inline(Vec<u8>),
    /// In tree chunks.
    Stream(Stream),
}

/// Hashes, here or in a list object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum HashList {
    Inline(Vec<ObjectHash>),
    List(ObjectHash),
}

impl Default for HashList {
    fn default() -> Self {
        HashList::Inline(Vec::new())
    }
}

/// Snapshots that are forgotten or protected, or no longer so.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshots {
    pub(crate) snapshots: Vec<SnapshotId>,
}

/// Snapshots that bear other tags from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tag {
    pub(crate) snapshots: Vec<SnapshotId>,
    /// All tags that each of them bears now.
    pub(crate) tags: Vec<String>,
}

/// How long a forgotten snapshot must stay from now on before it may be collected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) seconds: u64,
}

/// What may now be deleted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Condemn {
    pub(crate) packs: HashList,
    pub(crate) segments: HashList,
    pub(crate) snapshots: Vec<SnapshotId>,
    /// Chunks that snapshots need are lost with these packs: what an earlier snapshot has must not be taken over without
    /// looking.
    pub(crate) lossy: bool,
}

/// Segments that replace others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reindex {
    pub(crate) inputs: Vec<ObjectHash>,
    pub(crate) outputs: Vec<ObjectHash>,
    pub(crate) own_packs: HashList,
}

/// A checkpoint that was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Checkpoint {
    pub(crate) through: u64,
    pub(crate) object: ObjectHash,
}

/// A new key ring is in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Keys {
    pub(crate) generation: u64,
    pub(crate) ring: ObjectHash,
}

#[derive(Serialize, Deserialize)]
struct StoredEntry {
    slot: u64,
    previous: ObjectHash,
    previous_ms: i64,
    writer: [u8; 16],
    nonce: [u8; 16],
    kind: u16,
    payload: Vec<u8>,
    /// 0: not signed.
    signature_suite: u8,
    signature: Vec<u8>,
}

impl LogEntry {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let (kind, payload) = self.event.encode();
        let mut extensions = Vec::new();
        if !self.heads.is_empty() {
            let mut bytes = Vec::new();
            body::encode_plain(&self.heads, &mut bytes);
            extensions.push(Extension { tag: HEADS, bytes });
        }
        let stored = StoredEntry {
            slot: self.slot,
            previous: self.previous,
            previous_ms: self.previous_ms,
            writer: self.writer,
            nonce: self.nonce,
            kind,
            payload,
            signature_suite: 0,
            signature: Vec::new(),
        };
        body::encode_with(&stored, &extensions)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<LogEntry, FormatError> {
        if bytes.len() > SLOT_BYTES_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let body = body::decode::<StoredEntry>(WHAT, bytes)?;
        let heads = match body.extensions.iter().find(|extension| extension.tag == HEADS) {
            Some(extension) => body::decode_plain(WHAT, &extension.bytes)?,
            None => Vec::new(),
        };
        let stored = body.value;
        let event = Event::decode(stored.kind, &stored.payload)?;
        let unknown = matches!(event, Event::Unknown { kind } if kind & CRITICAL != 0);
        Ok(LogEntry {
            slot: stored.slot,
            previous: stored.previous,
            previous_ms: stored.previous_ms,
            writer: stored.writer,
            nonce: stored.nonce,
            event,
            heads,
            read_only: body.read_only || unknown,
        })
    }
}

impl Event {
    fn encode(&self) -> (u16, Vec<u8>) {
        let mut payload = Vec::new();
        let kind = match self {
            Event::Genesis(event) => encode_payload(1, event, &mut payload),
            Event::Commit(event) => encode_payload(2, event, &mut payload),
            Event::Forget(event) => encode_payload(3, event, &mut payload),
            Event::Unforget(event) => encode_payload(4, event, &mut payload),
            Event::Condemn(event) => encode_payload(5, event, &mut payload),
            Event::Reindex(event) => encode_payload(6, event, &mut payload),
            Event::Checkpoint(event) => encode_payload(7, event, &mut payload) & !CRITICAL,
            Event::Keys(event) => encode_payload(8, event, &mut payload),
            Event::Protect(event) => encode_payload(9, event, &mut payload),
            Event::Unprotect(event) => encode_payload(10, event, &mut payload),
            Event::Tag(event) => encode_payload(11, event, &mut payload),
            Event::Hold(event) => encode_payload(12, event, &mut payload),
            Event::Unknown { kind } => *kind,
        };
        (kind, payload)
    }

    fn decode(kind: u16, payload: &[u8]) -> Result<Event, FormatError> {
        const CHECKPOINT: u16 = 7;
        Ok(match kind & !CRITICAL {
            number if kind & CRITICAL == 0 && number != CHECKPOINT => Event::Unknown { kind },
            1 => Event::Genesis(body::decode_plain(WHAT, payload)?),
            2 => {
                let commit: Commit = body::decode_plain(WHAT, payload)?;
                if let Some(SnapshotRecord { body: SnapshotPlace::Stream(stream), .. }) = &commit.snapshot {
                    super::tree::check_stream(stream)?;
                }
                Event::Commit(commit)
            }
            3 => Event::Forget(body::decode_plain(WHAT, payload)?),
            4 => Event::Unforget(body::decode_plain(WHAT, payload)?),
            5 => Event::Condemn(body::decode_plain(WHAT, payload)?),
            6 => Event::Reindex(body::decode_plain(WHAT, payload)?),
            CHECKPOINT => Event::Checkpoint(body::decode_plain(WHAT, payload)?),
            8 => Event::Keys(body::decode_plain(WHAT, payload)?),
            9 => Event::Protect(body::decode_plain(WHAT, payload)?),
            10 => Event::Unprotect(body::decode_plain(WHAT, payload)?),
            11 => Event::Tag(body::decode_plain(WHAT, payload)?),
            12 => Event::Hold(body::decode_plain(WHAT, payload)?),
            _ => Event::Unknown { kind },
        })
    }
}

fn encode_payload<T: Serialize>(number: u16, event: &T, into: &mut Vec<u8>) -> u16 {
    body::encode_plain(event, into);
    number | CRITICAL
}

/// The body of a `list/<hash>` object.
#[derive(Debug, Serialize, Deserialize)]
struct StoredList {
    hashes: Vec<ObjectHash>,
}

pub(crate) fn encode_list(hashes: &[ObjectHash]) -> Vec<u8> {
    body::encode(&StoredList { hashes: hashes.to_vec() })
}

pub(crate) fn decode_list(bytes: &[u8]) -> Result<Vec<ObjectHash>, FormatError> {
    const WHAT: &str = "a list";
    if bytes.len() > LIST_BYTES_MAX {
        return Err(FormatError::TooLarge { what: WHAT });
    }
    let list: StoredList = body::decode(WHAT, bytes)?.value;
    if list.hashes.is_sorted_by(|a, b| a < b) {
        Ok(list.hashes)
    } else {
        Err(invalid(WHAT, "it is not sorted"))
    }
}
