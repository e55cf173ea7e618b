use std::collections::BTreeSet;

use super::super::memory::Chunks;
use super::super::{DirectoryWriter, Entry, EntryKind, FileContent, Metadata, SparseMap, StreamWriter};
use super::*;
use crate::id::ChunkId;

/// Notes what it is given.
#[derive(Default)]
struct Kept {
    data: BTreeSet<ChunkId>,
    tree: BTreeSet<ChunkId>,
    entered: Vec<ChunkId>,
    /// The most references that it was given at a time.
    most: usize,
}

impl KeepChunks for Kept {
    fn keep(&mut self, class: PackClass, chunks: &[ChunkRef]) -> Result<()> {
        self.most = self.most.max(chunks.len());
        let into = if class == PackClass::Data { &mut self.data } else { &mut self.tree };
        into.extend(chunks.iter().map(|chunk| chunk.id));
        Ok(())
    }

    fn enter(&mut self, runs: &[ChunkRef], new: &mut Vec<ChunkRef>) -> Result<()> {
        self.keep(PackClass::Tree, runs)?;
        for run in runs.iter().filter(|run| !self.entered.contains(&run.id)).collect::<Vec<_>>() {
            self.entered.push(run.id);
            new.push(*run);
        }
        Ok(())
    }
}

fn chunk(number: u32) -> ChunkRef {
    ChunkRef { id: ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes()), bytes: 1 }
}

fn content(numbers: std::ops::Range<u32>, chunks: &Chunks) -> Stream {
    let mut writer = StreamWriter::default();
    numbers.for_each(|number| writer.push(chunk(number), chunks).unwrap());
    writer.finish(chunks).unwrap()
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    Entry::new(name, kind, Metadata::default())
}

fn file(name: &str, stream: Stream) -> Entry {
    entry(name, EntryKind::File(FileContent::new(stream.bytes, stream, None)))
}

fn directory(entries: Vec<Entry>, chunks: &Chunks) -> Stream {
    let mut writer = DirectoryWriter::default();
    entries.into_iter().for_each(|entry| writer.push(entry, chunks).unwrap());
    writer.finish(chunks).unwrap()
}

fn keep(root: &Stream, chunks: &Chunks) -> Kept {
    let cancel = CancelToken::new();
    let mut keeper = TreeKeeper::new(chunks, Kept::default(), &cancel);
    keeper.keep_tree(root).unwrap();
    keeper.keeper
}

#[test]
fn everything_below_is_kept_and_each_run_is_read_once() {
    let chunks = Chunks::default();
    let shared = directory(vec![file("x", content(0..3, &chunks))], &chunks);
    let many = (0..20_000).map(|number| file(&format!("{number:05}"), content(number..number + 1, &chunks)));
    let many = directory(many.collect(), &chunks);
    let root = directory(
        vec![
            entry("a", EntryKind::Directory(shared.clone())),
            entry("b", EntryKind::Directory(many)),
            entry("c", EntryKind::Directory(shared)),
            file("d", content(30_000..50_000, &chunks)),
        ],
        &chunks,
    );
    let kept = keep(&root, &chunks);
    let data: BTreeSet<ChunkId> = (0..20_000).chain(30_000..50_000).map(|number| chunk(number).id).collect();
    assert!(kept.data == data);
    assert!(kept.tree == chunks.0.borrow().keys().copied().collect());
    assert!(kept.most <= 2 * REFERENCES_STEP, "{} references at a time", kept.most);
}

#[test]
fn a_run_that_is_kept_as_something_else_is_still_looked_at() {
    let chunks = Chunks::default();
    let below = directory(vec![file("x", content(0..1, &chunks))], &chunks);
    let trap = FileContent::new(9, Stream::default(), Some(SparseMap::Stream(below.clone())));
    let entries = vec![entry("a", EntryKind::File(trap)), entry("b", EntryKind::Directory(below))];
    assert!(keep(&directory(entries, &chunks), &chunks).data.contains(&chunk(0).id));
}

#[test]
fn whoever_cancels_is_heard_within_a_long_stream() {
    let chunks = Chunks::default();
    let stream = content(0..100_000, &chunks);
    let cancel = CancelToken::new();
    let mut keeper = TreeKeeper::new(&chunks, Kept::default(), &cancel);
    cancel.cancel();
    keeper.keep_stream(PackClass::Data, &stream).unwrap_err();
    assert!(keeper.keeper.data.is_empty());
}
