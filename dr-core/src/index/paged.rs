//! A segment that stays in the store: head, filter and footer are read when it is opened, a page when a lookup needs it.
//!
//! Every page is a sealed message of its own, so nothing is believed that the store says. One that cannot be opened leaves
//! a gap; a store that does not answer ends the lookup.
//!
//! The bytes are not compared with the hash that the log names, which takes all of them. What can a store make of that? The head
//! gives the key, which no other segment has: it hangs on the head's salt. Every part is opened under that key, by its number and the
//! hash of the head, so parts of two segments, of two places or of two reads never go together: what does not belong to the head is
//! a gap. What is left is another whole segment of this repository. Then lookups miss what this one lists, which fails a read and makes a
//! backup store the chunk again; and they find what the other one lists. That is true as well: its packs were durable before it was
//! written, and only what is condemned is ever deleted, which the log says and every lookup passes over. Chunks are verified by
//! their ids in any case. So such a store can withhold, as any can, and nothing more. Whoever counts, deletes or checks reads whole
//! segments, and compares them.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use dr_store::Bytes;

use super::Location;
use super::filter::{FILTER_HEAD_BYTES, Filter, key};
use super::pages::{Page, Pages};
use super::segment::{check_filter, open_head, open_part, short};
use super::table::Table;
use crate::crypto::{Kek, ObjectKey};
use crate::error::{Error, Result};
use crate::format::envelope::{Header, TAG_BYTES};
use crate::format::pack::{FOOTER_NUMBER, TRAILER_BYTES, TRAILER_NUMBER, Trailer};
use crate::format::segment::{
    CHUNK_RECORD_BYTES, ChunkRecord, FRAME_RECORD_BYTES, FrameRecord, PAGE_RECORDS, SegmentFooter,
    SegmentPack,
};
use crate::id::ChunkId;
use crate::observer::lock;

/// What is read is rounded out to this many bytes.
pub(crate) const STEP_BYTES: u64 = 256 << 10;
/// A segment is read whole when more than this part of it was read page by page.
const WHOLE_BEYOND: u64 = 4;
/// More places of one chunk in one segment are not looked at.
const PLACES_MAX: usize = 4096;

/// Where the bytes of one sealed segment come from.
pub(crate) trait SegmentSource: fmt::Debug + Send + Sync {
    /// The length of the sealed segment.
    fn bytes(&self) -> u64;

    /// Reads a range whose ends are multiples of `STEP_BYTES`, or the segment's end. Unless `is_fresh`, copies on this
    /// machine will do.
    fn fetch(&self, range: Range<u64>, is_fresh: bool) -> Result<Bytes>;

    /// Reads and verifies the whole segment.
    fn load_whole(&self) -> Result<Table>;

    /// What the segment is called.
    fn name(&self) -> String;
}

/// A segment that is searched page by page.
pub(crate) struct PagedTable {
    source: Box<dyn SegmentSource>,
    key: ObjectKey,
    layout: Layout,
    filter: Vec<u8>,
    /// The first eight bytes of the first id of each chunk page, as numbers.
    firsts: Vec<u64>,
    packs: Vec<SegmentPack>,
    headers: Vec<Arc<Header>>,
    pages: Arc<Pages>,
    number: u64,
    whole: OnceLock<Arc<Table>>,
    reading: Mutex<Reading>,
    gap: OnceLock<String>,
}

/// Held by whoever reads a page: nothing is fetched twice at once.
#[derive(Debug)]
struct Reading {
    bytes: u64,
    /// When so many bytes were read page by page, the segment is read whole.
    whole_at: u64,
    damaged: HashSet<u32>,
}

/// Where the sections lie. Section 0 is the filter.
#[derive(Debug, Clone, Copy)]
struct Layout {
    start: u64,
    filter_bytes: u64,
    chunks: u32,
    frames: u32,
}

impl Layout {
    fn chunk_pages(&self) -> u32 {
        self.chunks.div_ceil(PAGE_RECORDS as u32)
    }

    /// The sealed bytes of a section; none where there is no such section.
    fn section(&self, number: u32) -> Option<Range<u64>> {
        let tag = TAG_BYTES as u64;
        let filter_end = self.start + self.filter_bytes + tag;
        let Some(page) = number.checked_sub(1) else { return Some(self.start..filter_end) };
        let pages = self.chunk_pages();
        let frames_start =
            filter_end + u64::from(self.chunks) * CHUNK_RECORD_BYTES as u64 + u64::from(pages) * tag;
        let (start, records, width, page) = if page < pages {
            (filter_end, self.chunks, CHUNK_RECORD_BYTES as u64, page)
        } else {
            (frames_start, self.frames, FRAME_RECORD_BYTES as u64, page - pages)
        };
        let before = page.checked_mul(PAGE_RECORDS as u32).filter(|before| *before < records)?;
        let start = start + u64::from(before) * width + u64::from(page) * tag;
        Some(start..start + u64::from((records - before).min(PAGE_RECORDS as u32)) * width + tag)
    }

