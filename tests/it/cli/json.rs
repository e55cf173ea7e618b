//! Everything that `--json` writes is described in dr-cli/docs/JSON.md.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use dr_tests::TreeSpec;
use dr_tests::mounted::{Mounted, Showing};
use dr_tests::shell::Shell;
use dr_tests::tidy::repository_root;
use serde_json::Value;

/// The sections of the document by their titles: keys and what they mean. An example stands beside them.
struct Described(Vec<(String, BTreeMap<String, String>, Value)>);

impl Described {
    fn read() -> Described {
        let text = fs::read_to_string(repository_root().join("dr-cli/docs/JSON.md")).unwrap();
        let section = |text: &str| {
            let title = text.lines().next().unwrap_or_default().to_owned();
            let row = |line: &str| {
                let (key, meaning) = line.strip_prefix("| `")?.split_once("` | ")?;
                Some((key.to_owned(), meaning.to_owned()))
            };
            let example =
                text.split("```json\n").nth(1).and_then(|rest| rest.lines().next()).unwrap_or("null");
            let example = serde_json::from_str(example).unwrap_or_else(|why| panic!("{title}: {why}"));
            (title, text.lines().filter_map(row).collect(), example)
        };
        Described(text.split("\n## ").skip(1).map(section).collect())
    }

    /// What documents there are.
    fn kinds(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|(title, ..)| title.strip_prefix('`')?.split('`').next())
    }

    /// Stops the test unless a section of this type has every key of a document.
    fn expect(&self, document: &Value) {
        assert_eq!(document["schema"], 1, "{document}");
        let kind = document["message_type"].as_str().unwrap_or_else(|| panic!("no message_type: {document}"));
        let named = self.0.iter().filter(|(title, ..)| title.starts_with(&format!("`{kind}`")));
        let missing: Vec<_> = named.map(|(_, keys, _)| self.missing(document, "", keys)).collect();
        let least = missing.iter().min_by_key(|missing| missing.len());
        let least = least.unwrap_or_else(|| panic!("there is no section `{kind}`"));
        assert!(least.is_empty(), "`{kind}` does not describe {least:?}");
    }

    fn missing(&self, value: &Value, path: &str, keys: &BTreeMap<String, String>) -> BTreeSet<String> {
        let mut missing = BTreeSet::new();
        if !path.is_empty() && keys.contains_key(&format!("{path}.**")) {
            return missing;
        }
        let record = keys.get(path).and_then(|meaning| meaning.strip_prefix("a `")?.split('`').next());
        if let Some(name) = record {
            let (_, keys, _) = self.0.iter().find(|(title, ..)| title == &format!("`{name}`")).unwrap();
            return self.missing(value, "", keys);
        }
        match value {
            Value::Object(fields) => {
                for (key, value) in
                    fields.iter().filter(|(key, _)| !["message_type", "schema"].contains(&key.as_str()))
                {
                    let own = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let is_open = keys.contains_key(&format!("{path}.*"));
                    if !is_open && !keys.contains_key(&own) {
                        missing.insert(own.clone());
                    }
                    missing.append(&mut self.missing(value, &own, keys));
                }
            }
            Value::Array(items) => {
                for item in items {
                    missing.append(&mut self.missing(item, &format!("{path}[]"), keys));
                }
            }
            _ => {}
        }
        missing
    }
}

/// What a run wrote, each document by itself: the elements of a list, too.
fn documents(output: &std::process::Output) -> Vec<Value> {
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|why| panic!("{line}: {why}"));
    let documents = text.lines().map(parse);
    documents
        .flat_map(|document| match document {
            Value::Array(items) => items,
            other => vec![other],
        })
        .collect()
}

