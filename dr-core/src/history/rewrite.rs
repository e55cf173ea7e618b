//! Makes new snapshots of old ones that leave something out, or are filed under something else.

use super::{
    Run, count, forget_replaced, no_totals, origins_through, refuse_lost, tell, unreadable, with_storer,
};
use crate::backup::{
    Draft, Edit, Newer, Parents, Storer, Tally, TreeEdit, Unchanged, commit_derived, derived_body,
};
use crate::error::{Error, ErrorKind, Result};
use crate::forget::TagChange;
use crate::format::snapshot::{Problem, SnapshotBody};
use crate::id::SnapshotId;
use crate::observer::{Change, Context, Event};
use crate::repository::Repository;
use crate::select::{PathKind, Patterns};
use crate::snapshot::{Relation, Snapshot, SnapshotFilter, Totals};
use crate::time::Timestamp;
use crate::tree::{Entry, Stream};

/// What a rewrite changes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RewriteOptions {
    /// What is left out.
    pub exclude: Patterns,
    /// Files the snapshots under another host.
    pub host: Option<String>,
    /// Gives the snapshots another time.
    pub time: Option<Timestamp>,
    /// Changes the tags, one change after the other.
    pub tags: Vec<TagChange>,
    /// Forgets each snapshot once the one in its place is committed.
    pub forget: bool,
    /// Only says what would be left out.
    pub dry_run: bool,
}

impl RewriteOptions {
    /// Changes nothing.
    pub fn new() -> RewriteOptions {
        RewriteOptions::default()
    }

    fn changes_nothing(&self) -> bool {
        self.exclude.is_empty() && self.host.is_none() && self.time.is_none() && self.tags.is_empty()
    }
}

/// What a rewrite did to a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Rewritten {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The one in its place; none where nothing changes, or after a dry run.
    pub replacement: Option<SnapshotId>,
    /// Whether anything changes.
    pub changed: bool,
    /// The snapshot was forgotten.
    pub forgotten: bool,
    /// Entries that are left out; what was below them is not counted.
    pub entries_left_out: u64,
    /// What the snapshot held.
    pub totals_before: Totals,
    /// What the one in its place holds.
    pub totals: Totals,
}

impl Repository {
    /// Makes a new snapshot in the place of each of these, without reading file contents: what stays is referred to. One that
    /// a cancelled run made is found again. A protected snapshot's replacement is protected too.
    ///
    /// # Errors
    /// `InvalidInput` where nothing is to change, nothing would be left, or a protected snapshot were to be forgotten;
    /// `Corrupt` where entries that stay cannot be read; `Cancelled`, and what the store answers.
    pub fn rewrite(
        &self,
        snapshots: &[Snapshot],
        options: &RewriteOptions,
        ctx: &Context<'_>,
    ) -> Result<Vec<Rewritten>> {
        if options.changes_nothing() {
            return Err(Error::new(ErrorKind::InvalidInput, "the rewrite would change nothing")
                .with_remedy("say what to leave out, or another host, time or tags"));
        }
        if let Some(protected) = snapshots.iter().find(|snapshot| options.forget && snapshot.protected) {
            return Err(Error::new(ErrorKind::InvalidInput, "the snapshot is protected")
                .with_object(format!("snapshot {}", protected.id))
                .with_remedy(
                    "rewrite it without forgetting it, or unprotect it first: dr protect --remove",
                ));
        }
        let entries = |totals: &Totals| totals.files + totals.directories + totals.others;
        let total = snapshots.iter().map(|snapshot| entries(&snapshot.totals)).sum();
        ctx.observer.event(&Event::Total { entries: total, bytes: 0 });
        let mut known = self.snapshots(&SnapshotFilter::new())?;
        let mut rewritten = Vec::with_capacity(snapshots.len());
        for snapshot in snapshots {
            ctx.cancel.check()?;
            let mut done = self.rewrite_one(snapshot, options, &known, *ctx)?;
            if let Some(replacement) = done.replacement {
                if snapshot.protected {
                    self.protect(&[replacement])?;
                }
                if options.forget {
                    done.forgotten = forget_replaced(self, &[snapshot.id], &replacement)? > 0;
                    known.retain(|other| other.id != snapshot.id);
                }
            }
            rewritten.push(done);
        }
        Ok(rewritten)
    }

