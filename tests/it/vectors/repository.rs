//! Whole repositories, frozen, and a second reader of them.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::fs;
use std::process::Command;
use std::sync::Arc;

use dr_core::internals::{self, Class, Keys, Kind, Single};
use dr_core::{
    Cipher, Credentials, MaxUnused, PruneOptions, Repository, RepositoryOptions, Result, SnapshotFilter,
    TagChange,
};
use dr_store::{MemoryStore, Name, PutMode, Store};
use dr_tests::repo::with_context;
use dr_tests::steps::skip;
use dr_tests::{TestRepo, noise};

use super::case::{Case, cases, folder, from_hex, to_hex, write};
use super::key_slots;

/// The frozen repositories: one as backups leave it, one in which garbage was collected, and one whose objects are of both
/// suites.
const FROZEN: [&str; 3] = ["repository.txt", "pruned.txt", "suites.txt"];

/// The objects and files of a frozen repository.
fn frozen(file: &str) -> (Case, Case) {
    let mut cases = cases(file);
    let files = cases.pop().unwrap();
    (cases.pop().unwrap(), files)
}

fn open(objects: &Case) -> Repository {
    let store = Arc::new(MemoryStore::new());
    for (name, bytes) in &objects.values {
        let name = Name::new(name.clone()).unwrap();
        store.put(&name, from_hex(bytes).into(), PutMode::Create).unwrap();
    }
    Repository::open(store, &dr_tests::key(), RepositoryOptions::new()).unwrap()
}

#[test]
fn the_frozen_repositories_restore() {
    for file in FROZEN {
        let (objects, files) = frozen(file);
        let repository = open(&objects);
        let report =
            with_context(|ctx| repository.check(&dr_core::CheckOptions::new().read_data(), ctx)).unwrap();
        assert!(report.is_intact(), "{file}: {:#?}", report.errors);
        let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
        let room = tempfile::tempdir().unwrap();
        let options = dr_core::RestoreOptions::new();
        let restored = with_context(|ctx| repository.restore(&snapshot, room.path(), &options, ctx)).unwrap();
        assert_eq!(restored.files, files.values.len() as u64, "{file}");
        for (path, content) in &files.values {
            let found = fs::read(room.path().join(path.trim_start_matches('/'))).unwrap();
            assert_eq!(blake3::hash(&found).to_string(), *content, "{file}: {path}");
        }
    }
}

#[test]
fn the_pruned_repository_has_what_a_reader_must_be_tested_with() {
    let (objects, _) = frozen("pruned.txt");
    let repository = open(&objects);
    let keys = Keys::of(&repository);
    let mut said = String::new();
    for (name, bytes) in &objects.values {
        let bytes = from_hex(bytes);
        if name.starts_with("log/") {
            let slot = (0..200).find(|slot| internals::slot_name(*slot).as_str() == name).unwrap();
            let body = keys.open(Single::Slot, slot, &bytes).unwrap();
            for (field, value) in internals::decode(Kind::LogEntry, &body).unwrap().fields {
                writeln!(said, "{field} = {value}").unwrap();
            }
        } else if name.starts_with("data/") {
            for (field, value) in keys.open_pack(Class::Data, &bytes).unwrap().0 {
                writeln!(said, "{field} = {value}").unwrap();
            }
        }
    }
    for wanted in [
        "foreign.0 = ",
        "condemn.packs = ",
        "reindex.outputs = ",
        "checkpoint = ",
        "unforget = ",
        "unprotect = ",
    ] {
        let found = said.lines().filter(|line| line.starts_with(wanted) && line.len() > wanted.len() + 8);
        assert!(found.count() > 0, "no {wanted}");
    }
    assert!(objects.values.iter().any(|(name, _)| name.starts_with("ckpt/")));
    let snapshots = repository.snapshots(&SnapshotFilter::new()).unwrap();
    let [third] = &snapshots[..] else { panic!("{snapshots:?}") };
    assert!(third.protected && third.tags == ["kept"]);
    assert_eq!(repository.forgotten_snapshots(&SnapshotFilter::new()).unwrap().len(), 1);
}

