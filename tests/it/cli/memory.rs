//! The memory of a backup, where a limit is set.

use std::fs;
use std::process::Child;
use std::time::Duration;

use dr_tests::shell::Shell;
use dr_tests::{Node, TreeSpec};

const LIMIT_KIB: u64 = 64 << 10;

/// The most memory that the process had until it ended, in KiB, and whether it succeeded.
fn high_water(child: &mut Child) -> (u64, bool) {
    let mut peak = 0;
    loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok());
        peak = peak.max(kib.unwrap_or(0));
        if let Some(status) = child.try_wait().unwrap() {
            return (peak, status.success());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn heavy_a_limit_of_memory_is_kept() {
    let shell = Shell::new();
    let source = shell.workshop.source();
    let mut tree = TreeSpec::files(&[("large", 150 << 20), ("larger", 200 << 20)]);
    for number in 0..3000 {
        tree.put(&format!("small/{number}"), Node::File { seed: number, bytes: 20_000 });
    }
    tree.write(&source);
    let mut limited = shell.backup();
    let mut child = limited.args(["--max-memory", "64M", "--threads", "8"]).spawn().unwrap();
    let (peak, succeeded) = high_water(&mut child);
    assert!(succeeded);
    assert!((LIMIT_KIB / 4..=LIMIT_KIB).contains(&peak), "{peak} KiB");
    shell.run(shell.command().args(["check", "--read-data"]));

    let (_, said) = shell.run_to(shell.backup().args(["--max-memory", "10M"]), 2);
    assert!(said.contains("takes 64 MiB of memory or more"), "{said}");
}
