//! Fetches ranges of packs, opens the frames in them, verifies chunks and writes them.

use std::fs::File;
use std::sync::Mutex;

use super::files::RestoredFile;
use super::is_fatal;
use super::plan::{Batch, FrameUses, Use};
use super::report::Reporter;
use super::target::{MetadataProblem, Target, TargetDir};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::{Change, Context, Event, lock};
use crate::repository::{cut_chunk, open_located, pack_name};
use crate::tree::ChunkRef;

/// Ranges that are closer than this are fetched as one: the bytes between cost less than another request.
const GAP_BYTES_MAX: u64 = 256 << 10;
/// The longest range that is fetched at once.
const RANGE_BYTES_MAX: u64 = 8 << 20;
/// Range ends are rounded out to multiples of this.
const STEP: u64 = crate::repository::RANGE_STEP_BYTES;

/// Fetches and writes all frames, on all threads.
pub(super) fn run(batch: &Batch<'_>, frames: Vec<FrameUses>, reporter: &mut Reporter<'_>) -> Result<()> {
    let groups = coalesce(frames);
    let reporter = Mutex::new(reporter);
    batch.threads.each(groups, |group| run_group(batch, group, &reporter))
}

/// Joins frames that lie close together in a pack.
fn coalesce(frames: Vec<FrameUses>) -> Vec<Vec<FrameUses>> {
    let end = |frame: &FrameUses| {
        u64::from(frame.location.frame_offset) + u64::from(frame.location.shape.stored_bytes)
    };
    let mut groups: Vec<Vec<FrameUses>> = Vec::new();
    for frame in frames {
        let start = u64::from(frame.location.frame_offset);
        let joins = groups.last().and_then(|group| Some((group.first()?, group.last()?))).is_some_and(
            |(first, last)| {
                first.location.pack.hash == frame.location.pack.hash
                    && start <= end(last) + GAP_BYTES_MAX
                    && end(&frame) - u64::from(first.location.frame_offset) <= RANGE_BYTES_MAX
            },
        );
        match groups.last_mut().filter(|_| joins) {
            Some(group) => group.push(frame),
            None => groups.push(vec![frame]),
        }
    }
    groups
}

fn run_group(batch: &Batch<'_>, group: Vec<FrameUses>, reporter: &Mutex<&mut Reporter<'_>>) -> Result<()> {
    batch.ctx.cancel.check()?;
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
    let start = u64::from(first.location.frame_offset);
    let from = start - start % STEP;
    let end = u64::from(last.location.frame_offset) + u64::from(last.location.shape.stored_bytes);
    let to = end.next_multiple_of(STEP).min(last.location.pack.bytes).max(end);
    let fetched = match batch.repository.store.get_range(&pack_name(&first.location), from..to) {
        Err(error) if error.is_retryable() => return Err(error.into()),
        fetched => fetched,
    };
    for frame in group {
        batch.ctx.cancel.check()?;
        let place = u64::from(frame.location.frame_offset) - from;
        let raw = match &fetched {
            Ok(bytes) => bytes
                .get(place as usize..place as usize + frame.location.shape.stored_bytes as usize)
                .ok_or_else(|| {
                    Error::corrupt("the pack is cut short").with_object(pack_name(&frame.location))
                })
                .and_then(|sealed| open_located(batch.repository, &frame.location, sealed)),
            Err(error) => Err(Error::corrupt(error.to_string())),
        };
        write_frame(batch, frame, raw, reporter)?;
    }
    Ok(())
}

