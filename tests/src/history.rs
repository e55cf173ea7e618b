//! What snapshots hold that are made of others: copies of trees with entries taken out, and stores that are watched.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use dr_core::{Repository, RepositoryOptions, Snapshot, SnapshotFilter, SnapshotId};
use dr_store::sim::{CallKind, SimStore};

use crate::hook::HookStore;
use crate::key;
use crate::steps::Workshop;

/// A copy of a tree without these entries, whose directories keep their times.
pub fn without(workshop: &Workshop, tree: &Path, entries: &[&str]) -> PathBuf {
    let copy = workshop.copy_of(tree);
    for entry in entries {
        let gone = copy.join(entry);
        assert!(gone.symlink_metadata().is_ok(), "{} is not there", gone.display());
        run(Command::new("rm").arg("-r").arg(&gone));
        let above = Path::new(entry).parent().unwrap();
        run(Command::new("touch").arg("-m").arg("-r").arg(tree.join(above)).arg(copy.join(above)));
    }
    copy
}

fn run(command: &mut Command) {
    assert!(command.status().unwrap().success(), "{command:?}");
}

/// The snapshot of an id.
pub fn snapshot(repository: &Repository, id: &SnapshotId) -> Snapshot {
    repository.find_snapshot(&id.to_string(), &SnapshotFilter::new()).unwrap()
}

/// Opens the repository in a store so that `before` runs once, just before the first call that `choose` picks.
pub fn open_hooked(
    store: &SimStore,
    choose: impl Fn(&crate::hook::Upcoming<'_>) -> bool + Send + Sync + 'static,
    before: impl FnOnce() + Send + 'static,
) -> (Arc<HookStore>, Repository) {
    let hooked = Arc::new(HookStore::new(Arc::new(store.clone()), choose, before));
    let repository = Repository::open(hooked.clone(), &key(), RepositoryOptions::new()).unwrap();
    (hooked, repository)
}

/// How many reads of packs of file contents a store saw.
pub fn data_reads(store: &SimStore) -> usize {
    let is_read = |kind: CallKind| matches!(kind, CallKind::Get | CallKind::GetRange);
    store.calls().iter().filter(|call| is_read(call.kind) && call.object.starts_with("data/")).count()
}
