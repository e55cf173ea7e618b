use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::*;
use crate::chunker::DEFAULT_PARAMS;
use crate::crypto::KeyRing;
use crate::entropy::SystemEntropy;
use crate::error::ErrorKind;
use crate::format::envelope::{ObjectType, PackClass, Suite};
use crate::format::pack::{Codec, FrameShape};
use crate::format::segment::Segment;
use crate::id::ObjectHash;
use crate::index::segment::{open_segment, seal_segment};

/// A sealed segment in memory.
#[derive(Debug, Clone)]
struct Sealed {
    ring: KeyRing,
    object: Arc<Mutex<Vec<u8>>>,
    is_away: Arc<AtomicBool>,
    read: Arc<AtomicU64>,
    may_load: bool,
}

impl SegmentSource for Sealed {
    fn bytes(&self) -> u64 {
        lock(&self.object).len() as u64
    }

    fn fetch(&self, range: Range<u64>, _: bool) -> Result<Bytes> {
        assert_eq!(range.start % STEP_BYTES, 0);
        assert!(range.end.is_multiple_of(STEP_BYTES) || range.end == self.bytes());
        if self.is_away.load(Ordering::Relaxed) {
            return Err(Error::new(ErrorKind::StoreUnavailable, "away"));
        }
        self.read.fetch_add(range.end - range.start, Ordering::Relaxed);
        Ok(Bytes::copy_from_slice(&lock(&self.object)[range.start as usize..range.end as usize]))
    }

    fn load_whole(&self) -> Result<Table> {
        if !self.may_load {
            return Err(Error::corrupt("not to be read whole"));
        }
        Table::from_bytes(open_segment(|header| self.ring.kek(header), &lock(&self.object))?.1)
    }

    fn name(&self) -> String {
        "index/sealed".to_owned()
    }
}

impl Sealed {
    fn new(segment: &Segment, ring: KeyRing) -> (Sealed, Table) {
        Sealed::of_suite(segment, ring, Suite::ChaCha20Poly1305)
    }

    fn of_suite(segment: &Segment, mut ring: KeyRing, suite: Suite) -> (Sealed, Table) {
        ring.seal_with(suite);
        let (object, table) = seal_segment(&ring, segment, &SystemEntropy).unwrap();
        let object = Arc::new(Mutex::new(object));
        let (is_away, read) = (Arc::default(), Arc::default());
        (Sealed { ring, object, is_away, read, may_load: false }, Table::from_bytes(table).unwrap())
    }

    fn open(&self) -> Result<PagedTable> {
        PagedTable::open(Box::new(self.clone()), &|header| self.ring.kek(header), Arc::default())
    }

    fn flip(&self, bit: u64) {
        lock(&self.object)[bit as usize / 8] ^= 1 << (bit % 8);
    }
}

fn id(number: u32) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// A segment of so many chunks in packs of both suites; the chunks whose numbers are a multiple of `repeats` stand 2,500 times.
fn segment(chunks: u32, repeats: u32) -> (Segment, KeyRing) {
    let mut ring = KeyRing::new([1; 16], DEFAULT_PARAMS, &SystemEntropy).unwrap();
    let headers = Suite::ALL.map(|suite| {
        ring.seal_with(suite);
        ring.header(ObjectType::DataPack)
    });
    let pack = |number| SegmentPack {
        class: PackClass::Data,
        hash: ObjectHash::from_bytes([number; 32]),
        bytes: 1 << 25,
    };
    let mut segment =
        Segment { packs: vec![pack(1), pack(2)], headers: headers.to_vec(), ..Segment::default() };
    let frames = chunks.div_ceil(10);
    segment.frames.extend((0..frames).map(|number| FrameRecord {
        pack: number % 2,
        offset: 98 + number * 100,
        header: number / 2 % 2,
        shape: FrameShape { number, raw_bytes: 1 << 20, stored_bytes: 80, codec: Codec::Zstd },
    }));
    for number in 1..=chunks {
        let times = if number % repeats == 0 { 2500 } else { 1 };
        segment.chunks.extend((0..times).map(|copy| ChunkRecord {
            id: id(number),
            frame: (number / 10 + copy) % frames,
            offset: number,
            bytes: 1 + copy,
        }));
    }
    segment.chunks.sort_by_key(|record| record.id);
    (segment, ring)
}

