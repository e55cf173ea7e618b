//! What is in the target and not in the snapshot: deleted where that is asked for, and temporary names of earlier restores
//! always.
//!
//! A snapshot says nothing of what lies beside the paths that were backed up, nor of what could not be read then, so that
//! is never surplus. Nor is what the caller's selection leaves out, nor what lies on another file system mounted below,
//! unless the snapshot holds something of that too.

use std::collections::HashSet;
use std::os::unix::ffi::OsStrExt;

use rustix::process::geteuid;

use super::directories::Directories;
use super::job::{Job, is_temporary};
use super::options::{Delete, RestoreOptions};
use super::places::{Places, components, is_at_or_below, split};
use super::report::Reporter;
use super::target::{Present, Target};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::{Change, Event, as_path};
use crate::repository::{ChunkReader, Repository, find_path};
use crate::select::PathKind;
use crate::snapshot::{ProblemKind, Snapshot};
use crate::tree::{DirectoryReader, EntryKind, Stream};

/// What may be deleted.
pub(super) struct Surplus {
    delete: Delete,
    /// The paths that were backed up, as far as they are restored.
    roots: Vec<Vec<u8>>,
    /// What may have been there and is not in the snapshot.
    unknown: Vec<Vec<u8>>,
    /// Whether all of the snapshot is restored.
    is_whole: bool,
}

/// A directory that is being emptied.
struct Emptied {
    names: std::vec::IntoIter<Vec<u8>>,
    path_bytes: usize,
    /// What it was like, where it was made accessible.
    before: Option<Present>,
    /// Something in it stays.
    is_kept: bool,
}

impl Surplus {
    /// Finds out what may be deleted below `path`.
    pub(super) fn new(
        repository: &Repository,
        snapshot: &Snapshot,
        path: &[u8],
        options: &RestoreOptions,
    ) -> Result<Surplus> {
        let mut surplus = Surplus {
            delete: options.delete,
            roots: Vec::new(),
            unknown: Vec::new(),
            is_whole: path.is_empty() && options.selection.include.is_empty(),
        };
        if options.delete == Delete::Nothing {
            return Ok(surplus);
        }
        if snapshot.partial && options.delete != Delete::SurplusAnyway {
            return Err(mistake(
                "the snapshot is not the whole of what was to be backed up: what it lacks would be deleted",
            ));
        }
        for root in &snapshot.paths {
            let root = [b"/", &components(root.as_os_str().as_bytes()).join(&b'/')[..]].concat();
            let root = if root == b"/" { Vec::new() } else { root };
            if is_at_or_below(path, &root) {
                surplus.roots.push(path.to_vec());
            } else if is_at_or_below(&root, path) {
                surplus.roots.push(root);
            }
        }
        if snapshot.problems > 0 {
            // Of these alone is everything in the snapshot that was there, even if not as it was.
            let is_lacking = |kind| !matches!(kind, ProblemKind::Changed | ProblemKind::Attributes);
            let problems = repository.problems(snapshot)?;
            let was_lost = problems.iter().any(|problem| problem.kind == ProblemKind::Damaged);
            if was_lost && options.delete != Delete::SurplusAnyway {
                return Err(mistake(
                    "the snapshot was mended, and lacks what was damaged: what is left of that in the target may be the last copy",
                ));
            }
            surplus.unknown = problems
                .into_iter()
                .filter(|problem| is_lacking(problem.kind))
                .map(|problem| problem.path)
                .collect();
        }
        Ok(surplus)
    }

