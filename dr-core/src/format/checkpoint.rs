//! `ckpt/…`: the log folded up to a slot. Only ever a copy of what the slots say.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::body;
use super::log::{HashList, SnapshotRecord};
use super::{FormatError, invalid};
use crate::id::ObjectHash;
use crate::limits::{HOLD_SECONDS_MAX, LIST_BYTES_MAX};

const WHAT: &str = "a checkpoint";

/// The body of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct CheckpointBody {
    /// The last slot that was folded, the BLAKE3 of its raw bytes, and the store's time of it.
    pub(crate) through: u64,
    pub(crate) head: ObjectHash,
    pub(crate) head_ms: i64,
    /// One more than the newest slot of a commit, condemn, reindex or unforget.
    pub(crate) changed: u64,
    /// The hashes of `config` and of the first ring; generation and hash of the ring in force.
    pub(crate) genesis: Option<(ObjectHash, ObjectHash)>,
    pub(crate) ring: Option<(u64, ObjectHash)>,
    /// The snapshots that are not collected, in the order they were committed.
    pub(crate) snapshots: Vec<SnapshotState>,
    /// The live segments in order.
    pub(crate) segments: Vec<CheckpointSegment>,
    /// Segments that were replaced and are not condemned, ascending.
    pub(crate) superseded: Vec<ObjectHash>,
    /// Condemned packs and segments, ascending, and the slots that condemned them.
    pub(crate) condemned: Vec<(ObjectHash, u64)>,
    /// The newest slot with which chunks were lost.
    pub(crate) lossy: Option<u64>,
    /// Slot, writer and nonce of the newest entries, in order.
    pub(crate) attempts: Vec<(u64, [u8; 16], [u8; 16])>,
    /// The list objects that entries name.
    pub(crate) lists: Vec<ObjectHash>,
    /// The checkpoints that entries name.
    pub(crate) checkpoints: Vec<(u64, ObjectHash)>,
    /// Slots that were written bad and say nothing.
    pub(crate) void: Vec<u64>,
    /// For each snapshot that was collected of late: the slot that did it, and the one that had forgotten it.
    pub(crate) collected: Vec<(u64, u64)>,
    /// The packs of the newest commits without a snapshot, by slot.
    pub(crate) pending: Vec<(u64, HashList)>,
    /// The slots that changed how long forgotten snapshots are held, and to how many seconds, ascending.
    pub(crate) holds: Vec<(u64, u64)>,
}

/// A snapshot that was committed, as a fold of the log knows it and a checkpoint holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SnapshotState {
    pub(crate) record: SnapshotRecord,
    /// The slot that committed it.
    pub(crate) slot: u64,
    /// The store's time of the slot before, in milliseconds since 1970: what retention goes by.
    pub(crate) store_ms: i64,
    /// The store's time of its own slot, as the entry behind it recorded it.
    pub(crate) next_ms: Option<i64>,
    /// The slot that forgot it, if it is forgotten.
    pub(crate) forgotten: Option<u64>,
    /// It cannot be forgotten.
    pub(crate) protected: bool,
    /// The tags that it bears now, where they were changed.
    pub(crate) tags: Option<Vec<String>>,
}

/// A live segment in a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum CheckpointSegment {
    /// An object of its own.
    Object(ObjectHash),
    /// The sealed bytes, which stand inside of a commit.
    Inline(Vec<u8>),
}

impl CheckpointBody {
    pub(crate) fn encode(&self) -> Vec<u8> {
        body::encode(self)
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<CheckpointBody, FormatError> {
        if bytes.len() > LIST_BYTES_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let decoded = body::decode::<CheckpointBody>(WHAT, bytes)?;
        if decoded.read_only {
            // Whoever does not know all of it folds the slots instead.
            return Err(FormatError::Unsupported { what: WHAT, version: 1 });
        }
        let checkpoint = decoded.value;
        let is_sorted = checkpoint.snapshots.is_sorted_by(|a, b| a.slot < b.slot)
            && checkpoint.attempts.is_sorted_by(|a, b| a.0 < b.0)
            && checkpoint.holds.is_sorted_by(|a, b| a.0 < b.0 && a.1 != b.1)
            && checkpoint.superseded.is_sorted_by(|a, b| a < b)
            && checkpoint.condemned.is_sorted_by(|a, b| a.0 < b.0);
        let is_past = checkpoint.snapshots.iter().all(|snapshot| snapshot.slot <= checkpoint.through)
            && checkpoint.attempts.iter().all(|attempt| attempt.0 <= checkpoint.through)
            && checkpoint
                .holds
                .iter()
                .all(|(slot, seconds)| *slot <= checkpoint.through && *seconds <= HOLD_SECONDS_MAX)
            && checkpoint.through < u64::MAX
            && checkpoint.changed <= checkpoint.through + 1;
        if !is_sorted || !is_past {
            return Err(invalid(WHAT, "its parts are not in order"));
        }
        let (mut ids, mut attempts) = (HashSet::new(), HashSet::new());
        let is_unique = checkpoint.snapshots.iter().all(|snapshot| ids.insert(snapshot.record.id))
            && checkpoint.attempts.iter().all(|(_, writer, nonce)| attempts.insert((writer, nonce)));
        if is_unique { Ok(checkpoint) } else { Err(invalid(WHAT, "it names a snapshot or an attempt twice")) }
    }
}
