//! Segments of large files and streams: read and cut by one thread, hashed and stored by any.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::commit::keep_packs_if_due;
use super::storer::{Scratch, Storer};
use super::workers;
use crate::error::{Error, Result};
use crate::format::envelope::PackClass;
use crate::frame::FRAME_TARGET_BYTES;
use crate::id::ChunkId;
use crate::observer::{Event, lock};
use crate::tree::{ChunkRef, Stream, StreamWriter};

/// Bytes of a segment, beside the rest of the one before.
const SEGMENT_BYTES: usize = 4 << 20;

/// A segment: whole chunks one after the other.
#[derive(Debug)]
pub(crate) struct SegmentJob {
    bytes: Vec<u8>,
    lengths: Vec<usize>,
    number: usize,
    results: Arc<Results>,
}

/// The references of a stream's segments, as they are done.
#[derive(Debug, Default)]
struct Results {
    done: Mutex<Vec<Option<Vec<ChunkRef>>>>,
    outstanding: AtomicUsize,
}

impl SegmentJob {
    /// Hashes and stores the chunks. Consecutive new ones become one frame, up to its target size.
    pub(crate) fn run(self, storer: &Storer<'_>, scratch: &mut Scratch) -> Result<()> {
        // On failure the queue's own flag ends whoever waits, after the failure itself is recorded.
        let refs = self.store(storer, scratch)?;
        lock(&self.results.done)[self.number] = Some(refs);
        self.results.outstanding.fetch_sub(1, Ordering::Release);
        Ok(())
    }

    fn store(&self, storer: &Storer<'_>, scratch: &mut Scratch) -> Result<Vec<ChunkRef>> {
        let mut refs = Vec::with_capacity(self.lengths.len());
        let mut frame: Vec<(ChunkId, u32)> = Vec::new();
        let (mut frame_start, mut start) = (0, 0);
        for length in &self.lengths {
            storer.ctx.cancel.check()?;
            let chunk = &self.bytes[start..start + length];
            let id = storer.id(PackClass::Data, chunk);
            refs.push(ChunkRef { id, bytes: *length as u32 });
            let is_new = storer.claim(&id, chunk.len())?;
            if !frame.is_empty() && (!is_new || start + length - frame_start > FRAME_TARGET_BYTES) {
                storer.store_frame(
                    PackClass::Data,
                    &self.bytes[frame_start..start],
                    std::mem::take(&mut frame),
                    scratch,
                )?;
            }
            if is_new {
                if frame.is_empty() {
                    frame_start = start;
                }
                frame.push((id, *length as u32));
            }
            start += length;
        }
        if !frame.is_empty() {
            storer.store_frame(PackClass::Data, &self.bytes[frame_start..start], frame, scratch)?;
        }
        storer.ctx.observer.event(&Event::Progress { bytes: self.bytes.len() as u64 });
        Ok(refs)
    }
}

/// Cuts a stream into segments and hands them out.
pub(crate) struct StreamCutter<'s, 'a> {
    storer: &'s Storer<'a>,
    buffer: Vec<u8>,
    results: Arc<Results>,
    segments: usize,
    drained: usize,
    stream: StreamWriter,
}

impl<'s, 'a> StreamCutter<'s, 'a> {
    pub(crate) fn new(storer: &'s Storer<'a>) -> Self {
        StreamCutter {
            storer,
            buffer: Vec::new(),
            results: Arc::default(),
            segments: 0,
            drained: 0,
            stream: StreamWriter::default(),
        }
    }

    /// Takes the next bytes, as many as `read` gives for the space it is given; 0 ends the stream.
    pub(crate) fn fill(
        &mut self,
        scratch: &mut Scratch,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        loop {
            let carried = self.buffer.len();
            self.buffer.resize(carried + SEGMENT_BYTES, 0);
            let mut filled = carried;
            let mut is_end = false;
            while filled < self.buffer.len() && !is_end {
                self.storer.ctx.cancel.check()?;
                keep_packs_if_due(self.storer)?;
                let count = read(&mut self.buffer[filled..])?;
                filled += count;
                is_end = count == 0;
            }
            self.buffer.truncate(filled);
            self.cut(is_end, scratch)?;
            if is_end {
                return Ok(());
            }
        }
    }

    fn cut(&mut self, is_end: bool, scratch: &mut Scratch) -> Result<()> {
        let chunker = &self.storer.chunker;
        let (mut lengths, mut start) = (Vec::new(), 0);
        while self.buffer.len() - start >= chunker.max_bytes() || is_end && start < self.buffer.len() {
            let length = chunker.cut(&self.buffer[start..]);
            lengths.push(length);
            start += length;
        }
        if lengths.is_empty() {
            return Ok(());
        }
        if self.storer.queue.is_failed() {
            return Err(Error::cancelled());
        }
        let mut next = Vec::with_capacity(SEGMENT_BYTES + chunker.max_bytes());
        next.extend_from_slice(&self.buffer[start..]);
        let mut bytes = std::mem::replace(&mut self.buffer, next);
        bytes.truncate(start);
        lock(&self.results.done).push(None);
        self.results.outstanding.fetch_add(1, Ordering::Acquire);
        let job = SegmentJob { bytes, lengths, number: self.segments, results: self.results.clone() };
        self.segments += 1;
        // Whoever reads faster than the others hash helps them: memory stays bounded without anybody waiting.
        if self.storer.queue.push_segment(job)
            && let Some(work) = self.storer.queue.next_leaf()
        {
            self.storer.queue.finished(workers::run(self.storer, work, scratch));
        }
        self.drain()
    }

    /// Passes on the references of the segments that are done, in order.
    fn drain(&mut self) -> Result<()> {
        loop {
            let refs = lock(&self.results.done).get_mut(self.drained).and_then(Option::take);
            let Some(refs) = refs else { return Ok(()) };
            self.drained += 1;
            for chunk in refs {
                self.stream.push(chunk, self.storer)?;
            }
        }
    }

    /// Waits for the last segments, helping, and gives the stream.
    pub(crate) fn finish(mut self, scratch: &mut Scratch) -> Result<Stream> {
        while self.results.outstanding.load(Ordering::Acquire) > 0 {
            self.storer.ctx.cancel.check()?;
            if self.storer.queue.is_failed() {
                return Err(Error::cancelled());
            }
            match self.storer.queue.next_leaf() {
                Some(work) => self.storer.queue.finished(workers::run(self.storer, work, scratch)),
                None => self.storer.queue.wait_a_moment(),
            }
        }
        self.drain()?;
        if self.drained < self.segments {
            // The segment's own failure is the one that is reported.
            return Err(Error::cancelled());
        }
        self.stream.finish(self.storer)
    }
}
