//! `dr rewrite`, `dr merge`, `dr copy`, `dr init --from-repo` and `dr cache`, as scripts and people see them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use dr_tests::history::without;
use dr_tests::shell::Shell;
use dr_tests::{Node, TreeSpec};
use serde_json::Value;

fn json(shell: &Shell, command: &mut Command) -> Value {
    let output = shell.run(command.arg("--json"));
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().unwrap_or_else(|| panic!("{command:?} wrote nothing"));
    serde_json::from_str(last).unwrap()
}

fn tree() -> TreeSpec {
    let mut tree = TreeSpec::files(&[("kept/a", 5000), ("Secret/key", 700), ("cache/blob", 200_000)]);
    tree.put("kept/link", Node::Symlink(b"a".to_vec()));
    tree
}

/// A repository with one snapshot, and a copy of what it holds.
fn with_one() -> (Shell, String, PathBuf) {
    let shell = Shell::new();
    tree().write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    let copy = shell.workshop.copy_of(&shell.workshop.source());
    let id = shell.snapshots().remove(0);
    (shell, id, copy)
}

#[test]
fn a_rewrite_leaves_out_what_patterns_name() {
    let (shell, id, copy) = with_one();
    let patterns = shell.workshop.room();
    fs::write(&patterns, "# what nobody needs\n\nCACHE/\n").unwrap();
    let rewrite = || {
        let mut command = shell.command();
        command.args(["rewrite", &id, "--exclude", "Secret", "--iexclude-file"]).arg(&patterns);
        command.args(["--add-tag", "a,b", "--new-host", "there"]);
        command
    };
    let dry = json(&shell, rewrite().arg("--dry-run"));
    assert_eq!((dry["message_type"].as_str(), dry["dry_run"].as_bool()), (Some("rewrite"), Some(true)));
    assert_eq!(dry["snapshots"][0]["entries_left_out"], 2);
    assert_eq!(dry["snapshots"][0]["bytes_left_out"], 200_700);
    assert!(dry["snapshots"][0]["replacement"].is_null());
    assert_eq!(shell.snapshots(), [id.as_str()]);

    let output = shell.run(rewrite().args(["--forget", "-v"]));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("left out") && said.contains("/Secret") && said.contains("replaced by"), "{said}");
    let [new] = &shell.snapshots()[..] else { panic!("one snapshot") };
    assert_ne!(*new, id);
    shell.run(shell.command().args(["prune", "--leftover-age", "0s"]));
    let expected = without(&shell.workshop, &copy, &["Secret", "cache"]);
    shell.assert_restores(new, &expected);
    shell.check();
    let listed = json(&shell, shell.command().args(["snapshots"]));
    assert_eq!(
        (listed[0]["host"].as_str(), listed[0]["tags"].clone()),
        (Some("there"), serde_json::json!(["a", "b"]))
    );
    assert_eq!(listed[0]["origins"][0]["relation"], "rewritten");
    assert_eq!(listed[0]["origins"][0]["snapshot"], id.as_str());

    for wrong in [
        &["rewrite"][..],
        &["rewrite", "latest"],
        &["rewrite", "latest:etc", "--new-host", "x"],
        &["rewrite", "--new-time", "yesterday"],
        &["rewrite", "--set-tags", "a", "--add-tag", "b"],
        &["rewrite", "--exclude", "*"],
    ] {
        shell.run_to(shell.command().args(wrong), 2);
    }
    let (_, said) = shell.run_to(shell.command().args(["rewrite", "--exclude-file", "/no/such/file"]), 2);
    assert!(said.contains("/no/such/file"), "{said}");
    assert_eq!(shell.snapshots(), [new.as_str()]);
}

