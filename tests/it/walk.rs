//! Other threads go ahead of the walk: they list directories, never too many of them, and fetch files of a slow source. What is
//! saved is the same.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dr_core::{
    BackupOptions, BackupReport, CancelToken, Context, CreateOptions, Entry, EntryKind, Event, Extent,
    Fetched, FileContent, Metadata, Observer, Parent, Repository, RepositoryOptions, RestoreOptions, Result,
    SnapshotFilter, Source, SourceDirectory, SourceFile, SourceItem, Stream,
};
use dr_tests::TestRepo;
use proptest::prelude::*;

/// When directories and entries of this weight are listed and wait, nothing more is listed ahead.
const LISTED_MAX: usize = 8192;
/// What a directory weighs beside its entries.
const DIRECTORY: usize = 32;
const THREADS: usize = 4;

/// A tree of directories and pipes, of which nothing need be read.
#[derive(Debug, Clone)]
struct Forest(Arc<Node>, Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    listed: AtomicUsize,
    walked: AtomicUsize,
    most_ahead: AtomicUsize,
}

#[derive(Debug, Clone)]
enum Node {
    Directory(Vec<Node>),
    Pipe,
    /// A directory that cannot be opened.
    Closed,
    /// A directory that is gone when it is opened.
    Gone,
    /// A directory whose listing panics.
    Fatal,
    /// A directory that names its first entry again at the end.
    Unordered(Vec<Node>),
}

impl Source for Forest {
    fn paths(&self) -> Vec<PathBuf> {
        vec!["/".into()]
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(self.clone()))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

impl SourceDirectory for Forest {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let (nodes, is_ordered) = match &*self.0 {
            Node::Directory(nodes) => (nodes, true),
            Node::Unordered(nodes) => (nodes, false),
            _ => panic!("this source panics when it is listed"),
        };
        let item = |(number, node): (usize, &Node)| {
            let name = format!("{number:05}");
            let kind = match node {
                Node::Pipe => EntryKind::Fifo,
                _ => EntryKind::Directory(Stream::default()),
            };
            let entry = Entry::new(name.as_str(), kind, Metadata::default());
            SourceItem { name: name.into_bytes(), entry: Ok(entry) }
        };
        let again = nodes.iter().enumerate().take(usize::from(!is_ordered));
        let items: Vec<SourceItem> = nodes.iter().enumerate().chain(again).map(item).collect();
        let weight = DIRECTORY + nodes.len();
        let listed = self.1.listed.fetch_add(weight, Ordering::SeqCst) + weight;
        let ahead = listed.saturating_sub(self.1.walked.load(Ordering::SeqCst));
        self.1.most_ahead.fetch_max(ahead, Ordering::SeqCst);
        Ok(items)
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        let (Node::Directory(nodes) | Node::Unordered(nodes)) = &*self.0 else { unreachable!() };
        let number: usize = std::str::from_utf8(name).unwrap().parse().unwrap();
        match &nodes[number] {
            Node::Closed => Err(io::ErrorKind::PermissionDenied.into()),
            Node::Gone => Err(io::ErrorKind::NotFound.into()),
            node => Ok(Arc::new(Forest(Arc::new(node.clone()), Arc::clone(&self.1)))),
        }
    }

    fn open_file(&self, _name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

impl Forest {
    fn new(root: Node) -> Forest {
        Forest(Arc::new(root), Arc::default())
    }

    fn back_up(&self, repo: &TestRepo, threads: usize, observer: &dyn Observer) -> Result<BackupReport> {
        let cancel = CancelToken::new();
        let ctx = Context::new(observer, &cancel).with_parallelism(threads);
        let mut options = BackupOptions::new();
        options.parent = Parent::Nothing;
        repo.repository.backup(self, &options, &ctx)
    }
}

/// Holds the walk at its first entry until nothing more may be listed ahead, and counts what it took.
#[derive(Debug)]
struct Slow(Arc<Counts>);

impl Observer for Slow {
    fn event(&self, event: &Event) {
        let Event::EntryDone { path, .. } = event else { return };
        let is_directory = path.len() == b"/00000".len();
        let weight = if is_directory { DIRECTORY } else { 1 };
        if self.0.walked.fetch_add(weight, Ordering::SeqCst) == 0 {
            while self.0.listed.load(Ordering::SeqCst) < LISTED_MAX {
                std::thread::yield_now();
            }
        }
    }
}

#[test]
fn threads_with_nothing_else_to_do_list_ahead_but_not_too_far() {
    let wide = 200;
    let forest = Forest::new(Node::Directory(vec![Node::Directory(vec![Node::Pipe; wide]); wide]));
    let repo = TestRepo::in_memory();
    // The walk is held at the first pipe: what is listed then was not listed by the walk, but for two directories.
    let report = forest.back_up(&repo, THREADS, &Slow(Arc::clone(&forest.1))).unwrap();
    assert_eq!((report.totals.directories, report.totals.others), (200, 40_000));
    // What the walk itself lists is not ahead of it; its own directories are walked when they end.
    let most = forest.1.most_ahead.load(Ordering::SeqCst);
    assert!(most >= LISTED_MAX, "{most}");
    assert!(most <= LISTED_MAX + 3 * (DIRECTORY + wide), "{most}");
}

#[test]
fn a_listing_that_panics_on_another_thread_does_not_hang_the_backup() {
    let mut nodes = vec![Node::Directory(vec![Node::Pipe; 3]); 20];
    nodes.push(Node::Fatal);
    let forest = Forest::new(Node::Directory(nodes));
    let repo = TestRepo::in_memory();
    let outcome =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| forest.back_up(&repo, THREADS, &())));
    assert!(!matches!(outcome, Ok(Ok(_))));
    assert!(Forest::new(Node::Directory(vec![Node::Pipe])).back_up(&repo, THREADS, &()).is_ok());
}

