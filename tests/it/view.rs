//! Views of snapshots: entries by path, directories, and files at any offset, also damaged ones and those that move.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use dr_core::{
    Entry, EntryKind, Error, ErrorKind, FileContent, Result, SnapshotFilter, SnapshotView, Stream,
};
use dr_store::sim::{CallKind, SimStore};
use dr_tests::garbage::prune;
use dr_tests::repo::with_context;
use dr_tests::steps::{Dice, backup};
use dr_tests::tree::trees;
use dr_tests::{Node, TestRepo, TreeSpec, noise};
use proptest::prelude::*;
use proptest::test_runner::Config;

fn content(view: &SnapshotView, path: &Path) -> FileContent {
    match view.entry(path.as_os_str().as_encoded_bytes()).unwrap().unwrap().kind {
        EntryKind::File(content) => content,
        other => panic!("{other:?} at {}", path.display()),
    }
}

fn names(view: &SnapshotView, directory: &Stream) -> Vec<Entry> {
    let mut entries = Vec::new();
    let visit = &mut |entry: Result<Entry>| {
        entries.push(entry?);
        Ok(())
    };
    view.entries(directory, visit).unwrap();
    entries
}

fn copied(view: &SnapshotView, file: &FileContent) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let count = with_context(|ctx| view.copy_file(file, &mut bytes, ctx))?;
    assert_eq!(count, bytes.len() as u64);
    Ok(bytes)
}

/// Reads pieces of a file, in order, backwards and anywhere, and compares them with what it holds.
fn assert_reads(view: &SnapshotView, file: &FileContent, expected: &[u8], dice: &mut Dice) {
    assert!(copied(view, file).unwrap() == expected);
    for _ in 0..40 {
        let offset = dice.below(expected.len() as u64 + 3);
        let mut buffer = vec![7; 1 + dice.below(300_000) as usize];
        let count = view.read_at(file, offset, &mut buffer).unwrap();
        let rest = expected.get(offset as usize..).unwrap_or_default();
        assert_eq!(count, rest.len().min(buffer.len()));
        assert!(buffer[..count] == rest[..count], "{count} bytes at {offset} of {}", expected.len());
    }
    let piece = 1 + dice.below(200_000) as usize;
    for (number, part) in expected.chunks(piece).enumerate() {
        let mut buffer = vec![7; piece];
        let count = view.read_at(file, (number * piece) as u64, &mut buffer).unwrap();
        assert!(buffer[..count] == *part, "piece {number} of {piece} bytes");
    }
}

#[test]
fn a_view_outlives_its_repository_and_says_what_is_where() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut tree = TreeSpec::files(&[("a/b/file", 5000), ("a/empty", 0), ("z", 70_000)]);
    tree.put("link", Node::Symlink(b"a".to_vec()));
    tree.0.insert(b"n\xff".to_vec(), Node::Directory(TreeSpec::files(&[("x", 3)])));
    tree.write(&source);
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    drop(repo);
    let view = std::thread::spawn(move || view.clone()).join().unwrap();
    assert!(view.entry(b"/").unwrap().is_none() && view.entry(b"").unwrap().is_none());
    let at = source.as_os_str().as_encoded_bytes();
    let root = view.entry(at).unwrap().unwrap();
    let EntryKind::Directory(stream) = &root.kind else { panic!("{root:?}") };
    let found: Vec<_> = names(&view, stream).into_iter().map(|entry| entry.name).collect();
    assert_eq!(found, [&b"a"[..], b"link", b"n\xff", b"z"]);
    assert_eq!(view.entry(&[at, b"/n\xff/x"].concat()).unwrap().unwrap().name, b"x");
    for missing in [&b"/nothing"[..], &[at, b"/a/b/file/below"].concat(), &[at, b"/link/b"].concat()] {
        assert_eq!(view.entry(missing).unwrap_err().kind(), ErrorKind::NotFound);
    }
    let first = &names(&view, &view.root())[0];
    assert_eq!(first.name, source.components().nth(1).unwrap().as_os_str().as_encoded_bytes());
    let stop = view.entries(stream, &mut |_| Err(Error::new(ErrorKind::Cancelled, "enough")));
    assert_eq!(stop.unwrap_err().kind(), ErrorKind::Cancelled);
}

#[test]
fn files_of_every_length_are_read_at_any_offset() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let lengths = [0, 1, 4095, 128 << 10, (2 << 20) + 1, 9 << 20, 40 << 20];
    for bytes in lengths {
        fs::write(source.join(bytes.to_string()), noise(bytes as u64, bytes)).unwrap();
    }
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let mut dice = Dice::new(3);
    for bytes in lengths {
        let file = content(&view, &source.join(bytes.to_string()));
        assert_reads(&view, &file, &noise(bytes as u64, bytes), &mut dice);
    }
}