#[test]
fn a_merge_says_what_differs() {
    let (shell, first, _) = with_one();
    let mut tree = tree();
    tree.put("kept/a", Node::File { seed: 99, bytes: 400 });
    tree.put("more", Node::File { seed: 98, bytes: 50 });
    tree.0.remove(b"cache".as_slice());
    tree.write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    let second = shell.snapshots().remove(1);
    let merged = json(&shell, shell.command().args(["merge", &first, &second, "--tag", "all", "--forget"]));
    assert_eq!((merged["conflicts"].as_u64(), merged["totals"]["files"].as_u64()), (Some(1), Some(4)));
    let id = merged["snapshot_id"].as_str().unwrap().to_owned();
    assert_eq!(shell.snapshots(), [id.as_str()]);
    let target = shell.workshop.room();
    shell.run(&mut shell.restore(&id, &target));
    let restored = dr_tests::steps::restored(&target, &shell.workshop.source());
    assert_eq!(fs::read(restored.join("cache/blob")).unwrap().len(), 200_000);
    assert_eq!(fs::read(restored.join("kept/a")).unwrap(), dr_tests::noise(99, 400));
    shell.check();
    shell.run_to(shell.command().args(["merge", &id]), 2);
    shell.run_to(shell.command().args(["merge", &id, &id]), 2);
}

/// A second repository beside the first, with a key of its own.
fn second(shell: &Shell, arguments: &[&str]) -> Shell {
    let second = Shell::default();
    let mut init = second.command();
    init.arg("init").args(arguments).env("DR_FROM_KEY_FILE", shell.workshop.path().join("key"));
    second.run(&mut init);
    second
}

fn copy_to(second: &Shell, first: &Shell) -> Command {
    let mut command = second.command();
    command.arg("copy").arg("--from-repo").arg(first.repository());
    command.arg("--from-key-file").arg(first.workshop.path().join("key"));
    command
}

#[test]
fn a_copy_needs_both_keys_and_is_made_once() {
    let (shell, id, copy) = with_one();
    let location = shell.repository();
    for arguments in [&[][..], &["--from", location.to_str().unwrap()]] {
        let second = second(&shell, arguments);
        let dry = json(&second, copy_to(&second, &shell).arg("--dry-run"));
        assert_eq!((dry["message_type"].as_str(), second.snapshots().len()), (Some("copy"), 0));
        let first = json(&second, &mut copy_to(&second, &shell));
        assert_eq!((first["complete"].as_bool(), first["bytes_read"].as_u64()), (Some(true), Some(205_700)));
        assert_eq!(
            (first["snapshots"][0]["snapshot"].as_str(), &first["snapshots"][0]["was_there"]),
            (Some(id.as_str()), &Value::Bool(false))
        );
        let copied = second.snapshots().remove(0);
        assert_eq!(first["snapshots"][0]["copy"], copied.as_str());
        let target = second.workshop.room();
        second.run(&mut second.restore(&copied, &target));
        dr_tests::assert_same_tree(&copy, &dr_tests::steps::restored(&target, &shell.workshop.source()));
        second.check();
        let again =
            second.run(copy_to(&second, &shell).arg(&id[..10]).args(["--from-option", "s3.region=x"]));
        assert!(String::from_utf8(again.stdout).unwrap().contains("1 snapshot copied before"));
        // Without the other key, from a place where nothing is, and with nothing said at all.
        let mut wrong = second.command();
        wrong.arg("copy").arg("--from-repo").arg(&location);
        second.run_to(wrong.env("DR_FROM_KEY_FILE", second.workshop.path().join("key")), 12);
        let mut nowhere = second.command();
        nowhere.args(["copy", "--from-repo", "/no/such/place"]);
        second.run_to(nowhere.env("DR_FROM_KEY_FILE", second.workshop.path().join("key")), 10);
        second.run_to(second.command().arg("copy"), 2);
        let mut unsaid = second.command();
        unsaid.arg("copy").arg("--from-repo").arg(&location);
        let (_, said) = second.run_to(&mut unsaid, 2);
        assert!(said.contains("--from-key-file"), "{said}");
        let mut itself = second.command();
        itself.arg("copy").arg("--from-repo").arg(second.repository());
        second.run_to(itself.env("DR_FROM_KEY_FILE", second.workshop.path().join("key")), 2);
    }
}

