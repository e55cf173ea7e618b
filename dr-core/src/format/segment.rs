//! `index/<hash>`: index segments. Which chunk lies in which frame of which pack, sorted by chunk id.
//!
//! Header, key commitment, sealed sections, sealed footer, sealed trailer (as in a pack). The sections are the filter, the
//! pages of chunk records and the pages of frame records; a page holds 1,024 records of fixed width, so that a client
//! can read the filter and single pages.

use serde::{Deserialize, Serialize};

use super::body;
use super::envelope::{Header, PackClass};
use super::pack::{Codec, FrameShape, check_shape};
use super::reader::Reader;
use super::{FormatError, invalid};
use crate::id::{ChunkId, ObjectHash};
use crate::limits::{CHUNK_BYTES_MAX, PACK_BYTES_MAX, SEGMENT_CHUNKS_MAX};

const WHAT: &str = "an index segment";
/// Records in a page.
pub(crate) const PAGE_RECORDS: usize = 1024;
pub(crate) const CHUNK_RECORD_BYTES: usize = 44;
pub(crate) const FRAME_RECORD_BYTES: usize = 29;
/// Segments with fewer chunks than this carry no filter.
pub(crate) const FILTER_CHUNKS_MIN: usize = 256;

/// Where a chunk lies: the frame's number in the segment's table, the offset in the raw frame, the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ChunkRecord {
    pub(crate) id: ChunkId,
    pub(crate) frame: u32,
    pub(crate) offset: u32,
    pub(crate) bytes: u32,
}

/// Where a frame lies, and what it is sealed under.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameRecord {
    /// The pack's number in the segment's table.
    pub(crate) pack: u32,
    /// The offset in the pack.
    pub(crate) offset: u32,
    /// The header's number in the segment's table.
    pub(crate) header: u32,
    pub(crate) shape: FrameShape,
}

/// A pack that a segment speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SegmentPack {
    pub(crate) class: PackClass,
    pub(crate) hash: ObjectHash,
    pub(crate) bytes: u64,
}

/// An index segment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Segment {
    /// The segments that this one replaces, for the output of a compaction.
    pub(crate) inputs: Vec<ObjectHash>,
    pub(crate) packs: Vec<SegmentPack>,
    pub(crate) headers: Vec<Header>,
    pub(crate) frames: Vec<FrameRecord>,
    /// In ascending order of id; an id may stand several times, in the order of preference.
    pub(crate) chunks: Vec<ChunkRecord>,
}

/// The footer of a segment: everything but filter and pages.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SegmentFooter {
    inputs: Vec<ObjectHash>,
    packs: Vec<(u8, ObjectHash, u64)>,
    headers: Vec<Vec<u8>>,
    /// The length of the filter section, unsealed; 0 where there is none.
    pub(crate) filter_bytes: u32,
    pub(crate) chunks: u32,
    pub(crate) frames: u32,
    /// The first eight bytes of the first id of each chunk page.
    pub(crate) page_firsts: Vec<[u8; 8]>,
}

