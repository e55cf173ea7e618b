//! Restoring: log -> snapshot -> tree -> compare with what is there -> plan by pack -> fetch -> open -> decompress ->
//! verify id -> write -> delete what is surplus -> read back.

mod compare;
mod directories;
mod fetch;
mod files;
mod guarded;
mod job;
mod layout;
mod options;
mod places;
mod plan;
mod policy;
mod report;
mod selection;
mod surplus;
mod target;
mod verify;

use std::collections::HashSet;
use std::path::Path;

pub use options::{Delete, Overwrite, Owner, RestoreOptions, RestoreReport, Writing};
pub use selection::RestoreSelection;

use directories::{Directories, Standing};
use files::{Before, Leftovers, Links, RestoredFile};
use guarded::Guarded;
use job::Job;
use options::target_options;
use places::{Places, components, split};
use plan::Batch;
use policy::{Decision, decide};
use report::Reporter;
use selection::kind_of;
use surplus::Surplus;
use target::{Obstacle, Outcome, Present, Target, TargetDir};

use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Problem, ProblemKind};
use crate::observer::{Change, Context, Event};
use crate::repository::{ChunkReader, Found, Onward, Repository, find_path, walk_some};
use crate::select::PathKind;
use crate::snapshot::Snapshot;
use crate::tree::{Entry, EntryKind};

impl Repository {
    /// Restores a snapshot, or a part of it, below the directory `target`, which is made where it is missing. What is there
    /// under names that the snapshot has becomes what the snapshot holds, as [`Overwrite`] says; what the snapshot does not
    /// have is left alone unless [`Delete`] says otherwise. No symbolic link below `target` is followed.
    ///
    /// A file that is there is replaced by a new one when that is whole, so whatever ends the call leaves the one or the
    /// other. A file that is not whole is told by its mode (0600 and the sticky bit), or has a name that begins with
    /// `.dr-restore-`; the next call with the same target goes on with it or removes it.
    ///
    /// # Errors
    /// `NotFound` where the snapshot has no such path, `Destination` where the target itself cannot be written,
    /// `InvalidInput` where options do not fit together or a deletion looks like a mistake, `Cancelled`, and what the store
    /// answers. What is wrong with single files is no error: the report names them, and everything else is restored.
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
        let mut places = Places::new(&options.moved)?;
        for (from, _) in places.moved() {
            find_path(snapshot, from, &reader)?;
        }
        if options.strip_path {
            let parent = found.path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            places.stripped = if found.directory().is_some() { found.path.len() } else { parent };
        }
        places.refuse_clashes(&found.path, &|path| {
            let there = find_path(snapshot, path, &reader).ok()?;
            let kind = if there.directory().is_some() { PathKind::Directory } else { PathKind::Other };
            options.selection.takes(path, kind).then_some(kind)
        })?;
        let guarded = Guarded::new(&self.0, target, &places)?;
        let target_options = target_options(options)?;
        let surplus = Surplus::new(self, snapshot, &found.path, options)?;
        let existing = Target::open_existing(target, target_options.clone())?;
        surplus.refuse_mistakes(existing.as_ref(), &places, snapshot, &reader)?;
        let target = match existing {
            None if !options.dry_run => Some(Target::create(target, target_options)?),
            existing => existing,
        };
        // How much a part of a snapshot is, nobody knows before all of it was listed.
        if found.path.is_empty() && options.selection.is_everything() {
            ctx.observer.event(&Event::Total {
                entries: snapshot.totals.files + snapshot.totals.directories + snapshot.totals.others,
                bytes: snapshot.totals.bytes,
            });
        }
        let (repository, target) = (&self.0, target.as_ref());
        let job = Job {
            repository,
            reader: &reader,
            target,
            options,
            places,
            guarded,
            snapshot: snapshot.id,
            ctx: *ctx,
        };
        Restore::new(&job, surplus)?.run(snapshot, found)
    }
}

/// A restore in progress.
struct Restore<'a> {
    job: &'a Job<'a>,
    reporter: Reporter<'a>,
    batch: Batch<'a>,
    directories: Directories,
    links: Links,
    surplus: Surplus,
    /// What stayed as it was, where everything else is read back.
    kept: HashSet<Vec<u8>>,
    /// Files that a directory is in the way of, which goes when they are whole.
    blocked: Vec<(Vec<u8>, Present)>,
}