#[test]
fn what_is_damaged_is_named_and_the_rest_can_be_copied() {
    let (shell, _, _) = with_one();
    let data = shell.repository().join("data");
    let packs: Vec<PathBuf> = fs::read_dir(&data)
        .unwrap()
        .flat_map(|folder| fs::read_dir(folder.unwrap().path()).unwrap())
        .map(|pack| pack.unwrap().path())
        .collect();
    assert_eq!(packs.len(), 1);
    fs::remove_file(&packs[0]).unwrap();
    let second = second(&shell, &[]);
    let (output, said) = second.run_to(&mut copy_to(&second, &shell), 3);
    assert!(said.contains("damaged, not copied") && said.contains("--leave-out-damaged"), "{said}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("not copied"));
    assert_eq!(second.snapshots().len(), 0);
    let (output, _) = second.run_to(copy_to(&second, &shell).args(["--leave-out-damaged", "--json"]), 3);
    let text = String::from_utf8(output.stdout).unwrap();
    let document: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(
        (document["complete"].as_bool(), document["snapshots"][0]["damaged"].as_array().unwrap().len()),
        (Some(false), 3)
    );
    let listed = json(&second, second.command().arg("snapshots"));
    assert_eq!(
        (listed[0]["problems"].as_u64(), listed[0]["origins"][0]["relation"].as_str()),
        (Some(3), Some("rest"))
    );
    second.check();
}

#[test]
fn caches_are_listed_and_removed() {
    let (shell, _, _) = with_one();
    let listed = json(&shell, shell.command().arg("cache"));
    let caches = listed["caches"].as_array().unwrap();
    assert_eq!((listed["message_type"].as_str(), caches.len()), (Some("cache"), 1));
    let stats = json(&shell, shell.command().arg("stats"));
    assert_eq!(caches[0]["repository"], stats["id"]);
    let table = String::from_utf8(shell.run(shell.command().arg("cache")).stdout).unwrap();
    assert!(table.contains(stats["id"].as_str().unwrap()) && table.contains("1 cache in"), "{table}");
    // A limit with another command leaves the newest.
    shell.run(shell.command().args(["stats", "--cache-limit", "1"]));
    assert_eq!(json(&shell, shell.command().arg("cache"))["caches"].as_array().unwrap().len(), 1);
    let other = shell.workshop.room();
    let mut init = shell.command();
    shell.run(init.arg("init").env("DR_REPOSITORY", &other));
    assert_eq!(json(&shell, shell.command().arg("cache"))["caches"].as_array().unwrap().len(), 2);
    shell.run(shell.command().args(["stats"]).env("DR_CACHE_LIMIT", "1"));
    let left = json(&shell, shell.command().arg("cache"));
    assert_eq!(
        (left["caches"].as_array().unwrap().len(), &left["caches"][0]["repository"]),
        (1, &stats["id"])
    );
    shell.run(shell.command().args(["cache", "--cleanup"]));
    assert_eq!(json(&shell, shell.command().arg("cache"))["caches"].as_array().unwrap().len(), 1);
    let dry = json(&shell, shell.command().args(["cache", "--max-age", "0s", "-n"]));
    assert_eq!(dry["caches"][0]["removed"], true);
    let gone = json(&shell, shell.command().args(["cache", "--max-age", "0s"]));
    assert_eq!(gone["caches"][0]["removed"], true);
    assert_eq!(json(&shell, shell.command().arg("cache"))["caches"].as_array().unwrap().len(), 0);
    shell.run_to(shell.command().env_remove("DR_CACHE_DIR").args(["cache", "--no-cache"]), 2);
    shell.check();
}
