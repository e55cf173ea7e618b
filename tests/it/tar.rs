//! Tar archives as snapshots: what `tar`, `bsdtar` and Python write comes back as the tree it was made of; what nobody should
//! write does no harm.

mod bounds;

use std::fs;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use dr_core::{
    BackupReport, CancelToken, Context, Entry, EntryKind, ErrorKind, ProblemKind, Result, TarInput,
};
use dr_tests::steps::{Workshop, alone, backup, is_root, options, restore, skip};
use dr_tests::{TestRepo, assert_same_tree, noise};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, XattrFlags, mknodat, utimensat};

fn store(repo: &TestRepo, name: &str, archive: impl Read + Send + 'static) -> Result<BackupReport> {
    alone(&(), |ctx| repo.repository.backup_tar(TarInput::new(name, archive), &options(), ctx))
}

fn store_bytes(archive: &[u8]) -> (TestRepo, Result<BackupReport>) {
    let repo = TestRepo::in_memory();
    let report = store(&repo, "tar", io::Cursor::new(archive.to_vec()));
    (repo, report)
}

/// The archive that a program writes of what is in a directory.
fn archive_of(directory: &Path, program: &str, arguments: &[&str]) -> Vec<u8> {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(directory).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}");
    output.stdout
}

/// Stores an archive and restores it; gives where it is.
fn round_trip(workshop: &Workshop, archive: Vec<u8>) -> PathBuf {
    let repo = TestRepo::in_memory();
    let report = store(&repo, "tar", io::Cursor::new(archive)).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    repo.assert_intact();
    let target = workshop.room();
    let restored = restore(&repo.repository, &repo.latest().unwrap(), &target).unwrap();
    assert!(restored.is_complete(), "{:?}", restored.problems);
    target.join("tar")
}

/// Every entry of the newest snapshot by its path.
fn entries(repo: &TestRepo) -> Vec<(String, Entry)> {
    let mut found = Vec::new();
    repo.repository
        .list(&repo.latest().unwrap(), b"/", &mut |path, entry| {
            found.push((String::from_utf8_lossy(path).into_owned(), entry?.clone()));
            Ok(())
        })
        .unwrap();
    found
}

fn paths(repo: &TestRepo) -> Vec<String> {
    entries(repo).into_iter().map(|(path, _)| path).collect()
}

/// What the times of a tree can be in an archive.
#[derive(Clone, Copy, PartialEq)]
enum Times {
    Whole,
    Exact,
}

fn set_time(path: &Path, times: Times, seconds: i64) {
    let nanoseconds = if times == Times::Exact { 123_456_789 } else { 0 };
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Makes a tree of everything that an archive can hold. Times of directories are set last.
fn make_tree(root: &Path, times: Times) {
    fs::create_dir_all(root.join("dir/empty")).unwrap();
    let file = |name: &str, bytes: usize| fs::write(root.join(name), noise(bytes as u64, bytes)).unwrap();
    for bytes in [0, 1, 511, 512, 513, 10_000, 200_000, 3_000_000] {
        file(&format!("file{bytes}"), bytes);
    }
    file(&"n".repeat(99), 5);
    file(&"m".repeat(100), 5);
    fs::write(root.join(std::ffi::OsStr::from_bytes(b"byte\xff\n name")), "x").unwrap();
    fs::create_dir_all(root.join("p".repeat(90)).join("q".repeat(90))).unwrap();
    file(&format!("{}/{}/end", "p".repeat(90), "q".repeat(90)), 7);
    symlink("../somewhere", root.join("dir/link")).unwrap();
    fs::hard_link(root.join("file10000"), root.join("dir/same")).unwrap();
    fs::hard_link(root.join("file10000"), root.join("a-first-name")).unwrap();
    mknodat(CWD, root.join("pipe"), FileType::Fifo, Mode::from_raw_mode(0o640), 0).unwrap();
    let mut all: Vec<PathBuf> = walk(root);
    all.sort();
    for (number, path) in all.iter().rev().enumerate() {
        set_time(path, times, 1_600_000_000 + number as i64);
    }
}

fn walk(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut stack) = (Vec::new(), vec![root.to_path_buf()]);
    while let Some(path) = stack.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        found.push(path);
    }
    found
}

