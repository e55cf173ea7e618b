//! Everything that Linux keeps of a file comes back, and a restore never reaches outside of its target.

use std::ffi::OsStr;
use std::fs::{self, File, FileTimes, OpenOptions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use dr_core::RestoreReport;
use dr_tests::steps::{Workshop, backup, is_root, restore, restored, skip};
use dr_tests::{TestRepo, assert_same_tree};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat};

/// A source, and what a restore of it made.
struct RoundTrip {
    workshop: Workshop,
    repo: TestRepo,
}

impl RoundTrip {
    fn new() -> RoundTrip {
        let workshop = Workshop::on_disk();
        fs::create_dir(workshop.source()).unwrap();
        RoundTrip { workshop, repo: TestRepo::in_memory() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.workshop.source().join(name)
    }

    fn file(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, name).unwrap();
        path
    }

    /// Backs up, restores and compares; gives where the restored source is.
    fn run(&self) -> PathBuf {
        let source = self.workshop.source();
        let target = self.workshop.room();
        let report = self.restore_into(&target);
        assert!(report.is_complete(), "{:?}", report.problems);
        let found = restored(&target, &source);
        assert_same_tree(&source, &found);
        self.repo.assert_intact();
        found
    }

    fn restore_into(&self, target: &Path) -> RestoreReport {
        let report = backup(&self.repo.repository, &self.workshop.source()).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        restore(&self.repo.repository, &self.repo.latest().unwrap(), target).unwrap()
    }
}

/// Whether what follows can be done here; a skip is noted.
fn as_root(test: &str) -> bool {
    if !is_root() {
        skip(test, "needs root");
    }
    is_root()
}

fn set_xattr(path: &Path, name: &str, value: &[u8]) {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty()).unwrap();
}

