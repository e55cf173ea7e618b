//! What is read again and what is not, and what is stored again and what is not.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dr_core::{
    BackupOptions, BackupReport, Context, ErrorKind, Event, LocalTree, LocalTreeOptions, Observer, Parent,
    ProblemKind, RecordingObserver,
};
use dr_store::sim::SimStore;
use dr_tests::steps::{CancelAfter, Workshop, backup_as, options};
use dr_tests::{Node, TestRepo, TreeSpec};

/// A repository in a store that records calls, and a source with a snapshot of it.
struct Fixture {
    workshop: Workshop,
    store: SimStore,
    repo: TestRepo,
}

fn tree() -> TreeSpec {
    TreeSpec::files(&[("a/one", 5000), ("a/two", 200_000), ("b", 400), ("empty", 0)])
}

impl Fixture {
    fn new() -> Fixture {
        let fixture = Fixture::empty();
        tree().write(&fixture.workshop.source());
        assert_eq!(fixture.backup().totals.files_read, 4);
        fixture
    }

    fn empty() -> Fixture {
        let (workshop, store) = (Workshop::new(), SimStore::new());
        let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
        Fixture { workshop, store, repo }
    }

    fn backup(&self) -> BackupReport {
        self.backup_with(|_| {})
    }

    /// A backup after which the newest snapshot is all of the source, whatever was read for it.
    fn backup_with(&self, change: impl FnOnce(&mut BackupOptions)) -> BackupReport {
        let report = self.unchecked_backup(change);
        let source = self.workshop.source();
        self.workshop.assert_restores(&self.repo.repository, &self.repo.latest().unwrap(), &source, &source);
        report
    }

    fn unchecked_backup(&self, change: impl FnOnce(&mut BackupOptions)) -> BackupReport {
        let mut options = options();
        change(&mut options);
        self.repo.clock.advance_ms(60_000);
        self.store.clear_calls();
        let report = backup_as(&self.repo.repository, &self.workshop.source(), &options, &()).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        report
    }

    /// The objects that were put into a folder since the last backup began.
    fn puts(&self, folder: &str) -> usize {
        let calls = self.store.calls();
        calls.iter().filter(|call| call.kind.is_mutating() && call.object.starts_with(folder)).count()
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.workshop.source().join(name)
    }
}

/// Writes other bytes of the same length and puts the modification time back.
fn alter_secretly(path: &Path, seed: u64) {
    let modified = fs::metadata(path).unwrap().modified().unwrap();
    let bytes = fs::metadata(path).unwrap().len() as usize;
    let before = fs::metadata(path).unwrap();
    // Until the file system's clock has moved on.
    while (fs::metadata(path).unwrap().ctime(), fs::metadata(path).unwrap().ctime_nsec())
        == (before.ctime(), before.ctime_nsec())
    {
        fs::write(path, dr_tests::noise(seed, bytes)).unwrap();
        File::options().write(true).open(path).unwrap().set_modified(modified).unwrap();
    }
    assert_eq!(fs::metadata(path).unwrap().modified().unwrap(), modified);
}

#[test]
fn what_did_not_change_is_neither_read_nor_stored() {
    let fixture = Fixture::new();
    let report = fixture.backup();
    assert_eq!((report.totals.files_read, report.totals.bytes_read, report.totals.files), (0, 0, 4));
    assert_eq!(fixture.puts("data/"), 0);
    assert!(fixture.puts("") <= 2, "{:?}", fixture.store.calls());
}

#[test]
fn a_change_that_shows_only_in_the_change_time_is_read() {
    let fixture = Fixture::new();
    alter_secretly(&fixture.path("a/one"), 900);
    assert_eq!(fixture.backup().totals.files_read, 1);
}

#[test]
fn ignoring_the_change_time_trusts_the_modification_time() {
    let fixture = Fixture::new();
    alter_secretly(&fixture.path("a/one"), 900);
    // What the option gives up: this change stays unseen.
    let report = fixture.unchecked_backup(|options| options.ignore_ctime = true);
    assert_eq!(report.totals.files_read, 0);
    fs::write(fixture.path("a/one"), dr_tests::noise(901, 5000)).unwrap();
    assert_eq!(fixture.backup_with(|options| options.ignore_ctime = true).totals.files_read, 1);
}

#[test]
fn another_inode_is_read_unless_inodes_and_change_times_are_ignored() {
    let fixture = Fixture::new();
    let replace = || {
        let (old, new) = (fixture.path("b"), fixture.path("b.new"));
        assert!(std::process::Command::new("cp").arg("-p").arg(&old).arg(&new).status().unwrap().success());
        fs::rename(new, old).unwrap();
    };
    replace();
    let report = fixture.backup_with(|options| (options.ignore_ctime, options.ignore_inode) = (true, true));
    assert_eq!(report.totals.files_read, 0);
    replace();
    assert_eq!(fixture.backup_with(|options| options.ignore_ctime = true).totals.files_read, 1);
    replace();
    assert_eq!(fixture.backup_with(|options| options.ignore_inode = true).totals.files_read, 1);
    replace();
    let report = fixture.backup();
    assert_eq!((report.totals.files_read, fixture.puts("data/")), (1, 0));
}

