//! The commit log: one append-only sequence of slots, ordered by create-if-absent, decides which snapshots exist, which
//! index segments count and which packs may be deleted. `docs/PROTOCOL.md` gives the rules and why they hold.

mod append;
mod checkpoint;
mod fold;
mod hold;
mod read;
mod siblings;

pub(crate) use append::{Appender, Behind, append};
#[cfg(feature = "internals")]
pub(crate) use fold::Refusal;
pub(crate) use fold::{Fold, SegmentPlace};
pub(crate) use read::{
    EntryCopies, Log, Sync, is_written_bad, open_checkpoint, read_entry, read_entry_of, read_list,
    read_names, slot_times,
};