    /// Refuses a target that somebody may have named by mistake.
    pub(super) fn refuse_mistakes(
        &self,
        target: Option<&Target>,
        places: &Places,
        snapshot: &Snapshot,
        reader: &ChunkReader<'_>,
    ) -> Result<()> {
        let Some(target) = target.filter(|_| self.delete == Delete::Surplus) else { return Ok(()) };
        if self.is_whole && is_above_home(target.open_dir::<&[u8]>(&[])?.inode()?) {
            return Err(mistake("the target is a home directory, or a directory above one"));
        }
        for root in &self.roots {
            let found = match find_path(snapshot, root, reader) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found?,
            };
            let Some(stream) = found.directory() else { continue };
            let Ok(directory) = target.open_dir(&components(&places.place(root))) else { continue };
            let present = directory.names()?;
            let known = names(stream, reader)?;
            if !present.is_empty() && !present.iter().any(|name| known.contains(name)) {
                return Err(mistake("the target holds other things, and nothing that the snapshot has")
                    .with_path(directory.path()));
            }
        }
        Ok(())
    }

    /// Deletes what is surplus in the directories that were there before.
    pub(super) fn sweep(
        &self,
        job: &Job<'_>,
        root: &[u8],
        snapshot: &Snapshot,
        directories: &Directories,
        reporter: &mut Reporter<'_>,
    ) -> Result<()> {
        if job.target.is_none() {
            return Ok(());
        }
        let found = find_path(snapshot, root, job.reader)?;
        if let Some(stream) = found.directory() {
            self.sweep_one(job, root, stream, reporter)?;
        }
        let mut swept = HashSet::new();
        for made in directories.made.iter() {
            job.ctx.cancel.check()?;
            swept.insert(made.path.as_slice());
            if let (EntryKind::Directory(stream), Some(_)) = (&made.entry.kind, made.before) {
                self.sweep_one(job, &made.path, stream, reporter)?;
            }
        }
        let deletes = self.delete != Delete::Nothing;
        for (path, stream) in
            directories.passed.iter().filter(|(path, _)| deletes && !swept.contains(&path[..]))
        {
            job.ctx.cancel.check()?;
            self.sweep_one(job, path, stream, reporter)?;
        }
        Ok(())
    }

    fn sweep_one(
        &self,
        job: &Job<'_>,
        path: &[u8],
        stream: &Stream,
        reporter: &mut Reporter<'_>,
    ) -> Result<()> {
        let place = job.places.place(path).into_owned();
        let directory = match job.target()?.open_dir(&components(&place)) {
            // In a dry run something else may stand there still.
            Err(error) if error.kind() == ErrorKind::Destination => return Ok(()),
            directory => directory?,
        };
        if job.guarded.is_inside(&place) || job.guarded.holds(directory.inode()?) {
            return Ok(());
        }
        let deletes = self.delete != Delete::Nothing && self.is_known(path);
        let present = directory.names()?;
        if !deletes && !present.iter().any(|name| is_temporary(name)) {
            return Ok(());
        }
        let known = match names(stream, job.reader) {
            Ok(known) => known,
            Err(error) if error.is_retryable() || error.kind() == ErrorKind::Cancelled => return Err(error),
            // Nobody knows what belongs here; that it cannot be read was said before.
            Err(_) => return Ok(()),
        };
        // A backup that stays on one file system holds the places where others are mounted as empty directories.
        let deletes = deletes && !(known.is_empty() && is_mounted(job, &place)?);
        for name in present.iter().filter(|name| !known.contains(*name)) {
            job.ctx.cancel.check()?;
            if is_temporary(name) {
                if !job.options.dry_run {
                    // Whatever it is, it is in nobody's way.
                    let _ = directory.remove(name);
                }
            } else if deletes && !is_on_the_way(job, &place, name) {
                let below = [path, b"/", name].concat();
                self.remove(job, &place, name, &below, reporter)?;
            }
        }
        Ok(())
    }

    /// Whether what stands where a path of the snapshot belongs may be removed for it.
    pub(super) fn may_remove(&self, path: &[u8]) -> bool {
        self.delete != Delete::Nothing && self.is_known(path)
    }

    /// Removes the directory that stands where a path of the snapshot belongs, which is none there. Whether it is gone.
    pub(super) fn remove_in_the_way(
        &self,
        job: &Job<'_>,
        path: &[u8],
        reporter: &mut Reporter<'_>,
    ) -> Result<bool> {
        if !self.may_remove(path) {
            return Ok(false);
        }
        let place = job.places.place(path);
        let (parent, name) = split(&place);
        self.remove(job, &parent.join(&b'/'), name, path, reporter)
    }

    /// Whether the snapshot says all that there was in a directory.
    fn is_known(&self, path: &[u8]) -> bool {
        self.roots.iter().any(|root| is_at_or_below(path, root))
    }

    /// Whether the snapshot may lack a path for another reason than that it was not there.
    fn is_unknown(&self, path: &[u8]) -> bool {
        self.unknown.iter().any(|unknown| is_at_or_below(path, unknown))
    }

    /// Deletes an entry with everything in it that may be. Whether it is gone.
    fn remove(
        &self,
        job: &Job<'_>,
        parent: &[u8],
        name: &[u8],
        path: &[u8],
        reporter: &mut Reporter<'_>,
    ) -> Result<bool> {
        let mut way: Vec<Vec<u8>> = components(parent).into_iter().map(<[u8]>::to_vec).collect();
        let mut path = path.to_vec();
        let mut open: Vec<Emptied> = Vec::new();
        let mut is_gone = self.remove_one(job, &way, name, &path, &mut open, reporter)?;
        if open.is_empty() {
            return Ok(is_gone);
        }
        way.push(name.to_vec());
        while let Some(emptied) = open.last_mut() {
            job.ctx.cancel.check()?;
            path.truncate(emptied.path_bytes);
            let Some(name) = emptied.names.next() else {
                let (is_kept, before) = (emptied.is_kept, emptied.before);
                open.pop();
                let name = way.pop().unwrap_or_default();
                is_gone = !is_kept && self.remove_emptied(job, &way, &name, &path, reporter)?;
                if !is_gone {
                    lock_again(job, &way, &name, before)?;
                }
                if let Some(above) = open.last_mut() {
                    above.is_kept |= !is_gone;
                }
                continue;
            };
            path.push(b'/');
            path.extend_from_slice(&name);
            let depth = open.len();
            let is_removed = self.remove_one(job, &way, &name, &path, &mut open, reporter)?;
            if open.len() > depth {
                way.push(name);
            } else if let Some(emptied) = open.last_mut() {
                emptied.is_kept |= !is_removed;
            }
        }
        Ok(is_gone)
    }

    /// Deletes what is no directory, or opens a directory to be emptied. Whether it is gone.
    fn remove_one(
        &self,
        job: &Job<'_>,
        way: &[Vec<u8>],
        name: &[u8],
        path: &[u8],
        open: &mut Vec<Emptied>,
        reporter: &mut Reporter<'_>,
    ) -> Result<bool> {
        let outcome = self.try_remove_one(job, way, name, path, open, reporter);
        self.settle(outcome, path, reporter)
    }

    fn try_remove_one(
        &self,
        job: &Job<'_>,
        way: &[Vec<u8>],
        name: &[u8],
        path: &[u8],
        open: &mut Vec<Emptied>,
        reporter: &mut Reporter<'_>,
    ) -> Result<bool> {
        let directory = job.target()?.open_dir(way)?;
        let Some(present) = directory.look(name)? else { return Ok(true) };
        let selection = &job.options.selection;
        if !present.is_directory() {
            if self.is_unknown(path) || !selection.takes(path, PathKind::Other) {
                return Ok(false);
            }
            if !job.options.dry_run {
                directory.remove(name)?;
            }
            count(job, path, reporter);
            return Ok(true);
        }
        if self.is_unknown(path) || !selection.may_take_below(path) {
            return Ok(false);
        }
        if job.guarded.holds(present.inode) {
            reporter.skipped(
                path,
                &"the repository, or what this machine keeps of it, is here; it is not deleted",
            );
            return Ok(false);
        }
        if directory.is_mount_point(name, &present)? {
            reporter.skipped(path, &"another file system is mounted there; it is not deleted");
            return Ok(false);
        }
        let (names, before) = list(job, way, name)?;
        open.push(Emptied { names: names.into_iter(), path_bytes: path.len(), before, is_kept: false });
        Ok(false)
    }

    /// Deletes a directory that was emptied, unless it is to stay itself. Whether it is gone.
    fn remove_emptied(
        &self,
        job: &Job<'_>,
        way: &[Vec<u8>],
        name: &[u8],
        path: &[u8],
        reporter: &mut Reporter<'_>,
    ) -> Result<bool> {
        if !job.options.selection.takes(path, PathKind::Directory) {
            return Ok(false);
        }
        let outcome = match job.options.dry_run {
            true => Ok(true),
            false => job.target()?.open_dir(way).and_then(|directory| directory.remove_dir(name)),
        };
        let is_gone = self.settle(outcome, path, reporter)?;
        if is_gone {
            count(job, path, reporter);
        }
        Ok(is_gone)
    }

    /// Notes what could not be deleted.
    fn settle(&self, outcome: Result<bool>, path: &[u8], reporter: &mut Reporter<'_>) -> Result<bool> {
        match outcome {
            Err(error) if error.kind() == ErrorKind::Destination => {
                reporter.not_deleted(path, &error);
                Ok(false)
            }
            outcome => outcome,
        }
    }
}

