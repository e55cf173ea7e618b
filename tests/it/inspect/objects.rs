//! Versions of a path, what snapshots take, and single objects.

use std::fs;
use std::sync::Arc;

use dr_core::{
    ChunkId, CreateOptions, Credentials, Description, EntryKind, ErrorKind, ObjectHash, ObjectKind,
    Repository, RepositoryOptions, Snapshot, SnapshotId, StoredObject,
};
use dr_store::sim::SimStore;
use dr_tests::garbage::prune;
use dr_tests::repo::with_context;
use dr_tests::{TestRepo, TreeSpec, noise};

use super::bytes;

#[test]
fn versions_of_a_path_say_when_and_what() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let elsewhere = folder.path().join("elsewhere");
    fs::create_dir(&source).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    let path = source.join("file");
    let repo = TestRepo::in_memory();
    let mut ids = Vec::new();
    for text in [None, Some("one"), Some("one"), Some("two"), None, Some("one")] {
        match text {
            None => drop(fs::remove_file(&path)),
            Some(text) => {
                fs::write(&path, text).unwrap();
                let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
                fs::File::options().write(true).open(&path).unwrap().set_modified(time).unwrap();
            }
        }
        repo.clock.advance_ms(1000);
        ids.push(repo.backup(&[&source]).unwrap().snapshot.unwrap());
        // One of something else says nothing of the path.
        repo.clock.advance_ms(1000);
        let _ = repo.backup(&[&elsewhere]).unwrap();
    }
    let of =
        |path: &[u8]| with_context(|ctx| repo.repository.versions(&repo.snapshots(), path, ctx)).unwrap();
    let report = of(bytes(&path));
    let found: Vec<(SnapshotId, SnapshotId, u64, u64)> = report
        .versions
        .iter()
        .map(|version| (version.first.id, version.last.id, version.snapshots, version.content))
        .collect();
    assert_eq!(
        found,
        [(ids[1], ids[2], 2, 1), (ids[3], ids[3], 1, 2), (ids[4], ids[4], 1, 0), (ids[5], ids[5], 1, 1)]
    );
    assert!(report.versions[2].entry.is_none() && report.unread.is_empty());
    assert_eq!(of(b"/").versions[0].snapshots, 1);
    assert!(of(b"/nothing").versions.is_empty());
}

fn usage(repo: &TestRepo, snapshots: &[Snapshot]) -> dr_core::UsageReport {
    with_context(|ctx| repo.repository.usage(snapshots, ctx)).unwrap()
}

#[test]
fn what_a_snapshot_has_to_itself_is_what_a_collection_frees() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let repo = TestRepo::in_memory();
    for round in 0..4 {
        let own = format!("own{round}");
        // Two have a file in common that no other has.
        let common = if round < 2 { "common" } else { "all" };
        TreeSpec::files(&[("all", 3 << 20), (common, 3 << 20)]).write(&source);
        fs::write(source.join(&own), noise(100 + round, 1 << 20)).unwrap();
        repo.clock.advance_ms(1000);
        assert!(repo.backup(&[&source]).unwrap().is_complete());
    }
    let snapshots = repo.snapshots();
    let report = usage(&repo, &snapshots);
    assert_eq!(report.snapshots.len(), 4);
    for (usage, snapshot) in report.snapshots.iter().zip(&snapshots) {
        assert_eq!(usage.snapshot, Some(snapshot.id));
        assert_eq!(usage.restored_bytes, snapshot.totals.bytes);
        assert!(
            usage.own_chunk_bytes >= 1 << 20 && usage.own_chunk_bytes < (1 << 20) + (64 << 10),
            "{usage:?}"
        );
        assert!(usage.chunk_bytes >= 4 << 20 && usage.own_stored_bytes <= usage.stored_bytes, "{usage:?}");
    }
    let stats = repo.repository.stats().unwrap();
    assert_eq!((report.together.chunks, report.together.chunk_bytes), (stats.chunks, stats.chunk_bytes));
    assert_eq!(report.together.own_chunks, stats.chunks, "nothing is left when all are forgotten");
    assert!(report.together.stored_bytes <= stats.pack_bytes);
    // Two by themselves: what they share is their own together, and neither's alone.
    let two = usage(&repo, &snapshots[..2]);
    let alone: u64 = two.snapshots.iter().map(|usage| usage.own_chunk_bytes).sum();
    assert!(two.together.own_chunk_bytes >= alone + (3 << 20), "{two:?}");
    for chosen in [&snapshots[..2], &snapshots[2..3]] {
        let before = repo.repository.stats().unwrap();
        let expected = usage(&repo, chosen).together;
        repo.repository.forget(&chosen.iter().map(|snapshot| snapshot.id).collect::<Vec<_>>()).unwrap();
        prune(&repo.repository).unwrap();
        let after = repo.repository.stats().unwrap();
        assert_eq!(before.chunks - after.chunks, expected.own_chunks);
        assert_eq!(before.chunk_bytes - after.chunk_bytes, expected.own_chunk_bytes);
    }
}

