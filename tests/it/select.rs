//! What a backup leaves out because its caller said so.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::{
    BackupOptions, BackupReport, Case, Change, Entry, Event, Exclusion, LocalTree, LocalTreeOptions, Match,
    Parent, PathKind, Patterns, ProblemKind, RecordingObserver, SelectedTree, Selection, Snapshot, Source,
    SourceDirectory, SourceFile, SourceItem, TagFile,
};
use dr_tests::disk::SmallDisk;
use dr_tests::memory_source::{MemoryFile, MemorySource, SharedSource};
use dr_tests::steps::{Dice, Workshop, alone, options, skip};
use dr_tests::{Node, TestRepo, TreeSpec};

mod git;

/// A repository and room for a source.
struct Fixture {
    workshop: Workshop,
    repo: TestRepo,
}

/// What a backup left of a source.
struct Outcome {
    report: BackupReport,
    /// What was saved below the source, without what leads there.
    saved: BTreeSet<String>,
    /// What was left out, and why.
    excluded: Vec<(String, Exclusion)>,
    warnings: Vec<(String, String)>,
    /// What was done with each entry below the source, and with the source itself.
    done: Vec<(String, Change)>,
}

fn patterns(lines: &[&str]) -> Patterns {
    let mut patterns = Patterns::new();
    lines.iter().for_each(|line| patterns.add(line.as_bytes(), Case::Sensitive).unwrap());
    patterns
}

fn excluding(lines: &[&str]) -> Selection {
    Selection::new().patterns(patterns(lines))
}

fn set(paths: &[&str]) -> BTreeSet<String> {
    paths.iter().map(|path| (*path).to_owned()).collect()
}

fn put(path: PathBuf, content: &[u8]) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

impl Fixture {
    fn new(files: &[&str]) -> Fixture {
        Fixture::within(Workshop::new(), files)
    }

    fn within(workshop: Workshop, files: &[&str]) -> Fixture {
        let fixture = Fixture { workshop, repo: TestRepo::in_memory() };
        for file in files {
            put(fixture.source().join(file), file.as_bytes());
        }
        fixture
    }

    fn source(&self) -> PathBuf {
        self.workshop.source()
    }

    fn backup(&self, selection: Selection) -> Outcome {
        self.backup_of(&[self.source()], selection, &options())
    }

    fn backup_of(&self, paths: &[PathBuf], selection: Selection, options: &BackupOptions) -> Outcome {
        let tree = LocalTree::open(paths, LocalTreeOptions::default()).unwrap();
        let tree = SelectedTree::new(Box::new(tree), selection);
        let seen = RecordingObserver::new();
        self.repo.clock.advance_ms(60_000);
        let report = alone(&seen, |ctx| self.repo.repository.backup(&tree, options, ctx)).unwrap();
        let outcome = self.outcome(report, &seen);
        assert_eq!(outcome.report.entries_excluded, outcome.excluded.len() as u64);
        assert_eq!(outcome.report.warning_count, outcome.warnings.len() as u64);
        outcome
    }

