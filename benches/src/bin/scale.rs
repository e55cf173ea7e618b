//! What do operations cost in memory and time on a repository of very many chunks? Index and trees are real; the data packs are
//! only listed. Each operation runs in a process of its own.
//!
//!     cargo run --release -p dr-benches --bin scale -- [--pack-chunks N] [--folder PATH] [--keep] CHUNKS...
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a benchmark that cannot run should stop, and prints"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use dr_benches::{GhostStore, ManyFiles};
use dr_core::internals::scale::{self, OpenIndex, Shape};
use dr_core::{
    BackupOptions, CancelToken, CheckOptions, Context, CreateOptions, Credentials, Parent, PruneOptions,
    Repository, RepositoryOptions, RestoreOptions, SnapshotFilter,
};
use dr_store::{LocalStore, Store};

/// Those that write come last.
const OPERATIONS: &[(&str, &str)] = &[
    ("open", "open, list snapshots"),
    ("cold", "open, load the index, no cache"),
    ("restore", "restore one file"),
    ("check", "check"),
    ("prune", "prune, dry run"),
    ("small", "backup of 300 new files of 30 kB"),
    ("new", "backup of N/100 new files of 600 bytes"),
];
const LOOKUPS: u64 = 2_000_000;
const FILES_PER_DIRECTORY: u64 = 40;

fn main() {
    let (mut per_pack, mut folder, mut keep, mut sizes) =
        (65_536, std::env::temp_dir().join("dr-scale"), false, Vec::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--child" => return child(&arguments.collect::<Vec<_>>()),
            "--pack-chunks" => per_pack = arguments.next().unwrap().parse().unwrap(),
            "--folder" => folder = PathBuf::from(arguments.next().unwrap()),
            "--keep" => keep = true,
            size => sizes.push(size.parse::<u64>().unwrap()),
        }
    }
    std::fs::create_dir_all(&folder).unwrap();
    report(&folder, per_pack, &sizes);
    if !keep {
        std::fs::remove_dir_all(&folder).unwrap();
    }
}

/// What a process took.
#[derive(Debug, Clone, Copy)]
struct Measured {
    anonymous: f64,
    high_water: f64,
    seconds: f64,
}

fn report(folder: &Path, per_pack: u64, sizes: &[u64]) {
    let all: Vec<u64> = std::iter::once(0).chain(sizes.iter().copied()).collect();
    for size in &all {
        let place = folder.join(size.to_string());
        if !place.exists() {
            println!("{size} chunks: {}", run("build", &place, *size, per_pack, 0).1);
        }
    }
    println!("\n{per_pack} chunks a pack\n");
    println!(
        "| operation | chunks | RssAnon MiB | VmHWM MiB | seconds | beyond an empty one, bytes per chunk |"
    );
    println!("|---|---|---|---|---|---|");
    for (operation, title) in OPERATIONS {
        for size in &all {
            let extra = if *size == 0 { sizes.iter().max().unwrap_or(&0) / 100 } else { size / 100 };
            let taken = run(operation, &folder.join(size.to_string()), *size, per_pack, extra).0;
            let beyond = if *size == 0 {
                String::new()
            } else {
                let base = run(operation, &folder.join("0"), 0, per_pack, extra).0;
                format!("{:.2}", (taken.anonymous - base.anonymous) / *size as f64)
            };
            let mib = |bytes: f64| bytes / f64::from(1 << 20);
            let (anonymous, high_water) = (mib(taken.anonymous), mib(taken.high_water));
            println!(
                "| {title} | {size} | {anonymous:.1} | {high_water:.1} | {:.3} | {beyond} |",
                taken.seconds
            );
        }
    }
    println!();
    for size in sizes {
        for operation in ["lookups", "mark", "growth"] {
            println!(
                "{size} chunks: {}",
                run(operation, &folder.join(size.to_string()), *size, per_pack, 0).1
            );
        }
    }
}

