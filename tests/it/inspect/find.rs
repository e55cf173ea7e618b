//! Searches in many snapshots.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use dr_core::{
    Case, DiffOptions, Entry, EntryKind, EntryType, Error, ErrorKind, FindQuery, FindReport, ObjectHash,
    Result, SnapshotId,
};
use dr_store::sim::SimStore;
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::repo::with_context;
use dr_tests::steps::options;
use dr_tests::tree::trees;
use dr_tests::{Node, TestRepo, TreeSpec};
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::{bytes, listed};

/// What a search found, by snapshot, and how often it could not read something.
type Found = BTreeMap<SnapshotId, Vec<Vec<u8>>>;

fn find(repo: &TestRepo, query: &FindQuery) -> (Found, FindReport) {
    let mut found = Found::new();
    let mut unread = 0;
    let visit = &mut |snapshot: &dr_core::Snapshot, path: &[u8], entry: Result<&Entry>| {
        match entry {
            Ok(_) => found.entry(snapshot.id).or_default().push(path.to_vec()),
            Err(_) => unread += 1,
        }
        Ok(())
    };
    let report = with_context(|ctx| repo.repository.find(&repo.snapshots(), query, visit, ctx)).unwrap();
    assert_eq!(report.unread, unread);
    assert_eq!(report.found, found.values().map(|paths| paths.len() as u64).sum::<u64>());
    (found, report)
}

fn named(pattern: &str) -> FindQuery {
    let mut query = FindQuery::new();
    query.names.add(pattern.as_bytes(), Case::Sensitive).unwrap();
    query
}

/// The same by looking at everything.
fn expected(repo: &TestRepo, is_wanted: impl Fn(&[u8], &Entry) -> bool) -> Found {
    let mut found = Found::new();
    for snapshot in repo.snapshots() {
        let entries = listed(repo, &snapshot, Path::new(""));
        let mut paths = Vec::new();
        // In the order of a walk, which is not that of whole paths.
        repo.repository
            .list(&snapshot, b"", &mut |path, entry| {
                if is_wanted(path, entry?) {
                    paths.push(path.to_vec());
                }
                Ok(())
            })
            .unwrap();
        assert!(paths.iter().all(|path| entries.contains_key(path)));
        if !paths.is_empty() {
            found.insert(snapshot.id, paths);
        }
    }
    found
}

