//! Snapshots over WebDAV, as clients see it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use dr_tests::mounted::{Showing, ask};
use dr_tests::shell::Shell;
use dr_tests::steps::skip;
use dr_tests::{Node, TreeSpec, noise};
use rustix::process::Signal;

struct Served {
    shell: Shell,
    showing: Showing,
    port: u16,
}

impl Served {
    fn start(tree: &TreeSpec, arguments: &[&str]) -> Served {
        let shell = Shell::new();
        tree.write(&shell.workshop.source());
        shell.run(shell.backup().args(["--host", "desk"]));
        Served::of(shell, arguments)
    }

    fn of(shell: Shell, arguments: &[&str]) -> Served {
        let mut command = shell.command();
        command.args(["serve", "webdav", "--json"]).args(arguments);
        if !arguments.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        let showing = Showing::start(&mut command);
        let ready: serde_json::Value = serde_json::from_str(&showing.ready).unwrap();
        assert_eq!(ready["message_type"], "serving");
        let url = ready["url"].as_str().unwrap();
        let port = url.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
        Served { shell, showing, port }
    }

    /// The URL's path of something in the newest snapshot.
    fn latest(&self, name: &str) -> String {
        format!("/snapshots/latest{}/{name}", self.shell.workshop.source().display())
    }
}

fn tree() -> TreeSpec {
    let mut tree =
        TreeSpec::files(&[("plain", 900), ("empty", 0), ("sub/large", 5 << 20), ("sub/ü <&>", 10)]);
    tree.put("link", Node::Symlink(b"plain".to_vec()));
    tree.put("pipe", Node::Fifo);
    tree.0.insert(b"odd \xff\x01%".to_vec(), Node::File { seed: 7, bytes: 33 });
    tree
}

#[test]
fn files_are_served_whole_and_in_parts() {
    let served = Served::start(&tree(), &[]);
    let large = noise(2, 5 << 20);
    let target = served.latest("sub/large");
    let whole = ask(served.port, "GET", &target, &[], "");
    assert_eq!((whole.status, whole.is_whole), (200, true));
    assert!(whole.body == large);
    assert_eq!(whole.header("content-type"), Some("application/octet-stream"));
    assert_eq!(whole.header("x-content-type-options"), Some("nosniff"));
    let tag = whole.header("etag").unwrap();

    for (range, from, to) in [
        ("bytes=0-0", 0, 1),
        ("bytes=1048570-3000000", 1_048_570, 3_000_001),
        ("bytes=-5", (5 << 20) - 5, 5 << 20),
    ] {
        for condition in [("If-Range", tag), ("X-Other", "")] {
            let part = ask(served.port, "GET", &target, &[("Range", range), condition], "");
            assert_eq!(part.status, 206);
            assert!(part.body == large[from..to], "{range}");
            let expected = format!("bytes {from}-{}/{}", to - 1, large.len());
            assert_eq!(part.header("content-range"), Some(&*expected));
        }
    }
    let other = ask(served.port, "GET", &target, &[("Range", "bytes=0-0"), ("If-Range", "\"other\"")], "");
    assert_eq!((other.status, other.body.len()), (200, 5 << 20));
    let beyond = ask(served.port, "GET", &target, &[("Range", "bytes=9999999-")], "");
    assert_eq!((beyond.status, beyond.header("content-range")), (416, Some("bytes */5242880")));
    assert_eq!(ask(served.port, "GET", &target, &[("If-None-Match", tag)], "").status, 304);

    let head = ask(served.port, "HEAD", &target, &[], "");
    assert_eq!((head.status, head.header("content-length"), head.body.len()), (200, Some("5242880"), 0));
    let empty = ask(served.port, "GET", &served.latest("empty"), &[], "");
    assert_eq!((empty.status, empty.header("content-length"), empty.is_whole), (200, Some("0"), true));
    let odd = ask(served.port, "GET", &served.latest("odd%20%FF%01%25"), &[], "");
    assert_eq!((odd.status, odd.body), (200, noise(7, 33)));
}

