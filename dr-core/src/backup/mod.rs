//! Backing up: source -> walk -> chunk -> dedup -> frame -> compress -> pack -> seal -> store -> index -> commit.

mod ahead;
mod budget;
mod commit;
mod derive;
mod edit;
mod file;
mod frontier;
mod mend;
mod options;
mod pace;
mod parent;
mod put;
mod queue;
mod report;
mod rescue;
mod scan;
mod sealing;
mod segment;
mod storer;
mod stream;
mod tar;
mod tar_tree;
mod window;
mod workers;

use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub use mend::SnapshotRepair;
pub use options::{BackupOptions, Parent, StreamInput, TarInput};
pub use put::{PutContent, PutOptions, PutOutcome, PutReport, WhenUnchanged};
pub use report::{BackupReport, BackupWarning};

pub(crate) use commit::{Committed, Draft, commit, commit_packs, keep_packs_if_due};
pub(crate) use derive::{commit_derived, derived_body};
pub(crate) use edit::{Edit, Newer, TreeEdit, Unchanged};
pub(crate) use parent::Parents;
pub(crate) use scan::Tally;
pub(crate) use storer::{Scratch, Storer};
pub(crate) use workers::with_workers;

use commit::{Guard, totals};
use scan::Scan;

use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Problem, ProblemKind, SnapshotBody};
use crate::id::SnapshotId;
use crate::limits::REPORTED_PROBLEMS_MAX;
use crate::observer::{Context, Event, lock};
use crate::prune::merge_small;
use crate::repository::{ChunkReader, Inner, Repository};
use crate::snapshot::Snapshot;
use crate::source::Source;
use crate::time::Timestamp;
use crate::tree::Stream;

/// What snapshots say made them.
const PROGRAM: &str = concat!("dr ", env!("CARGO_PKG_VERSION"));
/// How often a backup is made again because packs that it needs were condemned meanwhile.
pub(crate) const ATTEMPTS_MAX: usize = 3;

impl Repository {
    /// Backs a source up.
    ///
    /// # Errors
    /// `Source` where nothing that was asked for is there, `Cancelled`, and what the store answers. What is wrong with
    /// single files is no error: the snapshot and the report say so.
    pub fn backup(
        &self,
        source: &dyn Source,
        options: &BackupOptions,
        ctx: &Context<'_>,
    ) -> Result<BackupReport> {
        refuse_all_missing(source)?;
        let mut options = options.clone();
        for _ in 0..ATTEMPTS_MAX {
            if let Some(report) = self.0.backup_once(source, &options, *ctx)? {
                return Ok(report);
            }
            // Nothing of the condemned snapshots is trusted the second time.
            options.parent = Parent::Nothing;
        }
        Err(condemned())
    }
}

pub(crate) fn condemned() -> Error {
    Error::new(ErrorKind::StoreUnavailable, "packs that the backup needs were collected while it ran")
        .with_remedy("try again; do not prune all the time")
}

fn refuse_all_missing(source: &dyn Source) -> Result<()> {
    let missing = source.missing();
    match missing.into_iter().next() {
        Some((path, error)) if source.paths().len() <= source.missing().len() => {
            Err(Error::new(ErrorKind::Source, "nothing that was to be backed up is there")
                .with_path(path)
                .with_source(error)
                .with_remedy("check the paths"))
        }
        _ => Ok(()),
    }
}

impl Inner {
    /// One attempt; `None` where the rules of the log refused its commit.
    fn backup_once(
        &self,
        source: &dyn Source,
        options: &BackupOptions,
        ctx: Context<'_>,
    ) -> Result<Option<BackupReport>> {
        let started = options.time.unwrap_or_else(|| self.clock.now());
        let (log, index) = self.current()?;
        if !options.dry_run {
            self.prepare_to_write(&log)?;
        }
        let paths = source.paths();
        let distrusted = self.distrusted();
        let reader = ChunkReader::new(self, &log, index.clone());
        let parents = Parents::find(self, &log, reader, options, &paths, !distrusted.is_empty())?;
        parents.expect_as_much(ctx);
        let storer = Storer::new(self, index.with_distrusted(distrusted), options, ctx)?;
        let mut run = Run::new(&storer, started, paths, &parents)?;
        let outcome = workers::with_readers(&storer, || {
            let named = run.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect();
            let mut scan = Scan::new(&storer, &parents, named);
            for (path, error) in source.missing() {
                scan.note(Problem::new(path.as_os_str().as_bytes(), ProblemKind::Missing, error));
            }
            let root = source.open_root().map_err(|error| {
                Error::new(ErrorKind::Source, "the source cannot be opened").with_source(error)
            })?;
            let mut pause = |scan: &mut Scan<'_, '_>| run.commit_partial_if_due(scan);
            let root = scan.run(root, &mut pause)?;
            storer.settle()?;
            let tally = std::mem::take(&mut scan.tally);
            let ending = run.commit(root, false, &tally)?;
            Ok((ending, tally))
        });
        run.conclude(outcome)
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, Copy)]
enum Ending {
    /// The snapshot is in the log.
    Snapshot(SnapshotId),
    /// The parent is that snapshot already, and the caller wants no second.
    Unchanged,
    /// Nothing was to be stored.
    DryRun,
    /// Packs that it needs were condemned meanwhile.
    Refused,
}

/// One attempt at a backup.
pub(crate) struct Run<'s, 'a> {
    storer: &'s Storer<'a>,
    started: Timestamp,
    paths: Vec<PathBuf>,
    parents: Vec<SnapshotId>,
    /// The newest whole parent of the same host and paths, and its tree.
    whole: Option<(SnapshotId, Stream)>,
    /// The state of the log that the parents were read on.
    read_at: u64,
    last_partial: Timestamp,
    tags: Vec<String>,
    /// What must still hold when it is committed.
    guard: Option<&'s Guard<'s>>,
}

