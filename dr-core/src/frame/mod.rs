//! Frames: consecutive chunks compressed and sealed as one. Compression and its inverse stand side by side here, the
//! sealing in `pack`.

mod compress;

pub use compress::Compression;
pub(crate) use compress::{Compressor, decompress_into};

use crate::format::pack::Codec;
use crate::id::ChunkId;

/// Frames are closed when they hold this many raw bytes. Larger frames compress better, smaller ones cost a restore of
/// one small file less.
pub(crate) const FRAME_TARGET_BYTES: usize = 1 << 20;

/// A compressed frame that is yet to be sealed.
pub(crate) struct Frame<'a> {
    pub(crate) codec: Codec,
    pub(crate) raw_bytes: u32,
    /// The bytes to be sealed.
    pub(crate) bytes: &'a [u8],
    pub(crate) chunks: Vec<(ChunkId, u32)>,
    /// What no frame of other bytes or other chunks has.
    pub(crate) digest: [u8; 32],
}

impl<'a> Frame<'a> {
    /// A frame of these chunks, `raw_bytes` long together, as the codec left them.
    pub(crate) fn new(codec: Codec, raw_bytes: u32, bytes: &'a [u8], chunks: Vec<(ChunkId, u32)>) -> Self {
        let mut digest = blake3::Hasher::new();
        for (id, bytes) in &chunks {
            digest.update(id.as_bytes()).update(&bytes.to_le_bytes());
        }
        if codec != Codec::Raw {
            // The ids are hashes of all the raw bytes, but other versions of the compressor make other bytes of them.
            digest.update(bytes);
        }
        Frame { codec, raw_bytes, bytes, chunks, digest: *digest.finalize().as_bytes() }
    }
}

impl std::fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Frame({} of {} bytes, {} chunks)", self.bytes.len(), self.raw_bytes, self.chunks.len())
    }
}
