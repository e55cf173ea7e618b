//! Buckets as sources: every key becomes a file or a problem, nothing that is unchanged is read, no file is a mixture.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use dr_core::{
    BackupReport, BucketTree, Entry, EntryKind, ErrorKind, LocalTreeOptions, ProblemKind, Result, Source,
    Xattr,
};
use dr_store::{Bucket, BucketFolder, BucketObject, Bytes, StoreError, StoreErrorKind, open_bucket};
use dr_tests::servers::{BUCKET, KEY, Server, options as server_options};
use dr_tests::steps::{Workshop, alone, options, restore};
use dr_tests::{TestRepo, noise};

/// What happens before a read of a key.
type BeforeRead = Box<dyn Fn(&Fake, &str) + Send>;

/// A bucket in memory that counts reads and may be changed at any time.
#[derive(Default)]
struct Fake {
    objects: Mutex<BTreeMap<String, (Vec<u8>, u64)>>,
    reads: Mutex<Vec<(String, Range<u64>)>>,
    before_read: Mutex<Option<BeforeRead>>,
    unusable: Vec<(String, &'static str)>,
    has_etags: bool,
}

impl std::fmt::Debug for Fake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Fake")
    }
}

impl Fake {
    fn new(objects: &[(&str, &[u8])]) -> Arc<Fake> {
        let fake = Fake { has_etags: true, ..Fake::default() };
        objects.iter().for_each(|(key, bytes)| fake.put(key, bytes));
        Arc::new(fake)
    }

    fn put(&self, key: &str, bytes: &[u8]) {
        let mut objects = self.objects.lock().unwrap();
        let version = objects.get(key).map_or(1, |(_, version)| version + 1);
        objects.insert(key.to_owned(), (bytes.to_vec(), version));
    }

    fn meta(&self, key: &str, bytes: &[u8], version: u64) -> BucketObject {
        let name = key.rsplit('/').next().unwrap().to_owned();
        let etag = self.has_etags.then(|| format!("\"{version}\""));
        BucketObject { name, bytes: bytes.len() as u64, modified_s: 1_000_000_000, etag }
    }

    fn take_reads(&self) -> Vec<(String, Range<u64>)> {
        std::mem::take(&mut self.reads.lock().unwrap())
    }
}

impl Bucket for Fake {
    fn list_folder(&self, folder: &str) -> dr_store::Result<BucketFolder> {
        let mut listed = BucketFolder::default();
        let prefix = if folder.is_empty() { String::new() } else { format!("{folder}/") };
        for (key, (bytes, version)) in &*self.objects.lock().unwrap() {
            let Some(rest) = key.strip_prefix(&prefix) else { continue };
            match rest.split_once('/') {
                Some((below, _)) => listed.folders.push(below.to_owned()),
                None => listed.objects.push(self.meta(key, bytes, *version)),
            }
        }
        listed.folders.dedup();
        listed.folders.sort();
        listed.objects.sort_by(|a, b| a.name.cmp(&b.name));
        if folder.is_empty() {
            listed.unusable.clone_from(&self.unusable);
        }
        Ok(listed)
    }

    fn stat(&self, key: &str) -> dr_store::Result<BucketObject> {
        let objects = self.objects.lock().unwrap();
        let found = objects.get(key).map(|(bytes, version)| self.meta(key, bytes, *version));
        found.ok_or_else(|| StoreError::new(StoreErrorKind::NotFound, "stat", key))
    }

    fn read(&self, key: &str, etag: Option<&str>, range: Range<u64>) -> dr_store::Result<Bytes> {
        if let Some(before) = &*self.before_read.lock().unwrap() {
            before(self, key);
        }
        self.reads.lock().unwrap().push((key.to_owned(), range.clone()));
        let objects = self.objects.lock().unwrap();
        let Some((bytes, version)) = objects.get(key) else {
            return Err(StoreError::new(StoreErrorKind::NotFound, "read", key));
        };
        if etag.is_some_and(|etag| etag != format!("\"{version}\"")) || range.end > bytes.len() as u64 {
            return Err(StoreError::new(StoreErrorKind::Changed, "read", key));
        }
        Ok(Bytes::copy_from_slice(&bytes[range.start as usize..range.end as usize]))
    }

