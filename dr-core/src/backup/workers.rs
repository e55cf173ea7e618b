//! The threads of a backup. They are made here and nowhere else. A backup of one thread has none: whoever walks the source
//! does the work too, so that the same calls in the same order make the same objects.

use super::ahead::ListJob;
use super::file::FileDone;
use super::queue::{Fetch, Queue, Task, Work};
use super::storer::{Scratch, Storer};
use crate::error::{Error, ErrorKind, Result};

/// Threads that wait for a slow source beside those that work: a disk or a network answers many at once. They hold nothing.
const READERS: usize = 16;

/// Runs `coordinate` with worker threads beside it where there are to be several, and ends them whatever it returns.
pub(crate) fn with_workers<T>(storer: &Storer<'_>, coordinate: impl FnOnce() -> Result<T>) -> Result<T> {
    with_threads(storer, 0, coordinate)
}

/// The same, with threads that go ahead of the workers where the source is slow.
pub(super) fn with_readers<T>(storer: &Storer<'_>, coordinate: impl FnOnce() -> Result<T>) -> Result<T> {
    with_threads(storer, READERS, coordinate)
}

fn with_threads<T>(storer: &Storer<'_>, readers: usize, coordinate: impl FnOnce() -> Result<T>) -> Result<T> {
    std::thread::scope(|scope| {
        let _guard = EndOnPanic(&storer.queue);
        let (workers, readers) = if is_alone(storer) { (0, 0) } else { (storer.ctx.parallelism, readers) };
        for _ in 0..workers {
            std::thread::Builder::new()
                .name("dr-backup".to_owned())
                .spawn_scoped(scope, || work(storer))
                .map_err(|error| {
                    Error::new(ErrorKind::Internal, "no thread could be started").with_source(error)
                })
                .inspect_err(|_| storer.queue.abort(Error::cancelled()))?;
        }
        for _ in 0..readers {
            // Where the system gives no more threads, those that are there do it.
            let reader = std::thread::Builder::new().name("dr-read".to_owned());
            if reader.spawn_scoped(scope, || fetch(storer)).is_err() {
                break;
            }
        }
        match coordinate() {
            Ok(value) => {
                storer.queue.close();
                Ok(value)
            }
            Err(error) => {
                // A coordinator that stops because a worker failed reports what the worker met.
                let first = storer.queue.take_failure();
                storer.queue.abort(Error::cancelled());
                Err(first.unwrap_or(error))
            }
        }
    })
}

/// Whether the calling thread does all the work.
pub(super) fn is_alone(storer: &Storer<'_>) -> bool {
    storer.ctx.parallelism <= 1
}

/// Does what is to be done on the calling thread, where no other does.
pub(crate) fn work_alone(storer: &Storer<'_>, scratch: &mut Scratch) {
    while is_alone(storer)
        && let Some(work) = storer.queue.next_now()
    {
        let result = storer.ctx.cancel.check().and_then(|()| run(storer, work, scratch));
        storer.queue.finished(result);
    }
}

/// Ends the backup when a worker panics: the coordinator would wait for it forever.
struct EndOnPanic<'q>(&'q Queue);

impl Drop for EndOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.abort(Error::new(ErrorKind::Internal, "a thread of the backup panicked"));
        }
    }
}

fn work(storer: &Storer<'_>) {
    let _guard = EndOnPanic(&storer.queue);
    let mut scratch = match Scratch::new(storer.options) {
        Ok(scratch) => scratch,
        Err(error) => return storer.queue.abort(error),
    };
    while let Some(task) = storer.queue.next() {
        match task {
            Task::Work(work) => {
                let result = storer.ctx.cancel.check().and_then(|()| run(storer, work, &mut scratch));
                storer.queue.finished(result);
            }
            Task::List(job) => list(storer, &job),
        }
    }
}

/// Goes ahead of the workers while the source is slow.
fn fetch(storer: &Storer<'_>) {
    let _guard = EndOnPanic(&storer.queue);
    while let Some(next) = storer.queue.next_fetch() {
        match next {
            Fetch::List(job) => list(storer, &job),
            Fetch::File(directory, name) => storer.queue.fetched(directory.fetch(&name)),
        }
    }
}

fn list(storer: &Storer<'_>, job: &ListJob) {
    let clock = &*storer.repository.clock;
    let begun = clock.now();
    let Some(found) = job.directory.list(clock, &job.listed) else {
        return storer.queue.list_ended(0, []);
    };
    storer.queue.listing_took(clock.now().as_nanoseconds() - begun.as_nanoseconds(), found.entries);
    storer.queue.list_ended(found.weight, found.below);
}

/// Does a piece of work.
pub(crate) fn run(storer: &Storer<'_>, work: Work, scratch: &mut Scratch) -> Result<Option<FileDone>> {
    match work {
        Work::Frame(job) => storer.store_frame_job(job, scratch).map(|()| None),
        Work::Segment(job) => job.run(storer, scratch).map(|()| None),
        Work::File(job) => job.run(storer, scratch).map(Some),
    }
}
