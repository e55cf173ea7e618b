//! Streams through the real program: archives, named streams, buckets; commands that fail, pipes that close, signals.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use dr_tests::servers::{BUCKET, KEY, Server};
use dr_tests::shell::Shell;
use dr_tests::steps::program;
use dr_tests::{Node, TreeSpec, assert_same_tree, noise};
use rustix::process::{Pid, Signal, kill_process};

fn make_source(shell: &Shell) {
    let mut tree = TreeSpec::files(&[("one", 10), ("dir/two", 200_000), ("dir/three", 0)]);
    tree.put("link", Node::Symlink(b"dir/two".to_vec()));
    tree.write(&shell.workshop.source());
}

fn json(output: &Output) -> serde_json::Value {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    serde_json::from_str(text.lines().last().unwrap()).unwrap()
}

/// Runs a pipeline of a shell, with the program as `$DR`; gives its exit codes.
fn pipeline(shell: &Shell, script: &str) -> String {
    let prepared = shell.command();
    let mut command = Command::new("bash");
    command.args(["-c", &format!("{script}; echo \"${{PIPESTATUS[*]}}\" >&2")]).env("DR", program());
    command.envs(prepared.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(shell.workshop.path());
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    said.lines().last().unwrap_or_default().to_owned()
}

#[test]
fn an_archive_from_a_pipe_a_file_or_a_command_comes_back() {
    let shell = Shell::new();
    make_source(&shell);
    // More than what tar writes must be read, or tar would be told that nobody listens.
    let codes = pipeline(
        &shell,
        "tar -C source --format=pax -cf - . | \"$DR\" backup -q --from-tar - --stdin-filename piped",
    );
    assert_eq!(codes, "0 0");
    let codes =
        pipeline(&shell, "tar -C source --format=pax -b 4000 -cf - . | \"$DR\" backup -q --from-tar -");
    assert_eq!(codes, "0 0");
    let archive = shell.workshop.path().join("base.tar");
    let made = Command::new("tar")
        .arg("-C")
        .arg(shell.workshop.source())
        .args(["--format=pax", "-cf"])
        .arg(&archive)
        .arg(".")
        .status();
    assert!(made.unwrap().success());
    shell.run(shell.command().args(["backup", "-q", "--from-tar"]).arg(&archive));
    let mut command = shell.command();
    command.args(["backup", "--json", "--from-tar-command", "--", "tar", "-C"]).arg(shell.workshop.source());
    let output = shell.run(command.args(["--format=pax", "-cf", "-", "."]));
    assert_eq!(json(&output)["complete"], true);
    let ids = shell.snapshots();
    assert_eq!(ids.len(), 4);
    for (id, name) in ids.iter().zip(["piped", "tar", "base", "tar"]) {
        let target = shell.workshop.room();
        shell.run(&mut shell.restore(id, &target));
        assert_same_tree(&shell.workshop.source(), &target.join(name));
    }
    shell.check();
}

#[test]
fn an_archive_that_is_none_is_cut_off_or_whose_command_fails_leaves_no_snapshot() {
    let shell = Shell::new();
    make_source(&shell);
    let codes = pipeline(&shell, "tar -C source -czf - . | \"$DR\" backup -q --from-tar -");
    assert_eq!(codes.split(' ').next_back(), Some("1"), "{codes}");
    let codes = pipeline(&shell, "tar -C source -cf - . | head -c 100000 | \"$DR\" backup -q --from-tar -");
    assert_eq!(codes.split(' ').next_back(), Some("1"), "{codes}");
    let zipped = shell.workshop.path().join("base.tar.gz");
    let made =
        Command::new("tar").arg("-C").arg(shell.workshop.source()).arg("-czf").arg(&zipped).arg(".").status();
    assert!(made.unwrap().success());
    let (_, said) = shell.run_to(shell.command().args(["backup", "--from-tar"]).arg(&zipped), 1);
    assert!(said.contains("gzip") && said.contains("zcat"), "{said}");
    let fails = "tar -C source -cf - .; exit 3";
    let mut command = shell.command();
    command.current_dir(shell.workshop.path());
    let (_, said) =
        shell.run_to(command.args(["backup", "-q", "--from-tar-command", "--", "sh", "-c", fails]), 1);
    assert!(said.contains("'sh' failed"), "{said}");
    shell.run_to(shell.command().args(["backup", "--from-tar", "/no/such/file"]), 1);
    shell.run_to(shell.command().args(["backup", "--from-tar-command"]), 2);
    shell.run_to(shell.command().args(["backup", "--from-tar", "-", "path"]), 2);
    assert_eq!(shell.snapshots().len(), 0);
    // What cannot be kept is told with exit code 3, and the rest is there.
    let odd = "tar -C source -P --transform='s,^one$,../out,' -cf - one dir";
    let codes = pipeline(&shell, &format!("{odd} | \"$DR\" backup -q --from-tar -"));
    assert_eq!(codes, "0 3");
    assert_eq!(shell.snapshots().len(), 1);
}

/// GNU tar writes `%` and `=` in such names in its own way.
#[test]
fn names_of_attributes_pass_through_archives_of_gnu_tar() {
    let shell = Shell { workshop: dr_tests::steps::Workshop::on_disk() };
    shell.init();
    let source = shell.workshop.source();
    TreeSpec::files(&[("file", 10)]).write(&source);
    let names = ["user.100%25 = %n", "user.a%", "user.=%3D"];
    for name in names {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(source.join("file"), name, b"value", flags).unwrap();
    }
    let tar = |mode: &str, archive: &Path, folder: &Path, members: &[&str]| {
        let mut command = Command::new("tar");
        command.args(["--xattrs", "--xattrs-include=*"]).arg(mode).arg("-f").arg(archive).arg("-C");
        assert!(command.arg(folder).args(members).status().unwrap().success());
    };
    let [base, again] = ["base.tar", "again.tar"].map(|name| shell.workshop.path().join(name));
    tar("-c", &base, &source, &["."]);
    shell.run(shell.command().args(["backup", "-q", "--from-tar"]).arg(&base));
    let [restored, untarred] = [shell.workshop.room(), shell.workshop.room()];
    shell.run(&mut shell.restore("latest", &restored));
    shell.run(shell.command().args(["dump", "latest:/base", "--archive", "tar", "--target"]).arg(&again));
    fs::create_dir(&untarred).unwrap();
    tar("-x", &again, &untarred, &[]);
    for file in [restored.join("base/file"), untarred.join("file")] {
        for name in names {
            let mut value = [0; 5];
            rustix::fs::getxattr(&file, name, &mut value).unwrap();
            assert_eq!(&value, b"value", "{}: {name}", file.display());
        }
    }
}

/// However little it wrote: that it failed is what counts.
#[test]
fn a_command_that_fails_without_a_word_leaves_no_snapshot() {
    let shell = Shell::new();
    for script in ["exit 1", "exit 7", "kill -9 $$", "printf x; exit 1"] {
        let mut command = shell.command();
        command.args(["backup", "-q", "--stdin-from-command", "--", "sh", "-c", script]);
        let (output, said) = shell.run_to(&mut command, 1);
        assert!(output.stdout.is_empty() && said.contains("'sh' failed"), "{script}: {said}");
    }
    let mut command = shell.command();
    let (_, said) =
        shell.run_to(command.args(["backup", "--stdin-from-command", "--", "/no/such/program"]), 1);
    assert!(said.contains("/no/such/program"), "{said}");
    assert_eq!(shell.snapshots().len(), 0);
    // One that succeeds without a word saved nothing, and that is what it wanted.
    shell.run(shell.command().args(["backup", "-q", "--stdin-from-command", "--", "true"]));
    assert_eq!(shell.snapshots().len(), 1);
    shell.check();
}

fn put(shell: &Shell, input: &[u8], arguments: &[&str]) -> serde_json::Value {
    let file = shell.workshop.room();
    fs::write(&file, input).unwrap();
    let mut command = shell.command();
    command.args(["put", "--json"]).args(arguments).stdin(fs::File::open(&file).unwrap());
    json(&shell.run(&mut command))
}

fn content(shell: &Shell, id: &str, name: &str) -> Vec<u8> {
    let target = shell.workshop.room();
    shell.run(&mut shell.restore(id, &target));
    fs::read(target.join(name)).unwrap()
}

#[test]
fn streams_are_put_appended_to_and_left_out_where_nothing_changed() {
    let shell = Shell::new();
    let first = put(&shell, b"begin ", &["db/wal", "--append"]);
    assert_eq!((&first["outcome"], &first["previous"]), (&"saved".into(), &serde_json::Value::Null));
    let second = put(&shell, b"end", &["--append", "db/wal"]);
    assert_eq!(second["previous"], first["snapshot_id"]);
    assert_eq!(content(&shell, "latest", "db/wal"), b"begin end");
    let same = put(&shell, b"begin end", &["--if-changed", "db/wal"]);
    assert_eq!((&same["outcome"], &same["snapshot_id"]), (&"unchanged".into(), &serde_json::Value::Null));
    for _ in 0..2 {
        let beat = put(&shell, b"begin end", &["--if-changed", "--heartbeat", "db/wal"]);
        assert_eq!(beat["outcome"], "heartbeat");
        assert_eq!(shell.snapshots().len(), 3);
        assert_eq!(content(&shell, "latest", "db/wal"), b"begin end");
    }
    let mut command = shell.command();
    let output = shell.run(command.args(["put", "out", "--", "sh", "-c", "printf from-a-command"]));
    assert!(String::from_utf8_lossy(&output.stdout).contains("saved"));
    assert_eq!(content(&shell, "latest", "out"), b"from-a-command");
    assert_eq!(shell.snapshots().len(), 4);
    shell.check();
}

#[test]
fn a_put_that_goes_wrong_leaves_what_was_there() {
    let shell = Shell::new();
    put(&shell, b"begin", &["name"]);
    let (_, said) =
        shell.run_to(shell.command().args(["put", "name", "--", "sh", "-c", "printf x; exit 3"]), 1);
    assert!(said.contains("no snapshot was made"), "{said}");
    shell.run_to(shell.command().args(["put", "name", "--", "/no/such/program"]), 1);
    shell.run_to(shell.command().args(["put", "../name"]), 2);
    shell.run_to(shell.command().args(["put"]), 2);
    shell.run_to(shell.command().args(["put", "--heartbeat", "name"]), 2);
    assert_eq!(shell.snapshots().len(), 1);
    // Whoever reads the summary may be gone.
    let mut command = shell.command();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    shell.run_to(command.args(["put", "name", "--json"]).stdout(writer), 0);
    assert_eq!(shell.snapshots().len(), 2);
}

/// Ends with the number of a signal's exit code soon, though its input says nothing and stays open.
fn interrupt_while_it_waits(shell: &Shell, arguments: &[&str], first: &[u8]) {
    let mut command = shell.command();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    // A pipe holds much less: when all is written, it is being read.
    input.write_all(first).unwrap();
    let asked = Instant::now();
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    while child.try_wait().unwrap().is_none() {
        assert!(asked.elapsed() < Duration::from_secs(30), "{arguments:?} goes on");
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(input);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{}", String::from_utf8_lossy(&ended.stderr));
}

#[test]
fn a_signal_ends_what_waits_for_its_input() {
    let shell = Shell::new();
    let bytes = noise(1, 3_000_000);
    interrupt_while_it_waits(&shell, &["put", "--append", "name"], &bytes);
    let mut header = tar_header(1 << 30);
    header.extend_from_slice(&bytes);
    interrupt_while_it_waits(&shell, &["backup", "-q", "--from-tar", "-"], &header);
    assert_eq!(shell.snapshots().len(), 0);
    shell.check();
}

/// A header of a file of so many bytes.
fn tar_header(bytes: u64) -> Vec<u8> {
    let mut block = vec![0; 512];
    block[..4].copy_from_slice(b"file");
    block[124..135].copy_from_slice(format!("{bytes:011o}").as_bytes());
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    block
}

fn object(server: &Server, key: &str, text: &str) {
    let length = text.len();
    let answer =
        server.http(&format!("PUT /{BUCKET}/{key} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{text}"));
    assert!(answer.contains(" 200 "), "{answer}");
}

#[test]
fn a_bucket_is_backed_up_with_its_own_keys_and_settings() {
    let shell = Shell::new();
    let location = format!("s3://{BUCKET}/data");
    // What is wrong is told before a server is asked.
    for wrong in [&["backup", &location, "/tmp"][..], &["backup", "-O", "s3.endpoint=x", "/tmp"]] {
        shell.run_to(shell.command().args(wrong), 2);
    }
    let Some(server) = Server::moto() else { return };
    object(&server, "data/one", "1");
    object(&server, "data/dir/two", "22");
    let backup = |names: [&str; 3]| {
        let mut command = shell.command();
        for name in ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"]
        {
            command.env_remove(name);
        }
        let values = [KEY.0.to_owned(), KEY.1.to_owned(), server.url()];
        command.args(["backup", "--json", &location]).envs(names.iter().zip(values));
        command
    };
    let own = ["DR_SOURCE_AWS_ACCESS_KEY_ID", "DR_SOURCE_AWS_SECRET_ACCESS_KEY", "DR_SOURCE_S3_ENDPOINT"];
    let summary = json(&shell.run(&mut backup(own)));
    assert_eq!((&summary["complete"], &summary["totals"]["files"]), (&true.into(), &2.into()));
    assert_eq!(content(&shell, "latest", "s3/bucket/data/dir/two"), b"22");
    let shared = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "UNUSED"];
    let endpoint = format!("s3.endpoint={}", server.url());
    let summary = json(&shell.run(backup(shared).args(["-O", &endpoint])));
    assert_eq!(summary["totals"]["bytes_read"], 0, "{summary}");
    // A key of which a half is missing is not made whole with the repository's.
    let mut half = backup(["DR_SOURCE_AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "DR_SOURCE_S3_ENDPOINT"]);
    let (_, said) = shell.run_to(half.env("AWS_ACCESS_KEY_ID", KEY.0), 1);
    assert!(said.contains("AWS_SECRET_ACCESS_KEY"), "{said}");
    // A key that is no path is told with exit code 3.
    object(&server, "data/odd//key", "x");
    shell.run_to(&mut backup(own), 3);
    assert!(Path::new(&shell.repository()).is_dir());
    shell.check();
}

/// What is one stream cannot be saved in part: whoever asks for that is told, before anything is read or run.
#[test]
fn what_selects_files_is_refused_where_there_is_one_stream_or_archive() {
    let shell = Shell::new();
    make_source(&shell);
    let archive = shell.workshop.path().join("a.tar");
    let made =
        Command::new("tar").arg("-C").arg(shell.workshop.source()).arg("-cf").arg(&archive).arg(".").status();
    assert!(made.unwrap().success());
    let list = shell.workshop.path().join("list");
    fs::write(&list, "one\n").unwrap();
    let (archive, list, ran) = (archive.to_str().unwrap(), list.to_str().unwrap(), shell.workshop.room());
    let run = format!("touch {}", ran.display());
    let sources: [(&[&str], &[&str]); 4] = [
        (&["--stdin"], &[]),
        (&["--stdin-from-command"], &["--", "sh", "-c", &run]),
        (&["--from-tar", archive], &[]),
        (&["--from-tar-command"], &["--", "sh", "-c", &run]),
    ];
    let selections: [&[&str]; 9] = [
        &["--exclude", "one"],
        &["--iexclude", "one"],
        &["--exclude-file", list],
        &["--iexclude-file", list],
        &["--no-ignore-files"],
        &["--git-ignore"],
        &["--exclude-caches"],
        &["--exclude-if-present", ".nobackup"],
        &["--exclude-larger-than", "5"],
    ];
    for (source, behind) in sources {
        for selection in selections {
            let mut command = shell.command();
            command.arg("backup").args(source).args(selection).args(behind);
            let (output, said) = shell.run_to(&mut command, 2);
            assert!(said.contains("cannot be used with"), "{source:?} {selection:?}: {said}");
            assert!(said.contains(selection[0]) && said.contains(source[0]), "{said}");
            assert!(output.stdout.is_empty());
        }
    }
    assert!(!ran.exists() && shell.snapshots().is_empty());
}

/// Several go on with one stream at once: whoever is told that it did is in it once, and whoever is refused can try again.
#[test]
fn streams_that_are_appended_to_at_once_lose_nothing() {
    const WRITERS: usize = 4;
    let shell = Shell::new();
    let pieces: Vec<Vec<u8>> = (0..WRITERS).map(|number| noise(number as u64, 200_000 + number)).collect();
    let append = |number: usize| {
        let file = shell.workshop.room();
        fs::write(&file, &pieces[number]).unwrap();
        let mut command = shell.command();
        command.args(["put", "-q", "--append", "stream"]).stdin(fs::File::open(&file).unwrap());
        // Caches of their own: each is a machine of its own.
        command.env("DR_CACHE_DIR", shell.workshop.path().join(format!("cache{number}")));
        command.env("DR_STATE_DIR", shell.workshop.path().join(format!("state{number}")));
        command.stderr(Stdio::piped());
        command
    };
    let mut left: Vec<usize> = (0..WRITERS).collect();
    let mut rounds = 0;
    while !left.is_empty() {
        let running: Vec<_> = left.iter().map(|number| (*number, append(*number).spawn().unwrap())).collect();
        let before = left.len();
        left.clear();
        for (number, child) in running {
            let output = child.wait_with_output().unwrap();
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr).into_owned();
                assert!(said.contains("another call has put the stream"), "{said}");
                assert!(said.contains("append the same bytes again"), "{said}");
                left.push(number);
            }
        }
        assert!(left.len() < before, "one of several is always first");
        rounds += 1;
    }
    assert!(rounds <= WRITERS);
    let stream = content(&shell, "latest", "stream");
    assert_eq!(stream.len(), pieces.iter().map(Vec::len).sum::<usize>());
    let mut rest = stream.as_slice();
    let mut missing = pieces.clone();
    while let Some(place) = missing.iter().position(|piece| rest.starts_with(piece)) {
        rest = &rest[missing.swap_remove(place).len()..];
    }
    assert!(missing.is_empty() && rest.is_empty());
    assert_eq!(shell.snapshots().len(), WRITERS);
    shell.check();
}
