//! The real program, killed at random times: whatever it committed stays, and the next run needs no repair.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use dr_tests::steps::{Dice, Workshop, restored};
use dr_tests::{Node, TreeSpec, assert_same_tree};

/// How many runs are begun and killed; `DR_KILLS=10000` for a long night.
const KILLS: u64 = 200;
/// After so many runs everything new is restored and compared.
const ROUNDS_BETWEEN_RESTORES: u64 = 20;

/// The program: what `DR_BIN` names, or what was built beside this test, or what is built now.
pub(super) fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let named = std::env::var_os("DR_BIN").map(PathBuf::from);
        if let Some(program) = named.filter(|program| program.is_file()) {
            return program;
        }
        let test = std::env::current_exe().unwrap();
        // `target/debug/deps/it-…`
        let profile = test.parent().and_then(Path::parent).unwrap();
        let program = profile.join("dr");
        if !program.is_file() {
            let build = Command::new(env!("CARGO"))
                .args(["build", "--locked", "-p", "dr-cli"])
                .env("CARGO_TARGET_DIR", profile.parent().unwrap())
                .current_dir(dr_tests::tidy::repository_root())
                .status();
            assert!(build.unwrap().success(), "the program cannot be built");
        }
        program
    })
}

/// A repository in a folder, used through the program only.
struct Shell {
    workshop: Workshop,
}

impl Shell {
    fn new() -> Shell {
        let shell = Shell { workshop: Workshop::new() };
        let key_file = shell.workshop.path().join("key");
        shell.run(Command::new(program()).arg("init").arg("--key-file").arg(key_file));
        shell
    }

    fn command(&self) -> Command {
        let mut command = Command::new(program());
        command.env("DR_KEY_FILE", self.workshop.path().join("key"));
        command
    }

    fn prepare<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let at = |name| self.workshop.path().join(name);
        for secret in ["DR_PASSWORD", "DR_PASSWORD_FILE", "DR_PASSWORD_COMMAND"] {
            command.env_remove(secret);
        }
        command
            .env("DR_REPOSITORY", at("repository"))
            .env("DR_CACHE_DIR", at("cache"))
            .env("DR_STATE_DIR", at("state"))
            .stdin(Stdio::null())
    }

    /// Runs to the end, which must be a good one.
    fn run(&self, command: &mut Command) -> Output {
        let output = self.prepare(command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
        output
    }

    fn backup(&self) -> Command {
        let mut command = self.command();
        command.arg("backup").arg("-q").arg(self.workshop.source());
        command
    }

    /// Begins a backup and kills it after a time. Whether it was done before that.
    fn backup_and_kill(&self, after: Duration) -> bool {
        let mut command = self.backup();
        let mut child =
            self.prepare(&mut command).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(after);
        // It may have ended; then there is nobody to kill.
        let _ = child.kill();
        child.wait().unwrap().success()
    }

    fn snapshots(&self) -> Vec<String> {
        let output = self.run(self.command().args(["snapshots", "--json"]));
        let list: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let id = |snapshot: &serde_json::Value| snapshot["id"].as_str().unwrap().to_owned();
        list.as_array().unwrap().iter().map(id).collect()
    }

    fn check(&self) {
        self.run(self.command().args(["check", "--read-data"]));
    }

    fn assert_restores(&self, id: &str, copy: &Path) {
        let target = self.workshop.room();
        self.run(self.command().arg("restore").arg(id).arg("--target").arg(&target));
        assert_same_tree(copy, &restored(&target, &self.workshop.source()));
        std::fs::remove_dir_all(target).unwrap();
    }
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
        let is_done = shell.backup_and_kill(Duration::from_micros(dice.below(typical_us * 3 / 2)));
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
