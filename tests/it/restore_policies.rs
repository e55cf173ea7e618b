//! Restores over what is there: what is replaced, kept, deleted, compared, and never touched.

mod deletes;

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hasher};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use dr_core::{
    Case, Change, Context, Delete, ErrorKind, Event, Observer, Overwrite, Owner, RecordingObserver,
    RestoreOptions, RestoreReport, Snapshot, Writing,
};
use dr_tests::steps::{CancelAfter, Workshop, alone, backup, is_root, restored, skip};
use dr_tests::tree::trees;
use dr_tests::{Node, TestRepo, TreeSpec, assert_same_tree, noise};
use proptest::prelude::*;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, utimensat};

const POLICIES: [Overwrite; 4] =
    [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer, Overwrite::Never];
const TIME: i64 = 1_500_000_000;

/// A source, a repository and a target.
struct Place {
    workshop: Workshop,
    repo: TestRepo,
    target: PathBuf,
}

impl Place {
    fn new() -> Place {
        Place::at(Workshop::new())
    }

    fn at(workshop: Workshop) -> Place {
        let target = workshop.room();
        fs::create_dir(workshop.source()).unwrap();
        Place { workshop, repo: TestRepo::in_memory(), target }
    }

    fn source(&self, name: &str) -> PathBuf {
        self.workshop.source().join(name)
    }

    /// Where something of the source is restored to.
    fn there(&self, name: &str) -> PathBuf {
        restored(&self.target, &self.workshop.source()).join(name)
    }

    fn backup(&self) -> Snapshot {
        let report = backup(&self.repo.repository, &self.workshop.source()).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        self.repo.latest().unwrap()
    }

    fn restore(&self, options: &RestoreOptions) -> RestoreReport {
        self.restore_of(&self.repo.latest().unwrap(), options)
    }

    fn restore_of(&self, snapshot: &Snapshot, options: &RestoreOptions) -> RestoreReport {
        alone(&(), |ctx| self.repo.repository.restore(snapshot, &self.target, options, ctx)).unwrap()
    }

    fn assert_restored(&self) {
        assert_same_tree(&self.workshop.source(), &self.there(""));
    }
}

fn complete(report: RestoreReport) -> RestoreReport {
    assert!(report.is_complete(), "{:?}", report.problems);
    report
}

fn must_complete(report: RestoreReport) {
    let _ = complete(report);
}

fn set_time(path: &Path, seconds: i64) {
    let time = Timespec { tv_sec: seconds, tv_nsec: 7 };
    let times = Timestamps { last_access: time, last_modification: time };
    utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
}

/// Gives everything in a tree a time, deepest first.
fn stamp(path: &Path, seconds: i64) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::read_dir(path).unwrap().for_each(|entry| stamp(&entry.unwrap().path(), seconds));
    }
    set_time(path, seconds);
}

/// What the system says of a file, and a hash of what it holds.
type Seen = (Vec<i64>, u64);

/// Everything that the system says of every entry below a path, times of access of files included, and what they hold.
fn picture(path: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut entries = BTreeMap::new();
    let mut stack = vec![path.to_path_buf()];
    while let Some(path) = stack.pop() {
        let stat = fs::symlink_metadata(&path).unwrap();
        if stat.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let mut content = DefaultHasher::new();
        if stat.is_file() {
            content.write(&fs::read(&path).unwrap());
        }
        let said = [
            stat.ino() as i64,
            i64::from(stat.mode()),
            stat.nlink() as i64,
            i64::from(stat.uid()),
            stat.len() as i64,
            stat.mtime(),
            stat.mtime_nsec(),
            stat.ctime(),
            stat.ctime_nsec(),
        ];
        // Listing a directory, or reading where a link points, changes its time of access; nobody can ask for less.
        let access = if stat.is_file() { [stat.atime(), stat.atime_nsec()] } else { [0, 0] };
        entries.insert(path, (said.into_iter().chain(access).collect(), content.finish()));
    }
    entries
}

fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_policy_meets_whatever_stands_there() {
    let place = Place::new();
    fs::write(place.source("f"), "new content").unwrap();
    set_time(&place.source("f"), TIME);
    let snapshot = place.backup();
    let f = place.there("f");
    type Plant = fn(&Path);
    let plants: [(&str, Plant); 8] = [
        ("nothing", |_| {}),
        ("equal", |f| {
            fs::write(f, "new content").unwrap();
            set_time(f, TIME);
        }),
        ("looks equal", |f| {
            fs::write(f, "old content").unwrap();
            set_time(f, TIME);
        }),
        ("older", |f| {
            fs::write(f, "old").unwrap();
            set_time(f, TIME - 1);
        }),
        ("newer", |f| {
            fs::write(f, "old").unwrap();
            set_time(f, TIME + 1);
        }),
        ("read-only", |f| {
            fs::write(f, "old").unwrap();
            fs::set_permissions(f, fs::Permissions::from_mode(0o400)).unwrap();
            set_time(f, TIME - 1);
        }),
        ("unfinished", |f| {
            fs::write(f, "new con").unwrap();
            fs::set_permissions(f, fs::Permissions::from_mode(0o1600)).unwrap();
            set_time(f, TIME + 1);
        }),
        ("link", |f| {
            symlink("/dev/null", f).unwrap();
            set_time(f, TIME - 1);
        }),
    ];
    for overwrite in POLICIES {
        for writing in [Writing::Replace, Writing::InPlace] {
            for (what, plant) in plants {
                let _ = fs::remove_dir_all(&place.target);
                fs::create_dir_all(f.parent().unwrap()).unwrap();
                plant(&f);
                let before = fs::symlink_metadata(&f).map(|stat| (stat.ino(), stat.ctime_nsec())).ok();
                let mut options = RestoreOptions::new().overwrite(overwrite);
                options.writing = writing;
                let dry = complete(place.restore_of(&snapshot, &options.clone().dry_run()));
                assert_eq!(fs::symlink_metadata(&f).map(|stat| (stat.ino(), stat.ctime_nsec())).ok(), before);
                let report = complete(place.restore_of(&snapshot, &options));
                let counts =
                    |report: &RestoreReport| (report.files, report.replaced, report.unchanged, report.kept);
                assert_eq!(counts(&dry), counts(&report), "{overwrite:?} {what}");
                let kept = match overwrite {
                    Overwrite::Never => !matches!(what, "nothing" | "unfinished"),
                    Overwrite::IfNewer => matches!(what, "equal" | "looks equal" | "newer"),
                    _ => false,
                };
                let unchanged = match overwrite {
                    Overwrite::Always => what == "equal",
                    Overwrite::IfChanged => what == "equal" || what == "looks equal",
                    _ => false,
                };
                let expected = match (kept, unchanged, what) {
                    (true, ..) => (0, 0, 0, 1),
                    (_, true, _) => (0, 0, 1, 0),
                    (.., "nothing") => (1, 0, 0, 0),
                    _ => (1, 1, 0, 0),
                };
                assert_eq!(counts(&report), expected, "{overwrite:?} {writing:?} {what}");
                if !(kept || unchanged && what == "looks equal") {
                    assert_eq!(fs::read_to_string(&f).unwrap(), "new content", "{overwrite:?} {what}");
                    assert!(fs::symlink_metadata(&f).unwrap().is_file());
                    let (found, wanted) =
                        (fs::metadata(&f).unwrap(), fs::metadata(place.source("f")).unwrap());
                    assert_eq!((found.mode(), found.mtime()), (wanted.mode(), TIME), "{overwrite:?} {what}");
                }
                if matches!(overwrite, Overwrite::Always | Overwrite::IfChanged) && what != "looks equal" {
                    place.assert_restored();
                }
                assert_eq!(names(f.parent().unwrap()), ["f"]);
            }
        }
    }
}

#[test]
fn a_file_keeps_a_directory_out_and_a_directory_a_file() {
    let place = Place::new();
    TreeSpec::files(&[("d/below", 100), ("f", 100)]).write(&place.workshop.source());
    let snapshot = place.backup();
    for overwrite in POLICIES {
        let _ = fs::remove_dir_all(&place.target);
        fs::create_dir_all(place.there("f/held")).unwrap();
        fs::write(place.there("d"), "a file").unwrap();
        set_time(&place.there("d"), 4_000_000_000);
        set_time(&place.there("f"), 1);
        let report = place.restore_of(&snapshot, &RestoreOptions::new().overwrite(overwrite));
        let keeps = matches!(overwrite, Overwrite::Never | Overwrite::IfNewer);
        assert_eq!(place.there("d").is_file(), keeps, "{overwrite:?}");
        assert!(place.there("f/held").is_dir(), "nothing but '--delete' removes a directory");
        // `d` and what is below it, and `f` unless it was to be kept.
        let expected = match overwrite {
            Overwrite::Never => 2,
            Overwrite::IfNewer => 3,
            _ => 1,
        };
        assert_eq!(report.problem_count, expected, "{overwrite:?} {:?}", report.problems);
    }
    must_complete(place.restore_of(&snapshot, &RestoreOptions::new().delete(Delete::SurplusAnyway)));
    place.assert_restored();
}

