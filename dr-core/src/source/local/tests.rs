use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

use rustix::fs::{FileType, XattrFlags, lsetxattr, mkdirat, mknodat};
use tempfile::TempDir;

use super::*;
use crate::source::SourceItem;
use crate::tree::{Entry, EntryKind, Extent, Xattr};

#[test]
fn entries_are_sorted_by_bytes_and_carry_their_metadata() {
    let dir = TempDir::new().unwrap();
    let odd = OsString::from_vec(b"caf\xe9 \x01\xff".to_vec());
    for name in ["b".into(), "a".into(), "B".into(), "a b".into(), odd, OsString::from("\u{e9}")] {
        fs::write(dir.path().join(name), "12345").unwrap();
    }
    fs::create_dir(dir.path().join("dir")).unwrap();
    fs::set_permissions(dir.path().join("a"), fs::Permissions::from_mode(0o4751)).unwrap();

    let listed = list(&*open_dir(dir.path()));
    let names: Vec<_> = listed.iter().map(|entry| entry.name.clone()).collect();
    let expected: [&[u8]; 7] = [b"B", b"a", b"a b", b"b", b"caf\xe9 \x01\xff", b"dir", "\u{e9}".as_bytes()];
    assert_eq!(names, expected);

    let found = find(&listed, b"a");
    let stat = fs::symlink_metadata(dir.path().join("a")).unwrap();
    assert!(matches!(&found.kind, EntryKind::File(content) if content.bytes == 5));
    assert_eq!((found.metadata.mode, found.metadata.uid), (0o4751, stat.uid()));
    assert_eq!(
        (found.metadata.device, found.metadata.inode, found.metadata.links),
        (stat.dev(), stat.ino(), 1)
    );
    assert_eq!(found.metadata.modified.as_nanoseconds(), nanoseconds(stat.mtime(), stat.mtime_nsec()));
    assert_eq!(found.metadata.changed.as_nanoseconds(), nanoseconds(stat.ctime(), stat.ctime_nsec()));
    assert_eq!(found.metadata.accessed, None);
    if stat.uid() == 0 {
        assert_eq!(found.metadata.user.as_deref(), Some("root"));
    }
    assert!(find(&listed, b"dir").is_directory());
}

#[test]
fn the_same_directory_can_be_listed_again_and_by_many_threads() {
    let dir = TempDir::new().unwrap();
    for i in 0..2000 {
        fs::write(dir.path().join(format!("a rather long name, for several reads {i}")), "").unwrap();
    }
    let open = open_dir(dir.path());
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert_eq!(list(&*open).len(), 2000));
        }
    });
}

#[test]
fn access_times_are_recorded_on_request_and_not_changed() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "x").unwrap();
    let path = dir.path().join("file");
    let old = std::time::UNIX_EPOCH + std::time::Duration::new(1, 234_567_891);
    let times = fs::FileTimes::new().set_accessed(old);
    File::options().write(true).open(&path).unwrap().set_times(times).unwrap();

    let tree = LocalTree::open(
        std::slice::from_ref(&path),
        LocalTreeOptions { with_atime: true, ..Default::default() },
    )
    .unwrap();
    let parent = descend(&tree, dir.path());
    let file = parent.open_file(b"file").unwrap();
    file.read_at(&mut [0; 1], 0).unwrap();
    let entry = file.entry().unwrap();
    assert_eq!(entry.metadata.accessed.unwrap().as_nanoseconds(), 1_234_567_891);
}

#[test]
fn a_named_symbolic_link_is_recorded_and_a_link_on_the_way_is_followed() {
    let dir = TempDir::new().unwrap();
    fs::create_dir_all(dir.path().join("real/sub")).unwrap();
    fs::write(dir.path().join("real/sub/file"), "content").unwrap();
    symlink("real", dir.path().join("link")).unwrap();

    let tree = open(&[dir.path().join("link")]);
    let parent = descend(&tree, dir.path());
    let mut entry = only(&*parent);
    assert!(matches!(entry.kind, EntryKind::Symlink(_)));
    parent.complete(&mut entry).unwrap();
    assert_eq!(entry.kind, EntryKind::Symlink(b"real".to_vec()));
    assert!(parent.open_directory(b"link").is_err());

    let tree = open(&[dir.path().join("link/sub")]);
    assert_eq!(tree.paths(), [dir.path().join("link/sub")]);
    let parent = descend(&tree, dir.path());
    let mut entry = only(&*parent);
    assert!(entry.name == b"link" && entry.is_directory());
    assert_eq!(entry.metadata.inode, fs::metadata(dir.path().join("real")).unwrap().ino());
    parent.complete(&mut entry).unwrap();
    assert_eq!(only(&*descend(&tree, &dir.path().join("link/sub"))).name, b"file");
}

