//! The concordance: one place to look for a chunk in all large tables of an index, instead of a filter and a fan-out table
//! for each. It is a file beside the tables in the cache, mapped like them.
//!
//! Layout: a head of 64 bytes (magic, how many tables and homes, two checksums), of each table the segment's name and the
//! table's checksum, and lines of 64 bytes. A line holds eight slots: of each 32 bits of an id, and then of each the number of a table and that of a record in
//! it. The first bits of an id say in which line its slots begin, its home. Slots are in order of id, then of table and
//! record; what does not fit into a line is in the next ones. Six slots of eight are filled: 11 bytes for a chunk.
//!
//! A slot proves nothing: the record that it names is compared with the whole id. So a file that lies can only hide chunks:
//! a backup stores these again. A collection compares all of the file before it asks it, and the tables for what it does not
//! find. Whoever reads, checks, or takes something for lost asks the tables.
//!
//! Who writes it: a collection, and a backup that has looked up a quarter as many chunks as there are. It takes about as long
//! as a quarter of the lookups that it saves (`benches/README.md`), so that never much is lost, and a restore, or a backup of
//! little that is new, never waits for it. Slots are written in order while the tables are read side by side: in memory there is one
//! place of each table.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::filter::key;
use super::mapped::MappedFile;
use super::{Part, Table};
use crate::cancel::CancelToken;
use crate::error::{Error, Result};
use crate::format::reader::Reader;
use crate::id::{ChunkId, ObjectHash};
use crate::limits::SEGMENT_CHUNKS_MAX;

const MAGIC: [u8; 8] = *b"drconco2";
const WHAT: &str = "a concordance of the index";
const HEAD_BYTES: usize = 64;
/// Magic, how many tables and homes.
const COUNTS_BYTES: usize = 20;
/// What is said of a table: the name of its segment, and its checksum.
const TABLE_BYTES: usize = 64;
const LINE_BYTES: usize = 64;
const LINE_SLOTS: usize = 8;
/// Slots of a line that are filled on average.
const SLOTS_FILLED: u64 = 6;
/// In so many lines the slots of a home lie. Those for which there is no room are left out; then all of these lines are
/// full of what is not behind them, and whoever finds that asks the tables.
const LINES_SEARCHED: u64 = 8;
/// A place is the number of a table, and that of a record in it.
const ORDINAL_BITS: u32 = 22;
const _: () = assert!(SEGMENT_CHUNKS_MAX <= 1 << ORDINAL_BITS);
const TABLES_MAX: usize = 255;
/// Of the 32 bits of an id, those that tell homes apart: twice as many homes as slots may be away from theirs, so that of
/// any two in a line it can be said which is first.
const HOME_BITS: u32 = 4;
const _: () = assert!(LINES_SEARCHED * 2 <= 1 << HOME_BITS);
/// The place in a slot that is not in use.
const EMPTY: u32 = u32::MAX;
const WRITTEN_TOGETHER: usize = 1 << 18;
/// Records between two looks at whether somebody cancelled.
const CANCELLED_WITHIN: u64 = 1 << 16;
/// One lookup of so many is counted, by the last byte of its id.
const COUNTED_OF: u64 = 256;
/// Tables are collated once a part of their chunks has been looked up.
const LOOKUPS_PART: u64 = 4;

/// For which tables a concordance is worth having.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Smaller tables are asked as they are.
    pub(crate) table_chunks: usize,
    /// With fewer tables, asking their filters takes no longer.
    pub(crate) tables: usize,
    /// With fewer chunks, filters and records are found in the processor's caches.
    pub(crate) chunks: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { table_chunks: 1 << 16, tables: 4, chunks: 1 << 20 }
    }
}

impl Limits {
    fn admit(&self, part: &Part) -> Option<Arc<Table>> {
        let chunks = self.table_chunks..=SEGMENT_CHUNKS_MAX as usize;
        part.whole().filter(|table| chunks.contains(&table.chunks())).cloned()
    }
}

/// The tables that a concordance is made of.
#[derive(Debug)]
pub(crate) struct Collation(Vec<(ObjectHash, Arc<Table>)>);