/// Runs an operation in a process of its own; gives what it took and what it says.
fn run(operation: &str, place: &Path, size: u64, per_pack: u64, extra: u64) -> (Measured, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--child", operation])
        .arg(place)
        .args([size, per_pack, extra].map(|number| number.to_string()))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    assert!(output.status.success(), "{operation} failed");
    let text = String::from_utf8(output.stdout).unwrap();
    let (said, numbers) = text.trim_end().rsplit_once('\n').unwrap_or(("", text.trim_end()));
    let numbers: Vec<f64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
    (Measured { anonymous: numbers[0], high_water: numbers[1], seconds: numbers[2] }, said.to_owned())
}

fn child(arguments: &[String]) {
    static PEAK: AtomicU64 = AtomicU64::new(0);
    let (operation, place) = (arguments[0].as_str(), Path::new(&arguments[1]));
    let number = |place: usize| arguments[place].parse::<u64>().unwrap();
    let shape = Shape {
        chunks: number(2),
        chunks_per_pack: number(3) as u32,
        files_per_directory: FILES_PER_DIRECTORY,
    };
    std::thread::spawn(|| {
        loop {
            PEAK.fetch_max(status("RssAnon:"), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    });
    let start = Instant::now();
    if operation == "build" {
        build(place, shape);
    } else {
        operate(operation, place, shape, number(4));
    }
    let seconds = start.elapsed().as_secs_f64();
    let peak = status("RssAnon:").max(PEAK.load(Ordering::Relaxed));
    println!("{peak} {} {seconds}", status("VmHWM:"));
}

/// A line of this process's status, in bytes.
fn status(name: &str) -> u64 {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// The processor's time that the main thread took: other processes on the machine do not count.
fn processor_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
}

/// The processor's time that all threads of this process took, also those that ended.
fn process_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: f64 = fields[11..13].iter().map(|field| field.parse::<f64>().unwrap()).sum();
    // The kernel tells user space of 100 a second, whatever it counts itself.
    ticks / 100.0
}

fn key() -> Credentials {
    Credentials::key([42; 32])
}

fn store(place: &Path, shape: Shape) -> Arc<dyn Store> {
    let store = Arc::new(LocalStore::open(place.join("store")).unwrap());
    Arc::new(GhostStore::new(store, shape.packs()))
}

fn options(place: &Path, cache: &str) -> RepositoryOptions {
    RepositoryOptions::new().cache_dir(place.join(cache)).state_dir(place.join("state"))
}

fn build(place: &Path, shape: Shape) {
    std::fs::create_dir_all(place.join("store")).unwrap();
    let start = Instant::now();
    let repository =
        Repository::create(store(place, shape), &key(), &CreateOptions::new(), options(place, "cache"))
            .unwrap();
    let _ = scale::write(&repository, shape, &dr_benches::noise(1, 100_000)).unwrap();
    println!("written in {:.1} s", start.elapsed().as_secs_f64());
}

/// Files that no earlier run has stored.
fn files(files: u64, bytes: usize) -> ManyFiles {
    let now = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap();
    ManyFiles { files, bytes, seed: now.as_nanos() as u64 }
}

fn operate(operation: &str, place: &Path, shape: Shape, extra: u64) {
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    let cache = if operation == "cold" { "cold" } else { "cache" };
    let _ = std::fs::remove_dir_all(place.join("cold"));
    let repository = Repository::open(store(place, shape), &key(), options(place, cache)).unwrap();
    let backup = BackupOptions::new().host(operation);
    match operation {
        "open" => drop(repository.snapshots(&SnapshotFilter::new()).unwrap()),
        "cold" => drop(OpenIndex::load(&repository).unwrap()),
        "restore" => {
            let snapshot = repository.snapshots(&SnapshotFilter::new()).unwrap().remove(0);
            let mut wanted = RestoreOptions::new();
            wanted.path = b"/real".to_vec();
            let report = repository.restore(&snapshot, &place.join("target"), &wanted, &ctx).unwrap();
            assert!(report.is_complete());
        }
        "check" => {
            let report = repository.check(&CheckOptions::new(), &ctx).unwrap();
            assert!(report.is_intact(), "{:?}", report.errors);
        }
        "prune" => {
            let mut dry = PruneOptions::new();
            dry.dry_run = true;
            drop(repository.prune(&dry, &ctx).unwrap());
        }
        "small" => drop(repository.backup(&files(300, 30_000), &backup, &ctx).unwrap()),
        "new" => drop(repository.backup(&files(extra, 600), &backup, &ctx).unwrap()),
        "growth" => growth(&repository, &ctx),
        "lookups" => lookups(&repository, place, shape),
        "mark" => mark(&repository, &ctx),
        _ => panic!("there is no operation {operation}"),
    }
}

/// What a gigabyte costs that is new, and one that is known, beside all that is there already: files of several chunks on average.
fn growth(repository: &Repository, ctx: &Context<'_>) {
    const FILE_BYTES: usize = 200_000;
    let mut options = BackupOptions::new().host("growth");
    options.parent = Parent::Nothing;
    let source = files(1_000_000_000 / FILE_BYTES as u64, FILE_BYTES);
    for what in ["new", "known"] {
        let (start, processor) = (Instant::now(), process_seconds());
        let report = repository.backup(&source, &options, ctx).unwrap();
        let (seconds, processor) = (start.elapsed().as_secs_f64(), process_seconds() - processor);
        let gigabytes = report.totals.bytes as f64 / 1e9;
        println!(
            "{what}: {:.2} s for each GB, {:.2} s of the processor",
            seconds / gigabytes,
            processor / gigabytes
        );
    }
}

/// Marks what the snapshot needs: once to warm up, then with one thread and with all.
fn mark(repository: &Repository, ctx: &Context<'_>) {
    let most = ctx.parallelism;
    for threads in [most, 1, most] {
        let ctx = Context::new(ctx.observer, ctx.cancel).with_parallelism(threads);
        let (start, processor) = (Instant::now(), process_seconds());
        let marked = scale::mark(repository, &ctx).unwrap();
        let (all, processor) = (start.elapsed().as_secs_f64(), process_seconds() - processor);
        let rate = marked as f64 * threads as f64 / processor / 1e6;
        println!(
            "{marked} chunks marked by {threads} threads in {all:.2} s, {processor:.2} s of the processor: \
             {rate:.2} million a second where nothing else runs"
        );
    }
}

/// Looks up ids that are there, and ids that are not, in no order.
fn lookups(repository: &Repository, place: &Path, shape: Shape) {
    let start = Instant::now();
    let _ = std::fs::remove_file(place.join("cache").join(repository.id()).join("concordance"));
    let index = OpenIndex::load(repository).unwrap();
    let load = start.elapsed().as_secs_f64() * 1e3;
    let time = |index: &OpenIndex, first: u64, expected: bool| {
        let id = |number: u64| scale::chunk_id(first + number.wrapping_mul(2_654_435_761) % shape.chunks);
        let ids: Vec<_> = (0..LOOKUPS).map(id).collect();
        let mut best = f64::MAX;
        for _ in 0..3 {
            let start = processor_seconds();
            let found = ids.iter().filter(|id| index.holds(id)).count();
            assert_eq!(found, if expected { ids.len() } else { 0 });
            best = best.min(processor_seconds() - start);
        }
        best / LOOKUPS as f64 * 1e9
    };
    println!("{} segments, loaded in {load:.1} ms", index.segments());
    let measure = |index: &OpenIndex, how: &str| {
        let (hit, miss) = (time(index, 0, true), time(index, shape.chunks, false));
        println!("{how}: hit {hit:.0} ns, miss {miss:.0} ns");
    };
    measure(&index, "table by table");
    let start = processor_seconds();
    if index.collate(repository) {
        let (taken, bytes) = (processor_seconds() - start, status("RssAnon:"));
        println!("a concordance made in {taken:.2} s of the processor, RssAnon {} KiB", bytes / 1024);
    }
    measure(&index, "by the concordance");
}
