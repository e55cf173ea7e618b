//! `data/…` and `tree/…`: packs. Header, key commitment, sealed frames one after the other, padding, sealed footer,
//! sealed trailer.

use serde::{Deserialize, Serialize};

use super::body;
use super::envelope::{Header, TAG_BYTES};
use super::reader::Reader;
use super::{FormatError, invalid};
use crate::id::ChunkId;
use crate::limits::{
    CHUNK_BYTES_MAX, FRAME_BYTES_MAX, PACK_CHUNKS_MAX, PACK_FOOTER_BYTES_MAX, PACK_FOREIGN_HEADERS_MAX,
};

const WHAT: &str = "a pack's footer";
/// The number that the footer is sealed under.
pub(crate) const FOOTER_NUMBER: u32 = 0xffff_fffe;
/// The number that the trailer is sealed under.
pub(crate) const TRAILER_NUMBER: u32 = 0xffff_ffff;
/// The length of a sealed trailer, in bytes.
pub(crate) const TRAILER_BYTES: usize = 64;

/// How a frame's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Codec {
    Raw = 0,
    Zstd = 1,
}

impl Codec {
    pub(crate) fn from_byte(byte: u8) -> Result<Codec, FormatError> {
        match byte {
            0 => Ok(Codec::Raw),
            1 => Ok(Codec::Zstd),
            other => Err(FormatError::Unsupported { what: "a frame's codec", version: u32::from(other) }),
        }
    }
}

/// What a frame is bound to beside its header and number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameShape {
    /// The number it was sealed under, in the pack it was first written to.
    pub(crate) number: u32,
    pub(crate) raw_bytes: u32,
    /// Its length in the pack, tag included.
    pub(crate) stored_bytes: u32,
    pub(crate) codec: Codec,
}

impl FrameShape {
    /// The associated data that a frame is sealed with.
    pub(crate) fn associated_data(&self, header_hash: &[u8; 32]) -> [u8; 45] {
        let mut data = [0; 45];
        data[..32].copy_from_slice(header_hash);
        data[32..36].copy_from_slice(&self.number.to_le_bytes());
        data[36..40].copy_from_slice(&self.raw_bytes.to_le_bytes());
        data[40..44].copy_from_slice(&self.stored_bytes.to_le_bytes());
        data[44] = self.codec as u8;
        data
    }
}

/// The table of a pack's frames.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Footer {
    /// Headers of the packs that frames were copied from verbatim.
    pub(crate) foreign: Vec<Header>,
    pub(crate) frames: Vec<FooterFrame>,
}

/// One frame of a pack, and the chunks in it in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FooterFrame {
    /// 0: sealed under this pack's header; `n`: under `foreign[n - 1]`.
    pub(crate) header: u32,
    pub(crate) shape: FrameShape,
    pub(crate) chunks: Vec<(ChunkId, u32)>,
}

#[derive(Serialize, Deserialize)]
struct StoredFooter {
    foreign: Vec<Vec<u8>>,
    frames: Vec<StoredFrame>,
}

#[derive(Serialize, Deserialize)]
struct StoredFrame {
    header: u32,
    number: u32,
    raw_bytes: u32,
    stored_bytes: u32,
    codec: u8,
    chunks: Vec<(ChunkId, u32)>,
}

impl Footer {
    pub(crate) fn encode(&self) -> Vec<u8> {
        body::encode(&StoredFooter {
            foreign: self.foreign.iter().map(Header::encode).collect(),
            frames: self
                .frames
                .iter()
                .map(|frame| StoredFrame {
                    header: frame.header,
                    number: frame.shape.number,
                    raw_bytes: frame.shape.raw_bytes,
                    stored_bytes: frame.shape.stored_bytes,
                    codec: frame.shape.codec as u8,
                    chunks: frame.chunks.clone(),
                })
                .collect(),
        })
    }

