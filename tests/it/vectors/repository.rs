//! A whole repository, frozen, and a second reader of it.

use std::fs;
use std::process::Command;
use std::sync::Arc;

use dr_core::{Credentials, Repository, RepositoryOptions, Result, SnapshotFilter};
use dr_store::{MemoryStore, Name, PutMode, Store};
use dr_tests::repo::with_context;
use dr_tests::steps::skip;
use dr_tests::{TestRepo, noise};

use super::case::{Case, cases, folder, from_hex, to_hex, write};
use super::key_slots;

/// The objects and files of the frozen repository.
fn frozen() -> (Case, Case) {
    let mut cases = cases("repository.txt");
    let files = cases.pop().unwrap();
    (cases.pop().unwrap(), files)
}

#[test]
fn the_frozen_repository_restores() {
    let (objects, files) = frozen();
    let store = Arc::new(MemoryStore::new());
    for (name, bytes) in &objects.values {
        let name = Name::new(name.clone()).unwrap();
        store.put(&name, from_hex(bytes).into(), PutMode::Create).unwrap();
    }
    let repository = Repository::open(store, &dr_tests::key(), RepositoryOptions::new()).unwrap();
    let report =
        with_context(|ctx| repository.check(&dr_core::CheckOptions::new().read_data(), ctx)).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
    let room = tempfile::tempdir().unwrap();
    let restored =
        with_context(|ctx| repository.restore(&snapshot, room.path(), &dr_core::RestoreOptions::new(), ctx))
            .unwrap();
    assert_eq!(restored.files, files.values.len() as u64);
    for (path, content) in &files.values {
        let found = fs::read(room.path().join(path.trim_start_matches('/'))).unwrap();
        assert_eq!(blake3::hash(&found).to_string(), *content, "{path}");
    }
}

#[test]
fn another_reader_written_from_the_document_reads_the_frozen_repository() {
    let python = Command::new("python3").args(["-c", "import blake3, cryptography, zstandard"]).output();
    if !python.is_ok_and(|run| run.status.success()) {
        return skip(
            "python-reader",
            "python3 with the packages blake3, cryptography and zstandard is not there",
        );
    }
    let (objects, files) = frozen();
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
        assert!(run.status.success(), "{path}: {}", String::from_utf8_lossy(&run.stderr));
        assert_eq!(blake3::hash(&run.stdout).to_string(), *content, "{path}");
    }
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
    let repo = TestRepo::in_memory();
    for (path, content) in &files {
        fs::create_dir_all(source.join(path).parent().unwrap()).unwrap();
        fs::write(source.join(path), content).unwrap();
    }
    let holes = fs::File::create(source.join("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&holes, b"data", 500_000).unwrap();
    std::os::unix::fs::symlink("text", source.join("link")).unwrap();
    assert!(repo.backup(&[&source])?.is_complete());
    let mut objects = Case::new("objects");
    repo.store.list("", None, &mut |meta| {
        objects.values.push((meta.name.to_string(), to_hex(&repo.store.get(&meta.name)?)));
        Ok(())
    })?;
    objects.values.sort();
    let mut contents = Case::new("files");
    for path in ["d/e/small", "empty", "holes", "text", "z"] {
        let content = fs::read(source.join(path)).unwrap();
        contents = contents.with(source.join(path).to_str().unwrap(), blake3::hash(&content));
    }
    key_slots::write_all(&objects)?;
    let about =
        "A whole repository, its key 32 bytes of 42 (2a), and the BLAKE3 of the files in its snapshot.";
    write("repository.txt", about, &[objects, contents]);
    Ok(())
}
