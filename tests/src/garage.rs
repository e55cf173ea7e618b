//! Garage, an S3 server that several machines make up together, and that ignores the condition of a conditional put.
//!
//! It takes minutes to build, so `.ci/setup` installs it, and tests use it, only where `DR_GARAGE=1`.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use dr_store::{OpenMode, Store, open_with};
use tempfile::TempDir;

use crate::servers::{BUCKET, KEY, free_port, missing, options, tools};

/// How long anything here may take: nodes find each other again within seconds.
const TIME_MAX: Duration = Duration::from_secs(300);
/// What the nodes know each other by.
const RPC_SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
/// Twice as long a node waits for a block that another one named, before it asks for it.
const RPC_TIMEOUT_MS: u64 = 10_000;
/// The tables that say which objects there are and where.
const TABLES: [&str; 3] = ["object", "version", "block_ref"];
/// So long is the name of a block's file; others are being written.
const HASH_LETTERS: usize = 64;

/// A cluster, every node of which holds everything. It ends with this value.
#[derive(Debug)]
pub struct Garage {
    nodes: Vec<Node>,
    folder: TempDir,
}

#[derive(Debug)]
struct Node {
    number: usize,
    rpc_port: u16,
    s3_port: u16,
    process: Mutex<Option<Child>>,
}

impl Drop for Garage {
    fn drop(&mut self) {
        for node in 0..self.nodes.len() {
            self.kill(node);
        }
    }
}

impl Garage {
    /// Starts a cluster of so many nodes, with a bucket and a key for it.
    pub fn start(nodes: usize) -> Option<Garage> {
        if std::env::var_os("DR_GARAGE").is_none() {
            return missing("garage", "the S3 server Garage is used where DR_GARAGE=1");
        }
        let folder = tempfile::tempdir().unwrap();
        let node =
            |number| Node { number, rpc_port: free_port(), s3_port: free_port(), process: Mutex::default() };
        let garage = Garage { nodes: (0..nodes).map(node).collect(), folder };
        for node in &garage.nodes {
            fs::write(garage.config(node), garage.configuration(node)).unwrap();
            garage.revive(node.number);
        }
        garage.make_cluster();
        Some(garage)
    }

    fn config(&self, node: &Node) -> PathBuf {
        self.folder.path().join(format!("{}.toml", node.number))
    }

    fn configuration(&self, node: &Node) -> String {
        let Node { number, rpc_port, s3_port, .. } = node;
        let folder = self.folder.path().display();
        let copies = self.nodes.len();
        format!(
            "metadata_dir = \"{folder}/{number}.meta\"\n\
             data_dir = \"{folder}/{number}.data\"\n\
             db_engine = \"lmdb\"\n\
             replication_factor = {copies}\n\
             rpc_bind_addr = \"127.0.0.1:{rpc_port}\"\n\
             rpc_public_addr = \"127.0.0.1:{rpc_port}\"\n\
             rpc_secret = \"{RPC_SECRET}\"\n\
             rpc_timeout_msec = {RPC_TIMEOUT_MS}\n\
             [s3_api]\n\
             s3_region = \"us-east-1\"\n\
             api_bind_addr = \"127.0.0.1:{s3_port}\"\n"
        )
    }

    /// The program `garage` as somebody who sits at a node.
    fn command(&self, node: &Node) -> Command {
        let mut command = Command::new(tools().join("bin/garage"));
        command.arg("-c").arg(self.config(node)).stdin(Stdio::null());
        command
    }

    fn ask(&self, node: &Node, line: &str) -> Result<String, String> {
        let output = self.command(node).args(line.split(' ')).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        match output.status.success() {
            true => Ok(said),
            false => Err(format!("{line}: {said}{}", String::from_utf8_lossy(&output.stderr))),
        }
    }

    /// Asks the first node until it does as it is told: at first the nodes may not have agreed on who they are.
    fn tell(&self, line: &str) {
        until(line, || self.ask(&self.nodes[0], line).map(drop));
    }

    fn make_cluster(&self) {
        let mut ids = Vec::new();
        for node in &self.nodes {
            until("node id", || {
                let id = self.ask(node, "node id -q")?;
                ids.push(id.trim().to_owned());
                Ok(())
            });
        }
        for id in &ids[1..] {
            self.tell(&format!("node connect {id}"));
        }
        let short: Vec<&str> = ids.iter().map(|id| &id[..16]).collect();
        self.tell(&format!("layout assign -z dc1 -c 10G {}", short.join(" ")));
        self.tell("layout apply --version 1");
        self.tell(&format!("key import --yes -n test {} {}", KEY.0, KEY.1));
        self.tell(&format!("bucket create {BUCKET}"));
        self.tell(&format!("bucket allow --read --write --owner {BUCKET} --key {}", KEY.0));
        // Nobody else is to be spared by a node that catches up.
        self.tell("worker set --all-nodes resync-tranquility 0");
        self.await_sync();
    }

