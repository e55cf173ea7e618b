//! What a running call tells its caller. Events are data: the caller finds the words.

use std::fmt::Debug;
use std::path::Path;
use std::sync::{Mutex, OnceLock};

use crate::cancel::CancelToken;
use crate::id::{ObjectHash, SnapshotId};
use crate::select::Exclusion;
use crate::snapshot::Problem;

/// A file of at least so many bytes is told when it begins.
pub(crate) const TOLD_BYTES_MIN: u64 = 8 << 20;

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// A file (or a directory, or anything else) is done.
    EntryDone {
        /// Its path, in bytes.
        path: Vec<u8>,
        /// What was done.
        change: Change,
        /// Its length in bytes; 0 for what is no regular file.
        bytes: u64,
    },
    /// A long file begins to be read, compared or written. Of a short one only its end is told.
    Reading {
        /// Its path, in bytes.
        path: Vec<u8>,
    },
    /// Bytes of file contents were read from the source, written to the target, or verified.
    Progress {
        /// How many.
        bytes: u64,
    },
    /// An entry was left out, as the caller wished, with all that is in it.
    Excluded {
        /// Its path, in bytes.
        path: Vec<u8>,
        /// Why.
        reason: Exclusion,
    },
    /// What the caller wished to leave out is left out only in part; it also stands in the call's report.
    Warning {
        /// What this is about.
        path: Vec<u8>,
        /// What is wrong.
        detail: String,
    },
    /// The amount of work is known, or is known better now.
    Total {
        /// Entries.
        entries: u64,
        /// Bytes.
        bytes: u64,
    },
    /// The amount of work is probably this: what the parent snapshot held, what [`count_source`](crate::count_source) found, or
    /// what the index lists of the trees that are followed. It may turn out to be more or less.
    Expected {
        /// Entries.
        entries: u64,
        /// Bytes.
        bytes: u64,
    },
    /// A backup begins, and how much there is nobody knows: no whole snapshot is there to go by. Whoever wants to know may call
    /// [`count_source`](crate::count_source) on another thread.
    Uncounted,
    /// Another part of the work begins, whose entries and bytes are counted by themselves.
    Stage(Stage),
    /// Everything in a snapshot's tree was looked at.
    SnapshotDone {
        /// Its id.
        snapshot: SnapshotId,
    },
    /// A pack is in the store.
    PackStored {
        /// Its name.
        pack: ObjectHash,
        /// Its length.
        bytes: u64,
    },
    /// Something is missing or damaged; it also stands in the call's report.
    Problem(Problem),
    /// A snapshot was committed.
    Committed {
        /// Its id.
        snapshot: SnapshotId,
        /// It is not the whole of what was asked for.
        partial: bool,
    },
}

/// A part of a long call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// The index is read.
    Index,
    /// Packs are listed.
    Packs,
    /// Snapshots' trees are followed.
    Trees,
    /// Packs are read.
    Contents,
    /// Packs are rewritten.
    Repack,
    /// Objects are deleted.
    Delete,
}

/// How an entry compares with the parent snapshot, or what was done with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Change {
    /// There was none before.
    New,
    /// It was read again.
    Changed,
    /// It was taken over.
    Unchanged,
    /// It was restored where nothing was.
    Restored,
    /// It was restored in place of something else.
    Replaced,
    /// What was there was left as it was, because that was asked for.
    Kept,
    /// It was deleted, since the snapshot does not have it.
    Deleted,
    /// It was left out of a snapshot that is made of others.
    LeftOut,
}

/// Receives events, from any thread. Calls should return soon: the engine waits for them.
pub trait Observer: Debug + Send + Sync {
    /// Takes an event.
    fn event(&self, event: &Event);
}

/// Takes no notice.
impl Observer for () {
    fn event(&self, _event: &Event) {}
}

/// Keeps every event, for tests.
#[derive(Debug, Default)]
pub struct RecordingObserver(Mutex<Vec<Event>>);

impl RecordingObserver {
    /// An observer that has seen nothing.
    pub fn new() -> RecordingObserver {
        RecordingObserver::default()
    }

    /// The events so far.
    pub fn events(&self) -> Vec<Event> {
        lock(&self.0).clone()
    }
}

impl Observer for RecordingObserver {
    fn event(&self, event: &Event) {
        lock(&self.0).push(event.clone());
    }
}

/// What every long call is given: whom to tell, when to stop, how many threads to use.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct Context<'a> {
    /// Is told what happens.
    pub observer: &'a dyn Observer,
    /// Ends the call early.
    pub cancel: &'a CancelToken,
    /// The number of worker threads, at least 1.
    pub parallelism: usize,
}

impl<'a> Context<'a> {
    /// A context with as many threads as there are processors.
    pub fn new(observer: &'a dyn Observer, cancel: &'a CancelToken) -> Context<'a> {
        // Asked once: the answer takes reading the control groups' files.
        static PROCESSORS: OnceLock<usize> = OnceLock::new();
        let count = || std::thread::available_parallelism().map_or(1, usize::from);
        Context { observer, cancel, parallelism: *PROCESSORS.get_or_init(count) }
    }

    /// The same with another number of threads.
    #[must_use]
    pub fn with_parallelism(mut self, threads: usize) -> Context<'a> {
        self.parallelism = threads.max(1);
        self
    }

    pub(crate) fn problem(&self, problem: &Problem) {
        self.observer.event(&Event::Problem(problem.clone()));
    }
}

/// Locks a mutex, also one whose holder panicked: the data of this program's mutexes is valid after every step.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Makes a path of bytes a [`Path`].
pub(crate) fn as_path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(std::ffi::OsStr::from_bytes(bytes))
}