    /// Where the last section ends.
    fn end(&self) -> u64 {
        let last = self.chunk_pages() + self.frames.div_ceil(PAGE_RECORDS as u32);
        self.section(last).map_or(0, |section| section.end)
    }
}

/// Blocks of a segment, fetched while it is opened.
struct Blocks<'s> {
    source: &'s dyn SegmentSource,
    is_fresh: bool,
    held: BTreeMap<u64, Bytes>,
}

impl Blocks<'_> {
    fn read(&mut self, range: Range<u64>) -> Result<Vec<u8>> {
        let bytes = self.source.bytes();
        if range.start > range.end || range.end > bytes {
            return Err(short());
        }
        let blocks = range.start / STEP_BYTES..range.end.div_ceil(STEP_BYTES);
        let first = blocks.clone().find(|block| !self.held.contains_key(block));
        let last = blocks.clone().rfind(|block| !self.held.contains_key(block));
        if let (Some(first), Some(last)) = (first, last) {
            let start = first * STEP_BYTES;
            let end = ((last + 1) * STEP_BYTES).min(bytes);
            let fetched = fetch(self.source, start..end, self.is_fresh)?;
            for block in first..=last {
                let from = (block * STEP_BYTES - start) as usize;
                let to = fetched.len().min(from + STEP_BYTES as usize);
                self.held.insert(block, fetched.slice(from..to));
            }
        }
        let mut text = Vec::new();
        for block in blocks {
            let held = self.held.get(&block).ok_or_else(short)?;
            let from = range.start.saturating_sub(block * STEP_BYTES) as usize;
            let to = held.len().min((range.end - block * STEP_BYTES) as usize);
            text.extend_from_slice(held.get(from..to).ok_or_else(short)?);
        }
        Ok(text)
    }
}

fn fetch(source: &dyn SegmentSource, range: Range<u64>, is_fresh: bool) -> Result<Bytes> {
    let fetched = source.fetch(range.clone(), is_fresh)?;
    if fetched.len() as u64 == range.end - range.start { Ok(fetched) } else { Err(short()) }
}

/// Rounds a range out.
fn around(range: &Range<u64>, bytes: u64) -> Range<u64> {
    range.start - range.start % STEP_BYTES..range.end.next_multiple_of(STEP_BYTES).min(bytes)
}

impl PagedTable {
    /// Opens a segment: reads its head, filter and footer, and nothing else.
    pub(crate) fn open(
        source: Box<dyn SegmentSource>,
        keks: &dyn Fn(&Header) -> Result<Kek>,
        pages: Arc<Pages>,
    ) -> Result<PagedTable> {
        let named = |error: Error| error.with_object(source.name());
        let opened = match PagedTable::read_ends(&*source, keks, false) {
            Err(error) if error.is_damage() => PagedTable::read_ends(&*source, keks, true).map_err(named)?,
            opened => opened.map_err(named)?,
        };
        let (key, layout, filter, footer) = opened;
        let (packs, headers) = footer.packs_and_headers().map_err(|error| named(error.into()))?;
        let whole_at = source.bytes() / WHOLE_BEYOND;
        Ok(PagedTable {
            key,
            layout,
            filter,
            firsts: footer.page_firsts.into_iter().map(u64::from_be_bytes).collect(),
            packs,
            headers: headers.into_iter().map(Arc::new).collect(),
            number: pages.enter(),
            pages,
            whole: OnceLock::new(),
            reading: Mutex::new(Reading { bytes: 0, whole_at, damaged: HashSet::new() }),
            gap: OnceLock::new(),
            source,
        })
    }

