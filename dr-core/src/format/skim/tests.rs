use proptest::prelude::*;
use proptest::sample::Index;

use super::*;
use crate::format::body::{self, CRITICAL, Extension};
use crate::format::tree::encode_entries;
use crate::tree::{Entry, EntryKind, FileContent, Metadata, SparseMap, Xattr};

fn stream() -> impl Strategy<Value = Stream> {
    let chunk = (any::<u8>(), prop_oneof![1u32..300, 60_000u32..(1 << 20)]);
    (prop::collection::vec(chunk, 0..4), prop_oneof![4 => Just(0u8), 1 => 1u8..4]).prop_map(
        |(chunks, level)| {
            let bytes = chunks.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
            let chunk = |(number, bytes)| ChunkRef { id: ChunkId::from_bytes([number; 32]), bytes };
            Stream { bytes, level, chunks: chunks.into_iter().map(chunk).collect() }
        },
    )
}

fn kind() -> impl Strategy<Value = EntryKind> {
    let file = |stream: Stream| FileContent::new(stream.bytes, stream, None);
    let holes = |stream: Stream| {
        let extent = Extent { offset: 7, bytes: stream.bytes };
        let extents = if stream.bytes > 0 { vec![extent] } else { Vec::new() };
        FileContent::new(stream.bytes + 70_000, stream, Some(SparseMap::Inline(extents)))
    };
    prop_oneof![
        stream().prop_map(move |stream| EntryKind::File(file(stream))),
        stream().prop_map(move |stream| EntryKind::File(holes(stream))),
        (stream(), stream()).prop_map(|(stream, extents)| {
            EntryKind::File(FileContent::new(1 << 40, stream, Some(SparseMap::Stream(extents))))
        }),
        stream().prop_map(EntryKind::Directory),
        prop::collection::vec(1u8.., 1..9).prop_map(EntryKind::Symlink),
        any::<u64>().prop_map(EntryKind::CharacterDevice),
        any::<u64>().prop_map(EntryKind::BlockDevice),
        Just(EntryKind::Fifo),
        Just(EntryKind::Socket),
    ]
}

fn metadata() -> impl Strategy<Value = Metadata> {
    let numbers = (0u32..0o10000, any::<u32>(), any::<i64>(), 0u32..1_000_000_000, any::<u64>());
    (numbers, any::<bool>(), prop::collection::vec((1u8.., any::<u8>()), 0..3)).prop_map(
        |((mode, owner, seconds, nanoseconds, inode), is_known, xattrs)| {
            let mut metadata = Metadata { mode, uid: owner, gid: owner / 7, inode, ..Metadata::default() };
            (metadata.modified.seconds, metadata.modified.nanoseconds) = (seconds, nanoseconds);
            metadata.user = is_known.then(|| "somebody".into());
            metadata.created = is_known.then_some(metadata.modified);
            metadata.racy = is_known;
            let xattr = |(name, value)| Xattr { name: vec![name; 3], value: vec![value; 260] };
            metadata.xattrs = xattrs.into_iter().map(xattr).collect();
            metadata
        },
    )
}

fn run() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::btree_map("[a-z]{1,3}", (kind(), metadata()), 0..5).prop_map(|entries| {
        let entry = |(name, (kind, metadata)): (String, _)| Entry::new(name, kind, metadata);
        encode_entries(&entries.into_iter().map(entry).collect::<Vec<_>>())
    })
}

proptest! {
    #[test]
    fn a_run_refers_to_the_same_however_it_is_read(
        run in run(),
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..3),
        cut in any::<Index>(),
    ) {
        prop_assert!(References::default().skim(&run).is_ok());
        prop_assert!(skims_alike(&run));
        let mut changed = run.clone();
        for (place, byte) in changes {
            let place = place.index(changed.len());
            changed[place] = byte;
            prop_assert!(skims_alike(&changed));
        }
        prop_assert!(skims_alike(&run[..cut.index(run.len())]));
        changed.push(0);
        prop_assert!(skims_alike(&changed));
    }
}

#[test]
fn extensions_are_refused_where_they_must_be_understood() {
    for (tag, is_refused) in [(1, false), (300, false), (CRITICAL, true), (CRITICAL | 9, true)] {
        let extension = Extension { tag, bytes: vec![1; 3] };
        let nothing: [[u8; 0]; 0] = [];
        let run = body::encode_with(&(&nothing[..], &nothing[..], &nothing[..]), &[extension]);
        assert!(skims_alike(&run));
        assert_eq!(References::default().skim(&run).is_err(), is_refused);
    }
}

#[test]
fn claimed_numbers_of_elements_allocate_nothing() {
    for place in 2..5 {
        let mut run = vec![1, 0, 0, 0, 0];
        run.truncate(place);
        run.push(253);
        run.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(References::default().skim(&run).is_err() && skims_alike(&run));
    }
}
