//! Clients with an empty cache at a large repository: they read the filters and the pages that they need.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use dr_core::internals::{Class, Forger};
use dr_core::{
    Entry, EntryKind, ErrorKind, FileContent, Metadata, Repository, RepositoryOptions, RestoreOptions,
    RestoreReport, SnapshotFilter, Stream,
};
use dr_store::sim::{SimStore, When};
use dr_store::{MemoryStore, MeteredStore, Name, Store, StoreErrorKind};
use dr_tests::flaky::{FlakyStore, OneFault};
use dr_tests::repo::with_context;
use dr_tests::{TestRepo, key, noise};
use tempfile::TempDir;

const STEP: u64 = 256 << 10;
const FILES: u64 = 40;

fn content(number: u64) -> Vec<u8> {
    noise(number, 1000)
}

/// A repository of a few files, whose one segment lists so many chunks more. Gives the segment's name and length.
fn large(store: &Arc<dyn Store>, invented: u32) -> (Name, u64) {
    let repository = TestRepo::create(store.clone()).unwrap().repository;
    let mut forger = Forger::new(&repository).unwrap();
    let mut entries = Vec::new();
    for number in 0..FILES {
        let chunk = forger.chunk(Class::Data, &content(number)).unwrap();
        let mut stream = Stream::default();
        (stream.bytes, stream.chunks) = (1000, vec![chunk]);
        let mut metadata = Metadata::default();
        (metadata.mode, metadata.links) = (0o644, 1);
        entries.push(Entry::new(
            format!("file{number:02}"),
            EntryKind::File(FileContent::new(1000, stream, None)),
            metadata,
        ));
    }
    let root = forger.directory(&entries).unwrap();
    forger.invent_chunks(invented);
    forger.commit(root).unwrap();
    let segments = store.list_folder("index").unwrap().objects;
    assert_eq!(segments.len(), 1);
    (segments[0].name.clone(), segments[0].bytes)
}

fn open(store: &Arc<dyn Store>, cache: Option<&Path>) -> dr_core::Result<TestRepo> {
    let mut options = RepositoryOptions::new();
    options.cache_dir = cache.map(Path::to_owned);
    let repository = Repository::open(store.clone(), &key(), options)?;
    Ok(TestRepo { repository, store: store.clone(), clock: Arc::default() })
}

fn restore_one(repo: &TestRepo, room: &Path) -> dr_core::Result<RestoreReport> {
    let snapshot = repo.repository.snapshots(&SnapshotFilter::new())?.remove(0);
    let options = RestoreOptions::new().path("/file07");
    with_context(|ctx| repo.repository.restore(&snapshot, room, &options, ctx))
}

/// A directory of files that are stored already and so many that are not.
fn source(new: u64) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for number in (0..3).chain(1000..1000 + new) {
        fs::write(folder.path().join(number.to_string()), content(number)).unwrap();
    }
    folder
}

#[test]
fn a_cold_client_reads_filters_and_the_pages_that_it_needs() {
    const CHUNKS: u64 = 2_000_000;
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (_, segment) = large(&memory, CHUNKS as u32);
    let others: u64 = {
        let mut total = 0;
        memory
            .list("", None, &mut |meta| {
                total += meta.bytes;
                Ok(())
            })
            .unwrap();
        total - segment
    };
    assert!(segment > CHUNKS * 44 && others < 2 * STEP, "{segment} {others}");
    // The filter takes 1.13 bytes a chunk, the footer 8 bytes a page of 1,024; each with blocks at its ends.
    let opening = CHUNKS * 118 / 100 + CHUNKS / 1024 * 8 + 4 * STEP;
    // A chunk's page and its frame's page; each may lie across the border of two blocks.
    let lookup = 4 * STEP;

    let cache = tempfile::tempdir().unwrap();
    let metered = Arc::new(MeteredStore::new(memory));
    let store: Arc<dyn Store> = metered.clone();
    let mut before = metered.counts();
    let mut read = |what: &str, most: u64| {
        let counts = metered.counts();
        let since = counts.since(&before);
        before = counts;
        println!("{what}: {} bytes in {} calls, of {segment}", since.bytes_read, since.calls());
        assert!(since.bytes_read <= most, "{what}: {} bytes, at most {most}", since.bytes_read);
        since
    };

    // A restore looks up the root's chunk and the file's.
    let room = tempfile::tempdir().unwrap();
    let repo = open(&store, Some(cache.path())).unwrap();
    let report = restore_one(&repo, room.path()).unwrap();
    assert!(report.is_complete() && report.files == 1, "{report:?}");
    assert_eq!(fs::read(room.path().join("file07")).unwrap(), content(7));
    read("a cold restore of a file", opening + 2 * lookup + 2 * others);

    // The same again is served by this client's memory, and by the cache of the next one.
    drop(restore_one(&repo, room.path()).unwrap());
    read("the same again", 2 * others);
    let repo = open(&store, Some(cache.path())).unwrap();
    drop(restore_one(&repo, room.path()).unwrap());
    read("the same by another client with the cache", 2 * others);

    // A backup of three files that are stored and five that are not; those pass the filter one time in 256.
    let repo = open(&store, None).unwrap();
    let folder = source(5);
    let report = repo.backup(&[folder.path()]).unwrap();
    assert!(report.is_complete());
    let since = read("a cold backup", opening + (3 + 1) * lookup + 2 * others);
    assert!(since.bytes_written < STEP * 2);
    assert!(repo.backup(&[folder.path()]).unwrap().is_complete());

    // Whoever counts every record reads all of them, once.
    let repo = open(&store, Some(cache.path())).unwrap();
    read("opening", 2 * others + STEP);
    assert!(repo.repository.stats().unwrap().chunks > CHUNKS);
    assert!(read("counting", 2 * segment).bytes_read > segment);
    drop(restore_one(&open(&store, Some(cache.path())).unwrap(), room.path()).unwrap());
    read("a restore with all of the index in the cache", 2 * others + STEP);
}