fn places(found: impl IntoIterator<Item = Location>) -> Vec<String> {
    found.into_iter().map(|location| format!("{location:?}")).collect()
}

/// Whether a segment is refused or shows a gap; a place that is not the table's stops the test.
fn is_noticed(sealed: &Sealed, object: Vec<u8>, segment: &Segment, table: &Table) -> bool {
    let spliced = Sealed { object: Arc::new(Mutex::new(object)), ..sealed.clone() };
    let Ok(paged) = spliced.open() else { return true };
    for record in &segment.chunks {
        let found = places(paged.lookup(&record.id).unwrap());
        assert!(found.is_empty() || found == places(table.lookup(&record.id)));
    }
    paged.gap().is_some()
}

/// Two segments of one repository, alike in every length: no part of one passes for the other's, and no page for another.
#[test]
fn parts_of_another_segment_are_noticed() {
    let (one, ring) = segment(2100, 1_000_000);
    let (mut two, _) = segment(2100, 1_000_000);
    two.packs[0].hash = ObjectHash::from_bytes([9; 32]);
    let pairs = Suite::ALL.into_iter().flat_map(|first| Suite::ALL.map(|second| (first, second)));
    for (first, second) in pairs {
        let (sealed, table) = Sealed::of_suite(&one, ring.clone(), first);
        let (other, other_table) = Sealed::of_suite(&two, ring.clone(), second);
        let (first, second) = (lock(&sealed.object).clone(), lock(&other.object).clone());
        assert_eq!(first.len(), second.len());
        let layout = sealed.open().unwrap().layout;
        let end = first.len() - TRAILER_BYTES;
        let mut parts = vec![0..layout.start as usize, layout.end() as usize..end, end..first.len()];
        parts.extend((0..=4).map(|number| {
            let section = layout.section(number).unwrap();
            section.start as usize..section.end as usize
        }));
        for part in parts {
            let mut spliced = first.clone();
            spliced[part.clone()].copy_from_slice(&second[part.clone()]);
            assert!(is_noticed(&sealed, spliced, &one, &table), "{part:?} of the other");
            let mut spliced = second.clone();
            spliced[part.clone()].copy_from_slice(&first[part.clone()]);
            assert!(is_noticed(&sealed, spliced, &two, &other_table), "all but {part:?} of the other");
        }
        let [one_page, next_page] = [1, 2].map(|number| layout.section(number).unwrap());
        let mut swapped = first.clone();
        let page = |range: &Range<u64>| range.start as usize..range.end as usize;
        swapped[page(&one_page)].copy_from_slice(&first[page(&next_page)]);
        swapped[page(&next_page)].copy_from_slice(&first[page(&one_page)]);
        assert!(is_noticed(&sealed, swapped, &one, &table), "pages in each other's place");
        // All of the other says what the other says.
        assert!(!is_noticed(&sealed, second, &two, &other_table));
    }
}

#[test]
fn pages_say_what_the_whole_table_says() {
    let [chacha, aes] = Suite::ALL;
    let cases = [(10, 11, chacha), (300, 150, aes), (1024, 2000, chacha), (300_000, 50_000, aes)];
    for (chunks, repeats, suite) in cases {
        let (segment, ring) = segment(chunks, repeats);
        let (sealed, table) = Sealed::of_suite(&segment, ring, suite);
        let paged = sealed.open().unwrap();
        assert_eq!(paged.chunks(), table.chunks());
        assert!(paged.packs().iter().cloned().eq(table.packs()));
        for number in (1..=chunks).chain(1_000_000..1_001_000) {
            let id = id(number);
            if number % 7 > 0 && number % repeats > 0 && number > 2000 {
                continue;
            }
            let found = places(paged.lookup(&id).unwrap());
            assert_eq!(found, places(table.lookup(&id)), "{number}");
            let times = if number > chunks {
                0
            } else if number % repeats == 0 {
                2500
            } else {
                1
            };
            assert_eq!(found.len(), times);
        }
        assert!(paged.gap().is_none() && paged.whole().is_none());
    }
}

