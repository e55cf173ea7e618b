//! Files of patterns, compared with what git says of the same tree.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};

use dr_core::{Case, Patterns, Selection};
use dr_tests::steps::{Dice, Workshop, skip};

use super::Fixture;

/// Names that patterns must take apart.
const NAMES: &[&[u8]] = &[
    b"a",
    b"b",
    b"ab",
    b"abc",
    b"a.o",
    b"B",
    b"!a",
    b"#a",
    b"a ",
    b"a[b",
    b"*",
    b"\\",
    b"\xC3\xA9",
    b"\xFFx",
    b"a]",
];
/// Pieces of patterns.
const PIECES: &[&str] = &[
    "a",
    "b",
    "c",
    "ab",
    ".o",
    "*",
    "?",
    "[ab]",
    "[!a]",
    "[^b]",
    "[a-c]",
    "[[:alpha:]]",
    "[]a]",
    "\\*",
    "\\!",
    "#",
    "\\#",
    "[",
    "]",
    "\\",
    " ",
    "\u{e9}",
    "**",
    "[[:nope:]]",
    "[b-",
    "[a\\]]",
    "[--b]",
];

fn git(place: &Path, tree: &Path) -> Command {
    let mut command = Command::new("git");
    command
        .arg("--git-dir")
        .arg(place)
        .arg("--work-tree")
        .arg(tree)
        .current_dir(tree)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_SYSTEM", "/dev/null")
        .env("HOME", "/nonexistent")
        .env_remove("XDG_CONFIG_HOME")
        .stderr(Stdio::piped());
    command
}

/// The paths that git ignores, of these.
fn ignored(place: &Path, tree: &Path, paths: &BTreeSet<Vec<u8>>) -> BTreeSet<Vec<u8>> {
    let mut command = git(place, tree);
    command
        .args(["check-ignore", "--no-index", "--stdin", "-z"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let text: Vec<u8> = paths.iter().flat_map(|path| [path.as_slice(), b"\0"].concat()).collect();
    let writer = std::thread::spawn(move || input.write_all(&text));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(matches!(output.status.code(), Some(0 | 1)), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.split(|byte| *byte == 0).filter(|path| !path.is_empty()).map(<[u8]>::to_vec).collect()
}

/// A line that has not to be a pattern.
fn line(dice: &mut Dice) -> String {
    let mut line = String::new();
    if dice.below(3) == 0 {
        line.push('!');
    }
    if dice.below(4) == 0 {
        line.push('/');
    }
    for component in 0..1 + dice.below(3) {
        if component > 0 {
            line.push('/');
        }
        for _ in 0..1 + dice.below(3) {
            line.push_str(PIECES[dice.below(PIECES.len() as u64) as usize]);
        }
    }
    if dice.below(4) == 0 {
        line.push('/');
    }
    line
}

/// git compares the bytes before the first wildcard apart from the rest, and so takes the stars of `a**/b` for those of
/// `**/b`, which its manual denies.
fn is_clear(line: &str) -> bool {
    line.match_indices("**").all(|(at, _)| at == 0 || matches!(line.as_bytes()[at - 1], b'/' | b'*' | b'!'))
}

fn file_of_patterns(dice: &mut Dice) -> String {
    let lines = (0..1 + dice.below(5)).map(|_| line(dice)).filter(|line| is_clear(line));
    lines.collect::<Vec<_>>().join(if dice.below(4) == 0 { "\r\n" } else { "\n" })
}

fn a_tree(dice: &mut Dice, source: &Path) {
    fs::create_dir_all(source).unwrap();
    for _ in 0..40 {
        let mut path = source.to_path_buf();
        for _ in 0..1 + dice.below(4) {
            path.push(OsStr::from_bytes(NAMES[dice.below(NAMES.len() as u64) as usize]));
        }
        // A file may be in the way, or a directory there already.
        if fs::create_dir_all(path.parent().unwrap()).is_ok() && !path.exists() {
            fs::write(&path, "x").unwrap();
        }
    }
}

fn walk(place: &Path, from: &Path, found: &mut BTreeSet<Vec<u8>>) {
    for entry in fs::read_dir(place).unwrap().map(Result::unwrap) {
        let path = entry.path();
        found.insert(path.strip_prefix(from).unwrap().as_os_str().as_bytes().to_vec());
        if path.is_dir() {
            walk(&path, from, found);
        }
    }
}

#[test]
fn select_by_files_of_patterns_is_what_git_does() {
    if Command::new("git").arg("--version").output().is_err() {
        skip("select_by_files_of_patterns_is_what_git_does", "there is no git");
        return;
    }
    let mut dice = Dice::new(11);
    let mut left_out = 0;
    for round in 0..120 {
        let fixture = Fixture::within(Workshop::new(), &[]);
        let (source, place) = (fixture.source(), fixture.workshop.room());
        a_tree(&mut dice, &source);
        assert!(git(&place, &source).args(["init", "-q"]).output().unwrap().status.success());
        let mut folders = BTreeSet::new();
        walk(&source, &source, &mut folders);
        folders.retain(|path| source.join(OsStr::from_bytes(path)).is_dir());
        let top = file_of_patterns(&mut dice);
        fs::write(source.join(".gitignore"), &top).unwrap();
        for folder in folders.iter().filter(|_| round % 2 == 0) {
            if dice.below(3) == 0 {
                let file = source.join(OsStr::from_bytes(folder)).join(".gitignore");
                fs::write(file, file_of_patterns(&mut dice)).unwrap();
            }
        }
        let mut all = BTreeSet::new();
        walk(&source, &source, &mut all);
        let ignored = ignored(&place, &source, &all);
        left_out += ignored.len();

        let outcome = fixture.backup(Selection::new().ignore_file(".gitignore"));
        let shown = |path: &Vec<u8>| path.escape_ascii().to_string().replace("\\\\", "\\");
        let expected: BTreeSet<String> = all.difference(&ignored).map(shown).collect();
        assert_eq!(outcome.saved, expected, "round {round}: {top:?}");
        if round % 2 == 1 {
            agrees_alone(&top, &all, &ignored, &source);
        }
    }
    assert!(left_out > 200, "only {left_out} paths were left out");
}

/// The same for patterns by themselves, as far as they are to agree: those that reach into what is left out do not.
fn agrees_alone(text: &str, all: &BTreeSet<Vec<u8>>, ignored: &BTreeSet<Vec<u8>>, source: &Path) {
    let reaches = |line: &str| line.starts_with('!') && line.trim_end_matches(['/', '\r']).contains('/');
    if text.lines().any(reaches) {
        return;
    }
    let mut patterns = Patterns::new();
    for line in text.lines() {
        // What can never match is refused, and git passes over it.
        let _ = patterns.add(line.as_bytes(), Case::Sensitive);
    }
    for path in all {
        let is_folder = source.join(OsStr::from_bytes(path)).is_dir();
        let kind = if is_folder { dr_core::PathKind::Directory } else { dr_core::PathKind::Other };
        assert_eq!(
            patterns.excludes(path, kind),
            ignored.contains(path),
            "{text:?}: {}",
            path.escape_ascii()
        );
    }
}
