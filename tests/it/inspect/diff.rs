//! Comparisons of snapshots with one another and with the disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use dr_core::{
    DiffKind, DiffOptions, DiffReport, Difference, EntryKind, Error, ErrorKind, LocalDiffOptions, Parent,
    Result, Snapshot,
};
use dr_store::sim::SimStore;
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::repo::with_context;
use dr_tests::tree::trees;
use dr_tests::{TestRepo, TreeSpec, noise};
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{bytes, listed};

type Differences = BTreeSet<(Vec<u8>, String)>;

/// Notes what a comparison tells; what cannot be read is noted as such.
fn noting(noted: &mut Differences) -> impl FnMut(&[u8], Result<Difference<'_>>) -> Result<()> + '_ {
    |path, difference| {
        let kind = difference.map_or("unread".to_owned(), |difference| format!("{:?}", difference.kind));
        let is_unread = kind == "unread";
        // Either side may be unreadable.
        assert!(noted.insert((path.to_vec(), kind)) || is_unread, "told twice");
        Ok(())
    }
}

fn diff(repo: &TestRepo, old: &Snapshot, new: &Snapshot, options: &DiffOptions) -> (Differences, DiffReport) {
    let mut noted = Differences::new();
    let report =
        with_context(|ctx| repo.repository.diff(old, new, options, &mut noting(&mut noted), ctx)).unwrap();
    (noted, report)
}

fn local(repo: &TestRepo, path: &Path, options: &LocalDiffOptions) -> (Differences, DiffReport) {
    let mut noted = Differences::new();
    let snapshot = repo.latest().unwrap();
    let report = with_context(|ctx| {
        repo.repository.diff_local(&snapshot, path, options, &mut noting(&mut noted), ctx)
    });
    (noted, report.unwrap())
}

fn everything(path: &Path) -> DiffOptions {
    let mut options = DiffOptions::new();
    (options.old_path, options.new_path) = (bytes(path).to_vec(), bytes(path).to_vec());
    options.metadata = true;
    options
}

/// What is different, by looking at everything.
fn expected(repo: &TestRepo, old: &Snapshot, new: &Snapshot, path: &Path) -> Differences {
    let (old, new) = (listed(repo, old, path), listed(repo, new, path));
    let paths: BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    let mut differences = Differences::new();
    for path in paths.into_iter().filter(|one| one.as_slice() != bytes(path)) {
        let kind = match (old.get(path), new.get(path)) {
            (None, _) => DiffKind::Added,
            (_, None) => DiffKind::Removed,
            (Some(old), Some(new)) => {
                let is_same = match (&old.kind, &new.kind) {
                    (EntryKind::Directory(_), EntryKind::Directory(_)) => true,
                    (old, new) => old == new,
                };
                let (before, after) = (&old.metadata, &new.metadata);
                if std::mem::discriminant(&old.kind) != std::mem::discriminant(&new.kind) {
                    DiffKind::Type
                } else if !is_same {
                    DiffKind::Modified
                } else if (before.mode, before.modified) != (after.mode, after.modified) {
                    DiffKind::Metadata
                } else {
                    continue;
                }
            }
        };
        differences.insert((path.clone(), format!("{kind:?}")));
    }
    differences
}

#[test]
fn content_that_changed_though_nothing_says_so_is_told_apart() {
    let repo = TestRepo::in_memory();
    let file = |seed, bytes, changed| MemoryFile {
        bytes: noise(seed, bytes),
        changed: Some(changed),
        ..MemoryFile::default()
    };
    let mut files: BTreeMap<String, MemoryFile> = BTreeMap::new();
    for (name, seed, bytes, changed) in
        [("rotten", 1, 5000, 7), ("written", 2, 5000, 7), ("same", 3, 50, 7), ("touched", 4, 50, 7)]
    {
        files.insert(name.to_owned(), file(seed, bytes, changed));
    }
    let mut options = dr_core::BackupOptions::new().host("test");
    options.parent = Parent::Nothing;
    let backup = |files: &BTreeMap<String, MemoryFile>| {
        let source =
            MemorySource { files: files.clone(), paths: vec!["/data".into()], ..MemorySource::default() };
        repo.clock.advance_ms(1000);
        let report =
            with_context(|ctx| repo.repository.backup(&SharedSource(Arc::new(source)), &options, ctx));
        assert!(report.unwrap().is_complete());
        repo.latest().unwrap()
    };
    let old = backup(&files);
    files.insert("rotten".to_owned(), file(11, 5000, 7));
    files.insert("written".to_owned(), file(12, 5000, 8));
    files.insert("touched".to_owned(), file(4, 50, 8));
    let new = backup(&files);
    let all = |kinds: &[(&str, &str)]| -> Differences {
        kinds.iter().map(|(path, kind)| (path.as_bytes().to_vec(), (*kind).to_owned())).collect()
    };
    let (found, report) = diff(&repo, &old, &new, &DiffOptions::new());
    assert_eq!(found, all(&[("/rotten", "Silent"), ("/written", "Modified")]));
    assert_eq!((report.modified, report.silent, report.metadata), (2, 1, 1));
    let mut options = DiffOptions::new();
    options.metadata = true;
    let (found, _) = diff(&repo, &old, &new, &options);
    assert_eq!(found, all(&[("/rotten", "Silent"), ("/touched", "Metadata"), ("/written", "Modified")]));
}

#[test]
fn equal_trees_are_not_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut tree = TreeSpec::default();
    for directory in 0..50 {
        tree.put(&format!("d{directory}/file"), dr_tests::Node::File { seed: 1, bytes: 10 });
    }
    tree.write(&source);
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let old = repo.latest().unwrap();
    fs::write(source.join("d9/file"), "other").unwrap();
    repo.clock.advance_ms(1000);
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let new = repo.latest().unwrap();
    let (found, report) = diff(&repo, &old, &new, &DiffOptions::new());
    assert_eq!(found, BTreeSet::from([(bytes(&source.join("d9/file")).to_vec(), "Modified".to_owned())]));
    assert!(report.equal_directories >= 49 && !report.is_equal());
    let (nothing, report) = diff(&repo, &new, &new, &DiffOptions::new());
    assert!(nothing.is_empty() && report.is_equal() && report.equal_directories == 1);
    let file = everything(&source.join("d9/file"));
    let refused = with_context(|ctx| repo.repository.diff(&old, &new, &file, &mut |_, _| Ok(()), ctx));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
    let enough = |_: &[u8], _: Result<Difference<'_>>| Err(Error::new(ErrorKind::Cancelled, "enough"));
    let stopped =
        with_context(|ctx| repo.repository.diff(&old, &new, &DiffOptions::new(), &mut { enough }, ctx));
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
    // What cannot be read is said, and nothing is claimed of what is in it.
    let second = |name: &str| name.starts_with("tree/");
    for (name, _) in store.objects().into_iter().filter(|(name, _)| second(name.as_str())) {
        store.corrupt(&name, 200, 1).unwrap();
    }
    let (found, report) = diff(&repo, &old, &new, &DiffOptions::new());
    assert!(report.unread > 0 && found.iter().all(|(_, kind)| kind == "unread"), "{found:?}");
}

