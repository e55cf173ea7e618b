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

/// Programs that are run need no password, and what they write may be seen by others: the variables are taken away.
#[test]
fn passwords_in_variables_are_not_for_the_programs_that_are_run() {
    let shell = Shell::default();
    let seen = shell.workshop.path().join("seen");
    fs::create_dir(&seen).unwrap();
    TreeSpec::files(&[("file", 900)]).write(&shell.workshop.source());
    let dump = |name: &str| format!("env > {}", seen.join(name).display());
    let archive = format!("{}; tar -C {} -cf - .", dump("archive"), shell.workshop.source().display());
    let secret = format!("{}; echo right", dump("secret"));
    let command = |arguments: &[&str]| {
        let mut command = shell.command();
        command.env_remove("DR_KEY_FILE").env("DR_PASSWORD", "right").env("DR_FROM_PASSWORD", "other");
        command.env("DR_NEW_PASSWORD", "another");
        command.args(arguments);
        command
    };
    shell.run(&mut command(&["init"]));
    let hook = |phase: &str| format!("{phase} = \"{}\"\n", dump(phase));
    shell.configure(&format!(
        "[profiles.default.hooks]\n{}{}{}\n",
        hook("before"),
        hook("after"),
        hook("finally"),
    ));
    shell.run(&mut command(&["backup", "-q", "--stdin-from-command", "--", "sh", "-c", &dump("stream")]));
    shell.run(&mut command(&["put", "-q", "name", "--", "sh", "-c", &dump("put")]));
    shell.run(&mut command(&["backup", "-q", "--from-tar-command", "--", "sh", "-c", &archive]));
    // A program that gives the one password has no need of the other.
    let quoted = format!("sh -c '{secret}'");
    shell.run(&mut command(&["snapshots", "--password-command", &quoted]));
    let from =
        ["copy", "--dry-run", "--from-repo", "/no/such/repository", "--from-password-command", &quoted];
    shell.run_to(&mut command(&from), 10);
    let mut names: Vec<_> =
        fs::read_dir(&seen).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["after", "archive", "before", "finally", "put", "secret", "stream"]);
    for name in names {
        let variables = fs::read_to_string(seen.join(&name)).unwrap();
        assert!(variables.contains("DR_REPOSITORY="), "{name}: {variables}");
        let is_secret = |line: &str| {
            ["DR_PASSWORD=", "DR_FROM_PASSWORD=", "DR_NEW_PASSWORD="]
                .iter()
                .any(|name| line.starts_with(name))
        };
        assert!(!variables.lines().any(is_secret), "{name}: {variables}");
    }
}
