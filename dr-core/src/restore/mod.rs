//! Restoring: log -> snapshot -> tree -> plan by pack -> fetch -> open -> decompress -> verify id -> write.

mod fetch;
mod files;
mod options;
mod plan;
mod report;
mod target;

use std::collections::HashSet;
use std::path::Path;

pub use options::{RestoreOptions, RestoreReport};

use files::{Links, RestoredFile};
use plan::Batch;
use report::Reporter;
use target::{Outcome, Target, TargetOptions};

use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Problem, ProblemKind};
use crate::observer::{Change, Context, Event};
use crate::repository::{ChunkReader, Found, Inner, Repository, find_path, walk};
use crate::snapshot::Snapshot;
use crate::tree::{Entry, EntryKind};

impl Repository {
    /// Restores a snapshot, or a part of it, below the directory `target`, which is made where it is missing. Files that
    /// are there are replaced; nothing else that is there is touched, and no symbolic link below `target` is followed.
    ///
    /// # Errors
    /// `NotFound` where the snapshot has no such path, `Destination` where the target itself cannot be written,
    /// `Cancelled`, and what the store answers. What is wrong with single files is no error: the report names them, and
    /// everything else is restored.
    pub fn restore(
        &self,
        snapshot: &Snapshot,
        target: &Path,
        options: &RestoreOptions,
        ctx: &Context<'_>,
    ) -> Result<RestoreReport> {
        let (log, index) = self.0.current()?;
        let reader = ChunkReader::new(&self.0, &log, index);
        let found = find_path(snapshot, &options.path, &reader)?;
        ctx.observer.event(&Event::Total {
            entries: snapshot.totals.files + snapshot.totals.directories + snapshot.totals.others,
            bytes: snapshot.totals.bytes,
        });
        let target = Target::create(target, target_options(options))?;
        let mut restore = Restore::new(&self.0, &reader, &target, *ctx)?;
        restore.make_parents(&found, options.strip_path)?;
        walk(found, &reader, &mut |path, entry| restore.take(path, entry))?;
        restore.finish(options)
    }
}

fn target_options(options: &RestoreOptions) -> TargetOptions {
    let mut chosen = TargetOptions {
        specials: options.specials,
        numeric_ids: options.numeric_ids,
        ..TargetOptions::default()
    };
    if let Some(owners) = options.owners {
        chosen.owners = owners;
    }
    chosen
}

/// A restore in progress.
struct Restore<'a> {
    target: &'a Target,
    ctx: Context<'a>,
    reporter: Reporter<'a>,
    batch: Batch<'a>,
    /// Directories in the order they were made; they get their metadata at the end, deepest first.
    directories: Vec<(Vec<u8>, Entry)>,
    links: Links,
    /// How much of a path is left out: the length of what stands above the restored part.
    stripped: usize,
    /// Directories that could not be made; nothing below them can be either.
    lost: HashSet<Vec<u8>>,
}

impl<'a> Restore<'a> {
    fn new(
        repository: &'a Inner,
        reader: &'a ChunkReader<'a>,
        target: &'a Target,
        ctx: Context<'a>,
    ) -> Result<Self> {
        Ok(Restore {
            target,
            ctx,
            reporter: Reporter::new(ctx),
            batch: Batch::new(repository, reader, target, ctx)?,
            directories: Vec::new(),
            links: Links::default(),
            stripped: 0,
            lost: HashSet::new(),
        })
    }

    /// Makes the directories above the part that is restored, or leaves them out.
    fn make_parents(&mut self, found: &Found, strip: bool) -> Result<()> {
        if strip {
            let is_directory = found.directory().is_some();
            let parent = found.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            self.stripped = if is_directory { found.path.len() } else { parent };
            return Ok(());
        }
        let mut path = Vec::new();
        for entry in &found.above {
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            self.make_directory(&path, entry)?;
        }
        Ok(())
    }