#[test]
fn a_store_that_does_not_answer_is_no_damage() {
    let memory: Arc<dyn Store> = Arc::new(MemoryStore::new());
    let (_, segment) = large(&memory, 150_000);
    assert!(segment > 4 << 20);
    for call in 0.. {
        let fault = OneFault { call, kind: StoreErrorKind::Unavailable, when: When::Before };
        let flaky = Arc::new(FlakyStore::new(memory.clone(), fault));
        let store: Arc<dyn Store> = flaky.clone();
        let room = tempfile::tempdir().unwrap();
        let restored = open(&store, None).and_then(|repo| restore_one(&repo, room.path()));
        match restored {
            Ok(report) => assert!(report.is_complete(), "call {call}: {report:?}"),
            Err(error) => assert_eq!(error.kind(), ErrorKind::StoreUnavailable, "call {call}: {error:?}"),
        }
        if !flaky.has_failed() {
            assert!(call > 5);
            break;
        }
    }
}

#[test]
fn a_damaged_page_is_named_and_nothing_else_is_lost() {
    let sim = SimStore::new();
    let store: Arc<dyn Store> = Arc::new(sim.clone());
    let (name, segment) = large(&store, 150_000);
    // All chunk pages and frame pages: filter and footer stay.
    for offset in (300_000..segment - 10_000).step_by(20_000) {
        sim.corrupt(&name, offset, 1).unwrap();
    }
    let repo = open(&store, None).unwrap();
    let room = tempfile::tempdir().unwrap();
    let error = restore_one(&repo, room.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().contains(name.as_str()), "{error}");
    // What was in them is stored again.
    let folder = source(1);
    let report = repo.backup(&[folder.path()]).unwrap();
    assert!(report.is_complete());
    let snapshot = repo.latest().unwrap();
    assert!(repo.restore(&snapshot, room.path()).unwrap().is_complete());
    // Nobody deletes by such an index.
    let pruned = with_context(|ctx| repo.repository.prune(&dr_core::PruneOptions::new(), ctx).map(drop));
    assert_eq!(pruned.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// A store that answers with another segment of the repository, whole: reads fail, and a backup stores again what it does not
/// find; nothing rests on what is not there.
#[test]
fn another_segment_in_a_segments_place_makes_nobody_rest_on_what_is_gone() {
    let sim = SimStore::new();
    let store: Arc<dyn Store> = Arc::new(sim.clone());
    let (name, _) = large(&store, 150_000);
    let repository = open(&store, None).unwrap().repository;
    let mut forger = Forger::new(&repository).unwrap();
    forger.chunk(Class::Data, &content(5000)).unwrap();
    forger.invent_chunks(160_000);
    let root = forger.directory(&[]).unwrap();
    forger.commit(root).unwrap();
    let segments = store.list_folder("index").unwrap().objects;
    let other = segments.iter().find(|meta| meta.name != name).unwrap();
    assert_eq!(segments.len(), 2);
    let bytes = sim.get(&other.name).unwrap();
    sim.remove(&name).unwrap();
    sim.put(&name, bytes.into(), dr_store::PutMode::Create).unwrap();

    let repo = open(&store, None).unwrap();
    let room = tempfile::tempdir().unwrap();
    let restored = restore_one(&repo, room.path());
    assert!(restored.is_err() || !restored.unwrap().is_complete());
    let folder = source(1);
    let report = repo.backup(&[folder.path()]).unwrap();
    assert!(report.is_complete() && report.totals.new_chunks >= 4, "{report:?}");
    let room = tempfile::tempdir().unwrap();
    assert!(repo.restore(&repo.latest().unwrap(), room.path()).unwrap().is_complete());
    let pruned = with_context(|ctx| repo.repository.prune(&dr_core::PruneOptions::new(), ctx).map(drop));
    assert_eq!(pruned.unwrap_err().kind(), ErrorKind::Corrupt);
}
