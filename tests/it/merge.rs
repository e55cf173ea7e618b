//! Merged snapshots: all that any of them holds, and where several differ, what was asked for.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dr_core::{
    ErrorKind, MergeBy, MergeOptions, MergeReport, Relation, Repository, Result, Snapshot, SnapshotFilter,
};
use dr_tests::damage::{Harm, Patient, open};
use dr_tests::garbage::prune;
use dr_tests::history::{data_reads, open_hooked, snapshot};
use dr_tests::steps::{Workshop, alone, backup_as, check, options};
use dr_tests::{Node, TestRepo, TreeSpec};

use crate::crash::at_every_call;

fn merge(repository: &Repository, snapshots: &[Snapshot], options: &MergeOptions) -> Result<MergeReport> {
    alone(&(), |ctx| repository.merge_snapshots(snapshots, options, ctx))
}

fn all(repository: &Repository) -> Vec<Snapshot> {
    repository.snapshots(&SnapshotFilter::new()).unwrap()
}

/// Two snapshots: some files are in one, some in both, one in two states, and one path is a file first and a directory then.
fn patient(workshop: &Workshop) -> Patient {
    let mut patient = Patient::new(workshop);
    let mut first =
        TreeSpec::files(&[("both", 900), ("first/a", 300_000), ("first/deep/b", 10), ("turned", 77)]);
    first.put("differs", Node::File { seed: 500, bytes: 1000 });
    first.put("shared/one", Node::File { seed: 501, bytes: 2000 });
    first.write(&patient.source);
    touch(&patient.source.join("differs"), "2030-01-01T00:00:00Z");
    patient.backup(workshop);
    let mut second = TreeSpec::files(&[("both", 900), ("second/c", 4000), ("turned/into", 5)]);
    second.put("differs", Node::File { seed: 502, bytes: 1100 });
    second.put("shared/two", Node::File { seed: 503, bytes: 2000 });
    second.write(&patient.source);
    touch(&patient.source.join("differs"), "2020-01-01T00:00:00Z");
    touch(&patient.source.join("turned"), "2030-01-01T00:00:00Z");
    patient.backup(workshop);
    patient
}

fn touch(path: &Path, time: &str) {
    assert!(Command::new("touch").arg("-d").arg(time).arg(path).status().unwrap().success());
}

/// What a merge is to hold: the second tree, with what only the first has, and `differs` of one of them.
fn expected(workshop: &Workshop, patient: &Patient, differs_of: usize) -> PathBuf {
    let (first, second) = (&patient.copies[0].1, &patient.copies[1].1);
    let merged = workshop.copy_of(second);
    let copy = |from: &Path, what: &str| {
        let (from, to) = (from.join(what), merged.join(what));
        let copied = Command::new("cp").args(["-a", "--remove-destination"]).arg(from).arg(to).status();
        assert!(copied.unwrap().success());
    };
    copy(first, "first");
    copy(first, "shared/one");
    copy([first, second][differs_of], "differs");
    for directory in ["shared", ""] {
        let times = Command::new("touch")
            .arg("-m")
            .arg("-r")
            .arg(second.join(directory))
            .arg(merged.join(directory))
            .status();
        assert!(times.unwrap().success());
    }
    merged
}

#[test]
fn a_merge_holds_all_and_the_newest_of_what_differs() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let repository = open(&patient.store).unwrap();
    let before = all(&repository);
    for (by, differs_of) in [(MergeBy::Modified, 0), (MergeBy::Last, 1)] {
        let mut options = MergeOptions::new();
        options.by = by;
        patient.store.clear_calls();
        let report = merge(&repository, &before, &options).unwrap();
        assert_eq!(data_reads(&patient.store), 0, "file contents were read");
        assert_eq!(report.conflicts, 2, "differs, turned");
        let merged = snapshot(&repository, &report.snapshot.unwrap());
        assert_eq!(merged.totals.files, report.totals.files);
        assert_eq!(report.totals.files, 8);
        assert_eq!((merged.time, merged.parent), (before[1].time, None));
        assert!(merged.origins.iter().all(|origin| origin.relation() == Some(Relation::Merged)));
        assert_eq!(merged.origins.len(), 2);
        let expected = expected(&workshop, &patient, differs_of);
        workshop.assert_restores(&repository, &merged, &patient.source, &expected);
    }
    let ids: Vec<_> = before.iter().map(|snapshot| snapshot.id).collect();
    repository.forget(&ids).unwrap();
    prune(&repository).unwrap();
    let again = open(&patient.store).unwrap();
    let report = check(&again).unwrap();
    assert!(report.is_intact(), "{:#?}", report.errors);
    for (number, merged) in all(&again).iter().enumerate() {
        let expected = expected(&workshop, &patient, number);
        workshop.assert_restores(&again, merged, &patient.source, &expected);
    }
}

