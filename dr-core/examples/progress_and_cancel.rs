//! Shows what a backup tells while it runs, and ends one early.
//!
//!     cargo run -p dr-core --example progress_and_cancel
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::error::Error;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dr_core::{
    BackupOptions, CancelToken, Context, CreateOptions, Credentials, ErrorKind, Event, LocalTree,
    LocalTreeOptions, Observer, Repository, RepositoryOptions, SnapshotFilter,
};
use dr_store::MemoryStore;

/// Counts bytes; cancels beyond a limit. Events come from any thread, and the engine waits while one is taken.
#[derive(Debug)]
struct Watch {
    bytes: AtomicU64,
    bytes_max: u64,
    cancel: CancelToken,
}

impl Observer for Watch {
    fn event(&self, event: &Event) {
        match event {
            Event::Progress { bytes } => {
                let before = self.bytes.fetch_add(*bytes, Ordering::Relaxed);
                if before + bytes > self.bytes_max {
                    self.cancel.cancel();
                }
            }
            Event::PackStored { pack, bytes } => println!("pack {pack}: {bytes} bytes"),
            Event::Committed { snapshot, .. } => println!("snapshot {snapshot}"),
            Event::Problem(problem) => println!("{}", problem.path.escape_ascii()),
            // There may be more kinds in a later version.
            _ => {}
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    for number in 0..20u8 {
        fs::write(folder.path().join(number.to_string()), vec![number; 1 << 20])?;
    }
    let key = Credentials::key([7; 32]);
    let store = Arc::new(MemoryStore::new());
    let repository = Repository::create(store, &key, &CreateOptions::new(), RepositoryOptions::new())?;
    let source = LocalTree::open(&[folder.path().to_path_buf()], LocalTreeOptions::default())?;

    for (bytes_max, is_cancelled) in [(5 << 20, true), (u64::MAX, false)] {
        // A token is for one call, or for several that are to end together; clones share it.
        let cancel = CancelToken::new();
        let watch = Watch { bytes: AtomicU64::new(0), bytes_max, cancel: cancel.clone() };
        let ctx = Context::new(&watch, &cancel).with_parallelism(2);
        let outcome = repository.backup(&source, &BackupOptions::new(), &ctx);
        let was_cancelled = outcome.is_err_and(|error| error.kind() == ErrorKind::Cancelled);
        assert_eq!(was_cancelled, is_cancelled);
        // What a cancelled backup stored is kept, and found by the next one; a snapshot it made none.
        println!("{} snapshots", repository.snapshots(&SnapshotFilter::new())?.len());
    }
    assert_eq!(repository.snapshots(&SnapshotFilter::new())?.len(), 1);
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
