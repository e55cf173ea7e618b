//! Compares two trees, directory by directory. Directories that are stored as the same chunks are equal and not looked at.

use std::io;
use std::sync::Arc;
use std::vec::IntoIter;

use super::below;
use super::local::Disk;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::DEPTH_MAX;
use crate::observer::Context;
use crate::repository::{ChunkReader, Repository, find_path};
use crate::snapshot::Snapshot;
use crate::source::SourceDirectory;
use crate::tree::{DirectoryReader, Entry, EntryKind, Metadata, Stream};

/// Takes a path and what is different there, or the error that stands in the place of something.
pub type VisitDifference<'v> = dyn FnMut(&[u8], Result<Difference<'_>>) -> Result<()> + 'v;

/// What a caller may ask of a comparison.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct DiffOptions {
    /// Compares only what is below this path of the older snapshot.
    pub old_path: Vec<u8>,
    /// Compares only what is below this path of the newer snapshot.
    pub new_path: Vec<u8>,
    /// Also tells what differs in nothing but its metadata: mode, owners, modification time, attributes.
    pub metadata: bool,
    /// Tells only of files that are in both, and whose contents differ.
    pub content_only: bool,
}

impl DiffOptions {
    /// Compares everything.
    pub fn new() -> DiffOptions {
        DiffOptions::default()
    }
}

/// How two entries of one path differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiffKind {
    /// Only the newer tree has it.
    Added,
    /// Only the older tree has it.
    Removed,
    /// Its content, a link's target or a device's number is another.
    Modified,
    /// Its content is another, and neither its length nor a time says so: its bytes may have rotted.
    Silent,
    /// Its metadata is another.
    Metadata,
    /// It is another kind of thing.
    Type,
}

/// What is different at a path.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Difference<'d> {
    /// How.
    pub kind: DiffKind,
    /// The entry in the older tree.
    pub old: Option<&'d Entry>,
    /// The entry in the newer tree.
    pub new: Option<&'d Entry>,
}

/// How many of what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DiffTotals {
    /// Regular files.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Everything else.
    pub others: u64,
    /// The lengths of the files together.
    pub bytes: u64,
}

impl DiffTotals {
    fn add(&mut self, entry: &Entry) {
        match &entry.kind {
            EntryKind::File(content) => {
                self.files += 1;
                self.bytes += content.bytes;
            }
            EntryKind::Directory(_) => self.directories += 1,
            _ => self.others += 1,
        }
    }
}

/// What a comparison found. It counts everything, whether it was to be told or not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DiffReport {
    /// What only the newer tree has.
    pub added: DiffTotals,
    /// What only the older tree has.
    pub removed: DiffTotals,
    /// Files and others whose content is another, those of `silent` among them.
    pub modified: u64,
    /// Files whose content is another, and neither length nor times say so.
    pub silent: u64,
    /// What differs in its metadata only.
    pub metadata: u64,
    /// What is another kind of thing.
    pub types: u64,
    /// Directories that are stored as the same chunks, and were not looked at.
    pub equal_directories: u64,
    /// Bytes on the disk that were read.
    pub bytes_read: u64,
    /// Places that could not be read: what is there may differ.
    pub unread: u64,
}

impl DiffReport {
    /// Whether both trees are the same, as far as they could be read.
    pub fn is_equal(&self) -> bool {
        let none = DiffTotals::default();
        self.added == none && self.removed == none && self.modified + self.metadata + self.types == 0
    }
}

