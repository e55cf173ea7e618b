//! Keeps the newest snapshots, deletes what nothing needs any more, and proves that the rest is whole.
//!
//!     cargo run -p dr-core --example check_and_prune
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::error::Error;
use std::fs;
use std::sync::Arc;

use dr_core::{
    BackupOptions, CancelToken, CheckOptions, Context, CreateOptions, Credentials, ForgetOptions, KeepPolicy,
    LocalTree, LocalTreeOptions, PruneOptions, Repository, RepositoryOptions,
};
use dr_store::MemoryStore;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let key = Credentials::key([7; 32]);
    let store = Arc::new(MemoryStore::new());
    let repository = Repository::create(store, &key, &CreateOptions::new(), RepositoryOptions::new())?;
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    for day in 0..5u8 {
        fs::write(folder.path().join("journal"), vec![day; 1 << 20])?;
        let source = LocalTree::open(&[folder.path().to_path_buf()], LocalTreeOptions::default())?;
        let _ = repository.backup(&source, &BackupOptions::new(), &ctx)?;
    }

    // Retention goes by the order of commits and the store's time, not by clocks of those who wrote.
    let mut policy = KeepPolicy::new();
    policy.last = 2;
    let groups = repository.forget_by_policy(&ForgetOptions::new(policy))?;
    for decision in groups.iter().flat_map(|group| &group.decisions) {
        println!("{} kept: {}", decision.snapshot.id, !decision.reasons.is_empty());
    }

    // Forgetting frees nothing: until it is collected, a snapshot can be brought back.
    let pruned = repository.prune(&PruneOptions::new(), &ctx)?;
    println!("{} objects deleted, {} packs rewritten", pruned.objects_deleted, pruned.packs_repacked);

    let report = repository.check(&CheckOptions::new().read_data(), &ctx)?;
    assert!(report.is_intact(), "{:?}", report.errors);
    assert_eq!(report.snapshots, 2);
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
