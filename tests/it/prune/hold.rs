//! The hold that a repository requires: every collection goes by it, whoever runs it and whatever it is asked for.

use std::sync::Arc;
use std::time::Duration;

use dr_core::{CreateOptions, ErrorKind, Repository, RepositoryOptions, SnapshotId};
use dr_store::sim::SimStore;
use dr_store::{PutMode, Store};
use dr_tests::damage::open;
use dr_tests::garbage::{prune, prune_as, thorough};
use dr_tests::hook::HookStore;
use dr_tests::key;
use dr_tests::shell::Shell;
use dr_tests::steps::{Workshop, backup, check};
use dr_tests::{Node, TreeSpec};

const NOW_MS: i64 = 1_900_000_000_000;

fn seconds(number: u64) -> Duration {
    Duration::from_secs(number)
}

/// A repository with a hold, and a snapshot in it that was forgotten at `NOW_MS`.
fn held(workshop: &Workshop, hold: Duration) -> (SimStore, SnapshotId) {
    let store = SimStore::new();
    store.set_now_ms(NOW_MS);
    let mut options = CreateOptions::new();
    options.hold = hold;
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let repository = Repository::create(shared, &key(), &options, RepositoryOptions::new()).unwrap();
    let id = forgotten(workshop, &repository, 1);
    (store, id)
}

/// A snapshot that is forgotten at once.
fn forgotten(workshop: &Workshop, repository: &Repository, seed: u64) -> SnapshotId {
    let mut tree = TreeSpec::default();
    tree.put("file", Node::File { seed, bytes: 50_000 });
    tree.write(&workshop.source());
    let id = backup(repository, &workshop.source()).unwrap().snapshot.unwrap();
    repository.forget(&[id]).unwrap();
    id
}

fn collected_at(store: &SimStore, passed_s: i64) -> Vec<SnapshotId> {
    store.set_now_ms(NOW_MS + passed_s * 1000);
    prune(&open(store).unwrap()).unwrap().collected
}

#[test]
fn nothing_is_collected_before_the_repositorys_hold_is_over() {
    let workshop = Workshop::new();
    let (store, id) = held(&workshop, seconds(100));
    assert_eq!(open(&store).unwrap().hold().unwrap().in_force, seconds(100));
    for passed_s in [0, 50, 99] {
        assert_eq!(collected_at(&store, passed_s), []);
    }
    // A run may ask for more, and never for less.
    store.set_now_ms(NOW_MS + 100_000);
    for (hold, collected) in [(101, vec![]), (10, vec![id])] {
        let mut options = thorough();
        options.hold = seconds(hold);
        options.dry_run = hold > 100;
        assert_eq!(prune_as(&open(&store).unwrap(), &options).unwrap().collected, collected);
    }
    assert!(check(&open(&store).unwrap()).unwrap().is_intact());
}

#[test]
fn a_shorter_hold_counts_when_the_longer_one_has_passed_since() {
    let workshop = Workshop::new();
    let (store, first) = held(&workshop, seconds(100));
    store.set_now_ms(NOW_MS + 40_000);
    let repository = open(&store).unwrap();
    // What somebody does who wants everything gone.
    repository.set_hold(Duration::ZERO).unwrap();
    let second = forgotten(&workshop, &repository, 2);
    let hold = repository.hold().unwrap();
    assert_eq!((hold.set, hold.in_force), (seconds(0), seconds(100)));
    assert_eq!(collected_at(&store, 99), []);
    assert_eq!(collected_at(&store, 100), [first]);
    assert_eq!(collected_at(&store, 139), []);
    assert_eq!(collected_at(&store, 140), [second]);
    let third = forgotten(&workshop, &open(&store).unwrap(), 3);
    assert_eq!(collected_at(&store, 141), [third]);
}

