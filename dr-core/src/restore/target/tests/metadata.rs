use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, llistxattr, lsetxattr};
use rustix::process::geteuid;

use super::{Area, assert_problems, entry};
use crate::restore::target::{MetadataPart, Outcome, Target, TargetOptions};
use crate::time::Timestamp;
use crate::tree::{Entry, EntryKind, FileContent, Metadata, Stream, Xattr};

#[test]
fn modes_and_times_are_exact() {
    let area = Area::new();
    let target = area.target();
    let root = target.root();
    let mut made = entry("file", EntryKind::File(FileContent::default()));
    made.metadata.mode = 0o6751;
    made.metadata.modified = Timestamp { seconds: -7, nanoseconds: 123_456_789 };
    made.metadata.accessed = Some(Timestamp { seconds: 1_700_000_000, nanoseconds: 1 });
    let file = root.create_file(b"file").unwrap();
    assert_problems(root.finish_file(&file, &made), &[]);
    let stat = file.metadata().unwrap();
    assert_eq!(stat.mode() & 0o7777, 0o6751);
    assert_eq!((stat.mtime(), stat.mtime_nsec()), (-7, 123_456_789));
    assert_eq!((stat.atime(), stat.atime_nsec()), (1_700_000_000, 1));

    root.make_dir(b"dir").unwrap();
    let dir = root.open_dir(b"dir").unwrap();
    dir.create_file(b"child").unwrap();
    let mut made = entry("dir", EntryKind::Directory(Stream::default()));
    made.metadata.mode = 0o3751;
    // Hostile: this number of nanoseconds is UTIME_OMIT.
    made.metadata.modified.nanoseconds = 0x3fff_fffe;
    assert_problems(dir.finish_dir(&made), &[]);
    let stat = fs::metadata(area.path("root/dir")).unwrap();
    assert_eq!((stat.mode() & 0o7777, stat.mtime_nsec()), (0o3751, 999_999_999));

    for (name, kind) in [("pipe", EntryKind::Fifo), ("socket", EntryKind::Socket)] {
        let mut made = entry(name, kind);
        made.metadata.mode = 0o640;
        assert_eq!(root.create_special(&made.name, &made).unwrap(), Outcome::Made);
        assert_problems(root.finish_path(name.as_bytes(), &made), &[]);
        let stat = fs::symlink_metadata(area.path("root").join(name)).unwrap();
        assert_eq!((stat.mode() & 0o7777, stat.mtime()), (0o640, 1_600_000_000));
    }
}

#[test]
fn owners_are_given_back_before_modes() {
    let area = Area::new();
    let target = area.target();
    let root = target.root();
    let mut made = entry("file", EntryKind::File(FileContent::default()));
    (made.metadata.mode, made.metadata.uid, made.metadata.gid) = (0o6755, 12_345, 54_321);
    made.metadata.user = Some("no such user".into());
    let file = root.create_file(b"file").unwrap();
    if !geteuid().is_root() {
        assert_problems(root.finish_file(&file, &made), &[MetadataPart::Owner]);
        assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o755);
        return;
    }
    assert_problems(root.finish_file(&file, &made), &[]);
    let stat = file.metadata().unwrap();
    assert_eq!((stat.uid(), stat.gid(), stat.mode() & 0o7777), (12_345, 54_321, 0o6755));

    made.metadata.user = Some("root".into());
    assert_problems(root.finish_file(&file, &made), &[]);
    assert_eq!(file.metadata().unwrap().uid(), 0, "the name counts");
    made.metadata.uid = u32::MAX;
    made.metadata.user = None;
    assert_problems(root.finish_file(&file, &made), &[MetadataPart::Owner]);
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o755, "nobody's program, but not set-user-id");

    let numeric = TargetOptions { numeric_ids: true, ..TargetOptions::default() };
    let root = Target::create(&area.path("root"), numeric).unwrap().root;
    let mut link = entry("link", EntryKind::Symlink(b"nowhere".to_vec()));
    (link.metadata.uid, link.metadata.user) = (12_345, Some("root".into()));
    root.create_special(&link.name, &link).unwrap();
    assert_problems(root.finish_path(b"link", &link), &[]);
    assert_eq!(fs::symlink_metadata(area.path("root/link")).unwrap().uid(), 12_345);

    let without = TargetOptions { owners: false, ..TargetOptions::default() };
    let root = Target::create(&area.path("root"), without).unwrap().root;
    let file = root.create_file(b"file").unwrap();
    made.metadata.uid = 12_345;
    assert_problems(root.finish_file(&file, &made), &[MetadataPart::Owner]);
    assert_eq!((file.metadata().unwrap().uid(), file.metadata().unwrap().mode() & 0o7777), (0, 0o755));
}

