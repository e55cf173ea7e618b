//! A file that is being read: where its data lies, and how it was read so far.

use std::sync::Mutex;

use super::View;
use super::ahead::Ahead;
use crate::error::{Error, Result};
use crate::observer::lock;
use crate::repository::ChunkReader;
use crate::tree::{ChunkRef, Extent, FileContent, Placed, StreamMap, read_extents};

/// What a file that is open takes at least, in bytes: its runs of references, mostly.
const HELD_BYTES_MIN: usize = 256 << 10;
/// The most chunks that are fetched ahead at a time.
const FETCHED_CHUNKS_MAX: usize = 4096;

/// An open file.
pub(super) struct OpenFile {
    /// For a file with holes: its extents, and where in the stream each begins.
    extents: Option<Vec<(Extent, u64)>>,
    /// The stream's length.
    bytes: u64,
    map: Mutex<StreamMap>,
    /// Held while something is fetched ahead: whoever else wants some of it waits.
    ahead: Mutex<Ahead>,
}

impl OpenFile {
    pub(super) fn open(content: &FileContent, reader: &ChunkReader<'_>) -> Result<OpenFile> {
        let extents = read_extents(content, reader)?.map(|extents| {
            let mut start = 0;
            let mut placed = Vec::with_capacity(extents.len());
            for extent in extents {
                placed.push((extent, start));
                start += extent.bytes;
            }
            placed
        });
        Ok(OpenFile {
            extents,
            bytes: content.stream.bytes,
            map: Mutex::new(StreamMap::new(&content.stream)),
            ahead: Mutex::default(),
        })
    }

    /// How much memory it takes, about.
    pub(super) fn held(&self) -> usize {
        HELD_BYTES_MIN + self.extents.as_ref().map_or(0, |extents| size_of_val(extents.as_slice()))
    }

    /// Fills the buffer with the file's bytes from `offset` on; there are as many.
    pub(super) fn read(&self, view: &View, offset: u64, buffer: &mut [u8]) -> Result<()> {
        let Some(extents) = &self.extents else {
            return self.read_stream(view, offset, buffer);
        };
        let end = offset + buffer.len() as u64;
        buffer.fill(0);
        let first = extents.partition_point(|(extent, _)| extent.offset + extent.bytes <= offset);
        for (extent, start) in extents.iter().skip(first).take_while(|(extent, _)| extent.offset < end) {
            let from = extent.offset.max(offset);
            let to = (extent.offset + extent.bytes).min(end);
            let part = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            self.read_stream(view, start + (from - extent.offset), part)?;
        }
        Ok(())
    }

    /// Fills the buffer with the stream's bytes from `offset` on; there are as many.
    fn read_stream(&self, view: &View, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.fetch_ahead(view, offset, buffer.len() as u64);
        let (mut rest, mut offset) = (buffer, offset);
        while !rest.is_empty() {
            let Placed { start, chunk } = {
                let (run, number) = lock(&self.map).find(offset, &view.reader)?;
                run[number]
            };
            let bytes = view.chunk(&chunk)?;
            let part = bytes.get((offset - start) as usize..).unwrap_or_default();
            let count = part.len().min(rest.len());
            if count == 0 {
                return Err(Error::corrupt("a chunk is shorter than it says"));
            }
            let (now, later) = rest.split_at_mut(count);
            now.copy_from_slice(&part[..count]);
            (rest, offset) = (later, offset + count as u64);
        }
        Ok(())
    }

    fn fetch_ahead(&self, view: &View, offset: u64, bytes: u64) {
        let mut ahead = lock(&self.ahead);
        let Some(range) = ahead.note(offset..offset + bytes) else { return };
        let (mut chunks, mut at): (Vec<ChunkRef>, u64) = (Vec::new(), range.start);
        let end = range.end.min(self.bytes);
        while at < end && chunks.len() < FETCHED_CHUNKS_MAX {
            // What cannot be found is an error of the read that asks for it.
            let Ok((run, number)) = lock(&self.map).find(at, &view.reader) else { break };
            let wanted = run[number..].iter().take_while(|placed| placed.start < end);
            chunks.extend(wanted.map(|placed| placed.chunk));
            at = run.last().map_or(end, Placed::end);
        }
        view.fetch(&chunks);
    }
}