/// The field of a record.
fn field<'d>(record: &'d Description, name: &str) -> &'d Description {
    match record {
        Description::Record(fields) => &fields.iter().find(|(known, _)| *known == name).unwrap().1,
        other => panic!("{other:?} is no record"),
    }
}

fn count(description: &Description) -> usize {
    match description {
        Description::List(items) => items.len(),
        other => panic!("{other:?} is no list"),
    }
}

#[test]
fn every_kind_of_object_is_shown() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    TreeSpec::files(&[("a", 100), ("b", 3 << 20)]).write(&source);
    let store = SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    let id = repo.backup(&[&source]).unwrap().snapshot.unwrap();
    let show = |object| repo.repository.describe(&object).unwrap();
    assert_eq!(*field(&show(StoredObject::Config), "id"), Description::Text(repo.repository.id()));
    let snapshot = show(StoredObject::Snapshot(id));
    assert_eq!(*field(&snapshot, "id"), Description::Text(id.to_string()));
    let slots = repo.repository.stats().unwrap().log_slots;
    let kinds: Vec<Description> = (0..slots).map(|slot| show(StoredObject::Log(slot))).collect();
    assert_eq!(*field(field(&kinds[0], "event"), "kind"), Description::Text("genesis".into()));
    assert_eq!(*field(field(&kinds[1], "event"), "kind"), Description::Text("commit".into()));
    let view = repo.repository.view(&repo.latest().unwrap()).unwrap();
    let EntryKind::Directory(stream) = view.entry(bytes(&source)).unwrap().unwrap().kind else {
        panic!("the source is a directory")
    };
    let tree = show(StoredObject::Tree(stream.chunks[0].id));
    assert_eq!(count(field(&tree, "entries")), 2);
    for (name, object) in store.objects() {
        let hash = || ObjectHash::from_hex(name.as_str().rsplit('/').next().unwrap()).unwrap();
        match name.as_str().split('/').next().unwrap() {
            "data" | "tree" => {
                let pack = show(StoredObject::Pack(hash()));
                assert_eq!(*field(&pack, "bytes"), Description::Number(object.len() as i128));
                assert!(count(field(&pack, "frames")) > 0);
            }
            "index" => assert!(count(field(&show(StoredObject::Index(hash())), "packs")) > 0),
            _ => {}
        }
    }
    let named = |kind| repo.repository.stored_objects(kind).unwrap();
    assert!(named(ObjectKind::Log).into_iter().eq((0..slots).map(StoredObject::Log)));
    let of = |folders: &[&str], object: fn(ObjectHash) -> StoredObject| {
        let names = store.objects().into_iter().map(|(name, _)| name.as_str().to_owned());
        let names = names.filter(|name| folders.contains(&name.split('/').next().unwrap()));
        let mut hashes: Vec<ObjectHash> =
            names.map(|name| ObjectHash::from_hex(name.rsplit('/').next().unwrap()).unwrap()).collect();
        hashes.sort_unstable();
        hashes.into_iter().map(object).collect::<Vec<_>>()
    };
    assert_eq!(named(ObjectKind::Pack), of(&["data", "tree"], StoredObject::Pack));
    assert!(named(ObjectKind::Pack).len() >= 2);
    // A small segment stands in the log.
    let segments = named(ObjectKind::Index);
    assert!(of(&["index"], StoredObject::Index).iter().all(|stored| segments.contains(stored)));
    assert!(!segments.is_empty());
    assert!(segments.into_iter().all(|segment| count(field(&show(segment), "packs")) > 0));
    let unknown = [7; 32];
    for object in [
        StoredObject::Snapshot(SnapshotId::from_bytes(unknown)),
        StoredObject::Log(slots),
        StoredObject::Log(u64::MAX),
        StoredObject::Tree(ChunkId::from_bytes(unknown)),
        StoredObject::Pack(ObjectHash::from_bytes(unknown)),
        StoredObject::Index(ObjectHash::from_bytes(unknown)),
    ] {
        assert_eq!(repo.repository.describe(&object).unwrap_err().kind(), ErrorKind::NotFound, "{object:?}");
    }
}

#[test]
fn key_slots_show_no_key() {
    let store = Arc::new(dr_store::MemoryStore::new());
    let password = Credentials::password("a password").unwrap();
    let repository =
        Repository::create(store, &password, &CreateOptions::new(), RepositoryOptions::new()).unwrap();
    let Description::List(slots) = repository.describe(&StoredObject::Keys).unwrap() else {
        panic!("no list")
    };
    assert_eq!(slots.len(), 1);
    assert_eq!(*field(&slots[0], "derivation"), Description::Text("argon2id".into()));
    assert_eq!(*field(&slots[0], "in_force"), Description::Flag(true));
    let Description::Record(fields) = &slots[0] else { panic!("no record") };
    let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["name", "bytes", "label", "derivation", "memory_kib", "passes", "lanes", "in_force"]);
}
