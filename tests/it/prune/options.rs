//! Times by the store's clock, dry runs, shards and threads.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use dr_core::{CancelToken, Context, ErrorKind, MaxUnused, PruneOptions, PruneReport, Shard};
use dr_store::Store;
use dr_store::sim::SimStore;
use dr_tests::TestRepo;
use dr_tests::damage::open;
use dr_tests::garbage::{Waste, assert_clean, leave_behind, prune, prune_as, thorough};
use dr_tests::steps::Workshop;

const NOW_MS: i64 = 1_900_000_000_000;

/// A repository whose clients' clocks are far off, in both directions.
fn with_clock(store: &SimStore, off_ms: i64) -> TestRepo {
    // Randomness of its own: with the same, a run would take the entries of another for its own.
    static SEED: AtomicU64 = AtomicU64::new(50);
    let seed = SEED.fetch_add(1, Ordering::Relaxed);
    let repo = TestRepo::open(Arc::new(store.clone()), seed).unwrap();
    repo.clock.advance_ms(off_ms);
    repo
}

/// Garbage of the time `NOW_MS` in a store with a clock of its own.
fn waste_now(workshop: &Workshop) -> Waste {
    let mut waste = Waste::new(workshop);
    let store = SimStore::new();
    store.set_now_ms(NOW_MS);
    for (name, bytes) in waste.patient.store.objects() {
        store.put(&name, bytes.into(), dr_store::PutMode::Create).unwrap();
    }
    waste.patient.store = store;
    waste
}

#[test]
fn nothing_is_collected_before_the_hold_is_over_by_the_stores_clock() {
    let workshop = Workshop::new();
    let waste = waste_now(&workshop);
    let store = &waste.patient.store;
    let mut options = thorough();
    options.hold = Duration::from_secs(100);
    for (passed_ms, off_ms) in [(0, 1 << 50), (50_000, -(1 << 41)), (99_999, 1 << 50)] {
        store.set_now_ms(NOW_MS + passed_ms);
        let report = prune_as(&with_clock(store, off_ms).repository, &options).unwrap();
        assert!(report.collected.is_empty(), "after {passed_ms} ms: {report:?}");
        // Bringing a snapshot back and forgetting it anew begins the hold anew.
        if passed_ms == 50_000 {
            open(store).unwrap().unforget(&waste.forgotten[..1]).unwrap();
            open(store).unwrap().forget(&waste.forgotten[..1]).unwrap();
        }
    }
    store.set_now_ms(NOW_MS + 100_000);
    let repo = with_clock(store, -(1 << 41));
    assert_eq!(prune_as(&repo.repository, &options).unwrap().collected, waste.forgotten[1..]);
    store.set_now_ms(NOW_MS + 149_999);
    assert_eq!(prune_as(&repo.repository, &options).unwrap().collected, []);
    store.set_now_ms(NOW_MS + 150_000);
    assert_eq!(prune_as(&repo.repository, &options).unwrap().collected, waste.forgotten[..1]);
    waste.assert_whole(&workshop, store);
    assert_clean(store);
}

fn parts(waste: &Waste) -> usize {
    ["data", "tree", "index"].iter().map(|folder| waste.patient.names_in(folder).len()).sum()
}

#[test]
fn nothing_is_deleted_before_the_grace_is_over_by_the_stores_clock() {
    let workshop = Workshop::new();
    let waste = waste_now(&workshop);
    let store = &waste.patient.store;
    let mut options = thorough();
    options.grace = Duration::from_secs(100);
    let before = parts(&waste);
    let report = prune_as(&with_clock(store, 1 << 50).repository, &options).unwrap();
    assert!(report.objects_deleted == 0 && report.objects_waiting > 4, "{report:?}");
    assert!(parts(&waste) >= before);
    waste.assert_whole(&workshop, store);
    store.set_now_ms(NOW_MS + 99_999);
    let report = prune_as(&with_clock(store, 1 << 50).repository, &options).unwrap();
    assert!(report.objects_deleted == 0 && report.objects_waiting > 4, "{report:?}");
    store.set_now_ms(NOW_MS + 100_000);
    let waiting = report.objects_waiting;
    let report = prune_as(&with_clock(store, -(1 << 41)).repository, &options).unwrap();
    assert_eq!((report.objects_deleted, report.objects_waiting), (waiting, 0), "{report:?}");
    waste.assert_whole(&workshop, store);
    assert_clean(store);
}

#[test]
fn a_leftover_stays_until_it_is_old_by_the_stores_clock() {
    let workshop = Workshop::new();
    let waste = waste_now(&workshop);
    let store = &waste.patient.store;
    let mut options = PruneOptions::new();
    options.max_unused = MaxUnused::Unlimited;
    store.set_now_ms(NOW_MS + 24 * 3_600_000 - 1);
    assert_eq!(prune_as(&with_clock(store, 1 << 50).repository, &options).unwrap().leftovers, 0);
    store.set_now_ms(NOW_MS + 24 * 3_600_000);
    assert_eq!(prune_as(&with_clock(store, -(1 << 41)).repository, &options).unwrap().leftovers, 3);
    waste.assert_whole(&workshop, store);
}

