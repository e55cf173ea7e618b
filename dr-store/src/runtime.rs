//! The threads that asynchronous drivers run on, and the bridge from a blocking call to them.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::mpsc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::{Result, StoreError, StoreErrorKind};

const WORKER_THREADS: usize = 2;

/// Lives as long as the process: dropping a runtime on a thread of another runtime panics.
static RUNTIME: OnceLock<Runtime> = OnceLock::new();

/// Runs `future` on the crate's own threads and blocks until it is done, or the deadline, if there is one, has passed.
///
/// The caller may be on a thread of any tokio runtime, because the caller's runtime takes no part: the wait is on a
/// plain channel.
///
/// # Errors
/// `Unavailable` at the deadline, `Other` where the threads cannot be started or the future panicked.
pub(crate) fn wait<F>(
    operation: &'static str,
    object: &str,
    deadline: Option<Duration>,
    future: F,
) -> Result<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let failed = || StoreError::new(StoreErrorKind::Other, operation, object);
    let runtime = runtime().map_err(|error| failed().with_source(error))?;
    let (sender, receiver) = mpsc::sync_channel(1);
    runtime.spawn(async move {
        let answer = match deadline {
            Some(deadline) => tokio::time::timeout(deadline, future).await.map_err(|_| deadline),
            None => Ok(future.await),
        };
        // The receiver cannot be gone: this function waits for the answer below.
        let _ = sender.send(answer);
    });
    match receiver.recv() {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(deadline)) => Err(StoreError::new(StoreErrorKind::Unavailable, operation, object)
            .with_source(format!("no whole answer within {} seconds", deadline.as_secs()))),
        Err(_) => Err(failed().with_source("the driver's task ended without an answer")),
    }
}

fn runtime() -> std::io::Result<&'static Runtime> {
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let built = Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .thread_name("dr-store")
        .enable_all()
        .build()?;
    if let Err(late) = RUNTIME.set(built) {
        // Another thread was first. A plain drop would panic on a thread of the caller's runtime.
        late.shutdown_background();
    }
    Ok(RUNTIME.get().expect("it was set just above, by this thread or another"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use super::*;

    #[test]
    fn a_panic_of_the_driver_is_an_error_of_the_call() {
        let error = wait("get", "a", None, async { panic!("on purpose") }).map(|(): ()| ()).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Other);
        assert_eq!(wait("get", "a", None, async { 7 }).unwrap(), 7);
    }
    #[test]
    fn a_call_ends_at_its_deadline() {
        let forever = std::future::pending::<()>();
        let error = wait("get", "a", Some(Duration::from_millis(10)), forever).unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    }
}