    fn read_ends(
        source: &dyn SegmentSource,
        keks: &dyn Fn(&Header) -> Result<Kek>,
        is_fresh: bool,
    ) -> Result<(ObjectKey, Layout, Vec<u8>, SegmentFooter)> {
        let mut blocks = Blocks { source, is_fresh, held: BTreeMap::new() };
        let bytes = source.bytes();
        let (key, start) = open_head(keks, &blocks.read(0..bytes.min(STEP_BYTES))?)?;
        let start = start as u64;
        let trailer_start = bytes.checked_sub(TRAILER_BYTES as u64).filter(|at| *at >= start);
        let trailer_start = trailer_start.ok_or_else(short)?;
        let trailer = open_part(&key, TRAILER_NUMBER, &blocks.read(trailer_start..bytes)?)?;
        let trailer = Trailer::decode(&trailer, start, bytes)?;
        let footer = open_part(&key, FOOTER_NUMBER, &blocks.read(trailer.footer_offset..trailer_start)?)?;
        let footer = SegmentFooter::decode(&footer)?;
        let (chunks, frames) = (footer.chunks, footer.frames);
        let layout = Layout { start, filter_bytes: u64::from(footer.filter_bytes), chunks, frames };
        if layout.end() != trailer.frames_end || trailer.frames_end != trailer.footer_offset {
            return Err(Error::corrupt("the index segment's parts do not fill it"));
        }
        if footer.page_firsts.len() != layout.chunk_pages() as usize || !footer.page_firsts.is_sorted() {
            return Err(Error::corrupt("the index segment's pages are not in order"));
        }
        let filter = open_part(&key, 0, &blocks.read(layout.section(0).ok_or_else(short)?)?)?;
        check_filter(&filter)?;
        Ok((key, layout, filter, footer))
    }

    /// How many chunks the segment lists.
    pub(crate) fn chunks(&self) -> usize {
        self.layout.chunks as usize
    }

    pub(crate) fn packs(&self) -> &[SegmentPack] {
        &self.packs
    }

    /// The whole table, where the segment was read whole since.
    pub(crate) fn whole(&self) -> Option<&Arc<Table>> {
        self.whole.get()
    }

    /// What could not be read when a lookup needed it.
    pub(crate) fn gap(&self) -> Option<&str> {
        self.gap.get().map(String::as_str)
    }

    /// Reads the segment whole.
    pub(crate) fn load_whole(&self) -> Result<Arc<Table>> {
        let _reading = lock(&self.reading);
        self.become_whole()
    }

    fn become_whole(&self) -> Result<Arc<Table>> {
        if let Some(table) = self.whole.get() {
            return Ok(table.clone());
        }
        let table = Arc::new(self.source.load_whole()?);
        let table = self.whole.get_or_init(|| table).clone();
        self.pages.leave(self.number);
        Ok(table)
    }

    /// The places of a chunk. What lies in pages that are damaged is left out.
    ///
    /// # Errors
    /// What the store answers, except that a page is damaged.
    pub(crate) fn lookup(&self, id: &ChunkId) -> Result<Vec<Location>> {
        if let Some(table) = self.whole.get() {
            return Ok(table.lookup(id).collect());
        }
        let mut places = Vec::new();
        for record in self.find(id)? {
            places.extend(self.locate(&record)?);
        }
        Ok(places)
    }

    fn may_hold(&self, id: &ChunkId) -> bool {
        let Some((head, fingerprints)) = self.filter.split_at_checked(FILTER_HEAD_BYTES) else { return true };
        Filter::parse(head, fingerprints.len()).is_none_or(|filter| filter.passes(fingerprints, key(id)))
    }

    fn find(&self, id: &ChunkId) -> Result<Vec<ChunkRecord>> {
        let mut found = Vec::new();
        if !self.may_hold(id) {
            return Ok(found);
        }
        // The page before the first that begins like the id may end with it.
        let prefix = key(id);
        let first = self.firsts.partition_point(|first| *first < prefix).saturating_sub(1);
        let end = self.firsts.partition_point(|first| *first <= prefix);
        for page in first..end {
            let Some(page) = self.page(page as u32 + 1)? else { continue };
            let (records, _) = page.as_chunks::<CHUNK_RECORD_BYTES>();
            let start = records.partition_point(|record| record[..32] < id.as_bytes()[..]);
            let same = records[start..].iter().take_while(|record| record[..32] == id.as_bytes()[..]);
            found.extend(same.filter_map(|record| ChunkRecord::decode(record).ok()));
            if found.len() > PLACES_MAX {
                found.truncate(PLACES_MAX);
                break;
            }
        }
        Ok(found)
    }

    fn locate(&self, record: &ChunkRecord) -> Result<Option<Location>> {
        let (page, place) = (record.frame / PAGE_RECORDS as u32, record.frame as usize % PAGE_RECORDS);
        let number = page + 1 + self.layout.chunk_pages();
        let Some(page) = self.page(number)? else { return Ok(None) };
        let located = self.locate_in(record, &page, place);
        if let Err(error) = &located {
            self.note_gap(error);
        }
        Ok(located.ok())
    }

