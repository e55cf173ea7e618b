//! Reads one file: opens it, cuts it, stores its chunks, and says whether it held still.

use std::io;
use std::sync::Arc;

use super::segment::StreamCutter;
use super::storer::{Scratch, Storer};
use super::workers;
use crate::error::Error;
use crate::format::snapshot::{Problem, ProblemKind};
use crate::format::tree::encode_extents;
use crate::observer::{Change, Event, TOLD_BYTES_MIN};
use crate::source::{SourceDirectory, SourceFile};
use crate::time::Timestamp;
use crate::tree::{Entry, EntryKind, Extent, FileContent, SparseMap, Stream, StreamWriter, store_bytes};

/// Sparse files with at most this many extents keep them in their entry.
const INLINE_EXTENTS_MAX: usize = 32;
/// Extents in a tree chunk.
const EXTENTS_PER_CHUNK: usize = 4096;

/// How often a file is read that is replaced meanwhile.
const ATTEMPTS_MAX: usize = 3;

/// A file to be read.
#[derive(Debug)]
pub(crate) struct FileJob {
    pub(crate) directory: Arc<dyn SourceDirectory>,
    pub(crate) entry: Entry,
    pub(crate) path: Vec<u8>,
    pub(crate) place: Place,
    pub(crate) change: Change,
}

/// Where a result belongs: a directory that is being scanned, and the number of the entry in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) directory: u64,
    pub(crate) number: usize,
}

/// A file that was read, or could not be.
#[derive(Debug)]
pub(crate) struct FileDone {
    pub(crate) place: Place,
    pub(crate) entry: Option<Entry>,
    pub(crate) problems: Vec<Problem>,
    pub(crate) bytes_read: u64,
    /// Another file took its place while it was read.
    replaced: bool,
}

impl FileJob {
    /// Reads and stores the file. What is wrong with the file is part of the result; an error is the store's or ours.
    pub(crate) fn run(self, storer: &Storer<'_>, scratch: &mut Scratch) -> crate::error::Result<FileDone> {
        if !workers::is_alone(storer) && storer.queue.wants_sample() {
            storer.queue.fetched(self.directory.fetch(&self.entry.name));
        }
        let mut attempt = 1;
        loop {
            let done = self.read(storer, scratch)?;
            match done.replaced {
                // What took its place is read from its beginning.
                true if attempt < ATTEMPTS_MAX => attempt += 1,
                _ => return Ok(done),
            }
        }
    }

    fn read(&self, storer: &Storer<'_>, scratch: &mut Scratch) -> crate::error::Result<FileDone> {
        let mut done =
            FileDone { place: self.place, entry: None, problems: Vec::new(), bytes_read: 0, replaced: false };
        let looked = storer.repository.clock.now();
        let opened = self.directory.open_file(&self.entry.name).and_then(|file| Ok((file.entry()?, file)));
        let (mut entry, file) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                done.problems.push(self.unreadable(&error));
                return Ok(done);
            }
        };
        let unread = file.complete(&mut entry).err();
        entry.name.clone_from(&self.entry.name);
        let read = Reading::new(&*file, &entry).map(|mut reading| {
            if reading.bytes >= TOLD_BYTES_MIN {
                storer.ctx.observer.event(&Event::Reading { path: self.path.clone() });
            }
            let stream = reading.store(storer, scratch, &self.entry.name);
            (stream, reading)
        });
        let (stream, reading) = match read {
            Ok((Ok(stream), reading)) => (stream, reading),
            Ok((Err(Failed::Engine(error)), _)) => return Err(error),
            Ok((Err(Failed::Source(error)), _)) | Err(error) => {
                done.replaced = error.kind() == io::ErrorKind::StaleNetworkFileHandle;
                done.problems.push(self.unreadable(&error));
                return Ok(done);
            }
        };
        done.bytes_read = stream.bytes;
        let held_still = !reading.is_short && file.is_unchanged_since(&entry).unwrap_or(false);
        let bytes = reading.bytes;
        let sparse = sparse_map(reading.extents, storer)?;
        // What could not be read now is looked at again next time.
        entry.metadata.racy =
            !held_still || unread.is_some() || !file.is_versioned() && is_racy(&entry, looked);
        entry.kind = EntryKind::File(FileContent::new(bytes, stream, sparse));
        if !held_still {
            let detail = "it changed while it was read";
            done.problems.push(Problem::new(self.path.as_slice(), ProblemKind::Changed, detail));
        }
        if let Some(error) = unread {
            done.problems.push(Problem::new(self.path.as_slice(), ProblemKind::Attributes, error));
        }
        let path = self.path.clone();
        storer.ctx.observer.event(&Event::EntryDone { path, change: self.change, bytes });
        done.entry = Some(entry);
        Ok(done)
    }

    fn unreadable(&self, error: &io::Error) -> Problem {
        problem_of(&self.path, error)
    }
}

/// The map of a file with holes, as its entry holds it.
pub(super) fn sparse_map(
    extents: Option<Vec<Extent>>,
    storer: &Storer<'_>,
) -> crate::error::Result<Option<SparseMap>> {
    Ok(match extents {
        None => None,
        Some(extents) if extents.len() <= INLINE_EXTENTS_MAX => Some(SparseMap::Inline(extents)),
        Some(extents) => Some(SparseMap::Stream(store_bytes(
            extents.chunks(EXTENTS_PER_CHUNK).map(encode_extents),
            storer,
        )?)),
    })
}

