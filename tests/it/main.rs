//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod backup;
mod cancel;
mod concurrency;
mod crash;
mod damage;
mod faults;
mod hostile;
mod incremental;
mod kill;
mod limits;
mod metadata;
mod processes;
mod rollback;
mod simulation;
mod stream;
mod tidy;
mod vectors;