    /// Starts a node, again where it was killed, and waits until it takes connections.
    pub fn revive(&self, node: usize) {
        let node = &self.nodes[node];
        let log = File::options().append(true).create(true).open(self.log_path(node)).unwrap();
        let mut command = self.command(node);
        command.arg("server").stdout(log.try_clone().unwrap()).stderr(log);
        *node.process.lock().unwrap() = Some(command.spawn().unwrap());
        until("a node's start", || {
            let ended = node.process.lock().unwrap().as_mut().and_then(|process| process.try_wait().unwrap());
            assert!(ended.is_none(), "{ended:?}: {}", fs::read_to_string(self.log_path(node)).unwrap());
            TcpStream::connect(("127.0.0.1", node.s3_port)).map(drop).map_err(|error| error.to_string())
        });
    }

    fn log_path(&self, node: &Node) -> PathBuf {
        self.folder.path().join(format!("{}.log", node.number))
    }

    /// Ends a node at once, as if its power failed.
    pub fn kill(&self, node: usize) {
        if let Some(mut process) = self.nodes[node].process.lock().unwrap().take() {
            // It may have ended by itself, which is as well.
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Waits until all nodes see each other and hold the same objects.
    pub fn await_sync(&self) {
        for node in &self.nodes {
            until("the nodes' meeting", || {
                let health = self.ask(node, "json-api GetClusterHealth")?;
                let health: serde_json::Value = serde_json::from_str(&health).unwrap();
                let is_whole = health["connectedNodes"].as_u64() == Some(self.nodes.len() as u64);
                if is_whole { Ok(()) } else { Err(health.to_string()) }
            });
        }
        // By themselves they would compare every ten minutes.
        self.tell("repair --all-nodes --yes tables");
        until("the nodes' agreement on objects", || {
            let said = self.ask(&self.nodes[0], "stats --all-nodes")?;
            let known: Vec<_> = said.split("==== NODE").skip(1).map(known_objects).collect();
            let is_same = known.len() == self.nodes.len()
                && known.iter().all(|counts| counts.is_some() && *counts == known[0]);
            if is_same { Ok(()) } else { Err(said) }
        });
        until("the nodes' agreement on blocks", || {
            let blocks: Vec<_> = self.nodes.iter().map(|node| self.blocks(node)).collect();
            let counts: Vec<usize> = blocks.iter().map(BTreeSet::len).collect();
            let is_same = blocks.iter().all(|own| *own == blocks[0]);
            if is_same { Ok(()) } else { Err(format!("{counts:?} {}", self.complaints())) }
        });
    }

    /// What the nodes complained of.
    fn complaints(&self) -> String {
        let logs = self.nodes.iter().map(|node| fs::read_to_string(self.log_path(node)).unwrap());
        let lines = |log: String| {
            let grave = |line: &&str| line.contains("ERROR") || line.contains("WARN");
            log.lines().rev().filter(grave).take(20).map(|line| format!("\n{line}")).collect::<String>()
        };
        logs.map(lines).collect()
    }

    /// The blocks that a node has on its disk.
    fn blocks(&self, node: &Node) -> BTreeSet<String> {
        let mut folders = vec![self.folder.path().join(format!("{}.data", node.number))];
        let mut blocks = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for found in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                if found.file_type().unwrap().is_dir() {
                    folders.push(found.path());
                } else if let Some(hash) = found.path().file_stem().filter(|name| name.len() == HASH_LETTERS)
                {
                    blocks.insert(hash.to_string_lossy().into_owned());
                }
            }
        }
        blocks
    }

    /// A node's URL.
    pub fn url(&self, node: usize) -> String {
        format!("http://127.0.0.1:{}", self.nodes[node].s3_port)
    }

    /// Opens a store below `prefix` in the bucket, through one node.
    pub fn s3(&self, node: usize, prefix: &str) -> Arc<dyn Store> {
        let location = format!("s3://{BUCKET}/{prefix}");
        open_with(&location, OpenMode::Create, &options(KEY).with_endpoint(self.url(node))).unwrap()
    }
}

/// How many objects, versions and references a node's statistics tell of; nothing while more are on their way.
fn known_objects(report: &str) -> Option<Vec<u64>> {
    let mut counts = Vec::new();
    for line in report.lines() {
        let mut words = line.split_whitespace();
        if words.next().is_some_and(|first| TABLES.contains(&first)) {
            // Items, nodes of the hash tree, and what waits for the tree and for being inserted.
            let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
            let [items, _, 0, 0, ..] = numbers[..] else { return None };
            counts.push(items);
        }
    }
    (counts.len() == TABLES.len()).then_some(counts)
}

/// Does something again until it succeeds: the nodes say nothing by themselves.
fn until(what: &str, mut attempt: impl FnMut() -> Result<(), String>) {
    let begin = Instant::now();
    while let Err(why) = attempt() {
        assert!(begin.elapsed() < TIME_MAX, "{what}: {why}");
        thread::sleep(Duration::from_millis(50));
    }
}
