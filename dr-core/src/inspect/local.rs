//! Compares a snapshot with what is on the disk.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diff::{
    Comparison, DiffKind, DiffOptions, DiffReport, Side, VisitDifference, is_same_metadata, not_a_directory,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::observer::{Context, Event};
use crate::repository::{ChunkReader, Inner, Repository, find_path};
use crate::snapshot::Snapshot;
use crate::source::{LocalTree, LocalTreeOptions, Source, SourceDirectory, SourceFile};
use crate::tree::{Entry, EntryKind, Extent, FileContent, read_extents, stream_chunks};

/// Holes are looked through in pieces of this many bytes.
const PIECE_BYTES: usize = 256 << 10;

/// What a caller may ask of a comparison with the disk.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LocalDiffOptions {
    /// Compares only what is below this path of the snapshot.
    pub path: Vec<u8>,
    /// Reads every file, and compares what it holds with what is stored. Without it, a file of the same length and
    /// modification time is taken to be the same.
    pub read_data: bool,
    /// Also tells what differs in nothing but its metadata.
    pub metadata: bool,
    /// Tells only of files that are in both, and whose contents differ.
    pub content_only: bool,
    /// How the disk is read.
    pub tree: LocalTreeOptions,
}

impl LocalDiffOptions {
    /// Compares everything, by metadata alone.
    pub fn new() -> LocalDiffOptions {
        LocalDiffOptions::default()
    }
}

impl Repository {
    /// Calls `visit` for everything that is different in a directory of a snapshot (the older side) and in the directory
    /// `local` on the disk (the newer side), in the order of the paths, which are those of the disk. Nothing of contents is
    /// read from the store: they are compared by their chunks' ids.
    ///
    /// # Errors
    /// As `diff`; `Source` where `local` cannot be opened.
    pub fn diff_local(
        &self,
        old: &Snapshot,
        local: &Path,
        options: &LocalDiffOptions,
        visit: &mut VisitDifference<'_>,
        ctx: &Context<'_>,
    ) -> Result<DiffReport> {
        let (log, index) = self.0.current()?;
        let reader = ChunkReader::new(&self.0, &log, index);
        let found = find_path(old, &options.path, &reader)?;
        let stream = found.directory().ok_or_else(|| not_a_directory(&options.path))?;
        let (path, directory) = open_local(local, &options.tree)?;
        let mut diff = DiffOptions::new();
        (diff.metadata, diff.content_only) = (options.metadata, options.content_only);
        let contents = if options.read_data { Contents::Read } else { Contents::Trusted };
        let disk = Disk { repository: &self.0, contents };
        let mut comparison = Comparison::new(&reader, &diff, Some(disk), *ctx, visit);
        comparison.enter(path, Some(Side::Tree(stream)), Some(Side::Disk(directory)))?;
        comparison.run()?;
        Ok(comparison.report)
    }
}

/// Opens a directory of the disk. Gives its absolute path, empty for the topmost.
fn open_local(local: &Path, options: &LocalTreeOptions) -> Result<(Vec<u8>, Arc<dyn SourceDirectory>)> {
    let failed = |error: io::Error| {
        Error::new(ErrorKind::Source, "the directory on the disk could not be opened")
            .with_path(local)
            .with_source(error)
    };
    let tree = LocalTree::open(&[local.to_path_buf()], options.clone())?;
    if let Some((_, error)) = tree.missing().into_iter().next() {
        return Err(failed(error));
    }
    let absolute: Vec<PathBuf> = tree.paths();
    let mut directory = tree.open_root().map_err(failed)?;
    let mut path = Vec::new();
    for name in absolute.iter().flat_map(|path| path.iter().skip(1)) {
        let name = name.as_encoded_bytes();
        directory = directory.open_directory(name).map_err(failed)?;
        path.push(b'/');
        path.extend_from_slice(name);
    }
    Ok((path, directory))
}

/// How contents are compared.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Contents {
    Read,
    Trusted,
}

/// The disk as the newer side of a comparison.
#[derive(Clone, Copy)]
pub(super) struct Disk<'d> {
    repository: &'d Inner,
    contents: Contents,
}

