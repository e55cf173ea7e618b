//! `--cipher`: what new objects are sealed with.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use serde_json::Value;

/// How many packs of contents there are of each suite, as their headers say.
fn suites(shell: &Shell) -> BTreeMap<u8, u32> {
    let mut suites = BTreeMap::new();
    let entries = |path: &Path| fs::read_dir(path).into_iter().flatten().map(|entry| entry.unwrap().path());
    for pack in entries(&shell.repository().join("data")).flat_map(|folder| entries(&folder)) {
        *suites.entry(fs::read(pack).unwrap()[10]).or_default() += 1;
    }
    suites
}

#[test]
fn the_command_line_a_variable_and_a_profile_choose_the_cipher() {
    let shell = Shell::new();
    let source = shell.workshop.source();
    let mut expected = BTreeMap::new();
    let configure = |cipher: &str| shell.configure(&format!("[profiles.default]\ncipher = \"{cipher}\"\n"));
    configure("aes256");
    for (number, (argument, variable, suite)) in
        [(None, None, 2), (None, Some("chacha20"), 1), (Some("aes256"), Some("chacha20"), 2)]
            .into_iter()
            .enumerate()
    {
        let _ = fs::remove_dir_all(&source);
        TreeSpec::files(&[(format!("file{number}").as_str(), 5000 + number)]).write(&source);
        let mut backup = shell.backup();
        backup.args(argument.map(|cipher| format!("--cipher={cipher}")));
        backup.envs(variable.map(|cipher| ("DR_CIPHER", cipher)));
        shell.run(&mut backup);
        *expected.entry(suite).or_default() += 1;
        assert_eq!(suites(&shell), expected);
    }
    shell.run(shell.command().args(["check", "--read-data", "--cipher", "chacha20"]));
    shell.assert_restores("latest", &source);
    let (_, said) = shell.run_to(shell.command().args(["stats", "--cipher", "des"]), 2);
    assert!(said.contains("auto, chacha20, aes256"), "{said}");
    let (_, said) = shell.run_to(shell.command().arg("stats").env("DR_CIPHER", "des"), 2);
    assert!(said.starts_with("error: DR_CIPHER"), "{said}");
}

#[test]
fn the_version_says_which_cipher_is_taken_by_itself() {
    let shell = Shell::new();
    TreeSpec::files(&[("file", 5000)]).write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    let output = shell.run(shell.command().args(["version", "-v", "--json"]));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let expected = match document["backends"]["sealing"].as_str().unwrap() {
        "chacha20-poly1305" => 1,
        "aes-256-gcm" => 2,
        other => panic!("{other}"),
    };
    assert_eq!(suites(&shell), BTreeMap::from([(expected, 1)]));
}