/// Writes what files need of a frame. Uses of one file stand one after the other, so that it is opened once.
fn write_frame(
    batch: &Batch<'_>,
    frame: FrameUses,
    raw: Result<Vec<u8>>,
    reporter: &Mutex<&mut Reporter<'_>>,
) -> Result<()> {
    let FrameUses { location, uses } = frame;
    let mut open: Option<(std::sync::Arc<RestoredFile>, TargetDir, File)> = None;
    for needed in uses {
        let file = needed.file.clone();
        if open.as_ref().is_some_and(|(opened, ..)| !std::sync::Arc::ptr_eq(opened, &file)) {
            open = None;
        }
        let mut located = location.clone();
        (located.offset, located.bytes) = (needed.frame_offset, needed.bytes);
        let written = if file.is_failed() {
            Ok(())
        } else {
            chunk_of(batch, &located, &needed, &raw).and_then(|chunk| {
                if open.is_none() {
                    let (directory, handle) = file.open(batch.target)?;
                    open = Some((file.clone(), directory, handle));
                }
                match &open {
                    Some((_, directory, handle)) => {
                        file.write(directory, handle, &chunk, needed.stream_offset)
                    }
                    None => Ok(()),
                }
            })
        };
        if let Err(error) = written {
            note_failure(&file, error, reporter)?;
        } else {
            batch.ctx.observer.event(&Event::Progress { bytes: u64::from(needed.bytes) });
        }
        if file.done(u64::from(needed.bytes)) {
            let handle = open.take().map(|(_, directory, handle)| (directory, handle));
            let finished = finish(&file, batch.target, handle, batch.ctx);
            report(&file, finished, &mut lock(reporter))?;
        }
    }
    Ok(())
}

/// The verified bytes of a chunk: from the frame that was fetched, or from another copy.
fn chunk_of<'r>(
    batch: &Batch<'_>,
    location: &crate::index::Location,
    needed: &Use,
    raw: &'r Result<Vec<u8>>,
) -> Result<std::borrow::Cow<'r, [u8]>> {
    let from_frame = match raw {
        Ok(raw) => cut_chunk(batch.repository, location, &needed.id, raw).map(std::borrow::Cow::Borrowed),
        Err(error) => Err(Error::corrupt(error.to_string())),
    };
    from_frame.or_else(|error| {
        let chunk = ChunkRef { id: needed.id, bytes: needed.bytes };
        // An outage says nothing of the chunk.
        let read = batch.reader.read(location.pack.class, &chunk).map(std::borrow::Cow::Owned);
        read.map_err(|other| if other.is_retryable() { other } else { error })
    })
}

fn note_failure(file: &RestoredFile, error: Error, reporter: &Mutex<&mut Reporter<'_>>) -> Result<()> {
    if error.kind() == ErrorKind::Cancelled || error.is_retryable() || is_fatal(&error) {
        return Err(error);
    }
    if file.fail() {
        let mut reporter = lock(reporter);
        if error.kind() == ErrorKind::Destination {
            reporter.failed(&file.path, &error);
        } else {
            reporter.damaged(&file.path, &error);
        }
    }
    Ok(())
}

/// Ends a file that will get no more bytes: its metadata, or nothing where it cannot be whole.
pub(super) fn finish(
    file: &RestoredFile,
    target: &Target,
    open: Option<(TargetDir, File)>,
    ctx: Context<'_>,
) -> Result<Option<Vec<MetadataProblem>>> {
    if file.is_failed() {
        file.discard(target);
        return Ok(None);
    }
    let problems = file.finish(target, open)?;
    ctx.observer.event(&Event::EntryDone {
        path: file.path.clone(),
        change: Change::Restored,
        bytes: file.bytes(),
    });
    Ok(Some(problems))
}

/// Counts a file that was ended, or notes why it could not be.
pub(super) fn report(
    file: &RestoredFile,
    finished: Result<Option<Vec<MetadataProblem>>>,
    reporter: &mut Reporter<'_>,
) -> Result<()> {
    match finished {
        Ok(None) => {}
        Ok(Some(problems)) => {
            reporter.report.files += 1;
            reporter.report.bytes += file.bytes();
            reporter.metadata(&file.path, problems);
        }
        Err(error) if is_fatal(&error) => return Err(error),
        Err(error) => {
            if file.fail() {
                reporter.failed(&file.path, &error);
            }
        }
    }
    Ok(())
}