#[test]
fn attributes_are_given_and_foreign_ones_removed() {
    let area = Area::new();
    let target = area.target();
    let root = target.root();
    root.make_dir(b"dir").unwrap();
    let path = area.path("root/dir");
    if lsetxattr(&path, "user.old", b"x", XattrFlags::empty()).is_err() {
        println!("skipping: {} has no extended attributes", path.display());
        return;
    }
    // A default ACL of the kept directory, which new entries inherit: user 4242 may do anything.
    let inherited =
        acl(&[(1, 7, u32::MAX), (2, 7, 4242), (4, 5, u32::MAX), (16, 7, u32::MAX), (32, 5, u32::MAX)]);
    lsetxattr(&path, "system.posix_acl_default", &inherited, XattrFlags::empty()).unwrap();

    let dir = root.open_dir(b"dir").unwrap();
    let mut made = entry("file", EntryKind::File(FileContent::default()));
    made.metadata.mode = 0o440;
    let file = dir.create_file(b"file").unwrap();
    assert!(names(&path.join("file")).contains("system.posix_acl_access"));
    made.metadata.xattrs = vec![xattr("user.a", b"1"), xattr("user.long", &[9; 2000])];
    assert_problems(dir.finish_file(&file, &made), &[]);
    assert_eq!(user_names(&path.join("file")), "user.a user.long ");
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o440);

    // The mode's group bits are the ACL's mask.
    let access =
        acl(&[(1, 6, u32::MAX), (2, 4, 4242), (4, 0, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]);
    let file = dir.create_file(b"acl").unwrap();
    made.metadata.mode = 0o640;
    made.metadata.xattrs = vec![xattr("system.posix_acl_access", &access), xattr("user.a", b"1")];
    assert_problems(dir.finish_file(&file, &made), &[]);
    assert_eq!(value(&path.join("acl"), "system.posix_acl_access"), access);
    assert_eq!(file.metadata().unwrap().mode() & 0o7777, 0o640);

    let mut kept = entry("dir", EntryKind::Directory(Stream::default()));
    kept.metadata.mode = 0o755;
    kept.metadata.xattrs = vec![xattr("user.new", b"n")];
    assert_problems(dir.finish_dir(&kept), &[]);
    assert_eq!(user_names(&path), "user.new ");

    made.metadata.xattrs = vec![xattr("nonsense", b""), xattr("user.z", b"z")];
    assert_problems(dir.finish_file(&file, &made), &[MetadataPart::Xattr(b"nonsense".to_vec())]);
    let capability =
        xattr("security.capability", &[1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let trusted = xattr("trusted.t", b"t");
    made.metadata.xattrs = vec![capability.clone(), trusted.clone()];
    if geteuid().is_root() {
        // Given after the owner, whose change would clear it.
        made.metadata.uid = 12_345;
        assert_problems(dir.finish_file(&file, &made), &[]);
        assert_eq!(value(&path.join("acl"), "security.capability"), capability.value);
        let link = Entry { kind: EntryKind::Symlink(b"acl".to_vec()), name: b"link".to_vec(), ..made };
        let link = Entry { metadata: Metadata { xattrs: vec![trusted], ..link.metadata }, ..link };
        dir.create_special(&link.name, &link).unwrap();
        assert_problems(dir.finish_path(b"link", &link), &[]);
        assert_eq!(value(&path.join("link"), "trusted.t"), b"t");
    } else {
        let parts = [&capability, &trusted].map(|xattr| MetadataPart::Xattr(xattr.name.clone()));
        assert_problems(dir.finish_file(&file, &made), &parts);
    }
}

fn xattr(name: &str, value: &[u8]) -> Xattr {
    Xattr { name: name.into(), value: value.to_vec() }
}

/// An ACL as the kernel takes it, of (tag, permissions, id).
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&permissions.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

fn value(path: &Path, name: &str) -> Vec<u8> {
    let mut buffer = [0; 4096];
    let bytes = lgetxattr(path, name, &mut buffer).unwrap();
    buffer[..bytes].to_vec()
}

fn names(path: &Path) -> String {
    let mut buffer = [0; 4096];
    let bytes = llistxattr(path, &mut buffer).unwrap();
    String::from_utf8(buffer[..bytes].to_vec()).unwrap().replace('\0', " ")
}

/// Without what the system itself may attach.
fn user_names(path: &Path) -> String {
    let names = names(path);
    let kept = names.split_inclusive(' ').filter(|name| !name.starts_with("security."));
    let mut kept: Vec<_> = kept.collect();
    kept.sort_unstable();
    kept.concat()
}
