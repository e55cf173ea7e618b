//! The real program restores over what is there; and it is killed, and goes on.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use dr_tests::shell::Shell;
use dr_tests::steps::{Dice, restored};
use dr_tests::{Node, TreeSpec, assert_same_tree};

const KILLS: u64 = 16;

fn summary(output: &std::process::Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

#[test]
fn options_lead_to_what_they_say() {
    let shell = Shell::new();
    let (source, target) = (shell.workshop.source(), shell.workshop.room());
    TreeSpec::files(&[("d/a.txt", 5), ("d/b.dat", 6), ("e/c.txt", 7)]).write(&source);
    shell.run(&mut shell.backup());
    let there = restored(&target, &source);
    let restore = |arguments: &[&str]| {
        let mut command = shell.restore("latest", &target);
        command.args(arguments);
        command
    };

    let dry = shell.run(&mut restore(&["--dry-run"]));
    let said = String::from_utf8(dry.stdout).unwrap();
    assert!(said.contains("restored ") && said.contains("d/a.txt\n"), "{said}");
    assert!(said.contains("would restore 3 files"), "{said}");
    assert!(!target.exists());
    let quiet = shell.run(&mut restore(&["--dry-run", "-q"]));
    assert_eq!(quiet.stdout, b"");

    let patterns = shell.workshop.path().join("patterns");
    fs::write(&patterns, "# comment\n\n*.TXT\n").unwrap();
    let file = patterns.to_str().unwrap();
    shell.run(&mut restore(&["--iinclude", "*.TXT", "--exclude", "e"]));
    assert!(there.join("d/a.txt").exists() && !there.join("d/b.dat").exists() && !there.join("e").exists());
    let output = shell.run(&mut restore(&["--include-file", file, "--json"]));
    assert_eq!(summary(&output)["files"], 0);
    let output = shell.run(&mut restore(&["--json", "--verify", "--overwrite", "if-changed"]));
    let found = summary(&output);
    assert_eq!((found["files"].as_u64(), found["unchanged"].as_u64()), (Some(2), Some(1)), "{found}");
    assert_eq!(
        (found["verified"]["files"].as_u64(), found["verified"]["mismatches"].as_u64()),
        (Some(3), Some(0))
    );
    assert_same_tree(&source, &there);

    fs::write(there.join("surplus"), "").unwrap();
    fs::write(there.join("d/a.txt"), "other").unwrap();
    let dry = shell.run(&mut restore(&["--dry-run", "--delete", "--json"]));
    let lines = String::from_utf8(dry.stdout).unwrap();
    for (action, name) in [("deleted", "surplus"), ("replaced", "d/a.txt")] {
        let is_it = |line: &serde_json::Value| {
            line["action"] == action && line["item"].as_str().is_some_and(|item| item.ends_with(name))
        };
        assert!(lines.lines().any(|line| is_it(&serde_json::from_str(line).unwrap())), "{lines}");
    }
    assert_eq!(summary(&shell.run(&mut restore(&["--overwrite", "never", "--json"])))["kept"], 3);
    let output = shell.run(&mut restore(&["--delete"]));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("1 replaced, 2 right already, 1 deleted"), "{said}");
    assert_same_tree(&source, &there);
}

#[test]
fn wrong_input_is_refused_before_anything_is_written() {
    let shell = Shell::new();
    let (source, target) = (shell.workshop.source(), shell.workshop.room());
    TreeSpec::files(&[("a", 5)]).write(&source);
    shell.run(&mut shell.backup());
    let cases: [(&[&str], &str); 8] = [
        (&["--overwrite", "sometimes"], "sometimes"),
        (&["--include", "[a"], "["),
        (&["--exclude-file", "/nowhere"], "/nowhere"),
        (&["--map-user", "alice"], "FROM:TO"),
        (&["--map-user", "1:no such user"], "no such user"),
        (&["--map-path", "/a"], "--map-path FROM=TO"),
        (&["--map-path", "/a=../b"], "below the target"),
        (&["--delete", "--target", "/"], "--delete-anyway"),
    ];
    for (arguments, expected) in cases {
        let mut command = shell.command();
        command.args(["restore", "latest"]);
        if !arguments.contains(&"--target") {
            command.arg("--target").arg(&target);
        }
        let (_, said) = shell.run_to(command.args(arguments), 2);
        assert!(said.contains(expected), "{arguments:?}: {said}");
        assert!(!target.exists(), "{arguments:?}");
    }
}

/// Every file below its own name is the old one, the new one, or says that it is not whole.
fn assert_no_mixture(found: &Path, old: &Path, new: &Path) {
    let mut stack = vec![found.to_path_buf()];
    while let Some(path) = stack.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
            continue;
        }
        let is_temporary = path.file_name().unwrap().to_str().unwrap().starts_with(".dr-restore-");
        if is_temporary || stat.permissions().mode() & 0o7777 == 0o1600 {
            continue;
        }
        let content = fs::read(&path).unwrap();
        let relative = path.strip_prefix(found).unwrap();
        let is_one = |tree: &Path| fs::read(tree.join(relative)).is_ok_and(|bytes| bytes == content);
        assert!(is_one(old) || is_one(new), "{} is a mixture", path.display());
    }
}