impl<'a> Restore<'a> {
    fn new(job: &'a Job<'a>, surplus: Surplus) -> Result<Self> {
        let base = if job.target.is_some() { Standing::Existing } else { Standing::Fresh };
        Ok(Restore {
            job,
            reporter: Reporter::new(job.ctx),
            batch: Batch::new(job)?,
            directories: Directories::new(base),
            links: Links::default(),
            surplus,
            kept: HashSet::new(),
            blocked: Vec::new(),
        })
    }

    fn run(mut self, snapshot: &Snapshot, found: Found) -> Result<RestoreReport> {
        let done = self.restore_all(snapshot, found);
        if let Err(error) = done {
            self.batch.abandon(if is_fatal(&error) { Leftovers::Remove } else { Leftovers::Keep });
            return Err(error);
        }
        Ok(self.reporter.finish())
    }

    /// Restores files while it walks, then hard links; deletes; gives directories their metadata.
    fn restore_all(&mut self, snapshot: &Snapshot, found: Found) -> Result<()> {
        let (job, base) = (self.job, found.path.clone());
        self.make_moved_parents()?;
        if !job.options.strip_path {
            self.make_parents(&found)?;
        }
        walk_some(found, job.reader, &mut |path, entry| self.take(path, entry))?;
        self.batch.run(&mut self.reporter)?;
        self.place_blocked()?;
        for (path, first, entry) in std::mem::take(&mut self.links.later) {
            job.ctx.cancel.check()?;
            let linked = self.link(&path, &first, &entry);
            self.note(&path, linked)?;
        }
        let root = if job.options.strip_path { &base[..] } else { b"" };
        self.surplus.sweep(job, root, snapshot, &self.directories, &mut self.reporter)?;
        if job.options.verify && !job.options.dry_run {
            verify::run(job, &self.batch.threads, snapshot, &self.kept, &mut self.reporter)?;
        }
        self.finish_directories()?;
        match job.target.filter(|_| job.options.fsync && !job.options.dry_run) {
            Some(target) => target.sync_all(),
            None => Ok(()),
        }
    }

    /// Gives files that are whole their names, after the directories that have them are gone.
    fn place_blocked(&mut self) -> Result<()> {
        for (path, present) in std::mem::take(&mut self.blocked) {
            self.job.ctx.cancel.check()?;
            if self.reporter.is_absent(&path) {
                continue;
            }
            let place = self.job.places.place(&path).into_owned();
            let (parent, name) = split(&place);
            let temporary = self.job.temporary_name(&path);
            let placed = self
                .job
                .target()?
                .open_dir(&parent)
                .and_then(|directory| self.put(&path, &directory, &temporary, name, Some(present)));
            if placed.is_err() {
                self.reporter.report.files -= 1;
                self.reporter.report.replaced -= 1;
            }
            self.note(&path, placed)?;
        }
        Ok(())
    }

    /// Makes the directories above places that the caller chose.
    fn make_moved_parents(&self) -> Result<()> {
        for (from, to) in self.job.places.moved().filter(|_| !self.job.options.dry_run) {
            let mut names = components(to);
            // Where the restored directory itself goes elsewhere, nothing else makes it.
            if from.len() > self.job.places.stripped {
                names.pop();
            }
            for (depth, name) in names.iter().enumerate() {
                self.job.target()?.open_dir(&names[..depth])?.make_plain_dir(name)?;
            }
        }
        Ok(())
    }

    /// Makes the directories above the part that is restored.
    fn make_parents(&mut self, found: &Found) -> Result<()> {
        let mut path = Vec::new();
        for entry in &found.above {
            path.push(b'/');
            path.extend_from_slice(&entry.name);
            self.make_directory(&path, entry)?;
        }
        Ok(())
    }

