//! Reads packs: a frame whose place is known, or a whole pack with nothing but its bytes.

use super::builder::{PackEntry, PackFrame};
use crate::crypto::{KeyRing, ObjectKey};
use crate::error::{Error, Result};
use crate::format::envelope::{COMMIT_BYTES, Header, PackClass};
use crate::format::pack::{
    Codec, FOOTER_NUMBER, Footer, FrameShape, TRAILER_BYTES, TRAILER_NUMBER, Trailer, check_shape,
};
use crate::frame::decompress_into;
use crate::id::{ChunkId, ObjectHash};
use crate::limits::PACK_BYTES_MAX;

/// The raw bytes of a sealed frame.
pub(crate) fn open_frame(key: &ObjectKey, shape: &FrameShape, sealed: &[u8]) -> Result<Vec<u8>> {
    let mut opener = FrameOpener::default();
    opener.open(key, shape, sealed)?;
    Ok(match shape.codec {
        Codec::Raw => opener.text,
        Codec::Zstd => opener.raw,
    })
}

/// Opens frames one after the other into the same memory, and leaves what is sealed as it is.
#[derive(Default)]
pub(crate) struct FrameOpener {
    text: Vec<u8>,
    raw: Vec<u8>,
}

impl FrameOpener {
    /// The raw bytes of a sealed frame.
    pub(crate) fn open(&mut self, key: &ObjectKey, shape: &FrameShape, sealed: &[u8]) -> Result<&[u8]> {
        check_shape(shape)?;
        if sealed.len() != shape.stored_bytes as usize {
            return Err(Error::corrupt("a frame is cut short"));
        }
        if !key.open_into(shape.number, &shape.associated_data(key.header_hash()), sealed, &mut self.text) {
            return Err(Error::corrupt("a frame does not authenticate"));
        }
        match shape.codec {
            // Of these the shape says that they are as long as they should be.
            Codec::Raw => Ok(&self.text),
            Codec::Zstd => {
                decompress_into(shape.codec, &self.text, shape.raw_bytes, &mut self.raw)?;
                Ok(&self.raw)
            }
        }
    }
}

/// The chunks of a raw frame; a chunk that would lie outside is empty, and so does not match its id.
pub(crate) fn split_frame<'a>(
    raw: &'a [u8],
    chunks: &'a [(ChunkId, u32)],
) -> impl Iterator<Item = (&'a ChunkId, &'a [u8])> {
    chunks.iter().scan(0usize, move |start, (id, bytes)| {
        let end = start.saturating_add(*bytes as usize);
        let chunk = raw.get(*start..end).unwrap_or_default();
        *start = end;
        Some((id, chunk))
    })
}

/// A pack that was opened whole.
pub(crate) struct OpenedPack {
    pub(crate) entry: PackEntry,
    /// The keys of the frames: of this pack, then of the packs that frames were copied from.
    keys: Vec<ObjectKey>,
}

impl OpenedPack {
    /// Opens frame `number` of the pack's `bytes`.
    pub(crate) fn frame(&self, bytes: &[u8], number: usize) -> Result<Vec<u8>> {
        let missing = || Error::corrupt("a frame lies outside its pack");
        let frame = self.entry.frames.get(number).ok_or_else(missing)?;
        let key = self.keys.get(frame.header as usize).ok_or_else(missing)?;
        let start = frame.offset as usize;
        let sealed = bytes.get(start..start + frame.shape.stored_bytes as usize).ok_or_else(missing)?;
        open_frame(key, &frame.shape, sealed)
    }
}