#[test]
fn heavy_restores_that_are_killed_leave_old_or_new_files_and_go_on() {
    let (shell, mut dice) = (Shell::new(), Dice::new(7));
    let (source, target) = (shell.workshop.source(), shell.workshop.room());
    let mut tree = TreeSpec::default();
    for number in 0..300 {
        tree.put(&format!("d{}/f{number}", number % 7), Node::File { seed: number, bytes: 40_000 });
    }
    tree.put("large", Node::File { seed: 1000, bytes: 14 << 20 });
    tree.put("d1/also", Node::File { seed: 1001, bytes: 3 << 20 });
    tree.write(&source);
    shell.run(&mut shell.backup());
    let old = shell.workshop.copy_of(&source);
    for number in (0..300).step_by(3) {
        tree.put(&format!("d{}/f{number}", number % 7), Node::File { seed: 5000 + number, bytes: 50_000 });
    }
    tree.put("large", Node::File { seed: 1002, bytes: 15 << 20 });
    tree.write(&source);
    shell.run(&mut shell.backup());
    let there = restored(&target, &source);
    let begun = Instant::now();
    shell.run(&mut shell.restore("latest", &target));
    let typical_us = begun.elapsed().as_micros() as u64;
    let mut killed = 0;
    for round in 0..KILLS {
        // Over nothing, or over what an earlier backup held.
        let _ = fs::remove_dir_all(&target);
        if round % 2 == 0 {
            shell.run(shell.restore("latest~1", &target).arg("-q"));
        }
        for _ in 0..1 + round % 3 {
            let mut command = shell.restore("latest", &target);
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(dice.below(typical_us)));
            let _ = child.kill();
            killed += u64::from(!child.wait().unwrap().success());
            if there.exists() {
                assert_no_mixture(&there, &old, &source);
            }
        }
        // Whichever policy goes on: what is not whole is never kept, nor taken to be right.
        let policy = ["always", "if-changed", "if-newer", "never"][(round / 2 % 4) as usize];
        shell.run(shell.restore("latest", &target).args(["-q", "--overwrite", policy]));
        // A directory that was there counts as newer once something was written in it.
        if round % 2 == 1 || matches!(policy, "always" | "if-changed") {
            assert_same_tree(&source, &there);
        } else {
            assert_no_mixture(&there, &old, &source);
            let unfinished = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777 == 0o1600;
            assert!(!unfinished(&there.join("large")));
        }
    }
    assert!(killed >= KILLS / 3, "{killed} were killed");
}

/// In place, a file holds what was there before until each part of it is written; one that was cut short says so, and the next
/// restore finds it, whatever it is to keep.
#[test]
fn heavy_restores_in_place_that_are_killed_go_on() {
    let (shell, mut dice) = (Shell::new(), Dice::new(11));
    let (source, target) = (shell.workshop.source(), shell.workshop.room());
    let mut tree = TreeSpec::files(&[("d/small", 700), ("d/other", 90_000)]);
    tree.put("large", Node::File { seed: 1000, bytes: 14 << 20 });
    tree.put("d/also", Node::File { seed: 1001, bytes: 5 << 20 });
    tree.write(&source);
    shell.run(&mut shell.backup());
    let old = shell.workshop.copy_of(&source);
    tree.put("large", Node::File { seed: 1002, bytes: 15 << 20 });
    tree.put("d/also", Node::File { seed: 1003, bytes: 4 << 20 });
    tree.put("d/small", Node::File { seed: 1004, bytes: 700 });
    tree.write(&source);
    shell.run(&mut shell.backup());
    let there = restored(&target, &source);
    let in_place = |arguments: &[&str]| {
        let mut command = shell.restore("latest", &target);
        command.args(["-q", "--in-place"]).args(arguments);
        command
    };
    let prepare = || {
        let _ = fs::remove_dir_all(&target);
        shell.run(shell.restore("latest~1", &target).arg("-q"));
    };
    prepare();
    let begun = Instant::now();
    shell.run(&mut in_place(&[]));
    let typical_us = begun.elapsed().as_micros() as u64;
    assert_same_tree(&source, &there);
    let mut killed = 0;
    for round in 0..KILLS {
        prepare();
        for _ in 0..1 + round % 3 {
            let mut child = in_place(&[]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_micros(dice.below(typical_us)));
            let _ = child.kill();
            killed += u64::from(!child.wait().unwrap().success());
            assert_no_mixture(&there, &old, &source);
        }
        let policy = ["always", "if-changed", "if-newer", "never"][(round % 4) as usize];
        let arguments = ["--in-place", "--overwrite", policy];
        let arguments = if round % 2 == 0 { &arguments[1..] } else { &arguments[..] };
        shell.run(shell.restore("latest", &target).arg("-q").args(arguments));
        if matches!(policy, "always" | "if-changed") {
            assert_same_tree(&source, &there);
        } else {
            assert_no_mixture(&there, &old, &source);
            let unfinished = |name: &str| fs::metadata(there.join(name)).unwrap().mode() & 0o7777 == 0o1600;
            assert!(!unfinished("large") && !unfinished("d/also"));
        }
        // And once more over all of it.
        shell.run(&mut in_place(&["--overwrite", "if-changed"]));
        assert_same_tree(&source, &there);
    }
    assert!(killed >= KILLS / 3, "{killed} were killed");
}