#[test]
fn the_repository_of_both_suites_has_what_a_reader_must_be_tested_with() {
    let (objects, _) = frozen("suites.txt");
    let keys = Keys::of(&open(&objects));
    let suite_of = |header: &[u8]| header[10];
    let (mut folders, mut copied) = (BTreeSet::new(), BTreeSet::new());
    for (name, bytes) in &objects.values {
        let (bytes, folder) = (from_hex(bytes), name.split('/').next().unwrap());
        if !matches!(folder, "config" | "keys") {
            folders.insert((folder, suite_of(&bytes)));
        }
        if folder == "data" {
            let (fields, _) = keys.open_pack(Class::Data, &bytes).unwrap();
            let foreign = fields.iter().filter(|(field, _)| field.starts_with("foreign."));
            copied.extend(foreign.map(|(_, header)| (name, suite_of(&from_hex(header)))));
        }
    }
    for place in [("data", 1), ("data", 2), ("log", 1), ("log", 2), ("tree", 1), ("ckpt", 2), ("ring", 1)] {
        assert!(folders.contains(&place), "{place:?}: {folders:?}");
    }
    assert!(!folders.contains(&("ring", 2)));
    let (one, two): (Vec<_>, Vec<_>) = copied.iter().partition(|(_, suite)| *suite == 1);
    assert!(one.iter().any(|(name, _)| two.iter().any(|(other, _)| name == other)), "{copied:?}");
}

#[test]
fn another_reader_written_from_the_document_reads_the_frozen_repositories() {
    let python = Command::new("python3").args(["-c", "import blake3, cryptography, zstandard"]).output();
    if !python.is_ok_and(|run| run.status.success()) {
        return skip(
            "python-reader",
            "python3 with the packages blake3, cryptography and zstandard is not there",
        );
    }
    for file in FROZEN {
        let (objects, files) = frozen(file);
        let room = tempfile::tempdir().unwrap();
        for (name, bytes) in &objects.values {
            let path = room.path().join("repository").join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, from_hex(bytes)).unwrap();
        }
        let key = room.path().join("key");
        fs::write(&key, Credentials::key_file_for(&[42; 32])).unwrap();
        for (path, content) in &files.values {
            let mut command = Command::new("python3");
            command.arg(folder().join("reader.py")).arg(room.path().join("repository")).arg(&key).arg(path);
            let run = command.output().unwrap();
            assert!(run.status.success(), "{file}: {path}: {}", String::from_utf8_lossy(&run.stderr));
            assert_eq!(blake3::hash(&run.stdout).to_string(), *content, "{file}: {path}");
        }
    }
}

fn objects_of(repo: &TestRepo) -> Result<Case> {
    let mut objects = Case::new("objects");
    repo.store.list("", None, &mut |meta| {
        objects.values.push((meta.name.to_string(), to_hex(&repo.store.get(&meta.name)?)));
        Ok(())
    })?;
    objects.values.sort();
    Ok(objects)
}

