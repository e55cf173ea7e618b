use std::collections::HashSet;

use proptest::prelude::*;

use super::super::filter::build_filter;
use super::super::table::encode_table;
use super::super::{Condemned, Index};
use super::*;
use crate::chunker::DEFAULT_PARAMS;
use crate::crypto::KeyRing;
use crate::entropy::SystemEntropy;
use crate::format::envelope::{ObjectType, PackClass};
use crate::format::pack::{Codec, FrameShape};
use crate::format::segment::{ChunkRecord, FrameRecord, Segment, SegmentPack};

const PACKS: u8 = 6;
const ANY: Limits = Limits { table_chunks: 1, tables: 1, chunks: 1 };

/// Two ids each begin with the same eight bytes, so that nothing tells them apart but the whole.
fn id(number: u32) -> ChunkId {
    let hash = |number: u32| *blake3::hash(&number.to_le_bytes()).as_bytes();
    let mut id = hash(number);
    id[..8].copy_from_slice(&hash(number / 2)[..8]);
    ChunkId::from_bytes(id)
}

fn pack(number: u8) -> ObjectHash {
    ObjectHash::from_bytes([number; 32])
}

fn segment(chunks: &[(u32, u8)]) -> Segment {
    let ring = KeyRing::new([1; 16], DEFAULT_PARAMS, &SystemEntropy).unwrap();
    let shape = FrameShape { number: 0, raw_bytes: 1 << 20, stored_bytes: 100, codec: Codec::Zstd };
    let listed = |number| SegmentPack { class: PackClass::Data, hash: pack(number), bytes: 1 << 20 };
    let frame = |number| FrameRecord { pack: u32::from(number), offset: 98, header: 0, shape };
    let record = |(number, pack): &(u32, u8)| {
        let frame = u32::from(*pack % PACKS);
        ChunkRecord { id: id(*number), frame, offset: 0, bytes: 1 }
    };
    Segment {
        packs: (0..PACKS).map(listed).collect(),
        headers: vec![ring.header(ObjectType::DataPack)],
        frames: (0..PACKS).map(frame).collect(),
        chunks: chunks.iter().map(record).collect(),
        ..Segment::default()
    }
}

fn table(chunks: &[(u32, u8)]) -> Arc<Table> {
    let mut segment = segment(chunks);
    segment.chunks.sort_by_key(|record| record.id);
    Arc::new(Table::from_bytes(encode_table(&segment, &build_filter(&segment.chunks))).unwrap())
}

/// Tables with the names of their segments.
type Named = Vec<(ObjectHash, Arc<Table>)>;

fn named(tables: impl IntoIterator<Item = Arc<Table>>) -> Named {
    tables.into_iter().enumerate().map(|(number, table)| (pack(100 + number as u8), table)).collect()
}

fn index(tables: &Named, file: Option<ConcordanceFile>, limits: Limits) -> Index {
    let names = tables.iter().map(|(name, _)| *name).collect();
    Index::new(tables.iter().map(|(_, table)| table.clone()), Arc::default())
        .with_concordance(names, limits, file)
}

/// Writes the concordance of tables; gives the folder and the file's bytes.
fn write(tables: &Named, limits: Limits) -> (tempfile::TempDir, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let parts: Vec<Part> = tables.iter().map(|(_, table)| table.clone().into()).collect();
    let names: Vec<ObjectHash> = tables.iter().map(|(name, _)| *name).collect();
    let collation = Collation::of(&parts, &names, &limits);
    let mut file = File::create(folder.path().join("concordance")).unwrap();
    collation.write(&mut file, &CancelToken::new()).unwrap();
    let bytes = std::fs::read(folder.path().join("concordance")).unwrap();
    (folder, bytes)
}

fn open(folder: &tempfile::TempDir, bytes: &[u8]) -> Result<ConcordanceFile> {
    use std::os::unix::fs::PermissionsExt;
    let path = folder.path().join("opened");
    // A file that is mapped must not change, so each has its own.
    let _ = std::fs::remove_file(&path);
    std::fs::write(&path, bytes).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    ConcordanceFile::open(&path)
}

