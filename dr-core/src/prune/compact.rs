//! Merges index segments: many small ones, and those that list much that is condemned. The outputs name their inputs, and
//! count only where all of these are live.

use std::collections::HashMap;

use super::options::PruneReport;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;
use crate::format::envelope::Header;
use crate::format::log::{Condemn, Event, HashList, Reindex};
use crate::format::segment::{ChunkRecord, FrameRecord, Segment};
use crate::id::ObjectHash;
use crate::index::Part;
use crate::log::{Log, SegmentPlace};
use crate::observer::{Context, lock};
use crate::repository::{Inner, read_segment};

/// Segments of fewer chunks are merged with others when there are many.
const SMALL_CHUNKS: usize = 128 << 10;
/// So many small segments are let be.
const SMALL_SEGMENTS_MAX: usize = 16;
/// Whoever backs up merges where there are so many small segments, or up to a half more: not all writers at once.
const WRITERS_MERGE_FROM: usize = 64;
/// A merged segment lists about this many chunks at most.
const MERGED_CHUNKS: usize = 1 << 20;
/// Inputs of one entry: their names must fit into a slot.
const INPUTS_MAX: usize = 512;

/// Merges the small segments, oldest first, where there are many: called by whoever has committed, so that a repository that
/// is never pruned opens as fast after thousands of backups. What is replaced stays until a collection condemns it.
///
/// Where slots hold siblings, only a prune does, which is alone: a merge that arrives late in an earlier slot would make void
/// another one of the same segments, which may be deleted by then.
pub(crate) fn merge_small(repository: &Inner, ctx: Context<'_>) -> Result<()> {
    if repository.config.mode != LogMode::CreateIfAbsent {
        return Ok(());
    }
    let threshold = WRITERS_MERGE_FROM + usize::from(repository.writer[0]) % (WRITERS_MERGE_FROM / 2);
    let log = lock(&repository.log).clone();
    if log.fold.segments().len() < threshold {
        return Ok(());
    }
    let index = repository.index(&log)?;
    if !index.is_whole() {
        return Ok(());
    }
    let sizes = log.fold.segments().iter().zip(index.parts().iter().map(Part::chunks));
    let small: Vec<(&SegmentPlace, usize)> = sizes.filter(|(_, chunks)| *chunks < SMALL_CHUNKS).collect();
    if small.len() < threshold {
        return Ok(());
    }
    let mut chunks = 0;
    let fitting = small.into_iter().take(INPUTS_MAX).take_while(|(_, more)| {
        chunks += more;
        chunks <= MERGED_CHUNKS
    });
    let inputs: Vec<SegmentPlace> = fitting.map(|(place, _)| place.clone()).collect();
    merge(repository, &inputs, &mut PruneReport::default(), ctx)
}

/// Merges segments, and condemns those that were replaced.
pub(super) fn compact(repository: &Inner, report: &mut PruneReport, ctx: Context<'_>) -> Result<Log> {
    let (log, index) = repository.current_whole()?;
    if !index.is_whole() {
        return Ok(log);
    }
    let condemned = log.fold.condemned();
    let sizes: Vec<(&SegmentPlace, usize, bool)> = log
        .fold
        .segments()
        .iter()
        .zip(index.tables())
        .map(|(place, table)| {
            let gone = table.packs().filter(|pack| condemned.contains_key(&pack.hash)).count();
            (place, table.chunks(), gone * 4 > table.pack_count() as usize)
        })
        .collect();
    let small = sizes.iter().filter(|(_, chunks, _)| *chunks < SMALL_CHUNKS).count();
    let is_input = |(_, chunks, is_stale): &(&SegmentPlace, usize, bool)| {
        *is_stale || (small >= SMALL_SEGMENTS_MAX && *chunks < SMALL_CHUNKS)
    };
    let mut group: Vec<SegmentPlace> = Vec::new();
    let mut chunks = 0;
    for size in sizes.iter().filter(|size| is_input(size)) {
        if chunks + size.1 > MERGED_CHUNKS || group.len() >= INPUTS_MAX {
            merge(repository, &std::mem::take(&mut group), report, ctx)?;
            chunks = 0;
        }
        group.push(size.0.clone());
        chunks += size.1;
    }
    merge(repository, &group, report, ctx)?;
    condemn_superseded(repository)
}