impl Collation {
    /// Of the large ones among an index's parts.
    fn of(parts: &[Part], names: &[ObjectHash], limits: &Limits) -> Collation {
        let large = names.iter().zip(parts).filter_map(|(name, part)| Some((*name, limits.admit(part)?)));
        Collation(large.take(TABLES_MAX).collect())
    }

    /// How long the file is that is made of them, in bytes.
    pub(crate) fn file_bytes(&self) -> u64 {
        let lines = homes_of(self.chunks()) + LINES_SEARCHED;
        HEAD_BYTES as u64 + self.0.len() as u64 * TABLE_BYTES as u64 + lines * LINE_BYTES as u64
    }

    fn chunks(&self) -> u64 {
        self.0.iter().map(|(_, table)| table.chunks() as u64).sum()
    }

    /// Writes a concordance into an empty file.
    ///
    /// # Errors
    /// What the file's system says; that a table is not what was written, which is damage of the cache; that somebody cancelled.
    pub(crate) fn write(&self, file: &mut File, cancel: &CancelToken) -> io::Result<()> {
        // What a damaged table hides, or shows, would stand here when the table has long been replaced.
        if !self.0.iter().all(|(_, table)| table.is_intact()) {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a table is damaged"));
        }
        let homes = homes_of(self.chunks());
        let mut lines = LineWriter::new(file)?;
        let said = |(name, table): &(ObjectHash, Arc<Table>)| [*name.as_bytes(), *table.checksum()].concat();
        let tables: Vec<u8> = self.0.iter().flat_map(said).collect();
        lines.put(&tables)?;
        self.merge(homes, &mut lines, cancel)?;
        let body = lines.finish(homes + LINES_SEARCHED - 1)?;
        let mut head = MAGIC.to_vec();
        head.extend_from_slice(&(self.0.len() as u32).to_le_bytes());
        head.extend_from_slice(&homes.to_le_bytes());
        head.extend_from_slice(&checksum(&[&head, &tables])[..20]);
        head.extend_from_slice(&body.as_bytes()[..24]);
        file.seek(SeekFrom::Start(0))?;
        file.write_all(&head)
    }

    /// Hands the slots of all records out in order.
    fn merge(&self, homes: u64, lines: &mut LineWriter<'_>, cancel: &CancelToken) -> io::Result<()> {
        let next = |number: u32, ordinal: u32| {
            let (_, table) = self.0.get(number as usize)?;
            let is_there = (ordinal as usize) < table.chunks();
            is_there.then(|| (table.key_of(ordinal as usize), number, ordinal))
        };
        let firsts = (0..self.0.len() as u32).filter_map(|number| next(number, 0));
        let mut heads: BinaryHeap<Reverse<(u64, u32, u32)>> = firsts.map(Reverse).collect();
        let mut merged = 0;
        while let Some(mut head) = heads.peek_mut() {
            let Reverse((key, number, ordinal)) = *head;
            let (home, print) = place_of(key, homes);
            lines.push(home, print, number << ORDINAL_BITS | ordinal)?;
            match next(number, ordinal + 1) {
                Some(following) if following.0 >= key => *head = Reverse(following),
                Some(_) => return Err(io::Error::new(io::ErrorKind::InvalidData, "a table is not in order")),
                None => _ = PeekMut::pop(head),
            }
            merged += 1;
            if merged % CANCELLED_WITHIN == 0 && cancel.is_cancelled() {
                return Err(io::ErrorKind::Interrupted.into());
            }
        }
        Ok(())
    }
}

fn checksum(parts: &[&[u8]]) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    parts.iter().for_each(|part| _ = hasher.update(part));
    *hasher.finalize().as_bytes()
}

/// How many homes so many chunks have.
fn homes_of(chunks: u64) -> u64 {
    chunks.div_ceil(SLOTS_FILLED).max(1)
}

/// In which line a key's slots begin, and what these hold of it. Both grow with the key; the latter begins anew after sixteen
/// lines.
fn place_of(key: u64, homes: u64) -> (u64, u32) {
    let product = u128::from(key) * u128::from(homes);
    ((product >> 64) as u64, (product >> (32 + HOME_BITS)) as u32)
}

/// Writes lines one after the other.
struct LineWriter<'f> {
    file: BufWriter<&'f mut File>,
    hasher: blake3::Hasher,
    line: [u8; LINE_BYTES],
    filled: usize,
    number: u64,
}

