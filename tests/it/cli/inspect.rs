//! Looking at snapshots with the program: readers that go away, exit codes, JSON, damage.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::Stdio;

use dr_tests::shell::Shell;
use dr_tests::{Node, TreeSpec, noise};
use serde_json::Value;

fn shell_with(tree: &TreeSpec) -> Shell {
    let shell = Shell::new();
    tree.write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    shell
}

fn lines(output: &[u8]) -> Vec<Value> {
    String::from_utf8(output.to_vec())
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn readers_that_go_away_are_no_failure() {
    let mut tree = TreeSpec::files(&[("large", 20 << 20)]);
    for number in 0..3000 {
        tree.put(&format!("{}/{number}", "long".repeat(50)), Node::File { seed: 1, bytes: 10 });
    }
    let shell = shell_with(&tree);
    shell.run(shell.command().args(["backup", "-q", "--host", "x"]).arg(shell.workshop.path().join("key")));
    let file = format!("latest~1:{}/large", shell.workshop.source().display());
    for arguments in [
        &["dump", "latest~1", "--archive", "tar"][..],
        &["dump", "latest~1", "--archive", "zip"],
        &["dump", &file],
        &["cat", &file],
        &["find", "*"],
        &["find", "--json"],
        &["diff", "latest~1", "latest"],
        &["ls", "latest~1", "--ncdu"],
        &["ls", "latest~1", "--sort", "size"],
    ] {
        let mut command = shell.command();
        let mut child =
            command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut some = [0; 100];
        let read = child.stdout.take().unwrap().read(&mut some);
        assert!(read.unwrap() > 0, "{arguments:?}");
        let ended = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stderr), "", "{arguments:?}");
        assert_eq!(ended.status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn files_come_out_as_they_are_and_archives_to_a_place() {
    let shell = shell_with(&TreeSpec::files(&[("file", 3 << 20), ("d/x", 10)]));
    let source = shell.workshop.source();
    let selector = |path: &str| format!("latest:{}", source.join(path).display());
    for command in ["cat", "dump"] {
        let output = shell.run(shell.command().args([command, &selector("file")]));
        assert!(output.stdout == fs::read(source.join("file")).unwrap(), "{command}");
    }
    let target = shell.workshop.path().join("out.tar");
    let mut dump = shell.command();
    dump.args(["dump", &selector(""), "--archive", "tar", "--json", "--target"]).arg(&target);
    let summary = &lines(&shell.run(&mut dump).stdout)[0];
    assert_eq!((summary["message_type"].as_str(), summary["files"].as_u64()), (Some("summary"), Some(2)));
    assert!(fs::metadata(&target).unwrap().len() > 3 << 20);
    // To standard output goes nothing but the archive, whatever else is asked for.
    for more in [&["--json"][..], &["-v"], &[]] {
        let output = shell.run(shell.command().args(["dump", &selector(""), "--archive", "tar"]).args(more));
        assert!(output.stdout == fs::read(&target).unwrap(), "{more:?}");
    }
    for (arguments, code) in [
        (&["dump", &selector("d")][..], 2),
        (&["cat", &selector("nothing")], 1),
        (&["cat", "latest"], 2),
        (&["cat", "pack", "12"], 2),
        (&["cat", "log", "99"], 1),
        (&["cat", "nothing", "12"], 2),
        (&["find", "a//b"], 2),
        (&["find", "--size", "big"], 2),
        (&["diff", "latest"], 2),
        (&["versions", "/nothing"], 1),
        (&["stats", "1234"], 1),
    ] {
        shell.run_to(shell.command().args(arguments), code);
    }
}

#[test]
fn an_archive_that_breaks_off_leaves_no_file_behind() {
    let shell = shell_with(&TreeSpec::files(&[("a", 10), ("big", 9 << 20)]));
    let packs: Vec<PathBuf> = walk(&shell.repository().join("data"));
    let largest = packs.iter().max_by_key(|path| fs::metadata(path).unwrap().len()).unwrap();
    let mut bytes = fs::read(largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::remove_file(largest).unwrap();
    fs::write(largest, bytes).unwrap();
    let target = shell.workshop.path().join("out.tar");
    fs::write(&target, "an older one").unwrap();
    let mut dump = shell.command();
    let (_, said) = shell.run_to(dump.args(["dump", "latest", "-a", "tar", "-t"]).arg(&target), 1);
    assert!(said.contains("source/big") && said.contains("dr restore"), "{said}");
    assert_eq!(fs::read(&target).unwrap(), b"an older one");
    let left = fs::read_dir(shell.workshop.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(!left.into_iter().any(|name| name.to_string_lossy().ends_with(".part")));
    let file = format!("latest:{}/big", shell.workshop.source().display());
    let (output, said) = shell.run_to(shell.command().args(["cat", &file]), 1);
    assert!(said.contains("source/big") && output.stdout.len() < 9 << 20, "{said}");
    let original = fs::read(shell.workshop.source().join("big")).unwrap();
    assert!(original.starts_with(&output.stdout), "never a wrong byte");
}

#[test]
fn snapshots_are_listed_by_name_with_their_sizes() {
    let shell = shell_with(&TreeSpec::files(&[("file", 3 << 20), ("d/x", 10)]));
    let source = shell.workshop.source();
    for number in 0..2 {
        fs::write(source.join("file"), noise(number, 1000)).unwrap();
        shell.run(shell.backup().args(["--host", &format!("host{number}")]));
    }
    let all = shell.snapshots();
    let said = |arguments: &[&str]| {
        String::from_utf8(shell.run(shell.command().arg("snapshots").args(arguments)).stdout).unwrap()
    };
    let table = said(&[]);
    assert!(table.lines().next().unwrap().contains("  Size "), "{table}");
    assert!(table.contains("  3.0 MiB  ") && table.contains("  1010 B "), "{table}");
    // Each once, and in the order they were made.
    let listed =
        lines(&shell.run(shell.command().args(["list", "latest", &all[0], "latest~2", "--json"])).stdout);
    let ids: Vec<&str> = listed[0].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [all[0].as_str(), &all[2]]);
    let table = said(&[&all[1][..10]]);
    assert!(table.contains(&all[1][..8]) && table.ends_with("1 snapshot\n"), "{table}");
    assert!(said(&["latest", "--host", "host0"]).contains(&all[1][..8]));
    for (wrong, code, part) in [
        (&["ffffffff"][..], 1, "'dr snapshots'"),
        (&["latest:/etc"], 2, "without a colon"),
        (&["latest", "--forgotten"], 2, "cannot be used with"),
        (&["packs"], 2, "'dr stats'"),
        (&["locks"], 2, "nothing is ever locked"),
    ] {
        let (_, said) = shell.run_to(shell.command().arg("list").args(wrong), code);
        assert!(said.contains(part), "{wrong:?}: {said}");
    }
}

#[test]
fn what_people_know_from_elsewhere_is_answered() {
    let shell = shell_with(&TreeSpec::files(&[("d/x", 10)]));
    for (arguments, part) in [
        (&["stats", "--mode", "raw-data"][..], "hint: 'dr stats' counts"),
        (&["ls", "latest", "--reverse"], "'tac'"),
        (&["find", "x", "--sort", "size"], "only 'dr ls' sorts"),
        (&["recreate"], "'dr rewrite'"),
        (&["import-tar"], "--from-tar"),
        (&["transfer"], "'dr copy'"),
        (&["undelete"], "'dr unforget'"),
        (&["dump", "latest"], "--archive tar"),
        (&["dump", "latest:/"], "--archive tar"),
    ] {
        let (output, said) = shell.run_to(shell.command().args(arguments), 2);
        assert!(said.contains("hint: ") && said.contains(part), "{arguments:?}: {said}");
        assert!(output.stdout.is_empty());
    }
}

fn walk(folder: &std::path::Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path())
            } else {
                files.push(entry.path())
            }
        }
    }
    files
}