impl Repository {
    /// Calls `visit` for everything that is different in two snapshots, in the order of the paths (which are those of the
    /// newer one).
    ///
    /// # Errors
    /// `NotFound` where a snapshot has no such path, `InvalidInput` where it is no directory, `Cancelled`, what the store
    /// answers, and the first error that `visit` returns. What cannot be read is an error in its place.
    pub fn diff(
        &self,
        old: &Snapshot,
        new: &Snapshot,
        options: &DiffOptions,
        visit: &mut VisitDifference<'_>,
        ctx: &Context<'_>,
    ) -> Result<DiffReport> {
        let (log, index) = self.0.current()?;
        let reader = ChunkReader::new(&self.0, &log, index);
        let directory = |snapshot: &Snapshot, path: &[u8]| {
            let found = find_path(snapshot, path, &reader)?;
            let stream = found.directory().cloned().ok_or_else(|| not_a_directory(path))?;
            Ok::<_, Error>((found.path, stream))
        };
        let (_, old) = directory(old, &options.old_path)?;
        let (path, new) = directory(new, &options.new_path)?;
        let mut comparison = Comparison::new(&reader, options, None, *ctx, visit);
        if old == new {
            comparison.report.equal_directories += 1;
        } else {
            comparison.enter(path, Some(Side::Tree(&old)), Some(Side::Tree(&new)))?;
            comparison.run()?;
        }
        Ok(comparison.report)
    }
}

pub(super) fn not_a_directory(path: &[u8]) -> Error {
    Error::new(ErrorKind::InvalidInput, "only directories are compared")
        .with_path(crate::observer::as_path(path))
        .with_remedy("name the directory that it is in")
}

/// A directory on one side.
pub(super) enum Side<'s> {
    Tree(&'s Stream),
    Disk(Arc<dyn SourceDirectory>),
}

/// The entries of a directory, in order of name.
struct Entries<'r> {
    source: EntrySource<'r>,
    next: Option<Entry>,
}

enum EntrySource<'r> {
    Tree(DirectoryReader<'r>),
    Disk(IntoIter<(Vec<u8>, io::Result<Entry>)>),
    Nothing,
}

impl Entries<'_> {
    /// Makes the next entry ready. An error stands for some entries, or for one.
    fn fill(&mut self) -> std::result::Result<(), (Option<Vec<u8>>, Error)> {
        if self.next.is_some() {
            return Ok(());
        }
        match &mut self.source {
            EntrySource::Tree(entries) => {
                self.next = entries.next().transpose().map_err(|error| (None, error))?;
            }
            EntrySource::Disk(entries) => match entries.next() {
                Some((_, Ok(entry))) => self.next = Some(entry),
                Some((name, Err(error))) => return Err((Some(name), unlisted(error))),
                None => {}
            },
            EntrySource::Nothing => {}
        }
        Ok(())
    }
}

fn unlisted(error: io::Error) -> Error {
    Error::new(ErrorKind::Source, "what is on the disk could not be read").with_source(error)
}

/// Two directories of one path that are being compared.
struct Level<'r> {
    path: Vec<u8>,
    old: Entries<'r>,
    new: Entries<'r>,
    disk: Option<Arc<dyn SourceDirectory>>,
    /// Something of it could not be read: what only one side has may be on the other as well.
    is_torn: bool,
}

/// A comparison in progress.
pub(super) struct Comparison<'c, 'v> {
    pub(super) reader: &'c ChunkReader<'c>,
    options: &'c DiffOptions,
    /// How contents on the disk are compared, where the newer side is there.
    disk: Option<Disk<'c>>,
    pub(super) ctx: Context<'c>,
    visit: &'c mut VisitDifference<'v>,
    stack: Vec<Level<'c>>,
    pub(super) report: DiffReport,
}

impl<'c, 'v> Comparison<'c, 'v> {
    pub(super) fn new(
        reader: &'c ChunkReader<'c>,
        options: &'c DiffOptions,
        disk: Option<Disk<'c>>,
        ctx: Context<'c>,
        visit: &'c mut VisitDifference<'v>,
    ) -> Comparison<'c, 'v> {
        Comparison { reader, options, disk, ctx, visit, stack: Vec::new(), report: DiffReport::default() }
    }