impl LineWriter<'_> {
    /// Begins behind the head.
    fn new(file: &mut File) -> io::Result<LineWriter<'_>> {
        file.seek(SeekFrom::Start(HEAD_BYTES as u64))?;
        let file = BufWriter::with_capacity(WRITTEN_TOGETHER, file);
        let line = [u8::MAX; LINE_BYTES];
        Ok(LineWriter { file, hasher: blake3::Hasher::new(), line, filled: 0, number: 0 })
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hasher.update(bytes);
        self.file.write_all(bytes)
    }

    /// Adds a slot to its home, which is not before that of the last one, or to one of the next lines.
    fn push(&mut self, home: u64, print: u32, place: u32) -> io::Result<()> {
        while self.number < home {
            self.end_line()?;
        }
        if self.filled == LINE_SLOTS {
            if self.number - home + 1 >= LINES_SEARCHED {
                return Ok(());
            }
            self.end_line()?;
        }
        let start = self.filled * 4;
        self.line[start..start + 4].copy_from_slice(&print.to_le_bytes());
        self.line[start + LINE_BYTES / 2..start + LINE_BYTES / 2 + 4].copy_from_slice(&place.to_le_bytes());
        self.filled += 1;
        Ok(())
    }

    fn end_line(&mut self) -> io::Result<()> {
        let line = std::mem::replace(&mut self.line, [u8::MAX; LINE_BYTES]);
        self.put(&line)?;
        self.filled = 0;
        self.number += 1;
        Ok(())
    }

    /// Ends with so many lines; gives the hash of everything.
    fn finish(mut self, lines: u64) -> io::Result<blake3::Hash> {
        while self.number < lines {
            self.end_line()?;
        }
        self.file.flush()?;
        Ok(self.hasher.finalize())
    }
}

/// What the slots of a line hold of ids, and their places.
type Line<'f> = (&'f [[u8; 4]; LINE_SLOTS], &'f [[u8; 4]; LINE_SLOTS]);

/// A concordance in the cache, whatever tables it is of.
#[derive(Debug)]
pub(crate) struct ConcordanceFile {
    bytes: MappedFile,
    names: Vec<ObjectHash>,
    checksums: Vec<[u8; 32]>,
    homes: u64,
    /// Where the lines begin.
    start: usize,
}

impl ConcordanceFile {
    /// Maps a file whose head is sound and whose length is right.
    pub(crate) fn open(path: &Path) -> Result<ConcordanceFile> {
        let damaged = || Error::corrupt("the index's concordance in the cache is damaged").with_path(path);
        let bytes = MappedFile::open(path).map_err(|error| damaged().with_source(error))?;
        let (tables, homes) = read_head(&bytes).ok_or_else(damaged)?;
        let start = HEAD_BYTES + tables * TABLE_BYTES;
        let lines = homes.checked_add(LINES_SEARCHED - 1).filter(|_| homes > 0);
        let end = lines.and_then(|lines| lines.checked_mul(LINE_BYTES as u64)?.checked_add(start as u64));
        if end != Some(bytes.len() as u64) {
            return Err(damaged());
        }
        let said = bytes[HEAD_BYTES..start].as_chunks::<32>().0;
        let names = said.iter().step_by(2).map(|name| ObjectHash::from_bytes(*name)).collect();
        let checksums = said.iter().skip(1).step_by(2).copied().collect();
        Ok(ConcordanceFile { bytes, names, checksums, homes, start })
    }

    /// The names of the segments whose tables it was made of.
    pub(crate) fn names(&self) -> &[ObjectHash] {
        &self.names
    }

    /// Whether it is what was written, byte by byte. Opening does not read it.
    pub(crate) fn is_intact(&self) -> bool {
        let found = checksum(&[&self.bytes[HEAD_BYTES..]]);
        self.bytes[COUNTS_BYTES + 20..HEAD_BYTES] == found[..24]
    }

    #[inline]
    fn line(&self, number: u64) -> Option<Line<'_>> {
        let start = self.start + number as usize * LINE_BYTES;
        let (prints, places) = self.bytes.get(start..start + LINE_BYTES)?.split_at(LINE_BYTES / 2);
        Some((prints.as_chunks().0.first_chunk()?, places.as_chunks().0.first_chunk()?))
    }
}