#[test]
fn folders_are_listed_and_nothing_else_is_reached() {
    let served = Served::start(&tree(), &[]);
    let port = served.port;
    let depth = |depth| [("Depth", depth)];
    let root = ask(port, "PROPFIND", "/", &depth("1"), "");
    assert_eq!(root.status, 207);
    for folder in ["/", "/hosts/", "/ids/", "/snapshots/", "/tags/"] {
        assert!(root.text().contains(&format!("<D:href>{folder}</D:href>")), "{}", root.text());
    }
    let source = ask(port, "PROPFIND", &served.latest(""), &depth("1"), "").text();
    assert_eq!(source.matches("<D:response>").count(), 5, "{source}");
    assert!(source.contains("odd%20%FF%01%25</D:href>"), "{source}");
    assert!(source.contains("<D:getcontentlength>900</D:getcontentlength>"), "{source}");
    assert!(!source.contains("link<") && !source.contains("pipe<"), "{source}");
    let sub = ask(port, "PROPFIND", &served.latest("sub"), &depth("1"), "").text();
    assert!(
        sub.contains("sub/%C3%BC%20%3C%26%3E</D:href>") && sub.contains("ü &lt;&amp;&gt;</D:displayname>"),
        "{sub}"
    );
    let asked = "<a:propfind xmlns:a='DAV:'><a:prop><a:getetag/><a:quota/></a:prop></a:propfind>";
    let own = ask(port, "PROPFIND", &served.latest("plain"), &depth("0"), asked).text();
    assert!(own.contains("<D:getetag>&quot;") && own.contains("<quota xmlns=\"DAV:\"/>"), "{own}");
    assert!(own.contains("404 Not Found") && !own.contains("displayname"), "{own}");
    let page = ask(port, "GET", &served.latest("sub/"), &[], "");
    assert!(page.text().contains("<a href=\"/snapshots/latest/"), "{}", page.text());
    assert!(page.header("content-security-policy").unwrap().contains("sandbox"));

    assert_eq!(ask(port, "PROPFIND", "/", &depth("infinity"), "").status, 403);
    assert_eq!(ask(port, "PROPFIND", "/", &depth("1"), "<no").status, 400);
    // A long namespace would be said again for each name and each member.
    let (long, names) = ("n".repeat(50_000), "<a:b/>".repeat(100));
    let greedy = format!("<propfind xmlns='DAV:' xmlns:a='{long}'><prop>{names}</prop></propfind>");
    assert_eq!(ask(port, "PROPFIND", "/", &depth("1"), &greedy).status, 400);
    assert_eq!(ask(port, "PROPFIND", "/", &[("Content-Length", "100000")], "").status, 413);
    let options = ask(port, "OPTIONS", "/", &[], "");
    assert_eq!((options.status, options.header("dav")), (200, Some("1")));
    for method in ["PUT", "POST", "DELETE", "MKCOL", "MOVE", "COPY", "LOCK", "PROPPATCH", "PATCH", "TRACE"] {
        let answer = ask(port, method, &served.latest("plain"), &[], "");
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("OPTIONS, GET, HEAD, PROPFIND")),
            "{method}"
        );
    }
    for target in [
        "/../../etc/passwd",
        "/snapshots/latest/../../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/snapshots/..%2f..%2fetc%2fpasswd",
        "/snapshots/latest/%00",
        "/snapshots/none/etc",
        &served.latest("link"),
        &served.latest("pipe"),
        &served.latest("plain/below"),
        &served.latest("../source/plain"),
    ] {
        for method in ["GET", "PROPFIND"] {
            assert_eq!(ask(port, method, target, &depth("0"), "").status, 404, "{target}");
        }
    }
}

