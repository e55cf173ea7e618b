//! Makes a repository in a folder, and backs a directory up twice.
//!
//!     cargo run -p dr-core --example create_and_backup
#![allow(clippy::print_stdout, reason = "an example says what it does")]

use std::error::Error;
use std::fs;

use dr_core::{
    BackupOptions, CancelToken, Context, CreateOptions, Credentials, LocalTree, LocalTreeOptions, Repository,
    RepositoryOptions,
};
use dr_store::OpenMode;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let documents = folder.path().join("documents");
    fs::create_dir(&documents)?;
    fs::write(documents.join("thesis"), "the only copy")?;

    // A path, or a URL as in `s3://bucket/prefix`.
    let place = folder.path().join("repository");
    let store = dr_store::open(place.to_str().ok_or("the path is not text")?, OpenMode::Create)?;
    let password = Credentials::password("correct horse battery staple")?;
    let repository = Repository::create(store, &password, &CreateOptions::new(), RepositoryOptions::new())?;

    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel);
    for _ in 0..2 {
        // Opened anew each time: a source says what is there when it is opened.
        let source = LocalTree::open(std::slice::from_ref(&documents), LocalTreeOptions::default())?;
        let report = repository.backup(&source, &BackupOptions::new().host("desk"), &ctx)?;
        // A backup in which something could not be read is a snapshot all the same, and says so.
        assert!(report.is_complete(), "{:?}", report.problems);
        println!("{} files, {} bytes read", report.totals.files, report.totals.bytes_read);
    }
    Ok(())
}

#[test]
fn it_runs() {
    main().unwrap();
}