fn add_long_names(root: &Path) {
    fs::write(root.join("l".repeat(255)), "long").unwrap();
    symlink("t".repeat(300), root.join("long-target")).unwrap();
    let mut deep = root.to_path_buf();
    for _ in 0..6 {
        deep.push("d".repeat(200));
    }
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("bottom"), "deep").unwrap();
    let linked = deep.join("linked");
    fs::hard_link(deep.join("bottom"), linked).unwrap();
    for path in walk(root) {
        set_time(&path, Times::Whole, 1_500_000_000);
    }
}

fn add_holes(root: &Path) {
    let many = fs::File::create(root.join("many-holes")).unwrap();
    for number in 0..50 {
        many.write_all_at(&noise(number, 4096), number * 40_960).unwrap();
    }
    many.set_len(5_000_000).unwrap();
    let end = fs::File::create(root.join("hole-first")).unwrap();
    end.write_all_at(b"end", 1 << 20).unwrap();
    fs::File::create(root.join("only-hole")).unwrap().set_len(1 << 22).unwrap();
    for path in walk(root) {
        set_time(&path, Times::Whole, 1_500_000_000);
    }
}

#[test]
fn archives_of_gnu_tar_come_back_as_the_tree_was() {
    for (format, times) in [("ustar", Times::Whole), ("gnu", Times::Whole), ("pax", Times::Exact)] {
        let workshop = Workshop::on_disk();
        make_tree(&workshop.source(), times);
        if format != "ustar" {
            add_long_names(&workshop.source());
            add_holes(&workshop.source());
        }
        if is_root() {
            for (name, kind, device) in
                [("null", FileType::CharacterDevice, 259), ("disk", FileType::BlockDevice, 2049)]
            {
                let path = workshop.source().join(name);
                if mknodat(CWD, &path, kind, Mode::from_raw_mode(0o600), device).is_err() {
                    skip("tar-devices", "devices cannot be made here");
                    break;
                }
                set_time(&path, Times::Whole, 1_500_000_000);
            }
            set_time(&workshop.source(), Times::Whole, 1_500_000_000);
        }
        let format_argument = format!("--format={format}");
        // The older standard has no sparse files.
        let sparse = if format == "ustar" { "--no-xattrs" } else { "--sparse" };
        let archive = archive_of(&workshop.source(), "tar", &[&format_argument, sparse, "-cf", "-", "."]);
        let found = round_trip(&workshop, archive);
        assert_same_tree(&workshop.source(), &found);
        if format != "ustar" {
            let blocks = |name: &str| fs::metadata(found.join(name)).unwrap().blocks();
            assert!(blocks("only-hole") <= 8 && blocks("many-holes") < 5_000_000 / 512, "{format}");
        }
    }
}

#[test]
fn sparse_files_of_every_version_come_back() {
    for version in ["0.0", "0.1", "1.0"] {
        let workshop = Workshop::on_disk();
        fs::create_dir(workshop.source()).unwrap();
        add_holes(&workshop.source());
        let option = format!("--sparse-version={version}");
        let archive =
            archive_of(&workshop.source(), "tar", &["--format=pax", "--sparse", &option, "-cf", "-", "."]);
        let found = round_trip(&workshop, archive);
        assert_same_tree(&workshop.source(), &found);
        let blocks = |name: &str| fs::metadata(found.join(name)).unwrap().blocks();
        assert!(blocks("only-hole") <= 8 && blocks("hole-first") < 1024, "version {version}");
    }
}