/// A file may change in the same instant in which it was read without its change time showing it.
#[test]
fn a_file_that_is_as_young_as_the_backup_is_read_again_next_time() {
    let fixture = Fixture::empty();
    tree().write(&fixture.workshop.source());
    let newest = ["a/one", "a/two", "b", "empty"].map(|name| {
        let metadata = fs::metadata(fixture.path(name)).unwrap();
        metadata.ctime() * 1000 + metadata.ctime_nsec() / 1_000_000
    });
    let back_ms = 2_208_988_800_000 - newest.iter().max().unwrap();
    fixture.repo.clock.advance_ms(-back_ms + 5 - 60_000);
    assert_eq!(fixture.backup().totals.files_read, 4);
    let second = fixture.backup().totals.files_read;
    assert!((1..=4).contains(&second), "{second}");
    assert_eq!(fixture.backup().totals.files_read, 0);
}

#[test]
fn without_a_parent_everything_is_read_and_nothing_is_stored_twice() {
    let fixture = Fixture::new();
    let report = fixture.backup_with(|options| options.parent = Parent::Nothing);
    assert_eq!((report.totals.files_read, report.parent), (4, None));
    assert_eq!(fixture.puts("data/"), 0);
}

#[test]
fn a_parent_that_is_named_is_the_one_compared_with() {
    let fixture = Fixture::new();
    let first = fixture.repo.latest().unwrap().id;
    alter_secretly(&fixture.path("b"), 902);
    assert_eq!(fixture.backup().parent, Some(first));
    let report =
        fixture.backup_with(|options| options.parent = Parent::Snapshot(first.to_string()[..12].to_owned()));
    assert_eq!((report.parent, report.totals.files_read), (Some(first), 1));
    assert_eq!(fixture.puts("data/"), 0);
    let mut options = options();
    options.parent = Parent::Snapshot("00000000".to_owned());
    let error = backup_as(&fixture.repo.repository, &fixture.workshop.source(), &options, &()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[test]
fn another_host_or_other_paths_are_no_parent() {
    let fixture = Fixture::new();
    let report = fixture.backup_with(|options| options.host = "other".to_owned());
    assert_eq!((report.parent, report.totals.files_read), (None, 4));
    let part = backup_as(&fixture.repo.repository, &fixture.path("a"), &options(), &()).unwrap();
    assert_eq!((part.parent, part.totals.files_read), (None, 2));
    let again = fixture.backup();
    assert_eq!(again.totals.files_read, 0);
}

#[test]
fn kinds_change_and_things_go_away() {
    let fixture = Fixture::new();
    let mut tree = tree();
    tree.0.remove(b"b".as_slice());
    tree.put("b/inside", Node::File { seed: 3, bytes: 10 });
    tree.0.insert(b"a".to_vec(), Node::File { seed: 4, bytes: 10 });
    tree.0.insert(b"empty".to_vec(), Node::Symlink(b"a".to_vec()));
    tree.write(&fixture.workshop.source());
    assert_eq!(fixture.backup().totals.files_read, 2);
    tree.0.clear();
    tree.write(&fixture.workshop.source());
    let report = fixture.backup();
    assert_eq!((report.totals.files, report.totals.directories > 0), (0, true));
}

#[test]
fn a_directory_of_another_name_is_read_but_not_stored() {
    let fixture = Fixture::new();
    fs::rename(fixture.path("a"), fixture.path("renamed")).unwrap();
    let report = fixture.backup();
    assert_eq!((report.totals.files_read, fixture.puts("data/")), (2, 0));
}

/// Chunks are as many as the change needs, not as the file is long.
#[test]
fn a_byte_inserted_into_a_large_file_stores_a_few_chunks() {
    let fixture = Fixture::empty();
    let large = dr_tests::noise(1, 16 << 20);
    fs::create_dir(fixture.workshop.source()).unwrap();
    fs::write(fixture.path("large"), &large).unwrap();
    assert!(fixture.backup().totals.new_bytes >= 16 << 20);
    fs::write(fixture.path("large"), [&large[..5 << 20], b"x", &large[5 << 20..]].concat()).unwrap();
    let report = fixture.backup();
    assert!(report.totals.new_bytes < 5 << 20, "{:?}", report.totals);
}

#[test]
fn partial_snapshots_are_never_the_latest() {
    let fixture = Fixture::new();
    let whole = fixture.repo.latest().unwrap().id;
    let observer = CancelAfter::new(3, |event| matches!(event, Event::Committed { partial: true, .. }));
    let mut options = options();
    (options.partial_every, options.parent) = (Some(Duration::ZERO), Parent::Nothing);
    let tree = LocalTree::open(&[fixture.workshop.source()], LocalTreeOptions::default()).unwrap();
    let ctx = Context::new(&observer, &observer.cancel).with_parallelism(1);
    let error = fixture.repo.repository.backup(&tree, &options, &ctx).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let partial = fixture.repo.snapshots().iter().filter(|snapshot| snapshot.partial).count();
    assert!(partial >= 3, "{partial}");
    assert_eq!(fixture.repo.latest().unwrap().id, whole);
    fixture.repo.assert_intact();
}

#[test]
fn the_run_after_a_cancelled_one_goes_on_from_its_partial_snapshot() {
    let fixture = Fixture::empty();
    let mut tree = TreeSpec::default();
    for number in 0..60 {
        tree.put(&format!("f{number:02}"), Node::File { seed: number, bytes: 1000 });
    }
    tree.write(&fixture.workshop.source());
    // Entries are the directories on the way, then the files: the fortieth partial snapshot has some thirty of them.
    let observer = CancelAfter::new(40, |event| matches!(event, Event::Committed { partial: true, .. }));
    let mut options = options();
    options.partial_every = Some(Duration::ZERO);
    let tree = LocalTree::open(&[fixture.workshop.source()], LocalTreeOptions::default()).unwrap();
    let ctx = Context::new(&observer, &observer.cancel).with_parallelism(1);
    fixture.repo.repository.backup(&tree, &options, &ctx).unwrap_err();
    let newest = fixture.repo.snapshots().pop().unwrap();
    let report = fixture.backup();
    assert_eq!(report.parent, Some(newest.id));
    assert!(report.totals.files_read <= 40, "{:?}", report.totals);
    let recorded = RecordingObserver::new();
    let last = backup_as(&fixture.repo.repository, &fixture.workshop.source(), &options, &recorded).unwrap();
    assert_eq!((last.parent, last.totals.files_read), (report.snapshot, 0));
}

type Meddle = fn(&Path);

/// Alters the source when the engine first tells of progress within it.
#[derive(Debug)]
struct Meddler {
    source: std::path::PathBuf,
    meddle: Meddle,
    is_done: AtomicBool,
}

impl Observer for Meddler {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Progress { .. }) && !self.is_done.swap(true, Ordering::SeqCst) {
            (self.meddle)(&self.source);
        }
    }
}

