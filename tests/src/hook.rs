//! A store beside which something else happens at a chosen call.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use dr_store::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store};

/// A call that is about to be made.
#[derive(Debug, Clone, Copy)]
pub struct Upcoming<'a> {
    /// Its number among all calls, from 0.
    pub number: u64,
    /// What is called.
    pub operation: &'static str,
    /// The object or folder.
    pub object: &'a str,
}

type Hook = Box<dyn FnOnce() + Send>;
type Choose = Box<dyn Fn(&Upcoming<'_>) -> bool + Send + Sync>;

/// Runs something once, just before the first call that is chosen.
pub struct HookStore {
    inner: Arc<dyn Store>,
    calls: AtomicU64,
    choose: Choose,
    hook: Mutex<Option<Hook>>,
}

impl fmt::Debug for HookStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HookStore").field("calls", &self.calls).finish_non_exhaustive()
    }
}

impl HookStore {
    /// Wraps `inner`. The hook must use another handle of it.
    pub fn new(
        inner: Arc<dyn Store>,
        choose: impl Fn(&Upcoming<'_>) -> bool + Send + Sync + 'static,
        hook: impl FnOnce() + Send + 'static,
    ) -> HookStore {
        HookStore {
            inner,
            calls: AtomicU64::new(0),
            choose: Box::new(choose),
            hook: Mutex::new(Some(Box::new(hook))),
        }
    }

    /// Whether the chosen call came.
    pub fn has_run(&self) -> bool {
        self.hook.lock().unwrap().is_none()
    }

    fn before(&self, operation: &'static str, object: &str) {
        let number = self.calls.fetch_add(1, Ordering::SeqCst);
        if (self.choose)(&Upcoming { number, operation, object }) {
            let hook = self.hook.lock().unwrap().take();
            if let Some(hook) = hook {
                hook();
            }
        }
    }
}

impl Store for HookStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.before("put", name.as_str());
        self.inner.put(name, payload, mode)
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        self.before("get", name.as_str());
        self.inner.get(name)
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        self.before("get_range", name.as_str());
        self.inner.get_range(name, range)
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        self.before("list", folder);
        self.inner.list(folder, after, visit)
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        self.before("list_folder", folder);
        self.inner.list_folder(folder)
    }

    fn delete(&self, name: &Name) -> Result<()> {
        self.before("delete", name.as_str());
        self.inner.delete(name)
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.before("stat", name.as_str());
        self.inner.stat(name)
    }

    fn create_is_proven(&self) -> bool {
        true
    }

    fn endpoint(&self) -> String {
        self.inner.endpoint()
    }
}
