//! `dr forget`, `dr unforget`, `dr protect` and `dr tag`, as scripts and people see them.

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use serde_json::Value;

/// A repository with so many snapshots of one source.
fn with_snapshots(count: u32) -> (Shell, Vec<String>) {
    let shell = Shell::new();
    for number in 0..count {
        TreeSpec::files(&[("file", 900 + number as usize)]).write(&shell.workshop.source());
        shell.run(&mut shell.backup());
    }
    let ids = shell.snapshots();
    assert_eq!(ids.len(), count as usize);
    (shell, ids)
}

fn json(shell: &Shell, arguments: &[&str]) -> Value {
    let output = shell.run(shell.command().args(arguments).arg("--json"));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), 1, "{arguments:?}: {text}");
    serde_json::from_str(&text).unwrap()
}

fn ids(list: &Value) -> Vec<String> {
    let id = |record: &Value| record["id"].as_str().or(record["snapshot"]["id"].as_str()).unwrap().to_owned();
    list.as_array().unwrap().iter().map(id).collect()
}

fn said(shell: &Shell, arguments: &[&str]) -> String {
    String::from_utf8(shell.run(shell.command().args(arguments)).stdout).unwrap()
}

#[test]
fn a_policy_says_why_and_forgets_only_when_it_is_meant() {
    let (shell, all) = with_snapshots(4);
    let dry = said(&shell, &["forget", "--keep-last", "2", "--keep-id", &all[0][..12], "--dry-run"]);
    assert!(dry.contains("kept: last") && dry.contains("kept: id"), "{dry}");
    assert!(
        dry.contains("would be forgotten") && dry.contains("1 of 4 snapshots would be forgotten"),
        "{dry}"
    );
    assert_eq!(shell.snapshots(), all);
    let document = json(&shell, &["forget", "--keep-last", "2", "--dry-run"]);
    assert_eq!((document["message_type"].as_str(), document["schema"].as_u64()), (Some("forget"), Some(1)));
    assert_eq!(document["dry_run"], true);
    assert!(document.get("prune").is_none());
    let group = &document["groups"][0];
    assert_eq!(group["paths"][0].as_str(), shell.workshop.source().to_str());
    assert_eq!(ids(&group["keep"]), all[2..]);
    assert_eq!(group["keep"][0]["reasons"], serde_json::json!(["last"]));
    assert_eq!(ids(&group["remove"]), all[..2]);
    assert_eq!(shell.snapshots(), all);

    let table = said(&shell, &["forget", "--keep-last", "2"]);
    assert!(table.contains("2 of 4 snapshots forgotten") && !table.contains("would"), "{table}");
    assert_eq!(shell.snapshots(), all[2..]);
    assert_eq!(ids(&json(&shell, &["snapshots", "--forgotten"])), all[..2]);
    let listed = said(&shell, &["snapshots", "--forgotten"]);
    assert!(listed.contains(&all[0][..8]) && !listed.contains(&all[2][..8]), "{listed}");
}

#[test]
fn every_rule_of_a_policy_can_be_given() {
    let (shell, all) = with_snapshots(2);
    shell.run(shell.command().args(["tag", &all[0], "--add", "a,b"]));
    // All were made just now: each rule keeps the newest, and the periods keep both.
    for rule in ["hourly", "daily", "weekly", "monthly", "yearly"] {
        let table = said(&shell, &["forget", "-n", &format!("--keep-{rule}"), "1"]);
        assert!(table.contains(&format!("kept: {rule}")) && table.contains("1 of 2 snapshots"), "{table}");
        let table = said(&shell, &["forget", "-n", &format!("--keep-within-{rule}"), "1d"]);
        assert!(table.contains(&format!("{rule} within")) && table.contains("1 of 2 snapshots"), "{table}");
    }
    for (rule, kept) in
        [(["--keep-within", "2h"], 2), (["--keep-last", "unlimited"], 2), (["--keep-tag", "a,b"], 1)]
    {
        let document = json(&shell, &["forget", "-n", rule[0], rule[1]]);
        assert_eq!(document["groups"][0]["keep"].as_array().unwrap().len(), kept, "{rule:?}");
    }
    for wrong in [["--keep-last", "x"], ["--keep-within", "3"], ["--group-by", "colour"]] {
        shell.run_to(shell.command().arg("forget").args(wrong), 2);
    }
    let by = |group: &str| json(&shell, &["forget", "-n", "--keep-last", "1", "--group-by", group]);
    assert_eq!(by("tags")["groups"].as_array().unwrap().len(), 2);
    assert_eq!(by("")["groups"].as_array().unwrap().len(), 1);
    assert_eq!(shell.snapshots(), all);
}