#[test]
fn another_name_of_a_file_keeps_its_bytes() {
    for writing in [Writing::Replace, Writing::InPlace] {
        let place = Place::new();
        fs::write(place.source("f"), noise(1, 3000)).unwrap();
        place.backup();
        let elsewhere = place.workshop.room();
        fs::write(&elsewhere, "precious").unwrap();
        fs::create_dir_all(place.there("")).unwrap();
        fs::hard_link(&elsewhere, place.there("f")).unwrap();
        let before = fs::metadata(&elsewhere).unwrap().mode();
        let mut options = RestoreOptions::new();
        options.writing = writing;
        must_complete(place.restore(&options));
        place.assert_restored();
        assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "precious");
        // Nor does it get other metadata where the bytes are the right ones.
        fs::write(&elsewhere, noise(1, 3000)).unwrap();
        fs::set_permissions(&elsewhere, fs::Permissions::from_mode(0o666)).unwrap();
        fs::remove_file(place.there("f")).unwrap();
        fs::hard_link(&elsewhere, place.there("f")).unwrap();
        let report = complete(place.restore(&options));
        assert_eq!((report.replaced, report.bytes_reused), (1, 3000));
        place.assert_restored();
        assert_eq!(fs::metadata(&elsewhere).unwrap().mode() & 0o777, 0o666, "{before:o}");
    }
}

#[test]
fn names_of_one_file_are_one_file_again() {
    let place = Place::new();
    fs::write(place.source("a"), noise(1, 3000)).unwrap();
    fs::hard_link(place.source("a"), place.source("b")).unwrap();
    place.backup();
    must_complete(place.restore(&RestoreOptions::new()));
    for overwrite in [Overwrite::Always, Overwrite::IfChanged] {
        let report = complete(place.restore(&RestoreOptions::new().overwrite(overwrite)));
        assert_eq!((report.files, report.others, report.unchanged), (0, 0, 2));
    }
    fs::remove_file(place.there("b")).unwrap();
    fs::write(place.there("b"), "apart").unwrap();
    must_complete(place.restore(&RestoreOptions::new()));
    place.assert_restored();
    // The first name is kept, and is another file: the others do not become names of that.
    fs::remove_file(place.there("b")).unwrap();
    fs::write(place.there("a"), "other").unwrap();
    must_complete(place.restore(&RestoreOptions::new().overwrite(Overwrite::Never)));
    assert_eq!(fs::read(place.there("b")).unwrap(), noise(1, 3000));
    assert_eq!(fs::read_to_string(place.there("a")).unwrap(), "other");
}

#[test]
fn a_link_in_the_place_of_a_directory_is_never_followed() {
    let place = Place::new();
    TreeSpec::files(&[("d/e/f", 100), ("d/g", 5)]).write(&place.workshop.source());
    place.backup();
    let outside = place.workshop.room();
    TreeSpec::files(&[("e/f", 7), ("g", 3), ("h", 9)]).write(&outside);
    // The first look may change the times of access.
    let _ = picture(&outside);
    let before = picture(&outside);
    for overwrite in POLICIES {
        for delete in [Delete::Nothing, Delete::SurplusAnyway] {
            let _ = fs::remove_dir_all(&place.target);
            fs::create_dir_all(place.there("")).unwrap();
            symlink(&outside, place.there("d")).unwrap();
            set_time(&place.there("d"), TIME);
            let mut options = RestoreOptions::new().overwrite(overwrite).delete(delete);
            options.verify = true;
            drop(place.restore(&options.clone().dry_run()));
            let report = place.restore(&options);
            assert_eq!(picture(&outside), before, "{overwrite:?} {delete:?}");
            if overwrite == Overwrite::Never {
                assert!(!report.is_complete());
            } else {
                must_complete(report);
                assert_same_tree(&place.source("d"), &place.there("d"));
            }
        }
    }
}

#[test]
fn only_what_differs_is_fetched() {
    for writing in [Writing::Replace, Writing::InPlace] {
        let place = Place::new();
        let mut bytes = noise(1, 12 << 20);
        fs::write(place.source("f"), &bytes).unwrap();
        place.backup();
        fs::create_dir_all(place.there("")).unwrap();
        bytes[7 << 20] ^= 1;
        bytes.extend_from_slice(b"longer than before");
        fs::write(place.there("f"), &bytes).unwrap();
        let inode = fs::metadata(place.there("f")).unwrap().ino();
        let mut options = RestoreOptions::new();
        (options.writing, options.verify) = (writing, true);
        let report = complete(place.restore(&options));
        assert!(report.bytes_reused > 8 << 20 && report.bytes_reused < 12 << 20, "{report:?}");
        place.assert_restored();
        let is_same = fs::metadata(place.there("f")).unwrap().ino() == inode;
        assert_eq!(is_same, writing == Writing::InPlace);
    }
}