#[test]
fn attributes_and_access_control_lists_come_back() {
    let workshop = Workshop::on_disk();
    let source = workshop.source();
    fs::create_dir_all(source.join("dir")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let set = |name: &str, attribute: &str, value: &[u8]| {
        rustix::fs::lsetxattr(source.join(name), attribute, value, XattrFlags::empty())
    };
    let acl = |entries: &[(u16, u16, u32)]| -> Vec<u8> {
        let entry = |(tag, rights, id): &(u16, u16, u32)| {
            [&tag.to_le_bytes()[..], &rights.to_le_bytes(), &id.to_le_bytes()].concat()
        };
        [2u32.to_le_bytes().to_vec(), entries.iter().flat_map(entry).collect()].concat()
    };
    let none = u32::MAX;
    let list = acl(&[
        (1, 6, none),
        (2, 4, 0),
        (2, 6, 4711),
        (4, 4, none),
        (8, 0, 4712),
        (16, 6, none),
        (32, 0, none),
    ]);
    let done = set("file", "user.text", b"value").and_then(|()| set("file", "user.bytes", b"a\n\0=b\xff"));
    let done = done.and_then(|()| set("file", "system.posix_acl_access", &list));
    if done.and_then(|()| set("dir", "system.posix_acl_default", &list)).is_err() {
        return skip("tar-xattrs", "the file system has no attributes or lists");
    }
    for path in walk(&source) {
        set_time(&path, Times::Exact, 1_500_000_000);
    }
    let options = ["--xattrs", "--xattrs-include=*", "--acls", "--format=pax", "-cf", "-", "."];
    let found = round_trip(&workshop, archive_of(&source, "tar", &options));
    assert_same_tree(&source, &found);
    // The same where the list is there in words only.
    let options = ["--xattrs", "--xattrs-exclude=system.*", "--acls", "--format=pax", "-cf", "-", "."];
    let found = round_trip(&workshop, archive_of(&source, "tar", &options));
    assert_same_tree(&source, &found);
}

const PYTHON: &str = "
import sys, tarfile
archive = tarfile.open(fileobj=sys.stdout.buffer, mode='w|', format=getattr(tarfile, sys.argv[1] + '_FORMAT'))
archive.add('.')
archive.close()
";

#[test]
fn archives_of_python_come_back_as_the_tree_was() {
    for (format, times) in [("USTAR", Times::Whole), ("GNU", Times::Whole), ("PAX", Times::Whole)] {
        let workshop = Workshop::on_disk();
        make_tree(&workshop.source(), times);
        if format != "USTAR" {
            add_long_names(&workshop.source());
        }
        let archive = archive_of(&workshop.source(), "python3", &["-c", PYTHON, format]);
        assert_same_tree(&workshop.source(), &round_trip(&workshop, archive));
    }
}

#[test]
fn files_of_an_archive_are_the_same_as_those_of_a_directory() {
    let workshop = Workshop::on_disk();
    make_tree(&workshop.source(), Times::Whole);
    let repo = TestRepo::in_memory();
    assert!(backup(&repo.repository, &workshop.source()).unwrap().is_complete());
    let archive = archive_of(&workshop.source(), "tar", &["-cf", "-", "."]);
    let report = store(&repo, "base", io::Cursor::new(archive)).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    // Only directories are new.
    assert!(report.totals.new_bytes < 20_000, "{:?}", report.totals);
    assert_eq!(repo.latest().unwrap().paths, [PathBuf::from("/base")]);
}

#[test]
fn an_archive_of_git_is_whole() {
    let workshop = Workshop::on_disk();
    fs::create_dir(workshop.source()).unwrap();
    fs::write(workshop.source().join("file"), "content").unwrap();
    let git = |arguments: &[&str]| {
        let identity = ["-c", "user.name=a", "-c", "user.email=a@b"];
        archive_of(&workshop.source(), "git", &[&identity, arguments].concat())
    };
    git(&["init", "-q"]);
    git(&["add", "file"]);
    git(&["commit", "-q", "-m", "one"]);
    let (repo, report) = store_bytes(&git(&["archive", "HEAD"]));
    let report = report.unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    assert_eq!(paths(&repo), ["/tar", "/tar/file"]);
}

/// A file of 100 GiB without data takes neither room nor time; and one with as much data as fits, little memory.
#[test]
fn a_map_that_says_so_makes_a_hole_of_any_length() {
    let workshop = Workshop::on_disk();
    fs::create_dir(workshop.source()).unwrap();
    let file = fs::File::create(workshop.source().join("disk")).unwrap();
    file.write_all_at(b"first", 0).unwrap();
    if file.set_len(100 << 30).is_err() {
        return skip("tar-large-hole", "the file system has no files of 100 GiB");
    }
    for format in ["gnu", "pax"] {
        let format = format!("--format={format}");
        let archive = archive_of(&workshop.source(), "tar", &[&format, "--sparse", "-cf", "-", "."]);
        assert!(archive.len() < 100_000);
        let (repo, report) = store_bytes(&archive);
        let report = report.unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        assert_eq!(report.totals.bytes, 100 << 30);
        assert!(report.totals.bytes_read < 100_000, "{:?}", report.totals);
        repo.assert_intact();
    }
}

// What no program writes, made by hand.

/// A header of the older standard, with its sum.
fn header(name: &[u8], kind: u8, size: u64) -> [u8; 512] {
    let mut block = [0; 512];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000644");
    block[108..115].copy_from_slice(b"0001750");
    block[116..123].copy_from_slice(b"0001751");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"14000000000");
    block[156] = kind;
    block[257..265].copy_from_slice(b"ustar\x0000");
    with_sum(block)
}

