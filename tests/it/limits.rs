//! Sources at the limits of the format: what is written can always be read, and what does not fit is said.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use dr_core::{BackupOptions, BackupReport, Entry, EntryKind, ErrorKind, ProblemKind, Result, Xattr};
use dr_tests::TestRepo;
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::repo::with_context;

fn back_up(repo: &TestRepo, source: &SharedSource) -> Result<BackupReport> {
    repo.clock.advance_ms(1000);
    with_context(|ctx| repo.repository.backup(source, &BackupOptions::new().host("test"), ctx))
}

fn file(text: &str) -> MemoryFile {
    MemoryFile { bytes: text.as_bytes().to_vec(), ..MemoryFile::default() }
}

/// Every entry of the newest snapshot.
fn entries(repo: &TestRepo) -> Vec<Entry> {
    let mut entries = Vec::new();
    repo.repository
        .list(&repo.latest().unwrap(), b"/", &mut |_, entry| {
            entries.push(entry?.clone());
            Ok(())
        })
        .unwrap();
    entries
}

#[test]
fn a_hundred_thousand_tiny_files_fill_no_pack_beyond_its_limit() {
    let files =
        (0..100_000u32).map(|number| (format!("{number:06}"), file(&format!("{number:08}")))).collect();
    let repo = TestRepo::in_memory();
    let source = SharedSource(Arc::new(MemorySource { files, ..MemorySource::default() }));
    assert!(back_up(&repo, &source).unwrap().is_complete());
    repo.assert_intact();
}

#[test]
fn attributes_beyond_the_limit_cost_themselves_and_nothing_beside_them() {
    let xattrs = (0..17)
        .map(|number| Xattr { name: format!("user.{number:02}").into_bytes(), value: vec![number; 64 << 10] })
        .collect();
    let mut files = std::collections::BTreeMap::new();
    files.insert("huge".to_owned(), MemoryFile { bytes: b"content".to_vec(), xattrs, ..file("") });
    files.insert("sibling".to_owned(), file("unharmed"));
    let repo = TestRepo::in_memory();
    let report =
        back_up(&repo, &SharedSource(Arc::new(MemorySource { files, ..MemorySource::default() }))).unwrap();
    assert_eq!(
        report.problems.iter().map(|problem| problem.kind).collect::<Vec<_>>(),
        [ProblemKind::Attributes]
    );
    repo.assert_intact();
    let target = tempfile::tempdir().unwrap();
    assert!(repo.restore(&repo.latest().unwrap(), target.path()).unwrap().is_complete());
    assert_eq!(fs::read(target.path().join("huge")).unwrap(), b"content");
    assert_eq!(fs::read(target.path().join("sibling")).unwrap(), b"unharmed");
}

#[test]
fn a_snapshot_of_too_many_paths_is_refused_and_the_others_stay_readable() {
    let repo = TestRepo::in_memory();
    let small =
        SharedSource(Arc::new(MemorySource { paths: vec![PathBuf::from("/a")], ..MemorySource::default() }));
    let _ = back_up(&repo, &small).unwrap();
    let paths = (0..10_000).map(|number| PathBuf::from(format!("/{}/{number}", "long".repeat(30)))).collect();
    let large = SharedSource(Arc::new(MemorySource { paths, ..MemorySource::default() }));
    assert_eq!(back_up(&repo, &large).unwrap_err().kind(), ErrorKind::LimitExceeded);
    assert_eq!(repo.snapshots().len(), 1);
    repo.assert_intact();
    // A body that is long, but not too long, lies in tree chunks.
    let paths = (0..2_000).map(|number| PathBuf::from(format!("/{}/{number}", "long".repeat(10)))).collect();
    let _ =
        back_up(&repo, &SharedSource(Arc::new(MemorySource { paths, ..MemorySource::default() }))).unwrap();
    assert_eq!(repo.latest().unwrap().paths.len(), 2_000);
    repo.assert_intact();
}

#[test]
fn attributes_that_could_not_be_read_once_are_read_the_next_time() {
    let xattr = |name: &str| Xattr { name: name.as_bytes().to_vec(), value: b"kept".to_vec() };
    let xattrs = vec![xattr("user.a"), xattr("user.b")];
    let with_xattrs = MemoryFile { xattrs: xattrs.clone(), ..file("content") };
    let files = [("file".to_owned(), with_xattrs), ("plain".to_owned(), file("without"))].into();
    let link_xattrs = Some(xattrs.clone());
    let source = SharedSource(Arc::new(MemorySource { files, link_xattrs, ..MemorySource::default() }));
    let repo = TestRepo::in_memory();
    source.0.hides_xattrs.store(true, Ordering::Relaxed);
    // As long as it is so, every run says it.
    for _ in 0..2 {
        let report = back_up(&repo, &source).unwrap();
        let mut problems: Vec<_> =
            report.problems.iter().map(|problem| (problem.path.as_slice(), problem.kind)).collect();
        problems.sort_unstable_by_key(|(path, _)| *path);
        let expected: [(&[u8], _); 2] =
            [(b"/file", ProblemKind::Attributes), (b"/~link", ProblemKind::Attributes)];
        assert_eq!(problems, expected);
        // All else is there: content, target, and the attribute that could be read.
        let [kept, _, link] = &entries(&repo)[..] else { panic!("an entry is missing") };
        assert_eq!([&kept.metadata.xattrs[..], &link.metadata.xattrs], [&xattrs[..1], &xattrs[..1]]);
        assert_eq!(link.kind, EntryKind::Symlink(b"target".to_vec()));
        let target = tempfile::tempdir().unwrap();
        let _ = repo.restore(&repo.latest().unwrap(), target.path()).unwrap();
        assert_eq!(fs::read(target.path().join("file")).unwrap(), b"content");
    }
    source.0.hides_xattrs.store(false, Ordering::Relaxed);
    assert!(back_up(&repo, &source).unwrap().is_complete());
    let entries = entries(&repo);
    assert_eq!([&entries[0].metadata.xattrs, &entries[2].metadata.xattrs], [&xattrs, &xattrs]);
}

#[test]
fn a_source_that_panics_does_not_hang_the_backup() {
    let repo = TestRepo::in_memory();
    let source = SharedSource(Arc::new(MemorySource { panics: true, ..MemorySource::default() }));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| back_up(&repo, &source)));
    assert!(outcome.is_err());
    assert!(back_up(&repo, &SharedSource(Arc::default())).unwrap().is_complete());
}

/// An old file at the first name must not become the content of the later ones.
#[test]
fn later_names_of_a_damaged_file_are_not_linked_to_what_stands_in_its_place() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("first"), dr_tests::noise(1, 5000)).unwrap();
    fs::hard_link(source.join("first"), source.join("second")).unwrap();
    let store = dr_store::sim::SimStore::new();
    let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
    let _ = repo.backup(&[&source]).unwrap();
    let (pack, _) = store.objects().into_iter().find(|(name, _)| name.as_str().starts_with("data/")).unwrap();
    store.corrupt(&pack, 200, 1).unwrap();
    let target = folder.path().join("target");
    let restored = target.join(source.strip_prefix("/").unwrap());
    fs::create_dir_all(&restored).unwrap();
    fs::write(restored.join("first"), "an older file").unwrap();
    let report = repo.restore(&repo.latest().unwrap(), &target).unwrap();
    assert_eq!(report.problem_count, 2, "{:?}", report.problems);
    assert!(!restored.join("second").exists());
}