impl SegmentFooter {
    pub(crate) fn decode(bytes: &[u8]) -> Result<SegmentFooter, FormatError> {
        let footer: SegmentFooter = body::decode(WHAT, bytes)?.value;
        if footer.chunks > SEGMENT_CHUNKS_MAX || footer.frames > footer.chunks {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        Ok(footer)
    }

    /// The packs and the headers that the records speak of.
    pub(crate) fn packs_and_headers(&self) -> Result<(Vec<SegmentPack>, Vec<Header>), FormatError> {
        let packs = self.packs.iter().map(decode_pack).collect::<Result<_, _>>()?;
        let headers = self.headers.iter().map(|header| decode_header(header)).collect::<Result<_, _>>()?;
        Ok((packs, headers))
    }

    /// The unsealed lengths of all sections, in order.
    pub(crate) fn section_bytes(&self) -> Vec<usize> {
        let pages = |records: u32, width: usize| {
            let records = records as usize;
            (0..records.div_ceil(PAGE_RECORDS))
                .map(move |page| (records - page * PAGE_RECORDS).min(PAGE_RECORDS) * width)
        };
        let mut sections = vec![self.filter_bytes as usize];
        sections.extend(pages(self.chunks, CHUNK_RECORD_BYTES));
        sections.extend(pages(self.frames, FRAME_RECORD_BYTES));
        sections
    }
}

/// The unsealed parts of a segment.
#[derive(Debug)]
pub(crate) struct SegmentParts {
    pub(crate) sections: Vec<Vec<u8>>,
    pub(crate) footer: Vec<u8>,
}

impl Segment {
    /// Lays the segment out in sections; `filter` is empty or the filter's bytes.
    pub(crate) fn encode(&self, filter: Vec<u8>) -> SegmentParts {
        let footer = SegmentFooter {
            inputs: self.inputs.clone(),
            packs: self.packs.iter().map(|pack| (pack.class as u8, pack.hash, pack.bytes)).collect(),
            headers: self.headers.iter().map(Header::encode).collect(),
            filter_bytes: u32::try_from(filter.len())
                .expect("a filter takes 2 bytes for each of 2^22 chunks"),
            chunks: u32::try_from(self.chunks.len()).expect("a segment holds at most 2^22 chunks"),
            frames: u32::try_from(self.frames.len()).expect("a frame holds at least one chunk"),
            page_firsts: self.chunks.chunks(PAGE_RECORDS).map(|page| first_bytes(&page[0].id)).collect(),
        };
        let mut sections = vec![filter];
        sections.extend(self.chunks.chunks(PAGE_RECORDS).map(|page| {
            page.iter().fold(Vec::with_capacity(page.len() * CHUNK_RECORD_BYTES), |mut bytes, record| {
                record.encode(&mut bytes);
                bytes
            })
        }));
        sections.extend(self.frames.chunks(PAGE_RECORDS).map(|page| {
            page.iter().fold(Vec::with_capacity(page.len() * FRAME_RECORD_BYTES), |mut bytes, record| {
                record.encode(&mut bytes);
                bytes
            })
        }));
        SegmentParts { sections, footer: body::encode(&footer) }
    }

    /// Puts a segment together from its footer and its sections (as many and as long as the footer says).
    pub(crate) fn decode(footer: &SegmentFooter, sections: &[Vec<u8>]) -> Result<Segment, FormatError> {
        let chunk_pages = (footer.chunks as usize).div_ceil(PAGE_RECORDS);
        let (chunk_sections, frame_sections) = sections
            .get(1..)
            .and_then(|pages| pages.split_at_checked(chunk_pages))
            .ok_or(invalid(WHAT, "a page is missing"))?;
        let mut segment = Segment::decode_frames(footer, frame_sections)?;
        let mut chunks: Vec<ChunkRecord> = Vec::with_capacity(footer.chunks as usize);
        for record in chunk_sections.iter().flat_map(|page| page.chunks_exact(CHUNK_RECORD_BYTES)) {
            let record = ChunkRecord::decode(record)?.check(&segment.frames)?;
            if chunks.last().is_some_and(|last| last.id > record.id) {
                return Err(invalid(WHAT, "its chunks are not sorted"));
            }
            chunks.push(record);
        }
        if chunks.len() != footer.chunks as usize {
            return Err(invalid(WHAT, "its pages are not full"));
        }
        segment.chunks = chunks;
        Ok(segment)
    }