    fn endpoint(&self) -> String {
        "s3://bucket/prefix?endpoint=http://127.0.0.1:1".to_owned()
    }
}

fn backup(repo: &TestRepo, bucket: Arc<dyn Bucket>) -> Result<BackupReport> {
    let tree = BucketTree::open(bucket)?;
    alone(&(), |ctx| repo.repository.backup(&tree, &options(), ctx))
}

fn entries(repo: &TestRepo) -> BTreeMap<String, Entry> {
    let mut found = BTreeMap::new();
    repo.repository
        .list(&repo.latest().unwrap(), b"/s3/bucket/prefix", &mut |path, entry| {
            let path = String::from_utf8_lossy(path).into_owned();
            found.insert(path.trim_start_matches("/s3/bucket/prefix").to_owned(), entry?.clone());
            Ok(())
        })
        .unwrap();
    found
}

#[test]
fn keys_become_files_below_directories() {
    let (workshop, repo) = (Workshop::on_disk(), TestRepo::in_memory());
    let large = noise(1, 20_000_000);
    let bucket = Fake::new(&[
        ("top", b"1"),
        ("empty", b""),
        ("a/b/deep", b"22"),
        ("a/c", b"333"),
        ("a-1/x", b"4"),
        ("a b/\u{e9}", b"5"),
        ("large", &large),
    ]);
    let report = backup(&repo, bucket.clone()).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    assert_eq!(repo.latest().unwrap().paths, [std::path::PathBuf::from("/s3/bucket/prefix")]);
    let ranges: Vec<_> =
        bucket.take_reads().into_iter().filter(|(key, _)| key == "large").map(|(_, range)| range).collect();
    assert_eq!(ranges, [0..8 << 20, 8 << 20..16 << 20, 16 << 20..20_000_000], "pieces of 8 MiB");
    let target = workshop.room();
    assert!(restore(&repo.repository, &repo.latest().unwrap(), &target).unwrap().is_complete());
    let read = |path: &str| std::fs::read(target.join("s3/bucket/prefix").join(path)).unwrap();
    assert_eq!(read("a/b/deep"), b"22");
    assert_eq!(read("a b/\u{e9}"), b"5");
    assert!(read("large") == large && read("empty").is_empty());
    let entry = &entries(&repo)["/a/c"];
    let etag = Xattr { name: b"user.dr.etag".to_vec(), value: b"\"1\"".to_vec() };
    assert_eq!(entry.metadata.xattrs, [etag]);
    assert_eq!(entry.metadata.modified.seconds, 1_000_000_000);
    repo.assert_intact();
}

#[test]
fn what_is_unchanged_is_not_read_again() {
    let repo = TestRepo::in_memory();
    let bucket = Fake::new(&[("same", b"1"), ("changed", b"1"), ("gone", b"1"), ("dir/same", b"1")]);
    assert!(backup(&repo, bucket.clone()).unwrap().is_complete());
    bucket.take_reads();
    let report = backup(&repo, bucket.clone()).unwrap();
    assert_eq!((report.entries_new, report.entries_changed), (0, 0), "{report:?}");
    assert_eq!(bucket.take_reads(), []);
    // Of the same length and time: the tag alone differs.
    bucket.put("changed", b"2");
    bucket.put("new", b"3");
    bucket.objects.lock().unwrap().remove("gone");
    let report = backup(&repo, bucket.clone()).unwrap();
    // Changed are a file and the directories above it.
    let counts = (report.entries_new, report.entries_changed, report.entries_unchanged);
    assert_eq!(counts, (1, 4, 3), "{report:?}");
    let keys: Vec<String> = bucket.take_reads().into_iter().map(|(key, _)| key).collect();
    assert_eq!(keys, ["changed", "new"]);
    assert_eq!(entries(&repo).keys().filter(|path| path.contains("gone")).count(), 0);
    // What was taken over has its tag still.
    assert_eq!(entries(&repo)["/same"].metadata.xattrs.len(), 1);
    repo.assert_intact();
}

