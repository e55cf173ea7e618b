//! `dr prune`, and `dr forget --prune`.

use std::fs;
use std::path::PathBuf;

use dr_tests::shell::Shell;
use dr_tests::{Node, TreeSpec};
use serde_json::Value;

/// Three snapshots of files of which a part is in one only.
fn with_garbage() -> (Shell, Vec<String>, PathBuf) {
    let shell = Shell::new();
    let mut tree = TreeSpec::files(&[("large", 600_000), ("small", 900)]);
    for round in 0..3 {
        tree.put("changing", Node::File { seed: 100 + round, bytes: 120_000 });
        tree.write(&shell.workshop.source());
        shell.run(&mut shell.backup());
    }
    let copy = shell.workshop.copy_of(&shell.workshop.source());
    let ids = shell.snapshots();
    (shell, ids, copy)
}

fn json(shell: &Shell, arguments: &[&str]) -> Value {
    let output = shell.run(shell.command().args(arguments).arg("--json"));
    let text = String::from_utf8(output.stdout).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

fn number(document: &Value, name: &str) -> u64 {
    document[name].as_u64().unwrap_or_else(|| panic!("{name}: {document}"))
}

fn packs(shell: &Shell) -> usize {
    ["data", "tree"].iter().map(|folder| files(shell.repository().join(folder)).len()).sum()
}

fn bytes(shell: &Shell) -> u64 {
    files(shell.repository()).iter().map(|path| fs::metadata(path).unwrap().len()).sum()
}

fn files(folder: PathBuf) -> Vec<PathBuf> {
    let (mut files, mut stack) = (Vec::new(), vec![folder]);
    while let Some(path) = stack.pop() {
        if path.is_dir() {
            stack.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            files.push(path);
        }
    }
    files
}

#[test]
fn a_collection_says_what_it_would_do_and_does_it() {
    let (shell, all, copy) = with_garbage();
    shell.run(shell.command().args(["forget", "--keep-last", "1"]));
    let before = bytes(&shell);
    let dry = json(&shell, &["prune", "--dry-run", "--max-unused", "0%"]);
    assert_eq!((dry["message_type"].as_str(), dry["schema"].as_u64()), (Some("prune"), Some(1)));
    assert_eq!(dry["dry_run"], true);
    assert_eq!(dry["collected"], serde_json::json!(all[..2]));
    assert_eq!((number(&dry, "bytes_written"), number(&dry, "objects_deleted")), (0, 0));
    assert_eq!(bytes(&shell), before);
    let text = String::from_utf8(shell.run(shell.command().args(["prune", "-n"])).stdout).unwrap();
    assert!(text.contains("2 snapshots would be collected"), "{text}");

    let done = json(&shell, &["prune", "--max-unused", "0%"]);
    for same in ["collected", "packs_dead", "bytes_dead", "packs_repacked", "bytes_repacked", "leftovers"] {
        assert_eq!(done[same], dry[same], "{same}: {done}");
    }
    assert!(number(&done, "packs_dead") > 0 && number(&done, "packs_repacked") > 0, "{done}");
    assert!(number(&done, "bytes_written") > 0 && number(&done, "objects_deleted") > 2, "{done}");
    assert_eq!((number(&done, "objects_waiting"), number(&done, "bytes_unused")), (0, 0));
    assert_eq!(done["packs_damaged"], serde_json::json!([]));
    assert!(done["seconds"].as_f64().unwrap() >= 0.0 && bytes(&shell) < before - 150_000);
    shell.check();
    shell.assert_restores(&all[2], &copy);
    let again = json(&shell, &["prune", "--max-unused", "0%"]);
    for nothing in ["packs_dead", "packs_repacked", "objects_deleted", "segments_merged"] {
        assert_eq!(number(&again, nothing), 0, "{nothing}: {again}");
    }
    let (_, said) = shell.run_to(shell.command().args(["unforget", &all[0]]), 2);
    assert!(said.contains("no forgotten snapshot"), "{said}");
    let text = String::from_utf8(shell.run(shell.command().arg("prune")).stdout).unwrap();
    assert!(text.contains("0 snapshots collected") && text.contains("0 objects deleted"), "{text}");
}

#[test]
fn forget_collects_right_away_where_that_is_asked_for() {
    let (shell, all, copy) = with_garbage();
    let before = packs(&shell);
    let dry = json(&shell, &["forget", "--keep-last", "1", "--prune", "--dry-run"]);
    assert_eq!(dry["prune"]["dry_run"], true);
    assert_eq!((shell.snapshots(), packs(&shell)), (all.clone(), before));
    let done = json(&shell, &["forget", "--keep-last", "1", "--prune", "--max-unused", "0%"]);
    assert_eq!(done["prune"]["collected"], serde_json::json!(all[..2]));
    assert!(packs(&shell) < before);
    shell.check();
    shell.assert_restores(&all[2], &copy);
    let text = shell.run(shell.command().args(["forget", "latest", "--prune"])).stdout;
    let text = String::from_utf8(text).unwrap();
    assert!(text.contains("forgot 1 snapshot") && text.contains("1 snapshot collected"), "{text}");
    shell.check();
}

#[test]
fn what_is_on_hold_or_in_grace_stays() {
    let (shell, all, _) = with_garbage();
    shell.run(shell.command().args(["forget", "--keep-last", "1"]));
    assert_eq!(json(&shell, &["prune", "--hold", "14d"])["collected"], serde_json::json!([]));
    shell.run(shell.command().args(["unforget", "--all"]));
    assert_eq!(shell.snapshots(), all);
    shell.run(shell.command().args(["forget", "--keep-last", "1"]));
    let before = packs(&shell);
    let waiting = json(&shell, &["prune", "--grace", "1d12h", "--max-unused", "unlimited"]);
    assert!(number(&waiting, "objects_waiting") > 0 && number(&waiting, "objects_deleted") == 0, "{waiting}");
    assert_eq!(packs(&shell), before);
    shell.check();
    let text = String::from_utf8(shell.run(shell.command().args(["prune", "--grace", "1h"])).stdout).unwrap();
    assert!(text.contains("may be deleted later"), "{text}");
}

#[test]
fn shards_rewrite_and_delete_nothing() {
    let (shell, all, copy) = with_garbage();
    shell.run(shell.command().args(["forget", "--keep-last", "1"]));
    for shard in ["1/2", "2/2"] {
        let done = json(&shell, &["prune", "--shard", shard, "--max-unused", "0"]);
        assert_eq!((number(&done, "objects_deleted"), &done["collected"]), (0, &serde_json::json!([])));
        shell.check();
    }
    shell.run(shell.command().args(["prune", "--max-unused", "0"]));
    shell.check();
    shell.assert_restores(&all[2], &copy);
    for wrong in [["--shard", "3/2"], ["--shard", "x"], ["--max-unused", "101%"], ["--hold", "soon"]] {
        shell.run_to(shell.command().arg("prune").args(wrong), 2);
    }
}

#[test]
fn a_collection_over_damage_says_what_is_damaged_and_deletes_nothing() {
    let (shell, all, _) = with_garbage();
    shell.run(shell.command().args(["forget", &all[1]]));
    for folder in fs::read_dir(shell.repository().join("tree")).unwrap() {
        for pack in fs::read_dir(folder.unwrap().path()).unwrap() {
            let path = pack.unwrap().path();
            let mut bytes = fs::read(&path).unwrap();
            bytes[200] ^= 1;
            fs::remove_file(&path).unwrap();
            fs::write(&path, bytes).unwrap();
        }
    }
    let before = packs(&shell);
    let (output, said) = shell.run_to(shell.command().args(["prune", "--json"]), 1);
    assert!(output.stdout.is_empty(), "{said}");
    let error: Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(error["error_code"], "corrupt", "{said}");
    assert!(error["object"].is_string() && error["remedy"].as_str().unwrap().contains("nothing was deleted"));
    assert_eq!(packs(&shell), before);
}