    /// Decodes a footer whose frames take `frames_bytes` bytes of the pack.
    pub(crate) fn decode(bytes: &[u8], frames_bytes: u64) -> Result<Footer, FormatError> {
        let stored: StoredFooter = body::decode(WHAT, bytes)?.value;
        if stored.foreign.len() > PACK_FOREIGN_HEADERS_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let mut footer = Footer::default();
        for header in &stored.foreign {
            let (decoded, length) = Header::decode(header)?;
            if length != header.len() {
                return Err(invalid(WHAT, "bytes follow a foreign header"));
            }
            footer.foreign.push(decoded);
        }
        let (mut chunks_total, mut bytes_total) = (0usize, 0u64);
        for frame in stored.frames {
            chunks_total += frame.chunks.len();
            bytes_total += u64::from(frame.stored_bytes);
            if chunks_total > PACK_CHUNKS_MAX as usize {
                return Err(FormatError::TooLarge { what: WHAT });
            }
            footer.frames.push(frame.check(footer.foreign.len())?);
        }
        if bytes_total != frames_bytes {
            return Err(invalid(WHAT, "its frames do not fill their place"));
        }
        Ok(footer)
    }
}

impl StoredFrame {
    fn check(self, foreign: usize) -> Result<FooterFrame, FormatError> {
        if self.header as usize > foreign || self.number >= FOOTER_NUMBER {
            return Err(invalid(WHAT, "a frame names no header"));
        }
        let codec = Codec::from_byte(self.codec)?;
        let shape = FrameShape {
            number: self.number,
            raw_bytes: self.raw_bytes,
            stored_bytes: self.stored_bytes,
            codec,
        };
        check_shape(&shape)?;
        let mut bytes = 0u64;
        for (_, chunk_bytes) in &self.chunks {
            if *chunk_bytes > CHUNK_BYTES_MAX {
                return Err(FormatError::TooLarge { what: "a chunk" });
            }
            bytes += u64::from(*chunk_bytes);
        }
        if bytes != u64::from(self.raw_bytes) {
            return Err(invalid(WHAT, "a frame's chunks do not fill it"));
        }
        Ok(FooterFrame { header: self.header, shape, chunks: self.chunks })
    }
}

/// Checks that a frame's lengths are possible, before anything of that length is allocated.
pub(crate) fn check_shape(shape: &FrameShape) -> Result<(), FormatError> {
    if shape.raw_bytes > FRAME_BYTES_MAX || shape.stored_bytes > FRAME_BYTES_MAX + TAG_BYTES as u32 {
        return Err(FormatError::TooLarge { what: "a frame" });
    }
    let Some(sealed_bytes) = shape.stored_bytes.checked_sub(TAG_BYTES as u32) else {
        return Err(invalid("a frame", "it is shorter than its tag"));
    };
    if shape.codec == Codec::Raw && sealed_bytes != shape.raw_bytes {
        return Err(invalid("a frame", "its lengths differ though it is not compressed"));
    }
    Ok(())
}

/// The last bytes of a pack, which locate the footer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Trailer {
    /// Where the frames end and the padding begins, counted from the beginning of the pack.
    pub(crate) frames_end: u64,
    pub(crate) footer_offset: u64,
    /// The length of the sealed footer.
    pub(crate) footer_bytes: u32,
}

impl Trailer {
    pub(crate) fn encode(&self) -> [u8; TRAILER_BYTES - TAG_BYTES] {
        let mut bytes = [0; TRAILER_BYTES - TAG_BYTES];
        bytes[..8].copy_from_slice(&self.frames_end.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.footer_bytes.to_le_bytes());
        bytes
    }

    /// Decodes the trailer of a pack of `pack_bytes` bytes whose frames begin at `frames_start`.
    pub(crate) fn decode(bytes: &[u8], frames_start: u64, pack_bytes: u64) -> Result<Trailer, FormatError> {
        const WHAT: &str = "a pack's trailer";
        let mut reader = Reader::new(WHAT, bytes);
        let trailer =
            Trailer { frames_end: reader.u64()?, footer_offset: reader.u64()?, footer_bytes: reader.u32()? };
        if reader.array::<28>()? != [0; 28] {
            return Err(invalid(WHAT, "a reserved byte is not zero"));
        }
        reader.finish()?;
        if trailer.footer_bytes > PACK_FOOTER_BYTES_MAX + TAG_BYTES as u32 {
            return Err(FormatError::TooLarge { what: "a pack's footer" });
        }
        let in_order = frames_start <= trailer.frames_end
            && trailer.frames_end <= trailer.footer_offset
            && trailer.footer_offset.checked_add(u64::from(trailer.footer_bytes) + TRAILER_BYTES as u64)
                == Some(pack_bytes);
        if in_order { Ok(trailer) } else { Err(invalid(WHAT, "its offsets do not fit the pack")) }
    }
}
