//! The concordance: made by a backup that looks up many chunks, asked by the next ones, and never missed.

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::internals::scale::collate_small;
use dr_core::{
    CancelToken, Context, CreateOptions, MaxUnused, Parent, PruneOptions, Repository, RepositoryOptions,
    SnapshotFilter, list_caches,
};
use dr_store::{MemoryStore, Store};
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::steps::{Workshop, alone, check, options};
use dr_tests::{TestClock, TestEntropy, key, noise};

const SEGMENTS: u64 = 6;
const FILES_EACH: u64 = 400;

struct Bench {
    workshop: Workshop,
    cache: PathBuf,
    store: Arc<dyn Store>,
}

impl Bench {
    /// A repository of several segments, each of a backup of other files.
    fn new() -> (Bench, Repository) {
        let bench =
            Bench { workshop: Workshop::new(), cache: PathBuf::new(), store: Arc::new(MemoryStore::new()) };
        let bench = Bench { cache: bench.workshop.room(), ..bench };
        let repository =
            Repository::create(bench.store.clone(), &key(), &CreateOptions::new(), bench.options()).unwrap();
        for segment in 0..SEGMENTS {
            assert!(bench.back_up_of(&repository, segment..segment + 1) > FILES_EACH);
        }
        (bench, repository)
    }

    fn options(&self) -> RepositoryOptions {
        RepositoryOptions::new()
            .cache_dir(&self.cache)
            .with_clock(Arc::new(TestClock::default()))
            .with_entropy(Arc::new(TestEntropy::new(11)))
    }

    fn reopen(&self) -> Repository {
        let repository = Repository::open(self.store.clone(), &key(), self.options()).unwrap();
        collate_small(&repository);
        repository
    }

    /// Reads the files of some segments, and says how many chunks were new.
    fn back_up_of(&self, repository: &Repository, segments: Range<u64>) -> u64 {
        let file = |number: u64| {
            let file = MemoryFile { bytes: noise(number, 30), ..MemoryFile::default() };
            (format!("{number}"), file)
        };
        let files = (segments.start * FILES_EACH..segments.end * FILES_EACH).map(file).collect();
        let source = SharedSource(Arc::new(MemorySource { files, ..MemorySource::default() }));
        let mut options = options();
        options.parent = Parent::Nothing;
        let report = alone(&(), |ctx| repository.backup(&source, &options, ctx)).unwrap();
        assert!(report.is_complete());
        report.totals.new_chunks
    }

    fn back_up(&self, repository: &Repository) -> u64 {
        self.back_up_of(repository, 0..SEGMENTS)
    }

    fn file(&self, repository: &Repository) -> PathBuf {
        self.cache.join(repository.id()).join("concordance")
    }
}

/// Replaces the lines of a concordance, in another file than the one that is mapped.
fn fill(path: &Path, byte: u8) {
    let mut bytes = fs::read(path).unwrap();
    let names = usize::try_from(u32::from_le_bytes(*bytes[8..].first_chunk().unwrap())).unwrap() * 32;
    bytes[(64 + names).next_multiple_of(64)..].fill(byte);
    fs::remove_file(path).unwrap();
    write_private(path, &bytes);
}

fn write_private(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, bytes).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn a_backup_of_many_known_chunks_makes_a_concordance_that_the_next_one_asks() {
    let (bench, repository) = Bench::new();
    let path = bench.file(&repository);
    // As few chunks as these are not worth one.
    let trees = bench.back_up(&repository);
    assert!(!path.exists());
    drop(repository);
    let repository = bench.reopen();
    assert_eq!(bench.back_up(&repository), 0);
    assert!(path.exists());
    let made = fs::metadata(&path).unwrap();
    let caches = list_caches(&bench.cache).unwrap();
    assert!(caches[0].bytes > made.len());
    drop(repository);
    let repository = bench.reopen();
    assert_eq!(bench.back_up(&repository), 0);
    assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), made.modified().unwrap());
    // It is asked: what it hides is stored again, and what is there is read all the same.
    fill(&path, 0xff);
    drop(repository);
    let repository = bench.reopen();
    assert!(bench.back_up(&repository) >= SEGMENTS * FILES_EACH + trees);
    assert!(path.exists());
    assert!(check(&repository).unwrap().is_intact());
    assert!(!path.exists(), "a check removes one that is damaged");
    drop(repository);
    let repository = bench.reopen();
    assert_eq!(bench.back_up(&repository), 0);
    assert!(path.exists());
    assert!(check(&repository).unwrap().is_intact());
    assert!(path.exists(), "a check keeps a sound one");
}

#[test]
fn whatever_is_in_its_place_harms_nothing() {
    let (bench, repository) = Bench::new();
    let path = bench.file(&repository);
    drop(repository);
    bench.back_up(&bench.reopen());
    let sound = fs::read(&path).unwrap();
    for damaged in [Vec::new(), sound[..sound.len() / 2].to_vec(), vec![0; 4096], vec![0xff; 4096]] {
        fs::remove_file(&path).unwrap();
        write_private(&path, &damaged);
        let repository = bench.reopen();
        assert_eq!(bench.back_up(&repository), 0);
        assert!(fs::read(&path).unwrap().len() >= sound.len(), "it was replaced");
    }
    fill(&path, 0);
    bench.back_up(&bench.reopen());
    fs::remove_file(&path).unwrap();
    write_private(&path, &sound);
    // Others could write it, so it is not believed.
    use std::os::unix::fs::PermissionsExt;
    fill(&path, 0xff);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(bench.back_up(&bench.reopen()), 0);
    // It cannot be written.
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(bench.back_up(&bench.reopen()), 0);
    assert!(path.is_dir());
}

#[test]
fn one_of_segments_that_are_gone_hides_nothing() {
    let (bench, repository) = Bench::new();
    let path = bench.file(&repository);
    drop(repository);
    let repository = bench.reopen();
    bench.back_up(&repository);
    assert!(path.exists());
    let all: Vec<_> =
        repository.snapshots(&SnapshotFilter::new()).unwrap().iter().map(|snapshot| snapshot.id).collect();
    repository.forget(&all[..all.len() - 1]).unwrap();
    let mut prune = PruneOptions::new();
    prune.max_unused = MaxUnused::Bytes(0);
    let cancel = CancelToken::new();
    for _ in 0..3 {
        repository.prune(&prune, &Context::new(&(), &cancel).with_parallelism(1)).unwrap();
    }
    drop(repository);
    let repository = bench.reopen();
    assert_eq!(bench.back_up(&repository), 0);
    assert!(check(&repository).unwrap().is_intact());
}
