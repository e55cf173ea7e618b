//! A segment as a table of fixed-width records that is searched in place, mapped from the cache or in memory.
//!
//! Layout: a head of 64 bytes (magic, six lengths, checksum), the fan-out table, the filter, the chunk records, the frame
//! records, the packs and headers. The fan-out table says for each prefix of an id where its records begin.

use std::cmp::Ordering;
use std::ops::{Deref, Range};
use std::path::Path;
use std::sync::Arc;

use super::Location;
use super::filter::{FILTER_HEAD_BYTES, Filter, first_number, key};
use super::mapped::MappedFile;
use crate::error::{Error, Result};
use crate::format::FormatError;
use crate::format::body::{self, Scanner};
use crate::format::envelope::{HEADER_BYTES_MIN, Header, PackClass};
use crate::format::reader::Reader;
use crate::format::segment::{
    CHUNK_RECORD_BYTES, ChunkRecord, FRAME_RECORD_BYTES, FrameRecord, Segment, SegmentPack,
};
use crate::id::{ChunkId, ObjectHash};

const MAGIC: [u8; 8] = *b"drtable1";
const HEAD_BYTES: usize = 64;
/// Records behind each entry of the fan-out table, on average: few enough that a search stays within a few cache lines.
const FAN_OUT: usize = 4;
/// Of so few records all are looked at: they wait for memory together, and none for what another one says.
const PROBED_TOGETHER: usize = 16;
/// The least that a pack takes in a table.
const PACK_BYTES_MIN: usize = 34;
/// Where in a pack its name begins.
const PACK_HASH_OFFSET: usize = 1;
/// The checksum of larger tables is not compared when they are opened: it would read them whole. A damaged record can
/// only make a chunk unreadable until the cache is deleted, since every chunk is verified against its id.
const CHECKED_BYTES_MAX: usize = 16 << 20;

/// A pack as the table holds it: class, name, length.
type StoredPack = (u8, ObjectHash, u64);

const WHAT: &str = "a table of the index";

#[derive(Debug)]
enum Backing {
    Mapped(MappedFile),
    Owned(Vec<u8>),
}

impl Deref for Backing {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Backing::Mapped(map) => map,
            Backing::Owned(bytes) => bytes,
        }
    }
}

/// A searchable segment.
#[derive(Debug)]
pub(crate) struct Table {
    bytes: Backing,
    fan_out_bits: u32,
    fan_out: Range<usize>,
    /// The filter's head, and where its fingerprints lie.
    filter: Option<(Filter, Range<usize>)>,
    chunks: Range<usize>,
    frames: Range<usize>,
    tail: Range<usize>,
    /// Where in the tail each pack begins, and each header: there may be a million, so they are not kept decoded.
    packs: Vec<u32>,
    headers: Vec<u32>,
}

/// Lays a segment out as a table.
pub(crate) fn encode_table(segment: &Segment, filter: &[u8]) -> Vec<u8> {
    let mut table = TableWriter::new(segment.chunks.len(), segment, filter);
    for record in &segment.chunks {
        table.push(record);
    }
    table.finish(segment)
}

/// A table that is being written. The chunks come one by one, in ascending order of id.
pub(crate) struct TableWriter {
    table: Vec<u8>,
    bits: u32,
    filter: usize,
    chunks: usize,
    /// How many entries of the fan-out table are written.
    fanned: u64,
    last: Option<ChunkId>,
}

impl TableWriter {
    /// Begins the table of a segment of so many chunks.
    pub(crate) fn new(chunks: usize, segment: &Segment, filter: &[u8]) -> TableWriter {
        let bits = (chunks / FAN_OUT).max(1).ilog2();
        let fan_out = ((1usize << bits) + 1) * 4;
        let records = chunks * CHUNK_RECORD_BYTES + segment.frames.len() * FRAME_RECORD_BYTES;
        let mut table = Vec::with_capacity(HEAD_BYTES + fan_out + filter.len() + records);
        table.resize(HEAD_BYTES + fan_out, 0);
        table.extend_from_slice(filter);
        TableWriter { table, bits, filter: filter.len(), chunks: 0, fanned: 0, last: None }
    }

