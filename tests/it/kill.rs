//! The real program, killed at random times: whatever it committed stays, and the next run needs no repair.

use std::collections::BTreeMap;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dr_tests::shell::Shell;
use dr_tests::steps::Dice;
use dr_tests::{Node, TreeSpec};

/// How many runs are begun and killed; `DR_KILLS=10000` for a long night.
const KILLS: u64 = 200;
/// After so many runs everything new is restored and compared.
const ROUNDS_BETWEEN_RESTORES: u64 = 20;

/// Begins a backup and kills it after a time. Whether it was done before that.
fn backup_and_kill(shell: &Shell, after: Duration) -> bool {
    let mut command = shell.backup();
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(after);
    // It may have ended; then there is nobody to kill.
    let _ = child.kill();
    child.wait().unwrap().success()
}

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn heavy_backups_that_are_killed_lose_nothing_that_was_committed() {
    let (kills, seed) = (number_from("DR_KILLS", KILLS), number_from("DR_KILL_SEED", 1));
    println!("DR_KILL_SEED={seed}");
    let (shell, mut dice) = (Shell::new(), Dice::new(seed));
    let mut tree = TreeSpec::default();
    for number in 0..40 {
        tree.put(&format!("d{}/f{number}", number % 4), Node::File { seed: number, bytes: 2000 });
    }
    tree.put("large", Node::File { seed: 100, bytes: 3 << 20 });
    tree.write(&shell.workshop.source());
    let begun = Instant::now();
    shell.run(&mut shell.backup());
    let typical_us = begun.elapsed().as_micros() as u64;
    let (mut known, mut copies) = (shell.snapshots(), BTreeMap::new());
    let (mut killed, mut acknowledged) = (0, 1);
    for round in 1..=kills {
        tree.put(
            &format!("d{}/f{}", round % 4, dice.below(40)),
            Node::File { seed: 1000 + round, bytes: 3000 },
        );
        tree.put("large", Node::File { seed: 5000 + round, bytes: 3 << 20 });
        tree.write(&shell.workshop.source());
        let is_done = backup_and_kill(&shell, Duration::from_micros(dice.below(typical_us * 3 / 2)));
        (killed, acknowledged) = (killed + u64::from(!is_done), acknowledged + u64::from(is_done));
        let listed = shell.snapshots();
        // A run that was killed may have committed; a run that was not must have.
        assert!(listed.starts_with(&known), "round {round}: a snapshot is lost: {known:?} {listed:?}");
        let new = &listed[known.len()..];
        assert!(new.len() <= 1 && (new.len() == 1 || !is_done), "round {round}: {new:?}");
        copies.extend(new.iter().map(|id| (id.clone(), shell.workshop.copy_of(&shell.workshop.source()))));
        known = listed;
        if round % ROUNDS_BETWEEN_RESTORES == 0 || round == kills {
            shell.check();
            for (id, copy) in std::mem::take(&mut copies) {
                shell.assert_restores(&id, &copy);
                std::fs::remove_dir_all(copy).unwrap();
            }
        }
    }
    assert!(killed >= kills / 5 && acknowledged > kills / 20, "{killed} of {kills} were killed");
}
