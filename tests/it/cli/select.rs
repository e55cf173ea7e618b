//! What `dr backup` leaves out and where it takes its paths from, as scripts and people see it.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::process::{Command, Stdio};

use dr_tests::shell::Shell;
use serde_json::Value;

/// A repository, and a source with these files.
fn with_files(files: &[&str]) -> Shell {
    let shell = Shell::new();
    for file in files {
        write(&shell, file, file);
    }
    shell
}

fn write(shell: &Shell, file: &str, content: &str) {
    let path = shell.workshop.source().join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn backup(shell: &Shell, arguments: &[&str]) -> Command {
    let mut command = shell.command();
    command.current_dir(shell.workshop.path()).arg("backup").args(arguments);
    command
}

fn said(shell: &Shell, arguments: &[&str]) -> String {
    String::from_utf8(shell.run(&mut backup(shell, arguments)).stdout).unwrap()
}

fn lines(text: &[u8]) -> Vec<Value> {
    text.split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect()
}

/// What the newest snapshot holds, from the workshop on.
fn saved(shell: &Shell) -> BTreeSet<String> {
    let output = shell.run(shell.command().args(["ls", "latest", "--json"]));
    let prefix = format!("{}/", shell.workshop.path().display());
    let path =
        |line: Value| Some(line["path"].as_str()?.strip_prefix(&prefix)?.strip_prefix("source/")?.to_owned());
    lines(&output.stdout).into_iter().filter_map(path).collect()
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

#[test]
fn select_options_leave_out_what_they_say() {
    let shell = with_files(&[
        "a.txt", "a.TMP", "b.tmp", "c.log", "keep.log", "cache/x", "tagged/y", "git/z", "own/w", "large",
    ]);
    write(&shell, "patterns", "# logs\n*.log\r\n\n!keep.log\n");
    write(&shell, "cache/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55");
    write(&shell, "tagged/.nobackup", "no backup, please");
    write(&shell, "git/.gitignore", "z");
    write(&shell, "own/.drignore", "w");
    write(&shell, "large", &"x".repeat(2000));
    let arguments = [
        "source",
        "--exclude-file",
        "source/patterns",
        "--iexclude",
        "*.tmp",
        "-e",
        "!b.tmp",
        "--exclude-caches",
        "--exclude-if-present",
        ".nobackup:no backup",
        "--git-ignore",
        "--exclude-larger-than",
        "1K",
        "--exclude-nodump",
    ];
    let text = said(&shell, &arguments);
    assert!(text.contains("7 entries left out"), "{text}");
    let expected = set(&[
        "a.txt",
        "b.tmp",
        "cache",
        "cache/CACHEDIR.TAG",
        "git",
        "git/.gitignore",
        "keep.log",
        "own",
        "own/.drignore",
        "patterns",
        "tagged",
        "tagged/.nobackup",
    ]);
    assert_eq!(saved(&shell), expected);
    let output = shell.run(&mut backup(&shell, &[&arguments[..], &["--json"]].concat()));
    let summary = lines(&output.stdout).pop().unwrap();
    assert_eq!((summary["entries_excluded"].as_u64(), summary["warning_count"].as_u64()), (Some(7), Some(0)));
    assert_eq!((&summary["complete"], &summary["unchanged"]), (&Value::Bool(true), &Value::Bool(false)));
    shell.check();
}

#[test]
fn select_names_what_is_new_changed_unchanged_and_left_out() {
    let shell = with_files(&["kept", "other", "left.tmp"]);
    let arguments = ["source", "--exclude", "*.tmp"];
    let dry = said(&shell, &[&arguments[..], &["-v", "--dry-run"]].concat());
    assert!(dry.contains("new ") && dry.contains("/source/kept\n") && !dry.contains("left.tmp"), "{dry}");
    assert!(shell.snapshots().is_empty());
    // What was written just now is read again once more.
    std::thread::sleep(std::time::Duration::from_millis(50));
    said(&shell, &arguments);
    write(&shell, "kept", "something else");
    let once = said(&shell, &[&arguments[..], &["-v"]].concat());
    assert!(
        once.contains("changed ") && once.contains("/source/kept\n") && !once.contains("/source/other"),
        "{once}"
    );
    let twice = said(&shell, &[&arguments[..], &["-vv"]].concat());
    let unchanged = format!("unchanged {}/source/other\n", shell.workshop.path().display());
    let excluded =
        format!("excluded  {}/source/left.tmp (pattern '*.tmp')\n", shell.workshop.path().display());
    assert!(twice.contains(&unchanged) && twice.contains(&excluded), "{twice}");
    let output = shell.run(&mut backup(&shell, &[&arguments[..], &["-vv", "--json"]].concat()));
    let all = lines(&output.stdout);
    let of = |action: &str| all.iter().find(|line| line["action"] == action).unwrap().clone();
    assert_eq!(of("excluded")["reason"], "pattern");
    assert_eq!(of("excluded")["rule"], "*.tmp");
    assert_eq!(of("unchanged")["message_type"], "verbose_status");
    assert!(of("unchanged").get("reason").is_none());
}

#[test]
fn select_refuses_what_can_never_match_and_files_that_are_not_there() {
    let shell = with_files(&["a"]);
    write(&shell, "bad", "fine\n[x\n");
    for (arguments, part) in [
        (["--exclude", "./a"], "'.'"),
        (["--exclude", ""], "names nothing"),
        (["--exclude", "#a"], "comment"),
        (["--exclude-file", "source/bad"], "line 2"),
        (["--exclude-file", "source/gone"], "source/gone"),
        (["--exclude-if-present", "a/b"], "a/b"),
        (["--exclude-larger-than", "much"], "much"),
        (["--files-from", "source/gone"], "source/gone"),
    ] {
        let (_, said) = shell.run_to(backup(&shell, &["source"]).args(arguments), 2);
        assert!(said.contains(part), "{arguments:?}: {said}");
    }
    assert!(shell.snapshots().is_empty());
}

#[test]
fn select_warns_of_a_bad_ignore_file_and_succeeds() {
    let shell = with_files(&["a"]);
    write(&shell, ".drignore", "[x\na\n");
    let (output, said) = shell.run_to(&mut backup(&shell, &["source"]), 0);
    assert!(said.starts_with("warning: ") && said.contains(".drignore: line 1"), "{said}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("1 entry left out"));
    let (_, said) = shell.run_to(&mut backup(&shell, &["source", "--json"]), 0);
    let warning: Value = serde_json::from_str(said.trim()).unwrap();
    assert_eq!(warning["message_type"], "warning");
    assert!(warning["item"].as_str().unwrap().ends_with("source/.drignore"));
}

#[test]
fn select_reads_files_of_patterns_unless_told_otherwise() {
    let shell = with_files(&["a", "b", "sub/a", "sub/c"]);
    write(&shell, ".drignore", "/a\n");
    write(&shell, "sub/.drignore", "c\n");
    let all = set(&[".drignore", "a", "b", "sub", "sub/.drignore", "sub/a", "sub/c"]);
    said(&shell, &["source"]);
    assert_eq!(saved(&shell), set(&[".drignore", "b", "sub", "sub/.drignore", "sub/a"]));
    said(&shell, &["source", "--no-ignore-files"]);
    assert_eq!(saved(&shell), all);
    shell.run(backup(&shell, &["source"]).env("DR_BACKUP_NO_IGNORE_FILES", "1"));
    assert_eq!(saved(&shell), all);
    let (_, why) = shell.run_to(&mut backup(&shell, &["source", "--ignore-files"]), 2);
    assert!(why.contains("hint: leave it away"), "{why}");
}

#[test]
fn select_warns_of_exceptions_below_what_is_excluded() {
    let shell = with_files(&["cache/keep.txt", "cache/other", "keep.txt", "sub/cache/keep.txt"]);
    fs::write(shell.workshop.path().join("patterns"), "cache\n!**/keep.txt\n").unwrap();
    let cases: [&[&str]; 2] =
        [&["--exclude", "cache", "--exclude", "!keep.txt"], &["--exclude-file", "patterns"]];
    let advice = "or '**/cache/*' in place of 'cache'";
    for patterns in cases {
        let (_, warned) = shell.run_to(&mut backup(&shell, &[&["source"], patterns].concat()), 0);
        assert!(warned.starts_with("warning: the pattern '!") && warned.contains(advice), "{warned}");
        assert_eq!(warned.lines().count(), 1, "{warned}");
        assert_eq!(saved(&shell), set(&["keep.txt", "sub"]));
        let mut rewrite = shell.command();
        rewrite.current_dir(shell.workshop.path()).args(["rewrite", "latest", "-n"]).args(patterns);
        assert!(shell.run_to(&mut rewrite, 0).1.contains(advice));
        let mut restore = shell.restore("latest", &shell.workshop.room());
        restore.current_dir(shell.workshop.path()).args(patterns);
        assert!(shell.run_to(&mut restore, 0).1.contains(advice));
    }
    let advised = ["source", "--exclude", "**/cache/*", "--exclude", "!keep.txt"];
    assert_eq!(shell.run_to(&mut backup(&shell, &advised), 0).1, "");
    let kept = ["cache", "cache/keep.txt", "keep.txt", "sub", "sub/cache", "sub/cache/keep.txt"];
    assert_eq!(saved(&shell), set(&kept));
    // In a file of patterns, no exception reaches.
    write(&shell, ".drignore", "/cache\n!/cache/keep.txt\n");
    let (_, warned) = shell.run_to(&mut backup(&shell, &["source", "--json"]), 0);
    let warning: Value = serde_json::from_str(warned.trim()).unwrap();
    assert!(warning["item"].as_str().unwrap().ends_with("source/.drignore"), "{warning}");
    assert!(warning["message"].as_str().unwrap().contains("'/cache/*' in place of '/cache'"), "{warning}");
    write(&shell, ".drignore", "/cache/*\n!/cache/keep.txt\n");
    assert_eq!(shell.run_to(&mut backup(&shell, &["source"]), 0).1, "");
    assert!(saved(&shell).contains("cache/keep.txt") && !saved(&shell).contains("cache/other"));
}

#[test]
fn select_warns_of_patterns_that_begin_at_the_root_and_had_no_effect() {
    let shell = with_files(&["src/a", "src/b", "b"]);
    let expected = "warning: the pattern 'src/a' had no effect: it begins at '/'; write '**/src/a' to match at any depth, \
                    or '/src/a' where '/' is meant\n";
    let told = |arguments: &[&str]| shell.run_to(&mut backup(&shell, arguments), 0).1;
    assert_eq!(told(&["source", "--exclude", "src/a"]), expected);
    assert_eq!(told(&["source", "--iexclude", "src/a", "--dry-run"]), expected);
    assert!(saved(&shell).contains("src/a"));
    let warning: Value =
        serde_json::from_str(told(&["source", "--exclude", "src/a", "--json"]).trim()).unwrap();
    assert!(warning["message"].as_str().unwrap().contains("**/src/a"), "{warning}");
    let mut rewrite = shell.command();
    assert_eq!(shell.run_to(rewrite.args(["rewrite", "latest", "-n", "--exclude", "src/a"]), 0).1, expected);
    let mut restore = shell.restore("latest", &shell.workshop.room());
    assert_eq!(shell.run_to(restore.args(["--exclude", "src/a"]), 0).1, expected);
    let mut restore = shell.restore("latest", &shell.workshop.room());
    let told_last = shell.run_to(restore.args(["--include", "src/a", "--dry-run"]), 0).1;
    assert!(told_last.starts_with(expected), "{told_last}");
    // What says where it begins, what had an effect, and what came from a file.
    let own = shell.workshop.source();
    let whole = own.join("src/a").display().to_string();
    let whole = whole.trim_start_matches('/');
    fs::write(shell.workshop.path().join("patterns"), "src/a\n").unwrap();
    for silent in [
        ["--exclude", "/src/a"],
        ["--exclude", "**/src/x"],
        ["--exclude", "nothing/"],
        ["--exclude", whole],
        ["--exclude-file", "patterns"],
    ] {
        assert_eq!(told(&["source", silent[0], silent[1]]), "", "{silent:?}");
    }
    assert!(!told(&["source", "-e", whole, "-e", whole]).contains("no effect"));
}

#[test]
fn select_takes_paths_from_files() {
    let shell = with_files(&["a 1", "a2", "b", "#c", "new\nline", " space ", "z*"]);
    fs::write(shell.workshop.source().join(OsStr::from_bytes(b"\xFFd")), "d").unwrap();
    let list = |name: &str, text: &[u8]| fs::write(shell.workshop.path().join(name), text).unwrap();
    list("text", b"# two of them\n\n  source/a*  \r\nsource/z*\n");
    said(&shell, &["--files-from", "text"]);
    assert_eq!(saved(&shell), set(&["a 1", "a2", "z*"]));
    list("verbatim", b"source/#c\nsource/ space \n\nsource/z*\n");
    said(&shell, &["--files-from-verbatim", "verbatim", "source/b"]);
    assert_eq!(saved(&shell), set(&["#c", " space ", "z*", "b"]));
    list("raw", b"source/new\nline\0source/\xFFd\0");
    said(&shell, &["--files-from-raw", "raw"]);
    assert!(saved(&shell).contains("new\nline"));
    assert_eq!(saved(&shell).len(), 2);

    // What is not there is a problem, as if it were named.
    list("gone", b"source/b\nsource/gone*\n");
    let (_, warned) = shell.run_to(&mut backup(&shell, &["--files-from", "gone"]), 3);
    assert!(warned.contains("gone*"), "{warned}");
    // An empty list is no backup of everything, and a list of the wrong form no backup of something else.
    list("empty", b"# nothing\n");
    shell.run_to(&mut backup(&shell, &["--files-from", "empty"]), 2);
    let (_, said) = shell.run_to(&mut backup(&shell, &["--files-from", "raw"]), 2);
    assert!(said.contains("--files-from-raw"), "{said}");
    list("twice", b"source/b\0\0");
    shell.run_to(&mut backup(&shell, &["--files-from-raw", "twice"]), 2);
}

#[test]
fn select_takes_paths_from_standard_input() {
    let shell = with_files(&["a", "b", "c.tmp"]);
    let mut command = backup(&shell, &["--files-from", "-", "--exclude", "*.tmp"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"source/a\nsource/c.tmp\n").unwrap();
    assert!(child.wait().unwrap().success());
    // What is named is saved, whatever a pattern says of it.
    assert_eq!(saved(&shell), set(&["a", "c.tmp"]));
    shell.run_to(&mut backup(&shell, &["--files-from", "-", "--files-from-raw", "-"]), 2);
    shell.run_to(&mut backup(&shell, &["--files-from", "-", "--stdin"]), 2);
}

#[test]
fn select_saves_no_second_snapshot_of_the_same_where_that_is_wished() {
    let shell = with_files(&["a"]);
    // What was written just now is read again once more, and said to be the same.
    std::thread::sleep(std::time::Duration::from_millis(50));
    said(&shell, &["source", "--skip-if-unchanged"]);
    let ids = shell.snapshots();
    assert_eq!(ids.len(), 1);
    let text = said(&shell, &["source", "--skip-if-unchanged"]);
    assert!(text.contains(&format!("nothing differs from snapshot {}", &ids[0][..8])), "{text}");
    let output = shell.run(&mut backup(&shell, &["source", "--skip-if-unchanged", "--json"]));
    let summary = lines(&output.stdout).pop().unwrap();
    assert_eq!((&summary["unchanged"], &summary["snapshot_id"]), (&Value::Bool(true), &Value::Null));
    assert_eq!(summary["parent"].as_str(), Some(ids[0].as_str()));
    assert_eq!(shell.snapshots(), ids);
    write(&shell, "a", "longer than it was");
    said(&shell, &["source", "--skip-if-unchanged"]);
    assert_eq!(shell.snapshots().len(), 2);
    shell.run_to(&mut backup(&shell, &["source", "--skip-if-unchanged", "--force"]), 2);
}

#[test]
fn select_explains_paths_and_patterns() {
    let shell = Shell::default();
    let help = said(&shell, &["--help"]);
    for part in [
        "A relative one starts at the working directory",
        "'a/../b' is 'b'",
        "!name",
        "and neither '!keep' nor '!**/keep'",
        ".drignore",
        "--no-ignore-files",
        "--exclude-if-present",
        "--files-from-raw",
    ] {
        assert!(help.contains(part), "{part}: {help}");
    }
}

#[test]
fn patterns_count_in_the_same_order_wherever_they_are_given() {
    let files = ["a.txt", "B.TXT", "k/a.txt", "k/keep.txt"];
    let cases: [&[&str]; 3] = [
        &["--exclude-file", "patterns", "--exclude", "*.txt"],
        &["--iexclude", "*.txt", "--exclude", "!a.txt"],
        &["--iexclude", "*.txt", "--iexclude-file", "patterns"],
    ];
    for arguments in cases {
        let left = |shell: &Shell, target: &std::path::Path| -> BTreeSet<&str> {
            let root = dr_tests::steps::restored(target, &shell.workshop.source());
            files.into_iter().filter(|file| root.join(file).exists()).collect()
        };
        let restored = |shell: &Shell, arguments: &[&str]| {
            let target = shell.workshop.room();
            let mut command = shell.restore("latest", &target);
            shell.run(command.current_dir(shell.workshop.path()).args(arguments));
            left(shell, &target)
        };
        let shell = with_files(&files);
        fs::write(shell.workshop.path().join("patterns"), "!a.txt\n").unwrap();
        shell.run(&mut backup(&shell, &["source"]));
        let by_restore = restored(&shell, arguments);
        let mut rewrite = shell.command();
        shell.run(rewrite.current_dir(shell.workshop.path()).args(["rewrite", "latest"]).args(arguments));
        let by_rewrite = restored(&shell, &[]);
        shell.run(&mut backup(&shell, &[&["source"], arguments].concat()));
        let by_backup = restored(&shell, &[]);
        assert_eq!((&by_backup, &by_backup), (&by_restore, &by_rewrite), "{arguments:?}");
        assert!(by_backup.len() < files.len(), "{arguments:?}");
    }
}

#[test]
fn what_a_profile_leaves_out_of_files_is_no_matter_to_a_stream() {
    let shell = with_files(&["file"]);
    shell.configure("[profiles.default.backup]\nexclude = [\"*.tmp\"]\n");
    let command = ["--stdin-from-command", "--", "echo", "bytes"];
    assert!(said(&shell, &command).contains("snapshot"));
    let (_, why) = shell.run_to(&mut backup(&shell, &["--exclude", "*.o", "--stdin"]), 2);
    assert!(why.contains("cannot be used with"), "{why}");
}
