//! Compares what the target may hold already with the snapshot, so that only what differs is fetched.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex};

use super::fetch;
use super::files::{Base, RestoredFile};
use super::layout::{Layout, runs};
use super::plan::Batch;
use super::report::Reporter;
use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::limits::CHUNK_BYTES_MAX;
use crate::observer::{Event, lock};
use crate::repository::Inner;
use crate::tree::ChunkRef;

/// So much of one file is compared by one thread at a time.
const RUN_BYTES_MAX: u64 = 8 << 20;

/// Chunks of a file, one after the other, that are compared with what stands in the target.
#[derive(Debug)]
pub(super) struct Comparison {
    file: Arc<RestoredFile>,
    chunks: Vec<(ChunkRef, u64)>,
    bytes: u64,
}

/// A chunk that the target does not hold.
#[derive(Debug)]
pub(super) struct Different {
    pub(super) file: Arc<RestoredFile>,
    pub(super) chunk: ChunkRef,
    pub(super) stream_offset: u64,
}

impl Comparison {
    pub(super) fn new(file: Arc<RestoredFile>, chunk: ChunkRef, stream_offset: u64) -> Comparison {
        Comparison { file, chunks: vec![(chunk, stream_offset)], bytes: u64::from(chunk.bytes) }
    }

    /// Whether the next chunk of a file belongs here.
    pub(super) fn takes(&self, file: &Arc<RestoredFile>) -> bool {
        Arc::ptr_eq(&self.file, file) && self.bytes < RUN_BYTES_MAX
    }

    pub(super) fn push(&mut self, chunk: ChunkRef, stream_offset: u64) {
        self.chunks.push((chunk, stream_offset));
        self.bytes += u64::from(chunk.bytes);
    }
}

/// Compares on all threads, and ends the files that nothing is missing of. Gives what is, file by file.
pub(super) fn run(
    batch: &Batch<'_>,
    comparisons: Vec<Comparison>,
    reporter: &mut Reporter<'_>,
) -> Result<Vec<Different>> {
    let (reporter, different) = (Mutex::new(reporter), Mutex::new(Vec::new()));
    batch.threads.each(comparisons, |comparison| {
        batch.job.ctx.cancel.check()?;
        run_one(batch, &comparison, &reporter, &different)
    })?;
    let mut different = different.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    different.sort_unstable_by_key(|one| (Arc::as_ptr(&one.file), one.stream_offset));
    Ok(different)
}

fn run_one(
    batch: &Batch<'_>,
    comparison: &Comparison,
    reporter: &Mutex<&mut Reporter<'_>>,
    different: &Mutex<Vec<Different>>,
) -> Result<()> {
    let (job, file) = (batch.job, &comparison.file);
    file.tell(job);
    let bases = file.open_bases(job);
    let mut buffer = Vec::new();
    for (chunk, stream_offset) in &comparison.chunks {
        let bytes = u64::from(chunk.bytes);
        let base = bases.iter().find(|(_, base)| {
            holds(job.repository, base, file.layout.as_ref(), *stream_offset, chunk, &mut buffer)
        });
        match base {
            Some((base, _)) => file.reuse(*stream_offset, bytes, *base),
            None => file.differs(),
        }
        if matches!(base, Some((Base::Partial, _))) {
            // An earlier restore found that the old file lacks it.
            file.differs();
        }
        if base.is_none() && !job.options.dry_run {
            let (file, chunk, stream_offset) = (file.clone(), *chunk, *stream_offset);
            lock(different).push(Different { file, chunk, stream_offset });
            continue;
        }
        job.ctx.observer.event(&Event::Progress { bytes });
        if file.done(bytes) {
            let finished = fetch::finish(file, job, None);
            fetch::report(file, finished, &mut lock(reporter))?;
        }
    }
    Ok(())
}

/// Whether a file holds a chunk where it belongs.
pub(super) fn holds(
    repository: &Inner,
    file: &File,
    layout: Option<&Layout>,
    stream_offset: u64,
    chunk: &ChunkRef,
    buffer: &mut Vec<u8>,
) -> bool {
    if chunk.bytes > CHUNK_BYTES_MAX {
        return false;
    }
    buffer.resize(chunk.bytes as usize, 0);
    let mut filled = 0;
    for run in runs(layout, stream_offset, u64::from(chunk.bytes)) {
        let end = filled + usize::try_from(run.bytes).unwrap_or(usize::MAX);
        let Some(part) = buffer.get_mut(filled..end) else { return false };
        if file.read_exact_at(part, run.offset).is_err() {
            return false;
        }
        filled = end;
    }
    filled == buffer.len()
        && blake3::keyed_hash(repository.domain.id_key(PackClass::Data), buffer) == *chunk.id.as_bytes()
}
