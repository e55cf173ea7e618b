//! Tar archives: whatever stands in one, reading it ends; the data of its files lies inside them; backing it up is an error or a
//! report.
#![no_main]
use std::io::Cursor;
use std::sync::{Arc, OnceLock};

use dr_core::internals::{extents_fit, read_archive};
use dr_core::{
    BackupOptions, CancelToken, Context, CreateOptions, Credentials, Repository, RepositoryOptions, TarInput,
};

fn repository() -> &'static Repository {
    static REPOSITORY: OnceLock<Repository> = OnceLock::new();
    REPOSITORY.get_or_init(|| {
        let store = Arc::new(dr_store::MemoryStore::new());
        let key = Credentials::key([42; 32]);
        Repository::create(store, &key, &CreateOptions::new(), RepositoryOptions::new())
            .expect("a repository")
    })
}

/// Gives every block that begins like a header the sum that it says it has.
fn mend_sums(archive: &mut [u8]) {
    for block in archive.as_chunks_mut::<512>().0 {
        if &block[257..262] == b"ustar" {
            block[148..156].copy_from_slice(b"        ");
            let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
            block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        }
    }
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut archive = data.to_vec();
    mend_sums(&mut archive);
    if let Ok(members) = read_archive(&archive) {
        for member in members {
            assert!(member.data_bytes <= archive.len() as u64);
            match (member.bytes, member.extents) {
                (Some(bytes), Some(extents)) => assert!(extents_fit(&extents, member.data_bytes, bytes)),
                (Some(bytes), None) => assert_eq!(bytes, member.data_bytes),
                (None, _) => {}
            }
        }
    }
    let mut options = BackupOptions::new();
    options.dry_run = true;
    let cancel = CancelToken::new();
    let ctx = Context::new(&(), &cancel).with_parallelism(1);
    // An error is an answer too: what is wanted is that there is one.
    drop(repository().backup_tar(TarInput::new("tar", Cursor::new(archive)), &options, &ctx));
});
