//! Keeps a repository in a store of one's own: here one that passes every call on and writes down what is asked of it.
//!
//!     cargo run -p dr-core --example custom_store
//!
//! A real driver runs the suite `dr_store::conformance` (feature `conformance`) in its tests.
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::error::Error;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use dr_core::{
    BackupOptions, CancelToken, Context, CreateOptions, Credentials, LocalTree, LocalTreeOptions, Repository,
    RepositoryOptions,
};
use dr_store::{Bytes, FolderListing, MemoryStore, Name, ObjectMeta, Payload, PutMode, Result, Store};

/// A store that writes down the names of what is put.
#[derive(Debug, Default)]
struct Ledger {
    inner: MemoryStore,
    put: Mutex<Vec<String>>,
}

impl Ledger {
    fn lines(&self) -> Vec<String> {
        self.put.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Store for Ledger {
    /// Atomic and durable when it returns; in mode `Create` exactly one of several callers succeeds.
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        let line = format!("{name} ({} bytes)", payload.bytes());
        self.inner.put(name, payload, mode)?;
        self.put.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        Ok(())
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        self.inner.get(name)
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        self.inner.get_range(name, range)
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        self.inner.list(folder, after, visit)
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        self.inner.list_folder(folder)
    }

    fn delete(&self, name: &Name) -> Result<()> {
        self.inner.delete(name)
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.inner.stat(name)
    }

    // Only for a driver whose `Create` is known to hold; others are probed before the first write.
    fn create_is_proven(&self) -> bool {
        true
    }

    fn endpoint(&self) -> String {
        "ledger:".to_owned()
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let store = Arc::new(Ledger::default());
    let key = Credentials::key([7; 32]);
    let repository =
        Repository::create(store.clone(), &key, &CreateOptions::new(), RepositoryOptions::new())?;
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    let manifest = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml");
    let source = LocalTree::open(&[manifest], LocalTreeOptions::default())?;
    let _ = repository.backup(&source, &BackupOptions::new(), &ctx)?;
    // Packs come before the slot of the log that names them: a crash between the two loses nothing that was acknowledged.
    let lines = store.lines();
    lines.iter().for_each(|line| println!("{line}"));
    let place = |folder: &str| lines.iter().rposition(|line| line.starts_with(folder));
    assert!(place("data/") < place("log/"));
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
