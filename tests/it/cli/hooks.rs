//! Programs before and after a run.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use rustix::process::{Pid, Signal, kill_process};

/// A repository with a file to back up, and hooks in the default profile; `LOG` in them is a file.
fn shell_with(hooks: &str) -> (Shell, std::path::PathBuf) {
    let shell = Shell::new();
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    let log = shell.workshop.path().join("log");
    shell.configure(&hooks.replace("LOG", &log.display().to_string()));
    (shell, log)
}

fn lines(log: &std::path::Path) -> Vec<String> {
    let lines = fs::read_to_string(log).unwrap_or_default().lines().map(str::to_owned).collect();
    let _ = fs::remove_file(log);
    lines
}

#[test]
fn hooks_run_around_the_command_and_know_how_it_ended() {
    let (shell, log) = shell_with(
        "[profiles.default.hooks]\n\
         before = \"echo all-before $DR_COMMAND $DR_PROFILE $DR_HOOK $DR_DRY_RUN >> LOG\"\n\
         after = \"echo all-after $DR_EXIT_CODE >> LOG\"\n\
         failed = \"echo all-failed $DR_EXIT_CODE $DR_ERROR_CODE >> LOG\"\n\
         finally = \"echo all-finally $DR_EXIT_CODE >> LOG\"\n\
         [profiles.default.hooks.backup]\n\
         before = [[\"sh\", \"-c\", \"echo $0 >> LOG\", \"two words\"], \"echo second >> LOG\"]\n\
         after = \"echo after $DR_SNAPSHOT_ID >> LOG; echo to-stdout\"\n",
    );
    let output = shell.run(shell.backup().arg("--json"));
    let id = shell.snapshots().remove(0);
    let written = String::from_utf8(output.stdout).unwrap();
    assert_eq!(written.lines().count(), 1, "{written}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("to-stdout"));
    let seen = lines(&log);
    let expected =
        ["all-before backup default before 0", "two words", "second", &format!("after {id}"), "all-after 0"];
    assert_eq!(seen[..5], expected);
    assert_eq!(seen[5], "all-finally 0");
    // Listing the snapshots above ran the hooks of all commands.
    assert_eq!(seen.len(), 9, "{seen:?}");
    shell.run_to(shell.command().args(["ls", "ffffffff"]), 1);
    assert_eq!(lines(&log), ["all-before ls default before 0", "all-failed 1 not_found", "all-finally 1"]);
    shell.run(shell.backup().arg("--dry-run"));
    assert_eq!(lines(&log)[0], "all-before backup default before 1");
    shell.run(shell.command().args(["config", "check"]));
    shell.run(shell.command().arg("version"));
    assert!(lines(&log).is_empty());
}

#[test]
fn a_failing_hook_before_prevents_the_run() {
    let (shell, log) = shell_with(
        "[profiles.default.hooks.backup]\nbefore = [\"false\"]\n\
         failed = \"echo $DR_EXIT_CODE $DR_ERROR_CODE >> LOG\"\nfinally = \"echo finally >> LOG\"\n",
    );
    let (_, said) = shell.run_to(&mut shell.backup(), 25);
    assert!(said.starts_with("error: the hook 'false' (before) failed: exit status: 1\n"), "{said}");
    assert_eq!(lines(&log), ["25 hook_failed", "finally"]);
    assert!(shell.snapshots().is_empty());
    let (_, said) = shell.run_to(shell.backup().arg("--json"), 25);
    let last: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(last["error_code"], "hook_failed");
    shell.configure("[profiles.default.hooks]\nbefore = [\"/no/such/program\"]\n");
    let (_, said) = shell.run_to(&mut shell.backup(), 25);
    assert!(said.contains("because: No such file"), "{said}");
}

#[test]
fn other_failing_hooks_are_warnings() {
    let (shell, _) = shell_with(
        "[profiles.default.hooks.backup]\nafter = \"exit 7\"\nfinally = [\"/no/such/program\"]\n\
         [profiles.default.hooks.ls]\nfailed = [\"false\"]\n",
    );
    let (_, said) = shell.run_to(&mut shell.backup(), 0);
    assert!(said.contains("warning: the hook 'exit' (after) failed: exit status: 7\n"), "{said}");
    assert!(
        said.contains("warning: the hook '/no/such/program' (finally) cannot be run: No such file"),
        "{said}"
    );
    let (_, said) = shell.run_to(shell.command().args(["ls", "ffffffff"]), 1);
    assert!(said.contains("warning: the hook 'false' (failed)") && said.contains("\nerror: "), "{said}");
}

#[test]
fn a_hook_ends_at_its_time_with_all_that_it_started() {
    let (shell, log) = shell_with(
        "[profiles.default.hooks.backup]\ntimeout = \"1s\"\nafter = \"(sleep 600; echo late >> LOG) & echo $! > LOG; sleep 600\"\n",
    );
    let begun = Instant::now();
    let (_, said) = shell.run_to(&mut shell.backup(), 0);
    assert!(said.contains("(after) did not end within 1s"), "{said}");
    assert!(begun.elapsed() < Duration::from_secs(60));
    let child: i32 = lines(&log)[0].parse().unwrap();
    // It has ended, or is about to be taken notice of by whoever adopted it.
    let state = || fs::read_to_string(format!("/proc/{child}/stat")).unwrap_or_default();
    let begun = Instant::now();
    while !state().is_empty() && !state().contains(") Z ") && !state().contains(") X ") {
        assert!(begun.elapsed() < Duration::from_secs(10), "{}", state());
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_signal_ends_a_hook_and_the_run_and_what_cleans_up_is_run() {
    let (shell, log) = shell_with(
        "[profiles.default.hooks.backup]\nbefore = \"echo begun > LOG; sleep 600\"\n\
         finally = \"echo cleaned $DR_EXIT_CODE >> LOG\"\n",
    );
    let mut command = shell.backup();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begun = Instant::now();
    while fs::read_to_string(&log).unwrap_or_default() != "begun\n" {
        assert!(begun.elapsed() < Duration::from_secs(60), "the hook did not begin");
        std::thread::sleep(Duration::from_millis(2));
    }
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(130), "{said}");
    assert_eq!(lines(&log), ["begun", "cleaned 130"]);
}

#[test]
fn a_program_that_a_hook_starts_runs_no_hooks() {
    let (shell, log) = shell_with("");
    let program = dr_tests::steps::program().display().to_string();
    shell.configure(&format!(
        "[profiles.default.hooks]\nafter = [\"{program}\", \"stats\"]\nfinally = \"echo $DR_COMMAND >> {}\"\n",
        log.display()
    ));
    shell.run(&mut shell.backup());
    assert_eq!(lines(&log), ["backup"]);
}