#[test]
fn a_dry_run_changes_nothing_and_says_what_the_run_does() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let store = &waste.patient.store;
    let mut dry = thorough();
    dry.dry_run = true;
    let before = store.objects();
    let planned = prune_as(&open(store).unwrap(), &dry).unwrap();
    assert_eq!(store.objects(), before);
    assert_eq!(store.crash_image().objects(), before);
    let done = prune(&open(store).unwrap()).unwrap();
    let said = |report: &PruneReport| {
        let numbers = [report.packs_dead, report.bytes_dead, report.packs_repacked, report.bytes_repacked];
        (report.collected.clone(), numbers, report.leftovers, report.bytes_leftover, report.bytes_unused)
    };
    assert_eq!(said(&planned), said(&done));
    assert!(done.bytes_deleted > 0 && done.bytes_written > 0 && done.bytes_unused == 0, "{done:?}");
    assert!(done.bytes_live > 0 && done.bytes_live.abs_diff(planned.bytes_live) < 20_000, "{done:?}");
}

#[test]
fn shards_and_a_run_behind_them_end_as_one_run_does() {
    let workshop = Workshop::new();
    let waste = Waste::with_files(&workshop, 100);
    let one = waste.patient.store.crash_image();
    let whole = prune(&open(&one).unwrap()).unwrap();
    let shared = waste.patient.store.crash_image();
    let mut repacked = 0;
    for number in 1..=3 {
        let mut options = thorough();
        options.shard = Some(Shard::new(number, 3).unwrap());
        let report = prune_as(&open(&shared).unwrap(), &options).unwrap();
        assert_eq!((report.objects_deleted, report.collected.len()), (0, 0), "{report:?}");
        repacked += report.packs_repacked;
        waste.assert_whole(&workshop, &shared);
    }
    assert_eq!(repacked, whole.packs_repacked);
    let report = prune(&open(&shared).unwrap()).unwrap();
    assert_eq!(report.collected, waste.forgotten);
    assert_eq!((report.packs_repacked, report.bytes_unused), (0, 0), "{report:?}");
    for store in [&one, &shared] {
        waste.assert_whole(&workshop, store);
        assert_clean(store);
    }
    // The same chunks are needed; only what they were framed together with differs.
    assert!(report.bytes_live.abs_diff(whole.bytes_live) < whole.bytes_live / 50, "{report:?} {whole:?}");
}

#[test]
fn any_number_of_threads_ends_the_same() {
    let workshop = Workshop::new();
    let waste = Waste::with_files(&workshop, 100);
    let mut found = Vec::new();
    for threads in [1, 2, 8] {
        let store = waste.patient.store.crash_image();
        let cancel = CancelToken::new();
        let ctx = Context::new(&(), &cancel).with_parallelism(threads);
        let report = open(&store).unwrap().prune(&thorough(), &ctx).unwrap();
        waste.assert_whole(&workshop, &store);
        assert_clean(&store);
        found.push([report.packs_dead, report.packs_repacked, report.objects_deleted, report.bytes_live]);
    }
    assert!(found.iter().all(|report| report == &found[0]), "{found:?}");
}

#[test]
fn packs_are_rewritten_only_as_far_as_the_options_allow() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let with = |change: &dyn Fn(&mut PruneOptions)| {
        let store = waste.patient.store.crash_image();
        let mut options = thorough();
        change(&mut options);
        let report = prune_as(&open(&store).unwrap(), &options).unwrap();
        waste.assert_whole(&workshop, &store);
        report
    };
    let all = with(&|_| ());
    assert!(all.packs_repacked > 0 && all.bytes_unused == 0, "{all:?}");
    let none = with(&|options| options.max_unused = MaxUnused::Unlimited);
    assert!(none.packs_repacked == 0 && none.bytes_unused > 0 && none.packs_dead == all.packs_dead);
    let none = with(&|options| options.max_repack_bytes = Some(1000));
    assert_eq!((none.packs_repacked, none.bytes_written), (0, 0));
    let some = with(&|options| options.max_unused = MaxUnused::Bytes(100_000));
    assert!(some.bytes_unused <= 100_000 && some.packs_repacked >= 1, "{some:?}");
}

#[test]
fn a_cancelled_collection_says_so_and_harms_nothing() {
    let workshop = Workshop::new();
    let waste = Waste::new(&workshop);
    let store = &waste.patient.store;
    let cancel = CancelToken::new();
    cancel.cancel();
    let error = open(store).unwrap().prune(&thorough(), &Context::new(&(), &cancel)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    waste.assert_whole(&workshop, store);
}

/// Many backups make many small packs and segments; a collection makes few of them.
#[test]
fn many_small_packs_and_segments_become_few() {
    let workshop = Workshop::new();
    let mut patient = dr_tests::damage::Patient::new(&workshop);
    for number in 0..20u64 {
        let node = dr_tests::Node::File { seed: number, bytes: 2000 };
        let mut tree = dr_tests::TreeSpec::default();
        tree.put(&format!("f{number}"), node);
        tree.write(&patient.source);
        patient.backup(&workshop);
    }
    leave_behind(&patient.store);
    let waste = Waste { patient, forgotten: Vec::new() };
    let report = prune(&open(&waste.patient.store).unwrap()).unwrap();
    assert_eq!((report.packs_repacked, report.leftovers), (40, 3), "{report:?}");
    assert_eq!(["data", "tree"].map(|at| waste.patient.names_in(at).len()), [1, 1]);
    assert!(waste.patient.names_in("index").len() <= 1);
    waste.assert_whole(&workshop, &waste.patient.store);
    assert_clean(&waste.patient.store);
}