#[test]
fn heavy_what_changes_while_it_is_read_is_named_and_read_again() {
    let meddlings: [(Meddle, &str, ProblemKind); 4] = [
        (
            |source| {
                File::options().write(true).open(source.join("large")).unwrap().set_len(1 << 20).unwrap()
            },
            "large",
            ProblemKind::Changed,
        ),
        (
            |source| {
                let file = File::options().write(true).open(source.join("large")).unwrap();
                file.write_all_at(b"more", 40 << 20).unwrap();
            },
            "large",
            ProblemKind::Changed,
        ),
        (|source| fs::write(source.join("large"), b"").unwrap(), "large", ProblemKind::Changed),
        (|source| fs::remove_file(source.join("zz")).unwrap(), "zz", ProblemKind::Vanished),
    ];
    for (number, (meddle, name, kind)) in meddlings.into_iter().enumerate() {
        let fixture = Fixture::empty();
        TreeSpec::files(&[("large", 40 << 20), ("zz", 300)]).write(&fixture.workshop.source());
        let source = fixture.workshop.source();
        let meddler = Meddler { source: source.clone(), meddle, is_done: AtomicBool::new(false) };
        let report = backup_as(&fixture.repo.repository, &source, &options(), &meddler).unwrap();
        let problems: Vec<_> =
            report.problems.iter().map(|problem| (problem.path.clone(), problem.kind)).collect();
        let path = fixture.path(name).into_os_string().into_encoded_bytes();
        assert_eq!(problems, [(path, kind)], "meddling {number}");
        let latest = fixture.repo.latest().unwrap();
        assert_eq!((latest.problems, latest.partial), (1, false), "meddling {number}");
        let target = fixture.workshop.room();
        let restored = dr_tests::steps::restore(&fixture.repo.repository, &latest, &target).unwrap();
        assert!(restored.is_complete(), "meddling {number}: {:?}", restored.problems);
        fixture.repo.assert_intact();
        let again = fixture.backup();
        assert_eq!(again.totals.files_read, u64::from(name == "large"), "meddling {number}");
    }
}