#[test]
fn only_who_may_is_answered() {
    let served = Served::start(&TreeSpec::files(&[("plain", 900)]), &[]);
    for (host, status) in
        [("localhost:1", 200), ("127.0.0.1", 200), ("[::1]", 200), ("backup.example.org", 403)]
    {
        assert_eq!(ask(served.port, "GET", "/", &[("Host", host)], "").status, status, "{host}");
    }
    let Served { shell, mut showing, .. } = served;
    showing.end();

    let (_, said) = shell.run_to(shell.command().args(["serve", "webdav", "--listen", "0.0.0.0:0"]), 2);
    assert!(said.contains("hint: set a name and a password"), "{said}");
    let (_, said) = shell.run_to(shell.command().args(["serve", "webdav", "--user", "ann"]), 2);
    assert!(said.contains("--user-password-file"), "{said}");
    let file = shell.workshop.path().join("user-password");
    fs::write(&file, "s3cret\n").unwrap();
    let file = file.to_str().unwrap();
    let arguments = ["--listen", "0.0.0.0:0", "--user", "ann", "--user-password-file", file];
    let mut served = Served::of(shell, &arguments);
    let answer = ask(served.port, "GET", "/", &[("Host", "backup.example.org")], "");
    assert_eq!((answer.status, answer.header("www-authenticate").is_some()), (401, true));
    // ann:wrong, bob:s3cret, ann:s3cret
    for (given, status) in [("YW5uOndyb25n", 401), ("Ym9iOnMzY3JldA==", 401), ("YW5uOnMzY3JldA==", 200)] {
        let header = format!("Basic {given}");
        let headers = [("Host", "backup.example.org"), ("Authorization", header.as_str())];
        assert_eq!(ask(served.port, "GET", "/", &headers, "").status, status, "{given}");
    }
    served.showing.signal(Signal::INT);
    let (status, said) = served.showing.wait();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[test]
fn damage_cuts_the_answer_and_is_named() {
    let shell = Shell::new();
    let source = shell.workshop.source();
    TreeSpec::files(&[("whole", 3000)]).write(&source);
    shell.run(&mut shell.backup());
    let before = packs(&shell.repository());
    fs::write(source.join("harmed"), noise(99, 200_000)).unwrap();
    shell.run(&mut shell.backup());
    let new = packs(&shell.repository()).into_iter().find(|pack| !before.contains(pack));
    fs::remove_file(new.unwrap()).unwrap();
    let mut served = Served::of(shell, &[]);
    let harmed = ask(served.port, "GET", &served.latest("harmed"), &[], "");
    assert!(!harmed.is_whole && harmed.body.is_empty(), "{}", harmed.headers);
    let whole = ask(served.port, "GET", &served.latest("whole"), &[], "");
    assert_eq!((whole.status, whole.body), (200, noise(0, 3000)));
    let said = served.showing.end();
    assert!(said.contains("\"during\":\"serve\"") && said.contains("harmed"), "{said}");
}

/// The packs of a repository that hold contents.
fn packs(repository: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![repository.join("data")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

#[test]
fn rclone_copies_a_snapshot_as_it_is() {
    if !Command::new("rclone").arg("version").output().is_ok_and(|output| output.status.success()) {
        skip("server-rclone", "rclone is not installed");
        return;
    }
    let mut tree =
        TreeSpec::files(&[("plain", 900), ("empty", 0), ("sub/large", 5 << 20), ("sub/ü <&>'", 10)]);
    for number in 0..50 {
        tree.put(&format!("many/{number}"), Node::File { seed: number, bytes: 100 });
    }
    let served = Served::start(&tree, &[]);
    let source = served.shell.workshop.source();
    let target = served.shell.workshop.room();
    let mut rclone = Command::new("rclone");
    rclone.env("RCLONE_CONFIG", "/dev/null").args(["copy", "--retries", "1", "--webdav-vendor", "other"]);
    rclone.arg(format!("--webdav-url=http://127.0.0.1:{}", served.port));
    served.shell.run(rclone.arg(format!(":webdav:{}", served.latest(""))).arg(&target));
    let diff = Command::new("diff").arg("-r").args([&source, &target]).output().unwrap();
    assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));
}