#[test]
fn what_is_right_is_left_alone() {
    let place = Place::at(Workshop::on_disk());
    let mut tree = TreeSpec::files(&[("d/a", 100), ("d/e/b", 3 << 20), ("c", 0)]);
    tree.put("link", Node::Symlink(b"c".to_vec()));
    tree.put("pipe", Node::Fifo);
    tree.write(&place.workshop.source());
    place.backup();
    must_complete(place.restore(&RestoreOptions::new()));
    let before = picture(&place.there(""));
    for overwrite in POLICIES {
        for writing in [Writing::Replace, Writing::InPlace] {
            let mut options = RestoreOptions::new().overwrite(overwrite);
            options.writing = writing;
            let report = complete(place.restore(&options));
            assert_eq!((report.files, report.others, report.bytes), (0, 0, 0), "{overwrite:?}");
            assert_eq!(report.unchanged + report.kept, 5, "{overwrite:?}");
            let after = picture(&place.there(""));
            let without_access = |picture: &BTreeMap<PathBuf, Seen>| -> Vec<_> {
                picture
                    .iter()
                    .map(|(path, (said, content))| (path.clone(), said[..9].to_vec(), *content))
                    .collect()
            };
            assert_eq!(without_access(&after), without_access(&before), "{overwrite:?}");
        }
    }
    // Metadata alone is mended without writing the file.
    fs::set_permissions(place.there("d/a"), fs::Permissions::from_mode(0o7)).unwrap();
    let report = complete(place.restore(&RestoreOptions::new().overwrite(Overwrite::IfChanged)));
    assert_eq!((report.files, report.unchanged), (0, 5));
    place.assert_restored();
}

#[test]
fn a_dry_run_touches_nothing_and_says_what_a_restore_does() {
    let place = Place::at(Workshop::on_disk());
    let mut tree = TreeSpec::files(&[("same", 5000), ("changed", 2 << 20), ("new/deep", 10), ("d/x", 1)]);
    tree.put("link", Node::Symlink(b"c".to_vec()));
    tree.write(&place.workshop.source());
    let snapshot = place.backup();
    // Nothing is there, and nothing is made.
    let dry = complete(place.restore(&RestoreOptions::new().dry_run()));
    assert_eq!((dry.files, dry.others, dry.replaced, dry.bytes), (4, 1, 0, 5011 + (2 << 20)));
    assert!(!place.target.exists());

    let mut there = TreeSpec::files(&[("same", 5000), ("changed", 3 << 20), ("surplus/deep/f", 10)]);
    there.put("d", Node::Symlink(b"/".to_vec()));
    there.put("link", Node::Symlink(b"other".to_vec()));
    there.write(&place.there(""));
    symlink("/", place.there("surplus/to-root")).unwrap();
    // The first look may change the times of access.
    let _ = picture(&place.target);
    let before = picture(&place.target);
    let options = RestoreOptions::new().delete(Delete::Surplus);
    let observer = RecordingObserver::new();
    let dry = alone(&observer, |ctx| {
        place.repo.repository.restore(&snapshot, &place.target, &options.clone().dry_run(), ctx)
    });
    let dry = complete(dry.unwrap());
    assert_eq!(picture(&place.target), before);
    let real = complete(place.restore(&options));
    place.assert_restored();
    let counts = |report: &RestoreReport| {
        (report.files, report.others, report.replaced, report.unchanged, report.deleted, report.bytes)
    };
    assert_eq!(counts(&dry), counts(&real));
    assert_eq!((dry.deleted, dry.replaced, dry.unchanged), (4, 2, 1), "{dry:?}");
    let done = |wanted: Change| {
        let is_one = |event: &Event| match event {
            Event::EntryDone { path, change, .. } if *change == wanted => Some(path.clone()),
            _ => None,
        };
        observer.events().iter().filter_map(is_one).collect::<Vec<_>>()
    };
    let path = |name: &str| place.source(name).as_os_str().as_bytes().to_vec();
    assert_eq!(done(Change::Replaced).len(), 2);
    assert!(done(Change::Deleted).contains(&path("surplus/deep/f")), "{:?}", done(Change::Deleted));
    assert!(!done(Change::Deleted).contains(&path("d")));
}

fn add(patterns: &mut dr_core::Patterns, pattern: &str) {
    patterns.add(pattern.as_bytes(), Case::Sensitive).unwrap();
}

