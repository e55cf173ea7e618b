//! Files that are being restored: made by whoever writes to them first, finished by whoever writes last.
//!
//! A file that nothing stands in the way of is made under its own name, with a mode that says that it is not whole. A large
//! one, and one that takes the place of another, is made under a temporary name, and gets its own when it is whole. So a
//! restore that is killed leaves the old file or the new one, or one whose mode tells it from both.

use std::collections::HashMap;
use std::fs::File;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::job::Job;
use super::layout::{Layout, Run, Runs, runs};
use super::places::split;
use super::policy::has_mark;
use super::target::{Holes, MetadataProblem, Present, TargetDir, below, bytes, failed, look_at};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::{Event, TOLD_BYTES_MIN, lock};
use crate::tree::{Entry, EntryKind};

/// A new file of at least so many bytes has a temporary name until it is whole. For smaller ones that costs too much.
const LATE_BYTES_MIN: u64 = 1 << 20;

/// How a file comes to its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It has it from the beginning; nothing else does.
    Direct,
    /// It gets it when it is whole.
    Late,
    /// It is the file that has it.
    InPlace,
}

/// What was there before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing.
    Nothing,
    /// Something that holds no bytes to take over.
    Other(Present),
    /// A file.
    File(Present),
}

/// A file that is being restored.
#[derive(Debug)]
pub(super) struct RestoredFile {
    /// Its path in the snapshot.
    pub(super) path: Vec<u8>,
    /// Its path in the target, where that does not end the one in the snapshot.
    moved: Option<Box<[u8]>>,
    /// How much of the path is left out in the target.
    stripped: usize,
    pub(super) entry: Entry,
    /// Where the bytes of the stream belong, in a file with holes.
    pub(super) layout: Option<Layout>,
    way: Way,
    pub(super) before: Before,
    work: Mutex<Work>,
    /// Whether it is known to differ from the file that was there.
    differs: AtomicBool,
    /// Bytes that are still to be written, and one while more may be planned.
    left: AtomicU64,
    /// Whether it was told that it begins.
    told: AtomicBool,
    failed: AtomicBool,
    ended: AtomicBool,
}

/// How far a file is.
#[derive(Debug, Default)]
struct Work {
    made: Option<Made>,
    /// What the old file holds too.
    reused: Runs,
    /// How many bytes were there already, in the old file or in what an earlier restore left.
    reused_bytes: u64,
}

/// The file that is written to.
#[derive(Debug, Clone, Copy)]
struct Made {
    /// Device and inode.
    inode: (u64, u64),
    is_temporary: bool,
    /// It may hold bytes that this restore did not write.
    is_filled: bool,
    /// It holds what the old file holds.
    is_clone: bool,
}

/// A file that is open for writing.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) directory: TargetDir,
    pub(super) file: File,
    is_filled: bool,
}

/// How a file ended.
#[derive(Debug)]
pub(super) enum Ended {
    /// It was written.
    Written(Vec<MetadataProblem>),
    /// It was right already.
    Unchanged(Vec<MetadataProblem>),
}

impl RestoredFile {
    pub(super) fn new(job: &Job<'_>, path: &[u8], entry: &Entry, before: Before) -> RestoredFile {
        let content_bytes = match &entry.kind {
            EntryKind::File(content) => content.bytes,
            _ => 0,
        };
        let in_place = job.options.writing == super::options::Writing::InPlace;
        let way = match before {
            // The mark would not tell that it is not whole.
            _ if has_mark(entry) => Way::Late,
            Before::File(old) if in_place && old.is_only_name => Way::InPlace,
            Before::Nothing if content_bytes < LATE_BYTES_MIN => Way::Direct,
            _ => Way::Late,
        };
        let place = job.places.place(path);
        let moved = (!path.ends_with(&place)).then(|| place.clone().into_owned().into_boxed_slice());
        let has_other_length = matches!(before, Before::File(old) if old.bytes != content_bytes);
        RestoredFile {
            path: path.to_vec(),
            stripped: path.len().saturating_sub(place.len()),
            moved,
            entry: entry.clone(),
            layout: None,
            way,
            before,
            work: Mutex::default(),
            differs: AtomicBool::new(has_other_length),
            left: AtomicU64::new(1),
            told: AtomicBool::new(false),
            failed: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        }
    }

    /// The names on the way from the target to its directory, and its own.
    fn place(&self) -> (Vec<&[u8]>, &[u8]) {
        split(self.moved.as_deref().unwrap_or(&self.path[self.stripped..]))
    }

    /// Its directory in the target.
    pub(super) fn directory(&self, job: &Job<'_>) -> Result<TargetDir> {
        job.target()?.open_dir(&self.place().0)
    }