fn numbered(count: u32, per_table: u32) -> Named {
    let one = |first: u32| {
        let chunks: Vec<(u32, u8)> = (first..first + per_table).map(|it| (it, it as u8)).collect();
        table(&chunks)
    };
    named((0..count).map(|number| one(number * per_table)))
}

proptest! {
    /// With a concordance, of these tables or of others before, every lookup gives what it gives without.
    #[test]
    fn lookups_are_the_same_with_and_without(
        before in prop::collection::vec(prop::collection::vec((0..120u32, 0..PACKS), 0..90), 1..8),
        fates in prop::collection::vec(0..4u8, 8),
        added in prop::collection::vec(prop::collection::vec((0..120u32, 0..PACKS), 0..40), 0..3),
        condemned in prop::collection::hash_set(0..PACKS, 0..3),
        distrusted in prop::collection::hash_set(0..PACKS, 0..3),
        table_chunks in 1..40usize,
        turned in 0..8u8,
    ) {
        let limits = Limits { table_chunks, ..ANY };
        let mut tables = named(before.iter().map(|chunks| table(chunks)));
        let (folder, bytes) = write(&tables, limits);
        let mut fates = fates.iter();
        tables.retain(|_| fates.next() != Some(&0));
        let place = tables.len() / 2;
        for (number, chunks) in added.iter().enumerate() {
            tables.insert(place, (pack(200 + number as u8), table(chunks)));
        }
        if turned == 0 {
            tables.reverse();
        }
        let condemned: Condemned = condemned.iter().map(|number| (pack(*number), 1)).collect();
        let distrusted: HashSet<ObjectHash> = distrusted.iter().map(|number| pack(*number)).collect();
        let parts = || tables.iter().map(|(_, table)| table.clone());
        let plain = Index::new(parts(), Arc::new(condemned.clone())).with_distrusted(distrusted.clone());
        let names = tables.iter().map(|(name, _)| *name).collect();
        let file = open(&folder, &bytes).unwrap();
        prop_assert!(file.is_intact());
        let asking = Index::new(parts(), Arc::new(condemned))
            .with_distrusted(distrusted)
            .with_concordance(names, limits, Some(file));
        for number in 0..130 {
            let (plain, asking) = (plain.pack_of(&id(number)).unwrap(), asking.pack_of(&id(number)).unwrap());
            prop_assert_eq!(plain, asking, "chunk {}", number);
        }
    }
}

#[test]
fn a_concordance_answers_for_its_tables_alone() {
    let tables = numbered(4, 2000);
    let (folder, bytes) = write(&tables, ANY);
    assert!(bytes.len() < 8000 * 11 + 2048, "{} bytes", bytes.len());
    let concordance = |file| {
        let parts: Vec<Part> = tables.iter().map(|(_, table)| table.clone().into()).collect();
        let names: Vec<ObjectHash> = tables.iter().map(|(name, _)| *name).collect();
        Concordance::new(file, &parts, &names).unwrap()
    };
    let concordance = concordance(open(&folder, &bytes).unwrap());
    assert!(concordance.others.is_empty());
    for number in 0..16_000 {
        let answer = concordance.find(&id(number), |_| true);
        match answer {
            Answer::At(part, found) => {
                assert_eq!((part, found), (number as usize / 2000, pack(number as u8 % PACKS)));
            }
            Answer::Nowhere => assert!(number >= 8000),
            Answer::Unknown => panic!("chunk {number}"),
        }
    }
}

