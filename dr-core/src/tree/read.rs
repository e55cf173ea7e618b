//! Reads directories and streams back, one chunk at a time.

use std::cell::RefCell;

use super::entry::{ChunkRef, Entry, Extent, FileContent, SparseMap, Stream};
use crate::error::{Error, Result};
use crate::format::FormatError;
use crate::format::tree::{
    check_extents, check_known_refs, decode_entries, decode_extents, decode_known_entries, decode_known_refs,
    decode_refs,
};
use crate::limits::STREAM_LEVELS_MAX;

/// The longest list of extents that is read, in bytes: 4 million extents.
const EXTENTS_BYTES_MAX: u64 = 64 << 20;

/// Gives tree chunks.
pub(crate) trait ReadChunk {
    /// Reads and verifies a chunk of the tree class.
    fn read_tree(&self, chunk: &ChunkRef) -> Result<Vec<u8>>;
}

/// Reads lists of chunks, and notes which: whoever walks a stream so learns of the lists above it. It is for those who write
/// or collect: a list that only a newer program understands is refused.
pub(crate) struct NotingReader<'r> {
    reader: &'r dyn ReadChunk,
    read: RefCell<Vec<ChunkRef>>,
}

impl<'r> NotingReader<'r> {
    pub(crate) fn new(reader: &'r dyn ReadChunk) -> NotingReader<'r> {
        NotingReader { reader, read: RefCell::default() }
    }

    /// The chunks that were read since the last call.
    pub(crate) fn take(&self) -> Vec<ChunkRef> {
        self.read.take()
    }
}

impl ReadChunk for NotingReader<'_> {
    fn read_tree(&self, chunk: &ChunkRef) -> Result<Vec<u8>> {
        self.read.borrow_mut().push(*chunk);
        let bytes = self.reader.read_tree(chunk)?;
        check_known_refs(&bytes)?;
        Ok(bytes)
    }
}

/// The references of a stream's bytes, in order. A list that cannot be read is an error in its place.
pub(crate) fn stream_chunks<'a>(
    stream: &Stream,
    reader: &'a dyn ReadChunk,
) -> impl Iterator<Item = Result<ChunkRef>> + use<'a> {
    chunks_through(stream, reader, decode_refs)
}

/// The same for who writes by them: a list that only a newer program understands is an error.
pub(crate) fn known_stream_chunks<'a>(
    stream: &Stream,
    reader: &'a dyn ReadChunk,
) -> impl Iterator<Item = Result<ChunkRef>> + use<'a> {
    chunks_through(stream, reader, decode_known_refs)
}

type Decode<T> = fn(&[u8]) -> std::result::Result<Vec<T>, FormatError>;

fn chunks_through<'a>(
    stream: &Stream,
    reader: &'a dyn ReadChunk,
    decode: Decode<ChunkRef>,
) -> impl Iterator<Item = Result<ChunkRef>> + use<'a> {
    let mut levels = vec![(stream.level.min(STREAM_LEVELS_MAX), stream.chunks.clone().into_iter())];
    let mut left = stream.bytes;
    std::iter::from_fn(move || {
        loop {
            let (level, refs) = levels.last_mut()?;
            let level = *level;
            let Some(chunk) = refs.next() else {
                levels.pop();
                continue;
            };
            if level == 0 {
                // Lists may repeat one another: without an end to the bytes a few of them would never end.
                let Some(rest) = left.checked_sub(u64::from(chunk.bytes)) else {
                    levels.clear();
                    return Some(Err(Error::corrupt("a stream is longer than it says")));
                };
                left = rest;
                return Some(Ok(chunk));
            }
            match reader.read_tree(&chunk).and_then(|bytes| Ok(decode(&bytes)?)) {
                Ok(refs) => levels.push((level - 1, refs.into_iter())),
                Err(error) => return Some(Err(error)),
            }
        }
    })
}

/// Reads a whole stream of tree chunks, which must be no longer than `bytes_max`.
pub(crate) fn read_stream(stream: &Stream, bytes_max: u64, reader: &dyn ReadChunk) -> Result<Vec<u8>> {
    if stream.bytes > bytes_max {
        return Err(Error::corrupt("a stream of metadata is longer than the format allows"));
    }
    let mut bytes = Vec::new();
    for chunk in stream_chunks(stream, reader) {
        bytes.extend_from_slice(&reader.read_tree(&chunk?)?);
        if bytes.len() as u64 > stream.bytes {
            break;
        }
    }
    if bytes.len() as u64 == stream.bytes {
        Ok(bytes)
    } else {
        Err(Error::corrupt("a stream is not as long as it says"))
    }
}