#[test]
fn holes_are_zeros() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let path = source.join("sparse");
    let file = fs::File::create(&path).unwrap();
    file.set_len(20 << 20).unwrap();
    // More extents than an entry holds itself.
    for number in 0..600 {
        file.write_all_at(&noise(number, 4096 + number as usize), number * (24 << 10)).unwrap();
    }
    let expected = fs::read(&path).unwrap();
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let found = content(&view, &path);
    assert!(found.sparse.is_some(), "the file system knows no holes");
    assert_reads(&view, &found, &expected, &mut Dice::new(5));
}

#[test]
fn a_stream_with_lists_is_read_at_its_end_first() {
    // Many small chunks of one stream, so that its references do not fit in the entry.
    let bytes = noise(8, 90 << 20);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, &bytes).unwrap();
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[folder.path()]).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let file = content(&view, &path);
    assert!(file.stream.level > 0, "{} chunks", file.stream.chunks.len());
    let mut end = [0; 1000];
    assert_eq!(view.read_at(&file, bytes.len() as u64 - 1000, &mut end).unwrap(), 1000);
    assert!(end[..] == bytes[bytes.len() - 1000..]);
    assert!(copied(&view, &file).unwrap() == bytes);
}

#[test]
fn several_readers_of_one_view_get_what_they_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes = noise(4, 30 << 20);
    fs::write(&path, &bytes).unwrap();
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[folder.path()]).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let file = content(&view, &path);
    std::thread::scope(|scope| {
        for first in 0..4 {
            let (view, file, bytes) = (view.clone(), &file, &bytes);
            // Each reads every fourth piece, as the threads of a kernel do.
            scope.spawn(move || {
                for (number, part) in bytes.chunks(128 << 10).enumerate().skip(first).step_by(4) {
                    let mut buffer = vec![0; part.len()];
                    assert_eq!(
                        view.read_at(file, (number * (128 << 10)) as u64, &mut buffer).unwrap(),
                        part.len()
                    );
                    assert!(buffer == part, "piece {number}");
                }
            });
        }
    });
}

#[test]
fn what_is_damaged_is_an_error_and_the_rest_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes = noise(4, 20 << 20);
    fs::write(&path, &bytes).unwrap();
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    assert!(repo.backup(&[folder.path()]).unwrap().is_complete());
    let snapshot = repo.latest().unwrap();
    let largest = store.objects().into_iter().filter(|(name, _)| name.as_str().starts_with("data/"));
    let (name, length) = largest.max_by_key(|(_, bytes)| bytes.len()).unwrap();
    store.corrupt(&name, length.len() as u64 / 2, 1).unwrap();
    let view = repo.repository.view(&snapshot).unwrap();
    let file = content(&view, &path);
    let (mut good, mut bad) = (0, 0);
    for (number, part) in bytes.chunks(64 << 10).enumerate() {
        let mut buffer = vec![0; part.len()];
        match view.read_at(&file, (number * (64 << 10)) as u64, &mut buffer) {
            Ok(_) => {
                assert!(buffer == part, "piece {number}");
                good += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                bad += 1;
            }
        }
    }
    assert!(bad > 0 && good > bad, "{good} good, {bad} bad");
    assert_eq!(copied(&view, &file).unwrap_err().kind(), ErrorKind::Corrupt);
}

#[test]
fn chunks_that_move_are_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("kept"), noise(1, 3 << 20)).unwrap();
    fs::write(source.join("lost"), noise(2, 9 << 20)).unwrap();
    let repo = TestRepo::in_memory();
    let first = repo.backup(&[&source]).unwrap().snapshot.unwrap();
    fs::remove_file(source.join("lost")).unwrap();
    repo.clock.advance_ms(1000);
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let file = content(&view, &source.join("kept"));
    let gone = repo.repository.find_snapshot(&first.to_string(), &SnapshotFilter::new()).unwrap();
    let gone_view = repo.repository.view(&gone).unwrap();
    let lost = content(&gone_view, &source.join("lost"));
    repo.repository.forget(&[first]).unwrap();
    for _ in 0..2 {
        prune(&repo.repository).unwrap();
        repo.clock.advance_ms(1000);
    }
    let mut buffer = vec![0; 3 << 20];
    assert_eq!(view.read_at(&file, 0, &mut buffer).unwrap(), buffer.len());
    assert!(buffer == noise(1, 3 << 20));
    assert_eq!(copied(&gone_view, &lost).unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A writer that takes so many bytes and no more.
struct Full(usize);

impl Write for Full {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = bytes.len().min(self.0);
        self.0 -= count;
        if count == 0 { Err(std::io::ErrorKind::StorageFull.into()) } else { Ok(count) }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_copy_that_cannot_be_written_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    fs::write(&path, noise(4, 5 << 20)).unwrap();
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[folder.path()]).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let file = content(&view, &path);
    let error = with_context(|ctx| view.copy_file(&file, &mut Full(2 << 20), ctx)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Destination);
    let cause = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(cause.kind(), std::io::ErrorKind::StorageFull);
    let cancelled = with_context(|ctx| {
        ctx.cancel.cancel();
        view.copy_file(&file, &mut Vec::new(), ctx)
    });
    assert_eq!(cancelled.unwrap_err().kind(), ErrorKind::Cancelled);
}