    /// Takes an entry of the snapshot, or the error that stands in the place of some.
    fn take(&mut self, path: &[u8], entry: Result<&Entry>) -> Result<()> {
        self.ctx.cancel.check()?;
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                if error.kind() == ErrorKind::Cancelled || error.is_retryable() {
                    return Err(error);
                }
                self.reporter.damaged(path, &error);
                return Ok(());
            }
        };
        if path.len() <= self.stripped {
            return Ok(());
        }
        let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        if self.lost.contains(&path[..parent]) {
            if entry.is_directory() {
                self.lost.insert(path.to_vec());
            }
            self.reporter.not_restored(path, &"the directory above it could not be made");
            return Ok(());
        }
        let taken = match &entry.kind {
            EntryKind::Directory(_) => self.make_directory(path, entry),
            EntryKind::File(_) => self.take_file(path, entry),
            _ => self.make_other(path, entry),
        };
        match taken {
            Err(error) if error.kind() == ErrorKind::Destination && !is_fatal(&error) => {
                if entry.is_directory() {
                    self.lost.insert(path.to_vec());
                }
                self.reporter.failed(path, &error);
                Ok(())
            }
            taken => taken,
        }
    }

    fn make_directory(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let (parent, name) = self.place(path);
        self.target.open_dir(&parent)?.make_dir(name)?;
        self.directories.push((path.to_vec(), entry.clone()));
        self.reporter.report.directories += 1;
        Ok(())
    }

    fn take_file(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if self.links.is_later_name(path, entry) {
            return Ok(());
        }
        let file = RestoredFile::new(path, self.stripped, entry);
        self.batch.add(file, &mut self.reporter)
    }

    fn make_other(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if self.links.is_later_name(path, entry) {
            return Ok(());
        }
        let (parent, name) = self.place(path);
        let directory = self.target.open_dir(&parent)?;
        match directory.create_special(entry)? {
            Outcome::Made => {
                self.reporter.report.others += 1;
                self.reporter.metadata(path, directory.finish_path(name, entry));
                self.tell(path);
            }
            Outcome::Skipped(reason) => self.reporter.skipped(path, &reason),
        }
        Ok(())
    }

    fn tell(&self, path: &[u8]) {
        self.ctx.observer.event(&Event::EntryDone {
            path: path.to_vec(),
            change: Change::Restored,
            bytes: 0,
        });
    }

    fn place<'p>(&self, path: &'p [u8]) -> (Vec<&'p [u8]>, &'p [u8]) {
        place(&path[self.stripped..])
    }

    /// Writes what is still planned, then hard links, then the metadata of directories.
    fn finish(mut self, options: &RestoreOptions) -> Result<RestoreReport> {
        self.batch.run(&mut self.reporter)?;
        for (path, first) in std::mem::take(&mut self.links.later) {
            self.ctx.cancel.check()?;
            if self.reporter.is_absent(&first) {
                self.reporter.not_restored(&path, &"the first name of the same file was not restored");
                continue;
            }
            let (parent, name) = self.place(&path);
            let (first_parent, first_name) = self.place(&first);
            let linked = self
                .target
                .open_dir(&first_parent)
                .and_then(|from| self.target.open_dir(&parent)?.hard_link(name, &from, first_name));
            match linked {
                Ok(()) => {
                    self.reporter.report.others += 1;
                    self.tell(&path);
                }
                Err(error) => self.reporter.failed(&path, &error),
            }
        }
        for (path, entry) in self.directories.iter().rev() {
            self.ctx.cancel.check()?;
            match self.target.open_dir(&components(&path[self.stripped..])) {
                Ok(directory) => self.reporter.metadata(path, directory.finish_dir(entry)),
                Err(error) => self.reporter.failed(path, &error),
            }
            self.tell(path);
        }
        if options.fsync {
            self.target.sync_all()?;
        }
        Ok(self.reporter.finish())
    }
}

fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect()
}

/// The names on the way from the target to what is restored at a path, and its own.
fn place(path: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut parent = components(path);
    let name = parent.pop().unwrap_or_default();
    (parent, name)
}

/// Whether an error of one file would meet every other file too: the disk is full, or read-only.
fn is_fatal(error: &Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if let Some(io) = cause.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
            return matches!(io.kind(), StorageFull | QuotaExceeded | ReadOnlyFilesystem);
        }
        source = cause.source();
    }
    false
}

/// A problem of a restore.
fn problem(path: &[u8], kind: ProblemKind, detail: &dyn std::fmt::Display) -> Problem {
    Problem::new(path, kind, detail)
}
