//! The work of a backup's threads: a queue that is bounded, prefers what frees memory, and stops at the first failure.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use super::ahead::{Ahead, ListJob, ListedBy};
use super::file::{FileDone, FileJob};
use super::frontier::Frontier;
use super::pace::Pace;
use super::segment::SegmentJob;
use super::window::FrameJob;
use crate::error::{Error, Result};
use crate::observer::lock;
use crate::source::{Fetched, SourceDirectory};

/// Files handed out but not begun. Each holds its directory open.
const FILES_MAX: usize = 128;
/// Segments of large files read but not hashed.
const SEGMENTS_MAX: usize = 1;

/// Frames gathered but not compressed: those of a window, and some of trees.
const FRAMES_MAX: usize = 16;
/// While more files wait to be read, the walk is fast enough: nothing is listed ahead of it.
const FILES_ENOUGH: usize = FILES_MAX / 2;

/// A piece of work.
#[derive(Debug)]
pub(crate) enum Work {
    /// Compress a frame. Comes first: it frees memory.
    Frame(FrameJob),
    /// Hash and store a segment of a large file.
    Segment(SegmentJob),
    /// Read a file.
    File(Box<FileJob>),
}

/// What a worker does next.
#[derive(Debug)]
pub(crate) enum Task {
    /// A piece of work; `finished` must be called after it.
    Work(Work),
    /// List a directory before the walk comes to it, as nothing else is to be done; `list_ended` must be called after it.
    List(ListJob),
}

/// What is done ahead of the others while the source is slow.
#[derive(Debug)]
pub(crate) enum Fetch {
    List(ListJob),
    /// Have a file brought into memory that will be read soon.
    File(Arc<dyn SourceDirectory>, Vec<u8>),
}

#[derive(Debug, Default)]
struct State {
    frames: VecDeque<FrameJob>,
    segments: VecDeque<SegmentJob>,
    files: VecDeque<Box<FileJob>>,
    /// How many of these, from the first one on, were given out to be fetched.
    fetched: usize,
    frontier: Frontier,
    done: Vec<FileDone>,
    /// Pieces of work that threads hold, and files whose result is not yet in `done`.
    running: usize,
    closed: bool,
    failure: Option<Error>,
    failed: bool,
    /// Threads that wait for each of the queue's events: nobody is woken where nobody waits, which would cost a system call for
    /// every file.
    waiting: [usize; 4],
}

/// What threads wait for.
#[derive(Debug, Clone, Copy)]
enum Awaited {
    /// There is work.
    Work,
    /// Half of the files that were handed out are begun.
    Room,
    /// Some work is done.
    Done,
    /// The source is slow, and there is something to fetch.
    Fetch,
}

/// The queue between the coordinator and the workers.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    changed: [Condvar; 4],
    pace: Pace,
}

impl Queue {
    /// What to do next; `None` when there will be no more.
    pub(crate) fn next(&self) -> Option<Task> {
        let mut state = lock(&self.state);
        loop {
            if state.failed {
                return None;
            }
            let task = take(&mut state).map(Task::Work);
            if let Some(task) = task.or_else(|| take_directory(&mut state).map(Task::List)) {
                if state.files.len() == FILES_MAX / 2 {
                    self.wake(&state, Awaited::Room);
                }
                if state.files.len() + 1 == FILES_ENOUGH {
                    self.wake_listers(&state);
                }
                return Some(task);
            }
            if state.closed {
                return None;
            }
            state = self.wait(state, Awaited::Work);
        }
    }

    /// The next piece of work, where there is one now.
    pub(crate) fn next_now(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        if state.failed { None } else { take(&mut state) }
    }

    /// What to fetch next, while the source is slow; `None` when there will be no more.
    pub(crate) fn next_fetch(&self) -> Option<Fetch> {
        let mut state = lock(&self.state);
        loop {
            if state.failed || state.closed {
                return None;
            }
            if self.pace.is_slow() {
                if let Some(file) = state.files.get(state.fetched) {
                    let fetch = Fetch::File(Arc::clone(&file.directory), file.entry.name.clone());
                    state.fetched += 1;
                    return Some(fetch);
                }
                if let Some(directory) = take_directory(&mut state) {
                    return Some(Fetch::List(directory));
                }
            }
            state = self.wait(state, Awaited::Fetch);
        }
    }

