//! Ctrl-C in the middle of a backup.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use rustix::process::{Pid, Signal, kill_process};

/// How many packs of contents lie in a repository.
fn packs(folder: &Path) -> usize {
    let Ok(items) = std::fs::read_dir(folder) else { return 0 };
    let count = |path: std::path::PathBuf| match path.is_dir() {
        true => packs(&path),
        false => usize::from(path.metadata().is_ok_and(|metadata| metadata.len() > 16 << 20)),
    };
    items.map(|item| count(item.unwrap().path())).sum()
}

#[test]
fn heavy_an_interrupted_backup_ends_soon_and_the_next_goes_on_from_its_packs() {
    let shell = Shell::new();
    let files = ["one", "two", "three", "four"].map(|name| (name, 45 << 20));
    let tree = TreeSpec::files(&files);
    tree.write(&shell.workshop.source());
    let mut command = shell.backup();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while packs(&shell.repository()) == 0 {
        assert!(begun.elapsed() < Duration::from_secs(60), "no pack was stored");
        std::thread::sleep(Duration::from_millis(1));
    }
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let ended = child.wait_with_output().unwrap();
    let took = asked.elapsed();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert!(took < Duration::from_secs(1), "{took:?}");
    assert!(said.starts_with("error: interrupted\n"), "{said}");
    assert_eq!(shell.snapshots().len(), 0);
    shell.check();
    let output = shell.run(shell.backup().arg("--json"));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let (total, new) = (180 << 20, summary["totals"]["new_bytes"].as_u64().unwrap());
    assert!(new + (12 << 20) < total, "only {} bytes were found again", total.saturating_sub(new));
    shell.assert_restores("latest", &shell.workshop.source());
    shell.check();
}
