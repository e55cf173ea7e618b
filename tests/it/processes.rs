//! The real program many times at once on one repository: hosts that back up, put streams, rewrite and merge what they saved,
//! collectors, somebody who forgets, and somebody who copies into a second repository, all of them killed at random.

use std::collections::BTreeMap;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dr_tests::history::without;
use dr_tests::servers::Server;
use dr_tests::steps::{Dice, Workshop, program, restored};
use dr_tests::{Node, TreeSpec, assert_same_tree, noise};

/// How long they go on; `DR_PROCESSES_SECONDS=3600` for an hour.
const SECONDS: u64 = 20;
const HOSTS: u64 = 8;
const COLLECTORS: u64 = 2;
/// So many of each host's snapshots are kept: more than it makes between two that it is told of, and all of that is killed.
const KEPT: usize = 6;
/// What is left out by a rewrite, and what is behind the name of a backup that lacks it.
const LEFT_OUT: &str = "d1";
const LESS: &str = "-less";
/// What a run may say that was not killed and failed: others were always in its way.
const EXCUSES: [&str; 6] = [
    "were collected while it ran",
    "was collected meanwhile",
    "other writers were faster",
    "changes faster than it can be surveyed",
    "there is no such snapshot",
    // Of a copy: what is collected while it is read is not there any more. In the end nothing excuses it.
    "not copied: something is damaged",
];

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
    /// Where the second repository is.
    second: Workshop,
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
    /// What it appended to its stream, and whether it was told that it did.
    appended: Vec<(Vec<u8>, bool)>,
    rewritten: u64,
    merged: u64,
}

/// A snapshot as it is listed: its id, and the names of the backups that it holds.
#[derive(Debug, Clone)]
struct Listed {
    id: String,
    names: Vec<String>,
}

impl Fair {
    fn command(&self, who: &str) -> Command {
        let mut command = self.plain(&self.workshop, who);
        match &self.server {
            Some(server) => server.name_repository(&mut command),
            None => _ = command.env("DR_REPOSITORY", self.workshop.path().join("repository")),
        }
        command
    }

    /// The program on the second repository.
    fn command_on_second(&self) -> Command {
        let mut command = self.plain(&self.second, "copier");
        command.env("DR_REPOSITORY", self.second.path().join("repository"));
        command
    }

    fn plain(&self, workshop: &Workshop, who: &str) -> Command {
        let at = |name: &str| workshop.path().join(name);
        let mut command = Command::new(program());
        for secret in ["DR_PASSWORD", "DR_PASSWORD_FILE", "DR_PASSWORD_COMMAND"] {
            command.env_remove(secret);
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
            // A server is slow, and backups are what it is for here.
            match dice.below(if self.server.is_some() { 16 } else { 4 }) {
                0 => self.append(host, &who, &mut diary, &mut dice),
                1 => self.rewrite(host, &who, &mut diary, &mut dice),
                2 => self.merge(host, &who, &mut diary, &mut dice),
                _ => {}
            }
        }
        diary
    }

    fn append(&self, host: u64, who: &str, diary: &mut Diary, dice: &mut Dice) {
        let number = diary.appended.len() as u64;
        let piece = [format!("<{number}>").as_bytes(), &noise(1000 + number, 3000)].concat();
        let mut input = tempfile::tempfile_in(self.workshop.path()).unwrap();
        input.write_all(&piece).unwrap();
        input.rewind().unwrap();
        let mut command = self.command(who);
        // Of a host of its own: what a policy keeps of the one says nothing of the other.
        command.args(["put", "-q", "--append", "stream", "--host", &format!("putter{host}")]).stdin(input);
        let is_told = self.run(&mut command, dice);
        diary.appended.push((piece, is_told));
    }

    /// What is there of a host, oldest first.
    fn list(&self, host: &str) -> Vec<Listed> {
        listed_by(&self.output(self.command("lister").args(["snapshots", "--json", "--host", host])))
    }

    /// Leaves something out of the host's newest snapshot.
    fn rewrite(&self, host: u64, who: &str, diary: &mut Diary, dice: &mut Dice) {
        let Some(Listed { id, names }) = self.list(&format!("host{host}")).pop() else { return };
        let [name] = &names[..] else { return };
        let copy = &diary.copies[name];
        if name.ends_with(LESS) || !copy.join(LEFT_OUT).exists() {
            return;
        }
        let less = format!("{name}{LESS}");
        diary.copies.insert(less.clone(), without(&self.workshop, copy, &[LEFT_OUT]));
        let mut command = self.command(who);
        command.args(["rewrite", "-q", &id, "--exclude", LEFT_OUT, "--set-tags", &less]);
        if dice.below(3) > 0 {
            command.arg("--forget");
        }
        diary.rewritten += u64::from(self.run(&mut command, dice));
    }

    /// Makes one of the host's newest two snapshots.
    fn merge(&self, host: u64, who: &str, diary: &mut Diary, dice: &mut Dice) {
        let list = self.list(&format!("host{host}"));
        let [.., older, newer] = &list[..] else { return };
        if older.names.len() + newer.names.len() > 2 || older.names == newer.names {
            return;
        }
        let mut command = self.command(who);
        command.args(["merge", "-q", "--by", "last", "--forget", &older.id, &newer.id]);
        diary.merged += u64::from(self.run(&mut command, dice));
    }

    fn copy_command(&self) -> Command {
        let mut command = self.command_on_second();
        command.args(["copy", "-q", "--threads", "2"]);
        command.env("DR_FROM_KEY_FILE", self.workshop.path().join("key"));
        command.env("DR_FROM_REPOSITORY", self.workshop.path().join("repository"));
        command
    }

