//! Real servers: each driver passes the suite against one, and failures say what to do.

use std::error::Error;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use dr_store::probe::{CreateSupport, probe_create};
use dr_store::{
    Name, OpenMode, Payload, PutMode, RetryOptions, Store, StoreError, StoreErrorKind, StoreOptions,
    open_with,
};
use dr_tests::servers::{BUCKET, KEY, Server, free_port, options, run_suite_without};
use dr_tests::steps::program;
use dr_tests::{TestRepo, TreeSpec, assert_same_tree};

/// How often a server that decides races wrongly is tried: it may be right by luck.
const PROBES: u8 = 20;

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// Runs the suite, each check in a folder of its own.
fn run_suite(open: impl Fn(&str) -> Arc<dyn Store>) {
    run_suite_without(&[], open);
}

fn listed(store: &dyn Store, folder: &str) -> Vec<String> {
    let mut names = Vec::new();
    let answer = store.list(folder, None, &mut |object| {
        names.push(object.name.as_str().to_owned());
        Ok(())
    });
    answer.unwrap();
    names.sort_unstable();
    names
}

/// Probes, and checks that nothing of it is left.
fn probe(store: &dyn Store, nonce: u8) -> CreateSupport {
    let found = probe_create(store, [nonce; 16]).unwrap();
    assert!(listed(store, "probe").is_empty(), "a probe left something");
    found
}

#[test]
fn moto_passes_the_suite_and_creates_atomically() {
    let Some(server) = Server::moto() else { return };
    run_suite(|prefix| server.s3(prefix));
    assert_eq!(probe(server.s3("probed").as_ref(), 1), CreateSupport::Atomic);
}

#[test]
fn azurite_passes_the_suite_and_creates_atomically() {
    let Some(server) = Server::azurite() else { return };
    run_suite(|prefix| server.azure(prefix));
    assert_eq!(probe(server.azure("probed").as_ref(), 1), CreateSupport::Atomic);
}

#[test]
fn a_server_that_loses_races_passes_the_rest_of_the_suite_and_is_found_out() {
    let Some(server) = Server::s3s_fs() else { return };
    // It answers with an error of its own for an object whose name is that of a folder on its disk.
    run_suite_without(&["create as a race", "missing objects"], |prefix| server.s3(prefix));
    let store = server.s3("probed");
    let found: Vec<_> = (0..PROBES).map(|nonce| probe(store.as_ref(), nonce)).collect();
    let racy = found.iter().filter(|found| matches!(found, CreateSupport::Racy { .. })).count();
    assert!(racy > 0, "{found:?}");
    // One after the other it behaves.
    assert!(found.iter().all(|found| *found != CreateSupport::Ignored), "{found:?}");
}

#[test]
fn webdav_keeps_objects_and_says_that_it_cannot_create() {
    let Some(server) = Server::rclone_webdav() else { return };
    let store = server.webdav("");
    assert_eq!(probe_create(store.as_ref(), [1; 16]).unwrap(), CreateSupport::Unsupported);
    let below = server.webdav("some/folder");
    for (store, text) in [(&store, "a/b/c"), (&store, "a/d"), (&below, "x/y")] {
        store.put(&name(text), Payload::from(text.to_owned()), PutMode::Replace).unwrap();
        assert_eq!(store.get(&name(text)).unwrap(), text.as_bytes());
        assert_eq!(store.get_range(&name(text), 1..3).unwrap(), &text.as_bytes()[1..3]);
        assert_eq!(store.stat(&name(text)).unwrap().bytes, text.len() as u64);
    }
    assert_eq!(listed(store.as_ref(), ""), ["a/b/c", "a/d", "some/folder/x/y"]);
    assert_eq!(listed(below.as_ref(), ""), ["x/y"]);
    assert_eq!(below.list_folder("").unwrap().folders, ["x"]);
    assert_eq!(store.list_folder("a").unwrap().folders, ["b"]);
    store.delete(&name("a/d")).unwrap();
    assert_eq!(store.get(&name("a/d")).unwrap_err().kind(), StoreErrorKind::NotFound);
}

#[test]
fn webdav_makes_folders_for_many_puts_at_once() {
    let Some(server) = Server::rclone_webdav() else { return };
    let store = server.webdav("");
    std::thread::scope(|scope| {
        for number in 0..16 {
            let store = &store;
            scope.spawn(move || {
                store.put(&name(&format!("a/b/c/{number}")), Payload::from("x"), PutMode::Replace).unwrap();
            });
        }
    });
    assert_eq!(listed(store.as_ref(), "a").len(), 16);
}