    /// Adds a chunk; false where it does not belong behind the last one.
    pub(crate) fn push(&mut self, record: &ChunkRecord) -> bool {
        self.fan_out_to(prefix_of(&record.id, self.bits));
        record.encode(&mut self.table);
        self.chunks += 1;
        self.last.replace(record.id).is_none_or(|last| last <= record.id)
    }

    /// Says that the records of all prefixes up to this one begin here.
    fn fan_out_to(&mut self, prefix: u64) {
        while self.fanned <= prefix {
            let place = HEAD_BYTES + self.fanned as usize * 4;
            self.table[place..place + 4].copy_from_slice(&(self.chunks as u32).to_le_bytes());
            self.fanned += 1;
        }
    }

    /// Ends the table with what the segment has beside chunks.
    pub(crate) fn finish(mut self, segment: &Segment) -> Vec<u8> {
        self.fan_out_to(1 << self.bits);
        let TableWriter { mut table, bits, filter, chunks, .. } = self;
        segment.frames.iter().for_each(|record| record.encode(&mut table));
        let packs: Vec<StoredPack> =
            segment.packs.iter().map(|pack| (pack.class as u8, pack.hash, pack.bytes)).collect();
        let headers: Vec<Vec<u8>> = segment.headers.iter().map(Header::encode).collect();
        let mut tail = Vec::new();
        body::encode_plain(&(packs, headers), &mut tail);
        table.extend_from_slice(&tail);
        let mut head = MAGIC.to_vec();
        for number in [bits as usize, filter, chunks, segment.frames.len(), tail.len(), 0] {
            head.extend_from_slice(&(number as u32).to_le_bytes());
        }
        let check = *blake3::Hasher::new().update(&head).update(&table[HEAD_BYTES..]).finalize().as_bytes();
        head.extend_from_slice(&check);
        table[..HEAD_BYTES].copy_from_slice(&head);
        table
    }
}

/// Where the packs and headers in a tail begin. All of them are decoded for it.
fn scan_tail(tail: &[u8]) -> Result<(Vec<u32>, Vec<u32>)> {
    let mut scanner = Scanner::plain(WHAT, tail);
    let start = |scanner: &Scanner<'_>| (tail.len() - scanner.left()) as u32;
    let count = scanner.count()?;
    // A claimed number allocates nothing that the bytes could not hold.
    let mut packs = Vec::with_capacity(count.min(scanner.left() / PACK_BYTES_MIN));
    for _ in 0..count {
        packs.push(start(&scanner));
        decode_pack(&mut scanner)?;
    }
    let count = scanner.count()?;
    let mut headers = Vec::with_capacity(count.min(scanner.left() / HEADER_BYTES_MIN));
    for _ in 0..count {
        headers.push(start(&scanner));
        Header::decode(scanner.bytes()?)?;
    }
    scanner.finish_plain()?;
    Ok((packs, headers))
}

fn decode_pack(scanner: &mut Scanner<'_>) -> std::result::Result<SegmentPack, FormatError> {
    let class = if scanner.u8()? == PackClass::Data as u8 { PackClass::Data } else { PackClass::Tree };
    Ok(SegmentPack { class, hash: ObjectHash::from_bytes(scanner.array()?), bytes: scanner.u64()? })
}

/// A sound filter in a table, and where its fingerprints lie.
fn find_filter(bytes: &[u8], place: Range<usize>) -> Option<(Filter, Range<usize>)> {
    let (head, fingerprints) = bytes.get(place.clone())?.split_at_checked(FILTER_HEAD_BYTES)?;
    let filter = Filter::parse(head, fingerprints.len())?;
    Some((filter, place.start + FILTER_HEAD_BYTES..place.end))
}