#[test]
fn keys_that_cannot_be_paths_are_problems_by_name() {
    let repo = TestRepo::in_memory();
    let long = "n".repeat(300);
    let (folder, object) = (format!("{long}/x"), format!("dir/{long}"));
    let fake = Fake {
        unusable: vec![("a//b".to_owned(), "it is odd"), ("/".to_owned(), "it is odd")],
        has_etags: true,
        ..Fake::default()
    };
    for key in ["both", "both/below", "dir/good", folder.as_str(), object.as_str()] {
        fake.put(key, b"x");
    }
    let report = backup(&repo, Arc::new(fake)).unwrap();
    let mut named: Vec<String> =
        report.problems.iter().map(|problem| String::from_utf8_lossy(&problem.path).into_owned()).collect();
    named.sort();
    let place = |rest: &str| format!("/s3/bucket/prefix/{rest}");
    let mut expected = ["/", "a//b", "both", &object, &long].map(place);
    expected.sort();
    assert_eq!(named, expected);
    assert!(report.problems.iter().all(|problem| problem.kind == ProblemKind::Unreadable));
    let found = entries(&repo);
    assert!(
        found["/both"].is_directory() && found.contains_key("/both/below") && found.contains_key("/dir/good")
    );
    repo.assert_intact();
}

#[test]
fn an_object_that_is_replaced_while_it_is_read_is_read_anew() {
    let (workshop, repo) = (Workshop::on_disk(), TestRepo::in_memory());
    let (old, new) = (noise(1, 20_000_000), noise(2, 18_000_000));
    let bucket = Fake::new(&[("large", &old)]);
    let replacement = new.clone();
    let count = Mutex::new(0);
    *bucket.before_read.lock().unwrap() = Some(Box::new(move |bucket, key| {
        let mut count = count.lock().unwrap();
        *count += 1;
        if *count == 2 {
            bucket.put(key, &replacement);
        }
    }));
    let report = backup(&repo, bucket).unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    let target = workshop.room();
    assert!(restore(&repo.repository, &repo.latest().unwrap(), &target).unwrap().is_complete());
    assert!(std::fs::read(target.join("s3/bucket/prefix/large")).unwrap() == new);
    repo.assert_intact();
}

#[test]
fn an_object_that_never_holds_still_or_vanishes_is_a_problem() {
    let repo = TestRepo::in_memory();
    let bucket = Fake::new(&[("restless", b"x"), ("vanishing", b"x"), ("good", b"x")]);
    *bucket.before_read.lock().unwrap() = Some(Box::new(|bucket, key| match key {
        "restless" => bucket.put(key, b"y"),
        "vanishing" => _ = bucket.objects.lock().unwrap().remove(key),
        _ => {}
    }));
    let report = backup(&repo, bucket.clone()).unwrap();
    let kinds: Vec<_> = report.problems.iter().map(|problem| problem.kind).collect();
    assert_eq!(kinds, [ProblemKind::Unreadable, ProblemKind::Vanished]);
    assert_eq!(bucket.take_reads().iter().filter(|(key, _)| key == "restless").count(), 3);
    assert!(entries(&repo).contains_key("/good"));
}

