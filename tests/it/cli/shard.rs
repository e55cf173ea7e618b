//! Checks and collections that are split over machines.

use std::fs;
use std::path::PathBuf;

use dr_tests::shell::Shell;
use dr_tests::{TreeSpec, noise};

/// A repository of many packs, which nothing but separate backups makes of so little.
fn with_packs() -> Shell {
    let shell = Shell::new();
    for number in 0..6u64 {
        TreeSpec::files(&[("keep", 900)]).write(&shell.workshop.source());
        fs::write(shell.workshop.source().join("file"), noise(number, 100_000)).unwrap();
        shell.run(&mut shell.backup());
    }
    shell
}

/// The report of a shard, in a file.
fn report(shell: &Shell, shard: &str, code: i32) -> PathBuf {
    let mut command = shell.command();
    command.args(["check", "--read-data", "--json", "--shard", shard]);
    let (output, _) = shell.run_to(&mut command, code);
    let path = shell.workshop.room();
    fs::write(&path, output.stdout).unwrap();
    path
}

#[test]
fn a_reduction_proves_that_every_shard_was_checked() {
    let shell = with_packs();
    let reports: Vec<PathBuf> = ["1/3", "2/3", "3/3"].map(|shard| report(&shell, shard, 0)).into();
    let reduce = |reports: &[&PathBuf]| {
        let mut command = shell.command();
        command.args(["check", "--reduce"]).args(reports);
        command
    };
    let all = shell.run(reduce(&[&reports[2], &reports[0], &reports[1]]).arg("--json"));
    let all: serde_json::Value = serde_json::from_slice(&all.stdout).unwrap();
    assert_eq!((all["shards"].as_u64(), all["intact"].as_bool()), (Some(3), Some(true)));
    let read = |path: &PathBuf| -> u64 {
        let report: serde_json::Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        report["bytes_read"].as_u64().unwrap()
    };
    assert_eq!(all["bytes_read"].as_u64(), Some(reports.iter().map(read).sum()));
    assert!(reports.iter().map(read).sum::<u64>() >= 600_000);
    for (some, missing) in [(vec![&reports[0], &reports[2]], "2/3"), (vec![&reports[1]], "1/3, 3/3")] {
        let (_, said) = shell.run_to(&mut reduce(&some), 1);
        assert!(said.contains(&format!("did not report: {missing}")), "{said}");
    }
    let other = report(&shell, "1/2", 0);
    let (_, said) = shell.run_to(&mut reduce(&[&reports[0], &other]), 2);
    assert!(said.contains("another number of shards"), "{said}");

    // Damage that only one of them can see is the reduction's, too.
    let packs = fs::read_dir(shell.repository().join("data")).unwrap();
    let pack = packs
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .next()
        .unwrap()
        .unwrap()
        .path();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[5000] ^= 1;
    rustix::fs::chmod(&pack, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    let mut again = Vec::new();
    for shard in ["1/3", "2/3", "3/3"] {
        let mut command = shell.command();
        let output = command.args(["check", "--read-data", "--json", "--shard", shard]).output().unwrap();
        let path = shell.workshop.room();
        fs::write(&path, &output.stdout).unwrap();
        again.push((path, output.status.code().unwrap()));
    }
    let codes: Vec<i32> = again.iter().map(|(_, code)| *code).collect();
    let damaged: Vec<i32> = codes.iter().copied().filter(|code| *code != 0).collect();
    assert_eq!(damaged.len(), 1, "{codes:?}");
    let paths: Vec<&PathBuf> = again.iter().map(|(path, _)| path).collect();
    let (_, said) = shell.run_to(&mut reduce(&paths), damaged[0]);
    assert!(said.contains("the repository is damaged"), "{said}");
}

#[test]
fn a_collection_in_shards_ends_with_one_run_however_many_of_them_ran() {
    for shards in [&["1/2", "2/2"][..], &["2/2"], &[]] {
        let shell = with_packs();
        let all = shell.snapshots();
        shell.run(shell.command().arg("forget").args(&all[..3]));
        let source = shell.workshop.source();
        for shard in shards {
            shell.run(shell.command().args([
                "prune",
                "--max-unused",
                "0",
                "--leftover-age",
                "0s",
                "--shard",
                shard,
            ]));
        }
        shell.run(shell.command().args(["prune", "--max-unused", "0", "--leftover-age", "0s"]));
        let stored: u64 = walked(&shell.repository().join("data"));
        assert!(stored < 550_000, "{stored} after {shards:?}");
        shell.assert_restores("latest", &source);
        shell.check();
    }
}

/// How many bytes the files below a directory have.
fn walked(folder: &std::path::Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(
            |entry| {
                if entry.path().is_dir() { walked(&entry.path()) } else { entry.metadata().unwrap().len() }
            },
        )
        .sum()
}
