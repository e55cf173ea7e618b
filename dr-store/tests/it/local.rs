//! What is special of a store in a folder: modes, leftovers, links.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dr_store::{LocalStore, Payload, PutMode, Store, StoreErrorKind};

use crate::{listed, name};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn mode_of(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
}

/// Every path below `folder` with its mode.
fn modes_below(folder: &Path) -> Vec<(String, u32)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        // The other thread may have removed it.
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        found.push((path.to_str().unwrap().to_owned(), metadata.permissions().mode() & 0o777));
        if metadata.is_dir() {
            found.extend(modes_below(&path));
        }
    }
    found
}

fn make_old(path: &Path, age: Duration) {
    let file = File::options().write(true).open(path).unwrap();
    let now = file.metadata().unwrap().modified().unwrap();
    file.set_times(FileTimes::new().set_modified(now - age)).unwrap();
}

#[test]
fn folders_and_files_are_private() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("host").join("store");
    let store = LocalStore::create(&root).unwrap();
    store.put(&name("config"), Payload::from("x"), PutMode::Create).unwrap();
    store.put(&name("data/00/pack"), Payload::from("x"), PutMode::Create).unwrap();
    store.put(&name("data/00/pack"), Payload::from("y"), PutMode::Replace).unwrap();
    assert_eq!(mode_of(&folder.path().join("host")), 0o700);
    assert_eq!(mode_of(&root), 0o700);
    let modes = modes_below(&root);
    assert_eq!(modes.len(), 4, "{modes:?}");
    for (path, mode) in modes {
        assert_eq!(mode, if Path::new(&path).is_dir() { 0o700 } else { 0o600 }, "{path}");
    }
}

#[test]
fn nobody_else_can_read_an_object_at_any_time_where_the_root_is_open() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::set_permissions(root, Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(root.join("old")).unwrap();
    fs::set_permissions(root.join("old"), Permissions::from_mode(0o755)).unwrap();
    let store = LocalStore::create(root).unwrap();
    assert_eq!(mode_of(root), 0o755, "a folder that existed keeps its mode");

    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                for (path, mode) in modes_below(root) {
                    let is_reachable = !path.contains("/STAGING/") && !path.contains("/new/");
                    assert!(!is_reachable || path.ends_with("/old") || mode & 0o077 == 0, "{path}: {mode:o}");
                }
            }
        });
        for index in 0..40 {
            for text in [format!("top{index}"), format!("old/{index}"), format!("new/{index}")] {
                store.put(&name(&text), Payload::from(vec![7; 100_000]), PutMode::Create).unwrap();
                store.put(&name(&text), Payload::from("x"), PutMode::Replace).unwrap();
                let again = store.put(&name(&text), Payload::from("y"), PutMode::Create).unwrap_err();
                assert_eq!(again.kind(), StoreErrorKind::AlreadyExists);
            }
        }
        done.store(true, Ordering::SeqCst);
        watcher.join().unwrap();
    });
    assert_eq!(listed(&store).len(), 120);
    assert_eq!(fs::read_dir(root.join("STAGING")).unwrap().count(), 0);
    assert_eq!(mode_of(&root.join("STAGING")), 0o700);
    for (path, mode) in modes_below(root) {
        assert!(path.ends_with("/old") || mode & 0o077 == 0, "{path}: {mode:o}");
    }
}

#[test]
fn only_old_staging_files_are_swept() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::create(folder.path()).unwrap();
    for text in ["config", "data/00/pack"] {
        store.put(&name(text), Payload::from("x"), PutMode::Create).unwrap();
    }
    fs::create_dir_all(folder.path().join("STAGING")).unwrap();
    fs::create_dir_all(folder.path().join("Foreign")).unwrap();
    let old =
        ["config#1", "data/00/pack#12", "scratch-7-7#1", "STAGING/scratch-1-1", "STAGING/scratch-1-1#1"];
    // Among them other people's files, whose names only look alike.
    let kept =
        ["Notes#1", "data/00/x#", "data/00/pack#1a", "x#2~", "Foreign/y#1", "thesis.txt#1", "STAGING/photo"];
    let is_name = |name: &str| ["config", "data/00/pack", "young"].contains(&name);
    for file in old.iter().chain(&kept) {
        fs::write(folder.path().join(file), "x").unwrap();
        make_old(&folder.path().join(file), 2 * DAY);
    }
    fs::write(folder.path().join("young#1"), "x").unwrap();
    assert_eq!(listed(&store), ["config", "data/00/pack"], "leftovers are listed");
    assert_eq!(store.list_folder("").unwrap().folders, ["data"]);

    assert_eq!(store.sweep_staging(3 * DAY, &is_name).unwrap(), 0);
    assert_eq!(store.sweep_staging(DAY, &is_name).unwrap(), old.len() as u64);
    for file in old {
        assert!(!folder.path().join(file).exists(), "{file} was kept");
    }
    for file in kept.iter().chain(&["young#1", "config", "data/00/pack"]) {
        assert!(folder.path().join(file).exists(), "{file} was removed");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().filter(|f| is_scratch(f.as_ref().unwrap())).count(), 0);
}

