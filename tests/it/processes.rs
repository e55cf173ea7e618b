//! The real program many times at once on one repository: hosts that back up, collectors, somebody who forgets, all of
//! them killed at random.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dr_tests::servers::Server;
use dr_tests::steps::{Dice, Workshop, program, restored};
use dr_tests::{Node, TreeSpec, assert_same_tree};

/// How long they go on; `DR_PROCESSES_SECONDS=3600` for an hour.
const SECONDS: u64 = 20;
const HOSTS: u64 = 8;
const COLLECTORS: u64 = 2;
/// So many of each host's snapshots are kept.
const KEPT: usize = 3;
/// What a run may say that was not killed and failed: others were always in its way.
const EXCUSES: [&str; 3] =
    ["were collected while it ran", "other writers were faster", "changes faster than it can be surveyed"];

/// What happened.
#[derive(Debug, Default)]
struct Counts {
    ended: AtomicU64,
    killed: AtomicU64,
    excused: AtomicU64,
}

/// A repository in a folder or on a server, and those who use it.
struct Fair {
    workshop: Workshop,
    server: Option<Server>,
    /// A run that is to be killed lives so many microseconds at most: about as long as most take.
    life_max: u64,
    until: Instant,
    counts: Counts,
}

/// What a host saw in each of its runs, and the last of them that was acknowledged.
#[derive(Debug, Default)]
struct Diary {
    copies: BTreeMap<String, PathBuf>,
    acknowledged: Option<String>,
}

impl Fair {
    fn command(&self, who: &str) -> Command {
        let at = |name: &str| self.workshop.path().join(name);
        let mut command = Command::new(program());
        for secret in ["DR_PASSWORD", "DR_PASSWORD_FILE", "DR_PASSWORD_COMMAND"] {
            command.env_remove(secret);
        }
        match &self.server {
            Some(server) => server.name_repository(&mut command),
            None => _ = command.env("DR_REPOSITORY", at("repository")),
        }
        command
            .env("DR_KEY_FILE", at("key"))
            .env("DR_CACHE_DIR", at(&format!("cache-{who}")))
            .env("DR_STATE_DIR", at(&format!("state-{who}")))
            .stdin(Stdio::null());
        command
    }

