//! Named streams: what is appended goes on where the stream ended, as if it had been put whole; what has not changed is left
//! out, or said to be the same.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use dr_core::{
    CancelToken, Context, Error, ErrorKind, PutContent, PutOptions, PutOutcome, PutReport, Result,
    RewriteOptions, Snapshot, SnapshotFilter, StreamInput, TagChange, Timestamp, WhenUnchanged,
};
use dr_store::sim::SimStore;
use dr_tests::steps::{Workshop, alone, options, restore};
use dr_tests::{TestRepo, noise};
use proptest::prelude::*;

const NAME: &str = "db/dump.sql";

fn put_options(mode: PutContent, unchanged: WhenUnchanged) -> PutOptions {
    PutOptions::new(options()).mode(mode).unchanged(unchanged)
}

fn put_with(repo: &TestRepo, bytes: &[u8], options: &PutOptions) -> Result<PutReport> {
    let input = StreamInput::new(NAME, io::Cursor::new(bytes.to_vec()));
    alone(&(), |ctx| repo.repository.put(input, options, ctx))
}

fn put(repo: &TestRepo, bytes: &[u8], mode: PutContent, unchanged: WhenUnchanged) -> Result<PutReport> {
    put_with(repo, bytes, &put_options(mode, unchanged))
}

fn append(repo: &TestRepo, bytes: &[u8]) -> PutReport {
    put(repo, bytes, PutContent::Append, WhenUnchanged::Save).unwrap()
}

/// Puts what a test begins with.
fn begin(repo: &TestRepo, bytes: &[u8]) {
    assert_eq!(append(repo, bytes).outcome, PutOutcome::Saved);
}

fn begin_whole(repo: &TestRepo, bytes: &[u8]) {
    let report = put(repo, bytes, PutContent::Whole, WhenUnchanged::Save).unwrap();
    assert_eq!(report.outcome, PutOutcome::Saved);
}

fn content(repo: &TestRepo, workshop: &Workshop, snapshot: &Snapshot) -> Vec<u8> {
    let target = workshop.room();
    assert!(restore(&repo.repository, snapshot, &target).unwrap().is_complete());
    std::fs::read(target.join(NAME)).unwrap()
}

fn sim_repo() -> (SimStore, TestRepo) {
    let store = SimStore::new();
    (store.clone(), TestRepo::create(Arc::new(store)).unwrap())
}

#[test]
fn what_is_appended_goes_on_where_the_stream_ended() {
    let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
    let mut whole = Vec::new();
    for (number, bytes) in [0, 10, 1000, 200_000, 1, 3_000_000, 0, 700_000].into_iter().enumerate() {
        let part = noise(number as u64, bytes);
        whole.extend_from_slice(&part);
        let report = append(&repo, &part);
        assert_eq!(report.outcome, PutOutcome::Saved);
        assert_eq!(report.previous.is_some(), number > 0);
        assert_eq!(
            (report.backup.totals.bytes, report.backup.totals.bytes_read),
            (whole.len() as u64, bytes as u64)
        );
        let snapshot = repo.latest().unwrap();
        assert_eq!(
            (snapshot.id, snapshot.paths.as_slice()),
            (report.backup.snapshot.unwrap(), &[Path::new("/db/dump.sql").to_path_buf()][..])
        );
        assert!(content(&repo, &workshop, &snapshot) == whole, "part {number}");
    }
    assert_eq!(repo.snapshots().len(), 8);
    repo.assert_intact();
    // It is cut as if it had come at once.
    let report = put(&repo, &whole, PutContent::Whole, WhenUnchanged::Skip).unwrap();
    assert_eq!((report.outcome, report.backup.totals.new_chunks), (PutOutcome::Unchanged, 0));
}

#[test]
fn appending_reads_no_more_than_the_last_chunk() {
    let (sim, repo) = sim_repo();
    begin(&repo, &noise(1, 40_000_000));
    sim.clear_calls();
    let report = append(&repo, b"a little more");
    assert!(report.backup.totals.new_bytes < 6_000_000, "{:?}", report.backup.totals);
    let reads = sim
        .calls()
        .iter()
        .filter(|call| call.object.starts_with("data/") && !call.kind.is_mutating())
        .count();
    assert!(reads <= 4, "{reads} reads of packs");
}