#[test]
fn nothing_is_forgotten_by_a_slip() {
    let (shell, all) = with_snapshots(2);
    let (_, said) = shell.run_to(shell.command().arg("forget"), 2);
    assert!(said.contains("hint: for example: dr forget --keep-last"), "{said}");
    // A rule that keeps none of a group.
    let (_, said) = shell.run_to(shell.command().args(["forget", "--keep-tag", "none"]), 2);
    assert!(
        said.contains("would forget all 2 snapshots") && said.contains("--unsafe-allow-remove-all"),
        "{said}"
    );
    let (_, said) = shell.run_to(shell.command().args(["forget", &all[0], "--keep-last", "1"]), 2);
    assert!(said.contains("cannot be used with"), "{said}");
    // One name that is wrong: the other is not forgotten either.
    let (_, said) = shell.run_to(shell.command().args(["forget", &all[0], "ffffffff"]), 1);
    assert!(said.contains("error: ") && said.contains("hint: "), "{said}");
    assert_eq!(shell.snapshots(), all);
    shell.run(shell.command().args(["forget", "--unsafe-allow-remove-all"]));
    assert!(shell.snapshots().is_empty());
    shell.run(shell.command().args(["unforget", "--all"]));
    assert_eq!(shell.snapshots(), all);
}

#[test]
fn forgotten_snapshots_come_back_by_name() {
    let (shell, all) = with_snapshots(3);
    let document = json(&shell, &["forget", &all[0][..10], "latest"]);
    assert_eq!(ids(&document["groups"][0]["remove"]), [all[0].clone(), all[2].clone()]);
    assert_eq!(shell.snapshots(), all[1..2]);
    let (_, said) = shell.run_to(shell.command().args(["restore", &all[0], "--target", "/nonexistent"]), 1);
    assert!(said.contains("error: "), "{said}");
    let document = json(&shell, &["unforget", &all[0][..10].to_uppercase()]);
    assert_eq!(document["message_type"], "unforget");
    assert_eq!(document["snapshots"], serde_json::json!([all[0]]));
    assert_eq!(shell.snapshots(), all[..2]);
    for wrong in [&all[0], &all[1], "zz"] {
        let (_, said) = shell.run_to(shell.command().args(["unforget", wrong]), 2);
        assert!(said.contains("'dr snapshots --forgotten'"), "{said}");
    }
    shell.run_to(shell.command().arg("unforget"), 2);
}

#[test]
fn a_dry_run_names_the_snapshots_that_would_be_forgotten() {
    let (shell, all) = with_snapshots(3);
    shell.run(shell.command().args(["tag", &all[2], "--add", "marked"]));
    let dry = said(&shell, &["forget", &all[0], "latest", "-n"]);
    let rows: Vec<&str> = dry.lines().filter(|line| line.ends_with("would be forgotten")).collect();
    assert!(rows.len() == 2 && rows[0].starts_with(&all[0][..8]), "{dry}");
    assert!(rows[1].starts_with(&all[2][..8]) && rows[1].contains("marked"), "{dry}");
    assert!(dry.ends_with("would forget 2 snapshots\n"), "{dry}");
    assert_eq!(said(&shell, &["forget", &all[0], "-n", "-q"]), "");
    shell.run(shell.command().args(["protect", &all[1]]));
    let told = |more: &[&str]| {
        let mut command = shell.command();
        shell.run_to(command.args(["forget", &all[0], &all[1]]).args(more), 2).1
    };
    assert_eq!(told(&["-n"]), told(&[]));
    assert_eq!(shell.snapshots(), all);
    let real = said(&shell, &["forget", &all[0]]);
    assert!(real.contains(&all[0][..8]) && real.ends_with("forgot 1 snapshot\n"), "{real}");
}

#[test]
fn a_protected_snapshot_is_shown_and_stays() {
    let (shell, all) = with_snapshots(3);
    assert_eq!(json(&shell, &["protect", &all[0]])["snapshots"], serde_json::json!([all[0]]));
    assert!(said(&shell, &["snapshots"]).contains("protected"));
    assert_eq!(json(&shell, &["snapshots"])[0]["protected"], true);
    let (_, told) = shell.run_to(shell.command().args(["forget", &all[0]]), 2);
    assert!(told.contains("is protected") && told.contains("dr protect --remove"), "{told}");
    let table = said(&shell, &["forget", "--keep-last", "1"]);
    assert!(table.contains("kept: protected") && table.contains("1 of 3 snapshots forgotten"), "{table}");
    assert_eq!(shell.snapshots(), [all[0].clone(), all[2].clone()]);
    shell.run(shell.command().args(["protect", "--remove", &all[0]]));
    shell.run(shell.command().args(["forget", &all[0]]));
    assert_eq!(shell.snapshots(), all[2..]);
}

