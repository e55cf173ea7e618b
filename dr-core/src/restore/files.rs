//! Files that are being restored: made by whoever writes to them first, finished by whoever writes last.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::place;
use super::target::{MetadataProblem, Target, TargetDir, allocate, below, failed};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::lock;
use crate::tree::{Entry, EntryKind, Extent};

/// A file that is being restored.
#[derive(Debug)]
pub(super) struct RestoredFile {
    /// Its path in the snapshot, for messages.
    pub(super) path: Vec<u8>,
    /// How much of the path is left out in the target.
    stripped: usize,
    pub(super) entry: Entry,
    /// Where the bytes of the stream belong, in a file with holes.
    pub(super) extents: Option<Vec<Extent>>,
    /// Device and inode of the file, once it is made.
    made: Mutex<Option<(u64, u64)>>,
    /// Bytes that are still to be written, and one while more may be planned.
    left: AtomicU64,
    failed: AtomicBool,
}

impl RestoredFile {
    pub(super) fn new(path: &[u8], stripped: usize, entry: &Entry) -> RestoredFile {
        RestoredFile {
            path: path.to_vec(),
            stripped,
            entry: entry.clone(),
            extents: None,
            made: Mutex::new(None),
            left: AtomicU64::new(1),
            failed: AtomicBool::new(false),
        }
    }

    /// The names on the way from the target to its directory, and its own.
    fn place(&self) -> (Vec<&[u8]>, &[u8]) {
        place(&self.path[self.stripped..])
    }

    /// The file's length, holes included.
    pub(super) fn bytes(&self) -> u64 {
        match &self.entry.kind {
            EntryKind::File(content) => content.bytes,
            _ => 0,
        }
    }

    /// Plans bytes to be written.
    pub(super) fn expect(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Says that the file cannot be whole. Whether this is the first time.
    pub(super) fn fail(&self) -> bool {
        !self.failed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Opens the file for writing; the first one makes it.
    pub(super) fn open(&self, target: &Target) -> Result<(TargetDir, File)> {
        let (parent, name) = self.place();
        let directory = target.open_dir(&parent)?;
        let mut made = lock(&self.made);
        if let Some(inode) = *made {
            drop(made);
            let file = directory.reopen_file(name)?;
            if self.inode(&directory, &file)? != inode {
                return Err(Error::new(ErrorKind::Destination, "another file took the place of a restored one")
                    .with_path(crate::observer::as_path(&self.path))
                    .with_remedy("restore to a directory that nobody else uses, on a file system that tells upper case from lower"));
            }
            return Ok((directory, file));
        }
        let file = directory.create_file(name)?;
        *made = Some(self.inode(&directory, &file)?);
        if self.extents.is_some() {
            allocate(&file, self.bytes()).map_err(|error| self.not_written(&directory, error))?;
        }
        Ok((directory, file))
    }

    fn inode(&self, directory: &TargetDir, file: &File) -> Result<(u64, u64)> {
        let metadata = file.metadata().map_err(|error| self.not_written(directory, error))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    /// Writes bytes of the stream where they belong in the open file, which is in `directory`.
    pub(super) fn write(
        &self,
        directory: &TargetDir,
        file: &File,
        bytes: &[u8],
        stream_offset: u64,
    ) -> Result<()> {
        let Some(extents) = &self.extents else {
            return file
                .write_all_at(bytes, stream_offset)
                .map_err(|error| self.not_written(directory, error));
        };
        let (mut rest, mut offset, mut extent_start) = (bytes, stream_offset, 0);
        for extent in extents {
            let extent_end = extent_start + extent.bytes;
            if offset < extent_end && !rest.is_empty() {
                let count = rest.len().min(usize::try_from(extent_end - offset).unwrap_or(usize::MAX));
                let (now, later) = rest.split_at(count);
                file.write_all_at(now, extent.offset + (offset - extent_start))
                    .map_err(|error| self.not_written(directory, error))?;
                rest = later;
                offset += count as u64;
            }
            extent_start = extent_end;
        }
        Ok(())
    }

    fn not_written(&self, directory: &TargetDir, error: std::io::Error) -> Error {
        failed("a restored file could not be written", &below(directory.path(), self.place().1), error)
    }

    /// Takes off bytes that are written (or lost); whether they were the last.
    pub(super) fn done(&self, bytes: u64) -> bool {
        self.left.fetch_sub(bytes, Ordering::AcqRel) == bytes
    }

    /// Gives the finished file its metadata. `open` is the file where the caller has it open.
    pub(super) fn finish(
        &self,
        target: &Target,
        open: Option<(TargetDir, File)>,
    ) -> Result<Vec<MetadataProblem>> {
        let (directory, file) = match open {
            Some(open) => open,
            None => self.open(target)?,
        };
        Ok(directory.finish_file(&file, &self.entry))
    }

    /// Removes what was written of a file that cannot be whole.
    pub(super) fn discard(&self, target: &Target) {
        if lock(&self.made).is_some() {
            // It is listed as damaged whether or not this works.
            let (parent, name) = self.place();
            let _ = target.open_dir(&parent).and_then(|directory| directory.remove(name));
        }
    }
}

/// Names of files that have several.
#[derive(Debug, Default)]
pub(super) struct Links {
    first: HashMap<(u64, u64), (Vec<u8>, EntryKind)>,
    /// A later name, and the first one.
    pub(super) later: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Links {
    /// Whether another name of the same file came before; then it is linked at the end. Entries that say they are the
    /// same file but hold different things are not: an inode's number may have been used again during the backup.
    pub(super) fn is_later_name(&mut self, path: &[u8], entry: &Entry) -> bool {
        let Some(key) = entry.hard_link_key() else { return false };
        match self.first.get(&key) {
            Some((first, kind)) if *kind == entry.kind => {
                self.later.push((path.to_vec(), first.clone()));
                true
            }
            Some(_) => false,
            None => {
                self.first.insert(key, (path.to_vec(), entry.kind.clone()));
                false
            }
        }
    }
}
