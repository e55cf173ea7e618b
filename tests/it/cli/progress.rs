//! How far a long call is: lines, and the answer to SIGUSR1.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// A backup of standard input, which goes on until that ends.
fn begin(shell: &Shell, arguments: &[&str]) -> Child {
    let mut command = shell.command();
    command.args(["backup", "--stdin"]).args(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[test]
fn a_signal_asks_how_far_things_are_once() {
    let shell = Shell::new();
    for arguments in [&[][..], &["--quiet"], &["--json"]] {
        let mut child = begin(&shell, arguments);
        let mut input = child.stdin.take().unwrap();
        let mut stderr = BufReader::new(child.stderr.take().unwrap());
        input.write_all(&vec![7; 3 << 20]).unwrap();
        // Signals are taken from the moment on at which the backup reads: its reading made room for all of it.
        kill_process(Pid::from_child(&child), Signal::USR1).unwrap();
        let mut line = String::new();
        stderr.read_line(&mut line).unwrap();
        if arguments == ["--json"] {
            let status: Value = serde_json::from_str(&line).unwrap();
            assert_eq!((&status["message_type"], &status["operation"]), (&"status".into(), &"backup".into()));
            assert!(status["bytes_total"].is_null() && status["part_done"].is_null(), "{status}");
        } else {
            assert!(line.starts_with("backup: ") && line.contains("/s") && !line.contains('%'), "{line}");
        }
        drop(input);
        let mut rest = String::new();
        stderr.read_to_string(&mut rest).unwrap();
        assert_eq!(rest, "");
        assert!(child.wait().unwrap().success());
    }
}

#[test]
fn lines_are_written_where_they_are_asked_for_and_totals_come_from_the_parent() {
    let shell = Shell::new();
    let names: Vec<String> = (0..50).map(|number| format!("{number}")).collect();
    let files: Vec<(&str, usize)> = names.iter().map(|name| (name.as_str(), 1000)).collect();
    TreeSpec::files(&files).write(&shell.workshop.source());
    let run = |arguments: &[&str]| {
        let mut command = shell.command();
        command.arg("backup").arg(shell.workshop.source()).args(arguments);
        shell.run(command.env("DR_PROGRESS_FPS", "1000000"))
    };
    let unscanned = run(&["--json", "--no-scan", "--dry-run"]);
    let first = run(&["--json"]);
    let statuses = |output: &std::process::Output| -> Vec<Value> {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.filter(|line| line["message_type"] == "status").collect()
    };
    assert!(statuses(&unscanned).iter().all(|status| status["bytes_total"].is_null()));
    for status in statuses(&first) {
        // Whether that was counted before the end is a matter of luck.
        let total = status["bytes_total"].as_u64();
        assert!(total.is_none_or(|total| total == 50_000), "{status}");
        assert_eq!(status["total_is_estimate"], total.is_some());
        assert_eq!(status["part_done"].is_null(), total.is_none());
    }
    std::fs::write(shell.workshop.source().join("more"), vec![1; 30_000]).unwrap();
    let second = statuses(&run(&["--json", "--progress-interval", "1ms"]));
    for status in &second {
        // What is more than the parent held has no total any more.
        let (done, total) = (status["bytes_done"].as_u64().unwrap(), status["bytes_total"].as_u64());
        assert!(total.is_none_or(|total| total == 50_000 && done <= total), "{status}");
        assert_eq!(status["total_is_estimate"], total.is_some());
        assert!(status["part_done"].as_f64().is_none_or(|part| part <= 1.0));
    }
    assert!(statuses(&run(&["--json", "--quiet"])).is_empty());
    // Without an interval nobody is bothered where standard error is no terminal.
    let mut plain = shell.command();
    plain.arg("backup").arg(shell.workshop.source());
    assert!(shell.run(&mut plain).stderr.is_empty());
}

#[test]
fn stages_are_named_when_asked_for() {
    let shell = Shell::new();
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    let (_, said) = shell.run_to(shell.command().args(["check", "--read-data", "-v"]), 0);
    let stages: Vec<&str> = said.lines().filter_map(|line| line.split(" (").next()).collect();
    let expected = ["reading the index", "listing packs", "following trees", "reading contents"];
    assert_eq!(stages, expected.map(|stage| format!("check: {stage}")));
    let (_, said) = shell.run_to(shell.command().args(["check", "--read-data"]), 0);
    assert_eq!(said, "");
    let (output, said) =
        shell.run_to(shell.command().args(["check", "--json"]).env("DR_PROGRESS_FPS", "1000000"), 0);
    assert_eq!(String::from_utf8_lossy(&output.stdout).lines().count(), 1);
    assert!(said.lines().all(|line| line.contains("\"message_type\":\"status\"")), "{said}");
    for command in ["check", "prune"] {
        let mut run = shell.command();
        run.args([command, "--json"]).env("DR_PROGRESS_FPS", "1000000");
        let output = shell.run(&mut run);
        let said = [output.stdout, output.stderr].concat();
        let lines = String::from_utf8_lossy(&said).into_owned();
        let all = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let followed: Vec<Value> = all.filter(|line| line["stage"] == "following trees").collect();
        assert!(followed.iter().all(|line| line["entries_total"] == 1), "{command}: {lines}");
        assert!(followed.iter().all(|line| line["total_is_estimate"] == true), "{command}: {lines}");
    }
    let (_, said) = shell.run_to(shell.command().args(["prune", "-v"]), 0);
    assert!(said.starts_with("prune: following trees ("), "{said}");
}
