//! Plans which frames are fetched for which files. A batch holds as many files as fit in bounded memory; in it, every
//! frame is fetched and opened once, however many files use it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use super::fetch;
use super::files::RestoredFile;
use super::report::Reporter;
use super::target::Target;
use crate::error::{Error, Result};
use crate::id::{ChunkId, ObjectHash};
use crate::index::Location;
use crate::observer::Context;
use crate::repository::{ChunkReader, Inner};
use crate::threads::Threads;
use crate::tree::{ChunkRef, EntryKind, read_extents, stream_chunks};

/// Chunks planned before they are fetched.
const BATCH_CHUNKS_MAX: usize = 64 << 10;
/// Files planned before they are written.
const BATCH_FILES_MAX: usize = 32 << 10;

/// A chunk that a file needs.
#[derive(Debug)]
pub(super) struct Use {
    pub(super) file: Arc<RestoredFile>,
    pub(super) id: ChunkId,
    /// Where in the raw frame it begins.
    pub(super) frame_offset: u32,
    pub(super) bytes: u32,
    /// Where in the file's stream it belongs.
    pub(super) stream_offset: u64,
}

/// A frame, and the chunks of it that are needed.
#[derive(Debug)]
pub(super) struct FrameUses {
    pub(super) location: Location,
    pub(super) uses: Vec<Use>,
}

/// Files and frames that are planned.
pub(super) struct Batch<'a> {
    pub(super) repository: &'a Inner,
    pub(super) reader: &'a ChunkReader<'a>,
    pub(super) target: &'a Target,
    pub(super) ctx: Context<'a>,
    pub(super) threads: Threads,
    frames: BTreeMap<(ObjectHash, u32), FrameUses>,
    chunks: usize,
    files: usize,
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        repository: &'a Inner,
        reader: &'a ChunkReader<'a>,
        target: &'a Target,
        ctx: Context<'a>,
    ) -> Result<Self> {
        let threads = Threads::new(ctx.parallelism, "dr-restore")?;
        Ok(Batch { repository, reader, target, ctx, threads, frames: BTreeMap::new(), chunks: 0, files: 0 })
    }

    /// Plans a file; runs the batch when it is full.
    pub(super) fn add(&mut self, mut file: RestoredFile, reporter: &mut Reporter<'_>) -> Result<()> {
        let EntryKind::File(content) = file.entry.kind.clone() else { return Ok(()) };
        match read_extents(&content, self.reader) {
            Ok(extents) => file.extents = extents,
            Err(error) => {
                reporter.damaged(&file.path, &error);
                return Ok(());
            }
        }
        let file = Arc::new(file);
        let mut stream_offset = 0;
        for chunk in stream_chunks(&content.stream, self.reader) {
            let located = chunk.and_then(|chunk| Ok((chunk, self.reader.locate(&chunk)?)));
            match located {
                Ok((chunk, _)) if stream_offset + u64::from(chunk.bytes) > content.stream.bytes => break,
                Ok((chunk, location)) => {
                    self.plan(&file, &chunk, location, stream_offset);
                    stream_offset += u64::from(chunk.bytes);
                }
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    if file.fail() {
                        reporter.damaged(&file.path, &error);
                    }
                    break;
                }
            }
            if self.chunks >= BATCH_CHUNKS_MAX {
                self.run(reporter)?;
            }
        }
        if stream_offset != content.stream.bytes && file.fail() {
            reporter.damaged(&file.path, &Error::corrupt("its chunks are not as long as it is"));
        }
        // Nothing more is planned for this file: whoever writes its last byte finishes it.
        if file.done(1) {
            let finished = fetch::finish(&file, self.target, None, self.ctx);
            fetch::report(&file, finished, reporter)?;
        }
        self.files += 1;
        if self.files >= BATCH_FILES_MAX { self.run(reporter) } else { Ok(()) }
    }

    fn plan(&mut self, file: &Arc<RestoredFile>, chunk: &ChunkRef, location: Location, stream_offset: u64) {
        file.expect(u64::from(chunk.bytes));
        let needed = Use {
            file: file.clone(),
            id: chunk.id,
            frame_offset: location.offset,
            bytes: chunk.bytes,
            stream_offset,
        };
        match self.frames.entry((location.pack.hash, location.frame_offset)) {
            MapEntry::Vacant(place) => {
                place.insert(FrameUses { location, uses: vec![needed] });
            }
            MapEntry::Occupied(mut frame) => frame.get_mut().uses.push(needed),
        }
        self.chunks += 1;
    }

    /// Fetches and writes everything that is planned.
    pub(super) fn run(&mut self, reporter: &mut Reporter<'_>) -> Result<()> {
        let frames: Vec<FrameUses> = std::mem::take(&mut self.frames).into_values().collect();
        (self.chunks, self.files) = (0, 0);
        fetch::run(self, frames, reporter)
    }
}