/// Reads where the data of a file with holes lies; nothing for one that has none.
pub(crate) fn read_extents(content: &FileContent, reader: &dyn ReadChunk) -> Result<Option<Vec<Extent>>> {
    let extents = match &content.sparse {
        None => return Ok(None),
        Some(SparseMap::Inline(extents)) => extents.clone(),
        Some(SparseMap::Stream(stream)) => decode_extents(&read_stream(stream, EXTENTS_BYTES_MAX, reader)?)?,
    };
    check_extents(&extents, content.stream.bytes, content.bytes)?;
    Ok(Some(extents))
}

/// Reads a directory's entries in order, one tree chunk at a time.
pub(crate) struct DirectoryReader<'a> {
    reader: &'a dyn ReadChunk,
    chunks: Box<dyn Iterator<Item = Result<ChunkRef>> + 'a>,
    decode: Decode<Entry>,
    entries: std::vec::IntoIter<Entry>,
    last: Vec<u8>,
}

impl<'a> DirectoryReader<'a> {
    pub(crate) fn new(stream: &Stream, reader: &'a dyn ReadChunk) -> DirectoryReader<'a> {
        DirectoryReader {
            reader,
            chunks: Box::new(stream_chunks(stream, reader)),
            decode: decode_entries,
            entries: Vec::new().into_iter(),
            last: Vec::new(),
        }
    }

    /// The same for who writes by the entries: what only a newer program understands is an error.
    pub(crate) fn of_known(stream: &Stream, reader: &'a dyn ReadChunk) -> DirectoryReader<'a> {
        DirectoryReader {
            reader,
            chunks: Box::new(known_stream_chunks(stream, reader)),
            decode: decode_known_entries,
            entries: Vec::new().into_iter(),
            last: Vec::new(),
        }
    }

    /// How many entries are decoded and not yet taken.
    pub(crate) fn held(&self) -> usize {
        self.entries.len()
    }

    fn next_chunk(&mut self, chunk: Result<ChunkRef>) -> Result<()> {
        let entries = (self.decode)(&self.reader.read_tree(&chunk?)?)?;
        let goes_on = entries.first().is_some_and(|first| first.name > self.last);
        if !goes_on {
            // Whoever wrote this wrote it on purpose; what follows could go on for ever.
            self.chunks = Box::new(std::iter::empty());
            return Err(Error::corrupt("a directory's names are not sorted"));
        }
        if let Some(last) = entries.last() {
            self.last.clone_from(&last.name);
        }
        self.entries = entries.into_iter();
        Ok(())
    }
}

impl Iterator for DirectoryReader<'_> {
    type Item = Result<Entry>;

    /// The next entry; an error stands for the entries of one tree chunk.
    fn next(&mut self) -> Option<Result<Entry>> {
        loop {
            if let Some(entry) = self.entries.next() {
                return Some(Ok(entry));
            }
            let chunk = self.chunks.next()?;
            if let Err(error) = self.next_chunk(chunk) {
                return Some(Err(error));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::memory::Chunks;
    use super::super::{DirectoryWriter, EntryKind, Metadata, StreamWriter};
    use super::*;
    use crate::id::ChunkId;

    fn refs(count: u32) -> Vec<ChunkRef> {
        (0..count)
            .map(|n| ChunkRef {
                id: ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes()),
                bytes: 1,
            })
            .collect()
    }

    #[test]
    fn streams_of_any_length_give_their_references_back() {
        for count in [0, 1, 64, 65, 255, 256, 4096, 100_000, 1_500_000] {
            let chunks = Chunks::default();
            let mut writer = StreamWriter::default();
            let refs = refs(count);
            for chunk in &refs {
                writer.push(*chunk, &chunks).unwrap();
            }
            let stream = writer.finish(&chunks).unwrap();
            assert_eq!(stream.bytes, u64::from(count));
            assert!(
                stream.chunks.len() <= 64,
                "{count}: {} references at level {}",
                stream.chunks.len(),
                stream.level
            );
            let read: Vec<_> = stream_chunks(&stream, &chunks).collect::<Result<_>>().unwrap();
            assert!(read == refs, "{count}");
        }
    }

    #[test]
    fn a_huge_directory_changes_in_few_chunks() {
        let chunks = Chunks::default();
        let write = |skip: usize| {
            let mut writer = DirectoryWriter::default();
            for number in (0..100_000).filter(|number| *number != skip) {
                let entry = Entry::new(format!("{number:08}"), EntryKind::Fifo, Metadata::default());
                writer.push(entry, &chunks).unwrap();
            }
            writer.finish(&chunks).unwrap()
        };
        let whole = write(usize::MAX);
        let before = chunks.0.borrow().len();
        let without = write(50_000);
        let added = chunks.0.borrow().len() - before;
        assert!(added <= 3, "one entry less made {added} new chunks");
        let names = |stream| {
            DirectoryReader::new(stream, &chunks).map(|entry| entry.unwrap().name).collect::<Vec<_>>()
        };
        assert_eq!(names(&whole).len(), 100_000);
        assert_eq!(names(&without).len(), 99_999);
        assert!(names(&whole).is_sorted());
    }
}
