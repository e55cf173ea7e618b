//! Streams as snapshots: whatever way the bytes arrive, and only where all of them did.

use std::io::{self, Read};
use std::sync::Arc;

use dr_core::{BackupReport, Error, ErrorKind, Result, StreamInput, Timestamp};
use dr_store::sim::SimStore;
use dr_tests::steps::{Dice, Workshop, alone, backup, options, restore};
use dr_tests::{TestRepo, noise};

/// Gives its bytes in reads of at most so many.
struct Crumbs {
    bytes: Vec<u8>,
    at: usize,
    sizes: Dice,
    most: u64,
}

impl Read for Crumbs {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = &self.bytes[self.at..];
        if self.sizes.below(5) == 0 && self.most > 1 {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let count = left.len().min(buffer.len()).min(1 + self.sizes.below(self.most) as usize);
        buffer[..count].copy_from_slice(&left[..count]);
        self.at += count;
        Ok(count)
    }
}

fn crumbs(bytes: &[u8], most: u64) -> Crumbs {
    Crumbs { bytes: bytes.to_vec(), at: 0, sizes: Dice::new(most), most }
}

fn store(repo: &TestRepo, input: StreamInput) -> Result<BackupReport> {
    let mut options = options();
    // The time is part of the snapshot's tree.
    options.time = Some(Timestamp::default());
    alone(&(), |ctx| repo.repository.backup_stream(input, &options, ctx))
}

fn new_repo() -> (SimStore, TestRepo) {
    let store = SimStore::new();
    (store.clone(), TestRepo::create(Arc::new(store)).unwrap())
}

#[test]
fn a_stream_comes_back_and_is_cut_as_a_file_is_however_it_arrives() {
    const BOUNDARIES: [usize; 6] = [1, 128 << 10, 512 << 10, 1 << 20, 2 << 20, 4 << 20];
    let workshop = Workshop::new();
    let (sim, repo) = new_repo();
    let around = |at: usize| [at - 1, at, at + 1];
    for bytes in BOUNDARIES.into_iter().flat_map(around).chain([0, 10_000, 9_000_000]) {
        let content = noise(bytes as u64, bytes);
        std::fs::create_dir_all(workshop.source()).unwrap();
        std::fs::write(workshop.source().join("file"), &content).unwrap();
        assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
        sim.clear_calls();
        let report = store(&repo, StreamInput::new("dump/db.sql", io::Cursor::new(content.clone()))).unwrap();
        assert_eq!(report.totals.bytes, bytes as u64);
        let data_puts = sim
            .calls()
            .iter()
            .filter(|call| call.object.starts_with("data/") && call.kind.is_mutating())
            .count();
        assert_eq!(data_puts, 0, "{bytes} bytes were cut otherwise than the file");
        for most in [1, 3000, 1 << 20] {
            if most == 1 && bytes > 10_000 {
                continue;
            }
            let report = store(&repo, StreamInput::new("dump/db.sql", crumbs(&content, most))).unwrap();
            assert_eq!(
                (report.totals.new_chunks, report.totals.bytes),
                (0, bytes as u64),
                "reads of up to {most}"
            );
        }
        let target = workshop.room();
        let snapshot = repo.latest().unwrap();
        assert!(restore(&repo.repository, &snapshot, &target).unwrap().is_complete());
        assert!(
            std::fs::read(target.join("dump/db.sql")).unwrap() == content,
            "{bytes} bytes came back otherwise"
        );
    }
    repo.assert_intact();
}

#[test]
fn a_stream_that_fails_leaves_no_snapshot() {
    struct Fails(usize);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.min(buffer.len());
            self.0 -= count;
            if count == 0 { Err(io::Error::other("the pipe broke")) } else { Ok(count) }
        }
    }
    let (_, repo) = new_repo();
    for bytes in [0, 10, 1 << 20, 5_000_000] {
        let error = store(&repo, StreamInput::new("s", Fails(bytes))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source, "{error:?}");
    }
    assert_eq!(repo.snapshots().len(), 0);
    repo.assert_intact();
}

#[test]
fn a_stream_that_is_not_confirmed_leaves_no_snapshot() {
    let (_, repo) = new_repo();
    let refuse = || Err(Error::new(ErrorKind::Source, "the command failed"));
    for bytes in [0, 3_000_000] {
        let input = StreamInput::new("s", io::Cursor::new(noise(1, bytes))).confirmed_by(refuse);
        assert_eq!(store(&repo, input).unwrap_err().kind(), ErrorKind::Source);
    }
    assert_eq!(repo.snapshots().len(), 0);
    repo.assert_intact();
}

/// A reader that panics never reached the end of its bytes.
#[test]
fn a_reader_that_panics_leaves_no_snapshot() {
    struct Panics(bool);
    impl Read for Panics {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            assert!(!std::mem::replace(&mut self.0, true), "a panic that this test makes");
            Ok(buffer.len().min(1000))
        }
    }
    let (_, repo) = new_repo();
    let outcome = store(&repo, StreamInput::new("s", Panics(false)));
    assert!(outcome.is_err() && repo.snapshots().is_empty(), "a cut stream passes for whole: {outcome:?}");
}

#[test]
fn names_that_are_no_names_are_refused() {
    let (_, repo) = new_repo();
    let long = "n".repeat(256);
    for name in ["", "/", "..", ".", "a/../b", "a/.", "a\0b", long.as_str()] {
        let error = store(&repo, StreamInput::new(name, io::empty())).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    assert_eq!(repo.snapshots().len(), 0);
}
