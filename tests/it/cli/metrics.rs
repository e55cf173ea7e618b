//! Who else is told of a run: a file of metrics, a log, and a monitor.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::thread::JoinHandle;

use dr_tests::TreeSpec;
use dr_tests::shell::Shell;
use serde_json::Value;

/// The value of a metric that stands there once.
fn metric(file: &Path, name: &str) -> Option<f64> {
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut found = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
    let value = found.next().map(|line| line.rsplit(' ').next().unwrap().parse().unwrap());
    assert_eq!(found.next(), None);
    value
}

#[test]
fn metrics_say_how_the_last_run_ended_and_when_the_last_success_was() {
    let shell = Shell::new();
    let file = shell.workshop.path().join("dr.prom");
    TreeSpec::files(&[("a", 10), ("b", 20)]).write(&shell.workshop.source());
    let run = |arguments: &[&str], code| {
        let mut command = shell.command();
        command.arg("backup").arg(shell.workshop.source()).arg("--metrics-file").arg(&file).args(arguments);
        shell.run_to(command.env_remove("HOME"), code).1
    };
    run(&["--dry-run"], 0);
    assert!(!file.exists());
    run(&[], 0);
    let success = metric(&file, "dr_backup_last_success_timestamp_seconds").unwrap();
    assert!(success > 1.7e9);
    assert_eq!(metric(&file, "dr_backup_last_files"), Some(2.0));
    assert_eq!(metric(&file, "dr_backup_last_bytes"), Some(30.0));
    assert_eq!(metric(&file, "dr_backup_last_failed"), Some(0.0));
    assert!(metric(&file, "dr_backup_last_duration_seconds").unwrap() > 0.0);
    run(&["--key-file", "/no/such/key"], 1);
    assert_eq!(metric(&file, "dr_backup_last_success_timestamp_seconds"), Some(success));
    assert_eq!(metric(&file, "dr_backup_last_failed"), Some(1.0));
    assert_eq!(metric(&file, "dr_backup_last_exit_code"), Some(1.0));
    assert_eq!(metric(&file, "dr_backup_last_files"), None);
    // A backup that lacks something is no success, and its numbers are there.
    run(&["/no/such/place"], 3);
    assert_eq!(metric(&file, "dr_backup_last_exit_code"), Some(3.0));
    assert_eq!(metric(&file, "dr_backup_last_problem_count"), Some(1.0));
    assert_eq!(metric(&file, "dr_backup_last_success_timestamp_seconds"), Some(success));
    shell.run(shell.command().arg("check").arg("--metrics-file").arg(&file));
    assert_eq!(metric(&file, "dr_check_last_error_count"), Some(0.0));
    assert_eq!(metric(&file, "dr_backup_last_exit_code"), Some(3.0));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o400, 0o400);
    for line in fs::read_to_string(&file).unwrap().lines() {
        let is_comment = line.starts_with("# HELP dr_") || line.starts_with("# TYPE dr_");
        assert!(is_comment || (line.starts_with("dr_") && line.contains("repository=\"/")), "{line}");
    }
}

#[test]
fn what_cannot_be_told_is_a_warning() {
    let shell = Shell::new();
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    for (option, value) in [
        ("--metrics-file", "/no/such/folder/dr.prom"),
        ("--log-file", "/no/such/folder/log"),
        ("--ping", "ftp://host/secret"),
        // Nobody listens there.
        ("--ping", "http://127.0.0.1:1/secret"),
    ] {
        let (_, said) = shell.run_to(shell.backup().args([option, value]), 0);
        assert!(said.starts_with("warning: ") && !said.contains("secret"), "{said}");
    }
    assert_eq!(shell.snapshots().len(), 4);
}

#[test]
fn the_log_has_the_start_every_problem_and_the_end() {
    let shell = Shell::new();
    let log = shell.workshop.path().join("log");
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    shell.run_to(shell.backup().arg("/no/such\nplace").arg("--log-file").arg(&log), 3);
    shell.run_to(shell.command().args(["ls", "ffffffff", "--json"]).arg("--log-file").arg(&log), 1);
    let text = fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let expected =
        [" start   dr backup on /", " problem /no/such\\nplace: not there", " end     exit code 3 after "];
    for (line, part) in lines.iter().zip(expected) {
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && time.len() == 20 && rest.contains(part), "{line}");
    }
    assert!(lines[2].contains(&format!(", snapshot {}", shell.snapshots()[0])), "{text}");
    assert!(
        lines[3].contains(" start   dr ls on /") && lines[4].contains(" end     exit code 1 after "),
        "{text}"
    );
    assert_eq!((lines.len(), fs::metadata(&log).unwrap().permissions().mode() & 0o777), (5, 0o600));
}

/// Answers so many requests with a status, and gives their first lines and bodies.
fn monitor(requests: usize, status: &'static str) -> (String, JoinHandle<Vec<(String, Value)>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/uuid", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let mut seen = Vec::new();
        for _ in 0..requests {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut first, mut length) = (String::new(), 0);
            reader.read_line(&mut first).unwrap();
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if let Some(number) = line.to_lowercase().strip_prefix("content-length:") {
                    length = number.trim().parse().unwrap();
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
            seen.push((first.trim().to_owned(), serde_json::from_slice(&body).unwrap()));
        }
        seen
    });
    (url, server)
}

#[test]
fn a_monitor_is_told_of_the_start_and_of_the_end() {
    let shell = Shell::new();
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    let (url, server) = monitor(4, "200 OK");
    let proxies = ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"];
    let run = |arguments: &[&str], code| {
        let mut command = shell.backup();
        proxies.iter().for_each(|name| {
            command.env_remove(name);
        });
        assert!(
            shell.run_to(command.args(["--ping", &url]).args(arguments), code).1.find("monitor").is_none()
        );
    };
    run(&["--dry-run"], 0);
    run(&[], 0);
    run(&["--parent", "ffffffff"], 1);
    let seen = server.join().unwrap();
    let lines: Vec<&str> = seen.iter().map(|(line, _)| line.as_str()).collect();
    let path = |end: &str| format!("POST /uuid{end} HTTP/1.1");
    assert_eq!(lines, [path("/start"), path(""), path("/start"), path("/fail")]);
    let (success, fail) = (&seen[1].1, &seen[3].1);
    assert_eq!((&success["moment"], &success["exit_code"]), (&"success".into(), &0.into()));
    assert_eq!(success["summary"]["snapshot_id"], shell.snapshots()[0].as_str());
    assert_eq!((&fail["error_code"], &fail["exit_code"]), (&"not_found".into(), &1.into()));
    assert!(fail["summary"].is_null() && fail["error"].is_string());
}

#[test]
fn a_monitor_that_refuses_fails_nothing() {
    let shell = Shell::new();
    TreeSpec::files(&[("a", 10)]).write(&shell.workshop.source());
    let (url, server) = monitor(2, "500 Internal Server Error");
    let (_, said) = shell.run_to(shell.backup().args(["--ping", &url]), 0);
    server.join().unwrap();
    assert_eq!(said.matches("warning: the monitor was not told: ").count(), 2, "{said}");
    assert!(said.contains("it answered 500") && !said.contains("uuid"), "{said}");
}
