use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::atomic::Ordering;

use rustix::fs::makedev;
use rustix::process::geteuid;

use super::{Area, assert_problems, entry};
use crate::error::ErrorKind;
use crate::restore::target::special::SkipReason;
use crate::restore::target::{MetadataPart, Outcome, Target, TargetOptions};
use crate::tree::{Entry, EntryKind, Metadata};

#[test]
fn planted_symbolic_links_are_never_followed() {
    let area = Area::new();
    area.plant("victim/precious", "precious");
    area.plant("victim/sub/precious", "precious");
    symlink(area.path("victim"), area.path("root/parent")).unwrap();
    symlink(area.path("victim/precious"), area.path("root/file")).unwrap();
    symlink(area.path("victim"), area.path("root/dir")).unwrap();
    symlink(area.path("victim/new"), area.path("root/dangling")).unwrap();
    symlink(area.path("victim/precious"), area.path("root/pipe")).unwrap();
    let before = area.picture("victim");

    for has_openat2 in [true, false] {
        let target = area.target();
        target.root.shared.has_openat2.store(has_openat2, Ordering::Relaxed);
        for path in [&["parent"][..], &["parent", "sub"], &["dir", "x", "y"]] {
            let error = target.open_dir(path).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Destination);
        }
    }
    let target = area.target();
    let root = target.root();
    root.create_file(b"file").unwrap().write_all(b"restored").unwrap();
    root.create_file(b"dangling").unwrap();
    root.make_dir(b"dir").unwrap();
    root.open_dir(b"dir").unwrap().create_file(b"precious").unwrap().write_all(b"restored").unwrap();
    root.create_special(b"pipe", &entry("pipe", EntryKind::Fifo)).unwrap();
    // Finishing the link itself: its owner and times, not those of what it points to.
    let link = entry("parent", EntryKind::Symlink(b"victim".to_vec()));
    assert_problems(root.finish_path(b"parent", &link), &[]);
    // A file that is replaced by a link between its making and its reopening.
    fs::remove_file(area.path("root/file")).unwrap();
    symlink(area.path("victim/precious"), area.path("root/file")).unwrap();
    assert!(root.reopen_file(b"file").is_err());
    let pipe = entry("file", EntryKind::Fifo);
    assert_problems(root.finish_path(b"file", &pipe), &[MetadataPart::All]);
    root.hard_link(b"linked", root, b"file").unwrap();
    assert!(fs::symlink_metadata(area.path("root/linked")).unwrap().is_symlink());

    assert_eq!(area.picture("victim"), before);
    assert_eq!(fs::symlink_metadata(area.path("root/parent")).unwrap().mtime(), 1_600_000_000);
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let area = Area::new();
    area.plant("victim/file", "precious");
    let target = area.target();
    let root = target.root();
    let long = vec![b'n'; 256];
    let names: [&[u8]; 8] = [b"", b".", b"..", b"/", b"a/b", b"../victim", b"a\0b", &long];
    for name in names {
        let special = Entry::new(name, EntryKind::Fifo, Metadata::default());
        for error in [
            target.open_dir(&[name]).unwrap_err(),
            target.open_dir(&[b"x", name]).unwrap_err(),
            root.make_dir(name).unwrap_err(),
            root.create_file(name).unwrap_err(),
            root.reopen_file(name).unwrap_err(),
            root.create_special(&special.name, &special).unwrap_err(),
            root.hard_link(name, root, b"x").unwrap_err(),
            root.hard_link(b"x", root, name).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::Destination);
        }
        assert_problems(root.finish_path(name, &special), &[MetadataPart::All]);
    }
    assert!(area.picture("root").is_empty());
}

#[test]
fn what_is_there_is_replaced_except_directories() {
    let area = Area::new();
    area.plant("root/old", "old");
    fs::hard_link(area.path("root/old"), area.path("root/second name")).unwrap();
    area.plant("root/dir/kept", "kept");
    area.plant("root/blocks", "a file where a directory is to be");
    fs::set_permissions(area.path("root/dir"), fs::Permissions::from_mode(0o550)).unwrap();

    let target = area.target();
    let root = target.root();
    root.create_file(b"old").unwrap().write_all(b"new").unwrap();
    assert_eq!(fs::read(area.path("root/second name")).unwrap(), b"old", "the inode is a new one");
    assert_eq!(fs::metadata(area.path("root/old")).unwrap().mode() & 0o7777, 0o1600);
    assert_eq!(root.create_file(b"dir").unwrap_err().kind(), ErrorKind::Destination);
    assert!(root.create_special(b"dir", &entry("dir", EntryKind::Symlink(b"x".to_vec()))).is_err());
    root.make_dir(b"dir").unwrap();
    assert_eq!(fs::metadata(area.path("root/dir")).unwrap().mode() & 0o7777, 0o750);
    assert_eq!(fs::read(area.path("root/dir/kept")).unwrap(), b"kept");
    root.make_dir(b"blocks").unwrap();
    root.create_special(b"old", &entry("old", EntryKind::Symlink(b"any\xff".to_vec()))).unwrap();
    assert_eq!(fs::read_link(area.path("root/old")).unwrap().as_os_str().as_bytes(), b"any\xff");
}

