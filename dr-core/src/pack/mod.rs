//! Packs: the unit of storage. Frames are gathered, sealed when the pack is full, and read back.

mod blocks;
pub(crate) mod builder;
mod reader;

pub(crate) use blocks::PackBlocks;
pub(crate) use builder::{CopiedFrame, PackBuilder, PackEntry, Verify};
pub(crate) use reader::{open_frame, open_pack, open_pack_tail, split_frame};
