//! Reads restored files back and compares them with the snapshot.

use std::collections::HashSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use super::compare::holds;
use super::job::Job;
use super::layout::Layout;
use super::places::split;
use super::report::Reporter;
use super::selection::kind_of;
use super::target::bytes;
use crate::error::{Error, Result};
use crate::observer::lock;
use crate::repository::{Onward, find_path, walk_some};
use crate::snapshot::Snapshot;
use crate::threads::Threads;
use crate::tree::{ChunkRef, Entry, EntryKind, read_extents, stream_chunks};

/// Chunks that are listed before they are read.
const BATCH_CHUNKS_MAX: usize = 64 << 10;
const BATCH_FILES_MAX: usize = 16 << 10;
/// So much of one file is read by one thread at a time.
const RUN_BYTES_MAX: u64 = 16 << 20;

/// A file that is read back.
#[derive(Debug)]
struct ReadFile {
    path: Vec<u8>,
    layout: Option<Layout>,
    bytes: u64,
    differs: AtomicBool,
}

/// Chunks of a file, one after the other.
#[derive(Debug)]
struct ReadRun {
    file: Arc<ReadFile>,
    /// It is the file's first: its length and its holes are looked at too.
    is_first: bool,
    chunks: Vec<(ChunkRef, u64)>,
    bytes: u64,
}

/// Files that are to be read.
struct Reading<'a, 'r, 'c> {
    job: &'a Job<'a>,
    threads: &'a Threads,
    reporter: &'r mut Reporter<'c>,
    runs: Vec<ReadRun>,
    chunks: usize,
}

/// Reads back every file that was restored, or was right already.
pub(super) fn run(
    job: &Job<'_>,
    threads: &Threads,
    snapshot: &Snapshot,
    kept: &HashSet<Vec<u8>>,
    reporter: &mut Reporter<'_>,
) -> Result<()> {
    // What is not on the disk yet cannot be read from there.
    job.target()?.sync_all()?;
    let found = find_path(snapshot, &job.options.path, job.reader)?;
    let mut reading = Reading { job, threads, reporter, runs: Vec::new(), chunks: 0 };
    walk_some(found, job.reader, &mut |path, entry| {
        job.ctx.cancel.check()?;
        let entry = match entry {
            Err(error) if error.is_retryable() => return Err(error),
            // That it could not be read was said before.
            Err(_) => return Ok(Onward::Into),
            Ok(entry) => entry,
        };
        let selection = &job.options.selection;
        let is_taken = selection.takes(path, kind_of(entry));
        if is_taken && !kept.contains(path) && !reading.reporter.is_absent(path) {
            match reading.add(path, entry) {
                Err(error) if error.is_damage() => reading.reporter.damaged(path, &error),
                added => added?,
            }
        }
        let goes_on = entry.is_directory() && selection.may_take_below(path);
        Ok(if goes_on || selection.is_everything() { Onward::Into } else { Onward::Past })
    })?;
    reading.read()
}

impl Reading<'_, '_, '_> {
    fn add(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let EntryKind::File(content) = &entry.kind else { return Ok(()) };
        let layout = read_extents(content, self.job.reader)?.map(Layout::new);
        let (path, bytes) = (path.to_vec(), content.bytes);
        let file = Arc::new(ReadFile { path, layout, bytes, differs: AtomicBool::new(false) });
        let new = |is_first| ReadRun { file: file.clone(), is_first, chunks: Vec::new(), bytes: 0 };
        let mut run = new(true);
        let mut stream_offset = 0;
        for chunk in stream_chunks(&content.stream, self.job.reader) {
            let chunk = chunk?;
            run.chunks.push((chunk, stream_offset));
            run.bytes += u64::from(chunk.bytes);
            stream_offset += u64::from(chunk.bytes);
            self.chunks += 1;
            if run.bytes >= RUN_BYTES_MAX {
                self.runs.push(std::mem::replace(&mut run, new(false)));
            }
            if self.chunks >= BATCH_CHUNKS_MAX {
                self.read()?;
            }
        }
        self.runs.push(run);
        self.reporter.report.verified += 1;
        self.reporter.report.bytes_verified += bytes;
        if self.runs.len() >= BATCH_FILES_MAX { self.read() } else { Ok(()) }
    }

    fn read(&mut self) -> Result<()> {
        self.chunks = 0;
        let runs = std::mem::take(&mut self.runs);
        let (job, reporter) = (self.job, Mutex::new(&mut *self.reporter));
        self.threads.each(runs, |run| {
            job.ctx.cancel.check()?;
            if let Err(why) = check(job, &run)
                && !run.file.differs.swap(true, Ordering::Relaxed)
            {
                lock(&reporter).differs(&run.file.path, &why);
            }
            Ok(())
        })
    }
}

/// Whether a part of a file is what the snapshot says, or why not.
fn check(job: &Job<'_>, run: &ReadRun) -> std::result::Result<(), String> {
    let file = open(job, run).map_err(|error| error.to_string())?;
    let known = &run.file;
    if run.is_first {
        let bytes = file.metadata().map_err(|error| error.to_string())?.len();
        if bytes != known.bytes {
            return Err(format!("its length is {bytes} bytes, not {}", known.bytes));
        }
        for (offset, count) in known.layout.as_ref().map_or_else(Vec::new, |layout| layout.holes(bytes)) {
            if !bytes::is_clear(&file, offset, count).map_err(|error| error.to_string())? {
                return Err(format!("a hole at byte {offset} holds data"));
            }
        }
    }
    let mut buffer = Vec::new();
    for (chunk, stream_offset) in &run.chunks {
        let layout = known.layout.as_ref();
        if !holds(job.repository, &file, layout, *stream_offset, chunk, &mut buffer) {
            let at = super::layout::runs(layout, *stream_offset, 1).first().map_or(0, |run| run.offset);
            return Err(format!("the {} bytes from {at} on differ", chunk.bytes));
        }
    }
    Ok(())
}

fn open(job: &Job<'_>, run: &ReadRun) -> std::result::Result<File, Error> {
    let place = job.places.place(&run.file.path);
    let (parent, name) = split(&place);
    let (file, _) = job.target()?.open_dir(&parent)?.open_present(name)?;
    if run.is_first {
        bytes::forget_cached(&file);
    }
    Ok(file)
}
