//! Whole histories of several clients on one store, drawn from seeds and run call by call on the engine's own code.

use std::ops::Range;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use dr_tests::simulation::{Failure, Summary, run};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// How many histories every run of the tests makes: about 380 seconds of one core, shared by all there are.
const SEEDS: u64 = 24_000;
/// After so many failures the rest is left out; the shortest is shown.
const FAILURES_MAX: usize = 10;
/// Histories whose records are compared with those of another process.
const REPLAYED: u64 = 40;
/// The child process of the comparison is given the first seed in this variable.
const CHILD: &str = "DR_SIM_CHILD";

fn number_from(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// What several histories came to.
#[derive(Debug, Default)]
struct Tally {
    all: Summary,
    failures: Vec<Failure>,
}

impl Tally {
    fn add(&mut self, outcome: Result<Summary, Failure>) {
        match outcome {
            Ok(one) => {
                self.all.calls += one.calls;
                self.all.snapshots += one.snapshots;
                self.all.collected += one.collected;
                self.all.deleted += one.deleted;
                self.all.restored += one.restored;
                self.all.put += one.put;
                self.all.rewritten += one.rewritten;
                self.all.merged += one.merged;
                self.all.deaths += one.deaths;
            }
            Err(failure) => self.failures.push(failure),
        }
    }
}

/// Runs the histories of a range of seeds, one on each processor. A history's threads take turns, so they stay on the
/// processor on which it began: to wake a thread on another one takes longer than most turns do.
fn run_all(seeds: Range<u64>) -> Tally {
    let next = AtomicU64::new(seeds.start);
    let tally = Mutex::new(Tally::default());
    let allowed = sched_getaffinity(None).unwrap();
    let processors = (0..CpuSet::MAX_CPU).filter(|processor| allowed.is_set(*processor));
    std::thread::scope(|scope| {
        for processor in processors {
            let (next, tally, end) = (&next, &tally, seeds.end);
            scope.spawn(move || {
                let mut own = CpuSet::new();
                own.set(processor);
                sched_setaffinity(None, &own).unwrap();
                while tally.lock().unwrap().failures.len() < FAILURES_MAX {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end {
                        return;
                    }
                    let outcome = run(seed);
                    tally.lock().unwrap().add(outcome);
                }
            });
        }
    });
    tally.into_inner().unwrap()
}

/// `DR_SIM_SEEDS` histories from the seed `DR_SIM_FIRST` on.
#[test]
fn heavy_histories_lose_nothing() {
    let count = number_from("DR_SIM_SEEDS", SEEDS);
    let first = number_from("DR_SIM_FIRST", 0);
    let begin = Instant::now();
    let Tally { all, failures } = run_all(first..first + count);
    println!("{count} histories in {:?}: {all:?}", begin.elapsed());
    for failure in &failures {
        println!("seed {}: {}", failure.seed, failure.why);
    }
    let shortest = failures.iter().min_by_key(|failure| failure.operations.len());
    assert!(shortest.is_none(), "{} histories failed; the shortest: {shortest:?}", failures.len());
    if count >= SEEDS {
        // They do what they are for.
        assert!(all.snapshots > 3 * count && all.collected > count / 2 && all.deleted > count);
        assert!(all.restored > count / 2 && all.deaths > count / 4, "{all:?}");
        assert!(all.put > count && all.rewritten > count / 2 && all.merged > count / 6, "{all:?}");
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
