//! Packs, and the index segments that list them.

use dr_core::ChunkId;
use dr_core::internals::{self, Class, ForgedFrame};

use super::case::{Case, cases, to_hex, write};
use super::{keys, keys_of_suite_2};

#[test]
fn packs_open_as_written() {
    for case in cases("pack.txt") {
        let class = if case.text("class") == "data" { Class::Data } else { Class::Tree };
        let (fields, raws) = keys().open_pack(class, &case.hex("bytes")).unwrap();
        assert_eq!(fields, case.expected());
        let raws: Vec<String> = raws.iter().map(|raw| to_hex(raw)).collect();
        assert_eq!(raws, case.all("raw").collect::<Vec<_>>());
        case.assert_rejects(|bytes| keys().open_pack(class, bytes).is_ok());
    }
}

#[test]
fn segments_open_as_written() {
    for case in cases("segment.txt") {
        let (fields, table) = keys().open_segment(&case.hex("bytes")).unwrap();
        assert_eq!(fields, case.expected());
        let ids: Vec<ChunkId> = fields
            .iter()
            .filter(|(name, _)| name.starts_with("chunk."))
            .map(|(_, value)| ChunkId::from_hex(&value[..64]).unwrap())
            .collect();
        assert!(internals::look_up(table, &ids).unwrap().iter().all(|places| *places == 1));
        case.assert_rejects(|bytes| keys().open_segment(bytes).is_ok());
    }
}

/// True frames, every other one compressed.
fn frames(count: u32, chunks_each: u32) -> Vec<ForgedFrame> {
    let chunk = |frame: u32, number: u32| format!("{frame} {number};").into_bytes();
    let frame = |frame: u32| {
        let chunks: Vec<Vec<u8>> = (0..chunks_each).map(|number| chunk(frame, number)).collect();
        let raw = chunks.concat();
        ForgedFrame {
            is_zstd: frame % 2 == 1,
            raw_bytes: raw.len() as u32,
            bytes: if frame % 2 == 1 { zstd_of(&raw) } else { raw },
            chunks: chunks
                .iter()
                .map(|chunk| (keys().chunk_id(Class::Data, chunk).unwrap(), chunk.len() as u32))
                .collect(),
        }
    };
    (0..count).map(frame).collect()
}

/// A zstd frame of one raw block: RFC 8878.
fn zstd_of(raw: &[u8]) -> Vec<u8> {
    let block = (1 | (raw.len() as u32) << 3).to_le_bytes();
    [&[0x28, 0xb5, 0x2f, 0xfd, 0xa0][..], &(raw.len() as u32).to_le_bytes(), &block[..3], raw].concat()
}

pub(super) fn write_all() {
    let first = keys().seal_pack(Class::Data, frames(3, 4)).unwrap();
    let second = keys().seal_pack(Class::Data, frames(1, 2)).unwrap();
    // A copy of a copy keeps the header that it was sealed under first.
    let third = keys().seal_pack_with_copies(Class::Data, frames(2, 1), &[second, first.clone()]).unwrap();
    let copies = keys().seal_pack_with_copies(Class::Data, Vec::new(), &[third]).unwrap();
    let packs = [
        ("three frames", first.clone()),
        ("copies of frames of three packs", copies),
        ("three frames, suite 2", keys_of_suite_2().seal_pack(Class::Data, frames(3, 4)).unwrap()),
        ("frames of both suites", {
            keys_of_suite_2().seal_pack_with_copies(Class::Data, frames(2, 1), &[first]).unwrap()
        }),
    ];
    let cases = packs.map(|(title, bytes)| {
        let (fields, raws) = keys().open_pack(Class::Data, &bytes).unwrap();
        let case = Case::new(title).with("class", "data").with_hex("bytes", &bytes).meaning(fields);
        let case = raws.iter().fold(case, |case, raw| case.with_hex("raw", raw));
        // Header, commitment, frames are left to the frames' own tags; padding, footer, trailer.
        ["flip 72", "flip 600", "flip 8000", "flip 522000", "flip 524287", "truncate 65535", "append 00"]
            .into_iter()
            .fold(case, |case, reject| case.with("reject", reject))
    });
    write("pack.txt", "Packs under the keys of derivations.txt: FORMAT.md, section 8.", &cases);
    let mut cases = Vec::new();
    for (title, count, chunks, keys) in [
        ("without a filter", 2, 3, keys()),
        ("with a filter", 26, 10, keys()),
        ("without a filter, suite 2", 2, 3, keys_of_suite_2()),
        ("with a filter, suite 2", 26, 10, keys_of_suite_2()),
    ] {
        let (bytes, ..) = keys.seal_segment(Class::Data, frames(count, chunks)).unwrap();
        let (fields, _) = keys.open_segment(&bytes).unwrap();
        let case = Case::new(title).with_hex("bytes", &bytes).meaning(fields);
        let last = bytes.len() * 8 - 1;
        let rejects = [72, 600, 800, last / 2, last - 600, last].map(|bit| format!("flip {bit}"));
        let case = rejects.iter().fold(case, |case, reject| case.with("reject", reject));
        cases.push(case.with("reject", "truncate 100").with("reject", "append 00"));
    }
    write("segment.txt", "Index segments under the keys of derivations.txt: FORMAT.md, section 9.", &cases);
}
