//! Snapshots as a mounted file system, as programs see it.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use dr_tests::mounted::Mounted;
use dr_tests::shell::Shell;
use dr_tests::steps::Dice;
use dr_tests::{Node, TreeSpec, assert_same_tree, noise};
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};
use rustix::process::Signal;

const EIO: i32 = 5;

fn shell_with(files: &[(&str, usize)]) -> Option<Shell> {
    let shell = Shell::default();
    if !Mounted::is_possible(&shell) {
        return None;
    }
    shell.init();
    TreeSpec::files(files).write(&shell.workshop.source());
    shell.run(&mut shell.backup());
    Some(shell)
}

fn names(folder: &Path) -> Vec<String> {
    let name = |entry: io::Result<fs::DirEntry>| entry.unwrap().file_name().to_string_lossy().into_owned();
    let mut names: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
    names.sort();
    names
}

/// The packs of a repository that hold contents.
fn packs(shell: &Shell) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![shell.repository().join("data")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found
}

/// A source with everything that a file can be.
fn write_everything(source: &Path) {
    let mut tree =
        TreeSpec::files(&[("plain", 900), ("empty", 0), ("a/large", 9 << 20), ("a/b/c/deep", 70_000)]);
    tree.put("link", Node::Symlink(b"a/b/../\xff".to_vec()));
    tree.put("pipe", Node::Fifo);
    let odd = [b"\xff\n odd\\".as_slice(), &[b'n'; 255], "grün".as_bytes()];
    for (seed, name) in odd.into_iter().enumerate() {
        tree.0.insert(name.to_vec(), Node::File { seed: seed as u64, bytes: 10 });
    }
    tree.write(source);
    fs::hard_link(source.join("plain"), source.join("a/second name")).unwrap();
    fs::hard_link(source.join("plain"), source.join("third name")).unwrap();
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.write_all_at(b"middle", 3 << 20).unwrap();
    sparse.set_len(8 << 20).unwrap();
    for (name, kind, number) in [
        ("zero", FileType::CharacterDevice, makedev(1, 5)),
        ("disk", FileType::BlockDevice, makedev(259, 70_000)),
    ] {
        mknodat(CWD, source.join(name), kind, Mode::RUSR, number).unwrap();
    }
    fs::set_permissions(source.join("a/large"), fs::Permissions::from_mode(0o6751)).unwrap();
    fs::set_permissions(source.join("a/b"), fs::Permissions::from_mode(0o1777)).unwrap();
    std::os::unix::fs::lchown(source.join("link"), Some(1234), Some(5678)).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        assert!(
            Command::new(program).args(arguments).current_dir(source).status().unwrap().success(),
            "{program}"
        );
    };
    run("setfacl", &["-m", "u:4711:rw,g:42:r", "plain"]);
    run("setfacl", &["-d", "-m", "u:4711:rwx", "a"]);
    run("setfattr", &["-n", "trusted.note", "-v", "0x00ff10", "a/b"]);
    let time = |seconds| Timespec { tv_sec: seconds, tv_nsec: 123_456_789 };
    for (name, seconds) in [("plain", -5_000_000_000), ("link", 4_000_000_000), ("a/b", 1)] {
        let times = Timestamps { last_access: time(0), last_modification: time(seconds) };
        utimensat(CWD, source.join(name), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

#[test]
fn a_mounted_snapshot_is_the_source_with_all_that_files_have() {
    let shell = Shell::default();
    if !Mounted::is_possible(&shell) {
        return;
    }
    shell.init();
    let source = shell.workshop.source();
    write_everything(&source);
    shell.run(shell.backup().args(["--host", "desk/1", "--tag", "daily"]));
    let mut mounted = Mounted::start(&shell, &[]);
    let latest = mounted.latest(&source);

    let mut rsync = Command::new("rsync");
    rsync.args(["-aHAXnc", "--delete", "--itemize-changes"]);
    let output = shell.run(rsync.arg(source.join("")).arg(latest.join("")));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    assert_same_tree(&source, &latest);
    for name in ["plain", "sparse", "a/large", "zero", "disk"] {
        let [ours, theirs] = [&source, &latest].map(|root| fs::symlink_metadata(root.join(name)).unwrap());
        assert_eq!(
            (ours.len(), ours.nlink(), ours.rdev()),
            (theirs.len(), theirs.nlink(), theirs.rdev()),
            "{name}"
        );
        assert!(theirs.blocks() <= ours.len().div_ceil(512) + 8, "{name}");
    }
    assert!(fs::metadata(latest.join("sparse")).unwrap().blocks() < 1000);

    // The snapshot has the same name wherever it stands.
    let id = &shell.snapshots()[0][..8];
    assert_eq!(names(&mounted.place), ["hosts", "ids", "snapshots", "tags"]);
    let time = names(&mounted.place.join("snapshots")).swap_remove(0);
    for (folder, name) in
        [("snapshots", &*time), ("hosts/desk%2f1", &time), ("tags/daily", &time), ("ids", id)]
    {
        let folder = mounted.place.join(folder);
        assert_eq!(names(&folder), [name, "latest"], "{}", folder.display());
        assert_eq!(fs::read_link(folder.join("latest")).unwrap(), Path::new(name));
        let plain = folder.join(name).join(source.strip_prefix("/").unwrap()).join("plain");
        assert_eq!(fs::read(plain).unwrap(), noise(0, 900));
    }
    // Nothing can be changed, and what is not there stays so.
    let plain = latest.join("plain");
    assert_eq!(fs::write(&plain, "x").unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    assert_eq!(fs::remove_file(&plain).unwrap_err().kind(), io::ErrorKind::ReadOnlyFilesystem);
    for name in ["none", "plain/none", "a/b/c/deeper"] {
        assert!(fs::symlink_metadata(latest.join(name)).is_err(), "{name}");
    }
    assert_eq!(mounted.showing.end(), "");
    assert!(!mounted.is_mounted());
}

#[test]
fn a_mount_ends_cleanly_however_it_is_ended_and_is_never_left_behind() {
    let Some(shell) = shell_with(&[("file", 3000)]) else { return };
    // Unmounted from outside.
    let mut mounted = Mounted::start(&shell, &["--json"]);
    let ready: serde_json::Value = serde_json::from_str(&mounted.showing.ready).unwrap();
    assert_eq!(
        (ready["message_type"].as_str(), ready["mountpoint"].as_str()),
        (Some("mounted"), mounted.place.to_str())
    );
    assert!(Command::new("umount").arg(&mounted.place).status().unwrap().success());
    let (status, said) = mounted.showing.wait();
    assert_eq!((status.code(), said.as_str()), (Some(0), ""));

    // By each signal, also while a file is open.
    for signal in [Signal::INT, Signal::TERM, Signal::HUP] {
        let mut mounted = Mounted::start(&shell, &["--json"]);
        let mut file = File::open(mounted.latest(&shell.workshop.source()).join("file")).unwrap();
        mounted.showing.signal(signal);
        let (status, said) = mounted.showing.wait();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("while it was in use") && !said.contains("exit_error"), "{said}");
        assert!(!mounted.is_mounted());
        assert!(file.read(&mut [0; 10]).is_err());
        assert_eq!(names(&mounted.place), [""; 0]);
    }

    // What cannot be mounted on is said, and nothing is mounted.
    let repository = shell.repository();
    let missing = shell.workshop.room();
    for place in
        [&missing, &shell.workshop.source().join("file"), &repository, &shell.workshop.path().to_owned()]
    {
        let (_, said) = shell.run_to(shell.command().arg("mount").arg(place), 2);
        assert!(said.starts_with("error: ") && said.contains(place.to_str().unwrap()), "{said}");
    }
    let (_, said) = shell.run_to(shell.command().arg("mount").arg(shell.workshop.path()), 2);
    assert!(said.contains("the repository, or its cache"), "{said}");
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains(shell.workshop.path().to_str().unwrap()), "{mounts}");
}

#[test]
fn new_snapshots_appear_and_filters_hold() {
    let Some(shell) = shell_with(&[("file", 3000)]) else { return };
    let mut mounted = Mounted::start(&shell, &["--host", "other"]);
    assert_eq!(names(&mounted.place.join("snapshots")), [""; 0]);
    shell.run(shell.backup().args(["--host", "third"]));
    shell.run(shell.backup().args(["--host", "other"]));
    let begun = Instant::now();
    while names(&mounted.place.join("hosts")).is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(60), "no new snapshot appeared");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(names(&mounted.place.join("hosts")), ["other"]);
    assert_same_tree(&shell.workshop.source(), &mounted.latest(&shell.workshop.source()));
    mounted.showing.end();
}