#[test]
fn only_what_is_selected_is_restored_with_what_leads_there() {
    let place = Place::new();
    TreeSpec::files(&[("a/b/x.txt", 5), ("a/b/y.dat", 5), ("a/c/z.dat", 5), ("top.txt", 3), ("K/UP.TXT", 2)])
        .write(&place.workshop.source());
    fs::create_dir(place.source("empty")).unwrap();
    fs::set_permissions(place.source("a"), fs::Permissions::from_mode(0o751)).unwrap();
    stamp(&place.workshop.source(), TIME);
    place.backup();
    let found = |options: &RestoreOptions| {
        let _ = fs::remove_dir_all(&place.target);
        let report = complete(place.restore(options));
        let all = picture(&place.there(""));
        let files = all.keys().filter(|path| path.is_file()).count();
        assert_eq!(report.files as usize, files);
        let relative =
            |path: &PathBuf| path.strip_prefix(place.there("")).unwrap().to_str().unwrap().to_owned();
        all.keys().map(relative).filter(|path| !path.is_empty()).collect::<Vec<_>>()
    };
    let mut options = RestoreOptions::new();
    add(&mut options.selection.include, "*.txt");
    assert_eq!(found(&options), ["a", "a/b", "a/b/x.txt", "top.txt"]);
    let a = fs::metadata(place.there("a")).unwrap();
    assert_eq!((a.mode() & 0o777, a.mtime()), (0o751, TIME), "what leads there has its metadata");
    options.selection.include.add(b"*.txt", Case::Insensitive).unwrap();
    assert_eq!(found(&options), ["K", "K/UP.TXT", "a", "a/b", "a/b/x.txt", "top.txt"]);
    add(&mut options.selection.exclude, "b/");
    assert_eq!(found(&options), ["K", "K/UP.TXT", "top.txt"]);
    let mut options = RestoreOptions::new();
    add(&mut options.selection.include, place.source("a").to_str().unwrap());
    add(&mut options.selection.exclude, "*.dat");
    assert_eq!(found(&options), ["a", "a/b", "a/b/x.txt", "a/c"]);
    let mut options = RestoreOptions::new();
    add(&mut options.selection.exclude, "/**/b");
    assert_eq!(found(&options), ["K", "K/UP.TXT", "a", "a/c", "a/c/z.dat", "empty", "top.txt"]);
    let mut options = RestoreOptions::new();
    add(&mut options.selection.include, place.source("a").to_str().unwrap());
    add(&mut options.selection.include, &format!("!{}", place.source("a/b/y.dat").to_str().unwrap()));
    assert_eq!(found(&options), ["a", "a/b", "a/b/x.txt", "a/c", "a/c/z.dat"]);
    let mut options = RestoreOptions::new();
    add(&mut options.selection.include, "nothing of this name");
    let _ = fs::remove_dir_all(&place.target);
    let report = complete(place.restore(&options));
    assert_eq!((report.files, report.directories), (0, 0));
    assert_eq!(names(&place.target), Vec::<String>::new());
}

/// Writes to the target when the last entry is planned, and no file is fetched.
#[derive(Debug)]
struct Meddler {
    files: Vec<PathBuf>,
    is_done: AtomicBool,
}

impl Observer for Meddler {
    fn event(&self, event: &Event) {
        let is_last = matches!(event, Event::EntryDone { path, .. } if path.ends_with(b"/z"));
        if is_last && !self.is_done.swap(true, Ordering::Relaxed) {
            self.files.iter().for_each(|file| fs::write(file, "precious").unwrap());
        }
    }
}

#[test]
fn what_appears_or_changes_during_a_restore_is_kept() {
    let place = Place::new();
    TreeSpec::files(&[("large", 2 << 20), ("large_old", 2 << 20), ("old", 50), ("small", 50), ("quiet", 50)])
        .write(&place.workshop.source());
    symlink("nowhere", place.source("z")).unwrap();
    let snapshot = place.backup();
    for overwrite in [Overwrite::Always, Overwrite::IfNewer, Overwrite::Never] {
        let _ = fs::remove_dir_all(&place.target);
        fs::create_dir_all(place.there("")).unwrap();
        let mut changed = vec!["large", "small"];
        if overwrite != Overwrite::Never {
            changed.extend(["large_old", "old"]);
            for old in ["large_old", "old", "quiet"] {
                fs::write(place.there(old), "old").unwrap();
                set_time(&place.there(old), 1000);
            }
        }
        let files = changed.iter().map(|name| place.there(name)).collect();
        let meddler = Meddler { files, is_done: AtomicBool::new(false) };
        let options = RestoreOptions::new().overwrite(overwrite);
        let report =
            alone(&meddler, |ctx| place.repo.repository.restore(&snapshot, &place.target, &options, ctx))
                .unwrap();
        assert_eq!(report.problem_count, changed.len() as u64, "{overwrite:?} {:?}", report.problems);
        for name in changed {
            assert_eq!(fs::read(place.there(name)).unwrap(), b"precious", "{overwrite:?} {name}");
        }
        assert_eq!(fs::read(place.there("quiet")).unwrap(), fs::read(place.source("quiet")).unwrap());
        // Nothing is left under a temporary name.
        let expected = ["large", "large_old", "old", "quiet", "small", "z"];
        assert_eq!(names(&place.there("")), expected);
    }
}

