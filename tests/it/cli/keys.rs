//! `dr key`: the passwords and keys of a repository, as people change them.

use std::fs;

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;

fn said(output: &std::process::Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn passwords_and_keys_are_added_changed_and_removed() {
    let shell = Shell::new();
    TreeSpec::files(&[("file", 900)]).write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    let with_password = |password: &str| {
        let mut command = shell.command();
        command.env_remove("DR_KEY_FILE").env("DR_PASSWORD", password);
        command
    };
    let new = shell.workshop.room();
    fs::write(&new, "first\n").unwrap();
    shell.run(shell.command().args(["key", "add", "--label", "desk", "--new-password-file"]).arg(&new));
    shell.run(with_password("first").arg("snapshots"));
    let listed = said(&shell.run(shell.command().args(["key", "list"])));
    assert_eq!(listed.lines().filter(|line| line.contains("desk")).count(), 1, "{listed}");
    assert!(listed.contains("password") && listed.contains("64.0 MiB"), "{listed}");
    // Of two places for the new one, the option counts; a password that opens already is no new one.
    let (_, error) = shell.run_to(
        shell
            .command()
            .args(["key", "add", "--new-password-command", "echo first"])
            .env("DR_NEW_PASSWORD", "x"),
        1,
    );
    assert!(error.contains("opens the repository already"), "{error}");

    let changed =
        said(&shell.run(with_password("first").args(["key", "passwd"]).env("DR_NEW_PASSWORD", "second")));
    assert!(changed.contains(" took the place of "), "{changed}");
    shell.run_to(with_password("first").arg("snapshots"), 12);
    shell.run(with_password("second").arg("snapshots"));

    // A key file that is not there is made, and opens.
    let usb = shell.workshop.room();
    let added = said(&shell.run(with_password("second").args(["key", "add", "--new-key-file"]).arg(&usb)));
    assert!(added.contains("made key file"), "{added}");
    shell.run(shell.command().env("DR_KEY_FILE", &usb).arg("snapshots"));

    // The first key goes; the one in use does not.
    let keys: serde_json::Value =
        serde_json::from_slice(&shell.run(with_password("second").args(["key", "list", "--json"])).stdout)
            .unwrap();
    let ids: Vec<&str> =
        keys["keys"].as_array().unwrap().iter().map(|key| key["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    assert_eq!(keys["keys"][1]["current"], true);
    let (_, error) = shell.run_to(with_password("second").args(["key", "remove", ids[1]]), 2);
    assert!(error.contains("another password or key"), "{error}");
    shell.run(with_password("second").args(["key", "remove", &ids[0][..8]]));
    shell.run_to(shell.command().arg("snapshots"), 12);
    shell.run(shell.command().env("DR_KEY_FILE", &usb).args(["check", "--read-data"]));
    shell.run_to(with_password("second").args(["key", "remove", ids[0]]), 2);
    // Nothing was said, and nobody can be asked.
    let (_, error) = shell.run_to(with_password("second").args(["key", "passwd"]), 2);
    assert!(error.contains("--new-password-file"), "{error}");
}
