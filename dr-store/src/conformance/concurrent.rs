//! Checks of many callers at once, and of callers inside a tokio runtime.

use std::sync::{Arc, Barrier};
use std::thread;

use tokio::runtime::Builder;

use super::{Check, Outcome, done, ensure, ensure_bytes, name, pattern};
use crate::{Payload, PutMode, Store, StoreErrorKind};

const THREADS: u64 = 16;
const RACES: u64 = 12;

pub(super) const CHECKS: &[Check] = &[
    ("create as a race", create_as_a_race),
    ("replace is atomic", replace_is_atomic),
    ("many threads", many_threads),
    ("inside a current-thread runtime", inside_a_current_thread_runtime),
    ("inside a multi-thread runtime", inside_a_multi_thread_runtime),
];

fn create_as_a_race(store: &Arc<dyn Store>) -> Outcome {
    for race in 0..RACES {
        let name = name(&format!("log/{race}/slot"))?;
        let start = Barrier::new(THREADS as usize);
        let bytes_of = |thread: u64| pattern(3000 + thread as usize, race * THREADS + thread + 1);
        let answers = in_threads(|thread| {
            let bytes = bytes_of(thread);
            start.wait();
            Ok(store.put(&name, bytes.into(), PutMode::Create))
        })?;
        let mut winners = Vec::new();
        for (thread, answer) in (0..THREADS).zip(answers) {
            match answer {
                Ok(()) => winners.push(thread),
                Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
                Err(error) => return Err(format!("a create that lost: {error} ({:?})", error.kind())),
            }
        }
        let [winner] = winners[..] else {
            return Err(format!("{} of {THREADS} creates of one name succeeded", winners.len()));
        };
        ensure_bytes(&done(store.get(&name), "get")?, &bytes_of(winner), "the object of the winner")?;
    }
    Ok(())
}

fn replace_is_atomic(store: &Arc<dyn Store>) -> Outcome {
    let name = name("a/replaced")?;
    let bytes_of = |version: u64| pattern(20_000 + version as usize, version + 1);
    done(store.put(&name, bytes_of(0).into(), PutMode::Replace), "put")?;
    in_threads(|thread| {
        if thread < THREADS / 4 {
            return done(store.put(&name, bytes_of(thread).into(), PutMode::Replace), "replace");
        }
        for _ in 0..8 {
            let read = done(store.get(&name), "get during replaces")?;
            let is_whole = (0..THREADS / 4).any(|version| read == bytes_of(version));
            ensure(is_whole, || format!("a reader saw {} bytes that nobody put", read.len()))?;
        }
        Ok(())
    })?;
    Ok(())
}

fn many_threads(store: &Arc<dyn Store>) -> Outcome {
    in_threads(|thread| use_store(store.as_ref(), &format!("data/{thread:02}")))?;
    let count = count_objects(store.as_ref(), "data")?;
    ensure(count == THREADS, || format!("{count} objects are left of {THREADS}"))
}

/// Runs `work` in all threads at once, and answers in their order.
fn in_threads<T: Send>(work: impl Fn(u64) -> Result<T, String> + Sync) -> Result<Vec<T>, String> {
    thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || work(thread))).collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap_or(Err("a thread panicked".to_owned())))
            .collect()
    })
}

/// Makes calls of every kind, and leaves one object.
fn use_store(store: &dyn Store, folder: &str) -> Outcome {
    for round in 0..4 {
        let name = name(&format!("{folder}/{round}"))?;
        let bytes = pattern(5000 + round, round as u64 + 1);
        done(store.put(&name, bytes.clone().into(), PutMode::Create), "put")?;
        ensure_bytes(&done(store.get(&name), "get")?, &bytes, "the object")?;
        ensure_bytes(&done(store.get_range(&name, 7..77), "get_range")?, &bytes[7..77], "the range")?;
        ensure(done(store.stat(&name), "stat")?.bytes == bytes.len() as u64, || "stat is wrong".to_owned())?;
        let count = count_objects(store, folder)?;
        let level = done(store.list_folder(folder), "list_folder")?;
        ensure(count == 1 && level.objects.len() == 1, || format!("{count} objects, and {level:?}"))?;
        if round < 3 {
            done(store.delete(&name), "delete")?;
        }
    }
    Ok(())
}

fn count_objects(store: &dyn Store, folder: &str) -> Result<u64, String> {
    let mut count = 0;
    let answer = store.list(folder, None, &mut |_| {
        count += 1;
        Ok(())
    });
    done(answer, "list").map(|()| count)
}

fn inside_a_current_thread_runtime(store: &Arc<dyn Store>) -> Outcome {
    let runtime = Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        use_store(store.as_ref(), "a")?;
        let inner = Arc::clone(store);
        let task = tokio::spawn(async move { use_store(inner.as_ref(), "b") });
        task.await.map_err(|error| format!("a task: {error}"))?
    })
}

fn inside_a_multi_thread_runtime(store: &Arc<dyn Store>) -> Outcome {
    let runtime = Builder::new_multi_thread().worker_threads(2).build().map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let mut tasks = Vec::new();
        for task in 0..8 {
            let store = Arc::clone(store);
            // The handle to the store is dropped inside the runtime, which must be as harmless as its calls.
            tasks.push(tokio::spawn(async move { use_store(store.as_ref(), &format!("data/{task}")) }));
        }
        for task in tasks {
            task.await.map_err(|error| format!("a task: {error}"))??;
        }
        done(store.put(&name("config")?, Payload::from("x"), PutMode::Create), "put")
    })
}
