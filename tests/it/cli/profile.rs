//! Profiles: what a file says is done as if it had been written on the command line.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use serde_json::Value;

/// The program without the variables that lead it to the repository.
fn plain(shell: &Shell) -> Command {
    let mut command = shell.command();
    command.env_remove("DR_REPOSITORY").env_remove("DR_KEY_FILE");
    command
}

fn profiles(shell: &Shell) -> String {
    let at = |name: &str| shell.workshop.path().join(name).display().to_string();
    format!(
        "[profiles.default]\nrepository = \"{}\"\nkey-file = \"${{KEYS}}/key\"\n\
         [profiles.default.backup]\nsources = [\"{}\"]\ntag = [\"daily\", \"all\"]\n\
         [profiles.default.forget]\nkeep-last = 1\ngroup-by = \"\"\n\
         [profiles.work]\ninherits = \"default\"\n[profiles.work.backup]\ntag = \"work\"\nhost = \"office\"\n",
        at("repository"),
        at("source"),
    )
}

#[test]
fn a_profile_is_enough_for_a_backup_a_listing_and_a_policy() {
    let shell = Shell::new();
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    shell.configure(&profiles(&shell));
    let keys = shell.workshop.path();
    shell.run(plain(&shell).arg("backup").env("KEYS", keys));
    shell.run(plain(&shell).args(["-P", "work", "backup"]).env("KEYS", keys));
    shell.run(plain(&shell).args(["backup", "--tag", "own"]).env("KEYS", keys).env("DR_PROFILE", "work"));
    let output = shell.run(plain(&shell).args(["list", "--json"]).env("KEYS", keys));
    let list: Value = serde_json::from_slice(&output.stdout).unwrap();
    let told: Vec<String> = list.as_array().unwrap().iter().map(|it| format!("{}", it["tags"])).collect();
    assert_eq!(told, ["[\"daily\",\"all\"]", "[\"work\"]", "[\"own\"]"]);
    assert_eq!((&list[1]["host"], &list[2]["host"]), (&"office".into(), &"office".into()));
    shell.run(plain(&shell).arg("forget").env("KEYS", keys));
    assert_eq!(shell.snapshots().len(), 1);
}

#[test]
fn the_variable_that_a_profile_needs_must_be_set() {
    let shell = Shell::new();
    let path = shell.configure(&profiles(&shell));
    let (_, said) = shell.run_to(plain(&shell).arg("stats").env_remove("KEYS"), 2);
    assert_eq!(said, format!("error: {}:3: the variable KEYS is not set\n", path.display()));
}

#[test]
fn wrong_files_are_named_by_line_in_text_and_in_json() {
    let shell = Shell::new();
    let path =
        shell.configure("[profiles.default]\nthreads = 2\n[profiles.default.forget]\nkeep-dayly = 3\n");
    let (_, said) = shell.run_to(shell.command().arg("stats"), 2);
    let place = format!("{}:4", path.display());
    let hint = "did you mean 'keep-daily'?";
    assert_eq!(said, format!("error: {place}: unknown key 'keep-dayly' for 'dr forget'\n  hint: {hint}\n"));
    let (_, said) = shell.run_to(shell.command().args(["stats", "--json"]), 2);
    let error: Value = serde_json::from_str(&said).unwrap();
    assert_eq!((&error["message_type"], &error["error_code"]), (&"exit_error".into(), &"config".into()));
    assert_eq!(error["remedy"], hint);
    shell.run_to(shell.command().args(["config", "check"]), 2);
    let (_, said) = shell.run_to(shell.command().args(["-P", "nobody", "version"]), 0);
    assert_eq!(said, "");
    let elsewhere = shell.workshop.path().join("other.toml");
    let (_, said) = shell.run_to(shell.command().arg("--config").arg(&elsewhere).arg("stats"), 2);
    assert!(said.starts_with("error: the file of settings cannot be read: "), "{said}");
    fs::write(&elsewhere, "[profiles.mine]\nthreads = 1\n").unwrap();
    shell.run(shell.command().arg("--config").arg(&elsewhere).args(["-P", "mine", "stats"]));
}

