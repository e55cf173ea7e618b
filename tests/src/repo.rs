//! A repository for a test, in whatever store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::{
    BackupOptions, BackupReport, CancelToken, CheckOptions, CheckReport, Cipher, Context, CreateOptions,
    Credentials, LocalTree, LocalTreeOptions, Repository, RepositoryOptions, RestoreOptions, RestoreReport,
    Result, Snapshot, SnapshotFilter,
};
use dr_store::Store;

use crate::{TestClock, TestEntropy};

/// The credentials of test repositories: a key, because it costs no derivation.
pub fn key() -> Credentials {
    Credentials::key([42; 32])
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    crate::noise_of(&seed.to_le_bytes(), bytes)
}

/// A repository, its store, and what is injected into it.
#[derive(Debug, Clone)]
pub struct TestRepo {
    /// The open repository.
    pub repository: Repository,
    /// Its store.
    pub store: Arc<dyn Store>,
    /// Its clock.
    pub clock: Arc<TestClock>,
}

impl TestRepo {
    /// Makes a repository in a store.
    pub fn create(store: Arc<dyn Store>) -> Result<TestRepo> {
        let clock = Arc::new(TestClock::default());
        let options = options(&clock, 1);
        let repository = Repository::create(store.clone(), &key(), &CreateOptions::new(), options)?;
        Ok(TestRepo { repository, store, clock })
    }

    /// Makes a repository in memory.
    pub fn in_memory() -> TestRepo {
        TestRepo::create(Arc::new(dr_store::MemoryStore::new())).unwrap()
    }

    /// Makes a repository in memory whose objects are sealed with `cipher`.
    pub fn sealed_with(cipher: Cipher) -> TestRepo {
        let store: Arc<dyn Store> = Arc::new(dr_store::MemoryStore::new());
        let clock = Arc::new(TestClock::default());
        let options = options(&clock, 1).cipher(cipher);
        let repository = Repository::create(store.clone(), &key(), &CreateOptions::new(), options).unwrap();
        TestRepo { repository, store, clock }
    }

    /// The same repository, opened by somebody who seals with `cipher`.
    pub fn sealing_with(&self, cipher: Cipher, seed: u64) -> TestRepo {
        let options = options(&self.clock, seed).cipher(cipher);
        let repository = Repository::open(self.store.clone(), &key(), options).unwrap();
        TestRepo { repository, ..self.clone() }
    }

    /// Opens the repository in a store.
    pub fn open(store: Arc<dyn Store>, seed: u64) -> Result<TestRepo> {
        let clock = Arc::new(TestClock::default());
        let repository = Repository::open(store.clone(), &key(), options(&clock, seed))?;
        Ok(TestRepo { repository, store, clock })
    }

    /// Backs directories up.
    pub fn backup(&self, paths: &[&Path]) -> Result<BackupReport> {
        self.backup_with(paths, &BackupOptions::new().host("test"))
    }

    /// Backs directories up with options.
    pub fn backup_with(&self, paths: &[&Path], options: &BackupOptions) -> Result<BackupReport> {
        let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
        let source = LocalTree::open(&paths, LocalTreeOptions::default())?;
        with_context(|ctx| self.repository.backup(&source, options, ctx))
    }

    /// The newest whole snapshot.
    pub fn latest(&self) -> Result<Snapshot> {
        self.repository.find_snapshot("latest", &SnapshotFilter::new())
    }

    /// All snapshots.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.repository.snapshots(&SnapshotFilter::new()).unwrap()
    }

    /// Restores a snapshot below a directory.
    pub fn restore(&self, snapshot: &Snapshot, target: &Path) -> Result<RestoreReport> {
        with_context(|ctx| self.repository.restore(snapshot, target, &RestoreOptions::new(), ctx))
    }

    /// Checks everything.
    pub fn check(&self) -> Result<CheckReport> {
        with_context(|ctx| self.repository.check(&CheckOptions::new().read_data(), ctx))
    }

    /// Checks everything and stops the test where anything is wrong.
    pub fn assert_intact(&self) {
        let report = self.check().unwrap();
        assert!(report.is_intact(), "{:#?}", report.errors);
    }
}

fn options(clock: &Arc<TestClock>, seed: u64) -> RepositoryOptions {
    RepositoryOptions::new().with_clock(clock.clone()).with_entropy(Arc::new(TestEntropy::new(seed)))
}

/// Calls the engine with two threads, nobody to tell and nobody who cancels.
pub fn with_context<T>(call: impl FnOnce(&Context<'_>) -> T) -> T {
    let cancel = CancelToken::new();
    call(&Context::new(&(), &cancel).with_parallelism(2))
}