#[test]
fn the_disk_is_compared_by_metadata_or_by_every_byte() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    TreeSpec::files(&[("a/large", 5 << 20), ("a/small", 100), ("gone", 5), ("kind", 5)]).write(&source);
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(4 << 20).unwrap();
    sparse.write_all_at(&noise(1, 70_000), 1 << 20).unwrap();
    drop(sparse);
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let mut trusting = LocalDiffOptions::new();
    trusting.path = bytes(&source).to_vec();
    let mut reading = trusting.clone();
    reading.read_data = true;
    for options in [&trusting, &reading] {
        let (found, report) = local(&repo, &source, options);
        assert!(found.is_empty() && report.is_equal(), "{found:?}");
        assert_eq!(report.bytes_read > 5 << 20, options.read_data);
    }
    // A byte of data and one of a hole, behind everybody's back.
    for (name, offset) in [("a/large", 3 << 20), ("sparse", 3 << 20)] {
        let path = source.join(name);
        let modified = fs::metadata(&path).unwrap().modified().unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.write_all_at(b"x", offset).unwrap();
        file.set_modified(modified).unwrap();
    }
    fs::remove_file(source.join("gone")).unwrap();
    fs::remove_file(source.join("kind")).unwrap();
    fs::create_dir(source.join("kind")).unwrap();
    fs::write(source.join("kind/new"), "x").unwrap();
    let all = |more: &[(&str, &str)]| -> Differences {
        let always = [("gone", "Removed"), ("kind", "Type"), ("kind/new", "Added")];
        let named = always.iter().chain(more);
        named.map(|(name, kind)| (bytes(&source.join(name)).to_vec(), (*kind).to_owned())).collect()
    };
    assert_eq!(local(&repo, &source, &trusting).0, all(&[]));
    let (found, report) = local(&repo, &source, &reading);
    assert_eq!(found, all(&[("a/large", "Silent"), ("sparse", "Silent")]));
    assert_eq!((report.silent, report.modified), (2, 2));
    reading.content_only = true;
    assert_eq!(local(&repo, &source, &reading).0.len(), 2);
    // Another place on the disk, named by where it is.
    let copy = folder.path().join("copy");
    let copied = std::process::Command::new("cp").arg("-a").arg(source.join("a")).arg(&copy).status();
    assert!(copied.unwrap().success());
    trusting.path = bytes(&source.join("a")).to_vec();
    assert!(local(&repo, &copy, &trusting).1.is_equal());
    let missing = with_context(|ctx| {
        let snapshot = repo.latest().unwrap();
        repo.repository.diff_local(&snapshot, &folder.path().join("none"), &trusting, &mut |_, _| Ok(()), ctx)
    });
    assert_eq!(missing.unwrap_err().kind(), ErrorKind::Source);
}

proptest! {
    #![proptest_config(Config { cases: 16, ..Config::default() })]

    #[test]
    fn comparisons_tell_what_a_look_at_everything_tells(first in trees(), second in trees()) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let repo = TestRepo::in_memory();
        let mut snapshots = Vec::new();
        for tree in [&first, &second] {
            tree.write(&source);
            repo.clock.advance_ms(1000);
            assert!(repo.backup(&[&source]).unwrap().is_complete());
            snapshots.push(repo.latest().unwrap());
        }
        let options = everything(&source);
        for (old, new) in [(0, 1), (1, 0), (0, 0)] {
            let (found, report) = diff(&repo, &snapshots[old], &snapshots[new], &options);
            let wanted = expected(&repo, &snapshots[old], &snapshots[new], &source);
            prop_assert_eq!(&found, &wanted);
            prop_assert_eq!(report.is_equal(), wanted.is_empty());
            let counted = |kind: &str| wanted.iter().filter(|(_, found)| found == kind).count() as u64;
            let added = report.added.files + report.added.directories + report.added.others;
            prop_assert_eq!(added, counted("Added"));
            prop_assert_eq!((report.modified, report.types), (counted("Modified"), counted("Type")));
        }
        // What is on the disk now is the second tree.
        let mut options = LocalDiffOptions::new();
        options.path = bytes(&source).to_vec();
        options.read_data = true;
        options.metadata = true;
        let (found, report) = local(&repo, &source, &options);
        prop_assert!(found.is_empty() && report.is_equal(), "{:?}", found);
    }
}