    /// Its own name in the target.
    pub(super) fn name(&self) -> &[u8] {
        self.place().1
    }

    /// The file's length, holes included.
    pub(super) fn bytes(&self) -> u64 {
        match &self.entry.kind {
            EntryKind::File(content) => content.bytes,
            _ => 0,
        }
    }

    /// Tells that it begins, where it is long and that was not told before.
    pub(super) fn tell(&self, job: &Job<'_>) {
        if self.bytes() >= TOLD_BYTES_MIN && !self.told.swap(true, Ordering::Relaxed) {
            job.ctx.observer.event(&Event::Reading { path: self.path.clone() });
        }
    }

    /// How many bytes were not fetched, since they were there.
    pub(super) fn reused_bytes(&self) -> u64 {
        lock(&self.work).reused_bytes
    }

    /// Plans bytes to be written.
    pub(super) fn expect(&self, bytes: u64) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Takes off bytes that are written (or lost); whether they were the last.
    pub(super) fn done(&self, bytes: u64) -> bool {
        self.left.fetch_sub(bytes, Ordering::AcqRel) == bytes
    }

    /// Whether more is to come.
    pub(super) fn is_under_way(&self) -> bool {
        !self.ended.load(Ordering::Relaxed)
    }

    /// Says that the file cannot be whole. Whether this is the first time.
    pub(super) fn fail(&self) -> bool {
        !self.failed.swap(true, Ordering::Relaxed)
    }

