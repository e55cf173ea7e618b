//! What people do most, as they would type it who come from another program of this kind.

use std::fs;
use std::path::Path;
use std::process::Command;

use dr_tests::shell::Shell;
use dr_tests::steps::restored;
use dr_tests::{TreeSpec, assert_same_tree};

/// A repository and its user, who types.
struct User {
    shell: Shell,
}

impl User {
    /// Types a line that ends with this code; gives what was written and what was said.
    fn types_to(&self, line: &[&str], code: i32) -> (String, String) {
        let (output, said) = self.shell.run_to(self.shell.command().args(line), code);
        (String::from_utf8_lossy(&output.stdout).into_owned(), said)
    }

    /// The same where it is done; gives what was written.
    fn types(&self, line: &[&str]) -> String {
        self.types_to(line, 0).0
    }
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn the_commonest_tasks_are_done_by_the_lines_that_people_type() {
    let user = User { shell: Shell::default() };
    let (source, room) = (user.shell.workshop.source(), user.shell.workshop.room());
    let home = text(&source).to_owned();
    let tree =
        [("notes.txt", 900), ("sub/report.odt", 40_000), ("sub/cache.tmp", 70), ("photo.jpg", 200_000)];
    TreeSpec::files(&tree).write(&source);
    let notes = fs::read(source.join("notes.txt")).unwrap();

    // Make a repository, save, and look.
    assert!(user.types(&["init"]).contains("repository"));
    user.types(&["backup", &home, "--exclude", "*.tmp", "--tag", "daily"]);
    fs::write(source.join("notes.txt"), "other words").unwrap();
    user.types(&["backup", &home, "--exclude=*.tmp", "--tag=daily"]);
    let table = user.types(&["snapshots"]);
    assert!(table.contains("daily") && table.contains(&home), "{table}");
    let ids = user.shell.snapshots();
    assert_eq!(ids.len(), 2);
    let short = [&ids[0][..8], &ids[1][..8]];

    let listed = user.types(&["ls", "latest"]);
    assert!(
        listed.contains(&format!("{home}/sub/report.odt\n")) && !listed.contains("cache.tmp"),
        "{listed}"
    );
    let listed = user.types(&["ls", "latest", &format!("{home}/sub")]);
    assert!(listed.contains("report.odt") && !listed.contains("photo.jpg"), "{listed}");
    let found = user.types(&["find", "*.odt"]);
    assert!(found.contains("report.odt") && found.contains(short[1]), "{found}");
    let changes = user.types(&["diff", short[0], short[1]]);
    assert!(changes.lines().any(|line| line.starts_with('M') && line.ends_with("notes.txt")), "{changes}");

    // Get it back: all, a part, one file.
    fs::remove_file(source.join("sub/cache.tmp")).unwrap();
    user.types(&["restore", "latest", "--target", text(&room)]);
    for name in ["notes.txt", "sub/report.odt", "photo.jpg"] {
        let back = restored(&room, &source).join(name);
        assert_eq!(fs::read(back).unwrap(), fs::read(source.join(name)).unwrap(), "{name}");
    }
    let part = user.shell.workshop.room();
    user.types(&["restore", short[1], "--target", text(&part), "--include", "*.odt"]);
    let part = restored(&part, &source);
    assert!(part.join("sub/report.odt").exists() && !part.join("photo.jpg").exists());
    assert_eq!(user.types(&["dump", &format!("latest:{home}/notes.txt")]), "other words");
    let old = format!("{}:{home}/notes.txt", short[0]);
    assert_eq!(user.shell.run(user.shell.command().args(["dump", &old])).stdout, notes);
    assert!(user.types(&["mount", "--help"]).contains("Usage: dr mount"));

    // File it, copy it, count it.
    user.types(&["tag", "--add", "kept", short[0]]);
    assert!(user.types(&["snapshots", "--tag", "kept"]).contains(short[0]));
    let other = user.shell.workshop.room();
    let (from, other) = (user.shell.repository(), text(&other).to_owned());
    let key = user.shell.workshop.path().join("key");
    user.types(&["-r", &other, "init"]);
    user.types(&["-r", &other, "copy", "--from-repo", text(&from), "--from-key-file", text(&key)]);
    assert_eq!(user.types(&["-r", &other, "snapshots", "--json"]).matches("\"kept\"").count(), 1);
    assert!(user.types(&["stats"]).contains("snapshots"));
    assert!(user.types(&["cat", "config"]).starts_with('{'));
    assert!(user.types(&["version"]).starts_with("dr "));

    // Thin out, free the space, and make sure.
    let policy = ["--keep-last", "1", "--keep-daily", "7", "--keep-weekly", "4", "--keep-monthly", "12"];
    let dry = user.types(&[&["forget", "--dry-run"], &policy[..]].concat());
    assert!(dry.contains("would be forgotten"), "{dry}");
    user.types(&[&["forget"], &policy[..]].concat());
    assert_eq!(user.shell.snapshots(), ids[1..]);
    user.types(&["prune"]);
    assert!(user.types(&["check"]).contains("no damage"));
    assert!(user.types(&["check", "--read-data"]).contains("no damage"));
    let again = user.shell.workshop.room();
    user.types(&["restore", "latest", "--target", text(&again)]);
    let mut touch = Command::new("touch");
    touch.arg("-r").arg(restored(&again, &source).join("sub")).arg(source.join("sub"));
    assert!(touch.status().unwrap().success());
    assert_same_tree(&source, &restored(&again, &source));
}

/// A line that cannot be done says what can.
#[test]
fn lines_that_cannot_be_done_say_what_can() {
    let user = User { shell: Shell::new() };
    let source = user.shell.workshop.source();
    TreeSpec::files(&[("file", 900)]).write(&source);
    user.shell.run(&mut user.shell.backup());
    for (line, code, hint) in [
        (&["unlock"][..], 2, "nothing is ever locked"),
        (&["extract", "latest"], 2, "use 'dr restore'"),
        (&["backup"], 2, "Usage: dr backup"),
        (&["backup", "/no/such/place"], 1, "/no/such/place"),
        (&["restore", "latest"], 2, "--target"),
        (&["restore", "ffffffff", "--target", "/no/such"], 1, "'dr snapshots'"),
        (&["ls", "latest", "/no/such/path"], 1, "/no/such/path"),
        (&["dump", "latest", "/etc/fstab"], 2, "latest:/etc/fstab"),
        (&["-r", "/no/such/repository", "snapshots"], 10, "dr init"),
        (&["forget"], 2, "--keep-last"),
        (&["init"], 1, "already"),
    ] {
        let (output, said) = user.types_to(line, code);
        assert!(output.is_empty(), "{line:?}: {output}");
        assert!(said.contains(hint), "{line:?}: {said}");
    }
    assert_eq!(user.shell.snapshots().len(), 1);
    user.shell.check();
}