#[test]
fn a_longer_hold_counts_at_once() {
    let workshop = Workshop::new();
    let (store, id) = held(&workshop, Duration::ZERO);
    open(&store).unwrap().set_hold(seconds(100)).unwrap();
    assert_eq!(collected_at(&store, 99), []);

    // Also where it comes while a collection is about to put its entry.
    for with_hold in [false, true] {
        let image = store.crash_image();
        image.set_now_ms(NOW_MS + 100_000);
        let other = image.clone();
        let hooked = Arc::new(HookStore::new(
            Arc::new(image.clone()),
            |call| call.operation == "put" && call.object.starts_with("log/"),
            move || {
                if with_hold {
                    open(&other).unwrap().set_hold(seconds(200)).unwrap();
                }
            },
        ));
        let repository = Repository::open(hooked.clone(), &key(), RepositoryOptions::new()).unwrap();
        let report = prune(&repository).unwrap();
        assert!(hooked.has_run());
        assert_eq!(report.collected, if with_hold { vec![] } else { vec![id] });
        if with_hold {
            open(&image).unwrap().unforget(&[id]).unwrap();
        }
        assert!(check(&open(&image).unwrap()).unwrap().is_intact());
    }
}

/// Whoever can only write may say that a snapshot is collected; then whoever can delete must not.
#[test]
fn a_collection_before_its_time_stops_the_next_one() {
    let workshop = Workshop::new();
    let (store, id) = held(&workshop, seconds(100));
    let later = store.crash_image();
    later.set_now_ms(NOW_MS + 100_000);
    assert_eq!(prune(&open(&later).unwrap()).unwrap().collected, [id]);
    let known = store.objects();
    let newest = |store: &SimStore| -> Vec<_> {
        let is_slot = |name: &dr_store::Name| name.as_str().starts_with("log/");
        store.objects().into_iter().filter(|(name, _)| is_slot(name)).collect()
    };
    let (name, bytes) =
        newest(&later).into_iter().rev().find(|(name, _)| known.iter().all(|(old, _)| old != name)).unwrap();
    store.set_now_ms(NOW_MS + 10_000);
    store.put(&name, bytes.into(), PutMode::Create).unwrap();
    store.set_now_ms(NOW_MS + 20_000);
    let packs = |store: &SimStore| {
        let objects = store.objects().into_iter();
        objects.filter(|(name, _)| !name.as_str().starts_with("probe/")).collect::<Vec<_>>()
    };
    let before = packs(&store);
    let error = prune(&open(&store).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert_eq!(packs(&store), before);
}

/// What was collected while nothing was held is no breach of a hold that came later.
#[test]
fn a_later_hold_says_nothing_of_earlier_collections() {
    let workshop = Workshop::new();
    let (store, id) = held(&workshop, Duration::ZERO);
    assert_eq!(collected_at(&store, 1), [id]);
    let repository = open(&store).unwrap();
    repository.set_hold(seconds(100)).unwrap();
    let next = forgotten(&workshop, &repository, 2);
    assert_eq!(collected_at(&store, 50), []);
    assert_eq!(collected_at(&store, 101), [next]);
}

#[test]
fn a_hold_that_nobody_lives_to_see_is_refused() {
    let store = SimStore::new();
    let mut options = CreateOptions::new();
    options.hold = Duration::from_secs(100 * 365 * 86_400);
    let shared: Arc<dyn Store> = Arc::new(store.clone());
    let error = Repository::create(shared.clone(), &key(), &options, RepositoryOptions::new()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(store.objects().is_empty());
    options.hold = Duration::ZERO;
    let repository = Repository::create(shared, &key(), &options, RepositoryOptions::new()).unwrap();
    assert_eq!(repository.set_hold(Duration::MAX).unwrap_err().kind(), ErrorKind::InvalidInput);
    let before = store.objects();
    repository.set_hold(Duration::ZERO).unwrap();
    assert_eq!(store.objects(), before, "what is so already is not written");
}

#[test]
fn the_command_says_what_is_held_and_changes_it() {
    let workshop = Workshop::new();
    let shell = Shell::new();
    let repository = workshop.room();
    let run = |arguments: &[&str]| {
        let output = shell.run(shell.command().arg("--repo").arg(&repository).args(arguments));
        String::from_utf8(output.stdout).unwrap()
    };
    run(&["init", "--hold", "14d"]);
    assert!(run(&["hold"]).contains("held for 14d"));
    let shorter = run(&["hold", "36h"]);
    assert!(
        shorter.contains("held for 1d12h") && shorter.contains("the 14d that were set before still count"),
        "{shorter}"
    );
    assert!(run(&["hold", "30d", "--json"]).contains("\"seconds_in_force\":2592000"));
}
