use std::fs;

use super::*;
use crate::args::Command;

/// Reads a command line with these variables and, where there is text, a file of settings.
fn settled(line: &[&str], variables: &[(&str, &str)], text: &str) -> std::result::Result<Settings, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("dr.toml");
    fs::write(&path, text).unwrap();
    let mut arguments = vec![OsString::from("dr")];
    if !text.is_empty() {
        arguments.extend(["--config".into(), path.clone().into_os_string()]);
    }
    arguments.extend(line.iter().map(OsString::from));
    let known = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
    read(&arguments, &known).map_err(|refusal| match refusal {
        Refusal::Parser(error) => error.to_string(),
        Refusal::Error(error) => {
            let details = error.details();
            let text = format!("{} {}", details.message, details.remedy.as_deref().unwrap_or_default());
            text.replace(&format!("{}", path.display()), "FILE")
        }
    })
}

/// The arguments of the command in words of the debugger, in which every field stands.
fn shown(line: &[&str], variables: &[(&str, &str)], text: &str) -> String {
    let settings = settled(line, variables, text).unwrap();
    match settings.cli.command {
        Command::Backup(args) => format!("{args:?} {:?}", settings.cli.global),
        Command::Forget(args) => format!("{args:?} {:?}", settings.cli.global),
        other => format!("{other:?} {:?}", settings.cli.global),
    }
}

const PROFILES: &str = r#"
[profiles.default]
repository = "/r"
threads = 3
quiet = true
[profiles.default.backup]
sources = ["/a", "${WHERE:-/b}"]
tag = ["x", "y"]
one-file-system = true
compression = "max"
[profiles.default.forget]
keep-daily = 7
[profiles.work]
inherits = "default"
threads = 4
[profiles.work.backup]
tag = "w,z"
threads = 5
one-file-system = false
"#;

#[test]
fn the_command_line_comes_first_then_the_environment_then_the_profile() {
    let all = shown(&["backup"], &[], PROFILES);
    for part in ["paths: [\"/a\", \"/b\"]", "tag: [\"x\", \"y\"]", "compression: Max", "repo: Some(\"/r\")"] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    assert!(
        all.contains("one_file_system: true")
            && all.contains("threads: Some(3)")
            && all.contains("quiet: true")
    );
    let variables = [("DR_BACKUP_TAG", "e\nf"), ("DR_THREADS", "9"), ("DR_QUIET", "0"), ("WHERE", "/w")];
    let all = shown(&["backup"], &variables, PROFILES);
    assert!(all.contains("tag: [\"e\", \"f\"]") && all.contains("threads: Some(9)"), "{all}");
    assert!(all.contains("quiet: false") && all.contains("paths: [\"/a\", \"/w\"]"), "{all}");
    let all = shown(&["backup", "--tag", "c", "/p", "--threads", "2", "-v"], &variables, PROFILES);
    assert!(all.contains("tag: [\"c\"]") && all.contains("threads: Some(2)"), "{all}");
    // `-v` excludes `quiet`, which a profile may therefore not add.
    assert!(
        all.contains("paths: [\"/p\"]") && all.contains("quiet: false") && all.contains("verbose: 1"),
        "{all}"
    );
}

#[test]
fn a_profile_inherits_what_it_does_not_say() {
    let all = shown(&["-P", "work", "backup"], &[], PROFILES);
    for part in ["threads: Some(5)", "tag: [\"w\", \"z\"]", "one_file_system: false", "compression: Max"] {
        assert!(all.contains(part), "{part} is not in {all}");
    }
    let all = shown(&["-P", "work", "forget"], &[], PROFILES);
    assert!(all.contains("threads: Some(4)") && all.contains("keep_daily: 7"), "{all}");
    let named = shown(&["forget"], &[("DR_PROFILE", "work")], PROFILES);
    assert!(named.contains("threads: Some(4)"), "{named}");
}

#[test]
fn nothing_excludes_what_stands_on_the_command_line() {
    let text = "[profiles.default]\nkey-file = \"/k\"\n[profiles.default.backup]\nforce = true\nsources = [\"/a\"]\n";
    let all = shown(&["backup", "--parent", "latest"], &[], text);
    assert!(all.contains("force: false") && all.contains("key_file: Some(\"/k\")"), "{all}");
    let all = shown(&["backup", "--stdin", "--password-file", "f"], &[], text);
    assert!(
        all.contains("paths: []") && all.contains("stdin: true") && all.contains("key_file: None"),
        "{all}"
    );
    let all = shown(&["backup"], &[("DR_PASSWORD", "p")], text);
    assert!(all.contains("key_file: None") && all.contains("force: true"), "{all}");
}

#[test]
fn what_is_required_may_stand_in_a_profile_and_must_stand_somewhere() {
    let text = "[profiles.default.restore]\ntarget = \"/t\"\n[profiles.default.backup]\nsources = []\n";
    let all = shown(&["restore", "latest"], &[], text);
    assert!(all.contains("target: \"/t\""), "{all}");
    let all = shown(&["restore", "latest"], &[("DR_RESTORE_TARGET", "/e")], "");
    assert!(all.contains("target: \"/e\""), "{all}");
    assert!(settled(&["restore", "latest"], &[], "[profiles.default]\n").unwrap_err().contains("--target"));
    assert!(settled(&["backup"], &[], text).unwrap_err().contains("PATH"));
}

