//! What a client keeps on its own machine: what it saw of the log, which must never go back, and copies of the index, which
//! are only ever copies.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dr_core::{CreateOptions, ErrorKind, Repository, RepositoryOptions, Result, SnapshotFilter};
use dr_store::{LocalStore, MemoryStore, Store};
use dr_tests::steps::{Workshop, backup, check};
use dr_tests::{Node, TreeSpec, key};

/// A repository in a folder, the state of a client, and a copy of the folder as it was after the first backup.
struct Fixture {
    workshop: Workshop,
    state: PathBuf,
    earlier: PathBuf,
}

impl Fixture {
    fn new() -> Fixture {
        let workshop = Workshop::new();
        let (state, folder) = (workshop.path().join("state"), workshop.path().join("repository"));
        let store = Arc::new(LocalStore::create(&folder).unwrap());
        let options = RepositoryOptions::new().state_dir(&state);
        let repository = Repository::create(store, &key(), &CreateOptions::new(), options).unwrap();
        back_up(&workshop, &repository, 1);
        let earlier = workshop.copy_of(&folder);
        back_up(&workshop, &repository, 2);
        back_up(&workshop, &repository, 3);
        Fixture { workshop, state, earlier }
    }

    fn folder(&self) -> PathBuf {
        self.workshop.path().join("repository")
    }

    fn open_with(&self, options: RepositoryOptions) -> Result<Repository> {
        Repository::open(Arc::new(LocalStore::open(self.folder()).unwrap()), &key(), options)
    }

    fn open(&self) -> Result<Repository> {
        self.open_with(RepositoryOptions::new().state_dir(&self.state))
    }

    fn accept(&self) -> Result<Repository> {
        self.open_with(RepositoryOptions::new().state_dir(&self.state).accept_rollback())
    }

    /// Puts the store back to what it was after the first backup.
    fn roll_back(&self) {
        fs::remove_dir_all(self.folder()).unwrap();
        assert!(
            Command::new("cp").arg("-a").arg(&self.earlier).arg(self.folder()).status().unwrap().success()
        );
    }
}

fn back_up(workshop: &Workshop, repository: &Repository, seed: u64) {
    let mut tree = TreeSpec::files(&[("kept", 2000)]);
    tree.put("changing", Node::File { seed, bytes: 3000 });
    tree.write(&workshop.source());
    assert!(backup(repository, &workshop.source()).unwrap().is_complete());
}

fn count(repository: &Repository) -> usize {
    repository.snapshots(&SnapshotFilter::new()).unwrap().len()
}

#[test]
fn a_store_that_was_put_back_is_refused_until_that_is_accepted() {
    let fixture = Fixture::new();
    assert_eq!(count(&fixture.open().unwrap()), 3);
    fixture.roll_back();
    for _ in 0..2 {
        let error = fixture.open().unwrap_err();
        assert!(error.kind() == ErrorKind::RolledBack && error.object().is_some(), "{error:?}");
    }
    let repository = fixture.accept().unwrap();
    assert_eq!(count(&repository), 1);
    back_up(&fixture.workshop, &repository, 4);
    // Accepted once, it is the truth from then on.
    let repository = fixture.open().unwrap();
    assert_eq!(count(&repository), 2);
    assert!(check(&repository).unwrap().is_intact());
}

#[test]
fn a_log_that_went_another_way_is_refused_however_long_it_is() {
    for backups in [1, 2, 4] {
        let fixture = Fixture::new();
        fixture.roll_back();
        let stranger = fixture.open_with(RepositoryOptions::new()).unwrap();
        for round in 0..backups {
            back_up(&fixture.workshop, &stranger, 10 + round);
        }
        assert_eq!(fixture.open().unwrap_err().kind(), ErrorKind::RolledBack, "{backups} other backups");
        assert_eq!(count(&fixture.accept().unwrap()), 1 + backups as usize);
    }
}

#[test]
fn a_lost_newest_slot_is_noticed_by_who_saw_it() {
    let fixture = Fixture::new();
    let newest = newest_slot(&fixture.folder());
    fs::remove_file(&newest).unwrap();
    let error = fixture.open().unwrap_err();
    let name = newest.strip_prefix(fixture.folder()).unwrap().to_string_lossy().into_owned();
    assert_eq!((error.kind(), error.object()), (ErrorKind::RolledBack, Some(name.as_str())));
}

/// Slots are numbered downwards.
fn newest_slot(folder: &Path) -> PathBuf {
    let first =
        |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).min().unwrap();
    first(&first(&folder.join("log")))
}

