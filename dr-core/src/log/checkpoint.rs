//! Between the state of the log and a checkpoint of it.

use std::sync::Arc;

use super::fold::{Fold, SegmentPlace};
use super::read::{DamagedSlot, Log};
use crate::format::checkpoint::{CheckpointBody, CheckpointSegment};
use crate::id::ObjectHash;

impl Log {
    /// The checkpoint of this state; none where the log is damaged or empty: what is missing must not be papered over.
    pub(crate) fn to_checkpoint(&self) -> Option<CheckpointBody> {
        let through = self.fold.next.checked_sub(1)?;
        let is_sound =
            self.siblings.is_none() && self.damage().next().is_none() && self.fold.check_writable().is_ok();
        if !is_sound || self.hash_of(through) != Some(self.head) {
            return None;
        }
        let fold = &self.fold;
        let mut superseded: Vec<ObjectHash> = fold.superseded.iter().copied().collect();
        superseded.sort_unstable();
        let mut condemned: Vec<(ObjectHash, u64)> =
            fold.condemned.iter().map(|(hash, when)| (*hash, *when)).collect();
        condemned.sort_unstable();
        Some(CheckpointBody {
            through,
            head: self.head,
            head_ms: self.head_ms,
            changed: fold.changed,
            genesis: fold.genesis,
            ring: fold.ring,
            snapshots: fold.uncollected_snapshots().cloned().collect(),
            collected: fold.collected.clone(),
            pending: fold.pending.iter().map(|(slot, packs)| (*slot, packs.clone())).collect(),
            holds: fold.holds.clone(),
            segments: fold.segments().iter().map(segment_to_checkpoint).collect(),
            superseded,
            condemned,
            lossy: fold.lossy,
            attempts: fold
                .attempts_by_slot
                .iter()
                .map(|(slot, (writer, nonce))| (*slot, *writer, *nonce))
                .collect(),
            lists: fold.lists().to_vec(),
            checkpoints: fold.checkpoints.clone(),
            void: self.damaged.iter().filter(|slot| slot.void).map(|slot| slot.slot).collect(),
        })
    }

    /// The state that a checkpoint stands for.
    pub(crate) fn from_checkpoint(body: CheckpointBody) -> Log {
        let mut fold = Fold {
            next: body.through.saturating_add(1),
            changed: body.changed,
            genesis: body.genesis,
            ring: body.ring,
            checkpoints: body.checkpoints,
            superseded: body.superseded.into_iter().collect(),
            condemned: Arc::new(body.condemned.into_iter().collect()),
            lossy: body.lossy,
            collected: body.collected,
            pending: body.pending.into_iter().collect(),
            holds: body.holds,
            lists: body.lists,
            ..Fold::default()
        };
        for state in body.snapshots {
            fold.by_slot.insert((state.slot, state.record.id));
            fold.snapshots.insert(state.record.id, state);
        }
        for segment in body.segments {
            let place = match segment {
                CheckpointSegment::Object(hash) => SegmentPlace::Object(hash),
                CheckpointSegment::Inline(bytes) => {
                    SegmentPlace::Inline(ObjectHash::of_parts([bytes.as_slice()]), bytes.into())
                }
            };
            if fold.live.insert(*place.hash()) {
                fold.segments.push(place);
            }
        }
        for (slot, writer, nonce) in body.attempts {
            fold.attempts.insert((writer, nonce), slot);
            fold.attempts_by_slot.insert(slot, (writer, nonce));
        }
        let void = |slot| DamagedSlot { slot, why: "it was written bad".to_owned(), void: true };
        Log::at(fold, body.head, body.head_ms, body.void.into_iter().map(void).collect())
    }
}

fn segment_to_checkpoint(place: &SegmentPlace) -> CheckpointSegment {
    match place {
        SegmentPlace::Object(hash) => CheckpointSegment::Object(*hash),
        SegmentPlace::Inline(_, bytes) => CheckpointSegment::Inline(bytes.to_vec()),
    }
}

#[cfg(test)]
mod tests;