/// Everything below a directory of a view: path, and content where it is a file.
fn everything(
    view: &SnapshotView,
    directory: &Stream,
    path: &[u8],
    found: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>,
) {
    for entry in names(view, directory) {
        let below = [path, b"/", &entry.name].concat();
        match &entry.kind {
            EntryKind::Directory(stream) => {
                found.insert(below.clone(), None);
                everything(view, stream, &below, found);
            }
            EntryKind::File(file) => {
                found.insert(below, Some(copied(view, file).unwrap()));
            }
            _ => {
                found.insert(below, None);
            }
        }
    }
}

fn expected(tree: &TreeSpec, path: &[u8], all: &mut BTreeMap<Vec<u8>, Option<Vec<u8>>>) {
    for (name, node) in &tree.0 {
        let below = [path, b"/", name].concat();
        let bytes = match node {
            Node::File { seed, bytes } => Some(noise(*seed, *bytes)),
            _ => None,
        };
        if let Node::Directory(tree) = node {
            expected(tree, &below, all);
        }
        all.insert(below, bytes);
    }
}

proptest! {
    #![proptest_config(Config { cases: 24, ..Config::default() })]

    #[test]
    fn a_view_shows_any_tree(tree in trees()) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        tree.write(&source);
        let repo = TestRepo::in_memory();
        assert!(repo.backup(&[&source]).unwrap().is_complete());
        let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
        let root = view.entry(source.as_os_str().as_encoded_bytes()).unwrap().unwrap();
        let EntryKind::Directory(stream) = root.kind else { panic!("the source is a directory") };
        let (mut found, mut all) = (BTreeMap::new(), BTreeMap::new());
        everything(&view, &stream, b"", &mut found);
        expected(&tree, b"", &mut all);
        prop_assert!(found == all);
    }
}

/// How often the store was asked for parts of data packs.
fn fetches(store: &SimStore) -> usize {
    let is_fetch =
        |call: &&dr_store::sim::Call| call.kind == CallKind::GetRange && call.object.starts_with("data/");
    let count = store.calls().iter().filter(is_fetch).count();
    store.clear_calls();
    count
}

#[test]
fn who_reads_on_asks_the_store_seldom_and_who_jumps_asks_for_little() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    let bytes = noise(4, 60 << 20);
    fs::write(&path, &bytes).unwrap();
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    // With one thread, what follows in the file follows in a pack.
    assert!(backup(&repo.repository, folder.path()).unwrap().is_complete());
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let file = content(&view, &path);
    store.clear_calls();
    let mut buffer = vec![0; 128 << 10];
    for number in 0..bytes.len() / buffer.len() {
        assert_eq!(view.read_at(&file, (number * buffer.len()) as u64, &mut buffer).unwrap(), buffer.len());
    }
    let sequential = fetches(&store);
    // Windows of up to 8 MiB, each in a pack or two; frames of less than 1 MiB one by one would be sixty and more.
    assert!(sequential <= 40, "{sequential} fetches of 60 MiB");
    // Once more, from what is kept: the same piece costs nothing.
    for _ in 0..3 {
        view.read_at(&file, (bytes.len() - buffer.len()) as u64, &mut buffer).unwrap();
    }
    assert_eq!(fetches(&store), 0);
    let mut dice = Dice::new(1);
    let mut small = [0; 4096];
    for _ in 0..20 {
        let offset = dice.below(bytes.len() as u64 - 4096);
        view.read_at(&file, offset, &mut small).unwrap();
        assert!(small[..] == bytes[offset as usize..offset as usize + 4096]);
    }
    let random = fetches(&store);
    assert!(random <= 40, "{random} fetches for 20 places");
}