    fn locate_in(&self, record: &ChunkRecord, page: &[u8], place: usize) -> Result<Location> {
        let (records, _) = page.as_chunks::<FRAME_RECORD_BYTES>();
        let frame = records.get(place).ok_or_else(|| Error::corrupt("a chunk names no frame"))?;
        let frame = FrameRecord::decode(frame)?;
        let frame = frame.check(self.packs.get(frame.pack as usize), self.headers.len())?;
        let record = record.check_in(&frame)?;
        Ok(Location {
            pack: self.packs[frame.pack as usize].clone(),
            header: self.headers[frame.header as usize].clone(),
            frame_offset: frame.offset,
            shape: frame.shape,
            offset: record.offset,
            bytes: record.bytes,
        })
    }

    fn note_gap(&self, error: &Error) {
        self.gap.get_or_init(|| format!("{error} in {}", self.source.name()));
    }

    /// The opened page of a section; none where it is damaged.
    fn page(&self, number: u32) -> Result<Option<Page>> {
        let place = (self.number, number);
        if let Some(page) = self.pages.get(place) {
            return Ok(Some(page));
        }
        let mut reading = lock(&self.reading);
        if let Some(page) = self.pages.get(place) {
            return Ok(Some(page));
        }
        if reading.damaged.contains(&number) {
            return Ok(None);
        }
        let read = match self.read_page(number, false, &mut reading) {
            Err(error) if error.is_damage() => self.read_page(number, true, &mut reading),
            read => read,
        };
        let page = match read {
            Ok(page) => page,
            Err(error) if error.is_damage() => {
                reading.damaged.insert(number);
                self.note_gap(&error);
                return Ok(None);
            }
            Err(error) => return Err(error.with_object(self.source.name())),
        };
        if reading.bytes > reading.whole_at
            && let Err(error) = self.become_whole()
        {
            // Pages still do; a store that did not answer may do so later.
            reading.whole_at = if error.is_retryable() { reading.bytes.saturating_mul(2) } else { u64::MAX };
        }
        Ok(Some(page))
    }

    /// Reads a page, and keeps what was fetched with it.
    fn read_page(&self, number: u32, is_fresh: bool, reading: &mut Reading) -> Result<Page> {
        let no_page = || Error::corrupt("a chunk names no frame");
        let section = self.layout.section(number).filter(|_| number > 0).ok_or_else(no_page)?;
        let range = around(&section, self.source.bytes());
        let fetched = fetch(&*self.source, range.clone(), is_fresh)?;
        reading.bytes += fetched.len() as u64;
        let open = |number: u32| -> Option<Result<Page>> {
            let section = self.layout.section(number).filter(|_| number > 0)?;
            let is_inside = range.start <= section.start && section.end <= range.end;
            let sealed = is_inside
                .then(|| {
                    fetched
                        .get((section.start - range.start) as usize..)?
                        .get(..(section.end - section.start) as usize)
                })
                .flatten()?;
            Some(self.open_page(number, sealed))
        };
        let page = open(number).ok_or_else(short)??;
        let before = (1..number).rev().map_while(|number| Some((number, open(number)?)));
        let after = (number + 1..).map_while(|number| Some((number, open(number)?)));
        for (neighbour, opened) in before.chain(after) {
            // One that is damaged is spoken of when it is needed.
            if let Ok(opened) = opened {
                self.pages.keep((self.number, neighbour), opened);
            }
        }
        self.pages.keep((self.number, number), page.clone());
        Ok(page)
    }

    /// Opens a page, and checks what a whole segment's opening checks.
    fn open_page(&self, number: u32, sealed: &[u8]) -> Result<Page> {
        let page = open_part(&self.key, number, sealed)?;
        if let Some(first) = self.firsts.get(number as usize - 1) {
            let (records, _) = page.as_chunks::<CHUNK_RECORD_BYTES>();
            let is_sorted = records.is_sorted_by(|one, other| one[..32] <= other[..32]);
            let begins = records.first().is_some_and(|record| record[..8] == first.to_be_bytes());
            if !is_sorted || !begins {
                return Err(Error::corrupt("the index segment's chunks are not sorted"));
            }
        }
        Ok(Arc::new(page))
    }
}

impl fmt::Debug for PagedTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagedTable").field("layout", &self.layout).finish_non_exhaustive()
    }
}

impl Drop for PagedTable {
    fn drop(&mut self) {
        self.pages.leave(self.number);
    }
}

#[cfg(test)]
mod tests;