fn nodes() -> impl Strategy<Value = Node> {
    let leaf = prop_oneof![6 => Just(Node::Pipe), 1 => Just(Node::Closed), 1 => Just(Node::Gone)];
    leaf.prop_recursive(5, 200, 12, |inner| {
        let many = proptest::collection::vec(inner, 0..12);
        prop_oneof![5 => many.clone().prop_map(Node::Directory), 1 => many.prop_map(Node::Unordered)]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn what_many_threads_list_is_what_one_thread_saves(nodes in proptest::collection::vec(nodes(), 0..20)) {
        let forest = Forest::new(Node::Directory(nodes));
        let repo = TestRepo::in_memory();
        let saved = [1, THREADS, 16].map(|threads| {
            let report = forest.back_up(&repo, threads, &()).unwrap();
            let root = repo.repository.view(&repo.latest().unwrap()).unwrap().root();
            let mut problems: Vec<_> = report.problems.iter().map(|it| (it.path.clone(), it.kind)).collect();
            problems.sort_unstable_by(|a, b| a.0.cmp(&b.0));
            (root, report.totals.directories, report.totals.others, problems)
        });
        prop_assert_eq!(&saved[0], &saved[1]);
        prop_assert_eq!(&saved[0], &saved[2]);
    }
}

/// Small files, each of which can be read only after some were fetched, where anything waits for that.
#[derive(Debug)]
struct Files {
    fetched: AtomicUsize,
    /// How many are to be fetched before any is read; none of a source that is not slow.
    awaited: usize,
}

const FILES: usize = 200;

#[derive(Debug)]
struct FilesRoot(Arc<Files>);

#[derive(Debug)]
struct OneFile(Arc<Files>, Entry);

fn file(number: usize) -> Entry {
    let content = FileContent::new(4, Stream::default(), None);
    Entry::new(format!("{number:03}"), EntryKind::File(content), Metadata::default())
}

impl Source for FilesRoot {
    fn paths(&self) -> Vec<PathBuf> {
        vec!["/".into()]
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(FilesRoot(Arc::clone(&self.0))))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

impl SourceDirectory for FilesRoot {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        Ok((0..FILES)
            .map(file)
            .map(|entry| SourceItem { name: entry.name.clone(), entry: Ok(entry) })
            .collect())
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, _name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        let number = std::str::from_utf8(name).unwrap().parse().unwrap();
        Ok(Box::new(OneFile(Arc::clone(&self.0), file(number))))
    }

    fn fetch(&self, _name: &[u8]) -> Fetched {
        self.0.fetched.fetch_add(1, Ordering::SeqCst);
        if self.0.awaited > 0 { Fetched::Begun } else { Fetched::Nothing }
    }
}

impl SourceFile for OneFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        // The first files teach the backup that the source is slow.
        let is_late = self.1.name.as_slice() > b"050".as_slice();
        while is_late && self.0.fetched.load(Ordering::SeqCst) < self.0.awaited {
            std::thread::yield_now();
        }
        let rest = self.1.name.iter().chain(b"\n").skip(offset as usize);
        Ok(buffer.iter_mut().zip(rest).map(|(to, from)| *to = *from).count())
    }

    fn entry(&self) -> io::Result<Entry> {
        Ok(self.1.clone())
    }

    fn is_unchanged_since(&self, _entry: &Entry) -> io::Result<bool> {
        Ok(true)
    }

    fn extents(&self, _bytes: u64) -> io::Result<Option<Vec<Extent>>> {
        Ok(None)
    }
}

#[test]
fn files_of_a_slow_source_are_fetched_before_they_are_read_and_those_of_a_fast_one_are_not() {
    for awaited in [60, 0] {
        let files = Arc::new(Files { fetched: AtomicUsize::new(0), awaited });
        let options = RepositoryOptions::new();
        let store = Arc::new(dr_store::sim::SimStore::new());
        let repository = Repository::create(store, &dr_tests::key(), &CreateOptions::new(), options).unwrap();
        let cancel = CancelToken::new();
        let ctx = Context::new(&(), &cancel).with_parallelism(2);
        let report = repository.backup(&FilesRoot(Arc::clone(&files)), &BackupOptions::new(), &ctx).unwrap();
        assert!(report.is_complete());
        assert_eq!((report.totals.files, report.totals.bytes), (FILES as u64, 4 * FILES as u64));
        // Of a fast source, one in eight is asked.
        let fetched = files.fetched.load(Ordering::SeqCst);
        assert!(if awaited > 0 { fetched >= awaited } else { fetched == FILES / 8 }, "{fetched}");
        let target = tempfile::tempdir().unwrap();
        let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
        let report = repository.restore(&snapshot, target.path(), &RestoreOptions::new(), &ctx).unwrap();
        assert!(report.is_complete());
        for number in 0..FILES {
            let read = std::fs::read(target.path().join(format!("{number:03}"))).unwrap();
            assert_eq!(read, format!("{number:03}\n").as_bytes());
        }
    }
}
