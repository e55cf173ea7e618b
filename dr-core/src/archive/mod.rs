//! Writes what is in a snapshot as one archive: a stream that other programs read.

mod tar;
mod zip;

use std::collections::HashMap;
use std::io::{BufWriter, Write};

use tar::TarArchive;
use zip::ZipArchive;

use crate::error::{Error, Result};
use crate::limits::REPORTED_PROBLEMS_MAX;
use crate::observer::{Change, Context, Event, as_path};
use crate::repository::{Repository, walk};
use crate::snapshot::{Problem, ProblemKind, Snapshot};
use crate::tree::{Entry, EntryKind, FileContent};
use crate::view::{SnapshotView, unwritten};

/// So many entries wait for what small files hold to be fetched together.
const WAITING_MAX: usize = 512;
/// So many bytes of small files are fetched together.
const WAITING_BYTES_MAX: u64 = 8 << 20;
/// What is written at a time, at least.
const BUFFER_BYTES: usize = 128 << 10;

/// What an archive is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ArchiveFormat {
    /// A tar archive in the format of POSIX.1-2001 (pax): everything but sockets, with owners, times to the nanosecond,
    /// extended attributes (also ACLs and capabilities), hard links and holes.
    #[default]
    Tar,
    /// A ZIP archive: files, directories and symbolic links with permissions, numbers of owners and times to the second.
    Zip,
}

/// What a caller may ask of an archive.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DumpOptions {
    /// Only this path and what is below it; all of the snapshot where it is empty. The directories above are left out of
    /// the names.
    pub path: Vec<u8>,
    /// What is written.
    pub format: ArchiveFormat,
}

impl DumpOptions {
    /// All of a snapshot, as tar.
    pub fn new() -> DumpOptions {
        DumpOptions::default()
    }

    /// Only a path and what is below it.
    #[must_use]
    pub fn path(mut self, path: impl Into<Vec<u8>>) -> DumpOptions {
        self.path = path.into();
        self
    }

    /// Another format.
    #[must_use]
    pub fn format(mut self, format: ArchiveFormat) -> DumpOptions {
        self.format = format;
        self
    }
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
#[must_use = "a report says what the archive lacks"]
pub struct DumpReport {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else, further names of files among them.
    pub others: u64,
    /// Bytes of file contents, holes included.
    pub bytes: u64,
    /// How many entries the format has no place for.
    pub problem_count: u64,
    /// The first of them, at most 1,000.
    pub problems: Vec<Problem>,
}

impl DumpReport {
    /// Whether the archive holds everything.
    pub fn is_complete(&self) -> bool {
        self.problem_count == 0
    }
}

/// What is to be added to an archive.
struct Item<'i> {
    /// Its name in the archive.
    name: &'i [u8],
    entry: &'i Entry,
    /// The name in the archive under which the same file came before.
    first_name: Option<&'i [u8]>,
}

/// What became of it.
enum Added {
    Whole,
    /// The format has no place for it, for this reason.
    Skipped(&'static str),
}

/// A kind of archive.
trait Archive {
    /// Adds an entry. After an error the archive is no good.
    fn add(&mut self, item: &Item<'_>, view: &SnapshotView, ctx: &Context<'_>) -> Result<Added>;

    /// Writes what stands at the end.
    fn finish(&mut self) -> Result<()>;

