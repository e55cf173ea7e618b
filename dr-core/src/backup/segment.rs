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
const SEGMENT_BYTES: usize = 2 << 20;

/// Buffers that were used before: memory that is new to the process costs the kernel more than reading into it.
#[derive(Debug, Default)]
pub(crate) struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    /// A buffer of `bytes`, which hold anything.
    fn take(&self, bytes: usize) -> Vec<u8> {
        // Memory that comes as zeros is not there before it is written to.
        let used = lock(&self.0).pop().filter(|buffer| buffer.len() == bytes);
        used.unwrap_or_else(|| vec![0; bytes])
    }

    fn give_back(&self, buffer: Vec<u8>) {
        lock(&self.0).push(buffer);
    }
}

/// A segment: whole chunks one after the other.
#[derive(Debug)]
pub(crate) struct SegmentJob {
    /// The chunks, and bytes behind them that mean nothing.
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
        storer.buffers.give_back(self.bytes);
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
        storer.ctx.observer.event(&Event::Progress { bytes: start as u64 });
        Ok(refs)
    }
}

/// Cuts a stream into segments and hands them out.
pub(crate) struct StreamCutter<'s, 'a> {
    storer: &'s Storer<'a>,
    buffer: Vec<u8>,
    /// Bytes in the buffer that are not cut yet.
    filled: usize,
    /// So many of them were looked at, and hold no cut.
    looked: usize,
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
            filled: 0,
            looked: 0,
            results: Arc::default(),
            segments: 0,
            drained: 0,
            stream: StreamWriter::default(),
        }
    }

    /// Takes the next chunk as one that is stored already. Must come before all bytes.
    pub(crate) fn go_on_behind(&mut self, chunk: ChunkRef) -> Result<()> {
        self.stream.push(chunk, self.storer)
    }

    /// Takes the next bytes, as many as `read` gives for the space it is given; 0 ends the stream.
    pub(crate) fn fill(
        &mut self,
        scratch: &mut Scratch,
        read: &mut dyn FnMut(&mut [u8]) -> Result<usize>,
    ) -> Result<()> {
        loop {
            if self.buffer.is_empty() {
                self.buffer = self.storer.buffers.take(SEGMENT_BYTES + self.storer.chunker.max_bytes());
            }
            let end = self.filled + SEGMENT_BYTES;
            let mut is_end = false;
            while self.filled < end && !is_end {
                self.storer.ctx.cancel.check()?;
                keep_packs_if_due(self.storer)?;
                let count = read(&mut self.buffer[self.filled..end])?;
                self.filled += count;
                is_end = count == 0;
            }
            self.cut(is_end, scratch)?;
            if is_end {
                return Ok(());
            }
        }
    }

    fn cut(&mut self, is_end: bool, scratch: &mut Scratch) -> Result<()> {
        let chunker = &self.storer.chunker;
        let (mut lengths, mut start) = (Vec::new(), 0);
        while start < self.filled {
            let rest = &self.buffer[start..self.filled];
            let length =
                if is_end { Some(chunker.cut(rest)) } else { chunker.cut_before_end(rest, self.looked) };
            let Some(length) = length else {
                self.looked = rest.len();
                break;
            };
            self.looked = 0;
            lengths.push(length);
            start += length;
        }
        if lengths.is_empty() {
            return Ok(());
        }
        if self.storer.queue.is_failed() {
            return Err(Error::cancelled());
        }
        let mut next = Vec::new();
        if !is_end {
            next = self.storer.buffers.take(self.buffer.len());
            next[..self.filled - start].copy_from_slice(&self.buffer[start..self.filled]);
        }
        self.filled -= start;
        let bytes = std::mem::replace(&mut self.buffer, next);
        lock(&self.results.done).push(None);
        self.results.outstanding.fetch_add(1, Ordering::Acquire);
        let job = SegmentJob { bytes, lengths, number: self.segments, results: self.results.clone() };
        self.segments += 1;
        if is_end && self.segments == 1 {
            // The whole of a stream: it is in this processor's cache, and nothing else is to be read.
            job.run(self.storer, scratch)?;
            return self.drain();
        }
        // Whoever reads faster than the others hash helps them: memory stays bounded without anybody waiting.
        self.storer.queue.push_segment(job);
        while self.storer.queue.is_behind()
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
        if !self.buffer.is_empty() {
            self.storer.buffers.give_back(std::mem::take(&mut self.buffer));
        }
        if self.drained < self.segments {
            // The segment's own failure is the one that is reported.
            return Err(Error::cancelled());
        }
        self.stream.finish(self.storer)
    }
}