    /// Takes an entry of the snapshot, or the error that stands in the place of some.
    fn take(&mut self, path: &[u8], entry: Result<&Entry>) -> Result<Onward> {
        self.job.ctx.cancel.check()?;
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                if error.kind() == ErrorKind::Cancelled || error.is_retryable() {
                    return Err(error);
                }
                self.reporter.damaged(path, &error);
                return Ok(Onward::Into);
            }
        };
        if path.len() <= self.job.places.stripped {
            return Ok(Onward::Into);
        }
        self.directories.leave(path);
        let selection = &self.job.options.selection;
        if !selection.takes(path, kind_of(entry)) {
            let leads_on = entry.is_directory() && selection.may_take_below(path);
            if leads_on {
                self.directories.hold_back(path, entry);
            }
            return Ok(if leads_on { Onward::Into } else { Onward::Past });
        }
        for (above, entry) in self.directories.take_held_back() {
            if self.directories.standing() == Standing::Lost {
                self.directories.enter(&above, Standing::Lost);
                continue;
            }
            let made = self.make_directory(&above, &entry);
            self.note_directory(&above, made)?;
        }
        if self.directories.standing() == Standing::Lost {
            if entry.is_directory() {
                self.directories.enter(path, Standing::Lost);
            }
            self.reporter.not_restored(path, &"the directory above it could not be made");
            return Ok(Onward::Into);
        }
        match &entry.kind {
            EntryKind::Directory(_) => {
                let made = self.make_directory(path, entry);
                self.note_directory(path, made)?;
            }
            EntryKind::File(_) => {
                let taken = self.take_file(path, entry);
                self.note(path, taken)?;
            }
            _ => {
                let taken = self.take_other(path, entry);
                self.note(path, taken)?;
            }
        }
        Ok(Onward::Into)
    }

    /// Notes a failure that is one of a single entry.
    fn note(&mut self, path: &[u8], taken: Result<()>) -> Result<()> {
        match taken {
            Err(error) if error.kind() == ErrorKind::Destination && !is_fatal(&error) => {
                self.reporter.failed(path, &error);
                Ok(())
            }
            taken => taken,
        }
    }

    fn note_directory(&mut self, path: &[u8], made: Result<()>) -> Result<()> {
        if made.is_err() {
            self.directories.enter(path, Standing::Lost);
        }
        self.note(path, made)
    }

    /// What stands where a path of the snapshot belongs.
    fn look(&self, path: &[u8]) -> Result<Option<Present>> {
        let is_fresh = self.directories.standing() == Standing::Fresh && !self.job.places.is_moved(path);
        let Some(target) = self.job.target.filter(|_| !is_fresh) else { return Ok(None) };
        let place = self.job.places.place(path);
        let (parent, name) = split(&place);
        target.look(&parent, name)
    }

    fn make_directory(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        let overwrite = self.job.options.overwrite;
        let is_dry = self.job.options.dry_run;
        // What is made anew needs no look, and what is always replaced none either.
        let looks = is_dry || matches!(overwrite, Overwrite::IfNewer | Overwrite::Never);
        let present = if looks { self.look(path)? } else { None };
        self.refuse_repository(path)?;
        let mut before = present.filter(Present::is_directory);
        if present.is_some() && before.is_none() && decide(overwrite, entry, present) == Decision::Keep {
            return Err(Error::new(ErrorKind::Destination, "what is there is no directory, and is kept")
                .with_path(crate::observer::as_path(path))
                .with_remedy("move it away, or restore with another '--overwrite'"));
        }
        if !is_dry {
            let is_kept = looks && (present.is_none() || before.is_some());
            let obstacle = if is_kept { Obstacle::Kept } else { Obstacle::Replaced };
            let place = self.job.places.place(path);
            let (parent, name) = split(&place);
            before = match self.job.target()?.open_dir(&parent)?.make_dir_over(name, obstacle)? {
                target::DirectoryMade::New => None,
                target::DirectoryMade::Kept(present) => Some(present),
            };
        }
        self.directories.enter(path, if before.is_some() { Standing::Existing } else { Standing::Fresh });
        self.directories.note(path, entry, before);
        self.reporter.report.directories += 1;
        Ok(())
    }

    /// Refuses the directory of the repository itself: what is in it now is not what was in it then.
    fn refuse_repository(&self, path: &[u8]) -> Result<()> {
        let guarded = &self.job.guarded;
        let place = self.job.places.place(path);
        let is_it = |directory: TargetDir| directory.inode().is_ok_and(|inode| guarded.is_repository(inode));
        let may_be = self.directories.standing() != Standing::Fresh || self.job.places.is_moved(path);
        let Some(target) = self.job.target.filter(|_| may_be && guarded.has_repository()) else {
            return Ok(());
        };
        if !target.open_dir(&components(&place)).is_ok_and(is_it) {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Destination,
            "it is the repository that is restored from, and is left alone",
        )
        .with_remedy("leave it out with '--exclude', or restore to another target"))
    }

    fn take_file(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if self.links.is_later_name(path, entry) {
            return Ok(());
        }
        let job = self.job;
        let before = match decide(job.options.overwrite, entry, self.look(path)?) {
            Decision::Keep => return self.keep(path, entry),
            Decision::Make => Before::Nothing,
            Decision::Unchanged(_) if self.settle(path, entry)? => return Ok(()),
            Decision::Replace(present) | Decision::Unchanged(present) => {
                if present.is_directory() && !job.options.dry_run && self.surplus.may_remove(path) {
                    // It stays until what takes its place is whole.
                    self.blocked.push((path.to_vec(), present));
                } else {
                    self.clear_way(path, &present)?;
                }
                if present.is_file() { Before::File(present) } else { Before::Other(present) }
            }
        };
        self.links.note_first(path, entry);
        let file = RestoredFile::new(job, path, entry, before);
        if job.options.dry_run && !matches!(before, Before::File(_)) {
            let finished = fetch::finish(&file, job, None);
            return fetch::report(&file, finished, &mut self.reporter);
        }
        self.batch.add(file, &mut self.reporter)
    }

    /// Leaves what is there.
    fn keep(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        self.reporter.report.kept += 1;
        if self.job.options.verify {
            self.kept.insert(path.to_vec());
        }
        self.pass(path, entry, Change::Kept);
        Ok(())
    }

    /// Tells of an entry whose bytes are not looked at.
    fn pass(&self, path: &[u8], entry: &Entry, change: Change) {
        let bytes = match &entry.kind {
            EntryKind::File(content) => content.bytes,
            _ => 0,
        };
        self.job.ctx.observer.event(&Event::Progress { bytes });
        self.job.ctx.observer.event(&Event::EntryDone { path: path.to_vec(), change, bytes });
    }

    /// Gives a file that is taken to hold the right bytes its metadata. Whether that could be done.
    fn settle(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        if !self.job.options.dry_run {
            let place = self.job.places.place(path);
            let (parent, name) = split(&place);
            let directory = self.job.target()?.open_dir(&parent)?;
            let Ok((file, _)) = directory.open_present(name) else { return Ok(false) };
            let Some(problems) = directory.finish_present(&file, entry) else { return Ok(false) };
            self.reporter.metadata(path, problems);
        }
        self.reporter.report.unchanged += 1;
        self.links.note_first(path, entry);
        self.pass(path, entry, Change::Unchanged);
        Ok(true)
    }

    /// Removes a directory that stands in the way of something else, where surplus things are deleted.
    fn clear_way(&mut self, path: &[u8], present: &Present) -> Result<()> {
        if !present.is_directory() || self.surplus.remove_in_the_way(self.job, path, &mut self.reporter)? {
            return Ok(());
        }
        Err(Error::new(ErrorKind::Destination, "a directory has the place of a file")
            .with_remedy("move the directory away, or restore with '--delete', or to another target"))
    }

    fn take_other(&mut self, path: &[u8], entry: &Entry) -> Result<()> {
        if self.links.is_later_name(path, entry) {
            return Ok(());
        }
        let present = match decide(self.job.options.overwrite, entry, self.look(path)?) {
            Decision::Keep => return self.keep(path, entry),
            Decision::Make => None,
            Decision::Replace(present) | Decision::Unchanged(present) => Some(present),
        };
        let place = self.job.places.place(path);
        let (parent, name) = split(&place);
        self.links.note_first(path, entry);
        if present.is_some() && self.job.target()?.open_dir(&parent)?.is_finished_path(name, entry) {
            self.reporter.report.unchanged += 1;
            self.tell(path, Change::Unchanged);
            return Ok(());
        }
        let is_unwanted = !self.job.options.specials && !matches!(entry.kind, EntryKind::Symlink(_));
        let outcome = match self.job.options.dry_run {
            true if is_unwanted => return Ok(()),
            true => {
                present.map_or(Ok(()), |present| self.clear_way(path, &present))?;
                Outcome::Made
            }
            false => self.make_other(path, entry, present)?,
        };
        match outcome {
            Outcome::Made => self.count_other(path, present),
            Outcome::Skipped(reason) => self.reporter.skipped(path, &reason),
        }
        Ok(())
    }
}

