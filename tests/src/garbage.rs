//! Repositories with garbage of every kind, and what must be true after a collection.

use std::path::PathBuf;
use std::time::Duration;

use dr_core::{MaxUnused, PruneOptions, PruneReport, Repository, Result, SnapshotFilter, SnapshotId};
use dr_store::sim::{SimStore, When};
use dr_store::{PutMode, Store};

use crate::damage::{Patient, open};
use crate::steps::{Workshop, alone, backup, check};
use crate::{Node, TreeSpec};

/// A repository with garbage.
#[derive(Debug)]
pub struct Waste {
    /// The repository, and copies of what its snapshots hold.
    pub patient: Patient,
    /// The snapshots that are forgotten.
    pub forgotten: Vec<SnapshotId>,
}

/// A collection that wastes nothing and waits for nothing.
pub fn thorough() -> PruneOptions {
    let mut options = PruneOptions::new();
    options.max_unused = MaxUnused::Bytes(0);
    options.leftover_age = Duration::ZERO;
    options
}

/// Collects with one thread.
pub fn prune(repository: &Repository) -> Result<PruneReport> {
    prune_as(repository, &thorough())
}

/// Collects with one thread, with options.
pub fn prune_as(repository: &Repository, options: &PruneOptions) -> Result<PruneReport> {
    alone(&(), |ctx| repository.prune(options, ctx))
}

/// The tree of a round. Of round 0 much is in no later one; of round 2 nothing is but what was there
/// before; of round 3 all files are, but not the directories.
fn tree(round: u64) -> TreeSpec {
    let mut tree = TreeSpec::files(&[("large", 700_000), ("a/b", 2500), ("a/c", 1200), ("d", 90_000)]);
    tree.put("link", Node::Symlink(b"a/b".to_vec()));
    if round == 0 {
        tree.put("a/once", Node::File { seed: 100, bytes: 200_000 });
        tree.put("two", Node::File { seed: 101, bytes: 700 });
    }
    if round >= 1 {
        tree.put("later", Node::File { seed: 102, bytes: 300_000 });
    }
    if round == 2 {
        tree.put("between/x", Node::File { seed: 103, bytes: 150_000 });
    }
    if round >= 3 {
        tree.put("kept", Node::File { seed: 104, bytes: 40_000 });
    }
    let change = if round == 3 { 2 } else { round };
    tree.put("changing", Node::File { seed: 200 + change, bytes: 3000 });
    tree
}

impl Waste {
    /// Five snapshots, three of which are forgotten: a pack that is all dead, packs of which a part is needed (large frames
    /// and small ones), stale index segments, and leftovers of a run that was cut short.
    pub fn new(workshop: &Workshop) -> Waste {
        Waste::with_files(workshop, 0)
    }

    /// The same with so many small files more; of some hundreds, index segments are objects of their own.
    pub fn with_files(workshop: &Workshop, files: u64) -> Waste {
        let mut patient = Patient::new(workshop);
        for round in 0..5 {
            let mut tree = tree(round);
            for number in 0..files {
                let seed = 1000 + number + if number % 3 == 0 { 0 } else { round.div_ceil(2) % 3 * 10_000 };
                tree.put(&format!("many/{}/{number}", number % 7), Node::File { seed, bytes: 300 });
            }
            tree.write(&patient.source);
            patient.backup(workshop);
        }
        let forgotten = [0, 2, 3].map(|round: usize| patient.copies[round].0).to_vec();
        open(&patient.store).unwrap().forget(&forgotten).unwrap();
        leave_behind(&patient.store);
        Waste { patient, forgotten }
    }

    /// The snapshots that are not forgotten, and what they hold.
    pub fn live(&self) -> Vec<(SnapshotId, PathBuf)> {
        let is_live = |(id, _): &&(SnapshotId, PathBuf)| !self.forgotten.contains(id);
        self.patient.copies.iter().filter(is_live).cloned().collect()
    }

    /// Stops the test unless the repository is intact and every snapshot that is not forgotten restores bit for bit.
    pub fn assert_whole(&self, workshop: &Workshop, store: &SimStore) {
        let repository = open(store).unwrap();
        let report = check(&repository).unwrap();
        assert!(report.is_intact(), "{:#?}", report.errors);
        let snapshots = repository.snapshots(&SnapshotFilter::new()).unwrap();
        let listed: Vec<SnapshotId> = snapshots.iter().map(|snapshot| snapshot.id).collect();
        let live = self.live();
        assert_eq!(listed, live.iter().map(|(id, _)| *id).collect::<Vec<_>>());
        for (snapshot, (_, copy)) in snapshots.iter().zip(&live) {
            workshop.assert_restores(&repository, snapshot, &self.patient.source, copy);
        }
    }
}

/// Two packs and an index segment that no entry of the log names, as a backup leaves them that stops before its commit.
pub fn leave_behind(store: &SimStore) {
    let workshop = Workshop::new();
    let mut tree = TreeSpec::default();
    for number in 0..500 {
        tree.put(&format!("left/{number}"), Node::File { seed: 90_000 + number, bytes: 30 });
    }
    tree.write(&workshop.source());
    let other = store.crash_image();
    other.crash_at_mutation(3, When::Before);
    backup(&open(&other).unwrap(), &workshop.source()).unwrap_err();
    let known = store.objects().len();
    for (name, bytes) in other.crash_image().objects() {
        if store.stat(&name).is_err() {
            store.put(&name, bytes.into(), PutMode::Create).unwrap();
        }
    }
    assert_eq!(store.objects().len(), known + 3);
}

/// Stops the test unless a further collection finds nothing to do, and does nothing.
pub fn assert_clean(store: &SimStore) {
    let report = prune(&open(store).unwrap()).unwrap();
    let done = [
        report.collected.len() as u64,
        report.packs_dead,
        report.packs_repacked,
        report.leftovers,
        report.segments_merged,
        report.objects_deleted,
        report.objects_waiting,
        report.bytes_unused,
    ];
    assert_eq!(done, [0; 8], "{report:?}");
}