fn with_sum(mut block: [u8; 512]) -> [u8; 512] {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

fn link(name: &[u8], kind: u8, target: &[u8]) -> Vec<u8> {
    let mut block = header(name, kind, 0);
    block[157..157 + target.len()].copy_from_slice(target);
    with_sum(block).to_vec()
}

fn member(name: &[u8], kind: u8, content: &[u8]) -> Vec<u8> {
    let mut bytes = header(name, kind, content.len() as u64).to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn pax(records: &[(&str, &[u8])]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = rest.len() + 1;
        while length.to_string().len() + rest.len() != length {
            length += 1;
        }
        content.extend_from_slice(length.to_string().as_bytes());
        content.extend_from_slice(&rest);
    }
    member(b"PaxHeaders/x", b'x', &content)
}

fn ended(members: &[Vec<u8>]) -> Vec<u8> {
    [members.concat(), vec![0; 1024]].concat()
}

fn problems_of(archive: &[u8]) -> (TestRepo, Vec<(String, ProblemKind)>) {
    let (repo, report) = store_bytes(archive);
    let problems = report.unwrap().problems;
    repo.assert_intact();
    let path = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    (repo, problems.iter().map(|problem| (path(&problem.path), problem.kind)).collect())
}

#[test]
fn names_never_lead_out_and_those_that_would_are_named() {
    let archive = ended(&[
        member(b"../outside", b'0', b"x"),
        member(b"a/../../outside", b'0', b"x"),
        member(b"/absolute/file", b'0', b"x"),
        member(b"./dots/./and//slashes", b'0', b"x"),
        pax(&[("path", "n".repeat(256).as_bytes())]),
        member(b"short", b'0', b"x"),
        pax(&[("path", b"nul\0byte")]),
        member(b"short", b'0', b"x"),
        link(b"hard", b'1', b"../../etc/passwd"),
        link(b"none", b'1', b"missing"),
        member(b".", b'0', b"x"),
        link(b"soft", b'2', b"/etc"),
        member(b"soft/shadow", b'0', b"x"),
        member(b"weird", b'Q', b"x"),
        member(b"last", b'0', b"x"),
    ]);
    let (repo, problems) = problems_of(&archive);
    let expected = [
        "/tar",
        "/tar/absolute",
        "/tar/absolute/file",
        "/tar/dots",
        "/tar/dots/and",
        "/tar/dots/and/slashes",
        "/tar/last",
        "/tar/soft",
        "/tar/soft/shadow",
    ];
    assert_eq!(paths(&repo), expected);
    let named: Vec<&str> = problems.iter().map(|(path, _)| path.as_str()).collect();
    let long = format!("/tar/{}", "n".repeat(256));
    let expected = [
        "/tar/../outside",
        "/tar/a/../../outside",
        &long,
        "/tar/nul\0byte",
        "/tar/hard",
        "/tar/none",
        "/tar",
        "/tar/soft",
        "/tar/weird",
    ];
    assert_eq!(named, expected);
    assert!(problems.iter().all(|(_, kind)| *kind == ProblemKind::Unreadable));
}

#[test]
fn the_last_of_several_members_of_a_name_holds_and_directories_keep_what_they_hold() {
    let mut closed = header(b"dir/", b'5', 0);
    closed[100..107].copy_from_slice(b"0000700");
    let archive = ended(&[
        member(b"dir/file", b'0', b"old"),
        with_sum(closed).to_vec(),
        member(b"dir/file", b'0', b"newer"),
        member(b"was-file", b'0', b"x"),
        member(b"was-file/", b'5', b""),
        member(b"full/inside", b'0', b"x"),
        link(b"full", b'2', b"target"),
        member(b"old-style/", b'\0', b""),
        link(b"dir/self", b'1', b"dir/file"),
        link(b"dir/file", b'1', b"dir/self"),
    ]);
    let (repo, problems) = problems_of(&archive);
    assert_eq!(problems, [("/tar/full".to_owned(), ProblemKind::Unreadable)]);
    let entries = entries(&repo);
    let get = |path: &str| &entries.iter().find(|(found, _)| found == path).unwrap().1;
    assert_eq!(get("/tar/dir").metadata.mode, 0o700);
    assert!(matches!(&get("/tar/dir/file").kind, EntryKind::File(content) if content.bytes == 5));
    assert!(get("/tar/was-file").is_directory() && get("/tar/old-style").is_directory());
    assert!(matches!(&get("/tar/full").kind, EntryKind::Symlink(_)));
    let (one, two) = (get("/tar/dir/file"), get("/tar/dir/self"));
    assert!(one.hard_link_key().is_some() && one.hard_link_key() == two.hard_link_key());
    assert_eq!((one.metadata.links, one.metadata.uid, one.metadata.gid), (2, 0o1750, 0o1751));
}

#[test]
fn extended_headers_say_more_than_headers_can() {
    let archive = ended(&[
        pax(&[
            ("path", b"new name \xff"),
            ("uid", b"4000000000"),
            ("gid", b"3000000000"),
            ("mtime", b"-1.5"),
            ("uname", b"somebody"),
            ("SCHILY.xattr.user.a", b"=\n"),
            ("size", b"3"),
            ("unknown.key", b"whatever"),
        ]),
        {
            let mut bytes = header(b"old name", b'0', 0).to_vec();
            bytes.extend_from_slice(b"abc");
            bytes.resize(1024, 0);
            bytes
        },
        pax(&[("uid", b"99999999999999")]),
        member(b"giant", b'0', b"x"),
        pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.realsize", b"1000000"),
            ("GNU.sparse.name", b"holes"),
        ]),
        member(b"GNUSparseFile.0/holes", b'0', &{
            let mut content = b"2\n5\n3\n700000\n2\n".to_vec();
            content.resize(512, 0);
            content.extend_from_slice(b"abcde");
            content
        }),
    ]);
    let (repo, problems) = problems_of(&archive);
    assert_eq!(problems, [("/tar/giant".to_owned(), ProblemKind::Attributes)]);
    let entries = entries(&repo);
    let get = |path: &str| &entries.iter().find(|(found, _)| found == path).unwrap().1;
    let entry = get("/tar/new name \u{fffd}");
    assert_eq!((entry.metadata.uid, entry.metadata.gid), (4_000_000_000, 3_000_000_000));
    assert_eq!((entry.metadata.modified.seconds, entry.metadata.modified.nanoseconds), (-2, 500_000_000));
    assert_eq!(entry.metadata.user.as_deref(), Some("somebody"));
    assert_eq!(entry.metadata.xattrs.len(), 1);
    assert!(matches!(&entry.kind, EntryKind::File(content) if content.bytes == 3));
    let EntryKind::File(content) = &get("/tar/holes").kind else { panic!("no file") };
    assert_eq!((content.bytes, content.stream.bytes), (1_000_000, 5));
}

