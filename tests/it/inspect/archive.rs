//! Archives, as other programs read them.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use dr_core::{
    ArchiveFormat, CancelToken, Context, DumpOptions, DumpReport, ErrorKind, Event, Observer, ProblemKind,
    Result,
};
use dr_store::sim::SimStore;
use dr_tests::repo::with_context;
use dr_tests::tree::trees;
use dr_tests::{Node, TestRepo, TreeSpec, assert_same_tree, noise};
use proptest::prelude::*;
use proptest::test_runner::Config;

use super::bytes;

fn dump(repo: &TestRepo, path: &Path, format: ArchiveFormat) -> (Result<DumpReport>, Vec<u8>) {
    let snapshot = repo.latest().unwrap();
    let mut archive = Vec::new();
    let options = DumpOptions::new().path(bytes(path)).format(format);
    let report = with_context(|ctx| repo.repository.dump(&snapshot, &mut archive, &options, ctx));
    (report, archive)
}

/// Lets a program read an archive on its standard input. Gives what it wrote; it must end well.
fn fed(command: &mut Command, archive: &[u8]) -> Vec<u8> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            // A program may end before it has read everything.
            let _ = stdin.write_all(archive);
        });
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{command:?}: {}", output.status);
    output.stdout
}

fn untar(archive: &[u8], target: &Path) {
    fs::create_dir(target).unwrap();
    let mut tar = Command::new("tar");
    fed(tar.args(["--xattrs", "--xattrs-include=*", "-xpf", "-", "-C"]).arg(target), archive);
}

/// What Python finds in a ZIP archive: a line for each member, after it has verified them all.
fn unzip(archive: &[u8], folder: &Path) -> String {
    const SCRIPT: &str = "
import sys, zipfile, hashlib
archive = zipfile.ZipFile(sys.argv[1])
assert archive.testzip() is None
for item in archive.infolist():
    data = archive.read(item)
    text = data.decode('latin1') if len(data) < 40 else hashlib.sha256(data).hexdigest()
    print('%s %o %d %s' % (item.filename, item.external_attr >> 16, item.file_size, text))
";
    let path = folder.join("archive.zip");
    fs::write(&path, archive).unwrap();
    let output = Command::new("python3").arg("-c").arg(SCRIPT).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn tar_brings_everything_back() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let top = source.join("top");
    let long = "d".repeat(200);
    let mut tree = TreeSpec::files(&[
        ("file", 5000),
        ("empty", 0),
        ("block", 512),
        ("large", 9 << 20),
        (&format!("{long}/{long}/{long}/deep"), 10),
    ]);
    tree.put("link", Node::Symlink(vec![b't'; 300]));
    tree.put("pipe", Node::Fifo);
    tree.0.insert(b"n\xff\n".to_vec(), Node::File { seed: 3, bytes: 40 });
    tree.0.insert([&b"\xfe"[..], &[b'y'; 200]].concat(), Node::File { seed: 4, bytes: 41 });
    tree.0.insert("grün".into(), Node::Directory(TreeSpec::files(&[("x", 3)])));
    tree.write(&top);
    fs::hard_link(top.join("file"), top.join("other name")).unwrap();
    let sparse = fs::File::create(top.join("sparse")).unwrap();
    sparse.set_len(8 << 20).unwrap();
    sparse.write_all_at(&noise(1, 70_000), 1 << 20).unwrap();
    fs::File::create(top.join("hole")).unwrap().set_len(1 << 20).unwrap();
    let attribute = |name: &str, value: &[u8]| {
        let flags = rustix::fs::XattrFlags::empty();
        rustix::fs::setxattr(top.join("file"), name, value, flags).is_ok()
    };
    assert!(attribute("user.plain", b"value") && attribute("user.od=d%", b"\0\n=\xff"));
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let (report, archive) = dump(&repo, &source, ArchiveFormat::Tar);
    let report = report.unwrap();
    assert!(report.is_complete(), "{:?}", report.problems);
    assert_eq!(archive.len() % 512, 0);
    let target = folder.path().join("target");
    untar(&archive, &target);
    assert_same_tree(&top, &target.join("top"));
    for name in ["sparse", "hole"] {
        let blocks = |at: &Path| fs::metadata(at.join(name)).unwrap().blocks();
        assert!(blocks(&target.join("top")) <= blocks(&top) + 16, "{name} lost its holes");
    }
    // A single file, under its own name; and all of the snapshot, from the topmost directory on.
    let (single, archive) = dump(&repo, &top.join("block"), ArchiveFormat::Tar);
    assert_eq!(single.unwrap().files, 1);
    assert_eq!(fed(Command::new("tar").args(["-tf", "-"]), &archive), b"block\n");
    let (_, archive) = dump(&repo, Path::new(""), ArchiveFormat::Tar);
    let names = fed(Command::new("tar").args(["-tf", "-"]), &archive);
    let name = [&bytes(&top)[1..], b"/block\n"].concat();
    assert!(names.windows(name.len()).any(|part| part == name));
}

