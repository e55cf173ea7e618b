//! The concordance: made by a backup that looks up many chunks, asked by the next ones, and never missed.

use std::cell::Cell;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::internals::scale::{collate_small, mark};
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
    /// No process repeats what another one drew.
    opened: Cell<u64>,
}

impl Bench {
    /// A repository of several segments, each of a backup of other files.
    fn new() -> (Bench, Repository) {
        let (workshop, opened) = (Workshop::new(), Cell::new(10));
        let bench = Bench { cache: workshop.room(), workshop, store: Arc::new(MemoryStore::new()), opened };
        let repository =
            Repository::create(bench.store.clone(), &key(), &CreateOptions::new(), bench.options()).unwrap();
        for segment in 0..SEGMENTS {
            assert!(bench.back_up_of(&repository, segment..segment + 1) > FILES_EACH);
        }
        (bench, repository)
    }

    fn options(&self) -> RepositoryOptions {
        self.opened.set(self.opened.get() + 1);
        RepositoryOptions::new()
            .cache_dir(&self.cache)
            .with_clock(Arc::new(TestClock::default()))
            .with_entropy(Arc::new(TestEntropy::new(self.opened.get())))
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

/// Where the lines of a concordance begin.
fn first_line(bytes: &[u8]) -> usize {
    let tables = u32::from_le_bytes(*bytes[8..].first_chunk().unwrap());
    64 + tables as usize * 64
}

/// Replaces the lines of a concordance, in another file than the one that is mapped.
fn fill(path: &Path, byte: u8) {
    let mut bytes = fs::read(path).unwrap();
    let start = first_line(&bytes);
    bytes[start..].fill(byte);
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

/// The checksum of a concordance whose lines somebody replaced.
fn vouch_for(path: &Path) {
    let mut bytes = fs::read(path).unwrap();
    let check = blake3::hash(&bytes[64..]);
    bytes[40..64].copy_from_slice(&check.as_bytes()[..24]);
    fs::remove_file(path).unwrap();
    write_private(path, &bytes);
}

fn thorough() -> PruneOptions {
    let mut options = PruneOptions::new();
    options.max_unused = MaxUnused::Bytes(0);
    options.leftover_age = std::time::Duration::ZERO;
    options
}

#[test]
fn a_collection_finds_with_one_what_it_finds_without() {
    let (bench, repository) = Bench::new();
    let path = bench.file(&repository);
    bench.back_up_of(&repository, 2..4);
    drop(repository);
    bench.back_up(&bench.reopen());
    // What it hides is stored again, so that there are copies of everything.
    fill(&path, 0xff);
    vouch_for(&path);
    assert!(bench.back_up(&bench.reopen()) >= SEGMENTS * FILES_EACH);
    fs::remove_file(&path).unwrap();
    let mut dry = thorough();
    dry.dry_run = true;
    let look = |repository: &Repository| {
        let marked = alone(&(), |ctx| mark(repository, ctx)).unwrap();
        (marked, format!("{:?}", alone(&(), |ctx| repository.prune(&dry, ctx)).unwrap()))
    };
    let without = look(
        &Repository::open(bench.store.clone(), &key(), bench.options().cache_dir(bench.workshop.room()))
            .unwrap(),
    );
    assert!(without.0 >= 2 * SEGMENTS * FILES_EACH, "{without:?}");
    let with = look(&bench.reopen());
    assert!(path.exists(), "a collection makes one");
    assert_eq!(with, without);
    assert_eq!(look(&bench.reopen()), without);
    let sound = fs::read(&path).unwrap();
    let replace = |bytes: &[u8]| {
        fs::remove_file(&path).unwrap();
        write_private(&path, bytes);
    };
    for lie in [0, 0xff, 0x11] {
        replace(&sound);
        fill(&path, lie);
        vouch_for(&path);
        assert_eq!(
            look(&bench.reopen()).0,
            without.0,
            "{lie}: what is not found is looked for in the tables"
        );
    }
    // Its slots of the last table lead elsewhere.
    let (mut lying, mut last) = (sound, 0);
    let start = first_line(&lying);
    for hide in [false, true] {
        for line in lying[start..].as_chunks_mut::<64>().0 {
            for place in line[32..].as_chunks_mut::<4>().0 {
                let table = u32::from_le_bytes(*place) >> 22;
                match hide {
                    true if table == last => *place = [0; 4],
                    false if *place != [0xff; 4] => last = table.max(last),
                    _ => {}
                }
            }
        }
    }
    replace(&lying);
    assert_eq!(look(&bench.reopen()), without, "one that is damaged is not asked");
    assert_ne!(fs::read(&path).unwrap(), lying, "and makes room for another");
    replace(&lying);
    vouch_for(&path);
    let repository = bench.reopen();
    assert!(look(&repository).0 < without.0, "it hides copies");
    let report = alone(&(), |ctx| repository.prune(&thorough(), ctx)).unwrap();
    assert!(report.bytes_dead + report.bytes_repacked > 0, "{report:?}");
    assert!(check(&repository).unwrap().is_intact());
}