/// Two go on at once with what a third was killed at: what is there at the end is the snapshot, and nothing else.
#[test]
fn heavy_a_restore_that_two_resume_at_once_is_whole() {
    let (shell, mut dice) = (Shell::new(), Dice::new(13));
    let (source, target) = (shell.workshop.source(), shell.workshop.room());
    let mut tree = TreeSpec::default();
    for number in 0..60 {
        tree.put(&format!("d{}/f{number}", number % 7), Node::File { seed: number, bytes: 40_000 });
    }
    tree.put("large", Node::File { seed: 1000, bytes: 6 << 20 });
    tree.write(&source);
    shell.run(&mut shell.backup());
    let there = restored(&target, &source);
    for _ in 0..KILLS / 2 {
        let _ = fs::remove_dir_all(&target);
        let quiet = || {
            let mut command = shell.restore("latest", &target);
            command.args(["-q", "--overwrite", "if-changed"]).stdout(Stdio::null()).stderr(Stdio::piped());
            command
        };
        let mut first = quiet().stderr(Stdio::null()).spawn().unwrap();
        std::thread::sleep(Duration::from_micros(dice.below(60_000)));
        let _ = first.kill();
        first.wait().unwrap();
        let both = [quiet().spawn().unwrap(), quiet().spawn().unwrap()];
        let mut is_whole = false;
        for one in both {
            // Each may meet what the other is at just then, and says so; it never gives up on the rest.
            let output = one.wait_with_output().unwrap();
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(matches!(output.status.code(), Some(0 | 1 | 3)), "{}: {said}", output.status);
            assert!(output.status.success() || said.contains("not everything"), "{said}");
            is_whole |= output.status.success();
        }
        // Whoever says that all is there is right.
        let names = (0..60).map(|number| format!("d{}/f{number}", number % 7)).chain(["large".to_owned()]);
        for name in names.filter(|_| is_whole) {
            assert!(fs::read(there.join(&name)).ok() == fs::read(source.join(&name)).ok(), "{name}");
        }
        shell.run(&mut quiet());
        assert_same_tree(&source, &there);
    }
}

#[test]
fn names_of_one_file_stay_one_as_far_as_they_are_restored() {
    let shell = Shell::new();
    let source = shell.workshop.source();
    TreeSpec::files(&[("a/alone", 900), ("a/pair", 70_000), ("b/other", 5)]).write(&source);
    for (name, other) in [("a/alone", "b/alone"), ("a/pair", "b/one"), ("a/pair", "b/two")] {
        fs::hard_link(source.join(name), source.join(other)).unwrap();
    }
    shell.run(&mut shell.backup());
    let [below, chosen] = [shell.workshop.room(), shell.workshop.room()];
    shell.run(&mut shell.restore(format!("latest:{}", source.join("b").display()), &below));
    shell.run(shell.restore("latest", &chosen).args([
        "--include",
        "one",
        "--include",
        "two",
        "--include",
        "**/b/alone",
    ]));
    for folder in [below, restored(&chosen, &source).join("b")] {
        for (name, links) in [("alone", 1), ("one", 2), ("two", 2)] {
            let found = folder.join(name);
            assert_eq!(fs::read(&found).unwrap(), fs::read(source.join("b").join(name)).unwrap());
            assert_eq!(fs::metadata(&found).unwrap().nlink(), links, "{}", found.display());
        }
    }
}

/// What this machine keeps of a repository goes with the repository, not with its place.
#[test]
fn repositories_that_change_places_are_not_taken_for_one_another() {
    let shell = Shell::new();
    let source = shell.workshop.source();
    let [first, second] = [shell.repository(), shell.workshop.room()];
    let at = |repository: &Path, arguments: &[&str]| {
        let mut command = shell.command();
        command.env("DR_REPOSITORY", repository).args(arguments);
        String::from_utf8(shell.run(&mut command).stdout).unwrap()
    };
    let path = source.to_str().unwrap();
    at(&second, &["init"]);
    for (repository, seed) in [(&first, 1), (&second, 2)] {
        let mut tree = TreeSpec::files(&[("same", 90_000)]);
        tree.put("other", Node::File { seed, bytes: 200_000 });
        tree.write(&source);
        at(repository, &["backup", "-q", path]);
    }
    let place = shell.workshop.room();
    for (from, to) in [(&first, &place), (&second, &first), (&place, &second)] {
        fs::rename(from, to).unwrap();
    }
    for repository in [&first, &second] {
        at(repository, &["backup", "-q", path]);
        at(repository, &["check", "--read-data"]);
        let target = shell.workshop.room();
        at(repository, &["restore", "latest", "--target", target.to_str().unwrap()]);
        assert_same_tree(&source, &restored(&target, &source));
    }
}
