//! Frames: consecutive chunks compressed and sealed as one. Compression and its inverse stand side by side here, the
//! sealing in `pack`.

mod compress;

pub use compress::Compression;
pub(crate) use compress::{Compressor, decompress};

use crate::format::pack::Codec;
use crate::id::ChunkId;

/// Frames are closed when they hold this many raw bytes. Larger frames compress better, smaller ones cost a restore of
/// one small file less.
pub(crate) const FRAME_TARGET_BYTES: usize = 1 << 20;

/// A compressed frame that is yet to be sealed.
pub(crate) struct Frame {
    pub(crate) codec: Codec,
    pub(crate) raw_bytes: u32,
    /// The bytes to be sealed; room for the tag is reserved.
    pub(crate) bytes: Vec<u8>,
    pub(crate) chunks: Vec<(ChunkId, u32)>,
}

impl std::fmt::Debug for Frame {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} of {} bytes, {} chunks)", self.bytes.len(), self.raw_bytes, self.chunks.len())
    }
}
