//! Whole histories of several clients on one store, drawn from seeds and run call by call on the engine's own code.

use std::process::Command;
use std::time::Instant;

use dr_tests::simulation::{Summary, run};

/// How many histories every run of the tests makes: about 75 seconds of one core.
const SEEDS: u64 = 2500;
/// After so many failures the rest is left out; the shortest is shown.
const FAILURES_MAX: usize = 10;
/// Histories whose records are compared with those of another process.
const REPLAYED: u64 = 40;
/// The child process of the comparison is given the first seed in this variable.
const CHILD: &str = "DR_SIM_CHILD";

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// `DR_SIM_SEEDS` histories from the seed `DR_SIM_FIRST` on.
#[test]
fn heavy_histories_lose_nothing() {
    let count = number_from("DR_SIM_SEEDS", SEEDS);
    let first = number_from("DR_SIM_FIRST", 0);
    let begin = Instant::now();
    let mut all = Summary::default();
    let mut failures = Vec::new();
    for seed in first..first + count {
        let one = match run(seed) {
            Ok(one) => one,
            Err(failure) => {
                println!("seed {seed}: {}", failure.why);
                failures.push(failure);
                if failures.len() >= FAILURES_MAX {
                    break;
                }
                continue;
            }
        };
        all.calls += one.calls;
        all.snapshots += one.snapshots;
        all.collected += one.collected;
        all.deleted += one.deleted;
        all.restored += one.restored;
        all.deaths += one.deaths;
    }
    println!("{count} histories in {:?}: {all:?}", begin.elapsed());
    let shortest = failures.iter().min_by_key(|failure| failure.operations.len());
    assert!(shortest.is_none(), "{} histories failed; the shortest: {shortest:?}", failures.len());
    if count >= SEEDS {
        // They do what they are for.
        assert!(all.snapshots > 3 * count && all.collected > count / 2 && all.deleted > count);
        assert!(all.restored > count / 2 && all.deaths > count / 4, "{all:?}");
    }
}

fn traces() -> String {
    (0..REPLAYED).map(|seed| format!("{}\n", run(seed * 7).unwrap().trace)).collect()
}

/// Hash tables begin with other numbers in every process, and threads meet otherwise.
#[test]
fn a_seed_gives_the_same_history_in_every_process() {
    if std::env::var_os(CHILD).is_some() {
        println!("traces:\n{}", traces());
        return;
    }
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "simulation::a_seed_gives_the_same_history_in_every_process", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let said = String::from_utf8(child.stdout).unwrap();
    let here = traces();
    let there: Vec<&str> = said.lines().filter(|line| line.len() == 64).collect();
    let differing = here.lines().zip(&there).filter(|(here, there)| here != *there).count();
    assert_eq!((there.len() as u64, differing), (REPLAYED, 0));
}