fn prefix_of(id: &ChunkId, bits: u32) -> u64 {
    key(id).checked_shr(64 - bits).unwrap_or(0)
}

impl Table {
    /// A table in memory.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Result<Table> {
        Table::new(Backing::Owned(bytes))
    }

    /// A table in the cache.
    pub(crate) fn open(path: &Path) -> Result<Table> {
        let map = MappedFile::open(path).map_err(|error| {
            Error::corrupt("a cached table cannot be opened").with_path(path).with_source(error)
        })?;
        Table::new(Backing::Mapped(map)).map_err(|error| error.with_path(path))
    }

    fn new(bytes: Backing) -> Result<Table> {
        let damaged =
            || Error::corrupt("a table of the index is damaged").with_remedy("delete the cache directory");
        let head: &[u8; HEAD_BYTES] = bytes.first_chunk().ok_or_else(damaged)?;
        let mut reader = Reader::new("a table of the index", &head[..]);
        if reader.array::<8>()? != MAGIC {
            return Err(damaged());
        }
        let [bits, filter, chunks, frames, tail, _] = {
            let mut numbers = [0usize; 6];
            for number in &mut numbers {
                *number = reader.u32()? as usize;
            }
            numbers
        };
        if bits > 32 {
            return Err(damaged());
        }
        let mut end = HEAD_BYTES;
        let mut take = |bytes: usize| {
            let start = end;
            end += bytes;
            start..end
        };
        let fan_out = take(((1usize << bits) + 1) * 4);
        let filter = take(filter);
        let chunks = take(chunks * CHUNK_RECORD_BYTES);
        let frames = take(frames * FRAME_RECORD_BYTES);
        let tail = take(tail);
        if end != bytes.len() {
            return Err(damaged());
        }
        if bytes.len() <= CHECKED_BYTES_MAX {
            let found = blake3::Hasher::new().update(&head[..32]).update(&bytes[HEAD_BYTES..]).finalize();
            if found.as_bytes()[..] != head[32..] {
                return Err(damaged());
            }
        }
        let (packs, headers) = scan_tail(&bytes[tail.clone()])?;
        let filter =
            if filter.is_empty() { None } else { Some(find_filter(&bytes, filter).ok_or_else(damaged)?) };
        let fan_out_bits = bits as u32;
        Ok(Table { bytes, fan_out_bits, fan_out, filter, chunks, frames, tail, packs, headers })
    }

    /// Whether the table holds exactly these bytes.
    pub(crate) fn is_copy_of(&self, bytes: &[u8]) -> bool {
        self.bytes[..] == *bytes
    }

    /// How many chunks the table lists.
    pub(crate) fn chunks(&self) -> usize {
        self.chunks.len() / CHUNK_RECORD_BYTES
    }

    /// How many packs the table lists.
    pub(crate) fn pack_count(&self) -> u32 {
        self.packs.len() as u32
    }

    /// The packs that the table lists.
    pub(crate) fn packs(&self) -> impl Iterator<Item = SegmentPack> + '_ {
        (0..self.pack_count()).filter_map(|number| self.pack(number))
    }

    /// The pack of a number.
    pub(crate) fn pack(&self, number: u32) -> Option<SegmentPack> {
        self.pack_at(*self.packs.get(number as usize)?)
    }

    fn pack_at(&self, start: u32) -> Option<SegmentPack> {
        decode_pack(&mut self.scan_tail_from(start)?).ok()
    }

    fn header(&self, number: u32) -> Option<Header> {
        let mut scanner = self.scan_tail_from(*self.headers.get(number as usize)?)?;
        Some(Header::decode(scanner.bytes().ok()?).ok()?.0)
    }

    fn scan_tail_from(&self, start: u32) -> Option<Scanner<'_>> {
        Some(Scanner::plain(WHAT, self.bytes[self.tail.clone()].get(start as usize..)?))
    }

    /// All chunk records, in order of id.
    pub(crate) fn records(&self) -> impl Iterator<Item = ChunkRecord> + '_ {
        self.bytes[self.chunks.clone()]
            .chunks_exact(CHUNK_RECORD_BYTES)
            .filter_map(|record| ChunkRecord::decode(record).ok())
    }

    /// The places of a chunk.
    pub(crate) fn lookup<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = Location> + 'a {
        self.find(id).filter_map(|record| self.locate(&record))
    }

    /// The packs that hold a chunk.
    #[cfg(feature = "internals")]
    pub(crate) fn packs_of<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = ObjectHash> + 'a {
        Some(()).filter(|()| self.may_hold(id)).into_iter().flat_map(|()| self.packs_of_passed(id))
    }

    /// The packs that hold a chunk which the filter let pass.
    pub(super) fn packs_of_passed<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = ObjectHash> + 'a {
        self.ordinals_in(self.candidates(id), id).filter_map(|ordinal| self.pack_of_record(ordinal, id))
    }

    /// The pack that a record speaks of, if it is one of this chunk. Few steps depend on the records, so that the processor
    /// gets to the next lookup while this one waits for memory.
    #[inline]
    pub(super) fn pack_of_record(&self, ordinal: usize, id: &ChunkId) -> Option<ObjectHash> {
        let record = self.bytes[self.chunks.clone()].get(ordinal.checked_mul(CHUNK_RECORD_BYTES)?..)?;
        let frame = ChunkRecord::frame_of(record.first_chunk()?, id)? as usize;
        let record = self.bytes[self.frames.clone()].get(frame.checked_mul(FRAME_RECORD_BYTES)?..)?;
        self.pack_hash(FrameRecord::pack_of(record.first_chunk()?)?)
    }

    /// The name of the pack of a number: no more of it is decoded.
    #[inline]
    fn pack_hash(&self, number: u32) -> Option<ObjectHash> {
        let start = *self.packs.get(number as usize)? as usize + PACK_HASH_OFFSET;
        let hash = self.bytes[self.tail.clone()].get(start..)?.first_chunk()?;
        Some(ObjectHash::from_bytes(*hash))
    }

    /// The place that a record of this table speaks of.
    pub(crate) fn locate(&self, record: &ChunkRecord) -> Option<Location> {
        let frame = self.frame(record.frame)?;
        let pack = self.pack(frame.pack)?;
        frame.check(Some(&pack), self.headers.len()).ok()?;
        if u64::from(record.offset) + u64::from(record.bytes) > u64::from(frame.shape.raw_bytes) {
            return None;
        }
        Some(Location {
            pack,
            header: Arc::new(self.header(frame.header)?),
            frame_offset: frame.offset,
            shape: frame.shape,
            offset: record.offset,
            bytes: record.bytes,
        })
    }

    fn find<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = ChunkRecord> + 'a {
        self.ordinals(id).filter_map(|ordinal| self.record(ordinal))
    }

    /// The numbers of the records of a chunk.
    pub(crate) fn ordinals(&self, id: &ChunkId) -> Range<usize> {
        if self.may_hold(id) { self.ordinals_in(self.candidates(id), id) } else { 0..0 }
    }

    /// The numbers of the records of a chunk in a range that holds them all.
    pub(super) fn ordinals_in(&self, range: Range<usize>, id: &ChunkId) -> Range<usize> {
        let records = &self.bytes[self.chunks.clone()];
        let id_of = |number: usize| -> Option<&[u8; 32]> {
            records.get(number * CHUNK_RECORD_BYTES..).and_then(|rest| rest.first_chunk())
        };
        // The first eight bytes decide nearly always, and compare as one number.
        let (wanted, wanted_key) = (id.as_bytes(), key(id));
        let is_below = |number: usize| {
            id_of(number).is_some_and(|id| match first_number(id).cmp(&wanted_key) {
                Ordering::Equal => id < wanted,
                order => order.is_lt(),
            })
        };
        let (mut low, mut high) = (range.start, range.end);
        while high.saturating_sub(low) > PROBED_TOGETHER {
            let middle = usize::midpoint(low, high);
            if is_below(middle) { low = middle + 1 } else { high = middle }
        }
        low += (low..high).map(|number| usize::from(is_below(number))).sum::<usize>();
        let same = (low..range.end).take_while(|number| id_of(*number) == Some(wanted)).count();
        low..low + same
    }

    /// The record of a number below `chunks`.
    pub(crate) fn record(&self, ordinal: usize) -> Option<ChunkRecord> {
        let start = ordinal.checked_mul(CHUNK_RECORD_BYTES)?;
        let record = self.bytes[self.chunks.clone()].get(start..start + CHUNK_RECORD_BYTES)?;
        ChunkRecord::decode(record).ok()
    }

    /// How many frames the table lists.
    pub(crate) fn frames(&self) -> usize {
        self.frames.len() / FRAME_RECORD_BYTES
    }

    /// Whether the table is what was written, byte by byte. Opening compares only small tables; whoever deletes by what a
    /// table says must know.
    pub(crate) fn is_intact(&self) -> bool {
        let found =
            blake3::Hasher::new().update(&self.bytes[..32]).update(&self.bytes[HEAD_BYTES..]).finalize();
        found.as_bytes()[..] == self.bytes[32..HEAD_BYTES]
    }

    /// The checksum that the table bears, whether or not it is intact.
    pub(super) fn checksum(&self) -> &[u8; 32] {
        self.bytes[32..HEAD_BYTES].first_chunk().unwrap_or(&[0; 32])
    }

    pub(super) fn may_hold(&self, id: &ChunkId) -> bool {
        self.filter().is_none_or(|(filter, fingerprints)| filter.passes(fingerprints, key(id)))
    }

    /// The filter, which is sound; none where there are too few chunks for one.
    pub(super) fn filter(&self) -> Option<(&Filter, &[u8])> {
        let (filter, fingerprints) = self.filter.as_ref()?;
        Some((filter, self.bytes.get(fingerprints.clone())?))
    }

    /// The key of the id of a record; 0 where there is no such record.
    pub(super) fn key_of(&self, ordinal: usize) -> u64 {
        let start = self.chunks.start + ordinal * CHUNK_RECORD_BYTES;
        self.bytes[..self.chunks.end].get(start..).and_then(|rest| rest.first_chunk()).map_or(0, first_number)
    }

    /// Where a chunk's records would be, by the first bits of its id.
    pub(super) fn candidates(&self, id: &ChunkId) -> Range<usize> {
        let prefix = prefix_of(id, self.fan_out_bits) as usize;
        let fan_out = &self.bytes[self.fan_out.clone()];
        let at = |place: usize| {
            fan_out
                .get(place * 4..)
                .and_then(|bytes| bytes.first_chunk())
                .map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
        };
        let (start, end) = (at(prefix), at(prefix + 1));
        start..end.max(start).min(self.chunks())
    }

    /// The frame record of a number below `frames`.
    pub(crate) fn frame(&self, number: u32) -> Option<FrameRecord> {
        let start = (number as usize).checked_mul(FRAME_RECORD_BYTES)?;
        let record = self.bytes[self.frames.clone()].get(start..start + FRAME_RECORD_BYTES)?;
        FrameRecord::decode(record).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::super::filter::build_filter;
    use super::*;
    use crate::crypto::KeyRing;
    use crate::entropy::SystemEntropy;
    use crate::format::envelope::ObjectType;
    use crate::format::pack::{Codec, FrameShape};

    fn segment(chunks: u32) -> Segment {
        let ring = KeyRing::new([1; 16], crate::chunker::DEFAULT_PARAMS, &SystemEntropy).unwrap();
        let shape = FrameShape { number: 0, raw_bytes: 1 << 20, stored_bytes: 100, codec: Codec::Zstd };
        let mut segment = Segment {
            packs: vec![SegmentPack {
                class: PackClass::Data,
                hash: ObjectHash::from_bytes([9; 32]),
                bytes: 1 << 20,
            }],
            headers: vec![ring.header(ObjectType::DataPack)],
            frames: vec![FrameRecord { pack: 0, offset: 98, header: 0, shape }],
            ..Segment::default()
        };
        for number in 0..chunks {
            let id = ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
            segment.chunks.push(ChunkRecord { id, frame: 0, offset: number, bytes: 1 });
        }
        segment.chunks.sort_by_key(|record| record.id);
        segment
    }

    #[test]
    fn every_chunk_is_found_and_no_other() {
        for count in [0, 1, 15, 255, 256, 20_000] {
            let segment = segment(count);
            let table = Table::from_bytes(encode_table(&segment, &build_filter(&segment.chunks))).unwrap();
            assert_eq!(table.chunks(), count as usize);
            for record in &segment.chunks {
                let found: Vec<_> = table.lookup(&record.id).collect();
                assert_eq!(found.len(), 1);
                assert_eq!((found[0].offset, found[0].bytes), (record.offset, 1));
                let packs: Vec<_> = table.packs_of_passed(&record.id).collect();
                assert_eq!(packs, [found[0].pack.hash]);
            }
            for number in count..count + 1000 {
                let id = ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
                assert_eq!(table.lookup(&id).count(), 0);
            }
        }
    }

    #[test]
    fn what_lookups_read_of_records_is_what_is_decoded() {
        let segment = segment(1);
        let (mut frame, mut chunk) = (Vec::new(), Vec::new());
        segment.frames[0].encode(&mut frame);
        segment.chunks[0].encode(&mut chunk);
        for (position, byte) in (0..FRAME_RECORD_BYTES).flat_map(|at| (0..=255).map(move |byte| (at, byte))) {
            let mut record: [u8; FRAME_RECORD_BYTES] = frame[..].try_into().unwrap();
            record[position] = byte;
            let decoded = FrameRecord::decode(&record).ok().map(|frame| frame.pack);
            assert_eq!(FrameRecord::pack_of(&record), decoded, "byte {position} is {byte}");
        }
        for position in 0..CHUNK_RECORD_BYTES {
            let mut record: [u8; CHUNK_RECORD_BYTES] = chunk[..].try_into().unwrap();
            record[position] ^= 1;
            let decoded = ChunkRecord::decode(&record).ok();
            let found = decoded.filter(|it| it.id == segment.chunks[0].id).map(|it| it.frame);
            assert_eq!(ChunkRecord::frame_of(&record, &segment.chunks[0].id), found, "byte {position}");
        }
    }

    #[test]
    fn a_damaged_table_is_refused_or_finds_nothing_but_never_panics() {
        let segment = segment(3000);
        let bytes = encode_table(&segment, &build_filter(&segment.chunks));
        for position in (0..bytes.len()).step_by(211).chain(0..128) {
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x55;
            assert!(Table::from_bytes(damaged.clone()).is_err(), "byte {position}");
            // A table too large to be checked whole: make the checksum fit, and look everything up.
            let check = *blake3::Hasher::new()
                .update(&damaged[..32])
                .update(&damaged[HEAD_BYTES..])
                .finalize()
                .as_bytes();
            damaged[32..64].copy_from_slice(&check);
            if let Ok(table) = Table::from_bytes(damaged) {
                for record in &segment.chunks {
                    for location in table.lookup(&record.id) {
                        assert!(location.bytes <= location.shape.raw_bytes);
                    }
                }
            }
        }
        for cut in [0, 10, 63, 64, 200, bytes.len() - 1] {
            assert!(Table::from_bytes(bytes[..cut].to_vec()).is_err());
        }
    }
}