#[test]
fn sockets_and_devices_are_named_where_there_is_no_place_for_them() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    fs::create_dir(&source).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(source.join("socket")).unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    for format in [ArchiveFormat::Tar, ArchiveFormat::Zip] {
        let (report, _) = dump(&repo, &source, format);
        let report = report.unwrap();
        assert_eq!((report.files, report.problem_count), (1, 1));
        assert_eq!(report.problems[0].kind, ProblemKind::Skipped);
        assert_eq!(report.problems[0].path, bytes(&source.join("socket")));
    }
}

#[test]
fn zip_holds_files_directories_and_links() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    let mut tree = TreeSpec::files(&[("a/empty", 0), ("a/large", 5 << 20)]);
    tree.put("link", Node::Symlink(b"a/empty".to_vec()));
    tree.0.insert("grün".into(), Node::File { seed: 1, bytes: 100 });
    tree.write(&source);
    fs::write(source.join("text"), "some text").unwrap();
    fs::hard_link(source.join("text"), source.join("z")).unwrap();
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let (report, archive) = dump(&repo, &source, ArchiveFormat::Zip);
    assert!(report.unwrap().is_complete());
    let found = unzip(&archive, folder.path());
    let lines: Vec<&str> = found.lines().collect();
    let mode = fs::metadata(source.join("text")).unwrap().mode();
    assert_eq!(lines[0].split(' ').next(), Some("a/"), "{found}");
    for expected in [
        "a/empty 100600 0 ".to_owned(),
        "link 120777 7 a/empty".to_owned(),
        format!("text {mode:o} 9 some text"),
        format!("z {mode:o} 9 some text"),
    ] {
        assert!(lines.contains(&expected.as_str()), "{expected}: {found}");
    }
    assert!(lines.iter().any(|line| line.starts_with("grün 100601 100 ")), "{found}");
    assert!(lines.iter().any(|line| line.starts_with(&format!("a/large 100601 {} ", 5 << 20))), "{found}");
}

#[test]
fn an_archive_that_meets_damage_breaks_off_and_names_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    TreeSpec::files(&[("a", 100), ("big", 9 << 20), ("z", 100)]).write(&source);
    for class in ["data/", "tree/"] {
        let store = SimStore::new();
        let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
        assert!(repo.backup(&[&source]).unwrap().is_complete());
        let snapshot = repo.latest().unwrap();
        let packs = store.objects().into_iter().filter(|(name, _)| name.as_str().starts_with(class));
        let (name, pack) = packs.max_by_key(|(_, bytes)| bytes.len()).unwrap();
        if class == "data/" {
            store.corrupt(&name, pack.len() as u64 / 2, 1).unwrap();
        } else {
            store.remove(&name).unwrap();
        }
        for format in [ArchiveFormat::Tar, ArchiveFormat::Zip] {
            let mut archive = Vec::new();
            let options = DumpOptions::new().format(format);
            let repository = &repo.repository;
            let failed = with_context(|ctx| repository.dump(&snapshot, &mut archive, &options, ctx));
            let error = failed.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{error:?}");
            assert!(error.remedy().unwrap().contains("restore"));
            if class == "data/" {
                assert_eq!(error.path(), Some(source.join("big").as_path()));
            } else {
                assert!(error.path().is_some(), "{error:?}");
            }
            // Neither kind of end is there, so that no program takes it for whole.
            assert!(!archive.ends_with(&[0; 1024]) && !archive.windows(4).any(|part| part == b"PK\x05\x06"));
        }
    }
}

/// Whether GNU tar and Python, from a file and from a pipe, take an archive for whole.
fn taken_for_whole(archive: &[u8], folder: &Path) -> Vec<bool> {
    const SCRIPT: &str = "
import sys, tarfile
for mode in ['r:', 'r|']:
    try:
        with tarfile.open(sys.argv[1], mode) as archive:
            for member in archive:
                if member.isreg():
                    archive.extractfile(member).read()
        print('whole')
    except tarfile.ReadError:
        print('broken')
";
    let path = folder.join("archive.tar");
    fs::write(&path, archive).unwrap();
    let listed = Command::new("tar").arg("-tf").arg(&path).output().unwrap().status.success();
    let output = Command::new("python3").arg("-c").arg(SCRIPT).arg(&path).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2);
    std::iter::once(listed).chain(lines.iter().map(|line| *line == "whole")).collect()
}

