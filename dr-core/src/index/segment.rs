//! Index segments between the store's sealed bytes and the records in memory.

use std::ops::Range;

use super::filter::{FILTER_HEAD_BYTES, Filter, build_filter};
use super::table::{TableWriter, encode_table};
use crate::crypto::{Kek, KeyRing, ObjectKey, hedged_salt};
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{COMMIT_BYTES, Header, ObjectType, TAG_BYTES};
use crate::format::pack::{FOOTER_NUMBER, TRAILER_BYTES, TRAILER_NUMBER, Trailer};
use crate::format::segment::{
    CHUNK_RECORD_BYTES, ChunkRecord, FrameRecord, PAGE_RECORDS, Segment, SegmentFooter, SegmentPack,
};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::pack::PackEntry;

/// The segment that describes some packs.
pub(crate) fn segment_of_packs(packs: &[PackEntry]) -> Segment {
    let mut segment = Segment::default();
    for pack in packs {
        let (number, header) = (segment.packs.len() as u32, segment.headers.len() as u32);
        segment.packs.push(SegmentPack { class: pack.class, hash: pack.hash, bytes: pack.bytes });
        segment.headers.push(pack.header.clone());
        segment.headers.extend(pack.foreign.iter().cloned());
        for frame in &pack.frames {
            let place = segment.frames.len() as u32;
            segment.frames.push(FrameRecord {
                pack: number,
                offset: frame.offset,
                header: header + frame.header,
                shape: frame.shape,
            });
            let mut offset = 0;
            for (id, bytes) in &frame.chunks {
                segment.chunks.push(ChunkRecord { id: *id, frame: place, offset, bytes: *bytes });
                offset += bytes;
            }
        }
    }
    segment.chunks.sort_by_key(|record| record.id);
    segment
}

/// Seals a segment as an object, and lays it out as a table for the cache.
pub(crate) fn seal_segment(
    ring: &KeyRing,
    segment: &Segment,
    entropy: &dyn Entropy,
) -> Result<(Vec<u8>, Vec<u8>)> {
    let filter = build_filter(&segment.chunks);
    let table = encode_table(segment, &filter);
    let parts = segment.encode(filter);
    let mut header = ring.header(ObjectType::Segment);
    let randomness: [u8; 32] = random(entropy)?;
    header.salt = hedged_salt(&randomness, entropy, |hasher| {
        // The footer names what the segment takes the place of, which the table does not.
        hasher.update(&table).update(&parts.footer);
    });
    let mut object = header.encode();
    let key = ObjectKey::derive(&ring.kek(&header)?, &header)?;
    object.extend_from_slice(key.commit());
    let mut seal = |number: u32, text: &[u8]| {
        let start = object.len();
        object.extend_from_slice(text);
        let tag = key.seal(number, key.header_hash(), &mut object[start..]);
        object.extend_from_slice(&tag);
        (start, object.len())
    };
    let mut sections_end = 0;
    for (number, section) in parts.sections.iter().enumerate() {
        (_, sections_end) = seal(number as u32, section);
    }
    let (footer_offset, footer_end) = seal(FOOTER_NUMBER, &parts.footer);
    let trailer = Trailer {
        frames_end: sections_end as u64,
        footer_offset: footer_offset as u64,
        footer_bytes: (footer_end - footer_offset) as u32,
    };
    seal(TRAILER_NUMBER, &trailer.encode());
    if object.len() as u64 > SEGMENT_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            "an index segment is larger than the format allows",
        ));
    }
    Ok((object, table))
}

pub(super) fn short() -> Error {
    Error::corrupt("the index segment is cut short")
}

/// The key of a sealed segment, and where its sections begin.
pub(super) fn open_head(
    keks: impl FnOnce(&Header) -> Result<Kek>,
    head: &[u8],
) -> Result<(ObjectKey, usize)> {
    let (header, header_bytes) = Header::decode(head)?;
    if header.object != ObjectType::Segment {
        return Err(Error::corrupt("the object is no index segment"));
    }
    let key = ObjectKey::derive(&keks(&header)?, &header)?;
    let start = header_bytes + COMMIT_BYTES;
    if !key.is_committed(head.get(header_bytes..start).ok_or_else(short)?) {
        return Err(Error::corrupt("the index segment's key commitment does not match"));
    }
    Ok((key, start))
}

/// Opens a section, the footer or the trailer.
pub(super) fn open_part(key: &ObjectKey, number: u32, sealed: &[u8]) -> Result<Vec<u8>> {
    let mut text = sealed.to_vec();
    let opened = key.open(number, key.header_hash(), &mut text);
    let altered = || Error::corrupt("a part of the index segment does not authenticate");
    let length = opened.ok_or_else(altered)?.len();
    text.truncate(length);
    Ok(text)
}

/// Checks that no lookup reaches outside of a filter; an empty one stands for none.
pub(super) fn check_filter(filter: &[u8]) -> Result<()> {
    let sound =
        filter.split_at_checked(FILTER_HEAD_BYTES).and_then(|(head, rest)| Filter::parse(head, rest.len()));
    if filter.is_empty() || sound.is_some() {
        return Ok(());
    }
    Err(Error::corrupt("the index segment's filter is not sound"))
}

/// The parts of a sealed segment, to be opened one by one: together they take as much memory as the segment.
struct Sections<'o> {
    object: &'o [u8],
    key: ObjectKey,
    footer: SegmentFooter,
    places: Vec<Range<usize>>,
}

