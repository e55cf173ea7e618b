//! What programs that everybody trusts say of a restore: rsync finds nothing to copy, and getfacl prints the same.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Output};

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use dr_tests::steps::{Workshop, is_root, restored, skip};
use rustix::fs::{CWD, FileType, Mode, XattrFlags, makedev, mknodat};

const NAME: &str = "reference-programs";

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// Whether what follows can be done here; a skip is noted.
fn is_possible() -> bool {
    let is_there = |name: &str| Command::new(name).arg("--version").output().is_ok();
    let missing = ["rsync", "getfacl", "setfacl"].into_iter().find(|name| !is_there(name));
    match missing {
        Some(name) => skip(NAME, &format!("there is no {name}")),
        None if !is_root() => skip(NAME, "needs root"),
        None => {}
    }
    missing.is_none() && is_root()
}

/// Everything that a file system can hold.
fn make(source: &Path) {
    TreeSpec::files(&[
        ("file", 900),
        ("empty", 0),
        ("dir/large", 3_000_000),
        ("dir/linked", 4000),
        ("deep/er/and/deeper/file", 20),
        ("listed", 100),
    ])
    .write(source);
    for other in ["dir/again", "deep/er/linked"] {
        fs::hard_link(source.join("dir/linked"), source.join(other)).unwrap();
    }
    for name in [&b"new\nline"[..], b"\xff\xfe", b" ", b"-rf", b"back\\slash", b"*?[x]", "grün".as_bytes()] {
        fs::write(source.join("deep").join(OsStr::from_bytes(name)), name).unwrap();
    }
    symlink("dir/../file", source.join("link")).unwrap();
    symlink("/no/where", source.join("dir/dangling")).unwrap();
    let mode = Mode::from_raw_mode(0o640);
    mknodat(CWD, source.join("pipe"), FileType::Fifo, mode, 0).unwrap();
    if mknodat(CWD, source.join("null"), FileType::CharacterDevice, mode, makedev(1, 3)).is_ok() {
        mknodat(CWD, source.join("disk"), FileType::BlockDevice, mode, makedev(7, 200)).unwrap();
        fs::hard_link(source.join("null"), source.join("dir/second-null")).unwrap();
    }
    drop(std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap());
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(&[7; 5000], 9 << 20).unwrap();
    sparse.set_len(20 << 20).unwrap();
    fs::create_dir(source.join("nothing")).unwrap();
    for (name, mode) in [("file", 0o4751), ("empty", 0), ("nothing", 0o1777), ("dir", 0o2750)] {
        chown(source.join(name), Some(12_345), Some(54_321)).unwrap();
        fs::set_permissions(source.join(name), Permissions::from_mode(mode)).unwrap();
    }
    for (name, key, value) in [
        ("file", "user.note", &b"\0of all bytes\xff"[..]),
        ("dir", "user.100%", b"a directory's"),
        ("link", "trusted.of-a-link", b"x"),
        ("sparse", "user.empty", b""),
    ] {
        rustix::fs::lsetxattr(source.join(name), key, value, XattrFlags::empty()).unwrap();
    }
    for (name, list) in
        [("listed", "u:12345:r,g:777:rw,m::rw"), ("dir", "u:1:rx"), ("dir", "d:u:12345:rwx,d:g:3:r")]
    {
        run(Command::new("setfacl").args(["-m", list]).arg(source.join(name)));
    }
    for (name, time) in [
        ("file", "1999-12-31T23:59:59.987654321Z"),
        ("link", "1969-01-01T00:00:00Z"),
        ("dir", "2200-02-02T00:00:00Z"),
    ] {
        run(Command::new("touch").args(["-h", "-d", time]).arg(source.join(name)));
    }
}

/// What rsync would do to make `found` what `source` is.
fn differences(source: &Path, found: &Path) -> String {
    let mut command = Command::new("rsync");
    command.args(["-aHAXn", "--checksum", "--delete", "--itemize-changes"]);
    for folder in [source, found] {
        command.arg(folder.join(""));
    }
    String::from_utf8_lossy(&run(&mut command).stdout).into_owned()
}

fn lists(folder: &Path) -> String {
    let output = run(Command::new("getfacl").args(["-R", "-n", "-P", "."]).current_dir(folder));
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // It goes through directories in the order in which the file system keeps them.
    let mut lists: Vec<&str> = text.split("\n\n").collect();
    lists.sort_unstable();
    lists.join("\n\n")
}

#[test]
fn rsync_and_getfacl_find_no_difference_in_what_was_restored() {
    if !is_possible() {
        return;
    }
    // A disk's file system keeps attributes and lists.
    let shell = Shell { workshop: Workshop::on_disk() };
    shell.init();
    let source = shell.workshop.source();
    make(&source);
    let target = shell.workshop.room();
    let found = restored(&target, &source);
    shell.run(&mut shell.backup());
    shell.run(&mut shell.restore("latest", &target));
    assert_eq!(differences(&source, &found), "");
    assert_eq!(lists(&source), lists(&found));
    assert!(lists(&found).contains("user:12345:r--") && lists(&found).contains("default:user:12345:rwx"));

    // They would have noticed; and a restore over what differs puts it right.
    fs::remove_file(found.join("dir/again")).unwrap();
    fs::write(found.join("dir/again"), "not linked").unwrap();
    fs::write(found.join("surplus"), "").unwrap();
    run(Command::new("setfacl").args(["-b"]).arg(found.join("listed")));
    rustix::fs::lremovexattr(found.join("link"), "trusted.of-a-link").unwrap();
    let told = differences(&source, &found);
    for name in ["dir/again", "surplus", "listed", "link"] {
        assert!(told.contains(name), "{name}: {told}");
    }
    assert_ne!(lists(&source), lists(&found));
    shell.run(shell.restore("latest", &target).args(["--overwrite", "if-changed", "--delete"]));
    assert_eq!(differences(&source, &found), "");
    assert_eq!(lists(&source), lists(&found));
}