/// Opens a pack from nothing but its bytes: checks header, commitment, trailer, footer and padding.
pub(crate) fn open_pack(ring: &KeyRing, class: PackClass, bytes: &[u8]) -> Result<OpenedPack> {
    if bytes.len() as u64 > PACK_BYTES_MAX {
        return Err(Error::corrupt("a pack is larger than the format allows"));
    }
    let (header, key, frames_start) = open_head(ring, class, bytes)?;
    let trailer_offset = bytes.len().checked_sub(TRAILER_BYTES).filter(|offset| *offset >= frames_start);
    let trailer_offset = trailer_offset.ok_or_else(short)?;
    let trailer = open_trailer(&key, &bytes[trailer_offset..], frames_start as u64, bytes.len() as u64)?;
    let (frames_end, footer_start) = (trailer.frames_end as usize, trailer.footer_offset as usize);
    let footer = open_footer(&key, &bytes[footer_start..trailer_offset], frames_start, &trailer)?;
    let mut padding = vec![0; footer_start - frames_end];
    key.fill_padding(&mut padding);
    if padding != bytes[frames_end..footer_start] {
        return Err(Error::corrupt("the pack's padding was altered"));
    }
    let mut keys = vec![key];
    for foreign in &footer.foreign {
        if foreign.object != class.object() {
            return Err(Error::corrupt("a frame was sealed for another class"));
        }
        keys.push(ObjectKey::derive(&ring.kek(foreign)?, foreign)?);
    }
    let hash = ObjectHash::of_parts([bytes]);
    let entry = entry_of(class, hash, bytes.len() as u64, header, footer, frames_start);
    Ok(OpenedPack { entry, keys })
}

/// The first bytes of a pack that are fetched to read its header.
const HEAD_BYTES: u64 = 32 << 10;

/// Opens only the head and the tail of a pack in the store, to learn what is in it. Its frames are not read.
pub(crate) fn open_pack_tail(
    ring: &KeyRing,
    class: PackClass,
    hash: ObjectHash,
    bytes: u64,
    fetch: &dyn Fn(std::ops::Range<u64>) -> Result<dr_store::Bytes>,
) -> Result<PackEntry> {
    let (header, key, frames_start) = open_head(ring, class, &fetch(0..bytes.min(HEAD_BYTES))?)?;
    let trailer_offset = bytes.checked_sub(TRAILER_BYTES as u64).ok_or_else(short)?;
    let trailer = open_trailer(&key, &fetch(trailer_offset..bytes)?, frames_start as u64, bytes)?;
    let footer = fetch(trailer.footer_offset..trailer_offset)?;
    let footer = open_footer(&key, &footer, frames_start, &trailer)?;
    Ok(entry_of(class, hash, bytes, header, footer, frames_start))
}

fn short() -> Error {
    Error::corrupt("the pack is cut short")
}

/// The header, the key, and where the frames begin.
fn open_head(ring: &KeyRing, class: PackClass, head: &[u8]) -> Result<(Header, ObjectKey, usize)> {
    let (header, header_bytes) = Header::decode(head)?;
    if header.object != class.object() {
        return Err(Error::corrupt("the pack is of another class than its name says"));
    }
    let key = ObjectKey::derive(&ring.kek(&header)?, &header)?;
    let frames_start = header_bytes + COMMIT_BYTES;
    if !key.is_committed(head.get(header_bytes..frames_start).ok_or_else(short)?) {
        return Err(Error::corrupt("the pack's key commitment does not match"));
    }
    Ok((header, key, frames_start))
}

fn open_trailer(key: &ObjectKey, sealed: &[u8], frames_start: u64, bytes: u64) -> Result<Trailer> {
    let mut trailer = sealed.to_vec();
    let trailer = key
        .open(TRAILER_NUMBER, key.header_hash(), &mut trailer)
        .ok_or_else(|| Error::corrupt("the pack's trailer does not authenticate"))?;
    Ok(Trailer::decode(trailer, frames_start, bytes)?)
}

fn open_footer(key: &ObjectKey, sealed: &[u8], frames_start: usize, trailer: &Trailer) -> Result<Footer> {
    let mut footer = sealed.to_vec();
    let footer = key
        .open(FOOTER_NUMBER, key.header_hash(), &mut footer)
        .ok_or_else(|| Error::corrupt("the pack's footer does not authenticate"))?;
    Ok(Footer::decode(footer, trailer.frames_end - frames_start as u64)?)
}

fn entry_of(
    class: PackClass,
    hash: ObjectHash,
    bytes: u64,
    header: Header,
    footer: Footer,
    frames_start: usize,
) -> PackEntry {
    let mut offset = frames_start as u64;
    let mut frames = Vec::new();
    for frame in footer.frames {
        let stored_bytes = u64::from(frame.shape.stored_bytes);
        frames.push(PackFrame {
            header: frame.header,
            offset: offset as u32,
            shape: frame.shape,
            chunks: frame.chunks,
        });
        offset += stored_bytes;
    }
    PackEntry { class, hash, bytes, header, foreign: footer.foreign, frames }
}

