//! Marks what snapshots need. This is the only place where a collection makes threads to look at what there is; with one
//! thread it makes none, and reads in the same order each time.

use std::sync::{Condvar, Mutex};

use super::marks::{Marker, Marks};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checkpoint::SnapshotState;
use crate::format::envelope::PackClass;
use crate::format::log::SnapshotPlace;
use crate::observer::{Context, Event, lock};
use crate::repository::{ChunkReader, Inner};
use crate::threads::Threads;
use crate::tree::{ChunkRef, RUNS_STEP, TreeKeeper};

/// More threads would take from one another the frames that a reader keeps, and fetch them again.
const THREADS_MAX: usize = 16;

/// Marks everything that `snapshots` need.
pub(super) fn mark_snapshots(
    repository: &Inner,
    snapshots: &[&SnapshotState],
    reader: &ChunkReader<'_>,
    marks: &Marks<'_>,
    ctx: Context<'_>,
) -> Result<()> {
    // What is garbage is not looked at, so that it may be less.
    let (entries, bytes) = (snapshots.len() as u64, reader.index.tree_bytes());
    ctx.observer.event(&Event::Expected { entries, bytes });
    let walk = Walk {
        repository,
        snapshots,
        reader,
        marks,
        ctx,
        threads: ctx.parallelism.clamp(1, THREADS_MAX),
        state: Mutex::default(),
        changed: Condvar::new(),
    };
    match Threads::new(walk.threads, "dr-mark")?.pool() {
        Some(pool) => {
            pool.broadcast(|_| walk.work());
        }
        None => walk.work(),
    }
    let failure = lock(&walk.state).failure.take();
    failure.map_or(Ok(()), Err)
}

/// What the threads share.
struct Walk<'w> {
    repository: &'w Inner,
    snapshots: &'w [&'w SnapshotState],
    reader: &'w ChunkReader<'w>,
    marks: &'w Marks<'w>,
    ctx: Context<'w>,
    threads: usize,
    state: Mutex<State>,
    /// There may be work again, or no more ever.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Runs of entries to look at, and the numbers of the snapshots that they were found in; the last one comes first, so
    /// that there are no more of them than a few directories have.
    runs: Vec<(usize, ChunkRef)>,
    /// For each snapshot that was begun, how much of it is still to do: its runs, and one until it is read.
    left: Vec<usize>,
    /// How many threads have work, and may find more.
    busy: usize,
    failure: Option<Error>,
}

/// Ends the walk when a thread panics: the others would wait for it forever.
struct EndOnPanic<'w>(&'w Walk<'w>);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let failure = Error::new(ErrorKind::Internal, "a thread that looks for what is needed panicked");
            lock(&self.0.state).failure.get_or_insert(failure);
            self.0.changed.notify_all();
        }
    }
}

/// What a thread does next, for the snapshot of a number.
enum Work {
    Snapshot(usize),
    Runs(usize, Vec<ChunkRef>),
}

impl Walk<'_> {
    fn work(&self) {
        let _guard = EndOnPanic(self);
        let mut keeper = TreeKeeper::new(self.reader, Marker::new(self.marks), self.ctx.cancel);
        let mut new = Vec::new();
        while let Some(work) = self.next() {
            let (number, steps, done) = match work {
                Work::Snapshot(number) => (number, 1, self.begin(number, &mut keeper, &mut new)),
                Work::Runs(number, runs) => {
                    let done = self.named(number, keeper.keep_runs(&runs, &mut new));
                    let bytes = runs.iter().map(|run| u64::from(run.bytes)).sum();
                    self.ctx.observer.event(&Event::Progress { bytes });
                    (number, runs.len(), done)
                }
            };
            self.finish((number, steps), done, &mut new);
        }
    }

    /// Waits for work; none once there will be no more.
    fn next(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        loop {
            if state.failure.is_some() {
                return None;
            }
            if let Some((number, _)) = state.runs.last().copied() {
                state.busy += 1;
                return Some(Work::Runs(number, self.take_runs(number, &mut state.runs)));
            }
            if state.left.len() < self.snapshots.len() {
                state.left.push(1);
                state.busy += 1;
                return Some(Work::Snapshot(state.left.len() - 1));
            }
            if state.busy == 0 {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
    }

    /// Takes the last runs of a snapshot, and leaves some for the other threads.
    fn take_runs(&self, number: usize, runs: &mut Vec<(usize, ChunkRef)>) -> Vec<ChunkRef> {
        let share = runs.len().div_ceil(2 * self.threads).min(RUNS_STEP);
        let same = runs.iter().rev().take(share).take_while(|(other, _)| *other == number).count();
        runs.drain(runs.len() - same..).map(|(_, run)| run).collect()
    }

    /// Ends some steps for a snapshot, which found new ones.
    fn finish(&self, (number, steps): (usize, usize), done: Result<()>, new: &mut Vec<ChunkRef>) {
        let mut state = lock(&self.state);
        state.busy -= 1;
        state.left[number] += new.len();
        state.left[number] -= steps;
        let is_followed = state.left[number] == 0 && done.is_ok();
        state.runs.extend(new.drain(..).map(|run| (number, run)));
        if let Err(error) = done {
            state.failure.get_or_insert(error);
        }
        let is_over = state.busy == 0 || state.failure.is_some();
        if is_over || !state.runs.is_empty() {
            self.changed.notify_all();
        }
        drop(state);
        if is_followed {
            let snapshot = self.snapshots[number].record.id;
            self.ctx.observer.event(&Event::SnapshotDone { snapshot });
        }
    }

    /// Reads a snapshot, marks all of it but its tree, and begins that.
    fn begin(
        &self,
        number: usize,
        keeper: &mut TreeKeeper<'_, Marker<'_>>,
        new: &mut Vec<ChunkRef>,
    ) -> Result<()> {
        let state = self.snapshots[number];
        if let SnapshotPlace::Stream(stream) = &state.record.body {
            self.named(number, keeper.keep_stream(PackClass::Tree, stream))?;
        }
        let snapshot = self.repository.read_snapshot_through(state, self.reader)?;
        snapshot.refuse_newer()?;
        self.named(number, keeper.keep_stream(PackClass::Tree, &snapshot.problem_list))?;
        self.named(number, keeper.enter_directory(&snapshot.root, new))?;
        new.reverse();
        Ok(())
    }

    fn named<T>(&self, number: usize, result: Result<T>) -> Result<T> {
        result.map_err(|error| error.with_object(format!("snapshot {}", self.snapshots[number].record.id)))
    }
}

/// Marks what all snapshots need, and says how many records that are.
#[cfg(feature = "internals")]
pub(crate) fn mark_all(repository: &Inner, ctx: Context<'_>) -> Result<u64> {
    let (log, index) = repository.current_whole()?;
    let reader = ChunkReader::new(repository, &log, index).without_condemned();
    repository.collate_if_worth_it(&reader.index, ctx.cancel);
    let marks = Marks::new(&reader.index);
    let snapshots: Vec<&SnapshotState> = log.fold.uncollected_snapshots().collect();
    mark_snapshots(repository, &snapshots, &reader, &marks, ctx)?;
    Ok(marks.count())
}
