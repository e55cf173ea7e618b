//! Variables that stand in for options.

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use serde_json::Value;

#[test]
fn every_flag_of_every_command_reads_its_variable() {
    let shell = Shell::new();
    let output = shell.run(shell.command().args(["config", "variables", "--json"]));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let options = document["options"].as_array().unwrap();
    assert!(options.len() > 240);
    for command in ["put", "dump", "find", "diff", "copy", "merge", "rewrite", "mount", "serve webdav"] {
        assert!(options.iter().any(|option| option["command"] == command), "{command}");
    }
    let mut flags = 0;
    for option in
        options.iter().filter(|option| ["nothing", "repetition"].contains(&option["takes"].as_str().unwrap()))
    {
        let name = option["variables"][0].as_str().unwrap();
        let chain = option["command"].as_str().unwrap_or("stats");
        let mut command = shell.command();
        let (_, said) = shell.run_to(command.args(chain.split(' ')).env(name, "perhaps"), 2);
        assert!(said.starts_with(&format!("error: {name} takes ")), "{name}: {said}");
        flags += 1;
    }
    assert!(flags > 70, "{flags}");
}

#[test]
fn variables_change_what_the_program_does() {
    let shell = Shell::new();
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    let mut backup = shell.command();
    backup.args(["backup"]).arg(shell.workshop.source());
    backup.env("DR_BACKUP_TAG", "one\ntwo").env("DR_BACKUP_HOST", "desk").env("DR_JSON", "true");
    let summary: Value = serde_json::from_slice(&shell.run(&mut backup).stdout).unwrap();
    assert_eq!(summary["message_type"], "summary");
    let output = shell.run(shell.command().arg("snapshots").env("DR_JSON", "1"));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&list[0]["tags"][0], &list[0]["tags"][1]), (&"one".into(), &"two".into()));
    assert_eq!(list[0]["host"], "desk");
    // The command line comes first, and an empty variable is none.
    let mut again = shell.command();
    again.args(["backup", "--dry-run", "--host", "own"]).arg(shell.workshop.source());
    let output = shell.run(again.env("DR_BACKUP_HOST", "other").env("DR_QUIET", ""));
    assert!(String::from_utf8_lossy(&output.stdout).contains("dry run"));
    let mut quiet = shell.command();
    quiet.args(["backup", "--dry-run"]).arg(shell.workshop.source()).env("DR_QUIET", "1");
    assert!(shell.run(&mut quiet).stdout.is_empty());
    // A flag on the command line puts one in the environment that it excludes out of force.
    let output = shell.run(quiet.arg("-v"));
    assert!(String::from_utf8_lossy(&output.stdout).contains("dry run"));
}

#[test]
fn wrong_variables_are_named() {
    let shell = Shell::new();
    for (name, value, said) in [
        ("DR_THREADS", "0", "error: DR_THREADS: invalid value '0' for '--threads <N>'"),
        ("DR_NO_CACHE", "perhaps", "error: DR_NO_CACHE takes 1, 0, true or false, not 'perhaps'"),
        ("DR_STATS_NONSENSE", "1", ""),
    ] {
        let code = if said.is_empty() { 0 } else { 2 };
        let (_, stderr) = shell.run_to(shell.command().arg("stats").env(name, value), code);
        assert!(stderr.starts_with(said), "{stderr}");
    }
    let (_, said) = shell.run_to(shell.command().arg("stats").env("DR_THREADS", "x").env("DR_JSON", "1"), 2);
    let error: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&error["error_code"], &error["code"]), (&"config".into(), &2.into()));
}

#[test]
fn the_order_of_secrets_is_kept() {
    let shell = Shell::new();
    // A key file in the environment comes before a password there, and after one on the command line.
    shell.run(shell.command().arg("stats").env("DR_PASSWORD_COMMAND", "false").env("DR_PASSWORD", "x"));
    let (_, said) = shell.run_to(shell.command().args(["stats", "--password-command", "echo wrong"]), 12);
    assert!(said.starts_with("error: "), "{said}");
}
