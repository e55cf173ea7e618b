//! Restores that delete what the snapshot does not have: below what was backed up, and nowhere else.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use dr_core::{Delete, ErrorKind, RestoreOptions, Snapshot};
use dr_tests::disk::SmallDisk;
use dr_tests::steps::{Workshop, alone, backup, restored, skip};
use dr_tests::{TestRepo, TreeSpec, assert_same_tree};

use super::{Place, add, complete, must_complete, names, picture};

#[test]
fn surplus_is_deleted_below_what_was_backed_up_and_nowhere_else() {
    let place = Place::at(Workshop::on_disk());
    TreeSpec::files(&[("d/kept", 5), ("e/f", 5)]).write(&place.workshop.source());
    place.backup();
    must_complete(place.restore(&RestoreOptions::new()));
    let outside = place.workshop.room();
    TreeSpec::files(&[("precious", 5)]).write(&outside);
    let beside = place.there("").parent().unwrap().join("beside");
    fs::write(&beside, "not of the backup").unwrap();
    fs::write(place.target.join("top"), "not of the backup").unwrap();
    let odd = place.there("d").join(OsStr::from_bytes(b"\xff\n\x1b[31m"));
    fs::create_dir_all(odd.join("deep/deeper")).unwrap();
    fs::write(odd.join("deep/\u{7f}"), "x").unwrap();
    symlink(&outside, odd.join("out")).unwrap();
    symlink(&outside, place.there("d/out")).unwrap();
    fs::set_permissions(odd.join("deep"), fs::Permissions::from_mode(0o500)).unwrap();
    TreeSpec::files(&[("s/cache/keep", 5), ("s/other", 5), ("s/t/u", 1)]).write(&place.there("e"));

    let mut options = RestoreOptions::new().delete(Delete::Surplus);
    add(&mut options.selection.exclude, "cache");
    let report = complete(place.restore(&options));
    // odd, deep, deeper, a file and two links; other, t, u.
    assert_eq!(report.deleted, 9);
    assert!(place.there("e/s/cache/keep").exists() && !place.there("e/s/other").exists());
    assert!(!odd.exists() && outside.join("precious").exists());
    assert!(beside.exists() && place.target.join("top").exists());
    let mut only = RestoreOptions::new().delete(Delete::Surplus);
    add(&mut only.selection.include, "*.tmp");
    TreeSpec::files(&[("x/a.tmp", 5), ("x/a.txt", 5)]).write(&place.there("d"));
    assert_eq!(complete(place.restore(&only)).deleted, 1);
    assert!(place.there("d/x/a.txt").exists() && !place.there("d/x/a.tmp").exists());
    must_complete(place.restore(&RestoreOptions::new().delete(Delete::Surplus)));
    place.assert_restored();
}

