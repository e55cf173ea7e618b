//! What a mount is made of: entries by name, runs of entries by place, and the folders that snapshots stand in.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use dr_core::{Entry, EntryKind, Result, SnapshotItem, SnapshotPlace, SnapshotTree, SnapshotView, Stream};
use dr_store::sim::SimStore;
use dr_store::{Name, ObjectMeta, Store};
use dr_tests::steps::{Workshop, backup, options};
use dr_tests::{Node, TestRepo, TreeSpec};

/// The directory at an absolute path.
fn directory(view: &SnapshotView, path: &[u8]) -> Stream {
    let mut stream = view.root();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        match view.child(&stream, name).unwrap().unwrap().kind {
            EntryKind::Directory(below) => stream = below,
            other => panic!("{other:?}"),
        }
    }
    stream
}

/// All that the runs of a directory hold, and how many could not be read.
fn by_runs(view: &SnapshotView, directory: &Stream) -> (Vec<Entry>, usize) {
    let (mut entries, mut unread, mut place) = (Vec::new(), 0, 0);
    while let Some(run) = view.entries_at(directory, place).unwrap() {
        match run.entries {
            Ok(run) => entries.extend(run.iter().cloned()),
            Err(_) => unread += 1,
        }
        assert!(run.next > place);
        place = run.next;
    }
    (entries, unread)
}

fn by_visit(view: &SnapshotView, directory: &Stream) -> Vec<Entry> {
    let mut entries = Vec::new();
    let visit = &mut |entry: Result<Entry>| {
        entries.push(entry?);
        Ok(())
    };
    view.entries(directory, visit).unwrap();
    entries
}

/// A directory of many entries with long names, so that it has many runs.
fn many(count: usize) -> TreeSpec {
    let mut tree = TreeSpec::default();
    for number in 0..count {
        tree.put(&format!("many/{number:06}{}", "x".repeat(200)), Node::Symlink(vec![b'y'; 400]));
    }
    tree
}

#[test]
fn entries_are_found_by_name_and_by_place_in_directories_of_any_size() {
    let workshop = Workshop::new();
    let repo = TestRepo::in_memory();
    for count in [0, 1, 2, 500, 5000] {
        let mut tree = many(count);
        tree.put("many/..last", Node::Fifo);
        tree.write(&workshop.source());
        assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
        let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
        let stream = directory(&view, workshop.source().join("many").as_os_str().as_encoded_bytes());
        let expected = by_visit(&view, &stream);
        assert_eq!(expected.len(), count + 1);
        assert_eq!(by_runs(&view, &stream), (expected.clone(), 0));
        for entry in expected.iter().step_by(37) {
            assert_eq!(view.child(&stream, &entry.name).unwrap().as_ref(), Some(entry));
            let behind = [entry.name.as_slice(), b"!"].concat();
            let before = &entry.name[..entry.name.len() - 1];
            assert_eq!(view.child(&stream, &behind).unwrap(), None);
            assert_eq!(view.child(&stream, before).unwrap(), None);
        }
        for name in [b"".as_slice(), b"\xff", b".", b"..", b"/"] {
            assert_eq!(view.child(&stream, name).unwrap(), None);
        }
        assert!(view.entries_at(&stream, stream.bytes).unwrap().is_none());
        assert!(view.entries_at(&stream, u64::MAX).unwrap().is_none());
    }
}

#[test]
fn what_is_lost_of_a_directory_takes_nothing_else_with_it() {
    let workshop = Workshop::new();
    let sim = SimStore::new();
    let store: Arc<dyn Store> = Arc::new(sim.clone());
    let repo = TestRepo::create(store.clone()).unwrap();
    many(2000).write(&workshop.source());
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    let before: BTreeSet<Name> = tree_packs(&*store);
    // One entry more: the run that it is in is new, all others stay where they are.
    fs::write(workshop.source().join("many/001000"), "").unwrap();
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    let snapshot = repo.latest().unwrap();
    let path = workshop.source().join("many");
    let whole = repo.repository.view(&snapshot).unwrap();
    let stream = directory(&whole, path.as_os_str().as_encoded_bytes());
    let expected = by_visit(&whole, &stream);
    for name in &before {
        store.delete(name).unwrap();
    }
    let view = repo.repository.view(&snapshot).unwrap();
    let (entries, unread) = by_runs(&view, &stream);
    assert!(unread > 0 && !entries.is_empty() && entries.len() < expected.len());
    let readable: BTreeSet<&[u8]> = entries.iter().map(|entry| entry.name.as_slice()).collect();
    for entry in expected.iter().step_by(11) {
        let found = view.child(&stream, &entry.name);
        if readable.contains(entry.name.as_slice()) {
            assert_eq!(found.unwrap().as_ref(), Some(entry));
        } else {
            assert!(found.is_err(), "what cannot be read may be there");
        }
    }
}

fn tree_packs(store: &dyn Store) -> BTreeSet<Name> {
    let mut names = BTreeSet::new();
    let visit = &mut |meta: ObjectMeta| {
        names.insert(meta.name);
        Ok(())
    };
    store.list("tree", None, visit).unwrap();
    names
}

#[test]
fn snapshots_of_a_repository_stand_in_folders_and_share_a_view() {
    let workshop = Workshop::new();
    let repo = TestRepo::in_memory();
    for (number, host) in ["a", "b/c"].into_iter().enumerate() {
        TreeSpec::files(&[("file", 100 + number)]).write(&workshop.source());
        let options = options().host(host);
        assert!(repo.backup_with(&[&workshop.source()], &options).unwrap().is_complete());
    }
    let snapshots = repo.snapshots();
    let tree = SnapshotTree::new(snapshots.clone());
    let view = repo.repository.view(&snapshots[0]).unwrap();
    let path = [b"hosts/b%2fc/latest".as_slice(), workshop.source().as_os_str().as_encoded_bytes()].concat();
    let Some(SnapshotPlace::Inside(found, rest)) = tree.resolve(&path) else { panic!("no such place") };
    assert_eq!(found.id, snapshots[1].id);
    assert_eq!(rest, workshop.source().as_os_str().as_encoded_bytes());
    let mut stream = view.root_of(found);
    for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        let EntryKind::Directory(below) = view.child(&stream, name).unwrap().unwrap().kind else { panic!() };
        stream = below;
    }
    let EntryKind::File(content) = view.child(&stream, b"file").unwrap().unwrap().kind else { panic!() };
    let mut bytes = vec![0; 200];
    let count = view.read_at(&content, 0, &mut bytes).unwrap();
    assert_eq!(bytes[..count], fs::read(workshop.source().join("file")).unwrap());
    let Some(SnapshotPlace::Folder(ids)) = tree.resolve(b"ids") else { panic!("no ids") };
    let count = ids.items.values().filter(|item| matches!(item, SnapshotItem::Snapshot(_))).count();
    assert_eq!(count, 2);
}
