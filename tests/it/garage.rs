//! Garage, which ignores the condition of a put: one node, and three of which one ends in the middle of things. The tests
//! run where `DR_GARAGE=1`.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dr_core::{CreateOptions, Repository, RepositoryOptions};
use dr_store::probe::{CreateSupport, probe_create};
use dr_tests::garage::Garage;
use dr_tests::hook::HookStore;
use dr_tests::servers::{name_repository, run_suite_without};
use dr_tests::steps::{Workshop, program, restored};
use dr_tests::{Node, TestRepo, TreeSpec, assert_same_tree, key};

/// What Garage does not do. Its database LMDB has no keys over 511 bytes, of which the bucket takes 32; names of a
/// repository stay below a fifth of that.
const FAILED: [&str; 4] =
    ["create meets an object", "create meets an empty object", "create as a race", "longest names"];

#[test]
fn heavy_a_garage_node_passes_the_rest_of_the_suite_and_ignores_the_condition() {
    let Some(garage) = Garage::start(1) else { return };
    run_suite_without(&FAILED, |prefix| garage.s3(0, prefix));
    let probed = garage.s3(0, "probed");
    assert_eq!(probe_create(probed.as_ref(), [1; 16]).unwrap(), CreateSupport::Ignored);
    let mut left = 0;
    probed
        .list("", None, &mut |_| {
            left += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(left, 0, "the probe left something");
}

/// Runs the program on a node. What it said, where it ended with this exit code.
fn dr(garage: &Garage, folder: &Path, arguments: &[&str], code: i32) -> String {
    let mut command = Command::new(program());
    for secret in ["DR_PASSWORD", "DR_PASSWORD_FILE", "DR_PASSWORD_COMMAND"] {
        command.env_remove(secret);
    }
    name_repository(&garage.url(0), &mut command);
    command
        .env("DR_KEY_FILE", folder.join("key"))
        .env("DR_CACHE_DIR", folder.join("cache"))
        .env("DR_STATE_DIR", folder.join("state"))
        .args(arguments);
    let output = command.output().unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {said}");
    said
}

#[test]
fn heavy_a_garage_node_holds_a_repository_of_siblings() {
    let Some(garage) = Garage::start(1) else { return };
    let workshop = Workshop::on_disk();
    let source = workshop.source();
    let mut tree = TreeSpec::files(&[("small", 100), ("a/b/deep.txt", 5000), ("empty", 0)]);
    let run = |arguments: &[&str], code| dr(&garage, workshop.path(), arguments, code);
    let refusal = run(&["init"], 1);
    assert!(refusal.contains("--siblings"), "{refusal}");
    run(&["init", "--siblings"], 0);
    for round in 0..3 {
        tree.put("large", Node::File { seed: round, bytes: 9 << 20 });
        tree.write(&source);
        run(&["backup", "-q", source.to_str().unwrap()], 0);
    }
    run(&["check", "--read-data"], 0);
    run(&["forget", "-q", "--keep-last", "1"], 0);
    let refusal = run(&["prune", "-q", "--max-unused", "0%"], 2);
    assert!(refusal.contains("--exclusive"), "{refusal}");
    run(&["prune", "-q", "--max-unused", "0%", "--exclusive"], 0);
    let check = run(&["check", "--read-data", "--json"], 0);
    assert!(check.contains("siblings") || check.contains("create_if_absent\":false"), "{check}");
    let target = workshop.room();
    run(&["restore", "latest", "--target", target.to_str().unwrap()], 0);
    assert_same_tree(&source, &restored(&target, &source));
    // Two thirds of what was stored is gone.
    let mut bytes = 0;
    let store = garage.s3(0, "from/the/program/data");
    store
        .list("", None, &mut |object| {
            bytes += object.bytes;
            Ok(())
        })
        .unwrap();
    assert!((9 << 20..12 << 20).contains(&bytes), "{bytes} bytes are left");
}

/// Opens the repository through a node, which others kill when the call number `at` of those to packs is made.
fn open_and_kill(
    garage: &Arc<Garage>,
    through: usize,
    operation: &'static str,
    at: u64,
    victim: usize,
) -> (TestRepo, Arc<HookStore>, Arc<AtomicU64>) {
    let calls = Arc::new(AtomicU64::new(0));
    let (counter, killer) = (calls.clone(), garage.clone());
    let store = Arc::new(HookStore::new(
        garage.s3(through, "repository"),
        move |call| {
            call.operation == operation
                && call.object.starts_with("data/")
                && counter.fetch_add(1, Ordering::SeqCst) + 1 == at
        },
        move || killer.kill(victim),
    ));
    (TestRepo::open(store.clone(), 2 + through as u64).unwrap(), store, calls)
}

#[test]
fn heavy_a_garage_cluster_loses_a_node_in_a_backup_and_another_in_a_restore() {
    let Some(garage) = Garage::start(3).map(Arc::new) else { return };
    let workshop = Workshop::on_disk();
    let source = workshop.source();
    let mut tree = TreeSpec::files(&[("small", 100), ("a/b/deep.txt", 5000), ("empty", 0)]);
    for number in 0..6 {
        tree.put(&format!("large/{number}"), Node::File { seed: number, bytes: 30 << 20 });
    }
    tree.write(&source);
    let mut create = CreateOptions::new();
    create.siblings = true;
    let store = garage.s3(0, "repository");
    drop(Repository::create(store, &key(), &create, RepositoryOptions::new()).unwrap());

    let (repo, hook, puts) = open_and_kill(&garage, 0, "put", 2, 1);
    let report = repo.backup(&[&source]).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let puts = puts.load(Ordering::SeqCst);
    assert!(hook.has_run() && puts >= 5, "{puts} packs");
    repo.assert_intact();
    garage.revive(1);
    garage.await_sync();

    // The node that was away answers now, and the one that took the backup goes.
    let (repo, hook, gets) = open_and_kill(&garage, 1, "get_range", 3, 0);
    let target = workshop.room();
    let report = repo.restore(&repo.latest().unwrap(), &target).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let gets = gets.load(Ordering::SeqCst);
    assert!(hook.has_run() && gets >= 10, "{gets} ranges of packs");
    assert_same_tree(&source, &restored(&target, &source));
    repo.assert_intact();
    // It takes another backup as well, and all three agree in the end.
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    garage.revive(0);
    garage.await_sync();
    TestRepo::open(garage.s3(0, "repository"), 9).unwrap().assert_intact();
}
