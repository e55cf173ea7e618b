//! Makes one snapshot of several: all that any of them holds.

use std::iter::Peekable;

use super::{Run, count, each_once, forget_replaced, no_totals, refuse_lost, tell, unreadable, with_storer};
use crate::backup::{Draft, Parents, Storer, Tally, commit_derived, derived_body};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::SnapshotBody;
use crate::id::SnapshotId;
use crate::limits::DEPTH_MAX;
use crate::observer::{Change, Context, Event};
use crate::repository::Repository;
use crate::snapshot::{Origin, Relation, Snapshot, Totals};
use crate::tree::{DirectoryReader, DirectoryWriter, Entry, EntryKind, Stream};

/// Which entry stays where several snapshots hold another one at a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeBy {
    /// The one that was modified last; of equal ones that of the snapshot that was named last.
    #[default]
    Modified,
    /// That of the snapshot that was named last.
    Last,
}

/// How snapshots are merged.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct MergeOptions {
    /// Which entry stays where several differ.
    pub by: MergeBy,
    /// The host that the snapshot is filed under; needed where those of the snapshots differ.
    pub host: Option<String>,
    /// The tags of the snapshot; else all that any of them bears.
    pub tags: Option<Vec<String>>,
    /// Forgets the snapshots once the new one is committed.
    pub forget: bool,
    /// Only says what the snapshot would hold.
    pub dry_run: bool,
}

impl MergeOptions {
    /// What was modified last stays.
    pub fn new() -> MergeOptions {
        MergeOptions::default()
    }
}

/// What a merge did.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MergeReport {
    /// The snapshot; none after a dry run.
    pub snapshot: Option<SnapshotId>,
    /// Paths at which the snapshots hold something else, so that only one of them is in the new one.
    pub conflicts: u64,
    /// What it holds.
    pub totals: Totals,
}

impl Repository {
    /// Makes one snapshot of all that any of these holds, without reading file contents.
    ///
    /// # Errors
    /// `InvalidInput` where there are not two of them, no host can be told, or a protected one were to be forgotten; `Corrupt`
    /// where entries cannot be read; `Cancelled`, and what the store answers.
    pub fn merge_snapshots(
        &self,
        snapshots: &[Snapshot],
        options: &MergeOptions,
        ctx: &Context<'_>,
    ) -> Result<MergeReport> {
        let host = check(snapshots, options)?;
        let mut problems = Vec::new();
        for snapshot in snapshots {
            problems.extend(self.problems(snapshot)?);
        }
        let problems = each_once(problems);
        let entries = |totals: &Totals| totals.files + totals.directories + totals.others;
        let total = snapshots.iter().map(|snapshot| entries(&snapshot.totals)).max().unwrap_or(0);
        ctx.observer.event(&Event::Total { entries: total, bytes: 0 });
        let of: Vec<&Snapshot> = snapshots.iter().collect();
        let report = with_storer(&self.0, &of, Run::of(options.dry_run), *ctx, &mut |storer, parents| {
            let mut merge = Merge { storer, parents, by: options.by, conflicts: 0, totals: no_totals() };
            let root = merge.tree(snapshots)?;
            let mut report = MergeReport { snapshot: None, conflicts: merge.conflicts, totals: merge.totals };
            if options.dry_run {
                return Ok(Some(report));
            }
            let body = merged_body(snapshots, host.clone(), root, options);
            let repository = self.0.config.repository;
            let origin =
                |snapshot: &Snapshot| Origin::new(Relation::Merged, repository, snapshot.id, snapshot.place);
            let origins = snapshots.iter().map(origin).collect();
            let tally = Tally { totals: report.totals, problems: problems.clone(), ..Tally::default() };
            let reused = match parents.must_look {
                true => Vec::new(),
                false => snapshots.iter().map(|snapshot| snapshot.id).collect(),
            };
            let draft = Draft { body, origins, tally: &tally, reused, read_at: parents.read_at, guard: None };
            storer.settle()?;
            report.snapshot = commit_derived(storer, draft)?;
            Ok(report.snapshot.is_some().then_some(report))
        })?;
        if let Some(merged) = report.snapshot.filter(|_| options.forget) {
            let ids: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
            forget_replaced(self, &ids, &merged)?;
        }
        Ok(report)
    }
}