/// How many tables and homes the head speaks of.
fn read_head(bytes: &[u8]) -> Option<(usize, u64)> {
    let head: &[u8; HEAD_BYTES] = bytes.first_chunk()?;
    let mut reader = Reader::new(WHAT, head);
    if reader.array::<8>().ok()? != MAGIC {
        return None;
    }
    let tables = reader.u32().ok()? as usize;
    let homes = reader.u64().ok()?;
    if tables > TABLES_MAX {
        return None;
    }
    let said = bytes.get(HEAD_BYTES..HEAD_BYTES + tables * TABLE_BYTES)?;
    let is_sound = checksum(&[&head[..COUNTS_BYTES], said])[..20] == head[COUNTS_BYTES..COUNTS_BYTES + 20];
    is_sound.then_some((tables, homes))
}

/// What a concordance says.
pub(super) enum Answer {
    /// The first place of the chunk among its tables: a number of a part, and a pack.
    At(usize, ObjectHash),
    /// None of its tables lists the chunk.
    Nowhere,
    /// It has no room for an answer.
    Unknown,
}

/// A concordance beside the index whose large tables it covers.
#[derive(Debug)]
pub(crate) struct Concordance {
    file: ConcordanceFile,
    /// The tables by their numbers in slots, with their numbers among the parts; none for those that are gone, or are others.
    tables: Vec<Option<(usize, Arc<Table>)>>,
    /// The parts that it does not cover, and their numbers.
    others: Vec<Part>,
    other_numbers: Vec<usize>,
}

impl Concordance {
    /// Lets a file speak for those parts that it was made of; none where it has these in another order.
    fn new(file: ConcordanceFile, parts: &[Part], names: &[ObjectHash]) -> Option<Concordance> {
        let find = |(name, checksum): (&ObjectHash, &[u8; 32])| {
            let number = names.iter().position(|other| other == name)?;
            let table = parts.get(number)?.whole()?.clone();
            (table.checksum() == checksum).then_some((number, table))
        };
        let said = file.names.iter().zip(&file.checksums);
        let tables: Vec<Option<(usize, Arc<Table>)>> = said.map(find).collect();
        let covered: Vec<usize> = tables.iter().flatten().map(|(number, _)| *number).collect();
        if covered.is_empty() || !covered.is_sorted_by(|a, b| a < b) {
            return None;
        }
        let other_numbers: Vec<usize> =
            (0..parts.len()).filter(|number| covered.binary_search(number).is_err()).collect();
        let others = other_numbers.iter().filter_map(|number| parts.get(*number).cloned()).collect();
        Some(Concordance { file, tables, others, other_numbers })
    }

    /// Whether the file is what was written, byte by byte.
    pub(super) fn is_intact(&self) -> bool {
        self.file.is_intact()
    }

    /// Whether it speaks for the part of a number.
    pub(crate) fn covers(&self, part: usize) -> bool {
        self.other_numbers.binary_search(&part).is_err()
    }

    /// The parts before one of the given number that are to be asked themselves.
    pub(super) fn others_before(&self, number: usize) -> &[Part] {
        let count = self.other_numbers.partition_point(|other| *other < number);
        self.others.get(..count).unwrap_or_default()
    }

    /// Where a chunk lies in a pack that is good enough.
    #[inline]
    pub(super) fn find(&self, id: &ChunkId, is_good: impl Fn(&ObjectHash) -> bool) -> Answer {
        let mut answer = None;
        let is_complete = self.slots(id, |place| {
            answer = self.pack_at(place, id).filter(|(_, pack)| is_good(pack));
            answer.is_none()
        });
        match answer {
            Some((part, pack)) => Answer::At(part, pack),
            None if is_complete => Answer::Nowhere,
            None => Answer::Unknown,
        }
    }

