//! Fetches ranges of packs, opens each frame once, verifies the chunks that are needed, and stores those that are new here.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Mutex;

use super::plan::FrameNeeds;
use crate::backup::{Scratch, Storer};
use crate::error::{Error, Result};
use crate::format::envelope::PackClass;
use crate::id::ChunkId;
use crate::observer::{Event, lock};
use crate::repository::{ChunkReader, Inner, RANGE_STEP_BYTES, cut_chunk, open_located, pack_name};
use crate::threads::Threads;
use crate::tree::ChunkRef;

/// Ranges that are closer than this are fetched as one: the bytes between cost less than another request.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// The longest range that is fetched at once.
const RANGE_BYTES_MAX: u64 = 8 << 20;
/// New chunks of a frame that are a frame of their own here; fewer are gathered with others.
const FRAME_BYTES_MIN: usize = 256 << 10;
const FRAME_CHUNKS_MAX: usize = 4096;

/// The ids that chunks got here, or why they could not be read.
pub(super) type Fetched = HashMap<ChunkId, Result<ChunkId>>;

/// From where is fetched, and where it is stored.
pub(super) struct Fetch<'f, 'a> {
    pub(super) storer: &'f Storer<'a>,
    pub(super) repository: &'f Inner,
    pub(super) source: &'f ChunkReader<'f>,
    pub(super) shares_ids: bool,
    scratches: Mutex<Vec<Scratch>>,
    fetched: Mutex<Fetched>,
}

impl<'f, 'a> Fetch<'f, 'a> {
    pub(super) fn new(
        storer: &'f Storer<'a>,
        repository: &'f Inner,
        source: &'f ChunkReader<'f>,
        shares_ids: bool,
    ) -> Fetch<'f, 'a> {
        let (scratches, fetched) = (Mutex::default(), Mutex::default());
        Fetch { storer, repository, source, shares_ids, scratches, fetched }
    }

    /// Fetches and stores everything that is needed of these frames, on all threads.
    pub(super) fn run(self, frames: Vec<FrameNeeds>, threads: &Threads) -> Result<Fetched> {
        threads.each(coalesce(frames), |group| self.group(group))?;
        Ok(self.fetched.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn group(&self, group: Vec<FrameNeeds>) -> Result<()> {
        self.storer.ctx.cancel.check()?;
        let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
        let start = u64::from(first.location.frame_offset);
        let from = start - start % RANGE_STEP_BYTES;
        let end = end_of(last);
        let to = end.next_multiple_of(RANGE_STEP_BYTES).min(last.location.pack.bytes).max(end);
        let range = match self.repository.store.get_range(&pack_name(&first.location), from..to) {
            Err(error) if error.is_retryable() => return Err(error.into()),
            range => range,
        };
        for frame in group {
            self.storer.ctx.cancel.check()?;
            let place = (u64::from(frame.location.frame_offset) - from) as usize;
            let raw = match &range {
                Ok(bytes) => bytes
                    .get(place..place + frame.location.shape.stored_bytes as usize)
                    .ok_or_else(|| {
                        Error::corrupt("the pack is cut short").with_object(pack_name(&frame.location))
                    })
                    .and_then(|sealed| open_located(self.repository, &frame.location, sealed)),
                Err(error) => Err(Error::corrupt(error.to_string())),
            };
            self.frame(&frame, &raw)?;
        }
        Ok(())
    }

    /// Stores what is needed of a frame and new here.
    fn frame(&self, frame: &FrameNeeds, raw: &Result<Vec<u8>>) -> Result<()> {
        let (mut new, mut ids) = (Vec::new(), Vec::new());
        for (chunk, offset) in &frame.chunks {
            let bytes = match self.chunk(frame, chunk, *offset, raw) {
                Err(error) if error.is_damage() => {
                    lock(&self.fetched).insert(chunk.id, Err(error));
                    continue;
                }
                bytes => bytes?,
            };
            let id = if self.shares_ids { chunk.id } else { self.storer.id(PackClass::Data, &bytes) };
            if self.storer.claim(&id, bytes.len())? {
                new.extend_from_slice(&bytes);
                ids.push((id, chunk.bytes));
            }
            lock(&self.fetched).insert(chunk.id, Ok(id));
            self.storer.ctx.observer.event(&Event::Progress { bytes: u64::from(chunk.bytes) });
        }
        self.store(&new, ids)
    }

    /// The verified bytes of a chunk: from the frame that was fetched, or from another copy.
    fn chunk<'r>(
        &self,
        frame: &FrameNeeds,
        chunk: &ChunkRef,
        offset: u32,
        raw: &'r Result<Vec<u8>>,
    ) -> Result<Cow<'r, [u8]>> {
        let mut location = frame.location.clone();
        (location.offset, location.bytes) = (offset, chunk.bytes);
        let from_frame = match raw {
            Ok(raw) => cut_chunk(self.repository, &location, &chunk.id, raw).map(Cow::Borrowed),
            Err(error) => Err(Error::corrupt(error.to_string())),
        };
        from_frame.or_else(|error| {
            // An outage says nothing of the chunk.
            let read = self.source.read(PackClass::Data, chunk).map(Cow::Owned);
            read.map_err(|other| if other.is_damage() { error } else { other })
        })
    }

    fn store(&self, new: &[u8], ids: Vec<(ChunkId, u32)>) -> Result<()> {
        if new.len() < FRAME_BYTES_MIN || ids.len() > FRAME_CHUNKS_MAX {
            let mut start = 0;
            let chunks = ids.into_iter().map(|(id, bytes)| {
                let chunk = new[start..start + bytes as usize].to_vec();
                start += bytes as usize;
                (id, chunk)
            });
            self.storer.store_claimed(chunks);
            return Ok(());
        }
        let kept = lock(&self.scratches).pop();
        let mut scratch = kept.map_or_else(|| Scratch::new(self.storer.options), Ok)?;
        self.storer.store_frame(PackClass::Data, new, ids, &mut scratch)?;
        lock(&self.scratches).push(scratch);
        Ok(())
    }
}

fn end_of(frame: &FrameNeeds) -> u64 {
    u64::from(frame.location.frame_offset) + u64::from(frame.location.shape.stored_bytes)
}

/// Joins frames that lie close together in a pack.
fn coalesce(frames: Vec<FrameNeeds>) -> Vec<Vec<FrameNeeds>> {
    let mut groups: Vec<Vec<FrameNeeds>> = Vec::new();
    for frame in frames {
        let start = u64::from(frame.location.frame_offset);
        let joins = |group: &&mut Vec<FrameNeeds>| {
            let (Some(first), Some(last)) = (group.first(), group.last()) else { return false };
            first.location.pack.hash == frame.location.pack.hash
                && start <= end_of(last) + GAP_BYTES_MAX
                && end_of(&frame) - u64::from(first.location.frame_offset) <= RANGE_BYTES_MAX
        };
        match groups.last_mut().filter(joins) {
            Some(group) => group.push(frame),
            None => groups.push(vec![frame]),
        }
    }
    groups
}
