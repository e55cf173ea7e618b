//! Plans which frames are fetched for which files. A batch holds as many files as fit in bounded memory; in it, every
//! frame is fetched and opened once, however many files use it. What the target may hold already is compared first.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use super::compare::{self, Comparison};
use super::fetch;
use super::files::{Leftovers, RestoredFile};
use super::job::Job;
use super::layout::Layout;
use super::report::Reporter;
use crate::error::{Error, Result};
use crate::id::{ChunkId, ObjectHash};
use crate::index::Location;
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
    pub(super) job: &'a Job<'a>,
    pub(super) threads: Threads,
    frames: BTreeMap<(ObjectHash, u32), FrameUses>,
    comparisons: Vec<Comparison>,
    chunks: usize,
    files: Vec<Arc<RestoredFile>>,
}

impl<'a> Batch<'a> {
    pub(super) fn new(job: &'a Job<'a>) -> Result<Self> {
        let threads = Threads::new(job.ctx.parallelism, "dr-restore")?;
        let frames = BTreeMap::new();
        Ok(Batch { job, threads, frames, comparisons: Vec::new(), chunks: 0, files: Vec::new() })
    }

    /// Plans a file; runs the batch when it is full.
    pub(super) fn add(&mut self, mut file: RestoredFile, reporter: &mut Reporter<'_>) -> Result<()> {
        let EntryKind::File(content) = file.entry.kind.clone() else { return Ok(()) };
        match read_extents(&content, self.job.reader) {
            Ok(extents) => file.layout = extents.map(Layout::new),
            Err(error) => {
                reporter.damaged(&file.path, &error);
                return Ok(());
            }
        }
        file.adopt(self.job)?;
        let has_bases = file.has_bases();
        let file = Arc::new(file);
        self.files.push(file.clone());
        let mut stream_offset = 0;
        for chunk in stream_chunks(&content.stream, self.job.reader) {
            let placed = chunk.and_then(|chunk| match has_bases {
                true => Ok((chunk, None)),
                false => Ok((chunk, Some(self.job.reader.locate(&chunk)?))),
            });
            match placed {
                Ok((chunk, _)) if stream_offset + u64::from(chunk.bytes) > content.stream.bytes => break,
                Ok((chunk, location)) => {
                    file.expect(u64::from(chunk.bytes));
                    match location {
                        Some(location) => self.plan(&file, &chunk, location, stream_offset),
                        None => self.plan_comparison(&file, &chunk, stream_offset),
                    }
                    self.chunks += 1;
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
            let finished = fetch::finish(&file, self.job, None);
            fetch::report(&file, finished, reporter)?;
        }
        if self.files.len() >= BATCH_FILES_MAX { self.run(reporter) } else { Ok(()) }
    }

    fn plan(&mut self, file: &Arc<RestoredFile>, chunk: &ChunkRef, location: Location, stream_offset: u64) {
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
    }

    fn plan_comparison(&mut self, file: &Arc<RestoredFile>, chunk: &ChunkRef, stream_offset: u64) {
        match self.comparisons.last_mut().filter(|last| last.takes(file)) {
            Some(last) => last.push(*chunk, stream_offset),
            None => self.comparisons.push(Comparison::new(file.clone(), *chunk, stream_offset)),
        }
    }

    /// Compares, fetches and writes everything that is planned.
    pub(super) fn run(&mut self, reporter: &mut Reporter<'_>) -> Result<()> {
        let comparisons = std::mem::take(&mut self.comparisons);
        for different in compare::run(self, comparisons, reporter)? {
            let compare::Different { file, chunk, stream_offset } = different;
            match self.job.reader.locate(&chunk) {
                Ok(location) => self.plan(&file, &chunk, location, stream_offset),
                Err(error) if error.is_retryable() => return Err(error),
                Err(error) => {
                    if file.fail() {
                        reporter.damaged(&file.path, &error);
                    }
                    if file.done(u64::from(chunk.bytes)) {
                        let finished = fetch::finish(&file, self.job, None);
                        fetch::report(&file, finished, reporter)?;
                    }
                }
            }
        }
        let frames: Vec<FrameUses> = std::mem::take(&mut self.frames).into_values().collect();
        self.chunks = 0;
        fetch::run(self, frames, reporter)?;
        self.files.retain(|file| file.is_under_way());
        Ok(())
    }

    /// Ends what is under way, since the call ends early.
    pub(super) fn abandon(&mut self, leftovers: Leftovers) {
        for file in std::mem::take(&mut self.files).iter().filter(|file| file.is_under_way()) {
            file.abandon(self.job, leftovers);
        }
    }
}
