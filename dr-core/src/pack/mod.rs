//! Packs: the unit of storage. Frames are gathered, sealed when the pack is full, and read back.

mod builder;
mod reader;

pub(crate) use builder::{PackBuilder, PackEntry, PackFrame, SealedPack, Verify};
pub(crate) use reader::{OpenedPack, open_frame, open_pack, split_frame};
