//! Looking at what is stored: archives, searches, comparisons, versions, usage and single objects.

mod archive;
mod diff;
mod find;
mod objects;

use std::collections::BTreeMap;
use std::path::Path;

use dr_core::{Entry, Snapshot};
use dr_tests::TestRepo;

/// The bytes of a path.
fn bytes(path: &Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

/// Everything below a path of a snapshot.
fn listed(repo: &TestRepo, snapshot: &Snapshot, path: &Path) -> BTreeMap<Vec<u8>, Entry> {
    let mut entries = BTreeMap::new();
    repo.repository
        .list(snapshot, bytes(path), &mut |path, entry| {
            entries.insert(path.to_vec(), entry?.clone());
            Ok(())
        })
        .unwrap();
    entries
}