/// Every command, and how it ends in a repository with two snapshots.
const COMMANDS: &[(&str, i32)] = &[
    ("init -r NEW", 0),
    ("backup SOURCE -v", 0),
    ("backup SOURCE /no/such/place", 3),
    ("backup SOURCE --dry-run -vv", 0),
    ("backup SOURCE --exclude b -vv", 0),
    ("backup SOURCE", 0),
    ("backup SOURCE --skip-if-unchanged", 0),
    ("snapshots", 0),
    ("snapshots --group-by host,path --latest 1", 0),
    ("ls latest", 0),
    ("ls latest --sort size", 0),
    ("find", 0),
    ("find a* --type file --size -1K", 0),
    ("versions FILE", 0),
    ("diff latest~1 latest", 0),
    ("diff latest latest~1 --metadata", 0),
    ("diff latest --local SOURCE --read-data", 0),
    ("dump ONE --target DUMP", 0),
    ("dump latest --archive tar --target DUMP -v", 0),
    ("cat config", 0),
    ("cat keys", 0),
    ("cat snapshot latest", 0),
    ("cat log 1", 0),
    ("cat log", 0),
    ("cat pack", 0),
    ("cat index", 0),
    ("restore latest -t TARGET --dry-run", 0),
    ("restore latest -t TARGET -v", 0),
    ("restore latest -t TARGET --delete --verify -vv", 0),
    ("rewrite latest --exclude a --add-tag y", 0),
    ("merge latest~1 latest --dry-run", 0),
    ("merge latest~1 latest -v", 0),
    ("copy -r NEW --from-repo OLD --from-key-file KEY", 0),
    ("copy -r NEW --from-repo OLD --from-key-file KEY --dry-run", 0),
    ("snapshots -r NEW", 0),
    ("tag --add x latest", 0),
    ("protect latest", 0),
    ("hold 0", 0),
    ("key list", 0),
    ("key add --new-key-file ADDED --label x", 0),
    ("key passwd --key-file ADDED --new-key-file ADDED", 0),
    ("key remove ffffffff", 2),
    ("key remove SPARE", 0),
    ("forget --keep-last 1 --group-by host --dry-run --prune", 0),
    ("forget latest~1", 0),
    ("unforget --all", 0),
    ("prune", 0),
    ("check --read-data", 0),
    ("check --scrub", 0),
    ("check --read-data --shard 1/1", 0),
    ("check --reduce REPORT", 0),
    ("repair log --dry-run", 0),
    ("repair index", 0),
    ("repair packs", 0),
    ("repair snapshots", 0),
    ("stats", 0),
    ("stats latest", 0),
    ("stats --each", 0),
    ("put name", 0),
    ("put name --if-changed", 0),
    ("diff latest~1 latest", 0),
    ("cache", 0),
    ("cache --max-age 0 --dry-run", 0),
    ("config show", 0),
    ("config check", 0),
    ("config variables", 0),
    ("completions bash", 0),
    ("man", 0),
    ("man MAN", 0),
    ("version -v", 0),
    ("ls ffffffff", 1),
    ("cat ONE --host nobody", 1),
    ("ls", 2),
    ("nonsense", 2),
    ("unlock", 2),
    ("backup --nonsense", 2),
    ("stats -r /no/such/place", 10),
    ("stats --key-file OTHER", 12),
];

/// Commands that go on until they are ended; a test of their own runs them.
const SHOWING: &[&str] = &["mount", "serve-webdav"];

/// Documents that these runs do not write for sure: they depend on the time, or go elsewhere.
const SELDOM: &[&str] = &["ping", "status", "warning", "mounted", "serving"];

#[test]
fn every_command_writes_documents_that_are_described() {
    let shell = Shell::new();
    let described = Described::read();
    let mut tree = TreeSpec::files(&[("a", 10), ("b", 20)]);
    tree.put("link", dr_tests::Node::Symlink("a".into()));
    tree.write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    let at = |name: &str| shell.workshop.path().join(name).display().to_string();
    shell.configure("[profiles.default]\nthreads = 2\n[profiles.default.env]\nX = \"y\"\n[profiles.default.hooks]\nafter = \"true\"\n");
    fs::write(at("other"), "1".repeat(64)).unwrap();
    let places =
        [("SOURCE", at("source")), ("TARGET", at("target")), ("NEW", at("new")), ("OTHER", at("other"))];
    let more = [("REPORT", at("report")), ("MAN", at("man")), ("DUMP", at("dump")), ("KEY", at("key"))];
    let old = shell.repository().display().to_string();
    let spare = shell.run(shell.command().args(["key", "add", "--json", "--new-key-file", &at("spare")]));
    let spare: Value = serde_json::from_slice(&spare.stdout).unwrap();
    let added = [("ADDED", at("added")), ("SPARE", spare["added"].as_str().unwrap().to_owned())];
    let named = [("FILE", at("source/a")), ("ONE", format!("latest:{}", at("source/a"))), ("OLD", old)];
    let places: BTreeMap<&str, String> = places.into_iter().chain(more).chain(added).chain(named).collect();
    let mut seen = BTreeSet::new();
    for (line, code) in COMMANDS {
        let mut command = shell.command();
        command.args(line.split(' ').map(|word| places.get(word).map_or(word, String::as_str))).arg("--json");
        let (output, _) = shell.run_to(command.env("DR_PROGRESS_FPS", "1000"), *code);
        let documents = documents(&output);
        for document in &documents {
            described.expect(document);
            seen.insert(document["message_type"].as_str().unwrap().to_owned());
        }
        if line.contains("--shard") {
            fs::write(at("report"), &output.stdout).unwrap();
        }
        // The last word of a run that did not succeed is an error with its code, and no other run says one.
        let errors: Vec<&Value> =
            documents.iter().filter(|document| document["message_type"] == "exit_error").collect();
        assert_eq!(errors.len(), usize::from(*code != 0), "{line}");
        if *code != 0 {
            assert_eq!(documents.last().unwrap()["code"], *code, "{line}");
        }
    }
    for kind in described.kinds().filter(|kind| !SELDOM.contains(kind)) {
        assert!(seen.contains(kind), "no command wrote a `{kind}`");
    }
    assert_eq!(commands_of(&mut shell.command()), commands_run(), "a command is not tried with --json");
}