    fn copy(&self) {
        let mut dice = Dice::new(300);
        while Instant::now() < self.until {
            self.run(&mut self.copy_command(), &mut dice);
            std::thread::sleep(Duration::from_millis(dice.below(500)));
        }
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
        let last = || self.command("last");
        self.output(last().args(["check", "--read-data"]));
        for (host, diary) in diaries.iter().enumerate() {
            let list = self.list(&format!("host{host}"));
            let acknowledged = diary.acknowledged.as_ref().unwrap();
            let is_it = |name: &String| name.strip_suffix(LESS).unwrap_or(name) == acknowledged;
            assert!(
                list.iter().any(|listed| listed.names.iter().any(is_it)),
                "{acknowledged} is lost: {list:?}"
            );
            self.assert_restores(&last, host, &list, diary);
            if let Some(newest) = self.list(&format!("putter{host}")).last() {
                assert_appended(&self.stream(&newest.id), &diary.appended);
            } else {
                assert!(diary.appended.iter().all(|(_, is_told)| !is_told), "the stream of {host} is lost");
            }
        }
        listed_by(&self.output(last().args(["snapshots", "--json"]))).len()
    }

    fn stream(&self, id: &str) -> Vec<u8> {
        let output = self.command("last").arg("dump").arg(format!("{id}:/stream")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        output.stdout
    }

    fn assert_restores(&self, command: &dyn Fn() -> Command, host: usize, list: &[Listed], diary: &Diary) {
        let source = self.workshop.path().join(format!("source{host}"));
        for Listed { id, names } in list {
            let expected = match &names[..] {
                [one] => diary.copies[one].clone(),
                [older, newer] => merged(&self.workshop, &diary.copies[older], &diary.copies[newer]),
                names => panic!("{id} is called {names:?}"),
            };
            let target = self.workshop.room();
            self.output(command().arg("restore").arg(id).arg("--target").arg(&target));
            assert_same_tree(&expected, &restored(&target, &source));
            std::fs::remove_dir_all(target).unwrap();
        }
    }

    /// All that is listed can be copied, whatever was cut short before, and the copies hold the same.
    fn verify_copies(&self, diaries: &[Diary]) {
        self.output(&mut self.copy_command());
        self.output(self.command_on_second().args(["check", "--read-data"]));
        for (host, diary) in diaries.iter().enumerate() {
            let name = format!("host{host}");
            let copies =
                self.command_on_second().args(["snapshots", "--json", "--host", &name]).output().unwrap();
            let copies = listed_by(&String::from_utf8(copies.stdout).unwrap());
            let names =
                |list: &[Listed]| -> Vec<Vec<String>> { list.iter().map(|one| one.names.clone()).collect() };
            let copied = names(&copies);
            assert!(names(&self.list(&name)).iter().all(|names| copied.contains(names)), "{copied:?}");
            self.assert_restores(&|| self.command_on_second(), host, &copies, diary);
        }
    }
}

/// The snapshots of a listing.
fn listed_by(json: &str) -> Vec<Listed> {
    let list: serde_json::Value = serde_json::from_str(json).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let listed = |snapshot: &serde_json::Value| Listed {
        id: text(&snapshot["id"]),
        names: snapshot["tags"].as_array().unwrap().iter().map(text).collect(),
    };
    list.as_array().unwrap().iter().map(listed).collect()
}

/// A tree over another one.
fn merged(workshop: &Workshop, older: &Path, newer: &Path) -> PathBuf {
    let both = workshop.copy_of(older);
    let copied = Command::new("cp").arg("-a").arg(newer.join(".")).arg(&both).status();
    assert!(copied.unwrap().success());
    both
}

/// A stream holds all that was told to be in it, in its order, and of the rest nothing but whole pieces.
fn assert_appended(stream: &[u8], appended: &[(Vec<u8>, bool)]) {
    let mut rest = stream;
    for (number, (piece, is_told)) in appended.iter().enumerate() {
        match rest.strip_prefix(piece.as_slice()) {
            Some(behind) => rest = behind,
            None => assert!(!is_told, "piece {number} is lost"),
        }
    }
    assert!(rest.is_empty(), "{} bytes are nobody's", rest.len());
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
        second: Workshop::new(),
        server,
        life_max,
        until: Instant::now() + Duration::from_secs(seconds),
        counts: Counts::default(),
    };
    fair.output(fair.command("last").arg("init"));
    // From a server is copied no otherwise, and by the tests of copies.
    let copies = fair.server.is_none();
    if copies {
        fair.output(fair.command_on_second().arg("init"));
    }
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
        if copies {
            scope.spawn(|| fair.copy());
        }
        hosts.into_iter().map(|host| host.join().unwrap()).collect()
    });
    let listed = fair.verify(&diaries);
    // Once more when everything that nothing needs is gone.
    let all = ["prune", "-q", "--max-unused", "0%", "--leftover-age", "0s"];
    fair.output(fair.command("last").args(all));
    assert_eq!(fair.verify(&diaries), listed);
    assert!(listed >= HOSTS as usize);
    if copies {
        fair.verify_copies(&diaries);
        let count = |of: &dyn Fn(&Diary) -> u64| diaries.iter().map(of).sum::<u64>();
        let appended = |diary: &Diary| diary.appended.iter().filter(|(_, is_told)| *is_told).count() as u64;
        let (rewritten, merged) = (count(&|diary| diary.rewritten), count(&|diary| diary.merged));
        // Each of it happened.
        assert!(count(&appended) > 0 && rewritten > 0 && merged > 0, "{rewritten} {merged}");
    }
    (listed, fair.counts)
}
