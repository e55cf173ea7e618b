//! Wrong passwords and keys.

use std::fs;

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;

#[test]
fn every_command_says_that_a_password_or_key_is_wrong() {
    let shell = Shell::default();
    shell.run(shell.command().arg("init").env_remove("DR_KEY_FILE").env("DR_PASSWORD", "right"));
    TreeSpec::files(&[("file", 900)]).write(&shell.workshop.source());
    shell.run(shell.backup().env_remove("DR_KEY_FILE").env("DR_PASSWORD", "right"));
    fs::write(shell.workshop.path().join("key"), format!("{}\n", "ab".repeat(32))).unwrap();
    rustix::fs::chmod(shell.workshop.path().join("key"), rustix::fs::Mode::RUSR).unwrap();
    let (source, target) = (shell.workshop.source(), shell.workshop.room());
    let (source, target) = (source.to_str().unwrap(), target.to_str().unwrap());
    let commands: [&[&str]; 6] = [
        &["backup", source],
        &["snapshots"],
        &["ls", "latest"],
        &["restore", "latest", "--target", target],
        &["check"],
        &["stats"],
    ];
    for arguments in commands {
        let (output, said) = shell.run_to(shell.command().args(arguments), 12);
        assert!(output.stdout.is_empty() && said.starts_with("error: "), "{arguments:?}: {said}");
        let mut command = shell.command();
        command.args(arguments).env_remove("DR_KEY_FILE").env("DR_PASSWORD", "wrong").arg("--json");
        let (output, said) = shell.run_to(&mut command, 12);
        assert!(output.stdout.is_empty(), "{arguments:?}");
        let error: serde_json::Value = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        assert_eq!(error["error_code"], "wrong_credentials", "{arguments:?}: {said}");
    }
    assert!(!std::path::Path::new(target).exists());
}

#[test]
fn a_key_file_that_others_can_read_is_warned_of_and_works() {
    let shell = Shell::new();
    let key = shell.workshop.path().join("key");
    let (_, said) = shell.run_to(shell.command().arg("stats"), 0);
    assert_eq!(said, "");
    rustix::fs::chmod(&key, rustix::fs::Mode::from_raw_mode(0o644)).unwrap();
    let (_, said) = shell.run_to(shell.command().arg("stats"), 0);
    assert!(said.starts_with("warning: the key file ") && said.contains("(mode 644)"), "{said}");
    let (_, said) = shell.run_to(shell.command().args(["stats", "--json"]), 0);
    let warning: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(warning["message_type"], "warning");
}