#[test]
fn a_directory_stays_until_what_takes_its_place_is_there() {
    let place = Place::new();
    fs::write(place.source("f"), noise(1, 3000)).unwrap();
    rustix::fs::mknodat(CWD, place.source("p"), rustix::fs::FileType::Fifo, rustix::fs::Mode::RUSR, 0)
        .unwrap();
    place.backup();
    TreeSpec::files(&[("f/below", 5), ("p/below", 5)]).write(&place.there(""));
    let mut options = RestoreOptions::new().delete(Delete::SurplusAnyway);
    options.specials = false;
    let report = place.restore(&options);
    assert_eq!((report.problem_count, report.files, report.replaced, report.deleted), (1, 1, 1, 2));
    assert!(place.there("p/below").exists() && place.there("f").is_file());
    options.specials = true;
    must_complete(place.restore(&options));
    place.assert_restored();
}

#[test]
fn the_mode_of_unfinished_files_may_be_a_files_own() {
    let place = Place::new();
    fs::write(place.source("f"), "new").unwrap();
    fs::set_permissions(place.source("f"), fs::Permissions::from_mode(0o1600)).unwrap();
    place.backup();
    must_complete(place.restore(&RestoreOptions::new()));
    place.assert_restored();
    fs::write(place.there("f"), "precious").unwrap();
    fs::set_permissions(place.there("f"), fs::Permissions::from_mode(0o1600)).unwrap();
    assert_eq!(complete(place.restore(&RestoreOptions::new().overwrite(Overwrite::Never))).kept, 1);
    assert_eq!(fs::read(place.there("f")).unwrap(), b"precious");
}

#[test]
fn directories_that_were_made_writable_get_their_mode_back() {
    let place = Place::new();
    TreeSpec::files(&[("d/f", 5)]).write(&place.workshop.source());
    place.backup();
    TreeSpec::files(&[("d/other", 5), ("s/keep", 5), ("s/gone", 5)]).write(&place.there(""));
    let mode = |name: &str| fs::metadata(place.there(name)).unwrap().permissions().mode() & 0o7777;
    for name in ["d", "s"] {
        fs::set_permissions(place.there(name), fs::Permissions::from_mode(0o500)).unwrap();
    }
    let mut options = RestoreOptions::new().delete(Delete::Surplus);
    options.permissions = false;
    add(&mut options.selection.exclude, "keep");
    let report = complete(place.restore(&options));
    assert_eq!((report.deleted, mode("d"), mode("s")), (2, 0o500, 0o500));
    assert!(place.there("s/keep").exists() && place.there("d/f").exists());
    for name in ["d", "s"] {
        fs::set_permissions(place.there(name), fs::Permissions::from_mode(0o700)).unwrap();
    }
}

#[test]
fn zeros_become_holes() {
    for writing in [Writing::Replace, Writing::InPlace] {
        let place = Place::at(Workshop::on_disk());
        let mut bytes = vec![0; 9 << 20];
        bytes[5 << 20..(5 << 20) + 100].fill(1);
        fs::write(place.source("zeros"), &bytes).unwrap();
        fs::write(place.source("short"), vec![0; 100_000]).unwrap();
        place.backup();
        let mut options = RestoreOptions::new();
        (options.sparse, options.writing, options.verify) = (true, writing, true);
        let is_sparse = || {
            place.assert_restored();
            let on_disk = |name: &str| fs::metadata(place.there(name)).unwrap().blocks() * 512;
            assert!(on_disk("zeros") < 1 << 20 && on_disk("short") < 50_000, "{}", on_disk("zeros"));
        };
        must_complete(place.restore(&options));
        is_sparse();
        // Also where something else was.
        fs::write(place.there("zeros"), noise(3, 10 << 20)).unwrap();
        fs::write(place.there("short"), noise(3, 10)).unwrap();
        must_complete(place.restore(&options));
        is_sparse();
    }
}

#[test]
fn holes_come_back_over_whatever_was_there() {
    let place = Place::at(Workshop::on_disk());
    let file = File::create(place.source("f")).unwrap();
    for (at, byte) in [(2u64 << 20, 1u8), (5 << 20, 2)] {
        file.write_all_at(&vec![byte; 100_000], at).unwrap();
    }
    file.set_len(8 << 20).unwrap();
    drop(file);
    place.backup();
    let whole = fs::read(place.source("f")).unwrap();
    for writing in [Writing::Replace, Writing::InPlace] {
        // Equal data with something in a hole; all other; too short; too long.
        let mut olds = vec![whole.clone(), noise(1, 8 << 20), whole[..3 << 20].to_vec(), noise(2, 9 << 20)];
        olds[0][1 << 20] = 9;
        for old in olds {
            fs::create_dir_all(place.there("")).unwrap();
            let _ = fs::remove_file(place.there("f"));
            fs::write(place.there("f"), old).unwrap();
            let mut options = RestoreOptions::new();
            (options.writing, options.verify) = (writing, true);
            must_complete(place.restore(&options));
            place.assert_restored();
            assert!(fs::metadata(place.there("f")).unwrap().blocks() * 512 < 1 << 20);
        }
    }
}