#[test]
fn several_paths_share_their_ancestors_and_nested_ones_are_one() {
    let dir = TempDir::new().unwrap();
    for path in ["a/one", "a/two", "a/three", "b/c/d", "unnamed"] {
        fs::create_dir_all(dir.path().join(path)).unwrap();
        fs::write(dir.path().join(path).join("file"), path).unwrap();
    }
    let path = |name: &str| dir.path().join(name);
    let named = [
        path("b/c/d"),
        path("a/two"),
        path("b"),
        path("a/./x/../one/file"),
        path("b/c/d"),
        path("a/one/file/"),
    ];
    let tree = open(&named);
    assert_eq!(tree.paths(), [path("b/c/d"), path("a/two"), path("b"), path("a/one/file")]);
    assert!(tree.missing().is_empty());

    let top = descend(&tree, dir.path());
    assert_eq!(names(&*top), ["a", "b"]);
    assert!(top.open_directory(b"unnamed").is_err());
    let a = top.open_directory(b"a").unwrap();
    assert_eq!(names(&*a), ["one", "two"]);
    let mode = find(&list(&*top), b"a").metadata.mode;
    assert_eq!(mode, fs::metadata(path("a")).unwrap().mode() & 0o7777);
    let one = a.open_directory(b"one").unwrap();
    assert_eq!(names(&*one), ["file"]);
    assert_eq!(read(&*one, b"file"), b"a/one");
    assert_eq!(names(&*a.open_directory(b"two").unwrap()), ["file"]);
    assert_eq!(names(&*top.open_directory(b"b").unwrap()), ["c"]);
    assert_eq!(names(&*descend(&tree, &path("b/c/d"))), ["file"]);
}

#[test]
fn the_topmost_directory_may_be_named() {
    let tree = open(&["/".into(), "/proc".into()]);
    let root = tree.open_root().unwrap();
    let present = fs::read_dir("/").unwrap().count();
    assert_eq!(root.entries().unwrap().len(), present);
    assert_eq!(tree.paths(), [PathBuf::from("/"), PathBuf::from("/proc")]);
}