impl Restore<'_> {
    /// Makes anything but a file or a directory. What has its name stays until it is there with all its metadata.
    fn make_other(&mut self, path: &[u8], entry: &Entry, present: Option<Present>) -> Result<Outcome> {
        let place = self.job.places.place(path);
        let (parent, name) = split(&place);
        let directory = self.job.target()?.open_dir(&parent)?;
        let temporary = self.job.temporary_name(path);
        let outcome = directory.create_special(&temporary, entry)?;
        if outcome == Outcome::Made {
            let problems = directory.finish_path(&temporary, entry);
            self.put(path, &directory, &temporary, name, present)?;
            self.reporter.metadata(path, problems);
        }
        Ok(outcome)
    }

    /// Gives what was made under a temporary name its own, after what stands in its way is gone.
    fn put(
        &mut self,
        path: &[u8],
        directory: &TargetDir,
        temporary: &[u8],
        name: &[u8],
        present: Option<Present>,
    ) -> Result<()> {
        let Some(made) = directory.look(temporary)? else { return directory.rename(temporary, name) };
        let before = present.filter(|present| !present.is_directory());
        let cleared = present.map_or(Ok(()), |present| self.clear_way(path, &present));
        let put = cleared.and_then(|()| directory.put(temporary, name, made.inode, before.as_ref()));
        if put.is_err() {
            directory.remove_made(temporary, made.inode);
        }
        put
    }

    /// Makes a further name of a file that was restored.
    fn link(&mut self, path: &[u8], first: &[u8], entry: &Entry) -> Result<()> {
        if self.reporter.is_absent(first) {
            self.reporter.not_restored(path, &"the first name of the same file was not restored");
            return Ok(());
        }
        let (place, first_place) = (self.job.places.place(path), self.job.places.place(first));
        let ((parent, name), (first_parent, first_name)) = (split(&place), split(&first_place));
        let present = match self.job.target {
            Some(target) => target.look(&parent, name)?,
            None => None,
        };
        if let (Some(present), Some(target)) = (present, self.job.target) {
            let first = target.look(&first_parent, first_name)?;
            if first.is_some_and(|first| first.inode == present.inode) {
                self.reporter.report.unchanged += 1;
                self.tell(path, Change::Unchanged);
                return Ok(());
            }
            if decide(self.job.options.overwrite, entry, Some(present)) == Decision::Keep {
                return self.keep(path, entry);
            }
            if self.job.options.dry_run {
                self.clear_way(path, &present)?;
            }
        }
        if !self.job.options.dry_run {
            let target = self.job.target()?;
            let (from, directory) = (target.open_dir(&first_parent)?, target.open_dir(&parent)?);
            let temporary = self.job.temporary_name(path);
            directory.hard_link(&temporary, &from, first_name)?;
            self.put(path, &directory, &temporary, name, present)?;
        }
        self.count_other(path, present);
        Ok(())
    }

    fn count_other(&mut self, path: &[u8], present: Option<Present>) {
        self.reporter.report.others += 1;
        self.reporter.report.replaced += u64::from(present.is_some());
        self.tell(path, if present.is_some() { Change::Replaced } else { Change::Restored });
    }

    fn tell(&self, path: &[u8], change: Change) {
        self.job.ctx.observer.event(&Event::EntryDone { path: path.to_vec(), change, bytes: 0 });
    }

    /// Gives directories their metadata, deepest first.
    fn finish_directories(&mut self) -> Result<()> {
        let directories = std::mem::take(&mut self.directories);
        for made in directories.made.iter().rev() {
            self.job.ctx.cancel.check()?;
            if !self.job.options.dry_run {
                let place = self.job.places.place(&made.path);
                let finished = self.job.target()?.open_dir(&components(&place)).and_then(|directory| {
                    match made.before {
                        Some(before) if !made.takes_metadata(self.job.options.overwrite) => {
                            directory.restore_mode(&before).map(|()| Vec::new())
                        }
                        before => {
                            let problems = directory.finish_dir(&made.entry);
                            // Without permissions it keeps its mode, which it lacks while it is written to.
                            let given = before.filter(|_| !self.job.options.permissions);
                            given.map_or(Ok(()), |before| directory.restore_mode(&before)).map(|()| problems)
                        }
                    }
                });
                match finished {
                    Ok(problems) => self.reporter.metadata(&made.path, problems),
                    Err(error) => self.reporter.failed(&made.path, &error),
                }
            }
            self.tell(&made.path, if made.before.is_some() { Change::Unchanged } else { Change::Restored });
        }
        Ok(())
    }
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