/// Replaces segments by one.
fn merge(
    repository: &Inner,
    inputs: &[SegmentPlace],
    report: &mut PruneReport,
    ctx: Context<'_>,
) -> Result<()> {
    if inputs.is_empty() {
        return Ok(());
    }
    let log = repository.synchronise()?;
    let mut merged = Merged::default();
    for place in inputs {
        ctx.cancel.check()?;
        // From the store, not from the cache: what is lost here is lost to everybody.
        match read_segment(repository, place) {
            // Another collector was faster: it replaced the segment, and deleted it.
            Err(error) if error.is_damage() && !repository.synchronise()?.fold.is_live(place.hash()) => {
                return Ok(());
            }
            read => merged.add(&read?.0, &log)?,
        }
    }
    let mut segment = merged.segment;
    // Stable: of several copies the earliest stays the first.
    segment.chunks.sort_by_key(|record| record.id);
    segment.inputs = inputs.iter().map(|place| *place.hash()).collect();
    let outputs = if segment.chunks.is_empty() {
        Vec::new()
    } else {
        let hash = repository.put_segment(&segment)?;
        // A store that lost it would have lost the way to every pack that it lists.
        match read_segment(repository, &SegmentPlace::Object(hash)) {
            Ok(_) => vec![hash],
            // Another collector took it for a leftover.
            Err(error) if error.is_damage() && is_condemned(repository, &hash)? => return Ok(()),
            Err(error) => return Err(error),
        }
    };
    let reindex = Reindex { inputs: segment.inputs, outputs, own_packs: HashList::default() };
    let appended = repository.append_if(&mut |log| {
        Ok(log.fold.check_reindex(&reindex, &[]).is_ok().then(|| Event::Reindex(reindex.clone())))
    })?;
    // Otherwise another collector was faster, or took the output for a leftover: that is what it is now, and the next run merges
    // what there is then.
    if appended.is_some() {
        report.segments_merged += inputs.len() as u64;
    }
    Ok(())
}

fn is_condemned(repository: &Inner, segment: &ObjectHash) -> Result<bool> {
    Ok(repository.synchronise()?.fold.condemned().contains_key(segment))
}

/// A segment that is put together from others.
#[derive(Default)]
struct Merged {
    segment: Segment,
    packs: HashMap<ObjectHash, u32>,
    headers: HashMap<Header, u32>,
}

impl Merged {
    /// Adds what a segment says of packs that are not condemned.
    fn add(&mut self, input: &Segment, log: &Log) -> Result<()> {
        let mut frames: HashMap<u32, u32> = HashMap::new();
        for record in &input.chunks {
            let frame = match frames.get(&record.frame) {
                Some(frame) => *frame,
                None => {
                    let frame = self.add_frame(input, record, log)?;
                    frames.insert(record.frame, frame);
                    frame
                }
            };
            if frame != u32::MAX {
                self.segment.chunks.push(ChunkRecord { frame, ..*record });
            }
        }
        Ok(())
    }

    /// The number of a record's frame in the merged segment; `u32::MAX` where its pack is condemned.
    fn add_frame(&mut self, input: &Segment, record: &ChunkRecord, log: &Log) -> Result<u32> {
        let damaged = || Error::corrupt("an index segment's record names no frame");
        let frame = input.frames.get(record.frame as usize).ok_or_else(damaged)?;
        let pack = input.packs.get(frame.pack as usize).ok_or_else(damaged)?;
        if log.fold.condemned().contains_key(&pack.hash) {
            return Ok(u32::MAX);
        }
        let header = input.headers.get(frame.header as usize).ok_or_else(damaged)?;
        let segment = &mut self.segment;
        let pack = *self.packs.entry(pack.hash).or_insert_with(|| {
            segment.packs.push(pack.clone());
            segment.packs.len() as u32 - 1
        });
        let header = *self.headers.entry(header.clone()).or_insert_with(|| {
            segment.headers.push(header.clone());
            segment.headers.len() as u32 - 1
        });
        segment.frames.push(FrameRecord { pack, header, ..*frame });
        Ok(segment.frames.len() as u32 - 1)
    }
}

/// Condemns the segments that were replaced.
fn condemn_superseded(repository: &Inner) -> Result<Log> {
    let log = repository.synchronise()?;
    let mut superseded: Vec<ObjectHash> = log.fold.superseded().copied().collect();
    if superseded.is_empty() {
        return Ok(log);
    }
    superseded.sort_unstable();
    let segments = repository.put_list(&superseded)?;
    let event = Condemn { packs: HashList::default(), segments, snapshots: Vec::new(), lossy: false };
    repository.append(&mut |log| {
        // No pack and no snapshot: it holds on any state, as what was replaced stays replaced.
        let changed = log.fold.changed;
        log.fold
            .check_condemn(changed, &[], &superseded, &Default::default())
            .map_err(|_| Error::new(ErrorKind::Internal, "a segment that was replaced counts again"))?;
        Ok(Event::Condemn(event.clone()))
    })
}