#[test]
fn a_chunk_that_is_listed_too_often_is_looked_for_in_the_tables() {
    let mut chunks: Vec<(u32, u8)> = vec![(7, 0); 200];
    chunks.push((7, 3));
    chunks.extend((100..400).map(|number| (number, 1)));
    let tables = named([table(&chunks), table(&[(7, 4), (8, 5)])]);
    let (folder, bytes) = write(&tables, ANY);
    let distrusted: HashSet<ObjectHash> = [pack(0)].into();
    let index = index(&tables, Some(open(&folder, &bytes).unwrap()), ANY).with_distrusted(distrusted);
    assert_eq!(index.pack_of(&id(7)).unwrap(), Some(pack(3)));
    assert_eq!(index.pack_of(&id(8)).unwrap(), Some(pack(5)));
    for number in 0..500 {
        let expected = matches!(number, 7 | 8 | 100..400);
        assert_eq!(index.pack_of(&id(number)).unwrap().is_some(), expected, "chunk {number}");
    }
}

#[test]
fn a_damaged_concordance_hides_chunks_at_worst() {
    let tables = numbered(4, 60);
    let (folder, bytes) = write(&tables, ANY);
    let plain = index(&tables, None, ANY);
    let mut hidden = 0;
    for position in 0..bytes.len() {
        for flip in [0xff, 0x01, 0x80] {
            let mut damaged = bytes.clone();
            damaged[position] ^= flip;
            let Ok(file) = open(&folder, &damaged) else {
                assert!(position < HEAD_BYTES + 4 * TABLE_BYTES, "byte {position}");
                continue;
            };
            assert!(!file.is_intact(), "byte {position}");
            let asking = index(&tables, Some(file), ANY);
            for number in (0..300).step_by(3) {
                let (asked, truth) =
                    (asking.pack_of(&id(number)).unwrap(), plain.pack_of(&id(number)).unwrap());
                assert!(asked.is_none() || asked == truth, "byte {position}, chunk {number}");
                hidden += usize::from(asked != truth);
            }
        }
    }
    assert!(hidden > 0);
    for length in (0..bytes.len()).chain([bytes.len() + 1, bytes.len() + LINE_BYTES]) {
        let mut cut = bytes.clone();
        cut.resize(length, 0xff);
        assert!(open(&folder, &cut).is_err(), "{length} bytes");
    }
    // What a file system leaves where it lost what was written.
    let mut zeros = bytes.clone();
    zeros[HEAD_BYTES + 4 * TABLE_BYTES..].fill(0);
    let asking = index(&tables, Some(open(&folder, &zeros).unwrap()), ANY);
    let is_sound = |asked: Option<ObjectHash>, truth| asked.is_none() || asked == truth;
    assert!((0..300).all(|it| is_sound(asking.pack_of(&id(it)).unwrap(), plain.pack_of(&id(it)).unwrap())));
}

#[test]
fn heads_that_promise_too_much_are_refused() {
    let (folder, bytes) = write(&numbered(2, 50), ANY);
    let forge = |tables: u32, homes: u64| {
        let mut forged = bytes.clone();
        forged[8..12].copy_from_slice(&tables.to_le_bytes());
        forged[12..20].copy_from_slice(&homes.to_le_bytes());
        let names = (HEAD_BYTES + tables as usize * TABLE_BYTES).next_multiple_of(LINE_BYTES);
        if let Some(names) = bytes.get(HEAD_BYTES..names) {
            let check = checksum(&[&forged[..COUNTS_BYTES], names]);
            forged[COUNTS_BYTES..COUNTS_BYTES + 20].copy_from_slice(&check[..20]);
        }
        open(&folder, &forged)
    };
    let homes = 100u64.div_ceil(SLOTS_FILLED);
    assert!(forge(2, homes).is_ok());
    for homes in [0, homes - 1, homes + 1, 1 << 58, u64::MAX - 6, u64::MAX] {
        assert!(forge(2, homes).is_err(), "{homes} homes");
    }
    for tables in [255, 256, u32::MAX] {
        assert!(forge(tables, homes).is_err(), "{tables} tables");
    }
}

