//! Steps that many tests take: room for a source and its copies, backups on one thread, restores compared with a copy.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant};

use dr_core::{
    BackupOptions, BackupReport, CancelToken, CheckOptions, CheckReport, Context, Event, LocalTree,
    LocalTreeOptions, Observer, Repository, RestoreOptions, RestoreReport, Result, Snapshot,
};
use tempfile::TempDir;

use crate::assert_same_tree;

/// A folder that is removed at the end, with room for a source, for copies of it and for restores.
#[derive(Debug)]
pub struct Workshop {
    folder: TempDir,
    rooms: AtomicU64,
}

impl Workshop {
    /// Makes a folder; in memory where the machine has such a place, since thousands of restores go there.
    pub fn new() -> Workshop {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        Workshop { folder: folder.unwrap(), rooms: AtomicU64::new(0) }
    }

    /// Makes a folder on a disk, whose file system knows everything that Linux can keep.
    pub fn on_disk() -> Workshop {
        Workshop { folder: tempfile::tempdir().unwrap(), rooms: AtomicU64::new(0) }
    }

    /// Where the source is to be.
    pub fn source(&self) -> PathBuf {
        self.folder.path().join("source")
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A path at which nothing is yet.
    pub fn room(&self) -> PathBuf {
        self.folder.path().join(format!("room{}", self.rooms.fetch_add(1, Ordering::Relaxed)))
    }

    /// A copy of a tree with all its metadata.
    pub fn copy_of(&self, tree: &Path) -> PathBuf {
        let copy = self.room();
        assert!(Command::new("cp").arg("-a").arg(tree).arg(&copy).status().unwrap().success());
        copy
    }

    /// Restores a snapshot of `source` and stops the test where it is not what `copy` holds.
    pub fn assert_restores(&self, repository: &Repository, snapshot: &Snapshot, source: &Path, copy: &Path) {
        let target = self.room();
        let report = restore(repository, snapshot, &target).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        assert_same_tree(copy, &restored(&target, source));
        fs::remove_dir_all(&target).unwrap();
    }
}

impl Default for Workshop {
    fn default() -> Self {
        Workshop::new()
    }
}

/// Where a restore into `target` puts what was backed up from `source`.
pub fn restored(target: &Path, source: &Path) -> PathBuf {
    target.join(source.strip_prefix("/").unwrap())
}

/// Calls the engine with one worker thread, so that the store sees nearly the same calls every time.
pub fn alone<T>(observer: &dyn Observer, call: impl FnOnce(&Context<'_>) -> T) -> T {
    let cancel = CancelToken::new();
    call(&Context::new(observer, &cancel).with_parallelism(1))
}

/// The options of a test's backups.
pub fn options() -> BackupOptions {
    BackupOptions::new().host("test")
}

/// Backs one directory up with one thread.
pub fn backup(repository: &Repository, source: &Path) -> Result<BackupReport> {
    backup_as(repository, source, &options(), &())
}

/// Backs one directory up with one thread, with options and an observer.
pub fn backup_as(
    repository: &Repository,
    source: &Path,
    options: &BackupOptions,
    observer: &dyn Observer,
) -> Result<BackupReport> {
    let tree = LocalTree::open(&[source.to_path_buf()], LocalTreeOptions::default())?;
    alone(observer, |ctx| repository.backup(&tree, options, ctx))
}

/// Restores all of a snapshot with one thread.
pub fn restore(repository: &Repository, snapshot: &Snapshot, target: &Path) -> Result<RestoreReport> {
    alone(&(), |ctx| repository.restore(snapshot, target, &RestoreOptions::new(), ctx))
}

/// Checks every byte with one thread.
pub fn check(repository: &Repository) -> Result<CheckReport> {
    alone(&(), |ctx| repository.check(&CheckOptions::new().read_data(), ctx))
}

/// Numbers that are the same for the same seed: SplitMix64.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The numbers of a seed.
    pub fn new(seed: u64) -> Dice {
        Dice(seed)
    }

    /// The next number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

/// Says that a part of a test cannot run here; the run of all tests compares such lines with the list of allowed ones.
pub fn skip(name: &str, reason: &str) {
    use std::io::Write;
    let Some(path) = std::env::var_os("DR_TEST_SKIPS") else { return };
    let mut file = fs::OpenOptions::new().append(true).create(true).open(path).unwrap();
    writeln!(file, "{name}: {reason}").unwrap();
}

/// The program: what `DR_BIN` names, or what was built beside this test, or what is built now.
pub fn program() -> &'static Path {
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
                .current_dir(crate::tidy::repository_root())
                .status();
            assert!(build.unwrap().success(), "the program cannot be built");
        }
        program
    })
}

/// Whether the test runs as root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Cancels a call when it has told of so many events of a kind.
#[derive(Debug)]
pub struct CancelAfter {
    /// What to give the call.
    pub cancel: CancelToken,
    is_one: fn(&Event) -> bool,
    left: AtomicU64,
    asked: Mutex<Option<Instant>>,
}

impl CancelAfter {
    /// Cancels at the event number `count`, from 1, of those for which `is_one` holds.
    pub fn new(count: u64, is_one: fn(&Event) -> bool) -> CancelAfter {
        CancelAfter {
            cancel: CancelToken::new(),
            is_one,
            left: AtomicU64::new(count),
            asked: Mutex::new(None),
        }
    }

    /// How long ago it cancelled; nothing where it did not.
    pub fn since(&self) -> Option<Duration> {
        self.asked.lock().unwrap().map(|asked| asked.elapsed())
    }
}

impl Observer for CancelAfter {
    fn event(&self, event: &Event) {
        if (self.is_one)(event) && self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            *self.asked.lock().unwrap() = Some(Instant::now());
            self.cancel.cancel();
        }
    }
}
