//! Finds the newest snapshot of a host, lists a directory of it, and restores one file.
//!
//!     cargo run -p dr-core --example restore_one_file
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::error::Error;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use dr_core::{
    BackupOptions, CancelToken, Context, CreateOptions, Credentials, LocalTree, LocalTreeOptions, Repository,
    RepositoryOptions, RestoreOptions, SnapshotFilter,
};
use dr_store::MemoryStore;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let source = folder.path().join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("letter"), "Dear Ada")?;
    fs::write(source.join("photo"), [0xff; 100_000])?;

    let key = Credentials::key([7; 32]);
    let store = Arc::new(MemoryStore::new());
    let repository = Repository::create(store, &key, &CreateOptions::new(), RepositoryOptions::new())?;
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    let tree = LocalTree::open(std::slice::from_ref(&source), LocalTreeOptions::default())?;
    let _ = repository.backup(&tree, &BackupOptions::new().host("desk"), &ctx)?;

    // `latest`, `latest~2`, or the beginning of an id, among the snapshots that the filter lets pass.
    let mut filter = SnapshotFilter::new();
    filter.hosts.push("desk".to_owned());
    let snapshot = repository.find_snapshot("latest", &filter)?;

    // Paths are bytes: Linux knows no encoding of names.
    repository.list(&snapshot, source.as_os_str().as_bytes(), &mut |path, entry| {
        println!("{} {:o}", path.escape_ascii(), entry?.metadata.mode);
        Ok(())
    })?;

    let mut options = RestoreOptions::new().path(source.join("letter").as_os_str().as_bytes());
    options.strip_path = true;
    let target = folder.path().join("target");
    let report = repository.restore(&snapshot, &target, &options, &ctx)?;
    assert!(report.is_complete(), "{:?}", report.problems);
    assert_eq!(fs::read_to_string(target.join("letter"))?, "Dear Ada");
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