#[test]
fn without_tags_length_and_time_count() {
    let repo = TestRepo::in_memory();
    let fake = Fake::default();
    fake.put("file", b"1");
    let bucket = Arc::new(fake);
    assert!(backup(&repo, bucket.clone()).unwrap().is_complete());
    bucket.take_reads();
    assert!(backup(&repo, bucket.clone()).unwrap().is_complete());
    assert_eq!(bucket.take_reads(), []);
    bucket.put("file", b"22");
    assert!(backup(&repo, bucket.clone()).unwrap().is_complete());
    assert_eq!(bucket.take_reads().len(), 1);
    assert!(entries(&repo)["/file"].metadata.xattrs.is_empty());
}

#[test]
fn a_prefix_that_nothing_begins_with_is_refused() {
    let error = BucketTree::open(Fake::new(&[])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Source);
    assert!(error.to_string().contains("s3://bucket/prefix"), "{error}");
}

/// Puts an object into the bucket of a server, by its very key.
fn put_object(server: &Server, key: &str, bytes: &[u8]) {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let length = bytes.len();
    let answer =
        server.http(&format!("PUT /{BUCKET}/{key} HTTP/1.0\r\nContent-Length: {length}\r\n\r\n{text}"));
    assert!(answer.contains(" 200 "), "{key}: {answer}");
}

#[test]
fn a_bucket_of_a_real_server_comes_back() {
    let Some(server) = Server::moto() else { return };
    for (key, bytes) in [
        ("data/one", "1".to_owned()),
        ("data/dir/two%20words", "22".to_owned()),
        ("data/dir/large", "0123456789".repeat(2_000_000)),
        ("data/dir/tilde~and%25percent", "x".to_owned()),
        ("data/both", "x".to_owned()),
        ("data/both/below", "x".to_owned()),
        ("data/marker/", String::new()),
        ("data/odd//key", "x".to_owned()),
        ("data/full/", "not empty".to_owned()),
        ("elsewhere/no", "x".to_owned()),
    ] {
        put_object(&server, key, bytes.as_bytes());
    }
    let open =
        |location: &str| open_bucket(location, &server_options(KEY).with_endpoint(server.url())).unwrap();
    let bucket = open(&format!("s3://{BUCKET}/data"));
    let (workshop, repo) = (Workshop::on_disk(), TestRepo::in_memory());
    let report = backup(&repo, bucket.clone()).unwrap();
    let mut named: Vec<String> =
        report.problems.iter().map(|problem| String::from_utf8_lossy(&problem.path).into_owned()).collect();
    named.sort();
    // Of a folder of no name only the beginning is known.
    let expected = ["both", "full/", "odd//"].map(|path| format!("/s3/bucket/data/{path}"));
    assert_eq!(named, expected, "{:?}", report.problems);
    let target = workshop.room();
    assert!(restore(&repo.repository, &repo.latest().unwrap(), &target).unwrap().is_complete());
    let read = |path: &str| std::fs::read_to_string(target.join("s3/bucket/data").join(path)).unwrap();
    assert_eq!(
        (read("one"), read("dir/two words"), read("both/below")),
        ("1".into(), "22".into(), "x".into())
    );
    assert_eq!(read("dir/tilde~and%percent"), "x");
    assert!(read("dir/large") == "0123456789".repeat(2_000_000));
    assert!(target.join("s3/bucket/data/marker").is_dir() && !target.join("s3/bucket/elsewhere").exists());
    // The server lets only whoever has a key replace what is there.
    let writer = server.s3("data");
    let name = dr_store::Name::new("one").unwrap();
    let replace = |bytes: &'static [u8]| {
        writer.put(&name, bytes.into(), dr_store::PutMode::Replace).unwrap();
    };
    // Objects were written just now: their tags say that they are the same even so.
    let report = backup(&repo, bucket.clone()).unwrap();
    assert_eq!(report.totals.bytes_read, 0, "{report:?}");
    replace(b"2");
    let report = backup(&repo, bucket.clone()).unwrap();
    assert_eq!(report.totals.bytes_read, 1, "{report:?}");
    repo.assert_intact();
    // A read of a version that is not there any more.
    let object = bucket.stat("one").unwrap();
    assert_eq!(&bucket.read("one", object.etag.as_deref(), 0..1).unwrap()[..], b"2");
    replace(b"3");
    let error = bucket.read("one", object.etag.as_deref(), 0..1).unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Changed, "{error}");
    assert_eq!(bucket.stat("none").unwrap_err().kind(), StoreErrorKind::NotFound);
    // A bucket that is not there, and a prefix of nothing.
    for location in ["s3://no-such-bucket/data".to_owned(), format!("s3://{BUCKET}/nothing")] {
        let error = BucketTree::open(open(&location)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source, "{error:?}");
        assert!(error.remedy().is_some());
    }
    let top = BucketTree::open(open(&format!("s3://{BUCKET}"))).unwrap();
    assert_eq!(top.paths(), [std::path::PathBuf::from("/s3/bucket")]);
}

