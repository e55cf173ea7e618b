//! A file that takes days to read: what is stored of it is not taken for what a broken run left.

use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use dr_core::{
    BackupOptions, BackupReport, CancelToken, Context, CreateOptions, PruneOptions, PruneReport, Repository,
    RepositoryOptions,
};
use dr_store::Store;
use dr_store::sim::SimStore;
use dr_tests::damage::open;
use dr_tests::garbage::prune_as;
use dr_tests::memory_source::{BeforeRead, MemoryFile, MemorySource, SharedSource};
use dr_tests::repo::noise;
use dr_tests::steps::{check, options};
use dr_tests::{TestClock, key};

const FILE_BYTES: usize = 100 << 20;
const READ_MS: i64 = 2 * 3600 * 1000;

/// Backs one file up of which every read takes two hours; a collection runs when four days are over.
fn backup_for_days(threads: usize, options: &BackupOptions) -> (BackupReport, PruneReport, SimStore) {
    let clock = Arc::new(TestClock::default());
    let store_ms = Arc::new(AtomicI64::new(2_208_988_800_000));
    let store = SimStore::with_clock(store_ms.clone());
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let opened = RepositoryOptions::new().with_clock(clock.clone());
    let repository = Repository::create(shared, &key(), &CreateOptions::new(), opened).unwrap();
    let reads = AtomicUsize::new(0);
    let collected = Arc::new(Mutex::new(None));
    let (other, seen) = (store.clone(), collected.clone());
    let before_read = BeforeRead(Some(Arc::new(move |_| {
        clock.advance_ms(READ_MS);
        store_ms.fetch_add(READ_MS, Ordering::SeqCst);
        if reads.fetch_add(1, Ordering::SeqCst) == 48 {
            let packs = other.objects().into_iter().filter(|(name, _)| name.as_str().starts_with("data/"));
            assert!(packs.count() > 0, "nothing is there to be taken");
            *seen.lock().unwrap() = Some(prune_as(&open(&other).unwrap(), &PruneOptions::new()).unwrap());
        }
    })));
    let file = MemoryFile { bytes: noise(1, FILE_BYTES), ..MemoryFile::default() };
    let files = [("huge".to_owned(), file)].into();
    let source = SharedSource(Arc::new(MemorySource { files, before_read, ..MemorySource::default() }));
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel).with_parallelism(threads);
    let report = repository.backup(&source, options, &ctx).unwrap();
    let collected = collected.lock().unwrap().take().unwrap();
    (report, collected, store)
}

#[test]
fn packs_of_a_file_that_takes_days_are_left_alone_by_a_collection() {
    for (threads, has_partials) in [(1, true), (2, true), (2, false)] {
        let mut options = options();
        if !has_partials {
            options.partial_every = None;
        }
        let (report, collected, store) = backup_for_days(threads, &options);
        let what = format!("{threads} threads, partial snapshots {has_partials}: {collected:?}");
        assert_eq!(
            (collected.leftovers, collected.packs_dead, collected.objects_deleted),
            (0, 0, 0),
            "{what}"
        );
        // Nothing had to be read or stored twice.
        assert_eq!(report.totals.bytes_read, FILE_BYTES as u64, "{what}");
        assert!(report.totals.new_bytes < FILE_BYTES as u64 + (64 << 10), "{what}");
        let repository = open(&store).unwrap();
        assert!(check(&repository).unwrap().is_intact(), "{what}");
    }
}