#[test]
fn heavy_many_readers_at_random_places_read_what_was_saved() {
    let files = [("one", 30 << 20), ("two", 5 << 20), ("three", 70_000), ("four", (1 << 20) + 1)];
    let Some(shell) = shell_with(&files) else { return };
    let mut mounted = Mounted::start(&shell, &[]);
    let latest = mounted.latest(&shell.workshop.source());
    let contents: Vec<Vec<u8>> =
        files.iter().enumerate().map(|(seed, (_, bytes))| noise(seed as u64, *bytes)).collect();
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let (latest, contents) = (&latest, &contents);
            scope.spawn(move || {
                let mut dice = Dice::new(thread);
                for _ in 0..150 {
                    let number = dice.below(files.len() as u64) as usize;
                    let content = &contents[number];
                    let file = File::open(latest.join(files[number].0)).unwrap();
                    let offset = dice.below(content.len() as u64 + 10);
                    let mut buffer = vec![0; 1 + dice.below(300_000) as usize];
                    let expected = content.get(offset as usize..).unwrap_or_default();
                    let expected = &expected[..expected.len().min(buffer.len())];
                    let mut filled = 0;
                    while filled < expected.len() {
                        let count = file.read_at(&mut buffer[filled..], offset + filled as u64).unwrap();
                        assert_ne!(count, 0);
                        filled += count;
                    }
                    assert!(buffer[..filled] == *expected, "{number} at {offset}");
                }
            });
        }
    });
    for (number, content) in contents.iter().enumerate() {
        assert!(fs::read(latest.join(files[number].0)).unwrap() == *content);
    }
    mounted.showing.end();
}