#[test]
fn files_are_reopened_unless_they_have_names_elsewhere() {
    let area = Area::new();
    let target = area.target();
    let root = target.root();
    let file = root.create_file(b"file").unwrap();
    file.set_len(1 << 20).unwrap();
    drop(file);
    root.reopen_file(b"file").unwrap().write_all(b"data").unwrap();
    assert_eq!(fs::metadata(area.path("root/file")).unwrap().len(), 1 << 20);
    root.hard_link(b"other", root, b"file").unwrap();
    root.hard_link(b"other", root, b"file").unwrap();
    root.hard_link(b"file", root, b"file").unwrap();
    assert_eq!(fs::metadata(area.path("root/other")).unwrap().nlink(), 2);
    assert!(root.reopen_file(b"file").is_err());
    root.create_special(b"pipe", &entry("pipe", EntryKind::Fifo)).unwrap();
    assert!(root.reopen_file(b"pipe").is_err());
    assert!(root.hard_link(b"x", root, b"absent").is_err());
    target.sync_all().unwrap();
}

#[test]
fn no_path_is_too_long() {
    const LEVELS: usize = 300;
    let area = Area::new();
    let target = area.target();
    let name = [b'd'; 250];
    let mut dir = target.root().clone();
    for _ in 0..LEVELS {
        dir.make_dir(&name).unwrap();
        dir = dir.open_dir(&name).unwrap();
    }
    dir.create_file(b"file").unwrap();
    let path = vec![name; LEVELS];
    for has_openat2 in [true, false] {
        target.root.shared.has_openat2.store(has_openat2, Ordering::Relaxed);
        let bottom = target.open_dir(&path).unwrap();
        bottom.reopen_file(b"file").unwrap();
        assert!(target.open_dir::<&[u8]>(&[]).unwrap().open_dir(&name).is_ok());
    }
}

#[test]
fn devices_are_made_by_root_alone_and_only_where_wanted() {
    let area = Area::new();
    let target = area.target();
    let root = target.root();
    area.plant("root/null", "stays unless it is replaced");
    let mut device = entry("null", EntryKind::CharacterDevice(makedev(1, 3)));
    device.metadata.mode = 0o666;
    let no_specials = TargetOptions { specials: false, ..TargetOptions::default() };
    let without = Target::create(&area.path("root"), no_specials).unwrap();
    assert_eq!(
        without.root().create_special(&device.name, &device).unwrap(),
        Outcome::Skipped(SkipReason::NotWanted)
    );
    match root.create_special(&device.name, &device).unwrap() {
        Outcome::Made => {
            let stat = fs::symlink_metadata(area.path("root/null")).unwrap();
            assert_eq!((stat.rdev(), stat.mode() & 0o7777), (makedev(1, 3), 0o600));
            assert_problems(root.finish_path(b"null", &device), &[]);
            assert_eq!(fs::symlink_metadata(area.path("root/null")).unwrap().mode() & 0o7777, 0o666);
            let other = entry("null", EntryKind::CharacterDevice(makedev(1, 5)));
            assert_problems(root.finish_path(b"null", &other), &[MetadataPart::All]);
        }
        skipped => {
            assert_eq!(skipped, Outcome::Skipped(SkipReason::NeedsRoot));
            assert!(area.path("root/null").is_file() || geteuid().is_root());
        }
    }
    if geteuid().is_root() {
        let wide = entry("wide", EntryKind::BlockDevice(1 << 40));
        assert_eq!(
            root.create_special(&wide.name, &wide).unwrap(),
            Outcome::Skipped(SkipReason::DeviceNumber)
        );
    }
}

#[test]
fn the_root_is_made_and_may_be_reached_through_links() {
    let area = Area::new();
    Target::create(&area.path("new/deep/root"), TargetOptions::default()).unwrap();
    assert_eq!(fs::metadata(area.path("new/deep/root")).unwrap().mode() & 0o777, 0o700);
    symlink("new", area.path("link")).unwrap();
    let target = Target::create(&area.path("link/deep"), TargetOptions::default()).unwrap();
    target.root().create_file(b"file").unwrap();
    assert!(area.path("new/deep/file").is_file());
    area.plant("file", "");
    let error = Target::create(&area.path("file"), TargetOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Destination);
}