/// Spoils a file when it is done.
#[derive(Debug)]
struct Spoiler(PathBuf, AtomicBool);

impl Observer for Spoiler {
    fn event(&self, event: &Event) {
        if let Event::EntryDone { path, .. } = event
            && path.ends_with(b"/f")
            && !self.1.swap(true, Ordering::SeqCst)
        {
            let file = OpenOptions::new().write(true).open(&self.0).unwrap();
            let modified = file.metadata().unwrap().modified().unwrap();
            file.write_all_at(b"!", 1 << 20).unwrap();
            file.set_modified(modified).unwrap();
        }
    }
}

#[test]
fn what_is_read_back_is_compared() {
    let place = Place::new();
    TreeSpec::files(&[("f", 3 << 20), ("g", 100), ("h", 0)]).write(&place.workshop.source());
    fs::hard_link(place.source("g"), place.source("g2")).unwrap();
    let snapshot = place.backup();
    let mut options = RestoreOptions::new();
    options.verify = true;
    let report = complete(place.restore(&options));
    assert_eq!((report.verified, report.bytes_verified, report.mismatches), (4, (3 << 20) + 200, 0));
    fs::remove_dir_all(&place.target).unwrap();
    let spoiler = Spoiler(place.there("f"), AtomicBool::new(false));
    let report =
        alone(&spoiler, |ctx| place.repo.repository.restore(&snapshot, &place.target, &options, ctx))
            .unwrap();
    assert_eq!((report.mismatches, report.problem_count), (1, 1), "{report:?}");
    assert!(report.problems[0].path.ends_with(b"/f"));
    // What looks equal is found too, and a restore that compares mends it.
    options.overwrite = Overwrite::IfChanged;
    assert_eq!(place.restore(&options).mismatches, 1);
    options.overwrite = Overwrite::Always;
    assert_eq!(complete(place.restore(&options)).mismatches, 0);
    place.assert_restored();
    // What was to be left alone is not compared.
    fs::write(place.there("g"), "other").unwrap();
    options.overwrite = Overwrite::Never;
    let report = complete(place.restore(&options));
    assert_eq!((report.kept, report.verified), (4, 0));
}

#[test]
fn a_cancelled_restore_leaves_no_part_of_a_file_and_the_next_goes_on() {
    let place = Place::new();
    let mut tree = TreeSpec::files(&[("large", 24 << 20), ("replaced", 300_000)]);
    (0..20).for_each(|n| tree.put(&format!("s{n}"), Node::File { seed: n, bytes: 20_000 }));
    tree.write(&place.workshop.source());
    place.backup();
    let latest = place.repo.latest().unwrap();
    let mut reused = 0;
    for count in [1, 8, 12, 18, 20, 24] {
        let _ = fs::remove_dir_all(&place.target);
        fs::create_dir_all(place.there("")).unwrap();
        fs::write(place.there("replaced"), "old").unwrap();
        let observer = CancelAfter::new(count, |event| matches!(event, Event::Progress { .. }));
        let ctx = Context::new(&observer, &observer.cancel).with_parallelism(1);
        let outcome = place.repo.repository.restore(&latest, &place.target, &RestoreOptions::new(), &ctx);
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::Cancelled);
        for name in names(&place.there("")) {
            let found = fs::read(place.there(&name)).unwrap();
            let is_whole = place.source(&name).is_file() && found == fs::read(place.source(&name)).unwrap();
            let is_old = name == "replaced" && found == b"old";
            let is_temporary = name.starts_with(".dr-restore-") && found.len() > 4096;
            assert!(is_whole || is_old || is_temporary, "{count}: {name}");
        }
        let report = complete(place.restore(&RestoreOptions::new()));
        reused += report.bytes_reused;
        place.assert_restored();
    }
    assert!(reused > 1 << 20, "the large file was gone on with");
}