#[test]
fn what_others_append_is_no_rollback() {
    let fixture = Fixture::new();
    let stranger = fixture.open_with(RepositoryOptions::new()).unwrap();
    back_up(&fixture.workshop, &stranger, 20);
    let ours = fixture.open().unwrap();
    back_up(&fixture.workshop, &stranger, 21);
    back_up(&fixture.workshop, &ours, 22);
    assert_eq!(count(&fixture.open().unwrap()), 6);
}

/// A program that stays open for weeks must notice as well, and not append behind a gap.
#[test]
fn an_open_repository_notices_that_its_store_was_put_back() {
    let fixture = Fixture::new();
    let repository = fixture.open().unwrap();
    fixture.roll_back();
    let source = fixture.workshop.source();
    assert_eq!(repository.refresh().unwrap_err().kind(), ErrorKind::RolledBack);
    assert_eq!(backup(&repository, &source).unwrap_err().kind(), ErrorKind::RolledBack);
}

#[test]
fn a_state_that_is_gone_or_unreadable_is_told_apart() {
    let fixture = Fixture::new();
    let seen = fs::read_dir(fixture.state.join("seen")).unwrap().next().unwrap().unwrap().path();
    fs::write(&seen, b"nonsense").unwrap();
    let error = fixture.open().unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Corrupt, Some(seen.as_path())));
    fixture.accept().unwrap();
    fixture.open().unwrap();
    fs::remove_dir_all(&fixture.state).unwrap();
    assert_eq!(count(&fixture.open().unwrap()), 3);
}

fn cached(workshop: &Workshop, store: &Arc<dyn Store>) -> Repository {
    let options = RepositoryOptions::new().cache_dir(workshop.path().join("cache"));
    Repository::open(store.clone(), &key(), options).unwrap()
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut stack) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files
}

/// The newest snapshot restores, nothing is stored twice, and nothing is damaged: with whatever is in the cache.
fn assert_as_ever(workshop: &Workshop, store: &Arc<dyn Store>, what: &str) {
    let source = workshop.source();
    let repository = cached(workshop, store);
    let snapshots = repository.snapshots(&SnapshotFilter::new()).unwrap();
    workshop.assert_restores(&repository, snapshots.last().unwrap(), &source, &source);
    let mut options = dr_tests::steps::options();
    options.parent = dr_core::Parent::Nothing;
    options.dry_run = true;
    let report = dr_tests::steps::backup_as(&cached(workshop, store), &source, &options, &()).unwrap();
    // Directories are encoded anew where their times changed; no file is as short as that.
    assert!(report.totals.new_bytes < 3000, "{what}: {:?}", report.totals);
}

#[test]
fn a_cache_that_is_gone_or_damaged_changes_nothing() {
    let workshop = Workshop::new();
    let source = workshop.source();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    Repository::create(store.clone(), &key(), &CreateOptions::new(), RepositoryOptions::new()).unwrap();
    TreeSpec::files(&[("a", 5000), ("b/c", 4000), ("large", 300_000)]).write(&source);
    assert!(backup(&cached(&workshop, &store), &source).unwrap().is_complete());
    assert_as_ever(&workshop, &store, "with a cache");
    let cache = workshop.path().join("cache");
    let files = files_below(&cache);
    assert!(!files.is_empty());
    for file in files {
        let whole = fs::read(&file).unwrap();
        if whole.is_empty() {
            // The mark of the last use holds nothing that could be damaged.
            continue;
        }
        let flips = (0..whole.len()).map(|offset| {
            let mut bytes = whole.clone();
            bytes[offset] ^= 1 << (offset % 8);
            (format!("byte {offset}"), bytes)
        });
        let cuts = [0, 1, whole.len() / 2, whole.len() - 1]
            .map(|length| (format!("cut to {length}"), whole[..length].to_vec()));
        let longer = [("longer".to_owned(), [whole.as_slice(), &[0]].concat())];
        for (what, bytes) in flips.chain(cuts).chain(longer) {
            fs::write(&file, bytes).unwrap();
            assert_as_ever(&workshop, &store, &what);
            fs::write(&file, &whole).unwrap();
        }
    }
    fs::remove_dir_all(&cache).unwrap();
    assert_as_ever(&workshop, &store, "without a cache");
    assert!(check(&cached(&workshop, &store)).unwrap().is_intact());
}

#[test]
fn a_cache_that_cannot_be_written_changes_nothing() {
    let workshop = Workshop::new();
    let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
    Repository::create(store.clone(), &key(), &CreateOptions::new(), RepositoryOptions::new()).unwrap();
    // A file where the folder should be stops root, too.
    fs::write(workshop.path().join("cache"), b"").unwrap();
    TreeSpec::files(&[("a", 5000)]).write(&workshop.source());
    assert!(backup(&cached(&workshop, &store), &workshop.source()).unwrap().is_complete());
    assert_as_ever(&workshop, &store, "no folder");
}