    pub(super) fn is_failed(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// Says that it does not hold what the file does that was there.
    pub(super) fn differs(&self) {
        self.differs.store(true, Ordering::Relaxed);
    }

    /// Notes bytes of the stream that were there already: in the old file, unless in the one that is written.
    pub(super) fn reuse(&self, stream_offset: u64, bytes: u64, from: Base) {
        let mut work = lock(&self.work);
        work.reused_bytes += bytes;
        if from == Base::Old {
            runs(self.layout.as_ref(), stream_offset, bytes).into_iter().for_each(|run| work.reused.add(run));
        }
    }

    /// Takes over what an earlier restore left under the temporary name, if it did.
    pub(super) fn adopt(&self, job: &Job<'_>) -> Result<()> {
        if self.way != Way::Late || job.target.is_none() {
            return Ok(());
        }
        let Ok(directory) = self.directory(job) else { return Ok(()) };
        if let Some((_, present)) = directory.open_partial(&job.temporary_name(&self.path)) {
            let made = Made { inode: present.inode, is_temporary: true, is_filled: true, is_clone: false };
            lock(&self.work).made = Some(made);
        }
        Ok(())
    }

    /// Whether there is anything that may hold its bytes already.
    pub(super) fn has_bases(&self) -> bool {
        matches!(self.before, Before::File(_)) || lock(&self.work).made.is_some()
    }

    /// Opens what may hold its bytes already.
    pub(super) fn open_bases(&self, job: &Job<'_>) -> Vec<(Base, File)> {
        let Ok(directory) = self.directory(job) else { return Vec::new() };
        let made = lock(&self.work).made.filter(|made| made.is_temporary);
        let partial = made.and_then(|made| {
            let (file, present) = directory.open_partial(&job.temporary_name(&self.path))?;
            (present.inode == made.inode).then_some((Base::Partial, file))
        });
        let old = match self.before {
            Before::File(old) => directory
                .open_present(self.name())
                .ok()
                .filter(|(_, present)| present.is_unchanged(&old) || self.way == Way::InPlace)
                .map(|(file, _)| (Base::Old, file)),
            _ => None,
        };
        partial.into_iter().chain(old).collect()
    }

    /// Opens the file for writing; the first one makes it.
    pub(super) fn open(&self, job: &Job<'_>) -> Result<Opened> {
        let directory = self.directory(job)?;
        let mut work = lock(&self.work);
        if let Some(made) = work.made {
            drop(work);
            let temporary = job.temporary_name(&self.path);
            let name = if made.is_temporary { &temporary[..] } else { self.name() };
            let file = directory.reopen_file(name)?;
            if look_at(&file)?.inode != made.inode {
                return Err(Error::new(ErrorKind::Destination, "another file took the place of a restored one")
                    .with_path(crate::observer::as_path(&self.path))
                    .with_remedy("restore to a directory that nobody else uses, on a file system that tells upper case from lower"));
            }
            return Ok(Opened { directory, file, is_filled: made.is_filled });
        }
        let (file, made) = self.make(job, &directory)?;
        work.made = Some(made);
        drop(work);
        if self.layout.is_some() && !made.is_filled {
            file.set_len(self.bytes()).map_err(|error| self.not_written(&directory, error))?;
        }
        Ok(Opened { directory, file, is_filled: made.is_filled })
    }

    fn make(&self, job: &Job<'_>, directory: &TargetDir) -> Result<(File, Made)> {
        let mut made = Made { inode: (0, 0), is_temporary: true, is_filled: false, is_clone: false };
        if let (Way::InPlace, Before::File(old)) = (self.way, self.before)
            && let Ok((file, present)) = directory.open_in_place(self.name())
            && present.is_unchanged(&old)
            && directory.mark_unfinished(&file).is_ok()
        {
            made = Made { inode: present.inode, is_temporary: false, is_filled: true, is_clone: true };
            return Ok((file, made));
        }
        let file = if self.way == Way::Direct {
            made.is_temporary = false;
            directory.create_new_file(self.name())?
        } else {
            let file = directory.create_file(&job.temporary_name(&self.path))?;
            made.is_clone = self.clone_old(directory, &file);
            made.is_filled = made.is_clone;
            file
        };
        made.inode = look_at(&file)?.inode;
        Ok((file, made))
    }

    /// Makes the new file share the bytes of the old one, where the file system can.
    fn clone_old(&self, directory: &TargetDir, file: &File) -> bool {
        let Before::File(old) = self.before else { return false };
        let opened = directory.open_present(self.name());
        opened.is_ok_and(|(from, present)| present.is_unchanged(&old) && bytes::clone_all(&from, file))
    }

    /// Writes bytes of the stream where they belong in the open file.
    pub(super) fn write(
        &self,
        job: &Job<'_>,
        opened: &Opened,
        bytes: &[u8],
        stream_offset: u64,
    ) -> Result<()> {
        let holes = self.holes(job, opened);
        let mut rest = bytes;
        for Run { offset, bytes } in runs(self.layout.as_ref(), stream_offset, bytes.len() as u64) {
            let (now, later) = rest.split_at(usize::try_from(bytes).unwrap_or(usize::MAX).min(rest.len()));
            bytes::write(&opened.file, now, offset, holes)
                .map_err(|error| self.not_written(&opened.directory, error))?;
            rest = later;
        }
        Ok(())
    }

    fn holes(&self, job: &Job<'_>, opened: &Opened) -> Holes {
        match (job.options.sparse, opened.is_filled) {
            (false, _) => Holes::Keep,
            (true, false) => Holes::Skip,
            (true, true) => Holes::Punch,
        }
    }

    fn not_written(&self, directory: &TargetDir, error: std::io::Error) -> Error {
        failed("a restored file could not be written", &below(directory.path(), self.name()), error)
    }

    /// Ends a file that has all its bytes: takes over what the old one holds too, and gives it its metadata and its name.
    /// `open` is the file where the caller has it open.
    pub(super) fn finish(&self, job: &Job<'_>, open: Option<Opened>) -> Result<Ended> {
        if let Some(problems) = self.keep_old(job)? {
            return Ok(Ended::Unchanged(problems));
        }
        if job.options.dry_run {
            return Ok(Ended::Written(Vec::new()));
        }
        let opened = match open {
            Some(opened) => opened,
            None => self.open(job)?,
        };
        self.take_over(job, &opened)?;
        let Opened { directory, file, .. } = opened;
        let made = lock(&self.work).made;
        if self.layout.is_some() || job.options.sparse || made.is_some_and(|made| made.is_filled) {
            self.complete(&file, made).map_err(|error| self.not_written(&directory, error))?;
        }
        let problems = directory.finish_file(&file, &self.entry);
        if made.is_some_and(|made| made.is_temporary) {
            if job.options.fsync {
                bytes::sync(&file).map_err(|error| self.not_written(&directory, error))?;
            }
            let before = match &self.before {
                // The caller removes the directory, and gives the file its name.
                Before::Other(present) if present.is_directory() => return Ok(Ended::Written(problems)),
                Before::Nothing => None,
                Before::Other(present) | Before::File(present) => Some(present),
            };
            let inode = made.map_or((0, 0), |made| made.inode);
            directory.put(&job.temporary_name(&self.path), self.name(), inode, before)?;
        }
        Ok(Ended::Written(problems))
    }

    /// Where the file that was there is right already, gives it its metadata; what that could not be done for.
    fn keep_old(&self, job: &Job<'_>) -> Result<Option<Vec<MetadataProblem>>> {
        let Before::File(old) = self.before else { return Ok(None) };
        if self.differs.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let directory = self.directory(job)?;
        let Ok((file, present)) = directory.open_present(self.name()) else { return Ok(None) };
        let holes = self.layout.as_ref().map_or_else(Vec::new, |layout| layout.holes(self.bytes()));
        for (offset, count) in holes {
            if !bytes::is_clear(&file, offset, count).unwrap_or(false) {
                return Ok(None);
            }
        }
        if !present.is_unchanged(&old) {
            return Ok(None);
        }
        if job.options.dry_run {
            return Ok(Some(Vec::new()));
        }
        let kept = directory.finish_present(&file, &self.entry);
        if kept.is_some() {
            self.discard_temporary(job, &directory);
        }
        Ok(kept)
    }

    /// Copies what the old file holds too.
    fn take_over(&self, job: &Job<'_>, opened: &Opened) -> Result<()> {
        let mut work = lock(&self.work);
        let Before::File(old) = self.before else { return Ok(()) };
        let reused = std::mem::take(&mut work.reused);
        let is_clone = work.made.is_some_and(|made| made.is_clone);
        let is_in_place = work.made.is_some_and(|made| !made.is_temporary);
        drop(work);
        if is_in_place || reused.iter().next().is_none() {
            return Ok(());
        }
        let (from, _) = opened.directory.open_present(self.name())?;
        let holes = self.holes(job, opened);
        for run in reused.iter().filter(|_| !is_clone) {
            bytes::copy(&from, &opened.file, (run.offset, run.bytes), holes, &|| job.ctx.cancel.check())?
                .map_err(|error| self.not_written(&opened.directory, error))?;
        }
        if look_at(&from)?.is_unchanged(&old) {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Destination, "a file changed while it was compared with the snapshot")
            .with_path(below(opened.directory.path(), self.name()))
            .with_remedy("restore again when nobody else writes there"))
    }