#[test]
fn what_other_restores_left_is_removed() {
    let place = Place::new();
    TreeSpec::files(&[("d/f", 5)]).write(&place.workshop.source());
    place.backup();
    must_complete(place.restore(&RestoreOptions::new()));
    let temporary = format!(".dr-restore-{}", "0f".repeat(16));
    for folder in [place.target.clone(), place.there(""), place.there("d")] {
        fs::write(folder.join(&temporary), "left").unwrap();
    }
    must_complete(place.restore(&RestoreOptions::new().dry_run()));
    assert!(place.target.join(&temporary).exists());
    must_complete(place.restore(&RestoreOptions::new()));
    assert!(!place.target.join(&temporary).exists());
    place.assert_restored();
    // One that was backed up is a file as any other.
    fs::write(place.source("d").join(&temporary), "backed up").unwrap();
    place.backup();
    for _ in 0..2 {
        must_complete(place.restore(&RestoreOptions::new()));
        place.assert_restored();
    }
}

#[test]
fn paths_go_where_the_caller_wants_them() {
    let place = Place::new();
    TreeSpec::files(&[("a/f", 5), ("a/g/h", 6), ("b", 7)]).write(&place.workshop.source());
    let snapshot = place.backup();
    let from = |name: &str| place.source(name).as_os_str().as_bytes().to_vec();
    let mut options = RestoreOptions::new();
    options.moved =
        vec![(from("a"), b"x/y".to_vec()), (from("a/g"), b"/z".to_vec()), (from("b"), b"c".to_vec())];
    options.verify = true;
    for _ in 0..2 {
        must_complete(place.restore(&options));
        assert_same_tree(&place.source("a/g"), &place.target.join("z"));
        assert_eq!(fs::read(place.target.join("x/y/f")).unwrap(), fs::read(place.source("a/f")).unwrap());
        assert_eq!(fs::read(place.target.join("c")).unwrap(), fs::read(place.source("b")).unwrap());
        assert_eq!(names(&place.there("")), Vec::<String>::new());
        options.delete = Delete::Surplus;
    }
    let kept = restored(&place.target, &place.workshop.source()).join("b");
    let kept = kept.strip_prefix(&place.target).unwrap().as_os_str().as_bytes().to_vec();
    for wrong in [(from("none"), b"x".to_vec()), (from("a"), b"../x".to_vec()), (from("a"), kept)] {
        options.moved = vec![wrong];
        assert!(
            alone(&(), |ctx| place.repo.repository.restore(&snapshot, &place.target, &options, ctx)).is_err()
        );
    }
}

#[test]
fn owners_are_mapped_and_metadata_is_left_out() {
    let place = Place::at(Workshop::on_disk());
    fs::write(place.source("f"), "x").unwrap();
    rustix::fs::lsetxattr(place.source("f"), "user.a", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    fs::set_permissions(place.source("f"), fs::Permissions::from_mode(0o755)).unwrap();
    set_time(&place.source("f"), TIME);
    place.backup();
    let mut options = RestoreOptions::new();
    (options.permissions, options.times, options.xattrs) = (false, false, false);
    must_complete(place.restore(&options));
    let found = fs::metadata(place.there("f")).unwrap();
    assert_eq!(found.mode() & 0o7777, 0o600);
    assert_ne!(found.mtime(), TIME);
    let listed = rustix::fs::llistxattr(place.there("f"), &mut [0u8; 256]).unwrap();
    assert_eq!(listed, 0);
    must_complete(place.restore(&RestoreOptions::new()));
    place.assert_restored();
    if !is_root() {
        skip("owners_are_mapped_and_metadata_is_left_out", "needs root");
        return;
    }
    let mut options = RestoreOptions::new();
    options.users = vec![(Owner::Name("root".to_owned()), Owner::Number(12_345))];
    options.groups = vec![(Owner::Number(0), Owner::Number(54_321))];
    must_complete(place.restore(&options));
    let found = fs::metadata(place.there("f")).unwrap();
    assert_eq!((found.uid(), found.gid()), (12_345, 54_321));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn heavy_any_tree_over_any_other_gives_the_new_one(first in trees(), second in trees()) {
        let place = Place::new();
        first.write(&place.workshop.source());
        stamp(&place.workshop.source(), TIME);
        let first = place.backup();
        second.write(&place.workshop.source());
        stamp(&place.workshop.source(), TIME + 5);
        let second = place.backup();
        for overwrite in [Overwrite::Always, Overwrite::IfChanged, Overwrite::IfNewer] {
            for writing in [Writing::Replace, Writing::InPlace] {
                must_complete(place.restore_of(&first, &RestoreOptions::new()));
                let mut options = RestoreOptions::new().overwrite(overwrite).delete(Delete::SurplusAnyway);
                (options.writing, options.sparse, options.verify) = (writing, writing == Writing::InPlace, true);
                must_complete(place.restore_of(&second, &options));
                place.assert_restored();
                let again = complete(place.restore_of(&second, &options));
                prop_assert_eq!((again.files, again.others, again.deleted), (0, 0, 0));
                fs::remove_dir_all(&place.target).unwrap();
            }
        }
    }
}