#[test]
fn merging_is_refused_where_it_means_nothing() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let repository = open(&patient.store).unwrap();
    let mut named = options();
    named.host = "elsewhere".to_owned();
    assert!(backup_as(&repository, &patient.source, &named, &()).unwrap().is_complete());
    let before = all(&repository);
    let refused = |snapshots: &[Snapshot], options: &MergeOptions| {
        assert_eq!(merge(&repository, snapshots, options).unwrap_err().kind(), ErrorKind::InvalidInput);
    };
    let mut options = MergeOptions::new();
    refused(&before[..1], &options);
    refused(&[before[0].clone(), before[0].clone()], &options);
    refused(&before, &options);
    repository.protect(&[before[0].id]).unwrap();
    options.forget = true;
    refused(&all(&repository)[..2], &options);
    options.forget = false;
    options.dry_run = true;
    let objects = patient.store.objects().len();
    assert_eq!(merge(&repository, &all(&repository)[..2], &options).unwrap().snapshot, None);
    assert_eq!(patient.store.objects().len(), objects);
    options.dry_run = false;
    options.host = Some("both".to_owned());
    let report = merge(&repository, &before, &options).unwrap();
    assert_eq!(snapshot(&repository, &report.snapshot.unwrap()).host, "both");
    assert_eq!(all(&repository).len(), 4);
}

#[test]
fn entries_that_cannot_be_read_end_a_merge() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    for name in patient.names_in("tree") {
        let repository = open(&patient.harmed(&name, Harm::Delete)).unwrap();
        let error = merge(&repository, &all(&repository), &MergeOptions::new()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert_eq!(all(&repository).len(), 2);
    }
}

#[test]
fn a_crash_at_any_call_of_a_merge_loses_nothing() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let merged = expected(&workshop, &patient, 0);
    let mut options = MergeOptions::new();
    options.forget = true;
    let visited = at_every_call(
        &patient.store,
        &|store, seed, observer| {
            let repo = TestRepo::open(Arc::new(store.clone()), seed)?;
            let both = repo.repository.snapshots(&SnapshotFilter::new())?;
            alone(observer, |ctx| repo.repository.merge_snapshots(&both, &options, ctx)).map(drop)
        },
        &|wreck| {
            let repository = open(&wreck.store).unwrap();
            let report = check(&repository).unwrap();
            assert!(report.is_intact(), "{:#?}", report.errors);
            let listed = all(&repository);
            let is_merged = |found: &&Snapshot| !found.origins.is_empty();
            assert!(listed.len() == 3 || listed.len() == 2 || listed.iter().any(|found| is_merged(&found)));
            for found in &listed {
                let known = patient.copies.iter().find(|(id, _)| *id == found.id).map(|(_, copy)| copy);
                workshop.assert_restores(&repository, found, &patient.source, known.unwrap_or(&merged));
            }
            assert!(wreck.acknowledged.iter().all(|id| listed.iter().any(|found| found.id == *id)));
        },
    );
    assert!(visited >= 10, "{visited}");
}

#[test]
fn a_collection_beside_a_merge_takes_nothing_that_is_needed() {
    let workshop = Workshop::new();
    let patient = patient(&workshop);
    let merged = expected(&workshop, &patient, 0);
    let id = patient.copies[0].0;
    for call in 0.. {
        let store = patient.store.crash_image();
        let other = store.clone();
        let (hooked, repository) = open_hooked(
            &store,
            move |upcoming| upcoming.number == call,
            move || {
                let repository = open(&other).unwrap();
                repository.forget(&[id]).unwrap();
                prune(&repository).unwrap();
            },
        );
        let both = all(&repository);
        let done = merge(&repository, &both, &MergeOptions::new());
        let listed = all(&open(&store).unwrap());
        let new = listed.iter().find(|snapshot| !snapshot.origins.is_empty());
        assert_eq!(
            done.as_ref().ok().and_then(|report| report.snapshot),
            new.map(|new| new.id),
            "call {call}: {done:?}"
        );
        if let Some(new) = new {
            workshop.assert_restores(&open(&store).unwrap(), new, &patient.source, &merged);
        }
        prune(&open(&store).unwrap()).unwrap();
        assert!(check(&open(&store).unwrap()).unwrap().is_intact(), "call {call}");
        if !hooked.has_run() {
            assert!(call > 8, "{call}");
            return;
        }
    }
}
