//! The commit log: one append-only sequence of slots, ordered by create-if-absent, decides which snapshots exist, which
//! index segments count and which packs may be deleted. `docs/PROTOCOL.md` gives the rules and why they hold.

mod append;
mod checkpoint;
mod fold;
mod read;
mod siblings;

pub(crate) use append::append;
pub(crate) use fold::SegmentPlace;
#[cfg(feature = "internals")]
pub(crate) use fold::{Fold, Refusal};
pub(crate) use read::{Log, Sync, open_checkpoint, read_entry, read_list, read_names, slot_times};
