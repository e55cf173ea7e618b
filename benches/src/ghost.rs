//! A store that says it holds data packs which were never written.

use std::ops::Range;
use std::sync::Arc;

use dr_core::internals::scale::ghost;
use dr_store::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store};

/// Passes every call on, and adds so many data packs to listings. Their names are worked out each time: the list takes no
/// memory of the process that is measured.
#[derive(Debug)]
pub struct GhostStore {
    inner: Arc<dyn Store>,
    packs: u64,
}

impl GhostStore {
    /// Wraps `inner`.
    pub fn new(inner: Arc<dyn Store>, packs: u64) -> GhostStore {
        GhostStore { inner, packs }
    }
}

impl Store for GhostStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.inner.put(name, payload, mode)
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
        self.inner.list(folder, after, visit)?;
        if folder != "data" {
            return Ok(());
        }
        for (name, bytes) in (0..self.packs).map(ghost) {
            if after.is_none_or(|after| name > *after) {
                visit(ObjectMeta { name, bytes, modified_ms: 0 })?;
            }
        }
        Ok(())
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

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}
