//! A plain user, who may neither read nor make everything.

use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use dr_core::{ProblemKind, SnapshotFilter};
use dr_tests::shell::Shell;
use dr_tests::steps::{is_root, restored, skip};
use dr_tests::{TreeSpec, assert_same_tree};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};

const USER: u32 = 65_534;

/// A repository of the plain user; nothing where this test cannot become one.
fn shell_of_user() -> Option<Shell> {
    let is_allowed = || {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--no-new-privs", "true"]);
        command.stderr(Stdio::null()).status().is_ok_and(|status| status.success())
    };
    if !is_root() || !is_allowed() {
        skip("a_plain_user", "this test cannot become another user here");
        return None;
    }
    let shell = Shell::default();
    chown(shell.workshop.path(), Some(USER), Some(USER)).unwrap();
    shell.run(shell.command_as(USER).arg("init"));
    Some(shell)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_plain_user_saves_what_may_be_read_and_is_told_the_rest() {
    let Some(shell) = shell_of_user() else { return };
    let source = shell.workshop.source();
    TreeSpec::files(&[("plain", 900), ("sub/large", 150_000), ("locked/inside", 500), ("secret", 700)])
        .write(&source);
    symlink("plain", source.join("link")).unwrap();
    assert!(Command::new("chown").args(["-R", "65534:65534"]).arg(&source).status().unwrap().success());
    chmod(&source.join("secret"), 0);
    chown(source.join("locked"), Some(0), Some(0)).unwrap();
    chmod(&source.join("locked"), 0o700);
    let copy = shell.workshop.copy_of(&source);
    for _ in 0..2 {
        let (output, said) = shell.run_to(shell.command_as(USER).arg("backup").arg(&source).arg("--json"), 3);
        let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(
            (summary["complete"].as_bool(), summary["problem_count"].as_u64()),
            (Some(false), Some(2))
        );
        for name in ["secret", "locked"] {
            assert!(said.contains(&format!("{}\"", source.join(name).display())), "{said}");
        }
    }
    let output = shell.run(shell.command_as(USER).args(["snapshots", "--json"]));
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(listed[1]["problems"].as_u64(), Some(2), "{listed}");
    let repository = shell.repository_opened();
    let snapshot = repository.find_snapshot("latest", &SnapshotFilter::new()).unwrap();
    let recorded = repository.problems(&snapshot).unwrap();
    let mut recorded: Vec<_> =
        recorded.iter().map(|problem| (problem.path.as_slice(), problem.kind)).collect();
    recorded.sort_unstable_by_key(|(path, _)| *path);
    let [locked, secret] = ["locked", "secret"].map(|name| source.join(name).into_os_string().into_vec());
    let expected = [(&locked[..], ProblemKind::Unreadable), (&secret[..], ProblemKind::Unreadable)];
    assert_eq!(recorded, expected);

    // All else is as it was; of the locked directory there is the name, owner and mode.
    let target = shell.workshop.room();
    shell.run(&mut shell.restore("latest", &target));
    fs::remove_file(copy.join("secret")).unwrap();
    fs::remove_file(copy.join("locked/inside")).unwrap();
    for name in ["", "locked"] {
        let times = Command::new("touch").arg("-hr").arg(source.join(name)).arg(copy.join(name)).status();
        assert!(times.unwrap().success());
    }
    assert_same_tree(&copy, &restored(&target, &source));
}

#[test]
fn a_plain_user_gets_all_contents_and_is_told_what_only_root_can_make() {
    let Some(shell) = shell_of_user() else { return };
    let source = shell.workshop.source();
    TreeSpec::files(&[("foreign", 900), ("program", 5000), ("sub/own", 40_000)]).write(&source);
    chown(source.join("foreign"), Some(12_345), Some(54_321)).unwrap();
    chmod(&source.join("program"), 0o6755);
    chown(source.join("sub"), Some(USER), Some(USER)).unwrap();
    chown(source.join("sub/own"), Some(USER), Some(USER)).unwrap();
    mknodat(CWD, source.join("device"), FileType::CharacterDevice, Mode::RUSR, makedev(1, 3)).unwrap();
    mknodat(CWD, source.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    // Root saves to the user's repository, and gives it back.
    shell.run(&mut shell.backup());
    let everything = shell.workshop.path();
    assert!(
        Command::new("chown")
            .args(["-R", "65534:65534"])
            .arg(everything.join("repository"))
            .status()
            .unwrap()
            .success()
    );
    for folder in ["cache", "state"] {
        let _ = fs::remove_dir_all(everything.join(folder));
    }

    let target = shell.workshop.room();
    let mut command = shell.command_as(USER);
    let (output, said) = shell.run_to(command.args(["restore", "latest", "-v", "--target"]).arg(&target), 3);
    let found = restored(&target, &source);
    for name in ["foreign", "program", "sub/own"] {
        assert_eq!(fs::read(found.join(name)).unwrap(), fs::read(source.join(name)).unwrap(), "{name}");
        assert_eq!(fs::metadata(found.join(name)).unwrap().uid(), USER, "{name}");
    }
    // Another owner's set-user-id program is no such program of this user's.
    assert_eq!(fs::metadata(found.join("program")).unwrap().mode() & 0o7777, 0o755);
    assert!(!found.join("device").exists() && found.join("pipe").exists());
    for (name, what) in [
        ("device", "only root may make devices"),
        ("foreign", "owner: not restored, since this is not run as root"),
        ("program", "owner: not restored, since this is not run as root"),
    ] {
        let path = source.join(name);
        let is_it = |line: &str| line.contains(&*path.to_string_lossy()) && line.contains(what);
        assert!(said.lines().any(is_it), "{name}: {said}");
    }
    assert!(!said.contains("sub/own"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("restored 3 files"));
}

fn give(path: &Path) {
    assert!(Command::new("chown").args(["-hR", "65534:65534"]).arg(path).status().unwrap().success());
}

/// What is in a directory of the newest snapshot, without the directories above it, which are root's.
fn inside(source: &Path) -> String {
    format!("latest:{}", source.display())
}

/// Every kind of entry that a user may make, with all that may be said of it.
fn every_kind(source: &Path) {
    TreeSpec::files(&[("file", 900), ("empty", 0), ("sub/large", 150_000), ("sub/linked", 40)]).write(source);
    fs::hard_link(source.join("sub/linked"), source.join("again")).unwrap();
    symlink("sub/../file", source.join("link")).unwrap();
    symlink("nowhere/at all", source.join("sub/dangling")).unwrap();
    mknodat(CWD, source.join("pipe"), FileType::Fifo, Mode::RUSR | Mode::WGRP, 0).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    drop(socket);
    let sparse = fs::File::create(source.join("sparse")).unwrap();
    sparse.set_len(3 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&sparse, b"data", 1 << 20).unwrap();
    fs::write(source.join(std::ffi::OsStr::new("odd \n\u{1b}[0m name")), "x").unwrap();
    fs::create_dir(source.join("nothing")).unwrap();
    for (name, mode) in
        [("file", 0o751), ("empty", 0o400), ("sub", 0o1750), ("nothing", 0o555), ("sparse", 0o4700)]
    {
        chmod(&source.join(name), mode);
    }
    for name in ["file", "sub", "empty", "sparse"] {
        rustix::fs::setxattr(
            source.join(name),
            "user.note",
            b"\0of all bytes\xff",
            rustix::fs::XattrFlags::empty(),
        )
        .unwrap();
    }
    for (name, arguments) in [("file", &["-m", "u:12345:r"][..]), ("sub", &["-d", "-m", "u:12345:rx"])] {
        // Where the program is missing, lists are tested elsewhere.
        let _ = Command::new("setfacl").args(arguments).arg(source.join(name)).stderr(Stdio::null()).status();
    }
}

/// What a plain user may make, a plain user saves and gets back, whole and without a complaint.
#[test]
fn a_plain_user_gets_back_whatever_a_plain_user_can_make() {
    let Some(mut shell) = shell_of_user() else { return };
    // A disk's file system keeps attributes.
    shell.workshop = dr_tests::steps::Workshop::on_disk();
    chown(shell.workshop.path(), Some(USER), Some(USER)).unwrap();
    shell.run(shell.command_as(USER).arg("init"));
    let source = shell.workshop.source();
    fs::create_dir(&source).unwrap();
    every_kind(&source.join("t"));
    give(&source);
    // What `chown` took away, as it does.
    chmod(&source.join("t/sparse"), 0o4700);
    for round in 0..2 {
        shell.run(shell.command_as(USER).args(["backup", "-q"]).arg(&source));
        let target = shell.workshop.room();
        fs::create_dir(&target).unwrap();
        give(&target);
        // Into nothing, and over what is right, of which nothing is written again.
        for (written, policy) in [(true, "always"), (false, "if-changed")] {
            let mut command = shell.command_as(USER);
            command
                .arg("restore")
                .arg(inside(&source))
                .args(["--json", "--overwrite", policy, "--target"])
                .arg(&target);
            let output = shell.run(&mut command);
            let text = String::from_utf8(output.stdout).unwrap();
            let said: serde_json::Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
            assert_eq!(said["files"].as_u64() > Some(0), written, "round {round}: {said}");
            assert_same_tree(&source.join("t"), &target.join("t"));
        }
    }
    shell.run(shell.command_as(USER).args(["check", "--read-data"]));
}

/// What stands in the target of a restore: one file as it was, one that is newer, one of another kind, one too many.
fn disturb(there: &Path) {
    fs::write(there.join("changed"), "newer than the snapshot").unwrap();
    fs::remove_file(there.join("file")).unwrap();
    fs::create_dir(there.join("file")).unwrap();
    fs::write(there.join("file/inside"), "x").unwrap();
    fs::remove_file(there.join("sub/missing")).unwrap();
    TreeSpec::files(&[("surplus/deep/er", 5), ("sub/surplus", 5)]).write(&there.join("new"));
    for name in ["surplus", "sub/surplus"] {
        fs::rename(there.join("new").join(name), there.join(name)).unwrap();
    }
    fs::remove_dir_all(there.join("new")).unwrap();
    chmod(&there.join("surplus"), 0o500);
    give(there);
}

#[test]
fn a_plain_user_restores_over_what_is_there_by_every_policy() {
    let Some(shell) = shell_of_user() else { return };
    let source = shell.workshop.source();
    fs::create_dir(&source).unwrap();
    TreeSpec::files(&[("same", 900), ("changed", 5000), ("file", 70), ("sub/missing", 40_000)])
        .write(&source.join("t"));
    give(&source);
    shell.run(shell.command_as(USER).args(["backup", "-q"]).arg(&source));
    for policy in ["always", "if-changed", "if-newer", "never"] {
        for deletes in [false, true] {
            let target = shell.workshop.room();
            let restore = |arguments: &[&str]| {
                let mut command = shell.command_as(USER);
                command
                    .arg("restore")
                    .arg(inside(&source))
                    .args(["-q", "--target"])
                    .arg(&target)
                    .args(arguments);
                command
            };
            shell.run(&mut restore(&[]));
            let there = target.join("t");
            disturb(&there);
            let arguments = ["--overwrite", policy, "--delete"];
            let mut command = restore(if deletes { &arguments } else { &arguments[..2] });
            let replaces = matches!(policy, "always" | "if-changed");
            // A directory with something in it goes only where surplus does.
            let is_kept_out = replaces && !deletes;
            let (_, said) = shell.run_to(&mut command, if is_kept_out { 1 } else { 0 });
            assert_eq!(said.contains("file"), is_kept_out, "{policy} {deletes}: {said}");
            assert!(there.join("sub/missing").exists(), "{policy} {deletes}");
            let is_newer = fs::read(there.join("changed")).unwrap() == b"newer than the snapshot";
            assert_eq!(is_newer, !replaces, "{policy} {deletes}");
            assert_eq!(there.join("surplus").exists(), !deletes, "{policy} {deletes}");
            assert_eq!(there.join("sub/surplus").exists(), !deletes, "{policy} {deletes}");
            if replaces && deletes {
                assert_same_tree(&source.join("t"), &there);
            }
        }
    }
}

/// A file that nobody may change or remove, not even root, until this is dropped.
struct Immutable(std::path::PathBuf);

impl Immutable {
    fn new(path: &Path) -> Option<Immutable> {
        let made = Command::new("chattr").arg("+i").arg(path).stderr(Stdio::null()).status();
        made.is_ok_and(|status| status.success()).then(|| Immutable(path.to_path_buf()))
    }
}

impl Drop for Immutable {
    fn drop(&mut self) {
        let _ = Command::new("chattr").arg("-i").arg(&self.0).status();
    }
}

#[test]
fn what_cannot_be_changed_is_named_and_the_rest_is_restored() {
    let shell = Shell { workshop: dr_tests::steps::Workshop::on_disk() };
    shell.init();
    let (source, target) = (shell.workshop.source(), shell.workshop.room());
    TreeSpec::files(&[("a", 900), ("b", 5000), ("d/c", 70), ("e/f", 40_000)]).write(&source);
    shell.run(&mut shell.backup());
    shell.run(shell.restore("latest", &target).arg("-q"));
    let there = restored(&target, &source);
    let change = || {
        for name in ["a", "b", "e/f"] {
            fs::write(there.join(name), "changed").unwrap();
        }
        fs::write(there.join("d/surplus"), "x").unwrap();
        TreeSpec::files(&[("kept", 5), ("gone", 5)]).write(&there.join("surplus"));
    };
    change();
    let names = ["b", "surplus/kept", "e"];
    let immutable: Vec<Immutable> =
        names.iter().filter_map(|name| Immutable::new(&there.join(name))).collect();
    if immutable.len() < names.len() {
        skip("immutable", "files cannot be made immutable here");
        return;
    }
    for arguments in
        [&["--delete"][..], &["--delete", "--in-place"], &["--delete", "--overwrite", "if-changed"]]
    {
        // Contents are missing: that is more than an attribute.
        let (_, said) = shell.run_to(shell.restore("latest", &target).args(arguments), 1);
        for name in ["b", "surplus/kept"] {
            let path = there.join(name);
            let is_named = |line: &str| {
                line.contains(path.to_str().unwrap()) || line.contains(source.join(name).to_str().unwrap())
            };
            assert!(said.lines().any(is_named), "{arguments:?}: {name}: {said}");
        }
        assert_eq!(fs::read(there.join("b")).unwrap(), b"changed");
        assert_eq!(fs::read(there.join("a")).unwrap(), fs::read(source.join("a")).unwrap());
        assert!(there.join("surplus/kept").exists());
        assert!(!there.join("surplus/gone").exists() && !there.join("d/surplus").exists());
        fs::write(there.join("a"), "changed").unwrap();
        fs::write(there.join("d/surplus"), "x").unwrap();
        fs::write(there.join("surplus/gone"), "x").unwrap();
    }
    drop(immutable);
    shell.run(shell.restore("latest", &target).args(["-q", "--delete"]));
    assert_same_tree(&source, &there);
}