    /// Says that so many entries were listed in so many nanoseconds.
    pub(crate) fn listing_took(&self, nanoseconds: i128, entries: usize) {
        if self.pace.listed(nanoseconds, entries) {
            self.wake(&lock(&self.state), Awaited::Fetch);
        }
    }

    /// Says whether a file had to be fetched.
    pub(crate) fn fetched(&self, fetched: Fetched) {
        let turned_slow = match fetched {
            Fetched::Unknown => false,
            Fetched::Begun => self.pace.fetched(true),
            Fetched::Nothing => self.pace.fetched(false),
        };
        if turned_slow {
            self.wake(&lock(&self.state), Awaited::Fetch);
        }
    }

    /// Whether the next file should be asked whether it is in memory.
    pub(crate) fn wants_sample(&self) -> bool {
        self.pace.wants_sample()
    }

    /// A frame or segment to be done now by a thread that waits for something else.
    pub(crate) fn next_leaf(&self) -> Option<Work> {
        let mut state = lock(&self.state);
        if state.failed { None } else { take_leaf(&mut state) }
    }

    /// Says that a piece of work is done.
    pub(crate) fn finished(&self, result: Result<Option<FileDone>>) {
        let mut state = lock(&self.state);
        state.running = state.running.saturating_sub(1);
        match result {
            Ok(Some(done)) => state.done.push(done),
            Ok(None) => {}
            Err(error) => self.fail(&mut state, error),
        }
        self.wake(&state, Awaited::Done);
    }

    /// Hands a file out; waits while there are too many. Returns at once when the backup has failed.
    pub(crate) fn push_file(&self, file: FileJob) {
        let mut state = lock(&self.state);
        if state.files.len() >= FILES_MAX {
            while state.files.len() > FILES_MAX / 2 && !state.failed {
                state = self.wait(state, Awaited::Room);
            }
        }
        state.files.push_back(Box::new(file));
        self.wake(&state, Awaited::Work);
        self.wake_readers(&state);
    }

    /// Gives directories that the walk will come to.
    pub(crate) fn push_directories(&self, directories: impl IntoIterator<Item = Arc<Ahead>>) {
        let mut state = lock(&self.state);
        if !state.failed {
            state.frontier.push(directories);
            self.wake_listers(&state);
        }
    }

    /// Says that a thread has listed a directory, which weighs so much and has these below.
    pub(crate) fn list_ended(&self, weight: usize, below: impl IntoIterator<Item = Arc<Ahead>>) {
        let mut state = lock(&self.state);
        state.frontier.ended(weight);
        if !state.failed {
            state.frontier.push(below);
            self.wake_listers(&state);
        }
    }

    /// Says that the walk came to a directory.
    pub(crate) fn came_to(&self, directory: &Ahead, listed_by: ListedBy) {
        let mut state = lock(&self.state);
        state.frontier.came_to(directory, listed_by);
        self.wake_listers(&state);
    }

    pub(crate) fn push_frames(&self, frames: impl IntoIterator<Item = FrameJob>) {
        let mut state = lock(&self.state);
        state.frames.extend(frames);
        self.wake(&state, Awaited::Work);
    }

    /// Whether so much is waiting that the caller should rather do some of it than bring more.
    pub(crate) fn is_behind(&self) -> bool {
        let state = lock(&self.state);
        state.segments.len() > SEGMENTS_MAX || state.frames.len() > FRAMES_MAX
    }

    pub(crate) fn push_segment(&self, segment: SegmentJob) {
        let mut state = lock(&self.state);
        state.segments.push_back(segment);
        self.wake(&state, Awaited::Work);
    }

    /// The files that are done since the last call.
    pub(crate) fn take_done(&self) -> Result<Vec<FileDone>> {
        let mut state = lock(&self.state);
        self.check(&mut state)?;
        Ok(std::mem::take(&mut state.done))
    }

    /// Waits until a file is done or nothing is left to do, and gives the files that are done.
    pub(crate) fn wait_done(&self) -> Result<Vec<FileDone>> {
        let mut state = lock(&self.state);
        while state.done.is_empty() && !state.failed && !is_idle(&state) {
            state = self.wait(state, Awaited::Done);
        }
        self.check(&mut state)?;
        Ok(std::mem::take(&mut state.done))
    }

