//! Cancelling ends every call within a second, leaves the repository valid, and loses no work that was finished.

use std::io::{self, Read};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use dr_core::{
    CancelToken, CheckOptions, Context, ErrorKind, Event, LocalTree, LocalTreeOptions, RestoreOptions,
    StreamInput,
};
use dr_tests::steps::{CancelAfter, Workshop, backup, options};
use dr_tests::{TestRepo, TreeSpec};

const SOON: Duration = Duration::from_secs(1);

fn large_tree() -> TreeSpec {
    TreeSpec::files(&[("one", 45 << 20), ("two", 40 << 20), ("small/three", 3000)])
}

/// Frames are spread over two packs, of which one is closed when they hold 28 MiB together: the first holds about 14.
#[test]
fn heavy_the_packs_of_a_cancelled_backup_are_used_by_the_next() {
    let workshop = Workshop::new();
    large_tree().write(&workshop.source());
    let repo = TestRepo::in_memory();
    let observer = CancelAfter::new(1, |event| matches!(event, Event::PackStored { .. }));
    let tree = LocalTree::open(&[workshop.source()], LocalTreeOptions::default()).unwrap();
    let ctx = Context::new(&observer, &observer.cancel).with_parallelism(2);
    let error = repo.repository.backup(&tree, &options(), &ctx).unwrap_err();
    let took = observer.since().unwrap();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(took < SOON, "{took:?}");
    assert_eq!(repo.snapshots().len(), 0);
    repo.assert_intact();
    let report = backup(&repo.repository, &workshop.source()).unwrap();
    let saved = report.totals.bytes - report.totals.new_bytes.min(report.totals.bytes);
    assert!(saved >= 12 << 20, "only {saved} bytes of {} were found again", report.totals.bytes);
    let latest = repo.latest().unwrap();
    workshop.assert_restores(&repo.repository, &latest, &workshop.source(), &workshop.source());
    repo.assert_intact();
}

#[test]
fn heavy_a_backup_cancelled_at_any_time_ends_soon() {
    let workshop = Workshop::new();
    large_tree().write(&workshop.source());
    for pause_ms in [0, 20, 100, 250] {
        let repo = TestRepo::in_memory();
        let cancel = CancelToken::new();
        let tree = LocalTree::open(&[workshop.source()], LocalTreeOptions::default()).unwrap();
        std::thread::scope(|scope| {
            let asked = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(pause_ms));
                cancel.cancel();
                Instant::now()
            });
            let outcome = repo.repository.backup(&tree, &options(), &Context::new(&(), &cancel));
            let ended = Instant::now();
            let took = ended.saturating_duration_since(asked.join().unwrap());
            assert!(took < SOON, "{took:?}");
            if let Err(error) = outcome {
                assert_eq!(error.kind(), ErrorKind::Cancelled);
            }
        });
        repo.assert_intact();
    }
}

/// Gives some bytes, and then nothing for as long as the channel is open.
struct Blocks {
    bytes: usize,
    forever: Receiver<()>,
}

impl Read for Blocks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.bytes > 0 {
            let count = self.bytes.min(buffer.len());
            buffer[..count].copy_from_slice(&dr_tests::noise(self.bytes as u64, count));
            self.bytes -= count;
            return Ok(count);
        }
        let _ = self.forever.recv();
        Ok(0)
    }
}

#[test]
fn a_backup_that_waits_for_its_stream_can_be_cancelled() {
    for bytes in [0, 100, 3 << 20] {
        let repo = TestRepo::in_memory();
        let cancel = CancelToken::new();
        let (keep_open, forever) = channel();
        let (began, took) = std::thread::scope(|scope| {
            let began = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(150));
                cancel.cancel();
                Instant::now()
            });
            let input = StreamInput::new("stdin", Blocks { bytes, forever });
            let error =
                repo.repository.backup_stream(input, &options(), &Context::new(&(), &cancel)).unwrap_err();
            let ended = Instant::now();
            assert_eq!(error.kind(), ErrorKind::Cancelled);
            let began = began.join().unwrap();
            (began, ended.saturating_duration_since(began))
        });
        assert!(took < SOON, "{took:?} after {began:?}");
        assert_eq!(repo.snapshots().len(), 0);
        repo.assert_intact();
        drop(keep_open);
    }
}

#[test]
fn a_call_that_is_cancelled_before_it_begins_does_nothing() {
    let workshop = Workshop::new();
    TreeSpec::files(&[("a", 100)]).write(&workshop.source());
    let repo = TestRepo::in_memory();
    let cancel = CancelToken::new();
    cancel.cancel();
    let ctx = Context::new(&(), &cancel);
    let tree = LocalTree::open(&[workshop.source()], LocalTreeOptions::default()).unwrap();
    let error = repo.repository.backup(&tree, &options(), &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let input = StreamInput::new("stdin", io::empty());
    assert_eq!(
        repo.repository.backup_stream(input, &options(), &ctx).unwrap_err().kind(),
        ErrorKind::Cancelled
    );
    assert_eq!(repo.snapshots().len(), 0);
    repo.assert_intact();
}

#[test]
fn restores_and_checks_can_be_cancelled() {
    let workshop = Workshop::new();
    TreeSpec::files(&[("large", 12 << 20), ("a", 100), ("b", 200)]).write(&workshop.source());
    let repo = TestRepo::in_memory();
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    let latest = repo.latest().unwrap();
    let progress = |event: &Event| matches!(event, Event::Progress { .. });
    let observer = CancelAfter::new(1, progress);
    let ctx = Context::new(&observer, &observer.cancel);
    let target = workshop.room();
    let error = repo.repository.restore(&latest, &target, &RestoreOptions::new(), &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(observer.since().unwrap() < SOON);
    let observer = CancelAfter::new(1, progress);
    let ctx = Context::new(&observer, &observer.cancel);
    let error = repo.repository.check(&CheckOptions::new().read_data(), &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    assert!(observer.since().unwrap() < SOON);
    // What the cancelled restore left is replaced by the next.
    assert!(repo.restore(&latest, &target).unwrap().is_complete());
    let found = dr_tests::steps::restored(&target, &workshop.source());
    dr_tests::assert_same_tree(&workshop.source(), &found);
}
