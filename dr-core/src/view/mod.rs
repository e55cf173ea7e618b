//! Looks into a snapshot for as long as somebody likes: entries by path, directories, and files at any offset. This is what
//! a mounted file system, an archive and a comparison read through.

mod ahead;
mod directory;
mod file;
mod recent;

use std::fmt;
use std::io::Write;
use std::sync::{Arc, Mutex, OnceLock};

pub use directory::EntryRun;
use file::OpenFile;
use recent::{OpenFiles, RecentChunks, RecentRuns};

use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::observer::{Context, Event, lock};
use crate::repository::{ChunkBytes, ChunkReader, Found, Repository, find_below};
use crate::snapshot::Snapshot;
use crate::threads::Threads;
use crate::tree::{ChunkRef, DirectoryReader, Entry, FileContent, ReadChunk, Stream};

/// A file is copied in pieces of this many bytes.
const COPY_BYTES: usize = 1 << 20;
/// Frames that are fetched ahead are opened on so many threads at most.
const THREADS_MAX: usize = 8;

/// Takes an entry of a directory, or the error that stands in the place of some; its own error ends the listing.
pub type VisitEntry<'v> = dyn FnMut(Result<Entry>) -> Result<()> + 'v;

/// A snapshot that is open for reading. It belongs to nobody's call: clones are cheap, share everything, and may be used
/// from several threads at once. It keeps some of what was read last: under 100 MiB.
#[derive(Clone)]
pub struct SnapshotView(Arc<View>);

struct View {
    reader: ChunkReader<'static>,
    root: Stream,
    files: Mutex<OpenFiles>,
    chunks: Mutex<RecentChunks>,
    runs: Mutex<RecentRuns>,
    /// Made when something is fetched ahead for the first time; they end with the view.
    threads: OnceLock<Threads>,
}

impl Repository {
    /// Opens a snapshot for reading. What is read later comes from the same snapshot, also where it was forgotten, as long as
    /// nothing of it is collected; chunks that move meanwhile are found again.
    ///
    /// # Errors
    /// `Corrupt` where the log or the index cannot be read, and what the store answers.
    pub fn view(&self, snapshot: &Snapshot) -> Result<SnapshotView> {
        let (log, index) = self.0.current()?;
        Ok(SnapshotView(Arc::new(View {
            reader: ChunkReader::shared(self.0.clone(), &log, index),
            root: snapshot.root.clone(),
            files: Mutex::default(),
            chunks: Mutex::default(),
            runs: Mutex::default(),
            threads: OnceLock::new(),
        })))
    }
}

impl fmt::Debug for SnapshotView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotView").field("root", &self.0.root).finish_non_exhaustive()
    }
}

impl SnapshotView {
    /// The stream of the topmost directory, which has no entry of its own.
    pub fn root(&self) -> Stream {
        self.0.root.clone()
    }

    /// The entry at an absolute path; none for `/`.
    ///
    /// # Errors
    /// `NotFound` where the snapshot has no such path, `Corrupt` where a directory on the way cannot be read and the next one
    /// may be in what is lost, and what the store answers.
    pub fn entry(&self, path: &[u8]) -> Result<Option<Entry>> {
        self.find(path).map(|found| found.entry)
    }

    pub(crate) fn find(&self, path: &[u8]) -> Result<Found> {
        find_below(&self.0.root, path, self.reader())
    }

    /// What trees are read with.
    pub(crate) fn reader(&self) -> &dyn ReadChunk {
        &self.0.reader
    }

    /// Calls `visit` for the entries of one directory, in ascending order of name. What cannot be read is an error in the place
    /// of a run of entries, and the listing goes on behind it.
    ///
    /// # Errors
    /// The first that `visit` returns.
    pub fn entries(&self, directory: &Stream, visit: &mut VisitEntry<'_>) -> Result<()> {
        DirectoryReader::new(directory, self.reader()).try_for_each(visit)
    }

    /// Reads a file from `offset` on: as many bytes as the buffer holds, or fewer at the file's end. Holes are zeros. Who reads
    /// one piece after the other finds the next ones fetched.
    ///
    /// # Errors
    /// `Corrupt` where bytes are damaged or missing, and what the store answers. The buffer then holds anything.
    pub fn read_at(&self, file: &FileContent, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = file.bytes.saturating_sub(offset);
        let count = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        if count > 0 {
            let opened = self.0.open(file)?;
            opened.read(&self.0, offset, &mut buffer[..count])?;
        }
        Ok(count)
    }

    /// Writes all of a file, holes as zeros. Gives its length.
    ///
    /// # Errors
    /// `Destination` where `to` cannot be written (the cause is its error), `Cancelled`, and as `read_at`. What was written
    /// before is the beginning of the file.
    pub fn copy_file(&self, file: &FileContent, to: &mut dyn Write, ctx: &Context<'_>) -> Result<u64> {
        self.use_threads(ctx);
        let mut piece = vec![0; COPY_BYTES.min(usize::try_from(file.bytes).unwrap_or(usize::MAX))];
        let mut offset = 0;
        while offset < file.bytes {
            ctx.cancel.check()?;
            let count = self.read_at(file, offset, &mut piece)?;
            to.write_all(&piece[..count]).map_err(unwritten)?;
            offset += count as u64;
            ctx.observer.event(&Event::Progress { bytes: count as u64 });
        }
        Ok(offset)
    }

    /// Fetches on as many threads as a call may have, unless another one was first.
    pub(crate) fn use_threads(&self, ctx: &Context<'_>) {
        self.0.pool(ctx.parallelism);
    }

    /// Fetches what small files hold that will be read next, as much of it as is kept.
    pub(crate) fn fetch_files(&self, files: &[&FileContent]) {
        let own = files.iter().filter(|file| file.stream.level == 0);
        let chunks: Vec<ChunkRef> = own.flat_map(|file| file.stream.chunks.iter().copied()).collect();
        self.0.fetch(&chunks);
    }
}

/// Says that what was read cannot be written.
pub(crate) fn unwritten(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Destination, "what was read could not be written").with_source(error)
}

impl View {
    /// The file with this content, open.
    fn open(&self, file: &FileContent) -> Result<Arc<OpenFile>> {
        if let Some(opened) = lock(&self.files).find(file) {
            return Ok(opened);
        }
        let opened = Arc::new(OpenFile::open(file, &self.reader)?);
        lock(&self.files).keep(file, opened.clone());
        Ok(opened)
    }

    /// A verified chunk of a file.
    fn chunk(&self, chunk: &ChunkRef) -> Result<ChunkBytes> {
        if let Some(bytes) = lock(&self.chunks).find(chunk) {
            return Ok(bytes);
        }
        let bytes = self.reader.read_shared(PackClass::Data, chunk)?;
        lock(&self.chunks).keep(chunk, bytes.clone());
        Ok(bytes)
    }

    /// Fetches the frames of chunks that will be read next.
    fn fetch(&self, chunks: &[ChunkRef]) {
        let threads = self.pool(std::thread::available_parallelism().map_or(1, usize::from));
        self.reader.fetch_ahead(PackClass::Data, chunks, threads);
    }

    /// The view's threads; so many, where they are not made yet.
    fn pool(&self, count: usize) -> &Threads {
        self.threads.get_or_init(|| Threads::new(count.min(THREADS_MAX), "dr-view").unwrap_or_default())
    }
}