impl Disk<'_> {
    /// How an entry on the disk differs from the stored one, which is of the same type; the inner error is of this entry.
    pub(super) fn compare(
        self,
        comparison: &mut Comparison<'_, '_>,
        directory: &Arc<dyn SourceDirectory>,
        old: &Entry,
        new: &Entry,
    ) -> Result<Result<Option<DiffKind>>> {
        let is_same_metadata = is_same_metadata(&old.metadata, &new.metadata);
        let metadata = (!is_same_metadata).then_some(DiffKind::Metadata);
        let (content, bytes) = match (&old.kind, &new.kind) {
            (EntryKind::File(content), EntryKind::File(found)) => (content, found.bytes),
            (EntryKind::Directory(_), _) => return Ok(Ok(metadata)),
            (old, new) => return Ok(Ok(if old == new { metadata } else { Some(DiffKind::Modified) })),
        };
        if content.bytes != bytes {
            return Ok(Ok(Some(DiffKind::Modified)));
        }
        let is_same_time = old.metadata.modified == new.metadata.modified;
        if self.contents == Contents::Trusted {
            return Ok(Ok(if is_same_time { metadata } else { Some(DiffKind::Modified) }));
        }
        let file = match directory.open_file(&new.name) {
            Ok(file) => file,
            Err(error) => return Ok(Err(unread(error))),
        };
        let mut reading = Reading { repository: self.repository, file: &*file, bytes: 0 };
        let is_same = reading.holds(content, comparison.reader, comparison.ctx);
        comparison.report.bytes_read += reading.bytes;
        comparison.ctx.observer.event(&Event::Progress { bytes: reading.bytes });
        Ok(match is_same {
            Ok(true) => Ok(metadata),
            Ok(false) if is_same_time => Ok(Some(DiffKind::Silent)),
            Ok(false) => Ok(Some(DiffKind::Modified)),
            Err(error) if error.is_damage() || error.kind() == ErrorKind::Source => Err(error),
            Err(error) => return Err(error),
        })
    }
}

fn unread(error: io::Error) -> Error {
    Error::new(ErrorKind::Source, "a file on the disk could not be read").with_source(error)
}

/// A file on the disk that is being compared.
struct Reading<'f> {
    repository: &'f Inner,
    file: &'f dyn SourceFile,
    bytes: u64,
}

impl Reading<'_> {
    /// Whether the file holds this content, which is as long as the file.
    fn holds(&mut self, content: &FileContent, reader: &ChunkReader<'_>, ctx: Context<'_>) -> Result<bool> {
        let whole = || vec![Extent { offset: 0, bytes: content.bytes }];
        let extents = read_extents(content, reader)?;
        if let Some(extents) = &extents
            && !self.is_zero_between(extents, content.bytes, ctx)?
        {
            return Ok(false);
        }
        let extents = extents.unwrap_or_else(whole);
        let mut rest = extents.into_iter();
        let mut extent = Extent { offset: 0, bytes: 0 };
        let id_key = self.repository.domain.id_key(PackClass::Data);
        let mut buffer = Vec::new();
        for chunk in stream_chunks(&content.stream, reader) {
            ctx.cancel.check()?;
            let chunk = chunk?;
            buffer.resize(chunk.bytes as usize, 0);
            let mut filled = 0;
            while filled < buffer.len() {
                if extent.bytes == 0 {
                    let Some(next) = rest.next() else {
                        return Err(Error::corrupt("a file's chunks are longer than it is"));
                    };
                    extent = next;
                    continue;
                }
                let count = (buffer.len() - filled).min(usize::try_from(extent.bytes).unwrap_or(usize::MAX));
                if !self.read(&mut buffer[filled..filled + count], extent.offset)? {
                    return Ok(false);
                }
                filled += count;
                extent = Extent { offset: extent.offset + count as u64, bytes: extent.bytes - count as u64 };
            }
            if blake3::keyed_hash(id_key, &buffer) != *chunk.id.as_bytes() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Fills the buffer; not where the file ends before.
    fn read(&mut self, buffer: &mut [u8], offset: u64) -> Result<bool> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.file.read_at(&mut buffer[filled..], offset + filled as u64).map_err(unread)? {
                0 => return Ok(false),
                count => filled += count,
            }
        }
        self.bytes += filled as u64;
        Ok(true)
    }

    /// Whether there are zeros wherever the stored file has holes.
    fn is_zero_between(&mut self, extents: &[Extent], bytes: u64, ctx: Context<'_>) -> Result<bool> {
        // What the disk knows to be a hole need not be read.
        let data = self.file.extents(bytes).map_err(unread)?;
        let data = data.unwrap_or_else(|| vec![Extent { offset: 0, bytes }]);
        let mut piece = vec![0; PIECE_BYTES];
        let mut stored = extents.iter().peekable();
        for found in data {
            let (mut at, end) = (found.offset, found.offset.saturating_add(found.bytes).min(bytes));
            while at < end {
                ctx.cancel.check()?;
                while stored.next_if(|extent| extent.offset + extent.bytes <= at).is_some() {}
                let next = stored.peek().copied();
                if let Some(extent) = next.filter(|extent| extent.offset <= at) {
                    at = extent.offset + extent.bytes;
                    continue;
                }
                let until = next.map_or(end, |extent| extent.offset.min(end));
                let count = PIECE_BYTES.min(usize::try_from(until - at).unwrap_or(usize::MAX));
                if !self.read(&mut piece[..count], at)? || piece[..count].iter().any(|byte| *byte != 0) {
                    return Ok(false);
                }
                at += count as u64;
            }
        }
        Ok(true)
    }
}