fn is_scratch(entry: &fs::DirEntry) -> bool {
    entry.file_name().to_str().unwrap().starts_with("scratch-")
}

#[test]
fn opening_sweeps_nothing_and_a_leftover_does_not_stop_a_put() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("config#1"), "old").unwrap();
    fs::write(folder.path().join("config#2"), "young").unwrap();
    make_old(&folder.path().join("config#1"), 2 * DAY);
    let store = LocalStore::open(folder.path()).unwrap();
    assert!(folder.path().join("config#1").exists() && folder.path().join("config#2").exists());
    store.put(&name("config"), Payload::from("x"), PutMode::Create).unwrap();
    assert_eq!(store.get(&name("config")).unwrap(), "x");
    assert_eq!(store.sweep(&|name| name == "config").unwrap(), 1);
    assert!(!folder.path().join("config#1").exists() && folder.path().join("config#2").exists());
}

#[test]
fn links_and_pipes_are_no_objects() {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "x").unwrap();
    let root = folder.path().join("store");
    let store = LocalStore::create(&root).unwrap();
    store.put(&name("data/pack"), Payload::from("x"), PutMode::Create).unwrap();
    symlink(&outside, root.join("linked")).unwrap();
    symlink(&root, root.join("data/loop")).unwrap();
    symlink(outside.join("secret"), root.join("data/link")).unwrap();
    symlink("nowhere", root.join("data/dangling")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("data/pipe"), rustix::fs::Mode::RUSR).unwrap();

    assert_eq!(listed(&store), ["data/pack"]);
    assert_eq!(store.list_folder("").unwrap().folders, ["data"]);
    let level = store.list_folder("data").unwrap();
    assert!(level.folders.is_empty() && level.objects.len() == 1, "{level:?}");
    assert!(store.list_folder("linked").unwrap().objects.is_empty());
    store.list("linked", None, &mut |object| panic!("{object:?} was visited")).unwrap();
    for text in ["data/link", "data/dangling", "data/pipe", "data/loop"] {
        assert_eq!(store.get(&name(text)).unwrap_err().kind(), StoreErrorKind::NotFound, "get {text}");
        assert_eq!(store.stat(&name(text)).unwrap_err().kind(), StoreErrorKind::NotFound, "stat {text}");
        assert_eq!(store.delete(&name(text)).unwrap_err().kind(), StoreErrorKind::NotFound, "delete {text}");
    }
    let put = store.put(&name("linked/new"), Payload::from("x"), PutMode::Create).unwrap_err();
    assert_eq!(put.kind(), StoreErrorKind::InvalidInput);
    assert!(!outside.join("new").exists());
}

#[test]
fn opening_needs_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing");
    assert_eq!(LocalStore::open(&missing).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert!(!missing.exists());
    let file = folder.path().join("file");
    fs::write(&file, "x").unwrap();
    assert_eq!(LocalStore::open(&file).unwrap_err().kind(), StoreErrorKind::InvalidInput);
    assert_eq!(LocalStore::create(&file).unwrap_err().kind(), StoreErrorKind::InvalidInput);
}

#[test]
fn the_probe_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let store = LocalStore::create(folder.path()).unwrap();
    store.probe_hard_links().unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_put_into_a_replaced_root_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("store");
    let store = LocalStore::create(&root).unwrap();
    store.put(&name("data/pack"), Payload::from("x"), PutMode::Create).unwrap();
    fs::rename(&root, folder.path().join("moved")).unwrap();
    fs::create_dir(&root).unwrap();
    let error = store.put(&name("data/other"), Payload::from("x"), PutMode::Create).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Other);
    assert_eq!(fs::read_dir(&root).unwrap().count(), 0);
}