#[test]
fn what_is_not_there_is_reported() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    let absent = [dir.path().join("absent"), dir.path().join("file/below")];
    let tree = open(&[absent[0].clone(), absent[1].clone(), dir.path().join("file")]);
    let missing = tree.missing();
    assert_eq!(missing.len(), 2);
    assert_eq!((&missing[0].0, missing[0].1.kind()), (&absent[0], io::ErrorKind::NotFound));
    assert_eq!((&missing[1].0, missing[1].1.kind()), (&absent[1], io::ErrorKind::NotADirectory));
    assert_eq!(names(&*descend(&tree, dir.path())), ["file"]);

    let none = open(&absent[..1]);
    assert!(none.open_root().unwrap().entries().unwrap().is_empty());
    let nothing = LocalTree::open(&[], LocalTreeOptions::default()).unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::InvalidInput);
    assert!(LocalTree::open(&["".into()], LocalTreeOptions::default()).is_err());

    // Named and there at first, but gone when it is listed.
    fs::remove_file(dir.path().join("file")).unwrap();
    let items = descend(&tree, dir.path()).entries().unwrap();
    assert_eq!(items[0].entry.as_ref().unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn relative_paths_start_at_the_working_directory() {
    let working = std::env::current_dir().unwrap();
    let tree = open(&["./x/..".into(), "src".into()]);
    assert_eq!(tree.paths(), [working.clone(), working.join("src")]);
    assert_eq!(absolute(Path::new("/../../a/../b")).unwrap(), [b"b".to_vec()]);
}

#[test]
fn opening_never_blocks_and_never_follows() {
    let dir = TempDir::new().unwrap();
    let fd = File::open(dir.path()).unwrap();
    mknodat(&fd, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
    mknodat(&fd, "socket", FileType::Socket, Mode::RWXU, 0).unwrap();
    symlink("/etc/passwd", dir.path().join("link")).unwrap();
    symlink("/etc", dir.path().join("dirlink")).unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();

    let open = open_dir(dir.path());
    for name in ["pipe", "socket", "link", "dir"] {
        let error = open.open_file(name.as_bytes()).unwrap_err();
        assert_eq!(error.to_string(), "is no longer a regular file", "{name}");
        assert_eq!(error.kind(), io::ErrorKind::Other);
    }
    assert_eq!(open.open_file(b"absent").unwrap_err().kind(), io::ErrorKind::NotFound);
    assert!(open.open_directory(b"dirlink").is_err());
    let mut listed = list(&*open);
    assert_eq!(find(&listed, b"pipe").kind, EntryKind::Fifo);
    assert_eq!(find(&listed, b"socket").kind, EntryKind::Socket);
    listed.iter_mut().for_each(|entry| open.complete(entry).unwrap());
    assert_eq!(find(&listed, b"link").kind, EntryKind::Symlink(b"/etc/passwd".to_vec()));
}

#[test]
fn a_file_behind_a_lease_is_opened_only_where_it_is_a_file() {
    let dir = TempDir::new().unwrap();
    let fd = File::open(dir.path()).unwrap();
    mknodat(&fd, "pipe", FileType::Fifo, Mode::RWXU, 0).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    fs::write(dir.path().join("file"), "content").unwrap();
    assert!(file::open_leased(fd.as_fd(), b"pipe").is_err());
    assert!(file::open_leased(fd.as_fd(), b"link").is_err());
    let open = File::from(file::open_leased(fd.as_fd(), b"file").unwrap());
    assert_eq!(io::read_to_string(open).unwrap(), "content");
}

#[test]
fn holes_are_found() {
    const MIB: u64 = 1 << 20;
    let shared_memory = PathBuf::from("/dev/shm");
    for parent in [std::env::temp_dir(), shared_memory].iter().filter(|parent| parent.is_dir()) {
        let dir = TempDir::new_in(parent).unwrap();
        let make = |name: &str, bytes: u64| {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_len(bytes).unwrap();
            file
        };
        make("holes", 8 * MIB).write_all_at(&[7; 100], 4 * MIB).unwrap();
        make("all hole", 3 * MIB);
        make("empty", 0);
        make("data", 0).write_all_at(&[7; 10_000], 0).unwrap();

        let open = open_dir(dir.path());
        let extents = |name: &str, bytes| open.open_file(name.as_bytes()).unwrap().extents(bytes).unwrap();
        if extents("all hole", 3 * MIB).is_none() {
            println!("skipping: {} does not tell of holes", parent.display());
            continue;
        }
        assert_eq!(extents("all hole", 3 * MIB), Some(vec![]));
        let found = extents("holes", 8 * MIB).unwrap();
        assert!(
            matches!(found[..], [Extent { offset, bytes }] if offset == 4 * MIB && (100..=MIB).contains(&bytes))
        );
        assert_eq!(extents("holes", 4 * MIB + 50), Some(vec![Extent { offset: 4 * MIB, bytes: 50 }]));
        assert_eq!(extents("holes", 4 * MIB), Some(vec![]));
        assert_eq!(extents("empty", 0), None);
        assert_eq!(extents("data", 10_000), None);
        assert_eq!(open.open_file(b"holes").unwrap().read_at(&mut [0; 10], 8 * MIB).unwrap(), 0);
    }
}

#[test]
fn extended_attributes_are_read_by_name_and_from_open_files() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("file"), "").unwrap();
    fs::create_dir(dir.path().join("dir")).unwrap();
    symlink("file", dir.path().join("link")).unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        lsetxattr(dir.path().join(name), attribute, value, XattrFlags::empty())
    };
    if set("file", "user.z", b"last") == Err(Errno::OPNOTSUPP) {
        println!("skipping: {} has no extended attributes", dir.path().display());
        return;
    }
    // Longer than the first buffer; the inode of ext4 may not have room for it, but a block has.
    let long = vec![7; 3000];
    set("file", "user.a", &long).unwrap();
    set("file", "user.empty", b"").unwrap();
    set("dir", "user.d", b"of a directory").unwrap();

    let open = open_dir(dir.path());
    let mut listed = list(&*open);
    listed.iter_mut().for_each(|entry| open.complete(entry).unwrap());
    let user = |entry: &Entry| -> Vec<Xattr> {
        entry.metadata.xattrs.iter().filter(|xattr| xattr.name.starts_with(b"user.")).cloned().collect()
    };
    let xattr = |name: &str, value: &[u8]| Xattr { name: name.into(), value: value.to_vec() };
    let expected = [xattr("user.a", &long), xattr("user.empty", b""), xattr("user.z", b"last")];
    assert_eq!(user(find(&listed, b"file")), expected);
    let file = open.open_file(b"file").unwrap();
    let mut entry = file.entry().unwrap();
    file.complete(&mut entry).unwrap();
    assert_eq!(user(&entry), expected);
    assert_eq!(user(find(&listed, b"dir")), [xattr("user.d", b"of a directory")]);
    assert_eq!(user(find(&listed, b"link")), []);
    fs::remove_file(dir.path().join("file")).unwrap();
    let error = open.complete(listed.last_mut().filter(|entry| entry.name == b"link").unwrap());
    assert!(error.is_ok(), "the link is still there");
    let gone = listed.iter_mut().find(|entry| entry.name == b"file").unwrap();
    assert_eq!(open.complete(gone).unwrap_err().kind(), io::ErrorKind::NotFound);
}

