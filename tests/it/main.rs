//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod backup;
mod cancel;
mod cli;
mod concurrency;
mod costs;
mod crash;
mod damage;
mod deep;
mod faults;
mod hostile;
mod incremental;
mod kill;
mod limits;
mod metadata;
mod model;
mod rollback;
mod servers;
mod stream;
mod tidy;
mod vectors;
mod young;