#[test]
fn numbers_that_need_more_than_octal_digits_are_read() {
    let workshop = Workshop::on_disk();
    fs::create_dir(workshop.source()).unwrap();
    fs::write(workshop.source().join("file"), "x").unwrap();
    let arguments =
        ["--format=gnu", "--owner=somebody:4000000000", "--group=:3000000000", "--mtime=@-5", "-cf", "-"];
    let (repo, report) =
        store_bytes(&archive_of(&workshop.source(), "tar", &[&arguments[..], &["file"]].concat()));
    assert!(report.unwrap().is_complete());
    let (_, entry) = entries(&repo).pop().unwrap();
    assert_eq!((entry.metadata.uid, entry.metadata.gid), (4_000_000_000, 3_000_000_000));
    assert_eq!((entry.metadata.user.as_deref(), entry.metadata.modified.seconds), (Some("somebody"), -5));
}

fn refused(archive: &[u8]) -> String {
    let (repo, report) = store_bytes(archive);
    let error = report.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source, "{error:?}");
    assert!(error.remedy().is_some(), "{error:?}");
    assert!(repo.snapshots().is_empty());
    error.to_string()
}

#[test]
fn what_is_cut_off_or_damaged_leaves_no_snapshot() {
    let whole = ended(&[member(b"one", b'0', &noise(1, 2000)), member(b"two", b'0', b"x")]);
    assert!(store_bytes(&whole).1.is_ok());
    // One block of zeros is an end too, where nothing follows.
    assert!(store_bytes(&whole[..whole.len() - 512]).1.is_ok());
    for length in (1..whole.len() - 1024).step_by(100).chain([whole.len() - 1024, whole.len() - 1]) {
        let said = refused(&whole[..length]);
        assert!(said.contains("cut off") || length < 512, "{length}: {said}");
    }
    assert!(refused(b"").contains("empty"));
    assert!(refused(&noise(1, 2000)).contains("no tar archive"));
    let mut flipped = whole.clone();
    flipped[2560 + 3] ^= 1;
    assert!(refused(&flipped).contains("sum"));
    let lone = [member(b"one", b'0', b"x"), vec![0; 512], member(b"two", b'0', b"x"), vec![0; 1024]].concat();
    assert!(refused(&lone).contains("zeros"));
    let huge = [header(b"long", b'L', 1 << 32).to_vec(), vec![0; 1024]].concat();
    assert!(refused(&huge).contains("longer"));
    for records in [
        &[("GNU.sparse.map", &b"0,5,3,5"[..]), ("GNU.sparse.size", b"20")][..],
        &[("GNU.sparse.map", b"0,5"), ("GNU.sparse.size", b"20")],
        &[("GNU.sparse.map", b"18446744073709551615,10"), ("GNU.sparse.size", b"20")],
        &[("GNU.sparse.map", b"0,10")],
        &[("size", b"-1")],
        &[("mtime", b"soon")],
    ] {
        refused(&ended(&[pax(records), member(b"m", b'0', b"0123456789")]));
    }
}