    /// Puts together what a segment has beside chunks, from its footer and its last sections.
    pub(crate) fn decode_frames(
        footer: &SegmentFooter,
        sections: &[Vec<u8>],
    ) -> Result<Segment, FormatError> {
        let (packs, headers) = footer.packs_and_headers()?;
        let mut frames = Vec::with_capacity(footer.frames as usize);
        for record in sections.iter().flat_map(|page| page.chunks_exact(FRAME_RECORD_BYTES)) {
            let frame = FrameRecord::decode(record)?;
            frames.push(frame.check(packs.get(frame.pack as usize), headers.len())?);
        }
        if frames.len() != footer.frames as usize {
            return Err(invalid(WHAT, "its pages are not full"));
        }
        Ok(Segment { inputs: footer.inputs.clone(), packs, headers, frames, chunks: Vec::new() })
    }
}

fn first_bytes(id: &ChunkId) -> [u8; 8] {
    *id.as_bytes().first_chunk().expect("an id has 32 bytes")
}

fn decode_pack(&(class, hash, bytes): &(u8, ObjectHash, u64)) -> Result<SegmentPack, FormatError> {
    let class = match class {
        0 => PackClass::Data,
        1 => PackClass::Tree,
        other => return Err(FormatError::Unsupported { what: "a pack's class", version: u32::from(other) }),
    };
    if bytes > PACK_BYTES_MAX {
        return Err(FormatError::TooLarge { what: "a pack" });
    }
    Ok(SegmentPack { class, hash, bytes })
}

fn decode_header(bytes: &[u8]) -> Result<Header, FormatError> {
    let (header, length) = Header::decode(bytes)?;
    if length == bytes.len() { Ok(header) } else { Err(invalid(WHAT, "bytes follow a header")) }
}

impl ChunkRecord {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        into.extend_from_slice(self.id.as_bytes());
        for number in [self.frame, self.offset, self.bytes] {
            into.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(crate) fn decode(record: &[u8]) -> Result<ChunkRecord, FormatError> {
        let mut reader = Reader::new(WHAT, record);
        let id = ChunkId::from_bytes(reader.array()?);
        let record = ChunkRecord { id, frame: reader.u32()?, offset: reader.u32()?, bytes: reader.u32()? };
        reader.finish()?;
        Ok(record)
    }

    /// The frame that an encoded record names, if it is one of this chunk: no more of it is decoded.
    #[inline]
    pub(crate) fn frame_of(record: &[u8; CHUNK_RECORD_BYTES], id: &ChunkId) -> Option<u32> {
        let (found, rest) = record.split_first_chunk()?;
        let frame = u32::from_le_bytes(*rest.first_chunk()?);
        (found == id.as_bytes()).then_some(frame)
    }

    pub(crate) fn check(self, frames: &[FrameRecord]) -> Result<ChunkRecord, FormatError> {
        self.check_in(frames.get(self.frame as usize).ok_or(invalid(WHAT, "a chunk names no frame"))?)
    }

    /// Checks that the chunk lies within its frame.
    pub(crate) fn check_in(self, frame: &FrameRecord) -> Result<ChunkRecord, FormatError> {
        let end = self.offset.checked_add(self.bytes);
        if self.bytes > CHUNK_BYTES_MAX || end.is_none_or(|end| end > frame.shape.raw_bytes) {
            return Err(invalid(WHAT, "a chunk lies outside its frame"));
        }
        Ok(self)
    }
}

impl FrameRecord {
    pub(crate) fn encode(&self, into: &mut Vec<u8>) {
        let shape = &self.shape;
        for number in [self.pack, self.offset, self.header, shape.number, shape.raw_bytes, shape.stored_bytes]
        {
            into.extend_from_slice(&number.to_le_bytes());
        }
        into.extend_from_slice(&[shape.codec as u8, 0, 0, 0, 0]);
    }

    pub(crate) fn decode(record: &[u8]) -> Result<FrameRecord, FormatError> {
        let mut reader = Reader::new(WHAT, record);
        let (pack, offset, header) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let (number, raw_bytes, stored_bytes) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let codec = Codec::from_byte(reader.u8()?)?;
        if reader.array::<4>()? != [0; 4] {
            return Err(invalid(WHAT, "a reserved byte is not zero"));
        }
        reader.finish()?;
        let shape = FrameShape { number, raw_bytes, stored_bytes, codec };
        Ok(FrameRecord { pack, offset, header, shape })
    }

    /// The pack that an encoded record names, where `decode` does not refuse it: no more of it is decoded.
    #[inline]
    pub(crate) fn pack_of(record: &[u8; FRAME_RECORD_BYTES]) -> Option<u32> {
        let (pack, rest) = record.split_first_chunk()?;
        let [codec, reserved @ ..] = rest.last_chunk::<5>()?;
        let is_sound = *codec <= Codec::Zstd as u8 && *reserved == [0; 4];
        is_sound.then_some(u32::from_le_bytes(*pack))
    }

    pub(crate) fn check(
        self,
        pack: Option<&SegmentPack>,
        headers: usize,
    ) -> Result<FrameRecord, FormatError> {
        check_shape(&self.shape)?;
        let pack = pack.ok_or(invalid(WHAT, "a frame names no pack"))?;
        if self.header as usize >= headers {
            return Err(invalid(WHAT, "a frame names no header"));
        }
        if u64::from(self.offset) + u64::from(self.shape.stored_bytes) > pack.bytes {
            return Err(invalid(WHAT, "a frame lies outside its pack"));
        }
        Ok(self)
    }
}
