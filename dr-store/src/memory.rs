//! A store in the memory of this process.

use std::ops::Range;
use std::sync::Arc;

use object_store::memory::InMemory;

use crate::object::ObjectStoreDriver;
use crate::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store};

/// A store in the memory of this process; clones are handles to the same objects.
#[derive(Debug, Clone)]
pub struct MemoryStore(ObjectStoreDriver);

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::with_name("")
    }

    /// Makes an empty store whose endpoint is `memory:<name>`.
    pub(crate) fn with_name(name: &str) -> MemoryStore {
        MemoryStore(ObjectStoreDriver::new(Arc::new(InMemory::new()), format!("memory:{name}")))
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl Store for MemoryStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.0.put(name, payload, mode)
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        self.0.get(name)
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        self.0.get_range(name, range)
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        self.0.list(folder, after, visit)
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        self.0.list_folder(folder)
    }

    fn delete(&self, name: &Name) -> Result<()> {
        self.0.delete(name)
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.0.stat(name)
    }

    fn create_is_proven(&self) -> bool {
        true
    }

    fn endpoint(&self) -> String {
        self.0.endpoint()
    }
}