    fn outcome(&self, report: BackupReport, seen: &RecordingObserver) -> Outcome {
        let (mut excluded, mut warnings, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for event in seen.events() {
            match event {
                Event::Excluded { path, reason } => excluded.push((self.shown(&path), reason)),
                Event::Warning { path, detail } => warnings.push((self.shown(&path), detail)),
                Event::EntryDone { path, change, .. } if !self.shown(&path).starts_with('/') => {
                    done.push((self.shown(&path), change));
                }
                _ => {}
            }
        }
        let saved = match report.snapshot {
            Some(_) => self.saved(&self.repo.latest().unwrap()),
            None => BTreeSet::new(),
        };
        Outcome { report, saved, excluded, warnings, done }
    }

    /// The source as the newest snapshot holds it: what leads there may change meanwhile.
    fn entry(&self) -> Entry {
        let mut found = None;
        let mut visit = |_: &[u8], entry: dr_core::Result<&Entry>| {
            found.get_or_insert(entry.unwrap().clone());
            Ok(())
        };
        let source = self.source();
        let snapshot = self.repo.latest().unwrap();
        self.repo.repository.list(&snapshot, source.as_os_str().as_bytes(), &mut visit).unwrap();
        found.unwrap()
    }

    /// What a snapshot holds below the source.
    fn saved(&self, snapshot: &Snapshot) -> BTreeSet<String> {
        let mut saved = BTreeSet::new();
        let mut visit = |path: &[u8], entry: dr_core::Result<&Entry>| {
            entry.unwrap();
            let shown = self.shown(path);
            if !shown.is_empty() && !shown.starts_with('/') {
                saved.insert(shown);
            }
            Ok(())
        };
        self.repo.repository.list(snapshot, b"/", &mut visit).unwrap();
        saved
    }

    /// A path from the source on; the whole path where it is not below.
    fn shown(&self, path: &[u8]) -> String {
        let source = self.source();
        let own = match path.strip_prefix(source.as_os_str().as_bytes()) {
            Some(b"") => b"",
            Some([b'/', rest @ ..]) => rest,
            _ => path,
        };
        own.escape_ascii().to_string().replace("\\\\", "\\")
    }
}

#[test]
fn select_leaves_out_what_patterns_exclude_and_counts_it() {
    let fixture = Fixture::new(&[
        "a.txt",
        "a.tmp",
        "keep.tmp",
        "node_modules/x/y",
        "src/b.tmp",
        "src/c",
        "src/node_modules",
    ]);
    let outcome = fixture.backup(excluding(&["*.tmp", "!keep.tmp", "node_modules/"]));
    assert_eq!(outcome.saved, set(&["a.txt", "keep.tmp", "src", "src/c", "src/node_modules"]));
    assert!(outcome.report.is_complete());
    assert_eq!(outcome.report.totals.files, 4);
    let pattern = |text: &str| Exclusion::Pattern(text.as_bytes().to_vec());
    let expected = [("a.tmp", "*.tmp"), ("node_modules", "node_modules/"), ("src/b.tmp", "*.tmp")];
    assert_eq!(outcome.excluded, expected.map(|(path, text)| (path.to_owned(), pattern(text))));
    fixture.repo.assert_intact();
}

#[test]
fn select_finds_names_in_any_case_and_of_any_bytes() {
    let fixture = Fixture::new(&["A.JPG", "b.jpg", "c.txt"]);
    let odd = std::ffi::OsStr::from_bytes(b"\xFFodd\n");
    fs::write(fixture.source().join(odd), "x").unwrap();
    let mut insensitive = Patterns::new();
    insensitive.add(b"*.Jpg", Case::Insensitive).unwrap();
    insensitive.add(b"\xFF*\n", Case::Sensitive).unwrap();
    assert_eq!(fixture.backup(Selection::new().patterns(insensitive)).saved, set(&["c.txt"]));
    assert_eq!(fixture.backup(excluding(&["*.Jpg"])).saved.len(), 4);
}

#[test]
fn select_brings_back_what_is_named_below_what_is_left_out() {
    let fixture = Fixture::new(&["cache/a", "cache/keep/b", "cache/keep/c.tmp", "cache/other/d"]);
    let source = fixture.source();
    let source = source.to_str().unwrap();
    let outcome =
        fixture.backup(excluding(&[&format!("{source}/cache"), &format!("!{source}/cache/keep"), "*.tmp"]));
    assert_eq!(outcome.saved, set(&["cache", "cache/keep", "cache/keep/b"]));
    assert!(outcome.report.is_complete());
    let names: Vec<&str> = outcome.excluded.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(names, ["cache/a", "cache/other", "cache/keep/c.tmp"]);
    assert_eq!(outcome.excluded[0].1, Exclusion::Pattern(format!("{source}/cache").into_bytes()));
    fixture.repo.assert_intact();
}

#[test]
fn select_never_leaves_out_what_was_named() {
    let fixture =
        Fixture::new(&["node_modules/a", "node_modules/b.tmp", "x/deep/inner.tmp", "x/deep/other", "x/y"]);
    let source = fixture.source();
    let selection = || excluding(&["node_modules", "*.tmp", "x", "source"]);
    let named = [source.join("node_modules")];
    let outcome = fixture.backup_of(&named, selection(), &options());
    assert_eq!(outcome.saved, set(&["node_modules", "node_modules/a"]));

    // Below another that is named, and below what is left out, too.
    let named = [source.clone(), source.join("x/deep/inner.tmp")];
    let outcome = fixture.backup_of(&named, selection(), &options());
    assert_eq!(outcome.saved, set(&["x", "x/deep", "x/deep/inner.tmp"]));
    assert!(outcome.report.is_complete());

    // Whatever is said of it: by a tag, its length, or a file of patterns beside it.
    put(source.join("x/deep/NOBACKUP"), b"");
    put(source.join("x/deep/.drignore"), b"inner.tmp\n");
    let selection = Selection::new().tag_file(TagFile::new("NOBACKUP", "").unwrap()).file_bytes_max(0);
    let outcome = fixture.backup_of(&named, selection.ignore_file(".drignore"), &options());
    assert!(outcome.saved.contains("x/deep/inner.tmp") && !outcome.saved.contains("x/deep/other"));
}

#[test]
fn select_keeps_of_a_tagged_directory_the_tag_alone() {
    let signature = b"Signature: 8a477f597d28d172789f06886806bc55\n# more";
    let fixture =
        Fixture::new(&["good/data", "good/below/data", "bad/data", "short/data", "link/data", "none/data"]);
    let source = fixture.source();
    put(source.join("good/CACHEDIR.TAG"), signature);
    put(source.join("bad/CACHEDIR.TAG"), b"Signature: 8a477f597d28d172789f06886806bc56");
    put(source.join("short/CACHEDIR.TAG"), &signature[..20]);
    symlink("../good/CACHEDIR.TAG", source.join("link/CACHEDIR.TAG")).unwrap();
    let outcome = fixture.backup(Selection::new().tag_file(TagFile::cache()));
    let missing = ["good/data", "good/below", "good/below/data"];
    assert!(missing.iter().all(|path| !outcome.saved.contains(*path)), "{:?}", outcome.saved);
    for path in ["good/CACHEDIR.TAG", "bad/data", "short/data", "link/data", "none/data"] {
        assert!(outcome.saved.contains(path), "{path}");
    }
    let tag = Exclusion::TagFile(b"CACHEDIR.TAG".to_vec());
    let excluded = ["good/below", "good/data"].map(|path| (path.to_owned(), tag.clone()));
    assert_eq!(outcome.excluded, excluded);
    assert!(outcome.report.is_complete());
}

#[test]
fn select_looks_for_the_header_of_a_tag_where_one_is_given() {
    let fixture = Fixture::new(&["a/data", "b/data", "c/data", "d/data"]);
    let source = fixture.source();
    put(source.join("a/.nobackup"), b"yes: really");
    put(source.join("b/.nobackup"), b"no");
    put(source.join("c/.nobackup/within"), b"");
    symlink("nowhere", source.join("d/.nobackup")).unwrap();
    let with_header = TagFile::new(".nobackup", "yes").unwrap();
    let saved = fixture.backup(Selection::new().tag_file(with_header)).saved;
    assert!(!saved.contains("a/data") && saved.contains("a/.nobackup"));
    assert!(["b/data", "c/data", "d/data"].iter().all(|path| saved.contains(*path)), "{saved:?}");
    // Without a header anything of that name will do.
    let saved = fixture.backup(Selection::new().tag_file(TagFile::new(".nobackup", "").unwrap())).saved;
    assert!(["a/data", "b/data", "c/data", "d/data"].iter().all(|path| !saved.contains(*path)), "{saved:?}");
    assert!(saved.contains("c/.nobackup/within"));
    for wrong in ["", ".", "..", "a/b"] {
        assert!(TagFile::new(wrong, "").is_err(), "{wrong}");
    }
}

#[test]
fn select_leaves_out_large_files_by_all_their_names() {
    let fixture = Fixture::new(&["small", "large"]);
    let source = fixture.source();
    fs::write(source.join("small"), [0; 100]).unwrap();
    fs::write(source.join("large"), [0; 101]).unwrap();
    fs::hard_link(source.join("large"), source.join("second")).unwrap();
    fs::hard_link(source.join("small"), source.join("third")).unwrap();
    symlink("large", source.join("link")).unwrap();
    let outcome = fixture.backup(Selection::new().file_bytes_max(100));
    assert_eq!(outcome.saved, set(&["link", "small", "third"]));
    assert_eq!(outcome.excluded[0], ("large".to_owned(), Exclusion::Larger(100)));
    // What a pattern includes is saved nevertheless.
    let outcome = fixture.backup(excluding(&["!second"]).file_bytes_max(100));
    assert_eq!(outcome.saved, set(&["link", "second", "small", "third"]));
}

#[test]
fn select_leaves_out_what_is_marked() {
    let fixture = Fixture::within(Workshop::on_disk(), &["marked", "plain", "folder/within"]);
    for name in ["marked", "folder"] {
        let file = fs::File::open(fixture.source().join(name)).unwrap();
        let set = rustix::fs::ioctl_getflags(&file)
            .and_then(|flags| rustix::fs::ioctl_setflags(&file, flags | rustix::fs::IFlags::NODUMP));
        if set.is_err() {
            skip("select_leaves_out_what_is_marked", "the file system keeps no flags");
            return;
        }
    }
    assert_eq!(fixture.backup(Selection::new()).saved.len(), 4);
    let outcome = fixture.backup(Selection::new().exclude_nodump());
    assert_eq!(outcome.saved, set(&["plain"]));
    assert!(outcome.excluded.iter().all(|(_, reason)| *reason == Exclusion::NoDump));
}

#[test]
fn select_follows_the_nearest_file_of_patterns() {
    let fixture =
        Fixture::new(&["a.o", "b.o", "sub/a.o", "sub/b.o", "sub/deep/a.o", "sub/x", "out/y", "sub/out/z"]);
    let source = fixture.source();
    put(source.join(".drignore"), b"*.o\n/out\n");
    put(source.join("sub/.drignore"), b"!a.o\n/x\n");
    put(source.join("sub/deep/.drignore"), b"a.o\n");
    let selection = || Selection::new().ignore_file(".drignore");
    let outcome = fixture.backup(selection());
    let saved = set(&[
        ".drignore",
        "sub",
        "sub/.drignore",
        "sub/a.o",
        "sub/deep",
        "sub/deep/.drignore",
        "sub/out",
        "sub/out/z",
    ]);
    assert_eq!(outcome.saved, saved);
    let file = |file: &str| source.join(file).into_os_string().into_encoded_bytes();
    let rule = Exclusion::IgnoreFile { file: file("sub/.drignore"), pattern: b"/x".to_vec() };
    assert!(outcome.excluded.contains(&("sub/x".to_owned(), rule)), "{:?}", outcome.excluded);

    // A caller's own patterns come before all of them, also for what is in a directory that they exclude.
    let own = [
        format!("!{}/out/y", source.display()),
        "!b.o".to_owned(),
        "sub/a.o".to_owned(),
        "**/sub/a.o".to_owned(),
    ];
    let own: Vec<&str> = own.iter().map(String::as_str).collect();
    let outcome = fixture.backup(selection().patterns(patterns(&own)));
    for path in ["b.o", "sub/b.o", "out/y"] {
        assert!(outcome.saved.contains(path), "{path}: {:?}", outcome.saved);
    }
    assert!(!outcome.saved.contains("sub/a.o"));

    // Of two in one directory the last that is named has the last word.
    put(source.join("sub/.gitignore"), b"a.o\nout\n");
    let both = Selection::new().ignore_file(".gitignore").ignore_file(".drignore");
    let saved = fixture.backup(both).saved;
    assert!(saved.contains("sub/a.o") && !saved.contains("sub/out"));
}

#[test]
fn select_warns_of_bad_files_of_patterns_and_goes_on() {
    let fixture = Fixture::new(&["bad/a", "bad/b", "folder/.drignore/c", "long/d", "link/e"]);
    let source = fixture.source();
    put(source.join("bad/.drignore"), b"a\n[x\n./y\n");
    put(source.join("long/.drignore"), &b"d\n".repeat(200_000));
    symlink("../bad/.drignore", source.join("link/.drignore")).unwrap();
    let outcome = fixture.backup(Selection::new().ignore_file(".drignore"));
    assert!(outcome.report.is_complete());
    for path in ["bad/b", "folder/.drignore/c", "long/d", "link/e"] {
        assert!(outcome.saved.contains(path), "{path}: {:?}", outcome.saved);
    }
    assert!(!outcome.saved.contains("bad/a"));
    let said: Vec<String> =
        outcome.warnings.iter().map(|(path, detail)| format!("{path}: {detail}")).collect();
    assert_eq!(said.len(), 5, "{said:?}");
    for part in [
        "bad/.drignore: line 2",
        "bad/.drignore: line 3",
        "folder/.drignore: is no regular",
        "long/.drignore: is too long",
    ] {
        assert!(said.iter().any(|line| line.starts_with(part)), "{part}: {said:?}");
    }
    assert_eq!(outcome.report.warnings.len(), 5);
}

#[test]
fn select_enters_no_mount_point_that_is_left_out() {
    let fixture = Fixture::new(&["plain"]);
    let Some(disk) = SmallDisk::mount(&fixture.source().join("mounted"), "size=1m") else {
        skip("select_enters_no_mount_point_that_is_left_out", "mounting is not allowed");
        return;
    };
    fs::write(disk.path().join("within"), "x").unwrap();
    assert!(fixture.backup(Selection::new()).saved.contains("mounted/within"));
    let outcome = fixture.backup(excluding(&["mounted/"]));
    assert_eq!(outcome.saved, set(&["plain"]));
    assert!(outcome.report.is_complete());
}

/// A source whose topmost directory lists something else than what is there.
#[derive(Debug)]
struct Altered(SharedSource, Listing);

/// What a directory says it holds.
type Listing = fn(&dyn SourceDirectory) -> io::Result<Vec<SourceItem>>;

/// Everything twice.
const TWICE: Listing = |directory| {
    let (mut items, again) = (directory.entries()?, directory.entries()?);
    items.extend(again);
    Ok(items)
};

/// An entry more, which cannot even be looked at.
const ODD: Listing = |directory| {
    let mut items = directory.entries()?;
    items.push(SourceItem { name: b"~odd".to_vec(), entry: Err(io::ErrorKind::PermissionDenied.into()) });
    Ok(items)
};

#[derive(Debug)]
struct AlteredRoot(Arc<dyn SourceDirectory>, Listing);

impl Source for Altered {
    fn paths(&self) -> Vec<PathBuf> {
        self.0.paths()
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(AlteredRoot(self.0.open_root()?, self.1)))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

impl SourceDirectory for AlteredRoot {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        self.1(&*self.0)
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        self.0.complete(entry)
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        self.0.open_directory(name)
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        self.0.open_file(name)
    }
}

#[test]
fn a_source_that_lists_names_twice_makes_no_directory_that_cannot_be_read() {
    let repo = TestRepo::in_memory();
    let files = ["a", "b"].map(|name| (name.to_owned(), MemoryFile::default())).into();
    let source = MemorySource { files, paths: vec!["/".into()], ..MemorySource::default() };
    let source = Altered(SharedSource(Arc::new(source)), TWICE);
    let report = alone(&(), |ctx| repo.repository.backup(&source, &options(), ctx)).unwrap();
    assert_eq!((report.problem_count, report.totals.files), (2, 2));
    repo.assert_intact();
}

#[test]
fn what_is_gone_right_below_the_top_is_a_difference() {
    let repo = TestRepo::in_memory();
    let mut wish = options();
    wish.skip_if_unchanged = true;
    for (names, unchanged) in [(&["a", "b"][..], false), (&["a", "b"], true), (&["a"], false), (&["a"], true)]
    {
        let files = names.iter().map(|name| ((*name).to_owned(), MemoryFile::default())).collect();
        let source = MemorySource { files, paths: vec!["/".into()], ..MemorySource::default() };
        let source = SharedSource(Arc::new(source));
        let report = alone(&(), |ctx| repo.repository.backup(&source, &wish, ctx)).unwrap();
        assert_eq!(report.unchanged, unchanged, "{names:?}");
    }
}

#[test]
fn select_finds_no_problem_in_what_is_left_out() {
    let fixture = Fixture::new(&[]);
    let files = [("file".to_owned(), MemoryFile::default())].into();
    let source = MemorySource { files, paths: vec!["/".into()], ..MemorySource::default() };
    let source = SharedSource(Arc::new(source));
    for (line, problems) in [("~od?", 0), ("~odd/", 0), ("other", 1), ("/x/~odd", 1)] {
        let tree = SelectedTree::new(Box::new(Altered(source.clone(), ODD)), excluding(&[line]));
        let report = alone(&(), |ctx| fixture.repo.repository.backup(&tree, &options(), ctx)).unwrap();
        assert_eq!((report.problem_count, report.entries_excluded), (problems, 1 - problems), "{line}");
    }
}

#[test]
fn select_shares_all_trees_where_nothing_changed() {
    let fixture = Fixture::new(&["a/b/c", "a/b/d.tmp", "a/e", "node_modules/f", "cache/data"]);
    let source = fixture.source();
    put(source.join("cache/.nobackup"), b"");
    put(source.join("a/.drignore"), b"e\n");
    let selection = || {
        let tag = TagFile::new(".nobackup", "").unwrap();
        excluding(&["*.tmp", "node_modules"]).tag_file(tag).ignore_file(".drignore")
    };
    fixture.backup(selection());
    let (first, entry) = (fixture.repo.latest().unwrap(), fixture.entry());
    let second = fixture.backup(selection());
    assert!(second.done.iter().all(|(_, change)| *change == Change::Unchanged), "{:?}", second.done);
    assert_eq!((second.done.len(), second.report.totals.files_read), (7, 0));
    assert_eq!(fixture.entry(), entry);

    // With other patterns, what is left out now is gone from the snapshot, and that is no problem.
    let third = fixture.backup(excluding(&["/**/b"]));
    assert!(third.report.is_complete());
    assert!(
        !third.saved.contains("a/b") && third.saved.contains("a/e") && third.saved.contains("cache/data")
    );
    assert!(fixture.saved(&first).contains("a/b/c"));
    fixture.repo.assert_intact();
}

#[test]
fn select_commits_nothing_that_is_unchanged_where_that_is_wished() {
    let fixture = Fixture::new(&["a/b", "c.tmp"]);
    let skipping = || {
        let mut options = options();
        options.skip_if_unchanged = true;
        options
    };
    let backup = |options: &BackupOptions| {
        fixture.backup_of(&[fixture.source()], excluding(&["*.tmp"]), options).report
    };
    let first = backup(&skipping());
    assert!(first.snapshot.is_some() && !first.unchanged);
    let second = backup(&skipping());
    assert_eq!((second.snapshot, second.unchanged), (None, true));
    assert!(second.parent.is_some() && second.is_complete());
    let count = fixture.repo.snapshots().len();

    // What is left out does not count, and a dry run says the same.
    fs::write(fixture.source().join("c.tmp"), "other").unwrap();
    let mut dry = skipping();
    dry.dry_run = true;
    assert!(backup(&dry).unchanged && backup(&skipping()).unchanged);
    assert_eq!(fixture.repo.snapshots().len(), count);

    // Nor do the directories that only lead to what is saved.
    put(fixture.workshop.path().join("beside"), b"x");
    assert!(backup(&skipping()).unchanged);

    put(fixture.source().join("a/new"), b"x");
    let changed = backup(&skipping());
    assert!(changed.snapshot.is_some() && !changed.unchanged);
    // Without the wish, there is always one.
    assert!(backup(&options()).snapshot.is_some());
    // With nothing to compare with, too; and for another host.
    let mut other = skipping();
    other.parent = Parent::Nothing;
    assert!(backup(&other).snapshot.is_some());
    let elsewhere = skipping().host("elsewhere");
    assert!(backup(&elsewhere).snapshot.is_some());
    fixture.repo.assert_intact();
}

#[test]
fn select_commits_what_is_unchanged_where_the_parent_is_partial_or_another_hosts() {
    let fixture = Fixture::new(&["a"]);
    let mut partial = options();
    partial.partial_every = Some(std::time::Duration::ZERO);
    let whole = fixture.backup_of(&[fixture.source()], Selection::new(), &partial).report.snapshot.unwrap();
    let all = fixture.repo.snapshots();
    let half = all.iter().find(|snapshot| snapshot.partial).expect("a partial snapshot");
    fixture.repo.repository.forget(&[whole]).unwrap();
    let mut skipping = options();
    skipping.skip_if_unchanged = true;
    skipping.parent = Parent::Snapshot(half.id.to_string());
    let report = fixture.backup_of(&[fixture.source()], Selection::new(), &skipping).report;
    assert!(report.snapshot.is_some());
    // A snapshot that is forgotten is none to rest on.
    fixture.repo.repository.forget(&[report.snapshot.unwrap()]).unwrap();
    skipping.parent = Parent::Newest;
    let report = fixture.backup_of(&[fixture.source()], Selection::new(), &skipping).report;
    assert!(report.snapshot.is_some());
}

#[test]
fn select_commits_what_lacks_a_named_path_or_has_other_attributes() {
    let fixture = Fixture::new(&["deep/a", "deep/b"]);
    let mut skipping = options();
    skipping.skip_if_unchanged = true;
    let named = ["deep/a", "deep/b"].map(|name| fixture.source().join(name));
    let backup = || fixture.backup_of(&named, Selection::new(), &skipping).report;
    assert!(backup().snapshot.is_some());
    put(fixture.source().join("deep/c"), b"not named");
    assert!(backup().unchanged);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o604);
    fs::set_permissions(&named[0], mode).unwrap();
    assert!(backup().snapshot.is_some());
    assert!(backup().unchanged);
    fs::remove_file(&named[0]).unwrap();
    let report = backup();
    assert!(report.snapshot.is_some() && report.problem_count == 1);
}