    /// Waits until nothing is left to do but what `take_done` gives.
    pub(crate) fn wait_idle(&self) -> Result<()> {
        let mut state = lock(&self.state);
        while !state.failed && !is_idle(&state) {
            state = self.wait(state, Awaited::Done);
        }
        self.check(&mut state)
    }

    /// Ends the workers' loops once the queue is empty.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        self.wake(&state, Awaited::Work);
        self.wake(&state, Awaited::Fetch);
    }

    /// Ends the workers' loops now.
    pub(crate) fn abort(&self, error: Error) {
        self.fail(&mut lock(&self.state), error);
    }

    /// The failure that ended the workers, where nobody took it yet.
    pub(crate) fn take_failure(&self) -> Option<Error> {
        lock(&self.state).failure.take()
    }

    /// Whether the backup has failed: long work looks at this between its steps.
    pub(crate) fn is_failed(&self) -> bool {
        lock(&self.state).failed
    }

    /// Waits until somebody else's work is done, for a moment at the most.
    pub(crate) fn wait_a_moment(&self) {
        let mut state = lock(&self.state);
        state.waiting[Awaited::Done as usize] += 1;
        let timeout = std::time::Duration::from_millis(20);
        let waited = self.changed[Awaited::Done as usize].wait_timeout(state, timeout);
        let (mut state, _) = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        state.waiting[Awaited::Done as usize] -= 1;
    }

    fn check(&self, state: &mut State) -> Result<()> {
        match state.failure.take() {
            Some(error) => Err(error),
            None if state.failed => Err(Error::cancelled()),
            None => Ok(()),
        }
    }

    fn wait<'a>(&self, mut state: MutexGuard<'a, State>, awaited: Awaited) -> MutexGuard<'a, State> {
        state.waiting[awaited as usize] += 1;
        let waited = self.changed[awaited as usize].wait(state);
        let mut state = waited.unwrap_or_else(std::sync::PoisonError::into_inner);
        state.waiting[awaited as usize] -= 1;
        state
    }

    fn wake(&self, state: &State, awaited: Awaited) {
        if state.waiting[awaited as usize] > 0 {
            self.changed[awaited as usize].notify_all();
        }
    }

    /// Wakes those that list directories, where one may be listed.
    fn wake_listers(&self, state: &State) {
        if wants_listing(state) {
            self.wake(state, Awaited::Work);
            self.wake_readers(state);
        }
    }

    /// Wakes those that go ahead while the source is slow.
    fn wake_readers(&self, state: &State) {
        if self.pace.is_slow() {
            self.wake(state, Awaited::Fetch);
        }
    }

    fn fail(&self, state: &mut State, error: Error) {
        if !state.failed {
            state.failure = Some(error);
            state.failed = true;
        }
        state.frames.clear();
        state.segments.clear();
        state.files.clear();
        state.fetched = 0;
        state.frontier.clear();
        for awaited in [Awaited::Work, Awaited::Room, Awaited::Done, Awaited::Fetch] {
            self.wake(state, awaited);
        }
    }
}

fn take(state: &mut State) -> Option<Work> {
    if let Some(work) = take_leaf(state) {
        return Some(work);
    }
    let file = state.files.pop_front()?;
    state.fetched = state.fetched.saturating_sub(1);
    state.running += 1;
    Some(Work::File(file))
}

fn take_leaf(state: &mut State) -> Option<Work> {
    let work = match state.frames.pop_front() {
        Some(frame) => Work::Frame(frame),
        None => Work::Segment(state.segments.pop_front()?),
    };
    state.running += 1;
    Some(work)
}

fn take_directory(state: &mut State) -> Option<ListJob> {
    if wants_listing(state) { state.frontier.next() } else { None }
}

fn wants_listing(state: &State) -> bool {
    state.files.len() < FILES_ENOUGH && state.frontier.has_next()
}

fn is_idle(state: &State) -> bool {
    state.running == 0 && state.frames.is_empty() && state.segments.is_empty() && state.files.is_empty()
}
