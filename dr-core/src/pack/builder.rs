//! Gathers frames into a pack and seals it.

use std::ops::Range;

use dr_store::{Bytes, Payload};
use rayon::prelude::*;
use zeroize::Zeroize;

use super::blocks::PackBlocks;
use super::reader::{FrameOpener, split_frame};
use crate::crypto::{KeyRing, ObjectKey};
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{COMMIT_BYTES, Header, PackClass, TAG_BYTES};
use crate::format::pack::{
    Codec, FOOTER_NUMBER, Footer, FooterFrame, FrameShape, TRAILER_BYTES, TRAILER_NUMBER, Trailer,
};
use crate::format::padding;
use crate::frame::Frame;
use crate::id::{ChunkId, ObjectHash};
use crate::limits::{PACK_CHUNKS_MAX, PACK_FOREIGN_HEADERS_MAX};

/// A pack is closed when its frames take this many bytes.
const PACK_TARGET_BYTES: usize = 32 << 20;

/// Whether sealed frames are opened and hashed again before they leave this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verify {
    /// Finds faults of memory and processor while the source is still there.
    Frames,
    Nothing,
}

/// A frame that goes into another pack as it is.
#[derive(Debug)]
pub(crate) struct CopiedFrame {
    /// What it was sealed under.
    pub(crate) header: Header,
    pub(crate) shape: FrameShape,
    pub(crate) sealed: Vec<u8>,
    pub(crate) chunks: Vec<(ChunkId, u32)>,
}

/// A frame that was added.
#[derive(Debug)]
struct GatheredFrame {
    /// Its place in the blocks, with the tag.
    block: usize,
    place: Range<usize>,
    codec: Codec,
    raw_bytes: u32,
    digest: [u8; 32],
    chunks: Vec<(ChunkId, u32)>,
}

/// A pack that is being filled.
#[derive(Debug)]
pub(crate) struct PackBuilder {
    class: PackClass,
    frames: Vec<GatheredFrame>,
    /// The bytes of its frames, each with room for its tag behind it.
    blocks: Vec<Vec<u8>>,
    /// Frames of other packs, which stand behind its own.
    copies: Vec<CopiedFrame>,
    /// What those were sealed under.
    foreign: Vec<Header>,
    bytes: usize,
    chunks: usize,
}

impl PackBuilder {
    pub(crate) fn new(class: PackClass) -> PackBuilder {
        PackBuilder {
            class,
            frames: Vec::new(),
            blocks: Vec::new(),
            copies: Vec::new(),
            foreign: Vec::new(),
            bytes: 0,
            chunks: 0,
        }
    }

    /// Whether a frame of so many chunks must go into another pack.
    pub(crate) fn is_full_for(&self, chunks: usize) -> bool {
        self.bytes >= PACK_TARGET_BYTES || self.chunks + chunks > PACK_CHUNKS_MAX as usize
    }

    /// Adds a frame, with memory of `blocks` where there is too little yet.
    pub(crate) fn add(&mut self, frame: Frame<'_>, blocks: &PackBlocks) {
        let Frame { codec, raw_bytes, bytes, chunks, digest } = frame;
        let needed = bytes.len() + TAG_BYTES;
        if self.blocks.last().is_none_or(|block| block.capacity() - block.len() < needed) {
            self.blocks.push(blocks.take(needed));
        }
        let number = self.blocks.len() - 1;
        let block = &mut self.blocks[number];
        let start = block.len();
        block.extend_from_slice(bytes);
        block.extend_from_slice(&[0; TAG_BYTES]);
        let place = start..block.len();
        self.bytes += needed;
        self.chunks += chunks.len();
        self.frames.push(GatheredFrame { block: number, place, codec, raw_bytes, digest, chunks });
    }

    /// Whether a frame of another pack fits in.
    pub(crate) fn has_room_for(&self, copy: &CopiedFrame) -> bool {
        self.bytes < PACK_TARGET_BYTES
            && self.chunks + copy.chunks.len() <= PACK_CHUNKS_MAX as usize
            && (self.foreign.contains(&copy.header) || self.foreign.len() < PACK_FOREIGN_HEADERS_MAX)
    }

    /// Adds a frame of another pack as it is.
    pub(crate) fn add_copy(&mut self, copy: CopiedFrame) {
        self.bytes += copy.sealed.len();
        self.chunks += copy.chunks.len();
        if !self.foreign.contains(&copy.header) {
            self.foreign.push(copy.header.clone());
        }
        self.copies.push(copy);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.copies.is_empty()
    }