#[test]
fn what_has_not_changed_is_left_out() {
    let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
    let bytes = noise(1, 2_000_000);
    // Without a snapshot there is nothing that it could be the same as.
    assert_eq!(
        put(&repo, &bytes, PutContent::Whole, WhenUnchanged::Skip).unwrap().outcome,
        PutOutcome::Saved
    );
    let report = put(&repo, &bytes, PutContent::Whole, WhenUnchanged::Skip).unwrap();
    assert_eq!((report.outcome, report.backup.snapshot), (PutOutcome::Unchanged, None));
    assert_eq!(report.previous, Some(repo.latest().unwrap().id));
    assert_eq!(
        put(&repo, b"", PutContent::Append, WhenUnchanged::Skip).unwrap().outcome,
        PutOutcome::Unchanged
    );
    assert_eq!(repo.snapshots().len(), 1);
    for other in [&bytes[1..], &bytes[..bytes.len() - 1], b""] {
        let report = put(&repo, other, PutContent::Whole, WhenUnchanged::Skip).unwrap();
        assert_eq!(report.outcome, PutOutcome::Saved);
        assert!(content(&repo, &workshop, &repo.latest().unwrap()) == other);
    }
    // Of another host, or under another name, it is another stream.
    let mut elsewhere = put_options(PutContent::Whole, WhenUnchanged::Skip);
    elsewhere.backup.host = "other".to_owned();
    assert_eq!(put_with(&repo, b"", &elsewhere).unwrap().outcome, PutOutcome::Saved);
    let input = StreamInput::new("db/other.sql", io::empty());
    let report = alone(&(), |ctx| {
        repo.repository.put(input, &put_options(PutContent::Whole, WhenUnchanged::Skip), ctx)
    });
    assert_eq!(report.unwrap().outcome, PutOutcome::Saved);
    repo.assert_intact();
}

#[test]
fn a_heartbeat_says_when_the_content_was_last_the_same_and_takes_the_place_of_the_one_before() {
    let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
    let bytes = noise(1, 300_000);
    let beat = |seconds| {
        let mut options = put_options(PutContent::Whole, WhenUnchanged::Heartbeat);
        options.backup.time = Some(Timestamp { seconds, nanoseconds: 0 });
        put_with(&repo, &bytes, &options).unwrap()
    };
    let first = beat(1000);
    assert_eq!(first.outcome, PutOutcome::Saved);
    for round in 1..4 {
        let report = beat(1000 + round);
        assert_eq!(report.outcome, PutOutcome::Heartbeat);
        assert_eq!(report.backup.totals.new_bytes, 0);
        let snapshots = repo.snapshots();
        assert_eq!(snapshots.len(), 2, "the content, and the newest heartbeat");
        assert_eq!(snapshots[0].id, first.backup.snapshot.unwrap());
        assert_eq!(snapshots[1].tags, ["heartbeat"]);
        assert_eq!(snapshots[1].time.seconds, 1000 + round);
        assert!(content(&repo, &workshop, &snapshots[1]) == bytes);
    }
    // What is protected stays, and what is new is no heartbeat.
    repo.repository.protect(&[repo.latest().unwrap().id]).unwrap();
    assert_eq!(beat(2000).outcome, PutOutcome::Heartbeat);
    assert_eq!(repo.snapshots().len(), 3);
    assert_eq!(append(&repo, b"more").outcome, PutOutcome::Saved);
    assert_eq!(repo.latest().unwrap().tags, Vec::<String>::new());
    // A heartbeat alone holds the whole content.
    let all: Vec<_> = repo.snapshots();
    repo.repository.forget(&[all[0].id]).unwrap();
    assert!(content(&repo, &workshop, &all[2]) == bytes);
    repo.assert_intact();
}

