//! Shows snapshots to other programs: WebDAV, read-only. Source: RFC 4918.

mod access;
mod answer;
mod body;
mod href;
mod propfind;
mod range;
mod resource;
mod time;

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;

pub(crate) use access::Access;
use answer::{Server, answer};

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::shelf::Shelf;

/// What files are said to be: nobody knows, and no browser is to show them.
const CONTENT_TYPE: &str = "application/octet-stream";
/// So many connections are open at a time; others wait.
const CONNECTIONS_MAX: usize = 128;
/// So many threads read from the store at most.
const READERS_MAX: usize = 16;
/// How long somebody may take to say what is wanted.
const HEADER_TIME_MAX: Duration = Duration::from_secs(30);
/// How often is looked whether a signal came, and how long is waited after an error that may pass.
const STEP: Duration = Duration::from_millis(100);
/// How long answers may still take after a signal.
const FAREWELL: Duration = Duration::from_millis(500);

/// Answers requests at an address until a signal comes. Calls `ready` with the address that it got.
pub(crate) fn run(
    shelf: Shelf,
    listen: SocketAddr,
    access: Access,
    session: &Session,
    ready: impl FnOnce(SocketAddr) -> Result<()>,
) -> Result<()> {
    let failed = |error: io::Error| CliError::source("the server cannot be started").with_cause(&error);
    let runtime = runtime().map_err(failed)?;
    let graceful = session.signals.graceful();
    let listener = runtime.block_on(TcpListener::bind(listen)).map_err(|error| {
        CliError::source(format!("nothing can listen at {listen}"))
            .with_cause(&error)
            .with_remedy("name another address or port with --listen; port 0 is any that is free")
    })?;
    let server = Arc::new(Server { shelf: Arc::new(shelf), access });
    let announced = ready(listener.local_addr().map_err(failed)?);
    runtime.spawn(accept(listener, server));
    while !session.signals.cancel().is_cancelled() {
        std::thread::sleep(STEP);
    }
    runtime.shutdown_timeout(FAREWELL);
    drop(graceful);
    announced
}

fn runtime() -> io::Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(READERS_MAX)
        .thread_name("serve")
        .enable_io()
        .enable_time()
        .build()
}

async fn accept(listener: TcpListener, server: Arc<Server>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = room.clone().acquire_owned().await else { return };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // Some other connection has to end first, mostly.
            Err(_) => {
                tokio::time::sleep(STEP).await;
                continue;
            }
        };
        let server = server.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(server.clone(), request);
                async move { answer.await as std::result::Result<_, Infallible> }
            });
            // That somebody went away is nobody's failure.
            let _ = http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_TIME_MAX)
                .serve_connection(TokioIo::new(stream), service)
                .await;
            drop(permit);
        });
    }
}