/// The system's `ssh` takes its files from the user's own folder, so another one is put before it in the search path of
/// a second process of this test.
#[test]
fn sftp_keeps_objects_and_says_that_it_cannot_create() {
    const LOCATION: &str = "DR_TEST_SFTP_LOCATION";
    if let Ok(location) = std::env::var(LOCATION) {
        return use_sftp(&location);
    }
    let Some(server) = Server::rclone_sftp() else { return };
    let path = std::env::var("PATH").unwrap();
    let own = std::env::current_exe().unwrap();
    let run = Command::new(own)
        .args(["--exact", "servers::sftp_keeps_objects_and_says_that_it_cannot_create", "--nocapture"])
        .env(LOCATION, format!("sftp://dr@127.0.0.1:{}/some/folder", server.port()))
        .env("PATH", format!("{}:{path}", server.sftp_ssh().display()))
        .output()
        .unwrap();
    let said = format!("{}{}", String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
    assert!(run.status.success() && said.contains("1 passed"), "{said}{}", server.log());
}

fn use_sftp(location: &str) {
    let store = open_with(location, OpenMode::Create, &options(KEY)).unwrap();
    assert_eq!(store.endpoint(), location);
    assert!(listed(store.as_ref(), "").is_empty());
    assert_eq!(probe_create(store.as_ref(), [1; 16]).unwrap(), CreateSupport::Unsupported);
    for (text, bytes) in [("a/b/c", 0), ("a/d", 5), ("e", 3 << 20)] {
        let content: Vec<u8> = (0..bytes).map(|at: usize| (at % 251) as u8).collect();
        for _ in 0..2 {
            store.put(&name(text), Payload::from(content.clone()), PutMode::Replace).unwrap();
        }
        assert_eq!(store.get(&name(text)).unwrap(), content, "{text}");
        assert_eq!(store.stat(&name(text)).unwrap().bytes, bytes as u64);
    }
    assert_eq!(store.get_range(&name("e"), 250..253).unwrap(), [250, 0, 1].as_slice());
    assert_eq!(store.get_range(&name("a/d"), 0..6).unwrap_err().kind(), StoreErrorKind::InvalidInput);
    assert_eq!(listed(store.as_ref(), ""), ["a/b/c", "a/d", "e"]);
    let level = store.list_folder("a").unwrap();
    assert_eq!((level.folders, level.objects.len()), (vec!["b".to_owned()], 1));
    store.delete(&name("a/d")).unwrap();
    assert_eq!(store.get(&name("a/d")).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert_eq!(store.stat(&name("a")).unwrap_err().kind(), StoreErrorKind::NotFound);
    assert!(store.list_folder("missing").unwrap().objects.is_empty());
}

fn source() -> (tempfile::TempDir, TreeSpec) {
    let tree = TreeSpec::files(&[("small", 100), ("a/b/deep.txt", 5000), ("large", 9 << 20), ("empty", 0)]);
    (tempfile::tempdir().unwrap(), tree)
}

#[test]
fn moto_holds_a_backup() {
    let Some(server) = Server::moto() else { return };
    let (folder, tree) = source();
    let source = folder.path().join("source");
    tree.write(&source);
    let repo = TestRepo::create(server.s3("repository")).unwrap();
    for round in 0..2 {
        let report = repo.backup(&[&source]).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        repo.clock.advance_ms(1000);
        let target = folder.path().join(format!("target{round}"));
        let opened = TestRepo::open(server.s3("repository"), 2 + round).unwrap();
        let restored = opened.restore(&opened.latest().unwrap(), &target).unwrap();
        assert!(restored.is_complete(), "{:?}", restored.problems);
        assert_same_tree(&source, &target.join(source.strip_prefix("/").unwrap()));
        opened.assert_intact();
        fs::write(source.join("more"), "second round").unwrap();
    }
}

/// Runs the program against an S3 server, with nothing of the machine's own environment that it would use.
fn dr(server: &Server, folder: &std::path::Path, arguments: &[&str]) -> std::process::Output {
    let mut command = Command::new(program());
    let kept = ["PATH", "HOME", "TMPDIR"].map(|name| (name, std::env::var_os(name)));
    command.env_clear().envs(kept.into_iter().filter_map(|(name, value)| Some((name, value?))));
    server.name_repository(&mut command);
    command
        .env("DR_KEY_FILE", folder.join("key"))
        .env("DR_CACHE_DIR", folder.join("cache"))
        .env("DR_STATE_DIR", folder.join("state"))
        .args(arguments);
    command.output().unwrap()
}

#[test]
fn moto_holds_a_backup_of_the_program() {
    let Some(server) = Server::moto() else { return };
    let (folder, tree) = source();
    let source = folder.path().join("source");
    tree.write(&source);
    let target = folder.path().join("target");
    let (source_text, target_text) = (source.to_str().unwrap(), target.to_str().unwrap());
    let lines: [&[&str]; 5] = [
        &["init"],
        &["backup", source_text, "--limit-upload", "100M", "--connections", "4"],
        &["snapshots", "-o", "s3.region=eu-central-1"],
        &["check", "--read-data"],
        &["restore", "latest", "--target", target_text, "--limit-download", "204800"],
    ];
    for line in lines {
        let run = dr(&server, folder.path(), line);
        let (out, err) = (String::from_utf8_lossy(&run.stdout), String::from_utf8_lossy(&run.stderr));
        assert!(run.status.success(), "{line:?}: {out}{err}{}", server.log());
        assert!(!format!("{out}{err}").contains(KEY.1), "the secret key was printed");
    }
    assert_same_tree(&source, &target.join(source.strip_prefix("/").unwrap()));
    let run = dr(&server, folder.path(), &["snapshots", "-o", "s3.nonsense=1"]);
    assert_eq!(run.status.code(), Some(2), "{}", String::from_utf8_lossy(&run.stderr));
}

/// What a first call to a store that cannot work says.
fn refusal(location: &str, options: &StoreOptions) -> StoreError {
    let retries = RetryOptions { attempts_max: 2, first_delay: Duration::ZERO, ..RetryOptions::default() };
    let store = open_with(location, OpenMode::Existing, &options.clone().with_retries(retries));
    let error = store.and_then(|store| store.get(&name("config"))).unwrap_err();
    let all = format!("{error} {error:?} {:?}", error.source().map(ToString::to_string));
    assert!(!all.contains(KEY.1), "{all}");
    error
}

fn assert_says(error: &StoreError, kind: StoreErrorKind, cause: &str, remedy: &str) {
    assert_eq!(error.kind(), kind, "{error:?}");
    let said = error.source().map(ToString::to_string).unwrap_or_default();
    assert!(said.contains(cause), "{said:?} does not say {cause:?}");
    let advice = error.remedy().unwrap_or_default();
    assert!(advice.contains(remedy), "{advice:?} does not say {remedy:?}");
}

#[test]
fn refused_keys_are_explained() {
    let Some(server) = Server::s3s_fs() else { return };
    let location = format!("s3://{BUCKET}/x");
    let wrong_secret = options((KEY.0, "another-secret")).with_endpoint(server.url());
    let error = refusal(&location, &wrong_secret);
    assert_says(&error, StoreErrorKind::PermissionDenied, "SignatureDoesNotMatch", "AWS_SECRET_ACCESS_KEY");
    let error = refusal(&location, &options(("nobody", KEY.1)).with_endpoint(server.url()));
    assert_eq!(error.kind(), StoreErrorKind::PermissionDenied, "{error:?}");
    assert!(error.remedy().is_some());
}

#[test]
fn missing_buckets_are_named() {
    let Some(server) = Server::moto() else { return };
    let error = refusal("s3://no-such-bucket/x", &options(KEY).with_endpoint(server.url()));
    assert_says(&error, StoreErrorKind::NotFound, "NoSuchBucket", "make it");
    let there = options(KEY).with_endpoint(server.url());
    let error = refusal(&format!("s3://{BUCKET}/x"), &there);
    assert_eq!((error.kind(), error.remedy()), (StoreErrorKind::NotFound, None));
}

#[test]
fn servers_that_cannot_be_reached_are_explained() {
    let at = |url: String| refusal("s3://bucket/x", &options(KEY).with_endpoint(url));
    let nobody = at(format!("http://127.0.0.1:{}", free_port()));
    assert_says(&nobody, StoreErrorKind::Unavailable, "refused", "no server listens");
    let nowhere = at("https://no-such-host.invalid".to_owned());
    assert_says(&nowhere, StoreErrorKind::Unavailable, "dns error", "name cannot be found");
}

#[test]
fn certificates_that_nobody_trusts_are_explained() {
    let Some(server) = Server::moto_with(&["-s"]) else { return };
    let at = |url: String| refusal("s3://bucket/x", &options(KEY).with_endpoint(url));
    let untrusted = at(format!("https://127.0.0.1:{}", server.port()));
    assert_says(&untrusted, StoreErrorKind::Other, "certificate", "s3.ca-file");
}

#[test]
fn a_port_that_speaks_no_tls_is_explained() {
    let Some(server) = Server::moto() else { return };
    let at = |url: String| refusal("s3://bucket/x", &options(KEY).with_endpoint(url));
    let plain = at(format!("https://127.0.0.1:{}", server.port()));
    assert_says(&plain, StoreErrorKind::Other, "secure connection", "speaks TLS");
}