#[test]
fn files_that_are_not_private_are_refused_or_warned_of() {
    let shell = Shell::new();
    let path = shell.configure("[profiles.default.env]\nAWS_SECRET_ACCESS_KEY = \"hush\"\n");
    let stats = || shell.command().args(["stats", "-q"]).output().unwrap();
    assert!(stats().stderr.is_empty());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let said = String::from_utf8(stats().stderr).unwrap();
    assert!(said.starts_with("warning: others may read ") && !said.contains("hush"), "{said}");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o602)).unwrap();
    let (_, said) = shell.run_to(shell.command().arg("stats"), 2);
    assert!(said.contains("not trusted, because everybody may write it"), "{said}");
}

#[test]
fn secrets_of_the_store_come_from_programs_and_are_shown_nowhere() {
    let shell = Shell::new();
    let marker = shell.workshop.path().join("ran");
    let text = format!(
        "[profiles.default.env]\nAWS_SECRET_ACCESS_KEY = {{ command = [\"sh\", \"-c\", \"echo hush; : > {}\"] }}\n\
         AWS_ACCESS_KEY_ID = \"hush-too\"\n[profiles.bad.env]\nX_TOKEN = {{ command = [\"false\"] }}\n\
         [profiles.default.backup]\nping = \"https://u:hush@host.example/hush?hush\"\n\
         [profiles.default]\npassword-command = \"echo hush\"\n",
        marker.display()
    );
    shell.configure(&text);
    for arguments in [&["config", "show"][..], &["config", "show", "--json"], &["config", "check"]] {
        let output = shell.run(shell.command().args(arguments));
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(!said.contains("hush") && !marker.exists(), "{said}");
        assert_eq!(said.contains("https://host.example/…"), arguments.contains(&"show"), "{said}");
    }
    shell.run(shell.command().arg("stats"));
    assert!(marker.exists());
    fs::remove_file(&marker).unwrap();
    // What the environment gives itself needs no program.
    shell.run(shell.command().arg("stats").env("AWS_SECRET_ACCESS_KEY", "given"));
    assert!(!marker.exists());
    let (_, said) = shell.run_to(shell.command().args(["-P", "bad", "stats"]), 1);
    assert!(said.contains("dr.toml:5: the program 'false' failed"), "{said}");
}

#[test]
fn show_names_every_origin() {
    let shell = Shell::new();
    let path = shell.configure(&profiles(&shell));
    let mut command = shell.command();
    command.args(["-P", "work", "config", "show", "--json"]).env("DR_BACKUP_COMPRESSION", "max");
    let document: Value = serde_json::from_slice(&shell.run(&mut command).stdout).unwrap();
    let settings = document["settings"].as_array().unwrap();
    let origin = |command: Value, key: &str| {
        let of = |record: &&Value| record["command"] == command && record["key"] == key;
        let found: Vec<&Value> = settings.iter().filter(of).collect();
        assert_eq!(found.len(), 1, "{key}");
        format!("{} {}", found[0]["value"].as_str().unwrap(), found[0]["origin"].as_str().unwrap())
    };
    assert_eq!(origin("backup".into(), "compression"), "max DR_BACKUP_COMPRESSION");
    assert_eq!(origin("backup".into(), "tag"), format!("work {}:13", path.display()));
    assert_eq!(origin("forget".into(), "keep-last"), format!("1 {}:8", path.display()));
    assert!(origin(Value::Null, "repo").ends_with(" DR_REPOSITORY"));
    let text = shell.run(shell.command().args(["-P", "work", "config", "show"])).stdout;
    assert!(String::from_utf8(text).unwrap().contains("profile  work\n"));
}
