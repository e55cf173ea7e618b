//! Work on many items at once, on threads that end with their owner. One thread is the caller's own: starting another one
//! for it would cost more than most calls that ask for one do.

use rayon::prelude::*;

use crate::error::{Error, ErrorKind, Result};

/// The threads of a call; none where the caller does the work.
#[derive(Debug, Default)]
pub(crate) struct Threads(Option<rayon::ThreadPool>);

impl Threads {
    pub(crate) fn new(count: usize, name: &'static str) -> Result<Threads> {
        if count <= 1 {
            return Ok(Threads(None));
        }
        let pool =
            rayon::ThreadPoolBuilder::new().num_threads(count).thread_name(move |_| name.to_owned()).build();
        pool.map(|pool| Threads(Some(pool)))
            .map_err(|error| Error::new(ErrorKind::Internal, "no thread could be started").with_source(error))
    }

    /// Where there are several, for what they do otherwise than one. None for a thread of another pool: while such a thread
    /// waits it begins other work of its own pool, which would wait for what this one holds.
    pub(crate) fn pool(&self) -> Option<&rayon::ThreadPool> {
        self.0.as_ref().filter(|_| rayon::current_thread_index().is_none())
    }

    /// Does something with every item. After an error nothing more is begun.
    pub(crate) fn each<T: Send>(
        &self,
        items: Vec<T>,
        work: impl Fn(T) -> Result<()> + Sync + Send,
    ) -> Result<()> {
        match self.pool() {
            Some(pool) => pool.install(|| items.into_par_iter().try_for_each(work)),
            None => items.into_iter().try_for_each(work),
        }
    }

    /// What comes of every item, in their order.
    pub(crate) fn map<T: Send, R: Send>(&self, items: Vec<T>, work: impl Fn(T) -> R + Sync + Send) -> Vec<R> {
        match self.pool() {
            Some(pool) => pool.install(|| items.into_par_iter().map(work).collect()),
            None => items.into_iter().map(work).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::thread;

    use super::*;

    #[test]
    fn one_thread_is_the_callers_own_and_several_are_not() {
        for (count, is_own) in [(0, true), (1, true), (3, false)] {
            let threads = Threads::new(count, "test").unwrap();
            let seen = threads.map((0..100).collect(), |item: u32| (item, thread::current().id()));
            assert!(seen.iter().map(|(item, _)| *item).eq(0..100));
            assert!(seen.iter().all(|(_, id)| (*id == thread::current().id()) == is_own), "{count}");
        }
    }

    #[test]
    fn a_thread_of_one_pool_does_the_work_of_another_itself() {
        let (outer, inner) = (Threads::new(2, "outer").unwrap(), Threads::new(2, "inner").unwrap());
        let held = Mutex::new(());
        // Would it wait for the other pool, it would begin another of these items, and wait for its own lock.
        outer
            .each((0..64).collect(), |_: u32| {
                let _held = held.lock().unwrap();
                let own = thread::current().id();
                let seen = inner.map((0..8).collect(), |_: u32| thread::current().id());
                assert!(inner.pool().is_none() && seen.iter().all(|id| *id == own));
                Ok(())
            })
            .unwrap();
    }

    #[test]
    fn an_error_ends_the_work() {
        let done = Mutex::new(Vec::new());
        let threads = Threads::new(1, "test").unwrap();
        let outcome = threads.each((0..100).collect(), |item: u32| {
            done.lock().unwrap().push(item);
            if item == 3 { Err(Error::cancelled()) } else { Ok(()) }
        });
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
        assert_eq!(*done.lock().unwrap(), [0, 1, 2, 3]);
        let failed = Threads::new(3, "test").unwrap().each(vec![0, 1], |_: u32| Err(Error::cancelled()));
        assert!(failed.is_err());
    }
}