#[test]
fn heavy_a_directory_of_a_hundred_thousand_files_can_be_listed() {
    const COUNT: usize = 100_000;
    let shell = Shell::default();
    if !Mounted::is_possible(&shell) {
        return;
    }
    shell.init();
    let folder = shell.workshop.source().join("many");
    fs::create_dir_all(&folder).unwrap();
    for number in 0..COUNT {
        File::create(folder.join(format!("{number:06}"))).unwrap();
    }
    shell.run(&mut shell.backup());
    let mut mounted = Mounted::start(&shell, &[]);
    let many = mounted.latest(&folder);
    let mut listed = 0;
    let mut inodes = std::collections::HashSet::new();
    for entry in fs::read_dir(&many).unwrap() {
        let entry = entry.unwrap();
        let metadata = entry.metadata().unwrap();
        assert_eq!(metadata.ino(), std::os::unix::fs::DirEntryExt::ino(&entry));
        inodes.insert(metadata.ino());
        listed += 1;
    }
    assert_eq!((listed, inodes.len()), (COUNT, COUNT));
    let names = names(&many);
    assert!(names.iter().enumerate().all(|(number, name)| *name == format!("{number:06}")));
    // Once more, without what the kernel remembers of it.
    let mut again = Mounted::start(&shell, &[]);
    let many = again.latest(&folder);
    let mut dice = Dice::new(1);
    for _ in 0..300 {
        let name = format!("{:06}", dice.below(2 * COUNT as u64));
        assert_eq!(many.join(&name).exists(), name.parse::<usize>().unwrap() < COUNT, "{name}");
    }
    again.showing.end();
    mounted.showing.end();
}

#[test]
fn damage_is_an_error_of_the_files_it_is_in() {
    let Some(shell) = shell_with(&[("whole", 300_000), ("sub/also whole", 700)]) else { return };
    let before = packs(&shell);
    let source = shell.workshop.source();
    fs::write(source.join("harmed"), noise(99, 200_000)).unwrap();
    shell.run(&mut shell.backup());
    let pack = packs(&shell).into_iter().find(|pack| !before.contains(pack)).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    for at in (1000..150_000).step_by(1000) {
        bytes[at] ^= 1;
    }
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();

    let mut mounted = Mounted::start(&shell, &[]);
    let latest = mounted.latest(&source);
    for _ in 0..3 {
        assert_eq!(fs::read(latest.join("harmed")).unwrap_err().raw_os_error(), Some(EIO));
    }
    assert_eq!(fs::metadata(latest.join("harmed")).unwrap().len(), 200_000);
    for name in ["whole", "sub/also whole"] {
        assert!(fs::read(latest.join(name)).unwrap() == fs::read(source.join(name)).unwrap(), "{name}");
    }
    let said = mounted.showing.end();
    let named = said.lines().filter(|line| line.contains("harmed")).count();
    assert_eq!(named, 1, "{said}");
    assert!(said.starts_with("error: /snapshots/2"), "{said}");
}

#[test]
fn modes_and_owners_decide_unless_that_is_switched_off() {
    let shell = Shell::default();
    if !Mounted::is_possible(&shell) {
        return;
    }
    shell.init();
    let source = shell.workshop.source();
    TreeSpec::files(&[("open", 10), ("secret", 10)]).write(&source);
    symlink("secret", source.join("link")).unwrap();
    for (name, mode) in [("", 0o755), ("open", 0o644), ("secret", 0o600)] {
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::set_permissions(shell.workshop.path(), fs::Permissions::from_mode(0o755)).unwrap();
    shell.run(&mut shell.backup());
    let reads = |mounted: &Mounted, name: &str| {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "cat"]);
        command.arg(mounted.latest(&source).join(name)).output().unwrap().status.success()
    };
    for (arguments, expected) in [
        (&[][..], [false, false, false]),
        (&["--allow-other"], [true, false, false]),
        (&["--allow-other", "--no-default-permissions"], [true, true, true]),
    ] {
        let mut mounted = Mounted::start(&shell, arguments);
        let found = ["open", "secret", "link"].map(|name| reads(&mounted, name));
        assert_eq!(found, expected, "{arguments:?}");
        mounted.showing.end();
    }
}