#[test]
fn objects_are_named_where_none_is() {
    let shell = shell_with(&TreeSpec::files(&[("file", 3000)]));
    for kind in ["log", "pack", "index"] {
        let names = String::from_utf8(shell.run(shell.command().args(["cat", kind])).stdout).unwrap();
        let names: Vec<&str> = names.lines().collect();
        assert!(!names.is_empty(), "{kind}");
        for name in &names {
            shell.run(shell.command().args(["cat", kind, name]));
        }
        let json = &lines(&shell.run(shell.command().args(["cat", kind, "--json"])).stdout)[0];
        assert_eq!((&json["message_type"], &json["kind"]), (&"object_names".into(), &kind.into()));
        assert_eq!(json["names"], Value::from(names));
    }
    shell.run_to(shell.command().args(["cat", "tree"]), 2);
    shell.run_to(shell.command().args(["cat", "snapshot"]), 2);
}

#[test]
fn everything_speaks_json() {
    let mut tree = TreeSpec::files(&[("file", 3000), ("d/x", 10)]);
    tree.0.insert(b"n\xff".to_vec(), Node::File { seed: 1, bytes: 9 });
    let shell = shell_with(&tree);
    let source = shell.workshop.source();
    fs::write(source.join("file"), noise(77, 3000)).unwrap();
    fs::hard_link(source.join("file"), source.join("d/link")).unwrap();
    shell.run(&mut shell.backup());
    let json = |arguments: &[&str]| {
        let mut command = shell.command();
        lines(&shell.run(command.args(arguments).arg("--json")).stdout)
    };
    let diff = json(&["diff", "latest~1", "latest"]);
    let signs: Vec<&str> = diff.iter().filter_map(|line| line["modifier"].as_str()).collect();
    assert_eq!(signs, ["+", "M"], "{diff:?}");
    assert_eq!(diff.last().unwrap()["message_type"], "summary");
    let found = json(&["find", "n*", "-s", "latest"]);
    assert!(found[0]["node"]["path_b64"].is_string() && found[0]["snapshot_id"].is_string(), "{found:?}");
    assert_eq!(found.last().unwrap()["found"], found.len() as u64 - 1);
    let versions = &json(&["versions", source.join("file").to_str().unwrap()])[0];
    assert_eq!(versions["versions"].as_array().unwrap().len(), 2);
    let usage = &json(&["stats", "--each"])[0];
    assert_eq!(usage["snapshots"].as_array().unwrap().len(), 2);
    assert!(usage["together"]["stored_bytes"].as_u64() > Some(0));
    assert_eq!(json(&["stats"])[0]["snapshots"], 2);
    let snapshots = &json(&["snapshots", "--latest", "1", "--group-by", "host,path"])[0];
    assert_eq!(snapshots.as_array().unwrap().len(), 1);
    for object in [&["config"][..], &["keys"], &["snapshot", "latest"], &["log", "0"]] {
        let shown = &json(&[&["cat"], object].concat())[0];
        assert_eq!(shown["kind"], object[0]);
        assert!(!shown["content"].is_null(), "{object:?}");
    }
    let ncdu = shell.run(shell.command().args(["ls", "latest", source.to_str().unwrap(), "--ncdu"])).stdout;
    let ncdu: Value = serde_json::from_slice(&ncdu).unwrap();
    assert_eq!(
        (ncdu[0].as_u64(), ncdu[1].as_u64(), ncdu[2]["progname"].as_str()),
        (Some(1), Some(2), Some("dr"))
    );
    let root = ncdu[3].as_array().unwrap();
    assert_eq!(root[0]["name"], source.to_str().unwrap());
    assert_eq!(root[1][0]["name"], "d", "{ncdu}");
    assert_eq!((root[1][1]["name"].as_str(), root[1][1]["hlnkc"].as_bool()), (Some("link"), Some(true)));
    assert_eq!((root[2]["name"].as_str(), root[2]["asize"].as_u64()), (Some("file"), Some(3000)));
    assert_eq!(root.len(), 4);
}

#[test]
fn listings_are_sorted_and_cut_off() {
    let shell = shell_with(&TreeSpec::files(&[("a/x", 10), ("b", 5000), ("c", 100)]));
    let source = shell.workshop.source();
    let list = |arguments: &[&str]| -> Vec<String> {
        let mut command = shell.command();
        let output = shell.run(command.arg("ls").arg(format!("latest:{}", source.display())).args(arguments));
        let lines = BufReader::new(output.stdout.as_slice()).lines();
        let name = |line: std::io::Result<String>| {
            line.unwrap().rsplit_once("source").map_or_else(String::new, |(_, rest)| rest.to_owned())
        };
        lines.map(name).collect()
    };
    assert_eq!(list(&["--no-recursive"]), ["/a", "/b", "/c"]);
    assert_eq!(list(&[]), ["", "/a", "/a/x", "/b", "/c"]);
    assert_eq!(list(&["--sort", "size"])[..3], ["/b", "/c", "/a/x"]);
}