    fn output(&self, command: &mut Command) -> String {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command, and kills it after a random time or not at all. Whether it succeeded.
    fn run(&self, command: &mut Command, dice: &mut Dice) -> bool {
        let log = self.workshop.room();
        let stderr = std::fs::File::create(&log).unwrap();
        let mut child = command.stdout(Stdio::null()).stderr(stderr).spawn().unwrap();
        let is_killed = dice.below(3) == 0;
        if is_killed {
            std::thread::sleep(Duration::from_micros(dice.below(self.life_max)));
            // It may have ended; then there is nobody to kill.
            let _ = child.kill();
        }
        let status: ExitStatus = child.wait().unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        std::fs::remove_file(&log).unwrap();
        let counter = match status.code() {
            Some(0) => &self.counts.ended,
            None => &self.counts.killed,
            Some(_) if EXCUSES.iter().any(|excuse| said.contains(excuse)) => &self.counts.excused,
            Some(_) => panic!("{command:?}: {status}: {said}"),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        status.success()
    }

    /// Backs a tree up that changes all the time, until the time is over.
    fn back_up(&self, host: u64) -> Diary {
        let mut dice = Dice::new(host);
        let mut diary = Diary::default();
        let source = self.workshop.path().join(format!("source{host}"));
        let mut tree = TreeSpec::files(&[("kept", 5000), ("below/kept", 9000), ("large", 300_000)]);
        // Some share a cache, as users of one machine do.
        let who = if host < HOSTS / 2 { "shared".to_owned() } else { host.to_string() };
        for round in 0.. {
            if Instant::now() >= self.until && diary.acknowledged.is_some() {
                break;
            }
            for _ in 0..=dice.below(3) {
                // Few seeds, so that hosts share chunks, and find those that others just collected.
                let node = Node::File { seed: dice.below(12), bytes: 2000 + 500 * dice.below(4) as usize };
                tree.put(&format!("d{}/f{}", dice.below(2), dice.below(5)), node);
            }
            tree.write(&source);
            let tag = format!("host{host}-{round}");
            diary.copies.insert(tag.clone(), self.workshop.copy_of(&source));
            let mut command = self.command(&who);
            command.args(["backup", "-q", "--threads", "2", "--host", &format!("host{host}"), "--tag", &tag]);
            if self.run(command.arg(&source), &mut dice) {
                diary.acknowledged = Some(tag);
            }
        }
        diary
    }

    fn collect(&self, number: u64) {
        let mut dice = Dice::new(100 + number);
        let mut has_ended = false;
        while Instant::now() < self.until || !has_ended {
            let age = if dice.below(4) == 0 { "0s" } else { "1h" };
            let mut command = self.command(&format!("collector{number}"));
            command.args(["prune", "-q", "--threads", "2", "--max-unused", "0%", "--leftover-age", age]);
            has_ended |= self.run(&mut command, &mut dice);
            std::thread::sleep(Duration::from_millis(dice.below(300)));
        }
    }

    fn forget(&self) {
        let mut dice = Dice::new(200);
        let mut has_ended = false;
        while Instant::now() < self.until || !has_ended {
            let mut command = self.command("forgetter");
            command.args(["forget", "-q", "--group-by", "host", "--keep-last", &KEPT.to_string()]);
            has_ended |= self.run(&mut command, &mut dice);
            std::thread::sleep(Duration::from_millis(dice.below(500)));
        }
    }

    /// Everything that is listed is what its host saw, and the last that each host was told of is there.
    fn verify(&self, diaries: &[Diary]) -> usize {
        self.output(self.command("last").args(["check", "--read-data"]));
        let list = self.output(self.command("last").args(["snapshots", "--json"]));
        let list: serde_json::Value = serde_json::from_str(&list).unwrap();
        let mut listed = BTreeMap::new();
        for snapshot in list.as_array().unwrap() {
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            listed.insert(text(&snapshot["tags"][0]), text(&snapshot["id"]));
        }
        for (host, diary) in diaries.iter().enumerate() {
            let last = diary.acknowledged.as_ref().unwrap();
            assert!(listed.contains_key(last), "{last} is lost: {:?}", listed.keys());
            let prefix = format!("host{host}-");
            let source = self.workshop.path().join(format!("source{host}"));
            for (tag, id) in listed.iter().filter(|(tag, _)| tag.starts_with(&prefix)) {
                self.assert_restores(id, &source, &diary.copies[tag]);
            }
        }
        listed.len()
    }

    fn assert_restores(&self, id: &str, source: &Path, copy: &Path) {
        let target = self.workshop.room();
        self.output(self.command("last").arg("restore").arg(id).arg("--target").arg(&target));
        assert_same_tree(copy, &restored(&target, source));
        std::fs::remove_dir_all(target).unwrap();
    }
}

#[test]
fn heavy_hosts_collectors_and_forgetters_at_once_lose_nothing() {
    let seconds = seconds();
    let (listed, counts) = run(seconds, None, 400_000);
    println!("{listed} snapshots after {counts:?}");
    assert!(counts.ended.into_inner() > seconds);
}

#[test]
fn heavy_hosts_collectors_and_forgetters_at_once_lose_nothing_on_a_server() {
    let Some(server) = Server::moto() else { return };
    let seconds = seconds();
    let (listed, counts) = run(seconds, Some(server), 2_000_000);
    println!("{listed} snapshots after {counts:?}");
    assert!(counts.killed.into_inner() > 0);
}

fn seconds() -> u64 {
    std::env::var("DR_PROCESSES_SECONDS").map_or(SECONDS, |text| text.parse().unwrap())
}

/// Lets everybody loose for a while, until each has ended well at least once, and looks at what is left: how many snapshots, and what happened.
fn run(seconds: u64, server: Option<Server>, life_max: u64) -> (usize, Counts) {
    let fair = Fair {
        workshop: Workshop::new(),
        server,
        life_max,
        until: Instant::now() + Duration::from_secs(seconds),
        counts: Counts::default(),
    };
    fair.output(fair.command("last").arg("init").arg("--key-file").arg(fair.workshop.path().join("key")));
    let diaries: Vec<Diary> = std::thread::scope(|scope| {
        let hosts: Vec<_> = (0..HOSTS)
            .map(|host| {
                let fair = &fair;
                scope.spawn(move || fair.back_up(host))
            })
            .collect();
        for number in 0..COLLECTORS {
            let fair = &fair;
            scope.spawn(move || fair.collect(number));
        }
        scope.spawn(|| fair.forget());
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    let listed = fair.verify(&diaries);
    // Once more when everything that nothing needs is gone.
    let all = ["prune", "-q", "--max-unused", "0%", "--leftover-age", "0s"];
    fair.output(fair.command("last").args(all));
    assert_eq!(fair.verify(&diaries), listed);
    assert!(listed >= HOSTS as usize);
    (listed, fair.counts)
}