    /// Gives the places of all slots that may be of a chunk, in order, for as long as `take` wants more. False where there
    /// may be places that no slot names.
    #[inline]
    pub(super) fn slots(&self, id: &ChunkId, mut take: impl FnMut(u32) -> bool) -> bool {
        let (home, print) = place_of(key(id), self.file.homes);
        for number in home..home + LINES_SEARCHED {
            let Some((prints, places)) = self.file.line(number) else { return false };
            let mut same = 0u32;
            for (slot, bytes) in prints.iter().enumerate() {
                same |= u32::from(u32::from_le_bytes(*bytes) == print) << slot;
            }
            while same != 0 {
                if !take(u32::from_le_bytes(places[same.trailing_zeros() as usize % LINE_SLOTS])) {
                    return true;
                }
                same &= same - 1;
            }
            let last = u32::from_le_bytes(prints[LINE_SLOTS - 1]);
            let is_full = u32::from_le_bytes(places[LINE_SLOTS - 1]) != EMPTY;
            if !is_full || last.wrapping_sub(print) as i32 > 0 {
                return true;
            }
        }
        false
    }

    /// The part, its table and the number of a record that a slot's place leads to.
    #[inline]
    pub(super) fn record_at(&self, place: u32) -> Option<(usize, &Table, usize)> {
        let (part, table) = self.tables.get((place >> ORDINAL_BITS) as usize)?.as_ref()?;
        Some((*part, table, place as usize & ((1 << ORDINAL_BITS) - 1)))
    }

    /// The part and the pack that a place leads to, if the record there is one of this chunk.
    #[inline]
    fn pack_at(&self, place: u32, id: &ChunkId) -> Option<(usize, ObjectHash)> {
        let (part, table, ordinal) = self.record_at(place)?;
        Some((part, table.pack_of_record(ordinal, id)?))
    }
}

/// An index's concordance, or what decides when there is to be one. Clones of the index share it.
#[derive(Debug)]
pub(super) struct Concording {
    /// The names of the segments that the parts are of.
    names: Vec<ObjectHash>,
    limits: Limits,
    concordance: OnceLock<Concordance>,
    lookups: AtomicU64,
    is_collated: AtomicBool,
}

impl Concording {
    pub(super) fn new(names: Vec<ObjectHash>, limits: Limits) -> Concording {
        let (lookups, is_collated) = (AtomicU64::new(0), AtomicBool::new(false));
        Concording { names, limits, concordance: OnceLock::new(), lookups, is_collated }
    }

    #[inline]
    pub(super) fn concordance(&self) -> Option<&Concordance> {
        self.concordance.get()
    }

    /// Asks this concordance from now on, unless there is one.
    pub(super) fn consult(&self, file: ConcordanceFile, parts: &[Part]) {
        if let Some(concordance) = Concordance::new(file, parts, &self.names) {
            let _ = self.concordance.set(concordance);
        }
    }

    /// Counts a lookup. The tables that are to be collated, once there were many lookups among many chunks.
    #[inline]
    pub(super) fn count(&self, id: &ChunkId, parts: &[Part]) -> Option<Collation> {
        let is_counted = u64::from(id.as_bytes()[31]) % COUNTED_OF == 0;
        if is_counted { self.count_many(parts) } else { None }
    }

    #[cold]
    fn count_many(&self, parts: &[Part]) -> Option<Collation> {
        let lookups = self.lookups.fetch_add(COUNTED_OF, Ordering::Relaxed) + COUNTED_OF;
        if self.is_collated.load(Ordering::Relaxed) {
            return None;
        }
        let collation = self.collation(parts)?;
        let is_due = lookups >= collation.chunks() / LOOKUPS_PART;
        let is_first = is_due && !self.is_collated.swap(true, Ordering::Relaxed);
        is_first.then_some(collation)
    }

    /// The tables that are worth a concordance which they do not have.
    pub(super) fn collation(&self, parts: &[Part]) -> Option<Collation> {
        let collation = Collation::of(parts, &self.names, &self.limits);
        let covered = self.concordance().map(|concordance| concordance.file.names()).unwrap_or_default();
        let uncovered = || collation.0.iter().filter(|(name, _)| !covered.contains(name));
        let chunks: u64 = uncovered().map(|(_, table)| table.chunks() as u64).sum();
        let is_worth_it = uncovered().count() >= self.limits.tables && chunks >= self.limits.chunks;
        is_worth_it.then_some(collation)
    }
}

#[cfg(test)]
mod tests;