#[test]
fn wrong_settings_are_named_by_their_lines() {
    let cases = [
        ("[profiles.default]\nthreds = 1\n", "FILE:2: unknown key 'threds' did you mean 'threads'?"),
        ("[profiles.default]\nthreads = 0\n", "FILE:2: invalid value '0' for '--threads <N>'"),
        ("[profiles.default]\nquiet = \"yes\"\n", "FILE:2: 'quiet' takes true or false"),
        ("[profiles.default]\nthreads = [1]\n", "FILE:2: 'threads' takes one value, not a list"),
        ("[profiles.default]\nrepo = \"${NONE}\"\n", "FILE:2: the variable NONE is not set"),
        ("[profiles.default]\nping = \"https://h\"\n", "FILE:2: 'ping' must stand in a command's table"),
        ("[profiles.default.bakup]\ntag = 1\n", "did you mean 'backup'?"),
        ("[profiles.default.backup]\nkeep-daily = 1\n", "unknown key 'keep-daily' for 'dr backup'"),
        (
            "[profiles.default.backup]\ncompression = \"most\"\n",
            "FILE:2: invalid value 'most' for '--compression",
        ),
        ("[profiles.default.backup]\nforce = true\nparent = \"latest\"\n", "exclude each other"),
        (
            "[profiles.default]\ninherits = \"defalt\"\n",
            "FILE:2: there is no profile 'defalt' did you mean 'default'?",
        ),
        ("[profiles.default]\ninherits = \"default\"\n", "inherits from itself"),
        ("[default]\n", "FILE:1: unknown key 'default'"),
        ("[profiles.default.env]\nDR_THREADS = \"1\"\n", "set 'threads' in the profile itself"),
        ("[profiles.default.env]\nDR_PASSWORD = \"p\"\n", "use password-command or password-file"),
        ("[profiles.default.env]\nX = 1\n", "FILE:2: X takes a string, or { command"),
        (
            "[profiles.default.hooks]\nbefor = \"x\"\n",
            "FILE:2: unknown key 'befor' for hooks did you mean 'before'?",
        ),
        ("[profiles.default.hooks.backup]\ntimeout = \"x\"\n", "FILE:2: 'x' is no length of time"),
        ("[profiles.default.hooks]\nbefore = [[]]\n", "FILE:2: 'before' must be a list of strings"),
    ];
    for (text, message) in cases {
        let why = settled(&["backup", "/p"], &[], text).unwrap_err();
        assert!(why.contains(message), "{text}: {why}");
    }
    let why = settled(&["-P", "hom", "stats"], &[], "[profiles.home]\n").unwrap_err();
    assert!(why.contains("there is no profile 'hom' did you mean 'home'?"), "{why}");
    assert!(
        settled(&["stats"], &[("DR_THREADS", "x")], "").unwrap_err().starts_with("DR_THREADS: invalid value")
    );
    assert!(settled(&["stats"], &[("DR_JSON", "x")], "").unwrap_err().starts_with("DR_JSON takes 1, 0"));
}

#[test]
fn what_has_nothing_to_do_with_profiles_does_not_read_them() {
    settled(&["version"], &[], "[profiles.default]\nnonsense = 1\n").unwrap();
    assert!(settled(&["stats"], &[], "[profiles.default]\nnonsense = 1\n").is_err());
    let missing = settled(&["--config", "/no/such/file", "stats"], &[], "").unwrap_err();
    assert!(missing.contains("the file of settings cannot be read: /no/such/file"), "{missing}");
}

#[test]
fn flags_take_all_words_for_yes_and_no() {
    for (word, is_set) in
        [("1", true), ("true", true), ("YES", true), ("0", false), ("false", false), ("", false)]
    {
        let settings = settled(&["backup", "/p"], &[("DR_BACKUP_DRY_RUN", word)], "").unwrap();
        assert_eq!(settings.is_dry_run, is_set, "{word}");
    }
    let all = shown(&["stats"], &[("DR_VERBOSE", "2")], "");
    assert!(all.contains("verbose: 2"), "{all}");
}

#[test]
fn every_variable_reaches_its_option() {
    let mut built = help::command();
    built.build();
    for option in options::of_all(&built) {
        // What the command line could not be without, so that only the variable is in question.
        let value = match option.takes {
            options::Takes::Nothing | options::Takes::Repetition => "1",
            _ => "\u{1}wrong\u{1}",
        };
        let mut line: Vec<OsString> = vec!["dr".into()];
        let chain =
            if option.commands.is_empty() { vec!["stats".to_owned()] } else { option.commands.clone() };
        line.extend(chain.iter().map(OsString::from));
        let relaxed = apply::relaxed(help::command());
        let first = relaxed.clone().try_get_matches_from(&line).unwrap();
        for name in option.variables() {
            let level = Level::new(&built, &relaxed, &chain, &first);
            let known = |wanted: &str| (wanted == name).then(|| OsString::from(value));
            let layer = Layer::environment(&level, &known).unwrap();
            let is_secret = ["key-file", "password-file", "password-command"].contains(&option.key.as_str());
            assert_eq!(layer.len(), usize::from(!is_secret), "{name}");
        }
    }
}

#[test]
fn secrets_in_locations_are_hidden() {
    for (location, shown) in [
        ("/local/path?x", "/local/path?x"),
        ("s3://bucket/path", "s3://bucket/path"),
        ("https://me:pw@host/p?key=1", "https://…@host/p?…"),
        ("https://me:p@w@host", "https://…@host"),
    ] {
        assert_eq!(masked_url(location), shown);
    }
}