#[test]
fn names_types_sizes_and_times_all_count() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut tree =
        TreeSpec::files(&[("a/note.txt", 10), ("a/NOTE.txt", 5000), ("b/note.txt/inner", 3), ("c", 70_000)]);
    tree.put("link", Node::Symlink(b"a".to_vec()));
    tree.write(&source);
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let below = |found: Found| -> Vec<String> {
        let path = |path: &Vec<u8>| {
            let path = path.strip_prefix(bytes(&source)).unwrap_or(path);
            String::from_utf8_lossy(path).into_owned()
        };
        found.values().flatten().map(path).collect()
    };
    assert_eq!(below(find(&repo, &named("note.txt")).0), ["/a/note.txt", "/b/note.txt"]);
    let mut query = FindQuery::new();
    query.names.add(b"note.txt", Case::Insensitive).unwrap();
    query.types = vec![EntryType::File];
    assert_eq!(below(find(&repo, &query).0), ["/a/NOTE.txt", "/a/note.txt"]);
    assert_eq!(
        below(find(&repo, &named("source/*/note.txt/")).0).len(),
        0,
        "a slash inside is the whole path"
    );
    assert_eq!(below(find(&repo, &named("**/source/*/note.txt/")).0), ["/b/note.txt"]);
    let mut query = FindQuery::new();
    query.below = bytes(&source).to_vec();
    (query.bytes_min, query.bytes_max) = (Some(11), Some(69_999));
    assert_eq!(below(find(&repo, &query).0), ["/a/NOTE.txt"]);
    query = FindQuery::new();
    query.types = vec![EntryType::Symlink];
    query.below = bytes(&source).to_vec();
    assert_eq!(below(find(&repo, &query).0), ["/link"]);
    let modified = listed(&repo, &repo.latest().unwrap(), &source.join("c")).into_values().next().unwrap();
    for (newer, older, count) in [(0, 1, 1), (1, 2, 0), (-1, 0, 0)] {
        let at = |seconds: i64| {
            let mut time = modified.metadata.modified;
            time.seconds += seconds;
            time
        };
        let mut query = named("c");
        (query.newer, query.older) = (Some(at(newer)), Some(at(older)));
        assert_eq!(find(&repo, &query).1.found, count, "{newer} {older}");
    }
    query = FindQuery::new();
    query.below = b"/nothing/here".to_vec();
    let nowhere = with_context(|ctx| {
        repo.repository.find(&repo.snapshots(), &query, &mut |_, _, _| panic!("there is nothing"), ctx)
    });
    assert_eq!(nowhere.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_snapshots_share_is_looked_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut tree = TreeSpec::default();
    for directory in 0..100 {
        for file in 0..5 {
            tree.put(&format!("d{directory}/f{file}"), Node::File { seed: 1, bytes: 10 });
        }
    }
    tree.put("d7/needle", Node::File { seed: 2, bytes: 9 });
    tree.write(&source);
    let repo = TestRepo::in_memory();
    for round in 0..20 {
        fs::write(source.join("d50/changing"), format!("{round}")).unwrap();
        repo.clock.advance_ms(1000);
        assert!(repo.backup(&[&source]).unwrap().is_complete());
    }
    let (found, report) = find(&repo, &named("needle"));
    assert_eq!(found.len(), 20);
    assert!(found.values().all(|paths| *paths == [bytes(&source.join("d7/needle")).to_vec()]));
    let depth = source.components().count() as u64;
    assert!(report.directories_read <= 101 + depth + 19 * (depth + 2), "{report:?}");
    assert!(report.directories_known >= 19 * 99, "{report:?}");
    assert_eq!(find(&repo, &named("*")).0, expected(&repo, |_, _| true));
}

#[test]
fn chunks_and_packs_lead_to_paths() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    TreeSpec::files(&[("a/one", 5 << 20), ("two", 100), ("large", 90 << 20)]).write(&source);
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let entries = listed(&repo, &repo.latest().unwrap(), &source);
    let at = |path: &str| bytes(&source.join(path)).to_vec();
    let chunks = |path: &str| match &entries[&at(path)].kind {
        EntryKind::File(content) => content.stream.clone(),
        EntryKind::Directory(stream) => stream.clone(),
        other => panic!("{other:?}"),
    };
    assert!(chunks("large").level > 0);
    // The second is a list, above the chunks of a file.
    for path in ["a/one", "large", "a"] {
        let mut query = FindQuery::new();
        query.chunks = vec![chunks(path).chunks[0].id];
        let found: Vec<_> = find(&repo, &query).0.into_values().flatten().collect();
        assert_eq!(found, [at(path)], "{path}");
    }
    let mut all = std::collections::BTreeSet::new();
    for (name, _) in store.objects().into_iter().filter(|(name, _)| name.as_str().starts_with("data/")) {
        let mut query = FindQuery::new();
        query.packs = vec![ObjectHash::from_hex(name.as_str().rsplit('/').next().unwrap()).unwrap()];
        let found = find(&repo, &query).0;
        assert!(found.values().flatten().count() > 0, "{name}");
        all.extend(found.into_values().flatten());
    }
    assert_eq!(all.into_iter().collect::<Vec<_>>(), [at("a/one"), at("large"), at("two")]);
    let mut query = FindQuery::new();
    query.packs = vec![ObjectHash::from_bytes([9; 32])];
    let unknown =
        with_context(|ctx| repo.repository.find(&repo.snapshots(), &query, &mut |_, _, _| Ok(()), ctx));
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn what_cannot_be_read_is_said_for_every_snapshot_that_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    TreeSpec::files(&[("first", 10)]).write(&source);
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let before: Vec<_> = store.objects().into_iter().map(|(name, _)| name).collect();
    fs::create_dir(source.join("later")).unwrap();
    fs::write(source.join("later/needle"), "x").unwrap();
    for _ in 0..2 {
        repo.clock.advance_ms(1000);
        assert!(repo.backup(&[&source]).unwrap().is_complete());
    }
    let second = |name: &str| name.starts_with("tree/") && !before.iter().any(|known| known.as_str() == name);
    for (name, _) in store.objects().into_iter().filter(|(name, _)| second(name.as_str())) {
        store.remove(&name).unwrap();
    }
    let (found, report) = find(&repo, &named("first"));
    assert!(found.len() == 1 && report.unread == 2, "{found:?} {report:?}");
    let stopped = with_context(|ctx| {
        let enough = || Error::new(ErrorKind::Cancelled, "enough");
        repo.repository.find(&repo.snapshots(), &named("first"), &mut |_, _, _| Err(enough()), ctx)
    });
    assert_eq!(stopped.unwrap_err().kind(), ErrorKind::Cancelled);
}

