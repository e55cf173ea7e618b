//! What shells and `man` read.

use std::fs;
use std::process::{Command, Stdio};

use dr_tests::shell::Shell;

#[test]
fn every_shell_gets_a_script_that_names_commands_and_options() {
    let shell = Shell::default();
    for name in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let output = shell.run(shell.command().args(["completions", name]));
        let script = String::from_utf8(output.stdout).unwrap();
        for word in ["snapshots", "read-data-subset", "keep-daily"] {
            assert!(script.contains(word), "{name}: {word}");
        }
    }
    shell.run_to(shell.command().args(["completions", "csh"]), 2);
}

#[test]
fn bash_takes_its_script_and_completes_with_it() {
    let shell = Shell::default();
    let script = shell.run(shell.command().args(["completions", "bash"])).stdout;
    let path = shell.workshop.path().join("dr.bash");
    fs::write(&path, script).unwrap();
    let line = "source $0; COMP_WORDS=(dr forget --keep-wi); COMP_CWORD=2; _dr dr --keep-wi forget; echo ${COMPREPLY[@]}";
    let Ok(output) = Command::new("bash").args(["-c", line]).arg(&path).stdin(Stdio::null()).output() else {
        // A machine without bash has nobody to complete for.
        return;
    };
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains("--keep-within-daily"), "{said} {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let shell = Shell::default();
    let folder = shell.workshop.path().join("man/man1");
    shell.run(shell.command().arg("man").arg(&folder));
    let named = |name: &str| fs::read_to_string(folder.join(name)).unwrap();
    assert!(named("dr.1").contains(".TH dr 1") && named("dr.1").contains("safe to retry?"));
    assert!(named("dr-backup.1").contains("one\\-file\\-system"));
    assert!(named("dr-repair-log.1").contains(".SH NAME\ndr\\-repair\\-log"));
    assert!(fs::read_dir(&folder).unwrap().count() > 20);
    let output = shell.run(shell.command().arg("man"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), named("dr.1"));
    fs::write(shell.workshop.path().join("file"), "").unwrap();
    let (_, said) = shell.run_to(shell.command().arg("man").arg(shell.workshop.path().join("file/below")), 1);
    assert!(said.starts_with("error: a page of the manual cannot be written"), "{said}");
}

#[test]
fn help_has_the_commands_in_groups_and_examples() {
    let shell = Shell::default();
    let help =
        |arguments: &[&str]| String::from_utf8(shell.run(shell.command().args(arguments)).stdout).unwrap();
    let all = help(&["--help"]);
    assert!(all.find("Every day:").unwrap() < all.find("Trust:").unwrap(), "{all}");
    assert!(all.contains("\n  25    a hook before the run failed"), "{all}");
    let long = help(&["backup", "--help"]);
    assert!(long.contains("Examples:\n") && long.contains("the exit code is 3"), "{long}");
    assert!(!help(&["backup", "-h"]).contains("Examples:"));
    let listed =
        |name: &str| shell.run_to(shell.command().args([name, "--forgotten", "-r", "/no/such/place"]), 10).1;
    assert_eq!(listed("list"), listed("snapshots"));
}