#[test]
fn the_concordance_of_other_tables_finds_nothing_wrong() {
    let (folder, bytes) = write(&numbered(4, 100), ANY);
    // Tables of the same names that list other chunks, and fewer.
    let tables = named((0..4).map(|number| table(&[(number, 0), (900 + number, 1), (950, number as u8)])));
    let asking = index(&tables, Some(open(&folder, &bytes).unwrap()), ANY);
    let plain = index(&tables, None, ANY);
    for number in 0..1000 {
        let asked = asking.pack_of(&id(number)).unwrap();
        assert!(asked.is_none() || asked == plain.pack_of(&id(number)).unwrap(), "chunk {number}");
    }
    // Of no table that is there: it is not asked.
    let others: Named =
        tables.iter().enumerate().map(|(it, (_, table))| (pack(50 + it as u8), table.clone())).collect();
    let asking = index(&others, Some(open(&folder, &bytes).unwrap()), ANY);
    assert!(asking.concording.as_ref().unwrap().concordance().is_none());
    assert_eq!(asking.pack_of(&id(901)).unwrap(), Some(pack(1)));
}

#[test]
fn tables_are_collated_once_many_lookups_were_made() {
    let limits = Limits { table_chunks: 500, tables: 4, chunks: 4000 };
    let ids = |count: usize| (0..).map(id).filter(|id| id.as_bytes()[31] == 0).take(count);
    let due = |tables: &Named| {
        let index = index(tables, None, limits);
        let due = ids(100).position(|id| index.count_lookup(&id).is_some());
        (index, due.map(|lookups| (lookups as u64 + 1) * COUNTED_OF))
    };
    let tables = numbered(8, 1000);
    let (counting, lookups) = due(&tables);
    assert_eq!(lookups, Some(2048), "a quarter of 8,000");
    assert!(ids(100).all(|id| counting.count_lookup(&id).is_none()), "one caller is told, once");
    // Too few tables, too few chunks, too small tables, too few of a kind; names that nobody knows.
    for few in [numbered(3, 4000), numbered(7, 500), numbered(100, 499)] {
        assert_eq!(due(&few).1, None);
    }
    let unnamed = Index::new(tables.iter().map(|(_, table)| table.clone()), Arc::default());
    assert!(ids(100).all(|id| unnamed.count_lookup(&id).is_none()));
    // Where there is one, it takes four tables beside it.
    let (folder, bytes) = write(&tables, limits);
    let more = |count: u32| {
        let tables: Named =
            tables
                .iter()
                .cloned()
                .chain(numbered(count, 1000).into_iter().map(|(name, table)| {
                    (ObjectHash::from_bytes(name.as_bytes().map(|byte| byte + 50)), table)
                }))
                .collect();
        let index = index(&tables, Some(open(&folder, &bytes).unwrap()), limits);
        ids(100).find_map(|id| index.count_lookup(&id)).map(|collation| collation.chunks())
    };
    assert_eq!((more(0), more(3), more(4)), (None, None, Some(12_000)));
}

#[test]
fn what_is_out_of_order_or_cancelled_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut file = File::create(folder.path().join("concordance")).unwrap();
    let mut unsorted = segment(&(0..100).map(|number| (number, 0)).collect::<Vec<_>>());
    unsorted.chunks.sort_by_key(|record| Reverse(record.id));
    let unsorted = Table::from_bytes(encode_table(&unsorted, &[])).unwrap();
    let collation = Collation(named([Arc::new(unsorted)]));
    let error = collation.write(&mut file, &CancelToken::new()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    let cancel = CancelToken::new();
    cancel.cancel();
    let collation = Collation(numbered(1, CANCELLED_WITHIN as u32));
    assert_eq!(collation.write(&mut file, &cancel).unwrap_err().kind(), io::ErrorKind::Interrupted);
}

#[test]
fn an_empty_collation_is_a_concordance_of_nothing() {
    let (folder, bytes) = write(&Named::new(), ANY);
    let tables = numbered(1, 10);
    let asking = index(&tables, Some(open(&folder, &bytes).unwrap()), ANY);
    assert_eq!(asking.pack_of(&id(3)).unwrap(), Some(pack(3)));
}
