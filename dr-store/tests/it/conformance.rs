//! The conformance suite, on every store of the crate.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use dr_store::conformance::{run, run_without};
use dr_store::sim::SimStore;
use dr_store::{LocalStore, MemoryStore, MeteredStore, RetryOptions, RetryStore, Store};

#[test]
fn memory() {
    run(&|| Arc::new(MemoryStore::new())).unwrap();
}

#[test]
fn local() {
    let folder = tempfile::tempdir().unwrap();
    run(&|| {
        let place = tempfile::tempdir_in(folder.path()).unwrap().keep();
        Arc::new(LocalStore::create(place.join("store")).unwrap())
    })
    .unwrap();
}

#[test]
fn local_where_others_can_enter() {
    let folder = tempfile::tempdir().unwrap();
    run(&|| {
        let place = tempfile::tempdir_in(folder.path()).unwrap().keep();
        fs::set_permissions(&place, Permissions::from_mode(0o755)).unwrap();
        Arc::new(LocalStore::create(place).unwrap())
    })
    .unwrap();
}

#[test]
fn a_check_that_is_left_out_must_be_there() {
    let make: &dyn Fn() -> Arc<dyn Store> = &|| Arc::new(MemoryStore::new());
    run_without(&["ranges"], make).unwrap();
    assert!(run_without(&["ranges", "no such check"], make).unwrap_err().contains("no such check"));
}

#[test]
fn sim() {
    run(&|| Arc::new(SimStore::new())).unwrap();
}

#[test]
fn wrappers() {
    run(&|| {
        let metered: Arc<dyn Store> = Arc::new(MeteredStore::new(Arc::new(MemoryStore::new())));
        Arc::new(RetryStore::new(metered, RetryOptions::default(), Arc::new(|_| {})))
    })
    .unwrap();
}