#[test]
fn a_container_of_azure_and_a_folder_of_webdav_come_back() {
    if let Some(server) = Server::azurite() {
        let endpoint = format!("{}/devstoreaccount1", server.url());
        fill(&*server.azure("data"));
        let options = server_options(KEY).with_endpoint(endpoint);
        assert_filled(open_bucket(&format!("az://{BUCKET}/data"), &options).unwrap(), "az/bucket/data");
    }
    if let Some(server) = Server::rclone_webdav() {
        fill(&*server.webdav("data"));
        let place = format!("http/127.0.0.1:{}/data", server.port());
        assert_filled(open_bucket(&format!("{}/data", server.url()), &server_options(KEY)).unwrap(), &place);
    }
}

fn fill(store: &dyn dr_store::Store) {
    for (name, bytes) in [("one", 1), ("dir/two", 3000), ("dir/below/three", 300_000)] {
        let name = dr_store::Name::new(name).unwrap();
        store.put(&name, noise(bytes, bytes as usize).into(), dr_store::PutMode::Replace).unwrap();
    }
}

fn assert_filled(bucket: Arc<dyn Bucket>, place: &str) {
    let (workshop, repo) = (Workshop::on_disk(), TestRepo::in_memory());
    let report = backup(&repo, bucket.clone()).unwrap();
    assert!(report.is_complete(), "{place}: {:?}", report.problems);
    let target = workshop.room();
    assert!(restore(&repo.repository, &repo.latest().unwrap(), &target).unwrap().is_complete());
    for (name, bytes) in [("one", 1), ("dir/two", 3000), ("dir/below/three", 300_000)] {
        let found = std::fs::read(target.join(place).join(name)).unwrap();
        assert!(found == noise(bytes, bytes as usize), "{place}: {name}");
    }
    let report = backup(&repo, bucket).unwrap();
    assert!(report.is_complete() && report.entries_new == 0, "{place}: {report:?}");
    // What Azure lists and what it answers to a read are the same tags.
    assert!(report.totals.bytes_read == 0 || !place.starts_with("az"), "{place}: {report:?}");
}

/// Files are regular ones: a bucket holds nothing else.
#[test]
fn a_file_of_the_local_tree_is_the_same_chunks() {
    let (workshop, repo) = (Workshop::new(), TestRepo::in_memory());
    let content = noise(7, 3_000_000);
    std::fs::create_dir(workshop.source()).unwrap();
    std::fs::write(workshop.source().join("file"), &content).unwrap();
    let tree = dr_core::LocalTree::open(&[workshop.source()], LocalTreeOptions::default()).unwrap();
    let _ = alone(&(), |ctx| repo.repository.backup(&tree, &options(), ctx)).unwrap();
    let report = backup(&repo, Fake::new(&[("file", &content)])).unwrap();
    assert!(report.totals.new_bytes < 10_000, "{:?}", report.totals);
    assert!(matches!(&entries(&repo)["/file"].kind, EntryKind::File(content) if content.bytes == 3_000_000));
}