/// Backs up one directory of a hundred thousand empty files, of which one is named after the round.
fn backup_many(repo: &TestRepo, round: u64) {
    let mut files: BTreeMap<String, MemoryFile> =
        (0..100_000).map(|number| (format!("{number:06}"), MemoryFile::default())).collect();
    files.insert(format!("needle{round}"), MemoryFile::default());
    let source = MemorySource { files, paths: vec!["/data".into()], ..MemorySource::default() };
    let report = with_context(|ctx| repo.repository.backup(&SharedSource(Arc::new(source)), &options(), ctx));
    assert!(report.unwrap().is_complete());
}

#[test]
fn heavy_a_hundred_thousand_entries_are_searched_compared_and_archived() {
    let repo = TestRepo::in_memory();
    for round in 0..3 {
        repo.clock.advance_ms(1000);
        backup_many(&repo, round);
    }
    let (found, report) = find(&repo, &named("needle*"));
    assert_eq!((found.len(), report.found), (3, 3));
    // More is found than is remembered: what is told again is the same.
    assert_eq!(find(&repo, &FindQuery::new()).1.found, 3 * 100_001);
    let snapshots = repo.snapshots();
    let mut changed = Vec::new();
    let diff = with_context(|ctx| {
        let visit = &mut |path: &[u8], difference: Result<dr_core::Difference<'_>>| {
            changed.push((path.to_vec(), difference?.kind));
            Ok(())
        };
        repo.repository.diff(&snapshots[0], &snapshots[2], &DiffOptions::new(), visit, ctx).unwrap()
    });
    assert_eq!((diff.added.files, diff.removed.files, changed.len()), (1, 1, 2), "{changed:?}");
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("archive.zip");
    let options = dr_core::DumpOptions::new().format(dr_core::ArchiveFormat::Zip);
    let mut file = fs::File::create(&path).unwrap();
    let dumped = with_context(|ctx| repo.repository.dump(&snapshots[0], &mut file, &options, ctx)).unwrap();
    assert_eq!(dumped.files, 100_001);
    // More members than sixteen bits count.
    let script = "import sys, zipfile; print(len(zipfile.ZipFile(sys.argv[1]).infolist()))";
    let output = std::process::Command::new("python3").args(["-c", script]).arg(&path).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "100001\n", "{output:?}");
}

proptest! {
    #![proptest_config(Config { cases: 12, ..Config::default() })]

    #[test]
    fn searches_find_what_a_look_at_everything_finds(first in trees(), second in trees(), least in 0u64..3000) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let repo = TestRepo::in_memory();
        for tree in [&first, &second, &first] {
            tree.write(&source);
            repo.clock.advance_ms(1000);
            assert!(repo.backup(&[&source]).unwrap().is_complete());
        }
        let mut query = named("a*");
        query.names.add(b"*.txt", Case::Sensitive).unwrap();
        query.bytes_min = Some(least);
        let wanted = expected(&repo, |_, entry| {
            let is_named = entry.name.starts_with(b"a") || entry.name.ends_with(b".txt");
            is_named && matches!(&entry.kind, EntryKind::File(content) if content.bytes >= least)
        });
        prop_assert_eq!(find(&repo, &query).0, wanted);
    }
}