impl<'o> Sections<'o> {
    fn read(keks: impl FnOnce(&Header) -> Result<Kek>, object: &'o [u8]) -> Result<Sections<'o>> {
        if object.len() as u64 > SEGMENT_BYTES_MAX {
            return Err(Error::corrupt("the index segment is larger than the format allows"));
        }
        let (key, start) = open_head(keks, object)?;
        let open =
            |number: u32, range: Range<usize>| open_part(&key, number, object.get(range).ok_or_else(short)?);
        let trailer_start =
            object.len().checked_sub(TRAILER_BYTES).filter(|at| *at >= start).ok_or_else(short)?;
        let trailer = Trailer::decode(
            &open(TRAILER_NUMBER, trailer_start..object.len())?,
            start as u64,
            object.len() as u64,
        )?;
        let footer =
            SegmentFooter::decode(&open(FOOTER_NUMBER, trailer.footer_offset as usize..trailer_start)?)?;
        let mut end = start;
        let places: Vec<Range<usize>> = footer
            .section_bytes()
            .into_iter()
            .map(|bytes| {
                let from = end;
                end += bytes + TAG_BYTES;
                from..end
            })
            .collect();
        if end as u64 != trailer.frames_end || trailer.frames_end != trailer.footer_offset {
            return Err(Error::corrupt("the index segment's parts do not fill it"));
        }
        Ok(Sections { object, key, footer, places })
    }

    fn open(&self, number: usize) -> Result<Vec<u8>> {
        let sealed = self.object.get(self.places[number].clone()).ok_or_else(short)?;
        open_part(&self.key, number as u32, sealed)
    }
}

/// Opens a sealed segment; gives it, and its layout as a table for the cache.
pub(crate) fn open_segment(
    keks: impl FnOnce(&Header) -> Result<Kek>,
    object: &[u8],
) -> Result<(Segment, Vec<u8>)> {
    let sections = Sections::read(keks, object)?;
    let mut opened =
        (0..sections.places.len()).map(|number| sections.open(number)).collect::<Result<Vec<_>>>()?;
    let segment = Segment::decode(&sections.footer, &opened)?;
    let filter = std::mem::take(&mut opened[0]);
    check_filter(&filter)?;
    let table = encode_table(&segment, &filter);
    Ok((segment, table))
}

/// Opens a sealed segment as a table for the cache, page by page: only the table takes memory.
pub(crate) fn open_table(keks: impl FnOnce(&Header) -> Result<Kek>, object: &[u8]) -> Result<Vec<u8>> {
    let sections = Sections::read(keks, object)?;
    let footer = &sections.footer;
    let chunk_pages = (footer.chunks as usize).div_ceil(PAGE_RECORDS);
    let filter = sections.open(0)?;
    check_filter(&filter)?;
    // The records of frames are few, and those of chunks are checked against them.
    let frames = (1 + chunk_pages..sections.places.len())
        .map(|number| sections.open(number))
        .collect::<Result<Vec<_>>>()?;
    let segment = Segment::decode_frames(footer, &frames)?;
    let mut table = TableWriter::new(footer.chunks as usize, &segment, &filter);
    for number in 1..=chunk_pages {
        for record in sections.open(number)?.chunks_exact(CHUNK_RECORD_BYTES) {
            let record = ChunkRecord::decode(record)?.check(&segment.frames)?;
            if !table.push(&record) {
                return Err(Error::corrupt("the index segment's chunks are not sorted"));
            }
        }
    }
    Ok(table.finish(&segment))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::format::envelope::{PackClass, Suite};
    use crate::format::pack::{Codec, FrameShape};
    use crate::id::{ChunkId, ObjectHash};
    use crate::index::Table;
    use crate::pack::builder::PackFrame;

    fn packs(ring: &KeyRing, chunks: u32) -> Vec<PackEntry> {
        let frames = (0..chunks.div_ceil(10))
            .map(|number| PackFrame {
                header: 0,
                offset: 98 + number * 100,
                shape: FrameShape { number, raw_bytes: 100, stored_bytes: 80, codec: Codec::Zstd },
                chunks: (0..10)
                    .map(|chunk| {
                        (
                            ChunkId::from_bytes(
                                *blake3::hash(&(number * 10 + chunk).to_le_bytes()).as_bytes(),
                            ),
                            10,
                        )
                    })
                    .collect(),
            })
            .collect();
        let header = ring.header(ObjectType::DataPack);
        vec![PackEntry {
            class: PackClass::Data,
            hash: ObjectHash::from_bytes([5; 32]),
            bytes: 1 << 20,
            header,
            foreign: vec![],
            frames,
        }]
    }

    #[test]
    fn segments_round_trip_and_every_flipped_bit_is_noticed() {
        let mut ring = KeyRing::new([1; 16], crate::chunker::DEFAULT_PARAMS, &SystemEntropy).unwrap();
        for (suite, chunks) in Suite::ALL.into_iter().flat_map(|suite| [0, 10, 3000].map(|n| (suite, n))) {
            ring.seal_with(suite);
            let segment = segment_of_packs(&packs(&ring, chunks));
            let (object, table) = seal_segment(&ring, &segment, &SystemEntropy).unwrap();
            let opened = open_segment(|header| ring.kek(header), &object).unwrap();
            assert_eq!(opened, (segment, table.clone()));
            assert_eq!(open_table(|header| ring.kek(header), &object).unwrap(), table);
            assert_eq!(Table::from_bytes(table).unwrap().chunks(), chunks as usize);
            for bit in (0..object.len() * 8).step_by(if chunks > 100 { 409 } else { 1 }) {
                let mut flipped = object.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(open_segment(|header| ring.kek(header), &flipped).is_err(), "bit {bit}");
                assert!(open_table(|header| ring.kek(header), &flipped).is_err(), "bit {bit}");
            }
        }
    }
}