    /// Writes what no reader takes for the end, after an error, where what is written would look whole without it.
    fn break_off(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Repository {
    /// Writes a snapshot, or a part of it, as one archive, in the order of the snapshot.
    ///
    /// # Errors
    /// `NotFound` where the snapshot has no such path, `Corrupt` where anything in it cannot be read: an archive cannot say
    /// what it lacks, so it breaks off there, in a way that its readers notice; the error names the path. `Destination` where
    /// `to` cannot be written, `Cancelled`, and what the store answers. What the format has no place for is no error: the
    /// report names it.
    pub fn dump(
        &self,
        snapshot: &Snapshot,
        to: &mut dyn Write,
        options: &DumpOptions,
        ctx: &Context<'_>,
    ) -> Result<DumpReport> {
        let view = self.view(snapshot)?;
        view.use_threads(ctx);
        let found = view.find(&options.path)?;
        if options.path.iter().all(|byte| *byte == b'/') {
            ctx.observer.event(&Event::Total {
                entries: snapshot.totals.files + snapshot.totals.directories + snapshot.totals.others,
                bytes: snapshot.totals.bytes,
            });
        }
        let to = BufWriter::with_capacity(BUFFER_BYTES, to);
        let archive: Box<dyn Archive + '_> = match options.format {
            ArchiveFormat::Tar => Box::new(TarArchive::new(to)),
            ArchiveFormat::Zip => Box::new(ZipArchive::new(to)),
        };
        let stripped = match found.directory() {
            Some(_) => found.path.len(),
            None => parent_bytes(&found.path),
        };
        let mut dump = Dump {
            view: &view,
            archive,
            ctx: *ctx,
            stripped,
            waiting: Vec::new(),
            waiting_bytes: 0,
            links: HashMap::new(),
            report: DumpReport::default(),
        };
        let written = walk(found, view.reader(), &mut |path, entry| dump.take(path, entry))
            .and_then(|()| dump.write_waiting())
            .and_then(|()| dump.archive.finish());
        if let Err(error) = written {
            // Where this cannot be written either, the error says so already.
            let _ = dump.archive.break_off();
            return Err(error);
        }
        Ok(dump.report)
    }
}

/// How long the part of a path above its last name is.
fn parent_bytes(path: &[u8]) -> usize {
    path.iter().rposition(|byte| *byte == b'/').unwrap_or(0)
}

/// A name of a file, and what is stored under it.
type FirstName = (Vec<u8>, EntryKind);

struct Dump<'a> {
    view: &'a SnapshotView,
    archive: Box<dyn Archive + 'a>,
    ctx: Context<'a>,
    /// How much of a path is left out.
    stripped: usize,
    waiting: Vec<(Vec<u8>, Entry)>,
    waiting_bytes: u64,
    /// The first names of files that have several, by device and inode.
    links: HashMap<(u64, u64), FirstName>,
    report: DumpReport,
}

impl Dump<'_> {
    fn take(&mut self, path: &[u8], entry: Result<&Entry>) -> Result<()> {
        self.ctx.cancel.check()?;
        let entry = entry.map_err(|error| broken_off(path, error))?;
        if path.len() <= self.stripped {
            return Ok(());
        }
        if let EntryKind::File(content) = &entry.kind {
            self.waiting_bytes += content.stream.bytes;
        }
        self.waiting.push((path.to_vec(), entry.clone()));
        if self.waiting.len() >= WAITING_MAX || self.waiting_bytes >= WAITING_BYTES_MAX {
            return self.write_waiting();
        }
        Ok(())
    }

    /// Writes what waits. What small files hold is fetched together.
    fn write_waiting(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        let contents = waiting.iter().filter_map(|(_, entry)| match &entry.kind {
            EntryKind::File(content) if content.stream.bytes < WAITING_BYTES_MAX => Some(content),
            _ => None,
        });
        let contents: Vec<&FileContent> = contents.collect();
        self.view.fetch_files(&contents);
        self.waiting_bytes = 0;
        for (path, entry) in &waiting {
            self.ctx.cancel.check()?;
            self.write(path, entry).map_err(|error| broken_off(path, error))?;
        }
        Ok(())
    }

    fn write(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let name = path.get(self.stripped + 1..).unwrap_or_default();
        let first = entry.hard_link_key().and_then(|key| self.links.get(&key));
        // Entries that say they are one file but hold different things are not: an inode's number may have been used again.
        let first_name = first.filter(|(_, kind)| *kind == entry.kind).map(|(name, _)| name.as_slice());
        let item = Item { name, entry, first_name };
        let is_link = first_name.is_some();
        if let Added::Skipped(reason) = self.archive.add(&item, self.view, &self.ctx)? {
            self.skipped(path, reason);
            return Ok(());
        }
        if let (Some(key), false) = (entry.hard_link_key(), is_link) {
            self.links.entry(key).or_insert_with(|| (name.to_vec(), entry.kind.clone()));
        }
        let bytes = match &entry.kind {
            EntryKind::File(content) if !is_link => {
                self.report.files += 1;
                content.bytes
            }
            EntryKind::Directory(_) => {
                self.report.directories += 1;
                0
            }
            _ => {
                self.report.others += 1;
                0
            }
        };
        self.report.bytes += bytes;
        self.ctx.observer.event(&Event::EntryDone { path: path.to_vec(), change: Change::Restored, bytes });
        Ok(())
    }

    fn skipped(&mut self, path: &[u8], reason: &'static str) {
        let problem = Problem::new(path, ProblemKind::Skipped, reason);
        self.ctx.problem(&problem);
        self.report.problem_count += 1;
        if self.report.problems.len() < REPORTED_PROBLEMS_MAX {
            self.report.problems.push(problem);
        }
    }
}

/// Says that an archive breaks off at a path, and why.
fn broken_off(path: &[u8], error: Error) -> Error {
    if !error.is_damage() {
        return error;
    }
    let path = if path.is_empty() { b"/" } else { path };
    let broken = Error::new(error.kind(), "the archive breaks off, since this cannot be read")
        .with_path(as_path(path))
        .with_remedy("'dr restore' restores what can be read; 'dr check' says what is damaged");
    let object = error.object().map(str::to_owned);
    let broken = broken.with_source(error);
    match object {
        Some(object) => broken.with_object(object),
        None => broken,
    }
}

/// Counts what is written.
struct Counted<W> {
    inner: W,
    bytes: u64,
}

impl<W: Write> Write for Counted<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// Writes to an archive.
fn put(to: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    to.write_all(bytes).map_err(unwritten)
}
