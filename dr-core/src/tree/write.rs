//! Writes directories and lists of references as tree chunks. Where a chunk ends depends on its content only, so that a
//! small change leaves most chunks as they were.

use super::entry::{ChunkRef, Entry, EntryKind, Stream};
use crate::error::Result;
use crate::format::tree::{encode_entries, encode_refs};

/// Streams keep this many references in their entry.
const INLINE_REFS_MAX: usize = 64;
/// A list of references ends after one whose id says so, but not before the minimum nor after the maximum.
const LIST_REFS_MIN: usize = 256;
const LIST_REFS_MAX: usize = 4096;
const LIST_CUT_MASK: u8 = 0xff;
/// The same for directories, in estimated bytes.
const ENTRIES_BYTES_MIN: usize = 16 << 10;
const ENTRIES_BYTES_MAX: usize = 256 << 10;
const ENTRIES_CUT_MASK: u8 = 0x7f;

/// Takes tree chunks.
pub(crate) trait TreeSink {
    /// Stores a chunk of the tree class, unless it is there.
    fn store_tree(&self, bytes: &[u8]) -> Result<ChunkRef>;
}

/// Makes a stream of the references of its chunks, in bounded memory.
#[derive(Debug, Default)]
pub(crate) struct StreamWriter {
    bytes: u64,
    levels: Vec<Vec<ChunkRef>>,
}

impl StreamWriter {
    pub(crate) fn push(&mut self, chunk: ChunkRef, sink: &dyn TreeSink) -> Result<()> {
        self.bytes += u64::from(chunk.bytes);
        self.push_at(0, chunk, sink)
    }

    fn push_at(&mut self, mut level: usize, mut chunk: ChunkRef, sink: &dyn TreeSink) -> Result<()> {
        loop {
            if self.levels.len() == level {
                self.levels.push(Vec::new());
            }
            let refs = &mut self.levels[level];
            refs.push(chunk);
            let says_so = chunk.id.as_bytes()[31] & LIST_CUT_MASK == 0;
            if !(says_so && refs.len() >= LIST_REFS_MIN || refs.len() >= LIST_REFS_MAX) {
                return Ok(());
            }
            chunk = sink.store_tree(&encode_refs(&std::mem::take(refs)))?;
            level += 1;
        }
    }

    pub(crate) fn finish(mut self, sink: &dyn TreeSink) -> Result<Stream> {
        let mut level = 0;
        loop {
            let is_top = level + 1 >= self.levels.len();
            let refs = self.levels.get_mut(level).map(std::mem::take).unwrap_or_default();
            if is_top && refs.len() <= INLINE_REFS_MAX {
                return Ok(Stream { bytes: self.bytes, level: level as u8, chunks: refs });
            }
            if !refs.is_empty() {
                let list = sink.store_tree(&encode_refs(&refs))?;
                self.push_at(level + 1, list, sink)?;
            }
            level += 1;
        }
    }
}

/// Writes a directory's entries, which come in ascending order of name.
#[derive(Debug, Default)]
pub(crate) struct DirectoryWriter {
    entries: Vec<Entry>,
    entries_bytes: usize,
    stream: StreamWriter,
}

impl DirectoryWriter {
    pub(crate) fn push(&mut self, entry: Entry, sink: &dyn TreeSink) -> Result<()> {
        self.entries_bytes += estimated_bytes(&entry);
        let says_so = || blake3::hash(&entry.name).as_bytes()[0] & ENTRIES_CUT_MASK == 0;
        let ends =
            self.entries_bytes >= ENTRIES_BYTES_MAX || self.entries_bytes >= ENTRIES_BYTES_MIN && says_so();
        self.entries.push(entry);
        if ends { self.flush(sink) } else { Ok(()) }
    }

    fn flush(&mut self, sink: &dyn TreeSink) -> Result<()> {
        let entries = std::mem::take(&mut self.entries);
        self.entries_bytes = 0;
        let chunk = sink.store_tree(&encode_entries(&entries))?;
        self.stream.push(chunk, sink)
    }

    /// The stream that holds the directory; an empty directory is an empty stream.
    pub(crate) fn finish(mut self, sink: &dyn TreeSink) -> Result<Stream> {
        if !self.entries.is_empty() {
            self.flush(sink)?;
        }
        self.stream.finish(sink)
    }
}

fn estimated_bytes(entry: &Entry) -> usize {
    let kind = match &entry.kind {
        EntryKind::File(content) => content.stream.chunks.len() * 36,
        EntryKind::Directory(stream) => stream.chunks.len() * 36,
        EntryKind::Symlink(target) => target.len(),
        _ => 8,
    };
    let xattrs: usize =
        entry.metadata.xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len() + 4).sum();
    let owners = [&entry.metadata.user, &entry.metadata.group];
    let owners: usize = owners.into_iter().flatten().map(|name| name.len()).sum();
    64 + entry.name.len() + kind + xattrs + owners
}

/// Stores bytes that belong to the metadata (extents, problems) as a stream of tree chunks, one for each part.
pub(crate) fn store_bytes(parts: impl Iterator<Item = Vec<u8>>, sink: &dyn TreeSink) -> Result<Stream> {
    let mut stream = StreamWriter::default();
    for part in parts {
        let chunk = sink.store_tree(&part)?;
        stream.push(chunk, sink)?;
    }
    stream.finish(sink)
}
