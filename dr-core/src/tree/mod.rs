//! Directories, what they hold, and the streams that both are stored as.

mod entry;
#[cfg(test)]
mod memory;
mod read;
mod seek;
mod walk;
mod write;

pub use entry::{ChunkRef, Entry, EntryKind, Extent, FileContent, Metadata, SparseMap, Stream, Xattr};
pub(crate) use read::{
    DirectoryReader, NotingReader, ReadChunk, known_stream_chunks, read_extents, read_stream, stream_chunks,
};
pub(crate) use seek::{Placed, StreamMap};
pub(crate) use walk::{KeepChunks, RUNS_STEP, TreeKeeper};
pub(crate) use write::{DirectoryWriter, StreamWriter, TreeSink, store_bytes};