    fn rewrite_one(
        &self,
        snapshot: &Snapshot,
        options: &RewriteOptions,
        known: &[Snapshot],
        ctx: Context<'_>,
    ) -> Result<Rewritten> {
        let problems = self.problems(snapshot)?;
        let run = Run::of(options.dry_run);
        with_storer(&self.0, &[snapshot], run, ctx, &mut |storer, parents| {
            let (root, mut left_out) = edit(snapshot, &options.exclude, storer, parents)?;
            let stays = |problem: &&Problem| !is_excluded(&options.exclude, &problem.path);
            let problems: Vec<Problem> = problems.iter().filter(stays).cloned().collect();
            let body = refiled(snapshot, root, options);
            let changed = !is_same(snapshot, &body) || problems.len() as u64 != snapshot.problems;
            if left_out.entries > 0 && body.root == Stream::default() {
                return Err(Error::new(ErrorKind::InvalidInput, "nothing of the snapshot would be left")
                    .with_object(format!("snapshot {}", snapshot.id))
                    .with_remedy("leave out less, or forget the snapshot"));
            }
            // Nothing of these is new to anybody.
            (left_out.totals.files_read, left_out.totals.bytes_read) = (0, 0);
            let mut done = Rewritten {
                snapshot: snapshot.id,
                replacement: None,
                changed,
                forgotten: false,
                entries_left_out: left_out.entries,
                totals_before: snapshot.totals,
                totals: left_out.totals,
            };
            if !changed || options.dry_run {
                return Ok(Some(done));
            }
            let origins = origins_through(&self.0, snapshot, Relation::Rewritten);
            let is_made =
                |other: &&Snapshot| other.origins.first() == origins.first() && is_same(other, &body);
            if let Some(made) = known.iter().find(is_made) {
                done.replacement = Some(made.id);
                return Ok(Some(done));
            }
            let tally = Tally { totals: left_out.totals, problems, ..Tally::default() };
            // What was looked up rests on its packs, the rest on the snapshot that it is taken from.
            let reused = if parents.must_look { Vec::new() } else { vec![snapshot.id] };
            let draft = Draft { body, origins, tally: &tally, reused, read_at: parents.read_at, guard: None };
            storer.settle()?;
            done.replacement = commit_derived(storer, draft)?;
            Ok(done.replacement.is_some().then_some(done))
        })
    }
}

/// What the replacement of a snapshot says.
fn refiled(snapshot: &Snapshot, root: Stream, options: &RewriteOptions) -> SnapshotBody {
    let mut body = derived_body(snapshot, root);
    if let Some(host) = &options.host {
        body.host.clone_from(host);
    }
    if let Some(time) = options.time {
        let took = snapshot.finished.as_nanoseconds() - snapshot.time.as_nanoseconds();
        body.time = time;
        body.finished = Timestamp::from_nanoseconds(time.as_nanoseconds() + took);
    }
    for change in &options.tags {
        body.tags = change.apply(&body.tags);
    }
    body
}

/// Whether a snapshot holds, and is filed under, what a body says.
fn is_same(snapshot: &Snapshot, body: &SnapshotBody) -> bool {
    snapshot.root == body.root
        && snapshot.host == body.host
        && snapshot.time == body.time
        && snapshot.tags == body.tags
        && snapshot.partial == body.partial
}

/// Whether something at a path is left out, whatever it was.
fn is_excluded(exclude: &Patterns, path: &[u8]) -> bool {
    !exclude.is_empty()
        && [PathKind::Directory, PathKind::Other].into_iter().all(|kind| exclude.excludes(path, kind))
}

/// What an edit left out, and what stays.
struct LeftOut {
    entries: u64,
    totals: Totals,
}

/// Writes the tree of a snapshot again where something of it is left out.
fn edit(
    snapshot: &Snapshot,
    exclude: &Patterns,
    storer: &Storer<'_>,
    parents: &Parents<'_>,
) -> Result<(Stream, LeftOut)> {
    if exclude.is_empty() && !parents.must_look {
        return Ok((snapshot.root.clone(), LeftOut { entries: 0, totals: snapshot.totals }));
    }
    let unchanged = if parents.must_look { Unchanged::WrittenAgain } else { Unchanged::TakenOver };
    let edit = TreeEdit { storer, parents, unchanged, newer: Newer::Refused };
    let mut leaving =
        Leaving { storer, parents, exclude, left_out: LeftOut { entries: 0, totals: no_totals() } };
    let root = edit.run(&snapshot.root, &mut leaving)?;
    Ok((root, leaving.left_out))
}

/// Leaves out what patterns name.
struct Leaving<'l, 'a> {
    storer: &'l Storer<'a>,
    parents: &'l Parents<'l>,
    exclude: &'l Patterns,
    left_out: LeftOut,
}

impl Edit for Leaving<'_, '_> {
    fn keeps(&mut self, path: &[u8], entry: &Entry) -> Result<bool> {
        let kind = if entry.is_directory() { PathKind::Directory } else { PathKind::Other };
        if !self.exclude.is_empty() && self.exclude.excludes(path, kind) {
            self.left_out.entries += 1;
            tell(&self.storer.ctx, path, Change::LeftOut);
            return Ok(false);
        }
        refuse_lost(path, entry, self.storer, self.parents)?;
        count(&mut self.left_out.totals, entry);
        tell(&self.storer.ctx, path, Change::Unchanged);
        Ok(true)
    }

    fn unreadable(&mut self, path: &[u8], error: Error) -> Result<()> {
        Err(unreadable(path, error))
    }
}