    /// Begins with two directories of a path, or one.
    pub(super) fn enter(
        &mut self,
        path: Vec<u8>,
        old: Option<Side<'_>>,
        new: Option<Side<'_>>,
    ) -> Result<()> {
        if self.stack.len() >= DEPTH_MAX {
            let error = Error::corrupt("directories are nested deeper than the format allows");
            return self.unread(&path, error);
        }
        let disk = match &new {
            Some(Side::Disk(directory)) => Some(directory.clone()),
            _ => None,
        };
        let (old, new) = (self.entries(&path, old)?, self.entries(&path, new)?);
        // A side that could not be listed at all says nothing of the other.
        if let (Some(old), Some(new)) = (old, new) {
            self.stack.push(Level { path, old, new, disk, is_torn: false });
        }
        Ok(())
    }

    fn entries(&mut self, path: &[u8], side: Option<Side<'_>>) -> Result<Option<Entries<'c>>> {
        let source = match side {
            None => EntrySource::Nothing,
            Some(Side::Tree(stream)) => EntrySource::Tree(DirectoryReader::new(stream, self.reader)),
            Some(Side::Disk(directory)) => match directory.entries() {
                Ok(items) => {
                    let items: Vec<_> = items.into_iter().map(|item| (item.name, item.entry)).collect();
                    EntrySource::Disk(items.into_iter())
                }
                Err(error) => {
                    self.unread(path, unlisted(error))?;
                    return Ok(None);
                }
            },
        };
        Ok(Some(Entries { source, next: None }))
    }

    /// Compares until nothing is left. The stack is explicit: no tree is too deep.
    pub(super) fn run(&mut self) -> Result<()> {
        while let Some(level) = self.stack.last_mut() {
            self.ctx.cancel.check()?;
            let filled = level.old.fill().and_then(|()| level.new.fill());
            if let Err((name, error)) = filled {
                level.is_torn = true;
                let path = name.map_or_else(|| level.path.clone(), |name| below(&level.path, &name));
                self.unread(&path, error)?;
                continue;
            }
            let order = match (&level.old.next, &level.new.next) {
                (None, None) => {
                    self.stack.pop();
                    continue;
                }
                (Some(old), Some(new)) => old.name.cmp(&new.name),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
            };
            let old = level.old.next.take_if(|_| order.is_le());
            let new = level.new.next.take_if(|_| order.is_ge());
            let name = old.as_ref().or(new.as_ref()).map(|entry| entry.name.as_slice()).unwrap_or_default();
            let path = below(&level.path, name);
            let (disk, is_torn) = (level.disk.clone(), level.is_torn);
            match (old, new) {
                (Some(old), Some(new)) => self.both(path, &old, new, disk.as_ref())?,
                (None, Some(new)) if !is_torn => self.added(path, &new, disk.as_ref())?,
                (Some(old), None) if !is_torn => self.removed(path, &old)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn added(&mut self, path: Vec<u8>, new: &Entry, disk: Option<&Arc<dyn SourceDirectory>>) -> Result<()> {
        self.report.added.add(new);
        self.tell(&path, DiffKind::Added, None, Some(new))?;
        match (&new.kind, disk) {
            (EntryKind::Directory(_), Some(disk)) => match disk.open_directory(&new.name) {
                Ok(directory) => self.enter(path, None, Some(Side::Disk(directory))),
                Err(error) => self.unread(&path, unlisted(error)),
            },
            (EntryKind::Directory(stream), None) => self.enter(path, None, Some(Side::Tree(stream))),
            _ => Ok(()),
        }
    }

    fn removed(&mut self, path: Vec<u8>, old: &Entry) -> Result<()> {
        self.report.removed.add(old);
        self.tell(&path, DiffKind::Removed, Some(old), None)?;
        match &old.kind {
            EntryKind::Directory(stream) => self.enter(path, Some(Side::Tree(stream)), None),
            _ => Ok(()),
        }
    }

    fn both(
        &mut self,
        path: Vec<u8>,
        old: &Entry,
        mut new: Entry,
        disk: Option<&Arc<dyn SourceDirectory>>,
    ) -> Result<()> {
        if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
            self.report.types += 1;
            self.tell(&path, DiffKind::Type, Some(old), Some(&new))?;
            // What is below a directory that is none on the other side is only on this one.
            return match (&old.kind, &new.kind, disk) {
                (EntryKind::Directory(stream), _, _) => self.enter(path, Some(Side::Tree(stream)), None),
                (_, EntryKind::Directory(stream), None) => self.enter(path, None, Some(Side::Tree(stream))),
                (_, EntryKind::Directory(_), Some(disk)) => match disk.open_directory(&new.name) {
                    Ok(directory) => self.enter(path, None, Some(Side::Disk(directory))),
                    Err(error) => self.unread(&path, unlisted(error)),
                },
                _ => Ok(()),
            };
        }
        if let Some(disk) = disk
            && let Err(error) = disk.complete(&mut new)
        {
            self.unread(&path, unlisted(error))?;
        }
        let kind = match (disk, self.disk) {
            (Some(directory), Some(how)) => match how.compare(self, directory, old, &new)? {
                Ok(kind) => kind,
                Err(error) => return self.unread(&path, error),
            },
            _ => difference(old, &new),
        };
        match kind {
            Some(DiffKind::Modified) => self.report.modified += 1,
            Some(DiffKind::Silent) => {
                self.report.modified += 1;
                self.report.silent += 1;
            }
            Some(_) => self.report.metadata += 1,
            None => {}
        }
        if let Some(kind) = kind {
            self.tell(&path, kind, Some(old), Some(&new))?;
        }
        match (&old.kind, &new.kind, disk) {
            (EntryKind::Directory(old), EntryKind::Directory(new), None) => {
                if old == new {
                    self.report.equal_directories += 1;
                    return Ok(());
                }
                self.enter(path, Some(Side::Tree(old)), Some(Side::Tree(new)))
            }
            (EntryKind::Directory(stream), EntryKind::Directory(_), Some(disk)) => {
                match disk.open_directory(&new.name) {
                    Ok(directory) => self.enter(path, Some(Side::Tree(stream)), Some(Side::Disk(directory))),
                    Err(error) => self.unread(&path, unlisted(error)),
                }
            }
            _ => Ok(()),
        }
    }

    fn tell(&mut self, path: &[u8], kind: DiffKind, old: Option<&Entry>, new: Option<&Entry>) -> Result<()> {
        let is_told = match kind {
            DiffKind::Modified | DiffKind::Silent => true,
            DiffKind::Metadata => self.options.metadata && !self.options.content_only,
            _ => !self.options.content_only,
        };
        if is_told { (self.visit)(path, Ok(Difference { kind, old, new })) } else { Ok(()) }
    }

    fn unread(&mut self, path: &[u8], error: Error) -> Result<()> {
        if !error.is_damage() && error.kind() != ErrorKind::Source {
            return Err(error);
        }
        self.report.unread += 1;
        (self.visit)(path, Err(error))
    }
}

/// How two stored entries of the same type differ.
fn difference(old: &Entry, new: &Entry) -> Option<DiffKind> {
    let is_same = match (&old.kind, &new.kind) {
        // What is in a directory is told of by itself.
        (EntryKind::Directory(_), EntryKind::Directory(_)) => true,
        (old, new) => old == new,
    };
    if !is_same {
        let (before, after) = (&old.metadata, &new.metadata);
        let says_so = before.modified != after.modified || before.changed != after.changed;
        return match (&old.kind, &new.kind) {
            (EntryKind::File(old), EntryKind::File(new)) if !says_so && old.bytes == new.bytes => {
                Some(DiffKind::Silent)
            }
            _ => Some(DiffKind::Modified),
        };
    }
    (!is_same_metadata(&old.metadata, &new.metadata)).then_some(DiffKind::Metadata)
}

/// Whether what people mean by metadata is equal: not the numbers that a copy cannot keep.
pub(super) fn is_same_metadata(old: &Metadata, new: &Metadata) -> bool {
    (old.mode, old.uid, old.gid, old.modified) == (new.mode, new.uid, new.gid, new.modified)
        && old.xattrs == new.xattrs
}
