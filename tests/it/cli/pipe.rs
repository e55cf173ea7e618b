//! Readers that go away, and names that try to look like something else.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStringExt;
use std::process::Stdio;

use dr_tests::shell::Shell;
use dr_tests::{Node, TreeSpec};

#[test]
fn a_listing_whose_reader_goes_away_ends_quietly() {
    let shell = Shell::new();
    let mut tree = TreeSpec::default();
    for number in 0..3000 {
        tree.put(&format!("{}/{number}", "long".repeat(50)), Node::File { seed: 1, bytes: 10 });
    }
    tree.write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    for format in [&["ls", "latest"][..], &["ls", "-l", "latest"], &["ls", "latest", "--json"]] {
        let mut command = shell.command();
        let mut child = command.args(format).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        let read = BufReader::new(child.stdout.take().unwrap()).read_line(&mut line);
        assert!(read.unwrap() > 0);
        let ended = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{format:?}");
        assert_eq!(ended.status.code(), Some(0), "{format:?}");
    }
}

#[test]
fn a_backup_whose_reader_has_gone_is_a_backup() {
    let shell = Shell::new();
    TreeSpec::files(&[("file", 900)]).write(&shell.workshop.source());
    for _ in 0..2 {
        let mut command = shell.command();
        command.arg("backup").arg("-v").arg(shell.workshop.source());
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        // The exit code is the backup's; who does not read its summary has lost nothing.
        shell.run_to(command.stdout(writer), 0);
    }
    assert_eq!(shell.snapshots().len(), 2);
}

#[test]
fn names_cannot_forge_lines_or_reorder_them() {
    let shell = Shell::new();
    let source = shell.workshop.source();
    fs::create_dir(&source).unwrap();
    let forged = "a\n-rw-r--r-- root root 7 2024-01-01 00:00:00 /etc/shadow";
    let names = ["esc\x1b[2J", "back\x08\x08", "line\u{2028}", "\u{202e}fdp.exe", "csi\u{9b}31m"];
    for name in names {
        fs::write(source.join(name), "x").unwrap();
    }
    fs::write(source.join(forged.replace('/', "\u{2215}")), "x").unwrap();
    fs::write(source.join(OsString::from_vec(b"byte\xff".to_vec())), "x").unwrap();
    shell.run(&mut shell.backup());
    let long = shell.run(shell.command().args(["ls", "-l", "latest"])).stdout;
    let long = String::from_utf8(long).unwrap();
    let is_plain = |letter: char| letter == '\n' || letter == '\u{2215}' || (' '..='~').contains(&letter);
    assert!(long.chars().all(is_plain), "{long:?}");
    let entries = fs::read_dir(&source).unwrap().count();
    assert_eq!(long.lines().filter(|line| line.contains("/source/")).count(), entries, "{long}");
    for shown in
        ["esc\\x1b[2J", "line\\xe2\\x80\\xa8", "\\xe2\\x80\\xaefdp.exe", "csi\\xc2\\x9b31m", "byte\\xff"]
    {
        assert!(long.contains(shown), "{shown}: {long}");
    }
    // The lines about single files while a backup runs are for people as well.
    let again = shell.run(shell.command().args(["backup", "--force", "-v"]).arg(&source)).stdout;
    let again = String::from_utf8(again).unwrap();
    assert!(again.chars().all(is_plain) && again.contains("csi\\xc2\\x9b31m"), "{again:?}");
    // Programs get the names as they are.
    let json = shell.run(shell.command().args(["ls", "latest", "--json"])).stdout;
    let found: Vec<String> = String::from_utf8(json)
        .unwrap()
        .lines()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["name"].as_str().map(str::to_owned)
        })
        .collect();
    assert!(names.iter().all(|name| found.iter().any(|found| found == name)), "{found:?}");
    let short = shell.run(shell.command().args(["ls", "latest"])).stdout;
    assert!(short.windows(8).any(|bytes| bytes == b"esc\x1b[2J\n"));
}