    /// Gives a file its length, and makes holes where an older content stands.
    fn complete(&self, file: &File, made: Option<Made>) -> std::io::Result<()> {
        file.set_len(self.bytes())?;
        if let (Some(layout), Some(Made { is_filled: true, .. })) = (&self.layout, made) {
            for (offset, count) in layout.holes(self.bytes()) {
                bytes::clear(file, offset, count)?;
            }
        }
        Ok(())
    }

    /// Says that nothing more comes.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Removes what was written of a file that cannot be whole. The file that was there before stays.
    pub(super) fn discard(&self, job: &Job<'_>) {
        if job.options.dry_run {
            return;
        }
        // It is listed as damaged whether or not this works.
        let Ok(directory) = self.directory(job) else { return };
        self.discard_temporary(job, &directory);
        let made = lock(&self.work).made;
        if let Some(made) = made.filter(|_| self.way == Way::Direct) {
            directory.remove_made(self.name(), made.inode);
        }
    }

    fn discard_temporary(&self, job: &Job<'_>, directory: &TargetDir) {
        let made = lock(&self.work).made;
        if let Some(made) = made.filter(|made| made.is_temporary) {
            directory.remove_made(&job.temporary_name(&self.path), made.inode);
        }
    }

    /// Leaves a file that is not whole as the end of the call finds it: what is worth going on with keeps its temporary
    /// name, the rest is removed.
    pub(super) fn abandon(&self, job: &Job<'_>, leftovers: Leftovers) {
        if leftovers == Leftovers::Remove || self.bytes() < LATE_BYTES_MIN {
            self.discard(job);
        }
    }
}

/// What becomes of files that are not whole when a call ends early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leftovers {
    /// Large ones stay, so that the next call can go on.
    Keep,
    /// They are removed: they take the room that is needed.
    Remove,
}

/// Where bytes are found that need not be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Base {
    /// In the file that is written to.
    Partial,
    /// In the file that has the name.
    Old,
}

/// Names of files that have several.
#[derive(Debug, Default)]
pub(super) struct Links {
    first: HashMap<(u64, u64), (Vec<u8>, EntryKind)>,
    /// Later names: the path, and that of the first one.
    pub(super) later: Vec<(Vec<u8>, Vec<u8>, Entry)>,
}

impl Links {
    /// Whether another name of the same file came before; then it is linked at the end. Entries that say they are the
    /// same file but hold different things are not: an inode's number may have been used again during the backup.
    pub(super) fn is_later_name(&mut self, path: &[u8], entry: &Entry) -> bool {
        let first = entry.hard_link_key().and_then(|key| self.first.get(&key));
        let Some((first, _)) = first.filter(|(_, kind)| *kind == entry.kind) else { return false };
        self.later.push((path.to_vec(), first.clone(), entry.clone()));
        true
    }

    /// Notes a name that is restored: later ones become names of the same file.
    pub(super) fn note_first(&mut self, path: &[u8], entry: &Entry) {
        if let Some(key) = entry.hard_link_key() {
            self.first.entry(key).or_insert_with(|| (path.to_vec(), entry.kind.clone()));
        }
    }
}