#[test]
fn compressed_archives_are_refused_with_what_to_do() {
    for (magic, tool) in [
        (&b"\x1f\x8b\x08\0"[..], "zcat"),
        (b"\x28\xb5\x2f\xfd", "zstdcat"),
        (b"\xfd7zXZ\0", "xzcat"),
        (b"BZh9", "bzcat"),
        (b"PK\x03\x04", "unpack"),
    ] {
        for length in [magic.len(), 700] {
            let mut archive = magic.to_vec();
            archive.resize(length, 7);
            let (repo, report) = store_bytes(&archive);
            let error = report.unwrap_err();
            assert!(error.remedy().unwrap().contains(tool), "{error:?}");
            assert!(repo.snapshots().is_empty());
        }
    }
}

#[test]
fn what_follows_the_end_is_not_kept_but_named() {
    let one = ended(&[member(b"one", b'0', b"x")]);
    let two = ended(&[member(b"two", b'0', b"x")]);
    let (repo, problems) = problems_of(&[one.as_slice(), &two].concat());
    assert_eq!(paths(&repo), ["/tar", "/tar/one"]);
    assert_eq!(problems, [("/tar".to_owned(), ProblemKind::Unreadable)]);
    let (_, problems) = problems_of(&[one, vec![0; 20_000]].concat());
    assert_eq!(problems, []);
}