#[test]
fn tags_are_changed_and_filter() {
    let (shell, all) = with_snapshots(2);
    let tags = |number: usize| json(&shell, &["snapshots"])[number]["tags"].clone();
    let document = json(&shell, &["tag", &all[0], "--add", "a,b", "--add", "c"]);
    assert_eq!(
        (document["message_type"].as_str(), &document["snapshots"]),
        (Some("tag"), &serde_json::json!([all[0]]))
    );
    assert_eq!(tags(0), serde_json::json!(["a", "b", "c"]));
    assert_eq!(tags(1), serde_json::json!([]));
    shell.run(shell.command().args(["tag", "--tag", "a", "--remove", "b", "--add", "d"]));
    assert_eq!((tags(0), tags(1)), (serde_json::json!(["a", "c", "d"]), serde_json::json!([])));
    shell.run(shell.command().args(["tag", &all[1], "--set", "x"]));
    assert_eq!(ids(&json(&shell, &["snapshots", "--tag", "x"])), all[1..]);
    shell.run(shell.command().args(["tag", "--set", ""]));
    assert_eq!((tags(0), tags(1)), (serde_json::json!([]), serde_json::json!([])));
    shell.run_to(shell.command().args(["tag", &all[0]]), 2);
    shell.run_to(shell.command().args(["tag", &all[0], "--set", "a", "--add", "b"]), 2);
}

#[test]
fn a_dry_run_with_prune_says_what_the_real_run_does() {
    let (shell, all) = with_snapshots(4);
    let dry = json(&shell, &["forget", "--keep-last", "1", "--prune", "--dry-run"]);
    assert_eq!(shell.snapshots(), all);
    let real = json(&shell, &["forget", "--keep-last", "1", "--prune"]);
    for key in ["collected", "packs_dead", "bytes_dead", "packs_repacked", "bytes_live", "held"] {
        assert_eq!(dry["prune"][key], real["prune"][key], "{key}");
    }
    assert_eq!(real["prune"]["collected"].as_array().unwrap().len(), 3);
}

#[test]
fn what_is_held_is_named() {
    let (shell, _) = with_snapshots(1);
    shell.run(shell.command().args(["hold", "14d"]));
    for arguments in [&["forget", "latest", "--prune", "--dry-run"][..], &["forget", "latest", "--prune"]] {
        let pruned = &json(&shell, arguments)["prune"];
        assert_eq!((&pruned["held"], &pruned["collected"]), (&1.into(), &serde_json::json!([])));
    }
    assert!(said(&shell, &["prune", "--dry-run"]).contains("1 more forgotten is held"));
}

#[test]
fn named_snapshots_overrule_the_policy_of_a_profile() {
    let (shell, all) = with_snapshots(3);
    shell.configure("[profiles.default.forget]\nkeep-daily = 30\n");
    assert!(said(&shell, &["forget", &all[0][..12]]).contains("forgot 1 snapshot"));
    assert_eq!(shell.snapshots(), all[1..]);
    let command = &mut shell.command();
    shell.run(command.env("DR_FORGET_KEEP_DAILY", "3").args(["forget", &all[1][..12]]));
    assert_eq!(shell.snapshots(), all[2..]);
    // Both on the command line contradict one another.
    let (_, why) = shell.run_to(shell.command().args(["forget", &all[2][..12], "--keep-last", "1"]), 2);
    assert!(why.contains("cannot be used with"), "{why}");
}

#[test]
fn paths_that_are_no_text_are_told_by_their_bytes() {
    use std::os::unix::ffi::OsStrExt;
    let shell = Shell::new();
    let odd = shell.workshop.path().join(std::ffi::OsStr::from_bytes(b"nu\xe9"));
    std::fs::create_dir(&odd).unwrap();
    shell.run(shell.command().arg("backup").arg(&odd));
    let document = json(&shell, &["forget", "--keep-last", "1", "--dry-run"]);
    assert!(document["groups"][0]["paths_b64"][0].is_string(), "{document}");
    assert!(said(&shell, &["forget", "--keep-last", "1", "--dry-run"]).contains("nu\\xe9"));
}