fn set_times(path: &Path, modified: (i64, i64)) {
    let time = Timespec { tv_sec: modified.0, tv_nsec: modified.1 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

#[test]
fn names_and_link_targets_need_not_be_text() {
    let trip = RoundTrip::new();
    for name in [
        &b"\xff\xfe"[..],
        b"new\nline",
        b"back\\slash",
        b" ",
        b"-rf",
        b"\x01",
        "grün".as_bytes(),
        &[b'n'; 255],
    ] {
        fs::write(trip.workshop.source().join(OsStr::from_bytes(name)), name).unwrap();
    }
    for (name, target) in
        [("relative", &b"\xff/\xfe"[..]), ("dangling", b"/nowhere/at/all"), ("long", &[b'x'; 4000])]
    {
        symlink(OsStr::from_bytes(target), trip.path(name)).unwrap();
    }
    trip.run();
}

#[test]
fn names_of_one_file_stay_one_file() {
    let trip = RoundTrip::new();
    fs::create_dir(trip.path("below")).unwrap();
    let file = trip.file("zz-first");
    symlink("zz-first", trip.path("link")).unwrap();
    let mode = Mode::from_raw_mode(0o600);
    mknodat(CWD, trip.path("pipe"), FileType::Fifo, mode, 0).unwrap();
    drop(UnixListener::bind(trip.path("socket")).unwrap());
    for (name, other) in [("link", "below/link"), ("pipe", "a-pipe"), ("socket", "below/socket")] {
        fs::hard_link(trip.path(name), trip.path(other)).unwrap();
    }
    for name in ["a-name", "below/name", "m-name"] {
        fs::hard_link(&file, trip.path(name)).unwrap();
    }
    let found = trip.run();
    assert_eq!(fs::metadata(found.join("a-name")).unwrap().nlink(), 4);
    assert_eq!(fs::symlink_metadata(found.join("link")).unwrap().nlink(), 2);
}

#[test]
fn devices_come_back_with_their_names_and_numbers() {
    let trip = RoundTrip::new();
    let name = "devices_come_back_with_their_names_and_numbers";
    if !as_root(name) {
        return;
    }
    let make =
        |name: &str, kind, device| mknodat(CWD, trip.path(name), kind, Mode::from_raw_mode(0o640), device);
    if make("null", FileType::CharacterDevice, rustix::fs::makedev(1, 3)).is_err() {
        skip(name, "devices cannot be made here");
        return;
    }
    make("disk", FileType::BlockDevice, rustix::fs::makedev(7, 200)).unwrap();
    make("large-number", FileType::CharacterDevice, rustix::fs::makedev(4000, 1_000_000)).unwrap();
    fs::hard_link(trip.path("null"), trip.path("second-null")).unwrap();
    trip.run();
}

#[test]
fn owners_modes_and_capabilities_come_back() {
    let trip = RoundTrip::new();
    if !as_root("owners_modes_and_capabilities_come_back") {
        return;
    }
    let modes = [("none", 0), ("setuid", 0o4755), ("setgid", 0o2711), ("sticky", 0o1644), ("all", 0o7777)];
    for (number, (name, mode)) in modes.into_iter().enumerate() {
        let path = trip.file(name);
        lchown(&path, Some(40_000 + number as u32), Some(3_000_000_000)).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    }
    for (name, mode) in [("closed", 0), ("shared", 0o3777)] {
        fs::create_dir(trip.path(name)).unwrap();
        fs::write(trip.path(name).join("inside"), name).unwrap();
        lchown(trip.path(name), Some(12_345), Some(54_321)).unwrap();
        fs::set_permissions(trip.path(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    symlink("none", trip.path("link")).unwrap();
    lchown(trip.path("link"), Some(777), Some(778)).unwrap();
    // Version 2, cap_net_raw permitted and effective. A change of owner would drop it, so order matters.
    let capability = [0x01, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let capable = trip.file("capable");
    lchown(&capable, Some(1), Some(1)).unwrap();
    set_xattr(&capable, "security.capability", &capability);
    trip.run();
}

#[test]
fn attributes_and_access_lists_come_back() {
    let trip = RoundTrip::new();
    let file = trip.file("file");
    set_xattr(&file, "user.empty", b"");
    set_xattr(&file, "user.bytes", &[0, 255, 10]);
    set_xattr(&file, "user.long", &[7; 3000]);
    set_xattr(&file, "user.100%25 = %n", b"%s");
    let (listed, folder) = (trip.file("listed"), trip.path("folder"));
    fs::create_dir(&folder).unwrap();
    set_xattr(&folder, "user.of-a-folder", b"x");
    // Owner rw, user 1234 r, group r, mask r, others nothing: as the kernel stores it.
    let entries =
        [(1_u16, 6_u16, u32::MAX), (2, 4, 1234), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)];
    let mut acl = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        acl.extend_from_slice(&tag.to_le_bytes());
        acl.extend_from_slice(&permissions.to_le_bytes());
        acl.extend_from_slice(&id.to_le_bytes());
    }
    set_xattr(&listed, "system.posix_acl_access", &acl);
    set_xattr(&folder, "system.posix_acl_default", &acl);
    // Made below a default list, it inherits one; what is restored must have neither more nor less.
    fs::write(folder.join("inherits"), b"").unwrap();
    if as_root("attributes_and_access_lists_come_back") {
        symlink("file", trip.path("link")).unwrap();
        set_xattr(&trip.path("link"), "trusted.of-a-link", b"y");
        let closed = trip.file("closed");
        set_xattr(&closed, "user.of-a-closed-file", b"z");
        fs::set_permissions(closed, fs::Permissions::from_mode(0o0)).unwrap();
    }
    trip.run();
}

#[test]
fn times_come_back_to_the_nanosecond() {
    let trip = RoundTrip::new();
    fs::create_dir(trip.path("folder")).unwrap();
    trip.file("folder/inside");
    symlink("x", trip.path("link")).unwrap();
    for (name, time) in [
        ("epoch", (0, 0)),
        ("before", (-1, 999_999_999)),
        ("far", (9_000_000_000, 1)),
        ("old", (-1_000_000_000, 5)),
        ("beyond-nanoseconds-in-64-bits", (9_300_000_000, 999_999_999)),
    ] {
        set_times(&trip.file(name), time);
    }
    set_times(&trip.path("link"), (1_234_567_890, 123_456_789));
    set_times(&trip.path("folder/inside"), (1, 1));
    set_times(&trip.path("folder"), (1_000_000_000, 987_654_321));
    trip.run();
}

/// A file system in memory keeps any second of 64 bits.
#[test]
fn times_far_beyond_every_calendar_come_back() {
    let trip = RoundTrip { workshop: Workshop::new(), repo: TestRepo::in_memory() };
    fs::create_dir(trip.workshop.source()).unwrap();
    // Unix time in the year 9,300,000,000, and as long before 1970.
    for (name, seconds) in [("after", 293_477_904_000_000_000), ("before", -293_477_904_000_000_000)] {
        set_times(&trip.file(name), (seconds, 7));
    }
    trip.run();
}

fn blocks(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks()
}

#[test]
fn holes_come_back_as_holes() {
    let trip = RoundTrip::new();
    let make = |name: &str, bytes: u64, data: &[(u64, usize)]| {
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(trip.path(name)).unwrap();
        for (number, (offset, bytes)) in data.iter().enumerate() {
            file.write_all_at(&dr_tests::noise(number as u64, *bytes), *offset).unwrap();
        }
        file.set_len(bytes).unwrap();
    };
    let many: Vec<_> = (0..150).map(|number| (number * 65_536 + 4096, 4096)).collect();
    let thousands: Vec<_> = (0..5000).map(|number| (number * 8192, 4096)).collect();
    make("many", 11 << 20, &many);
    make("thousands", 5000 * 8192, &thousands);
    make("only-a-hole", 50 << 20, &[]);
    make("ends-with-data", 8 << 20, &[((8 << 20) - 100, 100)]);
    make("begins-with-data", 8 << 20, &[(0, 100)]);
    make("huge", 3 << 40, &[(1 << 40, 5000)]);
    fs::write(trip.path("zeros"), vec![0; 1 << 20]).unwrap();
    let length = fs::metadata(trip.path("huge")).unwrap().len();
    fs::rename(trip.path("huge"), trip.workshop.path().join("huge")).unwrap();
    let found = trip.run();
    for name in ["many", "thousands", "only-a-hole", "ends-with-data", "begins-with-data"] {
        let (before, after) = (blocks(&trip.path(name)), blocks(&found.join(name)));
        assert!(after <= before + before / 4 + 16, "{name}: {after} blocks instead of {before}");
    }
    // Too long to be compared byte by byte.
    fs::rename(trip.workshop.path().join("huge"), trip.path("huge")).unwrap();
    let target = trip.workshop.room();
    assert!(trip.restore_into(&target).is_complete());
    let huge = restored(&target, &trip.path("huge"));
    assert_eq!(fs::metadata(&huge).unwrap().len(), length);
    assert!(blocks(&huge) < 64);
    let mut data = vec![0; 5000];
    File::open(&huge).unwrap().read_exact_at(&mut data, 1 << 40).unwrap();
    assert!(data == dr_tests::noise(0, 5000));
}

/// A world outside of the target, and ways that lead there from where the snapshot's entries belong.
#[test]
fn nothing_outside_of_the_target_is_touched() {
    let trip = RoundTrip::new();
    fs::create_dir_all(trip.path("directory/below")).unwrap();
    trip.file("directory/file");
    trip.file("directory/below/file");
    trip.file("file");
    trip.file("linked");
    let source = trip.workshop.source();
    let plants: [fn(&Path, &Path); 4] = [
        |inside, outside| {
            fs::create_dir_all(inside).unwrap();
            symlink(outside, inside.join("directory")).unwrap();
        },
        |inside, outside| {
            fs::create_dir_all(inside.join("directory")).unwrap();
            symlink(outside, inside.join("directory/below")).unwrap();
            symlink(outside.join("file"), inside.join("file")).unwrap();
            symlink(outside.join("new"), inside.join("directory/file")).unwrap();
        },
        |inside, outside| {
            fs::create_dir_all(inside).unwrap();
            fs::hard_link(outside.join("file"), inside.join("linked")).unwrap();
        },
        |inside, outside| {
            let parent = inside.parent().unwrap();
            fs::create_dir_all(parent.parent().unwrap()).unwrap();
            symlink(outside, parent).unwrap();
        },
    ];
    for (number, plant) in plants.into_iter().enumerate() {
        let (target, outside) = (trip.workshop.room(), trip.workshop.room());
        fs::create_dir(&outside).unwrap();
        fs::write(outside.join("file"), "not yours").unwrap();
        fs::set_permissions(&outside, fs::Permissions::from_mode(0o751)).unwrap();
        let times = FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1000));
        File::open(&outside).unwrap().set_times(times).unwrap();
        let inside = restored(&target, &source);
        fs::create_dir_all(&target).unwrap();
        plant(&inside, &outside);
        let before = state_of(&outside);
        let report = trip.restore_into(&target);
        assert_eq!(state_of(&outside), before, "plant {number}");
        assert_eq!(fs::read(outside.join("file")).unwrap(), b"not yours", "plant {number}");
        // What could not be put in its place is named; everything else is there.
        if report.is_complete() {
            assert_same_tree(&source, &inside);
        } else {
            assert!(
                report.problems.iter().all(|problem| !problem.detail.is_empty()),
                "{:?}",
                report.problems
            );
        }
    }
}

fn state_of(folder: &Path) -> (Vec<PathBuf>, u32, SystemTime) {
    let metadata = fs::metadata(folder).unwrap();
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    (names, metadata.mode(), metadata.modified().unwrap())
}

/// A restore over what is there replaces files of any kind, and leaves alone what the snapshot does not have.
#[test]
fn a_restore_replaces_what_is_in_its_place() {
    let trip = RoundTrip::new();
    for name in ["over-a-link", "over-a-pipe", "over-a-longer-file", "over-a-closed-file"] {
        trip.file(name);
    }
    symlink("x", trip.path("link-over-a-file")).unwrap();
    let target = trip.workshop.room();
    let inside = restored(&target, &trip.workshop.source());
    fs::create_dir_all(&inside).unwrap();
    symlink("nowhere", inside.join("over-a-link")).unwrap();
    mknodat(CWD, inside.join("over-a-pipe"), FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
    fs::write(inside.join("over-a-longer-file"), [9; 9999]).unwrap();
    fs::write(inside.join("over-a-closed-file"), "x").unwrap();
    fs::set_permissions(inside.join("over-a-closed-file"), fs::Permissions::from_mode(0o0)).unwrap();
    fs::write(inside.join("link-over-a-file"), "x").unwrap();
    fs::write(inside.join("stranger"), "stays").unwrap();
    let report = trip.restore_into(&target);
    assert!(report.is_complete(), "{:?}", report.problems);
    assert_eq!(fs::read(inside.join("stranger")).unwrap(), b"stays");
    fs::remove_file(inside.join("stranger")).unwrap();
    for name in ["over-a-link", "over-a-pipe", "over-a-longer-file", "over-a-closed-file"] {
        assert_eq!(fs::read(inside.join(name)).unwrap(), name.as_bytes());
    }
    assert_eq!(fs::read_link(inside.join("link-over-a-file")).unwrap(), Path::new("x"));
}
