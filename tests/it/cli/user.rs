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