#[test]
fn select_of_a_missing_path_is_a_problem_all_the_same() {
    let fixture = Fixture::new(&["a"]);
    let named = [fixture.source(), fixture.source().join("gone.tmp")];
    let outcome = fixture.backup_of(&named, excluding(&["*.tmp"]), &options());
    assert_eq!(outcome.report.problem_count, 1);
    assert_eq!(outcome.report.problems[0].kind, ProblemKind::Missing);
}

/// A random tree, random patterns: what is saved is what a walk with `Patterns::excludes` finds.
#[test]
fn select_saves_what_the_patterns_say_of_each_path() {
    let mut dice = Dice::new(7);
    let fixture = Fixture::new(&[]);
    let mut tree = TreeSpec::default();
    for seed in 0..60 {
        let depth = 1 + dice.below(4);
        let path: Vec<&str> = (0..depth).map(|_| ["a", "b", "ab", "c"][dice.below(4) as usize]).collect();
        tree.put(&path.join("/"), Node::File { seed, bytes: 3 });
    }
    tree.write(&fixture.source());
    let all = fixture.backup(Selection::new()).saved;
    let prefix = fixture.source();
    for _ in 0..150 {
        let line = |dice: &mut Dice| {
            let count = 1 + dice.below(3);
            let parts: Vec<&str> = (0..count)
                .map(|_| ["a", "b", "*", "?", "a*", "**", "[!a]"][dice.below(7) as usize])
                .collect();
            let negation = if dice.below(3) == 0 { "!" } else { "" };
            let place = if dice.below(2) == 0 { format!("{}/", prefix.display()) } else { String::new() };
            format!("{negation}{place}{}{}", parts.join("/"), if dice.below(4) == 0 { "/" } else { "" })
        };
        let lines: Vec<String> = (0..1 + dice.below(4)).map(|_| line(&mut dice)).collect();
        let patterns = patterns(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        // The source itself is never left out, so what is said of it, or above it, does not reach below.
        let is_said = |above: &Path| {
            patterns.matches(above.as_os_str().as_bytes(), PathKind::Directory) == Match::Excluded
        };
        if prefix.ancestors().any(is_said) {
            continue;
        }
        let is_kept = |path: &&String| {
            let whole = prefix.join(path);
            let kind = if whole.is_dir() { PathKind::Directory } else { PathKind::Other };
            !patterns.excludes(whole.as_os_str().as_bytes(), kind)
        };
        let expected: BTreeSet<String> = all.iter().filter(is_kept).cloned().collect();
        let saved = fixture.backup(Selection::new().patterns(patterns.clone())).saved;
        assert_eq!(saved, expected, "{lines:?}");
    }
}