/// Whether another file system begins at a place.
fn is_mounted(job: &Job<'_>, place: &[u8]) -> Result<bool> {
    let (parent, name) = split(place);
    if name.is_empty() {
        return Ok(false);
    }
    let parent = job.target()?.open_dir(&parent)?;
    match parent.look(name)? {
        Some(present) => parent.is_mount_point(name, &present),
        None => Ok(false),
    }
}

/// The names in a directory that is to be emptied, and what it was like before it was made accessible.
fn list(job: &Job<'_>, way: &[Vec<u8>], name: &[u8]) -> Result<(Vec<Vec<u8>>, Option<Present>)> {
    let target = job.target()?;
    let before = match job.options.dry_run {
        true => None,
        false => Some(target.open_dir(way)?.unlock_dir(name)?),
    };
    let below: Vec<&[u8]> = way.iter().map(Vec::as_slice).chain([name]).collect();
    Ok((target.open_dir(&below)?.names()?, before))
}

/// Gives a directory that was to be emptied, and stays, its mode back.
fn lock_again(job: &Job<'_>, way: &[Vec<u8>], name: &[u8], before: Option<Present>) -> Result<()> {
    let Some(before) = before else { return Ok(()) };
    let below: Vec<&[u8]> = way.iter().map(Vec::as_slice).chain([name]).collect();
    if let Ok(directory) = job.target()?.open_dir(&below) {
        // That something in it stays is said; who is refused here was refused there too.
        let _ = directory.restore_mode(&before);
    }
    Ok(())
}

