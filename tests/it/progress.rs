//! What long calls tell of how far they are.

use std::fs;
use std::os::unix::ffi::OsStrExt;

use dr_core::{
    BackupOptions, CancelToken, Case, CheckOptions, Context, ErrorKind, Event, LocalTree, LocalTreeOptions,
    Parent, Patterns, RecordingObserver, RestoreOptions, SelectedTree, Selection, SnapshotId, Source, Stage,
    count_source,
};
use dr_tests::garbage::thorough;
use dr_tests::steps::Workshop;
use dr_tests::{Node, TestRepo, TreeSpec};

/// Makes a call on so many threads and gives what it told.
fn told<T>(threads: usize, call: impl FnOnce(&Context<'_>) -> dr_core::Result<T>) -> Vec<Event> {
    let (observer, cancel) = (RecordingObserver::new(), CancelToken::new());
    call(&Context::new(&observer, &cancel).with_parallelism(threads)).unwrap();
    observer.events()
}

fn tree(workshop: &Workshop) -> LocalTree {
    LocalTree::open(&[workshop.source()], LocalTreeOptions::default()).unwrap()
}

fn expectations(events: &[Event]) -> Vec<(u64, u64)> {
    let expected = |event: &Event| match event {
        Event::Expected { entries, bytes } => Some((*entries, *bytes)),
        _ => None,
    };
    events.iter().filter_map(expected).collect()
}

#[test]
fn a_backup_says_what_it_expects_or_that_nobody_knows() {
    let workshop = Workshop::new();
    TreeSpec::files(&[("a", 1000), ("d/b", 200), ("d/e/c", 30)]).write(&workshop.source());
    let repo = TestRepo::in_memory();
    let backup =
        |options: &BackupOptions| told(2, |ctx| repo.repository.backup(&tree(&workshop), options, ctx));
    let is_uncounted = |events: &[Event]| events.contains(&Event::Uncounted);
    let first = backup(&BackupOptions::new().host("desk"));
    assert!(is_uncounted(&first) && expectations(&first).is_empty(), "{first:?}");
    let totals = repo.latest().unwrap().totals;
    let second = backup(&BackupOptions::new().host("desk"));
    assert!(!is_uncounted(&second));
    let all = totals.files + totals.directories + totals.others;
    assert_eq!(expectations(&second), [(all, 1230)]);
    let mut options = BackupOptions::new().host("desk");
    options.parent = Parent::Nothing;
    assert!(is_uncounted(&backup(&options)));
    // What is counted beforehand is what the snapshot holds.
    let counted = told(1, |ctx| count_source(&tree(&workshop), ctx));
    assert_eq!(counted, [Event::Expected { entries: all, bytes: 1230 }]);
}

#[test]
fn what_is_left_out_or_cannot_be_listed_is_not_counted() {
    let workshop = Workshop::new();
    let mut spec = TreeSpec::files(&[("a", 1000), ("out/b", 200), ("d/c", 30)]);
    spec.put("link", Node::Symlink(b"a".to_vec()));
    spec.write(&workshop.source());
    let count = |source: &dyn Source| {
        let mut totals = None;
        told(1, |ctx| count_source(source, ctx).map(|counted| totals = Some(counted)));
        totals.unwrap()
    };
    let all = count(&tree(&workshop));
    assert_eq!(all.bytes, 1230);
    let mut patterns = Patterns::new();
    patterns.add(b"out", Case::Sensitive).unwrap();
    let selection = Selection::new().patterns(patterns);
    let some = count(&SelectedTree::new(Box::new(tree(&workshop)), selection));
    assert_eq!((some.entries, some.bytes), (all.entries - 2, 1030));
    // A directory below which there is more than is held open.
    let deep = workshop.source().join(["x"; 100].join("/"));
    fs::create_dir_all(&deep).unwrap();
    fs::write(deep.join("far"), [7; 5]).unwrap();
    let near = count(&tree(&workshop));
    assert_eq!(near.bytes, 1230);
    assert!((all.entries + 1..all.entries + 100).contains(&near.entries), "{near:?}");
    let cancel = CancelToken::new();
    cancel.cancel();
    let observer = RecordingObserver::new();
    let ended = count_source(&tree(&workshop), &Context::new(&observer, &cancel));
    assert_eq!(ended.unwrap_err().kind(), ErrorKind::Cancelled);
    assert!(observer.events().is_empty());
}

#[test]
fn following_trees_is_told_by_snapshots_and_bytes() {
    let workshop = Workshop::new();
    let repo = TestRepo::in_memory();
    let mut ids = Vec::new();
    for round in 0..3 {
        TreeSpec::files(&[("a/b/c", 100 + round), ("d/e", 3000), ("f", 10)]).write(&workshop.source());
        repo.clock.advance_ms(1000);
        ids.push(repo.backup(&[&workshop.source()]).unwrap().snapshot.unwrap());
    }
    ids.sort_unstable();
    for threads in [1, 4] {
        let prune = told(threads, |ctx| repo.repository.prune(&thorough(), ctx));
        let check = told(threads, |ctx| repo.repository.check(&CheckOptions::new(), ctx));
        for (name, events) in [("prune", prune), ("check", check)] {
            let begin = events.iter().position(|event| *event == Event::Stage(Stage::Trees)).unwrap();
            let rest = &events[begin + 1..];
            let end = rest.iter().position(|event| matches!(event, Event::Stage(_))).unwrap_or(rest.len());
            let events = &rest[..end];
            let expected = expectations(events);
            let bytes = |event: &Event| match event {
                Event::Progress { bytes } => *bytes,
                _ => 0,
            };
            let mut done: Vec<SnapshotId> = Vec::new();
            for event in events {
                if let Event::SnapshotDone { snapshot } = event {
                    done.push(*snapshot);
                }
            }
            done.sort_unstable();
            assert_eq!(done, ids, "{name}");
            // Nothing is garbage, and no file is so long that it has a list of chunks.
            let followed: u64 = events.iter().map(bytes).sum();
            assert_eq!(expected, [(3, followed)], "{name}: {events:?}");
            assert!(followed > 0, "{name}");
        }
    }
}

#[test]
fn a_restore_names_a_large_file_once_when_it_begins() {
    let workshop = Workshop::new();
    TreeSpec::files(&[("large", 20 << 20), ("small", 2000)]).write(&workshop.source());
    let repo = TestRepo::in_memory();
    assert!(repo.backup(&[&workshop.source()]).unwrap().is_complete());
    let latest = repo.latest().unwrap();
    let target = workshop.room();
    let path = workshop.source().join("large").as_os_str().as_bytes().to_vec();
    // The second compares what is there.
    for round in 0..2 {
        let events = told(3, |ctx| repo.repository.restore(&latest, &target, &RestoreOptions::new(), ctx));
        let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted);
        let begun = at(&|event| *event == Event::Reading { path: path.clone() });
        let done = at(&|event| matches!(event, Event::EntryDone { path: done, .. } if *done == path));
        assert!(begun.unwrap() < done.unwrap(), "{round}: {events:?}");
        assert_eq!(events.iter().filter(|event| matches!(event, Event::Reading { .. })).count(), 1);
    }
}
