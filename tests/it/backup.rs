//! Backups and restores that go well.

use std::fs;

use dr_tests::tree::trees;
use dr_tests::{Node, TestRepo, TreeSpec, assert_same_tree};
use proptest::prelude::*;
use proptest::test_runner::Config;

#[test]
fn a_tree_comes_back_as_it_was_and_a_second_backup_stores_next_to_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut tree = TreeSpec::files(&[
        ("empty", 0),
        ("small", 100),
        ("a/b/c/deep.txt", 5000),
        ("min", 128 << 10),
        ("over", (128 << 10) + 1),
        ("large", 9 << 20),
        ("copy-of-nothing", 70_000),
    ]);
    tree.put("link", Node::Symlink(b"a/b".to_vec()));
    tree.put("pipe", Node::Fifo);
    tree.write(&source);
    fs::hard_link(source.join("small"), source.join("a/hard")).unwrap();
    let repo = TestRepo::in_memory();
    let report = repo.backup(&[&source]).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let target = folder.path().join("target");
    let restored = repo.restore(&repo.latest().unwrap(), &target).unwrap();
    assert!(restored.is_complete(), "{:?}", restored.problems);
    assert_same_tree(&source, &target.join(source.strip_prefix("/").unwrap()));
    repo.assert_intact();
    repo.clock.advance_ms(1000);
    let again = repo.backup(&[&source]).unwrap();
    // The directories above the source change all the time; nothing else may be read, and they fill one small pack.
    assert_eq!((again.totals.files_read, again.entries_new), (0, 0));
    assert!(again.totals.stored_bytes <= 64 << 10 && again.totals.new_chunks <= 3, "{:?}", again.totals);
    repo.assert_intact();
}

proptest! {
    #![proptest_config(Config { cases: 48, ..Config::default() })]

    #[test]
    fn any_tree_and_any_edit_of_it_come_back(first in trees(), second in trees()) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        let repo = TestRepo::in_memory();
        for (number, tree) in [&first, &second, &second].into_iter().enumerate() {
            tree.write(&source);
            repo.clock.advance_ms(1000);
            let report = repo.backup(&[&source]).unwrap();
            prop_assert!(report.is_complete(), "{:?}", report.problems);
            let target = folder.path().join(format!("target{number}"));
            let restored = repo.restore(&repo.latest().unwrap(), &target).unwrap();
            prop_assert!(restored.is_complete(), "{:?}", restored.problems);
            assert_same_tree(&source, &target.join(source.strip_prefix("/").unwrap()));
        }
        prop_assert_eq!(repo.snapshots().len(), 3);
        repo.assert_intact();
    }
}
