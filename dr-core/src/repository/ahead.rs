//! Fetches frames before their chunks are asked for: those that lie close together in one request, and all on several
//! threads.

use std::collections::BTreeMap;

use super::chunks::{FramePlace, KEPT_BYTES_MAX, frame_place};
use super::{ChunkReader, RANGE_STEP_BYTES, open_located, pack_name};
use crate::format::envelope::PackClass;
use crate::index::Location;
use crate::threads::Threads;
use crate::tree::ChunkRef;

/// Frames that are fetched ahead hold so many bytes at most, so that those before them are still kept.
const AHEAD_BYTES_MAX: usize = KEPT_BYTES_MAX / 2;
/// Frames of a pack that are closer than this are fetched as one: the bytes between cost less than another request.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// The longest range that is fetched at once.
const RANGE_BYTES_MAX: u64 = 8 << 20;

impl ChunkReader<'_> {
    /// Fetches the frames of chunks that will be asked for next, as many as are kept. What cannot be fetched is left to
    /// whoever asks for it, who then says why.
    pub(crate) fn fetch_ahead(&self, class: PackClass, chunks: &[ChunkRef], threads: &Threads) {
        let mut frames: BTreeMap<FramePlace, Location> = BTreeMap::new();
        let mut bytes = 0;
        for location in chunks.iter().filter_map(|chunk| self.locate_known(chunk)) {
            let place = frame_place(&location);
            if location.pack.class != class || frames.contains_key(&place) || self.has_frame(&place) {
                continue;
            }
            bytes += location.shape.raw_bytes as usize;
            if bytes > AHEAD_BYTES_MAX && !frames.is_empty() {
                break;
            }
            frames.insert(place, location);
        }
        let ranges = coalesce(frames.into_values());
        let fetched = threads.map(ranges, |range| self.fetch_range(range));
        let sealed: Vec<(Location, Vec<u8>)> = fetched.into_iter().flatten().collect();
        threads.map(sealed, |(location, sealed)| {
            if let Ok(frame) = open_located(&self.repository, &location, &sealed) {
                self.keep_frame(frame_place(&location), frame);
            }
        });
    }

    /// Fetches frames that lie close together, sealed as they are.
    fn fetch_range(&self, frames: Vec<Location>) -> Vec<(Location, Vec<u8>)> {
        let (Some(first), Some(last)) = (frames.first(), frames.last()) else { return Vec::new() };
        let start = u64::from(first.frame_offset);
        let from = start - start % RANGE_STEP_BYTES;
        let to = end(last).next_multiple_of(RANGE_STEP_BYTES).min(last.pack.bytes).max(end(last));
        let Ok(bytes) = self.repository.store.get_range(&pack_name(first), from..to) else {
            return Vec::new();
        };
        let cut = |location: Location| {
            let start = (u64::from(location.frame_offset) - from) as usize;
            let sealed = bytes.get(start..start + location.shape.stored_bytes as usize)?.to_vec();
            Some((location, sealed))
        };
        frames.into_iter().filter_map(cut).collect()
    }
}

fn end(location: &Location) -> u64 {
    u64::from(location.frame_offset) + u64::from(location.shape.stored_bytes)
}

/// Joins frames, which come in the order of their places, that lie close together in a pack.
fn coalesce(frames: impl Iterator<Item = Location>) -> Vec<Vec<Location>> {
    let mut ranges: Vec<Vec<Location>> = Vec::new();
    for frame in frames {
        let start = u64::from(frame.frame_offset);
        let joins = |range: &&mut Vec<Location>| {
            range.first().zip(range.last()).is_some_and(|(first, last)| {
                first.pack.hash == frame.pack.hash
                    && start <= end(last) + GAP_BYTES_MAX
                    && end(&frame) - u64::from(first.frame_offset) <= RANGE_BYTES_MAX
            })
        };
        match ranges.last_mut().filter(joins) {
            Some(range) => range.push(frame),
            None => ranges.push(vec![frame]),
        }
    }
    ranges
}
