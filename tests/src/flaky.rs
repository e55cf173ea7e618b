//! A store that fails once, at a chosen call, and works before and after.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use dr_store::sim::When;
use dr_store::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};

/// One failure: at which call, of which kind, and whether the call takes effect all the same.
#[derive(Debug, Clone, Copy)]
pub struct OneFault {
    /// The call, counted from 0.
    pub call: u64,
    /// The kind of the failure.
    pub kind: StoreErrorKind,
    /// Whether the call takes effect.
    pub when: When,
}

/// Passes every call on but one.
#[derive(Debug)]
pub struct FlakyStore {
    inner: Arc<dyn Store>,
    fault: OneFault,
    calls: AtomicU64,
    has_failed: AtomicBool,
}

impl FlakyStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Store>, fault: OneFault) -> FlakyStore {
        FlakyStore { inner, fault, calls: AtomicU64::new(0), has_failed: AtomicBool::new(false) }
    }

    /// Whether the failure has happened.
    pub fn has_failed(&self) -> bool {
        self.has_failed.load(Ordering::SeqCst)
    }

    fn call<T>(
        &self,
        operation: &'static str,
        object: &str,
        effect: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if self.calls.fetch_add(1, Ordering::SeqCst) != self.fault.call {
            return effect();
        }
        self.has_failed.store(true, Ordering::SeqCst);
        if self.fault.when == When::After {
            // Whether it succeeded is what the caller does not learn.
            let _ = effect();
        }
        Err(StoreError::new(self.fault.kind, operation, object))
    }
}

impl Store for FlakyStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.call("put", name.as_str(), || self.inner.put(name, payload, mode))
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        self.call("get", name.as_str(), || self.inner.get(name))
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        self.call("get_range", name.as_str(), || self.inner.get_range(name, range))
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        self.call("list", folder, || self.inner.list(folder, after, visit))
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        self.call("list_folder", folder, || self.inner.list_folder(folder))
    }

    fn delete(&self, name: &Name) -> Result<()> {
        self.call("delete", name.as_str(), || self.inner.delete(name))
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.call("stat", name.as_str(), || self.inner.stat(name))
    }

    fn create_is_proven(&self) -> bool {
        self.inner.create_is_proven()
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}
