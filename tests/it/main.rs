//! Integration tests: one binary, one module a subject.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

mod backup;
mod bucket;
mod cancel;
mod cli;
mod cold;
mod concurrency;
mod costs;
mod crash;
mod damage;
mod deep;
mod faults;
mod garage;
mod hostile;
mod incremental;
mod kill;
mod limits;
mod long_file;
mod many;
mod metadata;
mod model;
mod processes;
mod prune;
mod put;
mod repair;
mod repair_log;
mod rollback;
mod servers;
mod siblings;
mod simulation;
mod stream;
mod tar;
mod tidy;
mod vectors;
mod young;