#[test]
fn no_depth_is_too_deep() {
    const LEVELS: usize = 300;
    let dir = TempDir::new().unwrap();
    let name = "d".repeat(250);
    let mut fd = OwnedFd::from(File::open(dir.path()).unwrap());
    for _ in 0..LEVELS {
        mkdirat(&fd, name.as_str(), Mode::RWXU).unwrap();
        fd = openat(&fd, name.as_str(), OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    }
    let file = openat(&fd, "file", OFlags::CREATE | OFlags::WRONLY, Mode::RUSR).unwrap();
    rustix::io::write(&file, b"at the bottom").unwrap();

    let mut open = open_dir(dir.path());
    for _ in 0..LEVELS {
        let mut entry = only(&*open);
        open.complete(&mut entry).unwrap();
        open = open.open_directory(&entry.name).unwrap();
    }
    assert_eq!(read(&*open, b"file"), b"at the bottom");

    // Named as a whole, the path is longer than any system call takes.
    let deep: PathBuf =
        [dir.path().to_owned()].into_iter().chain((0..LEVELS).map(|_| name.clone().into())).collect();
    let tree = LocalTree::open(std::slice::from_ref(&deep), LocalTreeOptions::default()).unwrap();
    assert!(tree.missing().is_empty());
    assert_eq!(names(&*descend(&tree, &deep)), ["file"]);
}

#[test]
fn a_mount_point_is_empty_on_one_file_system() {
    let (root, proc) = (fs::metadata("/").unwrap(), fs::metadata("/proc").unwrap());
    if root.dev() == proc.dev() {
        println!("skipping: /proc is not mounted");
        return;
    }
    let options = LocalTreeOptions { one_file_system: true, ..Default::default() };
    let tree = LocalTree::open(&["/".into()], options.clone()).unwrap();
    let root = tree.open_root().unwrap();
    assert!(find(&list(&*root), b"proc").is_directory());
    assert!(root.open_directory(b"proc").unwrap().entries().unwrap().is_empty());
    assert!(!root.open_directory(b"etc").unwrap().entries().unwrap().is_empty());
    // Named itself, it is entered.
    let tree = LocalTree::open(&["/".into(), "/proc".into()], options).unwrap();
    assert!(!tree.open_root().unwrap().open_directory(b"proc").unwrap().entries().unwrap().is_empty());
}

fn open(paths: &[PathBuf]) -> LocalTree {
    LocalTree::open(paths, LocalTreeOptions::default()).unwrap()
}

fn open_dir(path: &Path) -> Arc<dyn SourceDirectory> {
    descend(&open(&[path.to_owned()]), path)
}

fn descend(tree: &LocalTree, path: &Path) -> Arc<dyn SourceDirectory> {
    absolute(path)
        .unwrap()
        .iter()
        .fold(tree.open_root().unwrap(), |directory, name| directory.open_directory(name).unwrap())
}

fn list(directory: &dyn SourceDirectory) -> Vec<Entry> {
    let entries = directory.entries().unwrap().into_iter();
    entries
        .map(|SourceItem { name, entry }| entry.map(|entry| (assert_eq!(name, entry.name), entry).1).unwrap())
        .collect()
}

fn names(directory: &dyn SourceDirectory) -> Vec<String> {
    list(directory).into_iter().map(|entry| String::from_utf8(entry.name).unwrap()).collect()
}

fn only(directory: &dyn SourceDirectory) -> Entry {
    let mut listed = list(directory);
    assert_eq!(listed.len(), 1);
    listed.remove(0)
}

fn find<'a>(listed: &'a [Entry], name: &[u8]) -> &'a Entry {
    listed.iter().find(|entry| entry.name == name).unwrap()
}

fn read(directory: &dyn SourceDirectory, name: &[u8]) -> Vec<u8> {
    let mut buffer = vec![0; 1000];
    let bytes = directory.open_file(name).unwrap().read_at(&mut buffer, 0).unwrap();
    buffer.truncate(bytes);
    buffer
}

fn nanoseconds(seconds: i64, rest: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(rest)
}