/// What an I/O error of the source says of a path.
pub(crate) fn problem_of(path: &[u8], error: &io::Error) -> Problem {
    let kind =
        if error.kind() == io::ErrorKind::NotFound { ProblemKind::Vanished } else { ProblemKind::Unreadable };
    Problem::new(path, kind, error)
}

/// Whether something may have changed after it was looked at without its change time showing it: the time is not older
/// than the look, less the granularity of the file system's clock (10 ms; 2 s where times are whole seconds).
pub(crate) fn is_racy(entry: &Entry, looked: Timestamp) -> bool {
    let metadata = &entry.metadata;
    let is_coarse = metadata.changed.nanoseconds == 0 && metadata.modified.nanoseconds == 0;
    let granularity = if is_coarse { 2_000_000_000 } else { 10_000_000 };
    metadata.changed.as_nanoseconds() >= looked.as_nanoseconds() - granularity
}

/// Why a file was not stored.
enum Failed {
    /// The file could not be read.
    Source(io::Error),
    /// The store failed, or the call was cancelled.
    Engine(Error),
}

/// The data of a file, one extent after the other.
struct Reading<'f> {
    file: &'f dyn SourceFile,
    /// What is left to be read.
    left: std::vec::IntoIter<Extent>,
    current: Extent,
    /// The extents that were read, of a file with holes.
    extents: Option<Vec<Extent>>,
    /// The length of the file: as it was when it was opened, or shorter.
    bytes: u64,
    is_short: bool,
}

impl<'f> Reading<'f> {
    fn new(file: &'f dyn SourceFile, entry: &Entry) -> io::Result<Reading<'f>> {
        let EntryKind::File(content) = &entry.kind else {
            return Err(io::Error::other("is no longer a regular file"));
        };
        let bytes = content.bytes;
        let extents = if bytes == 0 { None } else { file.extents(bytes)? };
        let whole = vec![Extent { offset: 0, bytes }];
        let left = extents.clone().unwrap_or(whole).into_iter();
        let none = Extent { offset: 0, bytes: 0 };
        Ok(Reading { file, left, current: none, extents, bytes, is_short: false })
    }

    fn data_bytes(&self) -> u64 {
        self.left.as_slice().iter().map(|extent| extent.bytes).sum()
    }

    fn store(&mut self, storer: &Storer<'_>, scratch: &mut Scratch, name: &[u8]) -> Result<Stream, Failed> {
        if self.data_bytes() <= storer.chunker.min_bytes() as u64 {
            return self.store_small(storer, name);
        }
        let mut failure = None;
        let mut cutter = StreamCutter::new(storer);
        let filled = cutter.fill(scratch, &mut |buffer| {
            self.read(buffer).map_err(|error| {
                failure = Some(error);
                Error::cancelled()
            })
        });
        if let Some(error) = failure {
            return Err(Failed::Source(error));
        }
        filled.and_then(|()| cutter.finish(scratch)).map_err(Failed::Engine)
    }

    fn store_small(&mut self, storer: &Storer<'_>, name: &[u8]) -> Result<Stream, Failed> {
        let mut chunk = vec![0; self.data_bytes() as usize];
        let mut filled = 0;
        while filled < chunk.len() {
            match self.read(&mut chunk[filled..]).map_err(Failed::Source)? {
                0 => break,
                count => filled += count,
            }
        }
        if filled < chunk.len() {
            // What says that it is longer than it is, as in /sys, is not kept at that length.
            chunk.truncate(filled);
            chunk.shrink_to_fit();
        }
        let mut stream = StreamWriter::default();
        if !chunk.is_empty() {
            let chunk = storer.store_small(name, chunk).map_err(Failed::Engine)?;
            stream.push(chunk, storer).map_err(Failed::Engine)?;
            storer.ctx.observer.event(&Event::Progress { bytes: filled as u64 });
        }
        stream.finish(storer).map_err(Failed::Engine)
    }

    /// Reads the next bytes of data; 0 at the end.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.current.bytes == 0 {
                match self.left.next() {
                    Some(extent) => self.current = extent,
                    None => return Ok(0),
                }
                continue;
            }
            let wanted = buffer.len().min(usize::try_from(self.current.bytes).unwrap_or(usize::MAX));
            let count = self.file.read_at(&mut buffer[..wanted], self.current.offset)?;
            if count == 0 {
                self.cut_short();
                return Ok(0);
            }
            self.current.offset += count as u64;
            self.current.bytes -= count as u64;
            return Ok(count);
        }
    }

    /// The file ends here, earlier than it said.
    fn cut_short(&mut self) {
        let end = self.current.offset;
        self.is_short = true;
        self.bytes = end;
        if let Some(extents) = &mut self.extents {
            extents.retain(|extent| extent.offset < end);
            if let Some(last) = extents.last_mut() {
                last.bytes = last.bytes.min(end - last.offset);
            }
        }
        self.current.bytes = 0;
        self.left = Vec::new().into_iter();
    }
}