#[test]
fn commands_that_go_on_say_when_they_are_ready() {
    let shell = Shell::new();
    let described = Described::read();
    let place = shell.workshop.room();
    fs::create_dir(&place).unwrap();
    let mut serve = shell.command();
    serve.args(["serve", "webdav", "--listen", "127.0.0.1:0", "--json"]);
    let mut mount = shell.command();
    mount.args(["mount", "--json"]).arg(&place);
    let mut runs = vec![("serving", serve)];
    if Mounted::is_possible(&shell) {
        runs.push(("mounted", mount));
    }
    for (kind, mut command) in runs {
        let mut showing = Showing::start(&mut command);
        let ready: Value = serde_json::from_str(&showing.ready).unwrap();
        assert_eq!(ready["message_type"], kind);
        described.expect(&ready);
        // It was ended as it is meant to be: there is nothing to say.
        assert_eq!(showing.end(), "");
    }
}

/// The commands that do something, from the pages of the manual.
fn commands_of(program: &mut Command) -> BTreeSet<String> {
    let folder = tempfile::tempdir().unwrap();
    let output = program.arg("man").arg(folder.path()).arg("--json").output().unwrap();
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    let pages = document["pages"].as_array().unwrap().iter();
    let names = pages.filter_map(|page| page["name"].as_str()?.strip_prefix("dr-")?.strip_suffix(".1"));
    let names: BTreeSet<String> = names.map(str::to_owned).collect();
    let has_below = |name: &String| names.iter().any(|other| other.starts_with(&format!("{name}-")));
    names.iter().filter(|name| !has_below(name)).cloned().collect()
}

fn commands_run() -> BTreeSet<String> {
    let name = |(line, code): &(&str, i32)| {
        let mut words = line.split(' ');
        let first = words.next().unwrap();
        let name = match first {
            "repair" | "config" | "key" => format!("{first}-{}", words.next().unwrap()),
            _ => first.to_owned(),
        };
        (*code == 0).then_some(name)
    };
    COMMANDS.iter().filter_map(name).chain(SHOWING.iter().map(|name| (*name).to_owned())).collect()
}

#[test]
fn every_kind_of_failure_has_a_code_of_its_own() {
    let read = |path: &str| fs::read_to_string(repository_root().join(path)).unwrap();
    let engine = read("dr-core/src/error.rs");
    let (_, kinds) = engine.split_once("pub enum ErrorKind {").unwrap();
    let (kinds, _) = kinds.split_once("\n}").unwrap();
    let kinds: Vec<&str> = kinds.lines().filter_map(|line| line.trim().strip_suffix(',')).collect();
    let codes = read("dr-cli/src/exit_code.rs");
    assert!(kinds.len() > 15, "{kinds:?}");
    for kind in kinds {
        assert!(codes.contains(&format!("ErrorKind::{kind} => \"")), "{kind} has no error_code");
        assert!(codes.contains(&format!("(ErrorKind::{kind}, ")), "nothing tests the exit code of {kind}");
    }
}

#[test]
fn examples_hold_what_is_described() {
    let described = Described::read();
    let mut examples = 0;
    for (title, keys, example) in described.0.iter().filter(|(.., example)| !example.is_null()) {
        described.expect(example);
        let kind = example["message_type"].as_str().unwrap();
        assert!(title.starts_with(&format!("`{kind}`")), "{title} shows a {kind}");
        // Every key at the top that is not said to be there only at times is shown.
        for (key, meaning) in keys.iter().filter(|(key, _)| !key.contains(['.', '['])) {
            let at_times =
                ["only", "where that was saved", "with `-v`"].iter().any(|part| meaning.contains(part));
            assert!(at_times || example.get(key).is_some(), "{title}: the example has no {key}");
        }
        examples += 1;
    }
    assert!(examples > 25, "{examples}");
}