#[test]
fn of_two_that_append_at_once_one_is_refused() {
    let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
    begin(&repo, b"begin ");
    let other = repo.clone();
    // In the middle of the one, the other begins and ends.
    let input = StreamInput::new(NAME, io::Cursor::new(b"lost")).confirmed_by(move || {
        begin(&other, b"kept");
        Ok(())
    });
    let options = put_options(PutContent::Append, WhenUnchanged::Save);
    let error = alone(&(), |ctx| repo.repository.put(input, &options, ctx)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{error:?}");
    assert!(error.remedy().is_some());
    assert_eq!(content(&repo, &workshop, &repo.latest().unwrap()), b"begin kept");
    assert_eq!(repo.snapshots().len(), 2);
    repo.assert_intact();
}

#[test]
fn an_append_goes_on_from_the_newest_and_not_from_a_rewritten_older_one() {
    let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
    begin(&repo, b"one ");
    let first = repo.latest().unwrap();
    let _ = append(&repo, b"two ");
    let mut tagged = RewriteOptions::new();
    tagged.tags = vec![TagChange::Add(vec!["old".to_owned()])];
    alone(&(), |ctx| repo.repository.rewrite(&[first], &tagged, ctx)).unwrap();
    let report = append(&repo, b"three");
    let snapshot = repo.repository.snapshots(&SnapshotFilter::new()).unwrap();
    let made = snapshot.iter().find(|snapshot| Some(snapshot.id) == report.backup.snapshot).unwrap();
    assert_eq!(content(&repo, &workshop, made), b"one two three");
    repo.assert_intact();
}

#[test]
fn what_was_forgotten_or_replaced_meanwhile_is_saved() {
    for unchanged in [WhenUnchanged::Skip, WhenUnchanged::Heartbeat] {
        for replaced in [false, true] {
            let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
            begin(&repo, b"content");
            let (other, first) = (repo.clone(), repo.latest().unwrap().id);
            let input = StreamInput::new(NAME, io::Cursor::new(b"content")).confirmed_by(move || {
                if replaced {
                    begin_whole(&other, b"another");
                    Ok(())
                } else {
                    other.repository.forget(&[first])
                }
            });
            let options = put_options(PutContent::Whole, unchanged);
            let report = alone(&(), |ctx| repo.repository.put(input, &options, ctx)).unwrap();
            assert_eq!(report.outcome, PutOutcome::Saved, "{unchanged:?} {replaced}");
            let latest = repo.latest().unwrap();
            assert_eq!((Some(latest.id), latest.tags.len()), (report.backup.snapshot, 0));
            assert_eq!(content(&repo, &workshop, &latest), b"content");
            repo.assert_intact();
        }
    }
}

#[test]
fn nothing_is_appended_to_what_is_no_stream() {
    let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
    std::fs::create_dir(workshop.source()).unwrap();
    assert!(dr_tests::steps::backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    let name = workshop.source().to_str().unwrap().to_owned();
    let put = |mode| {
        let input = StreamInput::new(name.as_str(), io::Cursor::new(b"x"));
        alone(&(), |ctx| repo.repository.put(input, &put_options(mode, WhenUnchanged::Skip), ctx))
    };
    assert_eq!(put(PutContent::Append).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(put(PutContent::Whole).unwrap().outcome, PutOutcome::Saved);
    for name in ["", "..", "a/../b"] {
        let input = StreamInput::new(name, io::empty());
        let error = alone(&(), |ctx| repo.repository.put(input, &PutOptions::default(), ctx)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name:?}");
    }
}

#[test]
fn a_put_that_fails_or_is_not_confirmed_leaves_what_was_there() {
    struct Fails;
    impl Read for Fails {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("the pipe broke"))
        }
    }
    let repo = TestRepo::in_memory();
    begin(&repo, b"begin");
    for mode in [PutContent::Whole, PutContent::Append] {
        for unchanged in [WhenUnchanged::Save, WhenUnchanged::Skip, WhenUnchanged::Heartbeat] {
            let call =
                |input| alone(&(), |ctx| repo.repository.put(input, &put_options(mode, unchanged), ctx));
            let error = call(StreamInput::new(NAME, io::Cursor::new(b"x").chain(Fails))).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source);
            let refuse = || Err(Error::new(ErrorKind::Source, "the command failed"));
            let error = call(StreamInput::new(NAME, io::empty()).confirmed_by(refuse)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Source);
        }
    }
    assert_eq!(repo.snapshots().len(), 1);
    repo.assert_intact();
}

/// Cancels the call that reads it, and then says nothing.
struct Silent(CancelToken, io::PipeReader);

impl Read for Silent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.cancel();
        self.1.read(buffer)
    }
}

#[test]
fn a_cancelled_put_does_not_wait_for_a_stream_that_says_nothing() {
    let repo = TestRepo::in_memory();
    let (reader, writer) = io::pipe().unwrap();
    let cancel = CancelToken::new();
    let input = StreamInput::new(NAME, Silent(cancel.clone(), reader));
    let options = put_options(PutContent::Append, WhenUnchanged::Save);
    let error = repo.repository.put(input, &options, &Context::new(&(), &cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    drop(writer);
    assert!(repo.snapshots().is_empty());
}

#[test]
fn a_dry_run_stores_nothing() {
    let repo = TestRepo::in_memory();
    begin(&repo, b"begin");
    for unchanged in [WhenUnchanged::Save, WhenUnchanged::Skip, WhenUnchanged::Heartbeat] {
        let mut options = put_options(PutContent::Append, unchanged);
        options.backup.dry_run = true;
        assert_eq!(put_with(&repo, b"", &options).unwrap().backup.snapshot, None);
    }
    assert_eq!(repo.snapshots().len(), 1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// However a stream is split up into puts, its chunks are those of the whole.
    #[test]
    fn appending_is_the_same_as_putting_the_whole(lengths in prop::collection::vec(0usize..900_000, 1..5)) {
        let repo = TestRepo::in_memory();
        let mut whole = Vec::new();
        for (number, bytes) in lengths.iter().enumerate() {
            let part = noise(number as u64, *bytes);
            whole.extend_from_slice(&part);
            begin(&repo, &part);
        }
        let report = put(&repo, &whole, PutContent::Whole, WhenUnchanged::Skip).unwrap();
        prop_assert_eq!(report.outcome, PutOutcome::Unchanged);
        repo.assert_intact();
    }
}