#[test]
fn opening_and_lookups_read_little() {
    let (segment, ring) = segment(300_000, 1_000_000);
    let (mut sealed, _) = Sealed::new(&segment, ring);
    let total = sealed.bytes();
    let opened = sealed.open().unwrap();
    let Layout { filter_bytes, .. } = opened.layout;
    // The filter, the footer, and their ends' blocks.
    assert!(filter_bytes < 300_000 * 120 / 100);
    assert!(sealed.read.load(Ordering::Relaxed) <= filter_bytes + 3 * STEP_BYTES);
    let before = sealed.read.swap(0, Ordering::Relaxed);
    assert!(before * 10 < total);
    for number in 1_000_000..1_000_100 {
        assert!(opened.lookup(&id(number)).unwrap().is_empty());
    }
    // One in 256 passes the filter by chance.
    assert!(sealed.read.swap(0, Ordering::Relaxed) <= 6 * STEP_BYTES);
    opened.lookup(&id(17)).unwrap();
    assert!(sealed.read.load(Ordering::Relaxed) <= 4 * STEP_BYTES);
    // Whoever needs much of a segment gets all of it.
    sealed.may_load = true;
    sealed.read.store(0, Ordering::Relaxed);
    let opened = sealed.open().unwrap();
    sealed.read.store(0, Ordering::Relaxed);
    for number in 1..1000 {
        assert_eq!(opened.lookup(&id(number)).unwrap().len(), 1);
    }
    assert!(opened.whole().is_some());
    assert!(sealed.read.load(Ordering::Relaxed) <= total / WHOLE_BEYOND + 2 * STEP_BYTES);
    assert!(lock(&opened.reading).bytes > 0);
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (segment, ring) = segment(2100, 1_000_000);
    for suite in Suite::ALL {
        let (sealed, table) = Sealed::of_suite(&segment, ring.clone(), suite);
        let paged = sealed.open().unwrap();
        let layout = paged.layout;
        let pages = layout.section(1).unwrap().start..layout.end();
        // The ends: nothing is opened.
        for bit in (0..pages.start * 8).step_by(41).chain((pages.end * 8..sealed.bytes() * 8).step_by(3)) {
            sealed.flip(bit);
            assert!(sealed.open().is_err(), "bit {bit}");
            sealed.flip(bit);
        }
        // Every bit of the two smallest pages.
        for number in [3, 4] {
            let section = layout.section(number).unwrap();
            let mut page = lock(&sealed.object)[section.start as usize..section.end as usize].to_vec();
            assert!(paged.open_page(number, &page).is_ok() && paged.open_page(number - 1, &page).is_err());
            for bit in 0..page.len() * 8 {
                page[bit / 8] ^= 1 << (bit % 8);
                assert!(paged.open_page(number, &page).is_err(), "bit {bit} of page {number}");
                page[bit / 8] ^= 1 << (bit % 8);
            }
        }
        // A damaged page is a gap, and nothing else is.
        for bit in (pages.start * 8..pages.end * 8).step_by(16_001) {
            sealed.flip(bit);
            let paged = sealed.open().unwrap();
            let mut lost = 0;
            for record in segment.chunks.iter().step_by(50) {
                let found = places(paged.lookup(&record.id).unwrap());
                lost += usize::from(found.is_empty());
                assert!(found.is_empty() || found == places(table.lookup(&record.id)), "bit {bit}");
            }
            assert!(paged.gap().unwrap().contains("index/sealed") && lost > 0, "bit {bit}");
            assert!(lost < 22 || bit / 8 >= layout.section(4).unwrap().start);
            sealed.flip(bit);
        }
        for cut in [0, 1, 100, 5000, sealed.bytes() - 1] {
            let object = lock(&sealed.object)[..cut as usize].to_vec();
            let short = Sealed { object: Arc::new(Mutex::new(object)), ..sealed.clone() };
            assert!(short.open().is_err_and(|error| error.kind() == ErrorKind::Corrupt));
        }
    }
}

#[test]
fn a_store_that_does_not_answer_is_no_missing_chunk() {
    let (segment, ring) = segment(30_000, 1_000_000);
    let (sealed, _) = Sealed::new(&segment, ring);
    let paged = sealed.open().unwrap();
    sealed.is_away.store(true, Ordering::Relaxed);
    assert!(paged.lookup(&id(5)).unwrap_err().is_retryable());
    assert!(sealed.open().unwrap_err().is_retryable());
    sealed.is_away.store(false, Ordering::Relaxed);
    assert_eq!(paged.lookup(&id(5)).unwrap().len(), 1);
    assert!(paged.gap().is_none());
}