#[test]
fn the_repository_in_the_target_is_neither_deleted_nor_written_to() {
    let workshop = Workshop::on_disk();
    TreeSpec::files(&[("d/f", 5), ("e/f", 5)]).write(&workshop.source());
    let target = workshop.room();
    let there = restored(&target, &workshop.source());
    let place_of = there.join("surplus/repo");
    fs::create_dir_all(place_of.parent().unwrap()).unwrap();
    let store = dr_store::LocalStore::create(&place_of).unwrap();
    let repo = TestRepo::create(Arc::new(store)).unwrap();
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    let mut snapshot = repo.latest().unwrap();
    let run = |snapshot: &Snapshot, target: &Path, options: &RestoreOptions| {
        alone(&(), |ctx| repo.repository.restore(snapshot, target, options, ctx))
    };
    must_complete(run(&snapshot, &target, &RestoreOptions::new()).unwrap());
    fs::write(there.join("surplus/f"), "x").unwrap();
    for delete in [Delete::Surplus, Delete::SurplusAnyway] {
        let before = picture(&place_of);
        let report = run(&snapshot, &target, &RestoreOptions::new().delete(delete)).unwrap();
        assert_eq!(report.problem_count, 1, "{:?}", report.problems);
        assert_eq!(picture(&place_of).len(), before.len());
        assert!(!there.join("surplus/f").exists());
    }
    repo.assert_intact();

    // Now the snapshot has a directory of that name.
    TreeSpec::files(&[("d/f", 5), ("e/f", 5), ("surplus/repo/config", 5), ("surplus/repo/x/y", 5)])
        .write(&workshop.source());
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    snapshot = repo.latest().unwrap();
    let config = fs::read(place_of.join("config")).unwrap();
    for delete in [Delete::Nothing, Delete::SurplusAnyway] {
        let mut options = RestoreOptions::new().delete(delete);
        let report = run(&snapshot, &target, &options).unwrap();
        assert!(report.problem_count > 0 && report.deleted == 0);
        // What leads there is not selected itself.
        add(&mut options.selection.include, "y");
        assert_eq!(run(&snapshot, &target, &options).unwrap().deleted, 0);
        assert_eq!(fs::read(place_of.join("config")).unwrap(), config);
        assert!(!place_of.join("x").exists());
    }
    for inside in [place_of.clone(), place_of.join("packs"), place_of.join("new/er")] {
        let error = run(&snapshot, &inside, &RestoreOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
    }
    assert!(!place_of.join("new").exists());
    let mut moved = RestoreOptions::new();
    let from = workshop.source().join("d").as_os_str().as_bytes().to_vec();
    let to = place_of.strip_prefix(&target).unwrap().join("d").as_os_str().as_bytes().to_vec();
    moved.moved = vec![(from, to)];
    assert_eq!(run(&snapshot, &target, &moved).unwrap_err().kind(), ErrorKind::InvalidInput);
    repo.assert_intact();
}

#[test]
fn a_mounted_file_system_is_not_emptied() {
    let place = Place::at(Workshop::on_disk());
    TreeSpec::files(&[("d/kept", 5)]).write(&place.workshop.source());
    fs::create_dir(place.source("empty")).unwrap();
    place.backup();
    must_complete(place.restore(&RestoreOptions::new()));
    fs::create_dir(place.there("surplus")).unwrap();
    fs::write(place.there("surplus/f"), "x").unwrap();
    let Some(disk) = SmallDisk::mount(&place.there("surplus/mounted"), "size=1m") else {
        skip("a_mounted_file_system_is_not_emptied", "no file system can be mounted here");
        return;
    };
    fs::write(disk.path().join("precious"), "precious").unwrap();
    // In the snapshot an empty directory, as of a backup that stayed on one file system.
    fs::remove_dir(place.there("empty")).unwrap();
    let second = SmallDisk::mount(&place.there("empty"), "size=1m").unwrap();
    fs::write(second.path().join("precious"), "precious").unwrap();
    let bound = place.there("bound");
    fs::create_dir(&bound).unwrap();
    let other = place.workshop.room();
    TreeSpec::files(&[("precious", 5)]).write(&other);
    let bind = |arguments: &[&OsStr]| std::process::Command::new("mount").args(arguments).status().unwrap();
    assert!(bind(&["--bind".as_ref(), other.as_os_str(), bound.as_os_str()]).success());
    let report = place.restore(&RestoreOptions::new().delete(Delete::Surplus));
    let unmounted = std::process::Command::new("umount").arg(&bound).status().unwrap();
    assert!(unmounted.success());
    assert_eq!((report.problem_count, report.deleted), (2, 1), "{:?}", report.problems);
    assert!(second.path().join("precious").exists());
    assert!(disk.path().join("precious").exists() && other.join("precious").exists());
    assert!(!place.there("surplus/f").exists());
}

#[test]
fn a_deletion_that_looks_like_a_mistake_is_refused() {
    let place = Place::new();
    TreeSpec::files(&[("d/f", 5)]).write(&place.workshop.source());
    let snapshot = place.backup();
    TreeSpec::files(&[("thesis", 5)]).write(&place.target);
    let refused = |options: &RestoreOptions, target: &Path| {
        let outcome = alone(&(), |ctx| place.repo.repository.restore(&snapshot, target, options, ctx));
        let error = outcome.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error:?}");
        assert!(error.remedy().unwrap().contains("--delete-anyway"));
    };
    let delete = RestoreOptions::new().delete(Delete::Surplus);
    // Nothing may be written here, whatever else is wrong with this test.
    refused(&delete.clone().dry_run(), Path::new("/"));
    let mut stripped = delete.clone().path(place.workshop.source().as_os_str().as_bytes());
    stripped.strip_path = true;
    refused(&stripped, &place.target);
    assert!(place.target.join("thesis").exists() && !place.target.join("d").exists());
    stripped.delete = Delete::SurplusAnyway;
    let report = alone(&(), |ctx| place.repo.repository.restore(&snapshot, &place.target, &stripped, ctx));
    assert_eq!(complete(report.unwrap()).deleted, 1);
    assert_eq!(names(&place.target), ["d"]);
    assert_same_tree(&place.source("d"), &place.target.join("d"));
    // Now they have something in common.
    fs::write(place.target.join("surplus"), "").unwrap();
    stripped.delete = Delete::Surplus;
    let report = alone(&(), |ctx| place.repo.repository.restore(&snapshot, &place.target, &stripped, ctx));
    assert_eq!(complete(report.unwrap()).deleted, 1);
}