/// Refuses what cannot be merged. Gives the host.
fn check(snapshots: &[Snapshot], options: &MergeOptions) -> Result<String> {
    let wrong = |message: &str| Error::new(ErrorKind::InvalidInput, message);
    let named_twice = |(number, snapshot): (usize, &Snapshot)| {
        snapshots[..number].iter().any(|other| other.id == snapshot.id)
    };
    if snapshots.len() < 2 || snapshots.iter().enumerate().any(named_twice) {
        return Err(wrong("a merge takes two snapshots or more, each once"));
    }
    if snapshots.len() > crate::limits::ORIGINS_MAX {
        return Err(
            wrong("so many snapshots cannot be merged at once").with_remedy("merge some of them first")
        );
    }
    if options.forget && snapshots.iter().any(|snapshot| snapshot.protected) {
        return Err(wrong("a protected snapshot cannot be forgotten")
            .with_remedy("merge without forgetting, or unprotect it first: dr protect --remove"));
    }
    match &options.host {
        Some(host) => Ok(host.clone()),
        None if snapshots.iter().all(|snapshot| snapshot.host == snapshots[0].host) => {
            Ok(snapshots[0].host.clone())
        }
        None => Err(wrong("the snapshots are of several hosts").with_remedy("give one with --host")),
    }
}

/// What the snapshot says that is made of these.
fn merged_body(snapshots: &[Snapshot], host: String, root: Stream, options: &MergeOptions) -> SnapshotBody {
    let newest = snapshots.iter().max_by_key(|snapshot| snapshot.time).unwrap_or(&snapshots[0]);
    let mut body = derived_body(newest, root);
    (body.paths, body.tags, body.parent, body.host) = (Vec::new(), Vec::new(), None, host);
    for snapshot in snapshots {
        body.finished = body.finished.max(snapshot.finished);
        body.partial |= snapshot.partial;
        for path in &snapshot.paths {
            let path = path.as_os_str().as_encoded_bytes();
            if !body.paths.iter().any(|known| known == path) {
                body.paths.push(path.to_vec());
            }
        }
        for tag in &snapshot.tags {
            if !body.tags.contains(tag) {
                body.tags.push(tag.clone());
            }
        }
    }
    if let Some(tags) = &options.tags {
        body.tags.clone_from(tags);
    }
    body
}

/// A merge in progress.
struct Merge<'m, 'a> {
    storer: &'m Storer<'a>,
    parents: &'m Parents<'m>,
    by: MergeBy,
    conflicts: u64,
    totals: Totals,
}

/// A directory as the snapshots have it, and as the new one is to have it.
struct OpenDirectory<'r> {
    path: Vec<u8>,
    entry: Option<Entry>,
    /// The numbers of the snapshots that have it, and what they hold in it.
    views: Vec<(usize, Peekable<DirectoryReader<'r>>)>,
    writer: DirectoryWriter,
}

/// An entry, and the number of the snapshot that holds it.
type Candidate = (usize, Entry);

