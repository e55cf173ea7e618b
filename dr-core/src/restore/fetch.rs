//! Fetches ranges of packs, opens the frames in them, verifies chunks and writes them.

use std::sync::{Arc, Mutex};

use super::files::{Before, Ended, Opened, RestoredFile};
use super::is_fatal;
use super::job::Job;
use super::plan::{Batch, FrameUses, Use};
use super::report::Reporter;
use crate::error::{Error, ErrorKind, Result};
use crate::observer::{Change, Event, lock};
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
    batch.job.ctx.cancel.check()?;
    let (Some(first), Some(last)) = (group.first(), group.last()) else { return Ok(()) };
    let start = u64::from(first.location.frame_offset);
    let from = start - start % STEP;
    let end = u64::from(last.location.frame_offset) + u64::from(last.location.shape.stored_bytes);
    let to = end.next_multiple_of(STEP).min(last.location.pack.bytes).max(end);
    let fetched = match batch.job.repository.store.get_range(&pack_name(&first.location), from..to) {
        Err(error) if error.is_retryable() => return Err(error.into()),
        fetched => fetched,
    };
    for frame in group {
        batch.job.ctx.cancel.check()?;
        let place = u64::from(frame.location.frame_offset) - from;
        let raw = match &fetched {
            Ok(bytes) => bytes
                .get(place as usize..place as usize + frame.location.shape.stored_bytes as usize)
                .ok_or_else(|| {
                    Error::corrupt("the pack is cut short").with_object(pack_name(&frame.location))
                })
                .and_then(|sealed| open_located(batch.job.repository, &frame.location, sealed)),
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
    let mut open: Option<(Arc<RestoredFile>, Opened)> = None;
    for needed in uses {
        let file = needed.file.clone();
        if open.as_ref().is_some_and(|(opened, _)| !Arc::ptr_eq(opened, &file)) {
            open = None;
        }
        let mut located = location.clone();
        (located.offset, located.bytes) = (needed.frame_offset, needed.bytes);
        let written = if file.is_failed() {
            Ok(())
        } else {
            chunk_of(batch, &located, &needed, &raw).and_then(|chunk| {
                if open.is_none() {
                    file.tell(batch.job);
                    open = Some((file.clone(), file.open(batch.job)?));
                }
                match &open {
                    Some((_, opened)) => file.write(batch.job, opened, &chunk, needed.stream_offset),
                    None => Ok(()),
                }
            })
        };
        if let Err(error) = written {
            note_failure(&file, error, reporter)?;
        } else {
            batch.job.ctx.observer.event(&Event::Progress { bytes: u64::from(needed.bytes) });
        }
        if file.done(u64::from(needed.bytes)) {
            let finished = finish(&file, batch.job, open.take().map(|(_, opened)| opened));
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
        Ok(raw) => cut_chunk(batch.job.repository, location, &needed.id, raw).map(std::borrow::Cow::Borrowed),
        Err(error) => Err(Error::corrupt(error.to_string())),
    };
    from_frame.or_else(|error| {
        let chunk = ChunkRef { id: needed.id, bytes: needed.bytes };
        // An outage says nothing of the chunk.
        let read = batch.job.reader.read(location.pack.class, &chunk).map(std::borrow::Cow::Owned);
        read.map_err(|other| if other.is_retryable() { other } else { error })
    })
}

fn note_failure(file: &RestoredFile, error: Error, reporter: &Mutex<&mut Reporter<'_>>) -> Result<()> {
    if ends_the_call(&error) {
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

/// Whether an error is not one of a single file.
fn ends_the_call(error: &Error) -> bool {
    error.kind() == ErrorKind::Cancelled || error.is_retryable() || is_fatal(error)
}

/// Ends a file that will get no more bytes: its metadata and its name, or nothing where it cannot be whole.
pub(super) fn finish(file: &RestoredFile, job: &Job<'_>, open: Option<Opened>) -> Result<Option<Ended>> {
    if file.is_failed() {
        file.discard(job);
        file.end();
        return Ok(None);
    }
    let ended = match file.finish(job, open) {
        Err(error) if !ends_the_call(&error) => {
            file.discard(job);
            file.end();
            return Err(error);
        }
        ended => ended?,
    };
    file.end();
    let change = match (&ended, file.before) {
        (Ended::Unchanged(_), _) => Change::Unchanged,
        (Ended::Written(_), Before::Nothing) => Change::Restored,
        (Ended::Written(_), _) => Change::Replaced,
    };
    job.ctx.observer.event(&Event::EntryDone { path: file.path.clone(), change, bytes: file.bytes() });
    Ok(Some(ended))
}

/// Counts a file that was ended, or notes why it could not be.
pub(super) fn report(
    file: &RestoredFile,
    finished: Result<Option<Ended>>,
    reporter: &mut Reporter<'_>,
) -> Result<()> {
    match finished {
        Ok(None) => {}
        Ok(Some(Ended::Unchanged(problems))) => {
            reporter.report.unchanged += 1;
            reporter.metadata(&file.path, problems);
        }
        Ok(Some(Ended::Written(problems))) => {
            reporter.report.files += 1;
            reporter.report.replaced += u64::from(file.before != Before::Nothing);
            reporter.report.bytes += file.bytes();
            reporter.report.bytes_reused += file.reused_bytes();
            reporter.metadata(&file.path, problems);
        }
        Err(error) if ends_the_call(&error) => return Err(error),
        Err(error) => {
            if file.fail() {
                reporter.failed(&file.path, &error);
            }
        }
    }
    Ok(())
}