#[cfg(test)]
mod tests {
    use super::super::PackBlocks;
    use super::*;
    use crate::chunker::DEFAULT_PARAMS;
    use crate::entropy::SystemEntropy;
    use crate::format::envelope::Suite;
    use crate::format::pack::Codec;
    use crate::frame::{Compression, Compressor, Frame};
    use crate::limits::PACK_FOREIGN_HEADERS_MAX;
    use crate::pack::{CopiedFrame, PackBuilder, Verify};

    fn ring_of(suite: Suite) -> KeyRing {
        let mut ring = KeyRing::new([1; 16], DEFAULT_PARAMS, &SystemEntropy).unwrap();
        ring.seal_with(suite);
        ring
    }

    fn sample(ring: &KeyRing) -> (Vec<u8>, Vec<Vec<u8>>) {
        let ids = ring.domain().unwrap().data_ids;
        let mut compressor = Compressor::new(Compression::Auto).unwrap();
        let mut builder = PackBuilder::new(PackClass::Data);
        let mut raws = Vec::new();
        for content in [&b"alpha"[..], &[7; 3000], b""] {
            let chunks: Vec<_> = content
                .chunks(1000)
                .map(|chunk| {
                    (
                        ChunkId::from_bytes(*blake3::keyed_hash(ids.bytes(), chunk).as_bytes()),
                        chunk.len() as u32,
                    )
                })
                .collect();
            let (codec, bytes) = compressor.compress(content);
            builder.add(Frame::new(codec, content.len() as u32, bytes, chunks), &PackBlocks::default());
            raws.push(content.to_vec());
        }
        let sealed = builder.seal(ring, &SystemEntropy, Verify::Frames, ids.bytes(), None).unwrap();
        let bytes = sealed.payload.to_vec();
        assert_eq!(sealed.entry.hash, ObjectHash::of_parts([bytes.as_slice()]));
        (bytes, raws)
    }