fn count(job: &Job<'_>, path: &[u8], reporter: &mut Reporter<'_>) {
    reporter.report.deleted += 1;
    let path = path.to_vec();
    job.ctx.observer.event(&Event::EntryDone { path, change: Change::Deleted, bytes: 0 });
}

/// Whether a place that the caller chose for something lies at or below a name.
fn is_on_the_way(job: &Job<'_>, place: &[u8], name: &[u8]) -> bool {
    let mut names = components(place);
    names.push(name);
    job.places.moved().any(|(_, to)| components(to).starts_with(&names))
}

/// The names in a directory of a snapshot.
fn names(stream: &Stream, reader: &ChunkReader<'_>) -> Result<HashSet<Vec<u8>>> {
    DirectoryReader::new(stream, reader).map(|entry| entry.map(|entry| entry.name)).collect()
}

/// Whether a directory is the user's home, or one above it.
fn is_above_home(inode: (u64, u64)) -> bool {
    use std::os::unix::fs::MetadataExt;
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(geteuid().as_raw())).ok().flatten();
    let home = user.map_or_else(|| "/".into(), |user| user.dir);
    let is_it = |path: &std::path::Path| {
        std::fs::metadata(path).is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == inode)
    };
    home.ancestors().chain([as_path(b"/")]).any(is_it)
}

fn mistake(why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, format!("surplus files are not deleted: {why}")).with_remedy(
        "look at what '--delete-anyway --dry-run' says, and where that is right leave out '--dry-run'",
    )
}