    /// Takes the other pack's frames, as far as they fit; gives back the rest.
    pub(crate) fn merge(&mut self, other: PackBuilder, blocks: &PackBlocks) -> Option<PackBuilder> {
        let mut rest = PackBuilder::new(self.class);
        for GatheredFrame { block, place, codec, raw_bytes, digest, chunks } in other.frames {
            let fits = self.chunks + chunks.len() <= PACK_CHUNKS_MAX as usize;
            let bytes = &other.blocks[block][place.start..place.end - TAG_BYTES];
            let pack = if fits { &mut *self } else { &mut rest };
            pack.add(Frame { codec, raw_bytes, bytes, chunks, digest }, blocks);
        }
        for copy in other.copies {
            if self.has_room_for(&copy) { self.add_copy(copy) } else { rest.add_copy(copy) }
        }
        (!rest.is_empty()).then_some(rest)
    }

    /// The bytes that its frames take so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Seals the pack, its frames on the threads of `pool` where there is one. Nothing is sealed before the list of frames is
    /// complete, because the salt hashes all of it.
    pub(crate) fn seal(
        mut self,
        ring: &KeyRing,
        entropy: &dyn Entropy,
        verify: Verify,
        ids: &[u8; 32],
        pool: Option<&rayon::ThreadPool>,
    ) -> Result<SealedPack> {
        let mut header = ring.header(self.class.object());
        let mut randomness: [u8; 32] = random(entropy)?;
        header.salt = crate::crypto::hedged_salt(&randomness, entropy, |hasher| {
            for frame in &self.frames {
                hasher.update(&frame.digest);
                hasher.update(&frame.raw_bytes.to_le_bytes());
                hasher.update(&[frame.codec as u8]);
            }
            for copy in &self.copies {
                hasher.update(blake3::hash(&copy.sealed).as_bytes());
                for (id, bytes) in &copy.chunks {
                    hasher.update(id.as_bytes()).update(&bytes.to_le_bytes());
                }
            }
        });
        randomness.zeroize();
        let plain_header = header.encode();
        let key = ObjectKey::derive(&ring.kek(&header)?, &header)?;
        let frames_start = plain_header.len() + COMMIT_BYTES;
        let mut parts = vec![Bytes::from([plain_header.as_slice(), key.commit()].concat())];
        let mut entry = PackEntry {
            class: self.class,
            hash: ObjectHash::from_bytes([0; 32]),
            bytes: 0,
            header,
            foreign: self.foreign.clone(),
            frames: vec![],
        };
        let mut offset = frames_start;
        let shapes = Sealer { key: &key, verify, ids }.seal_frames(&self.frames, &mut self.blocks, pool)?;
        for (shape, frame) in shapes.into_iter().zip(std::mem::take(&mut self.frames)) {
            let place = u32::try_from(offset)
                .map_err(|_| Error::new(ErrorKind::Internal, "a pack has grown beyond 4 GiB"))?;
            offset += frame.place.len();
            entry.frames.push(PackFrame { header: 0, offset: place, shape, chunks: frame.chunks });
        }
        let blocks: Vec<Bytes> = self.blocks.into_iter().map(Bytes::from).collect();
        parts.extend(blocks.iter().cloned());
        for copy in std::mem::take(&mut self.copies) {
            let place = u32::try_from(offset)
                .map_err(|_| Error::new(ErrorKind::Internal, "a pack has grown beyond 4 GiB"))?;
            offset += copy.sealed.len();
            let number = self.foreign.iter().position(|header| *header == copy.header).unwrap_or_default();
            entry.frames.push(PackFrame {
                header: number as u32 + 1,
                offset: place,
                shape: copy.shape,
                chunks: copy.chunks,
            });
            parts.push(Bytes::from(copy.sealed));
        }
        parts.push(Bytes::from(seal_tail(&key, frames_start, offset, &entry)));
        entry.hash = hash_of(&parts, pool);
        let payload = Payload::from_parts(parts);
        entry.bytes = payload.bytes();
        Ok(SealedPack { entry, payload, blocks })
    }
}

/// What frames are sealed with.
struct Sealer<'k> {
    key: &'k ObjectKey,
    verify: Verify,
    ids: &'k [u8; 32],
}

