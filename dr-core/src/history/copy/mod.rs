//! Copies snapshots from another repository, whose keys differ: what they hold is read there, verified, and stored here under
//! the ids of this one. Where both share the keys of ids, what is here already is not read.

mod fetch;
mod memo;
mod plan;
mod replay;
mod tree;

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use memo::Memo;
use tree::{Copier, Pair};

use super::origins_through;
use crate::backup::{
    ATTEMPTS_MAX, BackupOptions, Committed, Draft, Parent, Storer, Tally, commit, commit_packs, condemned,
    derived_body, with_workers,
};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Problem, ProblemKind};
use crate::frame::Compression;
use crate::id::SnapshotId;
use crate::observer::{Context, Event, lock};
use crate::repository::{ChunkReader, Inner, Repository};
use crate::snapshot::{Origin, Relation, Snapshot, SnapshotFilter};
use crate::threads::Threads;

/// What becomes of a snapshot of which something cannot be read where it is copied from.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damaged {
    /// It is not copied; the report says what is damaged.
    #[default]
    Refused,
    /// A snapshot of the rest is made, which lists what is missing.
    LeftOut,
}

/// How snapshots are copied.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct CopyOptions {
    /// What becomes of a snapshot of which something cannot be read.
    pub damaged: Damaged,
    /// How hard to compress what is stored.
    pub compression: Compression,
    /// Opens and hashes every sealed frame again before it leaves this machine.
    pub verify_frames: bool,
    /// What was made of a copy here, by a rewrite, does not stand for it: the snapshot is copied all the same.
    pub beside_rewritten: bool,
    /// Only says what would be copied.
    pub dry_run: bool,
}

impl Default for CopyOptions {
    fn default() -> Self {
        CopyOptions {
            damaged: Damaged::default(),
            compression: Compression::default(),
            verify_frames: true,
            beside_rewritten: false,
            dry_run: false,
        }
    }
}

impl CopyOptions {
    /// The defaults.
    pub fn new() -> CopyOptions {
        CopyOptions::default()
    }
}

/// What became of a snapshot that was to be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Copied {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The copy; none where it is damaged and was refused, or after a dry run.
    pub copy: Option<SnapshotId>,
    /// The copy was there before, or something that was made of it.
    pub was_there: bool,
    /// What could not be read: all of it where the rest was copied, else the first.
    pub damaged: Vec<Problem>,
}

/// What a copy did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
#[must_use = "a report says what was not copied"]
pub struct CopyReport {
    /// The snapshots, in the order in which they were given.
    pub snapshots: Vec<Copied>,
    /// File contents that were read, in bytes.
    pub bytes_read: u64,
    /// New chunks, before compression, in bytes.
    pub new_bytes: u64,
    /// What was added to the store, in bytes.
    pub stored_bytes: u64,
}

impl CopyReport {
    /// Whether all of every snapshot could be read.
    pub fn is_complete(&self) -> bool {
        self.snapshots.iter().all(|copied| copied.damaged.is_empty())
    }
}

impl Repository {
    /// Copies snapshots from another repository, oldest first if they are given so. What was copied before, and is not
    /// forgotten, is passed over. A run that was cut short keeps what it stored.
    ///
    /// # Errors
    /// `InvalidInput` where both are one repository, `Cancelled`, and what the stores answer. That something is damaged where
    /// it is copied from is no error: the report says so.
    pub fn copy_from(
        &self,
        source: &Repository,
        snapshots: &[Snapshot],
        options: &CopyOptions,
        ctx: &Context<'_>,
    ) -> Result<CopyReport> {
        if self.0.config.repository == source.0.config.repository {
            return Err(Error::new(ErrorKind::InvalidInput, "a repository cannot be copied into itself")
                .with_object(source.0.store.endpoint()));
        }
        let mut copy = Copy {
            target: self,
            source,
            options,
            ctx: *ctx,
            there: self.snapshots(&SnapshotFilter::new())?,
            known: source.snapshots(&SnapshotFilter::new())?,
            threads: Threads::new(ctx.parallelism, "dr-copy")?,
            memo: Memo::default(),
            report: CopyReport::default(),
        };
        let missing = snapshots.iter().filter(|snapshot| copy.find(snapshot).is_none());
        let (mut entries, mut bytes) = (0, 0);
        for snapshot in missing {
            let totals = &snapshot.totals;
            entries += totals.files + totals.directories + totals.others;
            bytes += totals.bytes;
        }
        ctx.observer.event(&Event::Total { entries, bytes });
        for snapshot in snapshots {
            ctx.cancel.check()?;
            let copied = copy.snapshot(snapshot)?;
            copy.report.snapshots.push(copied);
        }
        Ok(copy.report)
    }
}