#[test]
fn an_archive_that_is_not_confirmed_or_has_a_bad_name_leaves_no_snapshot() {
    let repo = TestRepo::in_memory();
    let archive = || io::Cursor::new(ended(&[member(b"one", b'0', b"x")]));
    let input = TarInput::new("a", archive())
        .confirmed_by(|| Err(dr_core::Error::new(ErrorKind::Source, "the command failed")));
    let error = alone(&(), |ctx| repo.repository.backup_tar(input, &options(), ctx)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    for name in ["..", "a/../b", "a\0"] {
        assert_eq!(store(&repo, name, archive()).unwrap_err().kind(), ErrorKind::InvalidInput, "{name:?}");
    }
    assert!(repo.snapshots().is_empty());
    // The topmost directory is a place as well.
    assert!(store(&repo, "/", archive()).unwrap().is_complete());
    assert_eq!(paths(&repo), ["/one"]);
}

/// Cancels the call that reads it, and then says nothing.
struct Silent(CancelToken, io::PipeReader);

impl Read for Silent {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.cancel();
        self.1.read(buffer)
    }
}

#[test]
fn a_cancelled_call_does_not_wait_for_an_archive_that_says_nothing() {
    let repo = TestRepo::in_memory();
    let (reader, writer) = io::pipe().unwrap();
    let cancel = CancelToken::new();
    let first = io::Cursor::new(member(b"one", b'0', b"x"));
    let input = TarInput::new("a", first.chain(Silent(cancel.clone(), reader)));
    let error = repo.repository.backup_tar(input, &options(), &Context::new(&(), &cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    drop(writer);
    assert!(repo.snapshots().is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is changed in an archive, what comes of it is an error, or a snapshot that is whole.
    #[test]
    fn a_changed_archive_does_no_harm(
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in any::<prop::sample::Index>(),
        mends_sums in any::<bool>(),
    ) {
        let mut archive = ended(&[
            member(b"dir/", b'5', b""),
            pax(&[("path", b"dir/long"), ("mtime", b"1.25"), ("GNU.sparse.map", b"0,3,10,2"), ("GNU.sparse.size", b"20")]),
            member(b"x", b'0', b"abcde"),
            member(b"././@LongLink", b'L', b"dir/another name\0"),
            member(b"y", b'0', &noise(3, 600)),
            link(b"hard", b'1', b"dir/another name"),
            member(b"old", b'S', b""),
        ]);
        for (at, byte) in &edits {
            let at = at.index(archive.len());
            archive[at] = *byte;
        }
        if mends_sums {
            for block in archive.as_chunks_mut::<512>().0 {
                if &block[257..262] == b"ustar" {
                    *block = with_sum(*block);
                }
            }
        }
        if edits.len() == 5 {
            archive.truncate(cut.index(archive.len()));
        }
        let (repo, report) = store_bytes(&archive);
        match report {
            Ok(_) => {
                repo.assert_intact();
                prop_assert!(paths(&repo).iter().all(|path| path == "/tar" || path.starts_with("/tar/")));
            }
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::Source);
                prop_assert!(repo.snapshots().is_empty());
            }
        }
    }
}
