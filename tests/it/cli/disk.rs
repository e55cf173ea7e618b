//! Disks that are full: under a restore, and under the repository.

use std::fs;

use dr_tests::disk::SmallDisk;
use dr_tests::shell::Shell;
use dr_tests::steps::{restored, skip};
use dr_tests::{Node, TreeSpec, assert_same_tree};

const NO_MOUNT: &str = "no file system can be mounted here";

#[test]
fn a_restore_to_a_full_disk_says_what_and_why_and_succeeds_elsewhere() {
    let shell = Shell::new();
    let (source, place) = (shell.workshop.source(), shell.workshop.room());
    let Some(disk) = SmallDisk::mount(&place, "size=2m") else {
        skip("a_restore_to_a_full_disk", NO_MOUNT);
        return;
    };
    let mut tree = TreeSpec::files(&[("a/large", 6 << 20)]);
    for number in 0..40 {
        tree.put(&format!("b/{number}"), Node::File { seed: number, bytes: 3000 });
    }
    tree.write(&source);
    shell.run(&mut shell.backup());

    // Which file is the first that does not fit is a matter of the packs that they lie in.
    let target = disk.path().join("target");
    let (_, said) = shell.run_to(shell.restore("latest", &target).args(["--threads", "1"]), 1);
    let place = format!("{}/", restored(&target, &source).display());
    assert!(said.contains(&format!("error: a restored file could not be written: {place}")), "{said}");
    assert!(said.contains("because: No space left on device"), "{said}");
    assert!(said.contains("hint: free some space at the target"), "{said}");
    let (_, said) = shell.run_to(shell.restore("latest", &target).args(["--threads", "1", "--json"]), 1);
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(
        (last["error_code"].as_str(), last["code"].as_u64()),
        (Some("destination"), Some(1)),
        "{said}"
    );
    assert!(last["path"].as_str().is_some_and(|path| path.starts_with(&place)), "{said}");

    // Room for the bytes, but not for the names.
    let names = SmallDisk::mount(&shell.workshop.room(), "size=20m,nr_inodes=20").unwrap();
    let (_, said) = shell.run_to(&mut shell.restore("latest", &names.path().join("target")), 1);
    assert!(said.contains("No space left") && said.contains("hint: free some space"), "{said}");

    shell.assert_restores("latest", &source);
    // There as well, once there is room: what the other attempts left is replaced.
    disk.resize("size=20m");
    shell.run(&mut shell.restore("latest", &target));
    assert_same_tree(&source, &restored(&target, &source));
}

#[test]
fn a_backup_to_a_full_disk_says_so_and_keeps_what_is_there() {
    let shell = Shell::default();
    let source = shell.workshop.source();
    let Some(disk) = SmallDisk::mount(&shell.repository(), "size=16k") else {
        skip("a_backup_to_a_full_disk", NO_MOUNT);
        return;
    };
    // Not even a repository fits.
    let filler = disk.path().join("filler");
    let _ = fs::write(&filler, vec![0; 16 << 10]);
    let (_, said) = shell.run_to(shell.command().arg("init"), 22);
    assert!(said.contains("error: ") && said.contains("hint: "), "{said}");
    fs::remove_file(filler).unwrap();
    disk.resize("size=2m");
    shell.init();
    TreeSpec::files(&[("kept", 900), ("a/large", 150_000)]).write(&source);
    let copy = shell.workshop.copy_of(&source);
    shell.run(&mut shell.backup());

    TreeSpec::files(&[("kept", 900), ("a/large", 6 << 20)]).write(&source);
    for _ in 0..2 {
        let (_, said) = shell.run_to(&mut shell.backup(), 22);
        assert!(said.starts_with("error: ") && said.contains("hint: "), "{said}");
        let [first] = &shell.snapshots()[..] else { panic!("not one snapshot") };
        shell.assert_restores(first, &copy);
        shell.check();
    }
    let (_, said) = shell.run_to(shell.backup().arg("--json"), 22);
    assert!(said.contains("\"error_code\":\"storage_full\""), "{said}");

    disk.resize("size=20m");
    shell.run(&mut shell.backup());
    shell.assert_restores("latest", &source);
    shell.assert_restores(&shell.snapshots()[0], &copy);
    shell.check();
}

#[test]
fn a_full_disk_is_emptied_by_a_collection() {
    let shell = Shell::default();
    let source = shell.workshop.source();
    let Some(disk) = SmallDisk::mount(&shell.repository(), "size=8m") else {
        skip("a_full_disk_is_emptied", NO_MOUNT);
        return;
    };
    shell.init();
    TreeSpec::files(&[("gone", 3 << 20)]).write(&source);
    shell.run(&mut shell.backup());
    fs::remove_file(source.join("gone")).unwrap();
    TreeSpec::files(&[("kept", 300_000)]).write(&source);
    shell.run(&mut shell.backup());
    let old = shell.snapshots().remove(0);
    shell.run(shell.command().args(["forget", &old]));
    let filler = disk.path().join("filler");
    let _ = fs::write(&filler, vec![1; 8 << 20]);
    let prune = || {
        let mut command = shell.command();
        command.args(["prune", "--leftover-age", "0s"]);
        command
    };
    let (_, said) = shell.run_to(&mut prune(), 22);
    assert!(said.contains("hint: free 16 KiB"), "{said}");
    let filled = fs::metadata(&filler).unwrap().len();
    fs::File::options().write(true).open(&filler).unwrap().set_len(filled - (16 << 10)).unwrap();
    shell.run(&mut prune());
    let free = rustix::fs::statvfs(disk.path()).unwrap();
    let free = free.f_bavail * free.f_frsize;
    assert!(free > 3 << 20, "{free}");
    shell.assert_restores("latest", &source);
    shell.check();
}