/// A copy in progress.
struct Copy<'c> {
    target: &'c Repository,
    source: &'c Repository,
    options: &'c CopyOptions,
    ctx: Context<'c>,
    /// The snapshots that are here.
    there: Vec<Snapshot>,
    /// Those that are where they are copied from.
    known: Vec<Snapshot>,
    threads: Threads,
    memo: Memo,
    report: CopyReport,
}

/// What one attempt at a snapshot reads and writes through.
struct Through<'t, 'a> {
    storer: &'t Storer<'a>,
    reader: &'t ChunkReader<'t>,
    own: &'t ChunkReader<'t>,
    /// The next slot of the log when the copy began.
    read_at: u64,
}

/// How one attempt at a snapshot ended.
enum Attempt {
    Copied(SnapshotId, Vec<Problem>),
    /// Something is damaged, and nothing was committed.
    Damaged(Problem),
    /// Packs that it needs were condemned meanwhile.
    Condemned,
}

impl Copy<'_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<Copied> {
        snapshot.refuse_newer()?;
        let mut copied = Copied { snapshot: snapshot.id, copy: None, was_there: false, damaged: Vec::new() };
        if let Some(there) = self.find(snapshot) {
            (copied.copy, copied.was_there) = (Some(there.id), true);
            return Ok(copied);
        }
        if self.options.dry_run {
            return Ok(copied);
        }
        // Nothing of a condemned copy is trusted the second time.
        let mut pair = self.pair(snapshot);
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(snapshot, pair.take())? {
                Attempt::Copied(id, damaged) => {
                    (copied.copy, copied.damaged) = (Some(id), damaged);
                    let log = self.target.0.synchronise()?;
                    if let Some(state) = log.fold.snapshot(&id) {
                        self.there.push(self.target.0.read_snapshot(&log, state, &mut None)?);
                    }
                    return Ok(copied);
                }
                Attempt::Damaged(problem) => {
                    copied.damaged.push(problem);
                    return Ok(copied);
                }
                Attempt::Condemned => {}
            }
        }
        Err(condemned())
    }

    /// The snapshot that is here already and holds the same, or was made of what does.
    fn find(&self, snapshot: &Snapshot) -> Option<&Snapshot> {
        let mut same = origins_through(&self.source.0, snapshot, Relation::Copy);
        same.retain(|origin| origin.relation() == Some(Relation::Copy));
        let own = &self.target.0.config.repository;
        // One that was rewritten where it is copied from is another snapshot there.
        let is_rewritten_here = |there: &Snapshot| {
            there
                .origins
                .first()
                .is_some_and(|first| first.relation() == Some(Relation::Rewritten) && first.is_of(own))
        };
        let counts = |there: &Snapshot, origin: &Origin| match origin.relation() {
            Some(Relation::Copy) => true,
            Some(Relation::Rewritten) => !self.options.beside_rewritten && is_rewritten_here(there),
            Some(Relation::Rest) => self.options.damaged == Damaged::LeftOut,
            _ => false,
        };
        self.there.iter().find(|there| {
            let is_itself = |same: &Origin| same.is_of(own) && same.snapshot == there.id;
            let is_of = |origin: &Origin| same.iter().any(|same| same.is_one_with(origin));
            same.iter().any(is_itself)
                || there.origins.iter().filter(|origin| counts(there, origin)).any(is_of)
        })
    }

    /// A snapshot much like this one that was copied before, and its copy: what they share is not read again.
    fn pair(&self, snapshot: &Snapshot) -> Option<(Snapshot, Snapshot)> {
        let repository = &self.source.0.config.repository;
        let copies: HashMap<SnapshotId, &Snapshot> = self
            .there
            .iter()
            .filter_map(|there| {
                let origin = there.origins.first()?;
                let is_copy = origin.relation() == Some(Relation::Copy) && origin.is_of(repository);
                (is_copy && !there.newer).then_some((origin.snapshot, there))
            })
            .collect();
        let alike = self.known.iter().filter(|known| {
            known.host == snapshot.host && known.paths == snapshot.paths && copies.contains_key(&known.id)
        });
        let chosen =
            alike.min_by_key(|known| (known.place > snapshot.place, known.place.abs_diff(snapshot.place)))?;
        Some((chosen.clone(), (*copies.get(&chosen.id)?).clone()))
    }

    fn attempt(&mut self, snapshot: &Snapshot, pair: Option<(Snapshot, Snapshot)>) -> Result<Attempt> {
        let (target, source) = (&self.target.0, &self.source.0);
        let (log, index) = target.current()?;
        target.prepare_to_write(&log)?;
        let (source_log, source_index) = source.current()?;
        let reader = ChunkReader::new(source, &source_log, source_index);
        let own = ChunkReader::new(target, &log, index.clone());
        let distrusted = target.distrusted();
        // Of a copy that may have lost something since, nothing is taken over.
        let is_sound = |copy: &Snapshot| {
            distrusted.is_empty()
                && index.is_whole()
                && log.fold.snapshot(&copy.id).is_some()
                && log.fold.lossy.is_none_or(|slot| slot < copy.slot)
        };
        let pair = pair.filter(|(_, copy)| is_sound(copy));
        let options = self.storer_options();
        let storer = Storer::new(target, index.clone().with_distrusted(distrusted), &options, self.ctx)?;
        let through = Through { storer: &storer, reader: &reader, own: &own, read_at: log.fold.next };
        let outcome = with_workers(&storer, || self.copy_through(snapshot, pair.as_ref(), &through));
        self.report.new_bytes += storer.counts.new_bytes.load(Ordering::Relaxed);
        self.report.stored_bytes += storer.counts.stored_bytes.load(Ordering::Relaxed);
        match &outcome {
            Ok(Attempt::Copied(id, _)) => {
                let event = Event::Committed { snapshot: *id, partial: snapshot.partial };
                self.ctx.observer.event(&event);
            }
            // How it ended is what the caller must hear of; that its packs are kept as well is a courtesy.
            _ => _ = commit_packs(&storer, &mut lock(&storer.kept).segments),
        }
        outcome
    }

    fn copy_through(
        &mut self,
        snapshot: &Snapshot,
        pair: Option<&(Snapshot, Snapshot)>,
        through: &Through<'_, '_>,
    ) -> Result<Attempt> {
        let storer = through.storer;
        let mut copier = Copier {
            storer,
            repository: &self.source.0,
            source: through.reader,
            own: through.own,
            shares_ids: shares_ids(&self.target.0, &self.source.0),
            damaged: self.options.damaged,
            threads: &self.threads,
            memo: &mut self.memo,
            problems: Vec::new(),
            bytes_read: 0,
        };
        let pair = pair.map(|(before, copy)| Pair { before, copy });
        let root = copier.tree(&snapshot.root, pair.as_ref());
        self.report.bytes_read += copier.bytes_read;
        let mut problems = std::mem::take(&mut copier.problems);
        let Some(root) = root? else {
            return Ok(problems.into_iter().next().map_or(Attempt::Condemned, Attempt::Damaged));
        };
        let listed = match self.source.problems(snapshot) {
            Err(error) if error.is_damage() => {
                let problem = Problem::new(b"/".as_slice(), ProblemKind::Damaged, &error);
                if self.options.damaged == Damaged::Refused {
                    return Ok(Attempt::Damaged(problem));
                }
                problems.push(problem);
                Vec::new()
            }
            listed => listed?,
        };
        storer.settle()?;
        let mut body = derived_body(snapshot, root);
        body.program.clone_from(&snapshot.program);
        body.parent = snapshot.parent.and_then(|parent| self.copy_of(&parent));
        let relation = if problems.is_empty() { Relation::Copy } else { Relation::Rest };
        let origins = origins_through(&self.source.0, snapshot, relation);
        let listed = [listed, problems.clone()].concat();
        let tally = Tally { totals: snapshot.totals, problems: listed, ..Tally::default() };
        let reused = pair.iter().map(|pair| pair.copy.id).collect();
        let draft = Draft { body, origins, tally: &tally, reused, read_at: through.read_at, guard: None };
        Ok(match commit(storer, &mut lock(&storer.kept).segments, draft)? {
            Committed::Snapshot(id) => Attempt::Copied(id, problems),
            Committed::Refused => Attempt::Condemned,
        })
    }

    fn storer_options(&self) -> BackupOptions {
        BackupOptions {
            parent: Parent::Nothing,
            compression: self.options.compression,
            verify_frames: self.options.verify_frames,
            ..BackupOptions::new()
        }
    }

    fn copy_of(&self, snapshot: &SnapshotId) -> Option<SnapshotId> {
        let known = self.known.iter().find(|known| known.id == *snapshot)?;
        self.find(known).map(|there| there.id)
    }
}

/// Whether chunks have the same ids in both.
fn shares_ids(one: &Inner, other: &Inner) -> bool {
    one.domain.data_ids == other.domain.data_ids && one.domain.tree_ids == other.domain.tree_ids
}