impl<'m> Merge<'m, '_> {
    /// Merges trees. The stack is explicit: no tree is too deep.
    fn tree(&mut self, snapshots: &[Snapshot]) -> Result<Stream> {
        let roots = snapshots.iter().map(|snapshot| &snapshot.root).enumerate();
        let mut stack = vec![self.open(Vec::new(), None, roots)];
        loop {
            self.storer.ctx.cancel.check()?;
            let depth = stack.len();
            let Some(open) = stack.last_mut() else { return Ok(Stream::default()) };
            let found = next_of(&mut open.views).map_err(|error| unreadable(&open.path, error))?;
            let Some(name) = found.first().map(|(_, entry)| entry.name.as_slice()) else {
                let Some(done) = stack.pop() else { return Ok(Stream::default()) };
                let stream = done.writer.finish(self.storer)?;
                let (Some(mut entry), Some(above)) = (done.entry, stack.last_mut()) else {
                    return Ok(stream);
                };
                entry.kind = EntryKind::Directory(stream);
                above.writer.push(entry, self.storer)?;
                continue;
            };
            let path = [open.path.as_slice(), b"/", name].concat();
            let Some(chosen) = self.choose(&path, &found) else { continue };
            count(&mut self.totals, &chosen);
            refuse_lost(&path, &chosen, self.storer, self.parents)?;
            if !chosen.is_directory() {
                tell(&self.storer.ctx, &path, Change::Unchanged);
                open.writer.push(chosen, self.storer)?;
                continue;
            }
            if depth >= DEPTH_MAX {
                return Err(unreadable(&path, Error::corrupt("directories are nested too deep")));
            }
            let streams = found.iter().filter_map(|(number, entry)| match &entry.kind {
                EntryKind::Directory(stream) => Some((*number, stream)),
                _ => None,
            });
            let below = self.open(path, Some(chosen), streams);
            stack.push(below);
        }
    }

    /// Opens a directory; of snapshots that hold the same in it, one is read.
    fn open<'t>(
        &self,
        path: Vec<u8>,
        entry: Option<Entry>,
        streams: impl Iterator<Item = (usize, &'t Stream)>,
    ) -> OpenDirectory<'m> {
        let mut different: Vec<(usize, &Stream)> = Vec::new();
        for (number, stream) in streams {
            match different.iter_mut().find(|(_, known)| *known == stream) {
                Some(known) => known.0 = number,
                None => different.push((number, stream)),
            }
        }
        let read = |(number, stream): (usize, &Stream)| {
            (number, self.parents.read_known_directory(stream).peekable())
        };
        let views = different.into_iter().map(read).collect();
        OpenDirectory { path, entry, views, writer: DirectoryWriter::default() }
    }

    /// The entry that stays.
    fn choose(&mut self, path: &[u8], found: &[Candidate]) -> Option<Entry> {
        let (_, chosen) = found.iter().max_by_key(|(number, entry)| match self.by {
            MergeBy::Modified => (Some(entry.metadata.modified), *number),
            MergeBy::Last => (None, *number),
        })?;
        let differs = |(_, other): &Candidate| match (&other.kind, &chosen.kind) {
            (EntryKind::Directory(_), EntryKind::Directory(_)) => false,
            (other, chosen) => other != chosen,
        };
        if found.iter().any(differs) {
            self.conflicts += 1;
            tell(&self.storer.ctx, path, Change::LeftOut);
        }
        Some(chosen.clone())
    }
}

/// The entries of the next name.
fn next_of(views: &mut [(usize, Peekable<DirectoryReader<'_>>)]) -> Result<Vec<Candidate>> {
    let mut first: Option<Vec<u8>> = None;
    for (_, view) in views.iter_mut() {
        match view.peek() {
            Some(Ok(entry)) if first.as_ref().is_none_or(|first| entry.name < *first) => {
                first = Some(entry.name.clone());
            }
            // Taken, so that the error itself is given.
            Some(Err(_)) => return view.next().transpose().map(|_| Vec::new()),
            _ => {}
        }
    }
    let mut found = Vec::new();
    for (number, view) in views {
        let is_it =
            |entry: &Result<Entry>| entry.as_ref().is_ok_and(|entry| Some(&entry.name) == first.as_ref());
        if let Some(Ok(entry)) = view.next_if(is_it) {
            found.push((*number, entry));
        }
    }
    Ok(found)
}