impl<'s, 'a> Run<'s, 'a> {
    fn new(
        storer: &'s Storer<'a>,
        started: Timestamp,
        paths: Vec<PathBuf>,
        parents: &Parents<'_>,
    ) -> Result<Self> {
        let host = &storer.options.host;
        let is_whole =
            |snapshot: &&Snapshot| !snapshot.partial && snapshot.host == *host && snapshot.paths == paths;
        let whole = parents.snapshots.iter().find(is_whole);
        Ok(Run {
            storer,
            started,
            whole: whole.map(|snapshot| (snapshot.id, snapshot.root.clone())),
            paths,
            parents: parents.snapshots.iter().map(|snapshot| snapshot.id).collect(),
            read_at: parents.read_at,
            last_partial: storer.repository.clock.now(),
            tags: storer.options.tags.clone(),
            guard: None,
        })
    }

    /// Commits what is done so far, where the last time is long enough ago.
    fn commit_partial_if_due(&mut self, scan: &mut Scan<'_, '_>) -> Result<()> {
        let Some(every) = self.storer.options.partial_every.filter(|_| !self.storer.options.dry_run) else {
            return keep_packs_if_due(self.storer);
        };
        let now = self.storer.repository.clock.now();
        if now.as_nanoseconds() - self.last_partial.as_nanoseconds() < every.as_nanos() as i128 {
            return Ok(());
        }
        let Some(root) = scan.so_far()? else { return Ok(()) };
        self.commit(root, true, &scan.tally)?;
        self.last_partial = self.storer.repository.clock.now();
        Ok(())
    }

    fn commit(&mut self, root: Stream, partial: bool, tally: &Tally) -> Result<Ending> {
        let options = self.storer.options;
        if options.skip_if_unchanged && !partial && self.is_unchanged(&root, tally)? {
            return Ok(Ending::Unchanged);
        }
        if options.dry_run {
            return Ok(Ending::DryRun);
        }
        let body = SnapshotBody {
            nonce: [0; 16],
            time: self.started,
            finished: self.started,
            host: options.host.clone(),
            paths: self.paths.iter().map(|path| path.as_os_str().as_bytes().to_vec()).collect(),
            tags: self.tags.clone(),
            program: PROGRAM.to_owned(),
            parent: self.parents.first().copied(),
            partial,
            root,
            totals: tally.totals,
            problems: 0,
            problem_list: Stream::default(),
        };
        let (origins, reused) = (Vec::new(), self.parents.clone());
        let draft = Draft { body, origins, tally, reused, read_at: self.read_at, guard: self.guard };
        let mut kept = lock(&self.storer.kept);
        let committed = commit(self.storer, &mut kept.segments, draft)?;
        kept.at = self.storer.repository.clock.now();
        Ok(match committed {
            Committed::Refused => Ending::Refused,
            Committed::Snapshot(snapshot) => {
                self.storer.ctx.observer.event(&Event::Committed { snapshot, partial });
                Ending::Snapshot(snapshot)
            }
        })
    }

    /// Whether a snapshot of this tree is there and still counts. What was stored nevertheless, in place of what is damaged,
    /// is named in the log.
    fn is_unchanged(&self, root: &Stream, tally: &Tally) -> Result<bool> {
        let Some((id, whole)) = &self.whole else { return Ok(false) };
        // The walk compares with the first parent, and tells nothing of a named path that is not there any more.
        let is_told = self.parents.first() == Some(id) && tally.problems.is_empty();
        if whole != root && (tally.differs || !is_told) {
            return Ok(false);
        }
        // It may have been forgotten since this run began.
        let log = self.storer.repository.synchronise()?;
        if !log.fold.live_snapshots().any(|state| state.record.id == *id) {
            return Ok(false);
        }
        if !self.storer.options.dry_run {
            self.storer.flush()?;
            commit_packs(self.storer, &mut lock(&self.storer.kept).segments)?;
        }
        Ok(true)
    }

    /// Makes the report; after a failure, keeps the packs that were finished for the next run.
    fn conclude(self, outcome: Result<(Ending, Tally)>) -> Result<Option<BackupReport>> {
        let (ending, mut tally) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                // The failure is what the caller must hear of; that its packs are kept as well is a courtesy.
                let _ = commit_packs(self.storer, &mut lock(&self.storer.kept).segments);
                return Err(error);
            }
        };
        let snapshot = match ending {
            Ending::Refused => return Ok(None),
            Ending::Snapshot(id) => Some(id),
            Ending::Unchanged | Ending::DryRun => None,
        };
        let parent = match (ending, &self.whole) {
            (Ending::Unchanged, Some((id, _))) => Some(*id),
            _ => self.parents.first().copied(),
        };
        if snapshot.is_some() {
            // Housekeeping: the snapshot is there whatever comes of it.
            let _ = merge_small(self.storer.repository, self.storer.ctx);
        }
        let problem_count = tally.problems.len() as u64;
        tally.problems.truncate(REPORTED_PROBLEMS_MAX);
        Ok(Some(BackupReport {
            snapshot,
            parent,
            unchanged: matches!(ending, Ending::Unchanged),
            totals: totals(self.storer, &tally),
            entries_new: tally.entries_new,
            entries_changed: tally.entries_changed,
            entries_unchanged: tally.entries_unchanged,
            entries_excluded: tally.entries_excluded,
            warning_count: tally.warning_count,
            warnings: tally.warnings,
            problem_count,
            problems: tally.problems,
        }))
    }
}