    #[test]
    fn a_pack_opens_from_its_bytes_alone_and_every_flipped_bit_is_noticed() {
        for suite in Suite::ALL {
            let ring = ring_of(suite);
            let (bytes, raws) = sample(&ring);
            assert_eq!(bytes.len(), 64 << 10);
            assert_eq!(bytes[10], suite as u8);
            let read = |bytes: &[u8]| -> Result<Vec<Vec<u8>>> {
                let pack = open_pack(&ring, PackClass::Data, bytes)?;
                (0..pack.entry.frames.len()).map(|number| pack.frame(bytes, number)).collect()
            };
            assert_eq!(read(&bytes).unwrap(), raws);
            assert!(open_pack(&ring, PackClass::Tree, &bytes).is_err());
            // All of the header and the frames, a sample of the padding, all of the footer and the trailer.
            for bit in (0..4096 * 8)
                .chain((4096 * 8..(bytes.len() - 1024) * 8).step_by(997))
                .chain((bytes.len() - 1024) * 8..bytes.len() * 8)
            {
                let mut flipped = bytes.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&flipped).is_err(), "bit {bit}");
            }
            for cut in [0, 1, 65, 66, 98, 99, 1000, bytes.len() - 1] {
                assert!(read(&bytes[..cut]).is_err());
            }
        }
    }

    /// Copies all frames of some packs into a new one, behind a frame of its own.
    fn copied(ring: &KeyRing, packs: &[Vec<u8>]) -> Vec<u8> {
        let ids = ring.domain().unwrap().data_ids;
        let mut builder = PackBuilder::new(PackClass::Data);
        let id = ChunkId::from_bytes(*blake3::keyed_hash(ids.bytes(), b"own").as_bytes());
        builder.add(Frame::new(Codec::Raw, 3, b"own", vec![(id, 3)]), &PackBlocks::default());
        for pack in packs {
            let opened = open_pack(ring, PackClass::Data, pack).unwrap().entry;
            for frame in opened.frames {
                let header = match frame.header {
                    0 => opened.header.clone(),
                    foreign => opened.foreign[foreign as usize - 1].clone(),
                };
                let start = frame.offset as usize;
                let sealed = pack[start..start + frame.shape.stored_bytes as usize].to_vec();
                let copy = CopiedFrame { header, shape: frame.shape, sealed, chunks: frame.chunks };
                assert!(builder.has_room_for(&copy));
                builder.add_copy(copy);
            }
        }
        builder.seal(ring, &SystemEntropy, Verify::Frames, ids.bytes(), None).unwrap().payload.to_vec()
    }

    #[test]
    fn frames_of_other_packs_are_read_as_before_and_every_flipped_bit_is_noticed() {
        for [one, other] in [Suite::ALL, [Suite::Aes256Gcm, Suite::ChaCha20Poly1305]] {
            let mut ring = ring_of(one);
            let (first, raws) = sample(&ring);
            ring.seal_with(other);
            let (second, _) = sample(&ring);
            // Copied once, and copied again from the copy: both times under the header of the pack that sealed them, and with
            // its suite.
            let once = copied(&ring, &[first.clone(), second.clone()]);
            ring.seal_with(one);
            let twice = copied(&ring, &[once.clone(), first.clone()]);
            let opened = open_pack(&ring, PackClass::Data, &twice).unwrap().entry;
            let header_of = |pack: &[u8]| Header::decode(pack).unwrap().0;
            assert_eq!(opened.foreign, [header_of(&once), header_of(&first), header_of(&second)]);
            let headers: Vec<u32> = opened.frames.iter().map(|frame| frame.header).collect();
            assert_eq!(headers, [0, 1, 2, 2, 2, 3, 3, 3, 2, 2, 2]);
            let read = |bytes: &[u8]| -> Result<Vec<Vec<u8>>> {
                let pack = open_pack(&ring, PackClass::Data, bytes)?;
                (0..pack.entry.frames.len()).map(|number| pack.frame(bytes, number)).collect()
            };
            let own = vec![vec![b"own".to_vec()]; 2].concat();
            assert_eq!(read(&twice).unwrap(), [own, raws.clone(), raws.clone(), raws].concat());
            for bit in (0..200 * 8)
                .chain((200 * 8..(twice.len() - 4096) * 8).step_by(997))
                .chain(((twice.len() - 4096) * 8..twice.len() * 8).step_by(3))
            {
                let mut flipped = twice.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&flipped).is_err(), "bit {bit}");
            }
        }
    }

    #[test]
    fn a_pack_takes_no_frame_beyond_its_limits() {
        let ring = KeyRing::new([1; 16], DEFAULT_PARAMS, &SystemEntropy).unwrap();
        let mut builder = PackBuilder::new(PackClass::Data);
        let copy = |salt: u32| {
            let mut header = ring.header(PackClass::Data.object());
            header.salt[..4].copy_from_slice(&salt.to_le_bytes());
            let shape = FrameShape { number: 0, raw_bytes: 0, stored_bytes: 16, codec: Codec::Raw };
            CopiedFrame { header, shape, sealed: vec![0; 16], chunks: Vec::new() }
        };
        for salt in 0..PACK_FOREIGN_HEADERS_MAX as u32 {
            assert!(builder.has_room_for(&copy(salt)));
            builder.add_copy(copy(salt));
        }
        assert!(builder.has_room_for(&copy(0)));
        assert!(!builder.has_room_for(&copy(u32::MAX)));
    }

    #[test]
    fn a_fault_of_memory_is_noticed_before_anything_is_stored() {
        let ring = KeyRing::new([1; 16], DEFAULT_PARAMS, &SystemEntropy).unwrap();
        let mut builder = PackBuilder::new(PackClass::Data);
        let wrong = (ChunkId::from_bytes([1; 32]), 3);
        builder.add(Frame::new(Codec::Raw, 3, b"abc", vec![wrong]), &PackBlocks::default());
        let ids = ring.domain().unwrap().data_ids;
        let error = builder.seal(&ring, &SystemEntropy, Verify::Frames, ids.bytes(), None).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Internal);
    }
}
