//! The window: chunks of small files are gathered and framed in order of extension and name, so that alike things
//! compress against one another. Memory is bounded by the window, whatever the number of files.

use crate::format::envelope::PackClass;
use crate::frame::FRAME_TARGET_BYTES;
use crate::id::ChunkId;

/// Chunks in a window, and in a frame: tiny files are bounded by these, so that no pack holds more than it may.
const WINDOW_CHUNKS: usize = 32 << 10;
const FRAME_CHUNKS: usize = 4096;

const _: () = assert!(FRAME_CHUNKS <= crate::limits::PACK_CHUNKS_MAX as usize);

/// A frame to be compressed: some of a window's chunks, in the order they are to stand in.
#[derive(Debug)]
pub(crate) struct FrameJob {
    pub(crate) class: PackClass,
    chunks: Vec<(ChunkId, Vec<u8>)>,
}

impl FrameJob {
    /// The raw bytes of the frame, put together in `buffer`, and the list of its chunks.
    pub(crate) fn gather(self, buffer: &mut Vec<u8>) -> Vec<(ChunkId, u32)> {
        buffer.clear();
        // Each chunk's memory is free as soon as it is copied: the next window takes it.
        self.chunks
            .into_iter()
            .map(|(id, chunk)| {
                buffer.extend_from_slice(&chunk);
                (id, chunk.len() as u32)
            })
            .collect()
    }
}

/// A window that is being filled.
#[derive(Debug)]
pub(crate) struct Window {
    /// Raw bytes that it gathers.
    bytes_max: usize,
    bytes: usize,
    chunks: Vec<(SortKey, ChunkId, Vec<u8>)>,
}

/// Extension, then name.
type SortKey = (Box<[u8]>, Box<[u8]>);

impl Window {
    /// An empty window of so many raw bytes.
    pub(crate) fn new(bytes_max: usize) -> Window {
        Window { bytes_max, bytes: 0, chunks: Vec::new() }
    }

    /// Adds a chunk of the file `name`; gives the frames of the window where it is full.
    pub(crate) fn add(&mut self, id: ChunkId, name: &[u8], chunk: Vec<u8>) -> Vec<FrameJob> {
        let extension = name.iter().rposition(|byte| *byte == b'.').map_or(&[][..], |dot| &name[dot..]);
        self.bytes += chunk.len();
        self.chunks.push(((extension.into(), name.into()), id, chunk));
        if self.bytes >= self.bytes_max || self.chunks.len() >= WINDOW_CHUNKS {
            self.take(PackClass::Data, FRAME_TARGET_BYTES)
        } else {
            Vec::new()
        }
    }

    /// Empties the window into frames.
    pub(crate) fn take(&mut self, class: PackClass, target_bytes: usize) -> Vec<FrameJob> {
        let mut chunks = std::mem::take(&mut self.chunks);
        self.bytes = 0;
        chunks.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        let mut frames: Vec<FrameJob> = Vec::new();
        let mut frame_bytes = usize::MAX;
        for (_, id, chunk) in chunks {
            let is_full = frames.last().is_some_and(|frame| frame.chunks.len() >= FRAME_CHUNKS);
            if is_full || frame_bytes.saturating_add(chunk.len()) > target_bytes {
                frames.push(FrameJob { class, chunks: Vec::new() });
                frame_bytes = 0;
            }
            frame_bytes += chunk.len();
            if let Some(frame) = frames.last_mut() {
                frame.chunks.push((id, chunk));
            }
        }
        frames
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Adds a chunk that stays in the order in which it came.
    pub(crate) fn add_in_order(&mut self, id: ChunkId, chunk: Vec<u8>) {
        self.bytes += chunk.len();
        self.chunks.push(((Box::default(), Box::default()), id, chunk));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alike_names_share_a_frame_and_nothing_is_lost() {
        let mut window = Window::new(8 << 20);
        let id = |n: u8| ChunkId::from_bytes([n; 32]);
        for (number, name) in [(1, "b.rs"), (2, "x.png"), (3, "a.rs"), (4, "noext")] {
            assert!(window.add(id(number), name.as_bytes(), vec![number; 400]).is_empty());
        }
        let frames = window.take(PackClass::Data, 1000);
        let mut buffer = Vec::new();
        let order: Vec<Vec<u8>> = frames
            .into_iter()
            .map(|frame| frame.gather(&mut buffer).iter().map(|(id, _)| id.as_bytes()[0]).collect())
            .collect();
        assert_eq!(order, [vec![4, 2], vec![3, 1]]);
        assert_eq!(window.bytes(), 0);
        assert!(window.take(PackClass::Data, 1000).is_empty());
    }
}