impl Sealer<'_> {
    /// Seals frames where they are in the blocks; gives their shapes.
    fn seal_frames(
        &self,
        frames: &[GatheredFrame],
        blocks: &mut [Vec<u8>],
        pool: Option<&rayon::ThreadPool>,
    ) -> Result<Vec<FrameShape>> {
        let mut blocks = blocks.iter_mut();
        let (mut block, mut rest) = (usize::MAX, <&mut [u8]>::default());
        let mut places = Vec::with_capacity(frames.len());
        for (number, frame) in frames.iter().enumerate() {
            if frame.block != block {
                (block, rest) = (frame.block, blocks.next().map(Vec::as_mut_slice).unwrap_or_default());
            }
            let place;
            (place, rest) = rest.split_at_mut(frame.place.len());
            places.push((number as u32, frame, place));
        }
        let seal = |opener: &mut FrameOpener, (number, frame, place): (u32, _, _)| {
            self.seal_frame(number, frame, place, opener)
        };
        match pool {
            Some(pool) => {
                pool.install(|| places.into_par_iter().map_init(FrameOpener::default, seal).collect())
            }
            None => {
                let mut opener = FrameOpener::default();
                places.into_iter().map(|frame| seal(&mut opener, frame)).collect()
            }
        }
    }

    fn seal_frame(
        &self,
        number: u32,
        frame: &GatheredFrame,
        place: &mut [u8],
        opener: &mut FrameOpener,
    ) -> Result<FrameShape> {
        let stored_bytes = u32::try_from(place.len())
            .map_err(|_| Error::new(ErrorKind::Internal, "a frame has grown beyond 4 GiB"))?;
        let shape = FrameShape { number, raw_bytes: frame.raw_bytes, stored_bytes, codec: frame.codec };
        let associated = shape.associated_data(self.key.header_hash());
        let (text, tag) = place.split_at_mut(place.len() - TAG_BYTES);
        tag.copy_from_slice(&self.key.seal(number, &associated, text));
        if self.verify == Verify::Frames {
            let raw = opener.open(self.key, &shape, place)?;
            let intact = split_frame(raw, &frame.chunks)
                .all(|(id, chunk)| *blake3::keyed_hash(self.ids, chunk).as_bytes() == *id.as_bytes());
            if !intact {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "a frame did not read back as it was written: nothing was stored",
                )
                .with_remedy("this machine's memory or processor made an error: test its memory"));
            }
        }
        Ok(shape)
    }
}

/// The name of a pack of these bytes, found on all threads of `pool`.
fn hash_of(parts: &[Bytes], pool: Option<&rayon::ThreadPool>) -> ObjectHash {
    let mut hasher = blake3::Hasher::new();
    match pool {
        Some(pool) => pool.install(|| {
            for part in parts {
                hasher.update_rayon(part);
            }
        }),
        None => {
            for part in parts {
                hasher.update(part);
            }
        }
    }
    ObjectHash::from_bytes(*hasher.finalize().as_bytes())
}

/// Padding, sealed footer and sealed trailer.
fn seal_tail(key: &ObjectKey, frames_start: usize, frames_end: usize, entry: &PackEntry) -> Vec<u8> {
    let footer = Footer {
        foreign: entry.foreign.clone(),
        frames: entry
            .frames
            .iter()
            .map(|frame| FooterFrame {
                header: frame.header,
                shape: frame.shape,
                chunks: frame.chunks.clone(),
            })
            .collect(),
    };
    debug_assert!(frames_start <= frames_end);
    let mut footer = footer.encode();
    let footer_bytes = footer.len() + TAG_BYTES;
    let total = padding::pack((frames_end + footer_bytes + TRAILER_BYTES) as u64) as usize;
    let padding_bytes = total - frames_end - footer_bytes - TRAILER_BYTES;
    let mut tail = vec![0; padding_bytes];
    key.fill_padding(&mut tail);
    let tag = key.seal(FOOTER_NUMBER, key.header_hash(), &mut footer);
    tail.extend_from_slice(&footer);
    tail.extend_from_slice(&tag);
    let mut trailer = Trailer {
        frames_end: frames_end as u64,
        footer_offset: (frames_end + padding_bytes) as u64,
        footer_bytes: footer_bytes as u32,
    }
    .encode();
    let tag = key.seal(TRAILER_NUMBER, key.header_hash(), &mut trailer);
    tail.extend_from_slice(&trailer);
    tail.extend_from_slice(&tag);
    tail
}

/// A sealed pack, ready to be stored.
#[derive(Debug)]
pub(crate) struct SealedPack {
    pub(crate) entry: PackEntry,
    pub(crate) payload: Payload,
    /// What the payload is made of, to be given back when it is stored.
    pub(crate) blocks: Vec<Bytes>,
}

/// What the index must know of a pack.
#[derive(Debug, Clone)]
pub(crate) struct PackEntry {
    pub(crate) class: PackClass,
    pub(crate) hash: ObjectHash,
    pub(crate) bytes: u64,
    pub(crate) header: Header,
    /// The headers of the packs that frames were copied from.
    pub(crate) foreign: Vec<Header>,
    pub(crate) frames: Vec<PackFrame>,
}

/// A frame of a stored pack, and the chunks in it in order.
#[derive(Debug, Clone)]
pub(crate) struct PackFrame {
    /// 0: sealed under the pack's own header; `n`: under `foreign[n - 1]`.
    pub(crate) header: u32,
    pub(crate) offset: u32,
    pub(crate) shape: FrameShape,
    pub(crate) chunks: Vec<(ChunkId, u32)>,
}