/// A repository made by the engine as it was when this was written, its key slot and ring, and one of a password.
pub(super) fn write_all() -> Result<()> {
    let room = tempfile::tempdir().unwrap();
    let source = room.path().join("source");
    let files: [(&str, Vec<u8>); 4] = [
        ("d/e/small", b"small".to_vec()),
        ("empty", vec![]),
        ("text", b"text ".repeat(2000)),
        ("z", noise(1, 3000)),
    ];
    let repo = TestRepo::sealed_with(Cipher::ChaCha20Poly1305);
    for (path, content) in &files {
        fs::create_dir_all(source.join(path).parent().unwrap()).unwrap();
        fs::write(source.join(path), content).unwrap();
    }
    let holes = fs::File::create(source.join("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"data", 500_000).unwrap();
    std::os::unix::fs::symlink("text", source.join("link")).unwrap();
    assert!(repo.backup(&[&source])?.is_complete());
    let objects = objects_of(&repo)?;
    let mut contents = Case::new("files");
    for path in ["d/e/small", "empty", "holes", "text", "z"] {
        let content = fs::read(source.join(path)).unwrap();
        contents = contents.with(source.join(path).to_str().unwrap(), blake3::hash(&content));
    }
    key_slots::write_all(&objects)?;
    let about =
        "A whole repository, its key 32 bytes of 42 (2a), and the BLAKE3 of the files in its snapshot.";
    write("repository.txt", about, &[objects, contents]);
    write_pruned()?;
    write_suites()
}

/// A repository that two wrote to, each with another suite, and in which frames of both were copied into one pack.
fn write_suites() -> Result<()> {
    let room = tempfile::tempdir().unwrap();
    let source = room.path().join("source");
    fs::create_dir_all(&source).unwrap();
    let put = |name: &str, content: &[u8]| fs::write(source.join(name), content).unwrap();
    let one = TestRepo::sealed_with(Cipher::ChaCha20Poly1305);
    let two = one.sealing_with(Cipher::Aes256Gcm, 2);
    put("large", &b"a line that is compressed well\n".repeat(20_000));
    put("first", &noise(1, 2000));
    let first = one.backup(&[&source])?.snapshot.unwrap();
    put("larger", &b"another line that is compressed well\n".repeat(20_000));
    put("second", &noise(2, 2000));
    let second = two.backup(&[&source])?.snapshot.unwrap();
    fs::remove_file(source.join("first")).unwrap();
    fs::remove_file(source.join("second")).unwrap();
    assert!(one.backup(&[&source])?.is_complete());
    two.repository.forget(&[first, second])?;
    let mut options = PruneOptions::new();
    options.max_unused = MaxUnused::Bytes(0);
    with_context(|ctx| two.repository.prune(&options, ctx))?;
    put("last", &noise(3, 2000));
    assert!(one.backup(&[&source])?.is_complete());
    internals::write_checkpoint(&two.repository)?;
    let mut contents = Case::new("files");
    for path in ["large", "larger", "last"] {
        let content = fs::read(source.join(path)).unwrap();
        contents = contents.with(source.join(path).to_str().unwrap(), blake3::hash(&content));
    }
    let about = "A whole repository of objects of both suites, its key that of repository.txt, and the files of its newest snapshot.";
    write("suites.txt", about, &[objects_of(&one)?, contents]);
    Ok(())
}

/// A repository in which garbage was collected: frames that were copied as they were, packs and segments that are
/// condemned, a Reindex, a checkpoint, and an entry of every other kind that changes what counts.
fn write_pruned() -> Result<()> {
    let room = tempfile::tempdir().unwrap();
    let source = room.path().join("source");
    fs::create_dir_all(&source).unwrap();
    let put = |name: &str, content: &[u8]| fs::write(source.join(name), content).unwrap();
    let repo = TestRepo::sealed_with(Cipher::ChaCha20Poly1305);
    put("large", &b"a line that is compressed well\n".repeat(20_000));
    put("first", &noise(1, 2000));
    let first = repo.backup(&[&source])?.snapshot.unwrap();
    // Its pack of contents stays and its pack of trees goes, so its segment is replaced.
    put("kept", &noise(2, 2000));
    let between = repo.backup(&[&source])?.snapshot.unwrap();
    fs::remove_file(source.join("first")).unwrap();
    let second = repo.backup(&[&source])?.snapshot.unwrap();
    let third = repo.backup(&[&source])?.snapshot.unwrap();
    let repository = &repo.repository;
    repository.tag(&[third], &TagChange::Set(vec!["kept".to_owned()]))?;
    repository.protect(&[second])?;
    repository.unprotect(&[second])?;
    repository.forget(&[first, between, third])?;
    repository.unforget(&[third])?;
    let mut options = PruneOptions::new();
    options.max_unused = MaxUnused::Bytes(0);
    with_context(|ctx| repository.prune(&options, ctx))?;
    repository.protect(&[third])?;
    internals::write_checkpoint(repository)?;
    repository.forget(&[second])?;
    let mut contents = Case::new("files");
    for path in ["large", "kept"] {
        let content = fs::read(source.join(path)).unwrap();
        contents = contents.with(source.join(path).to_str().unwrap(), blake3::hash(&content));
    }
    let about = "A whole repository after a collection, its key that of repository.txt, and the files of its newest snapshot.";
    write("pruned.txt", about, &[objects_of(&repo)?, contents]);
    Ok(())
}