#[test]
fn no_reader_takes_a_tar_archive_that_breaks_off_for_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    TreeSpec::files(&[("a", 0), ("b", 512), ("c", 100), ("d", 70_000), ("e/f", 1)]).write(&source);
    for (seed, harmed) in (70..).zip(["a", "c", "e/f"]) {
        let store = SimStore::new();
        let repo = TestRepo::create(Arc::new(store.clone())).unwrap();
        // Saved first and alone, so that its pack holds nothing else.
        fs::write(source.join(harmed), noise(seed, 3000)).unwrap();
        assert!(repo.backup(&[&source.join(harmed)]).unwrap().is_complete());
        let own: Vec<_> = store.objects().into_iter().map(|(name, _)| name).collect();
        assert!(repo.backup(&[&source]).unwrap().is_complete());
        let (report, archive) = dump(&repo, &source, ArchiveFormat::Tar);
        assert!(report.unwrap().is_complete());
        assert_eq!(taken_for_whole(&archive, folder.path()), [true; 3]);
        let of_data = own.iter().filter(|name| name.as_str().starts_with("data/"));
        for name in of_data {
            store.remove(name).unwrap();
        }
        let (report, archive) = dump(&repo, &source, ArchiveFormat::Tar);
        assert_eq!(report.unwrap_err().path(), Some(source.join(harmed).as_path()));
        assert_eq!(taken_for_whole(&archive, folder.path()), [false; 3], "{harmed}");
        // Without any list of names there is nothing but the mark.
        for (name, _) in store.objects().iter().filter(|(name, _)| name.as_str().starts_with("tree/")) {
            store.remove(name).unwrap();
        }
        let (report, archive) = dump(&repo, &source, ArchiveFormat::Tar);
        assert_eq!(report.unwrap_err().kind(), ErrorKind::Corrupt);
        assert!(archive.is_empty() || taken_for_whole(&archive, folder.path()) == [false; 3], "{harmed}");
    }
}

/// Cancels after so many members.
#[derive(Debug)]
struct CancelAfter {
    members: usize,
    done: AtomicUsize,
    cancel: CancelToken,
}

impl Observer for CancelAfter {
    fn event(&self, event: &Event) {
        if matches!(event, Event::EntryDone { .. })
            && self.done.fetch_add(1, Ordering::Relaxed) + 1 == self.members
        {
            self.cancel.cancel();
        }
    }
}

#[test]
fn a_tar_archive_that_is_cancelled_between_members_is_not_taken_for_whole() {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("source");
    TreeSpec::files(&[("a", 0), ("b", 512), ("c", 100), ("d", 1024)]).write(&source);
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&source]).unwrap().is_complete());
    let snapshot = repo.latest().unwrap();
    let options = DumpOptions::new().path(bytes(&source)).format(ArchiveFormat::Tar);
    for members in 1..=4 {
        let cancel = CancelToken::new();
        let done = AtomicUsize::new(0);
        let observer = CancelAfter { members, done, cancel: cancel.clone() };
        let mut archive = Vec::new();
        let ctx = Context::new(&observer, &cancel);
        let report = repo.repository.dump(&snapshot, &mut archive, &options, &ctx);
        if members == 4 {
            // Nothing looks any more after the last.
            assert!(report.unwrap().is_complete());
            assert_eq!(taken_for_whole(&archive, folder.path()), [true; 3]);
        } else {
            assert_eq!(report.unwrap_err().kind(), ErrorKind::Cancelled);
            assert_eq!(taken_for_whole(&archive, folder.path()), [false; 3], "{members}");
        }
    }
}

proptest! {
    #![proptest_config(Config { cases: 16, ..Config::default() })]

    #[test]
    fn any_tree_comes_back_out_of_a_tar_archive(tree in trees()) {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("source");
        tree.write(&source.join("top"));
        let repo = TestRepo::in_memory();
        assert!(repo.backup(&[&source]).unwrap().is_complete());
        let (report, archive) = dump(&repo, &source, ArchiveFormat::Tar);
        prop_assert!(report.unwrap().is_complete());
        let target = folder.path().join("target");
        untar(&archive, &target);
        assert_same_tree(&source.join("top"), &target.join("top"));
    }
}
