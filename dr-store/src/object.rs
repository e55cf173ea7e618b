//! The adapter from the asynchronous drivers of the `object_store` crate to the blocking [`Store`](crate::Store).

#[cfg(feature = "_http")]
mod bucket;

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use object_store::path::Path;
use object_store::{Attribute, Error, ObjectStore, ObjectStoreExt, PutOptions, PutPayload};

use crate::error::kind_of_io;
use crate::name::{check_folder, is_valid_part};
use crate::runtime;
use crate::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};

/// How many objects of a listing cross from the driver's threads to the caller at a time.
pub(crate) const LIST_PAGE_OBJECTS: usize = 1000;

/// What a call to a server may take beside the bytes that it moves.
pub(crate) const DEADLINE_BASE: Duration = Duration::from_secs(60);

/// What a page of a listing may take: some servers walk all their folders for it.
pub(crate) const LIST_DEADLINE: Duration = Duration::from_secs(300);

/// The slowest line that a transfer is waited for.
const BYTES_PER_SECOND_MIN: u64 = 32 << 10;

/// How a driver treats a store that is on another machine.
#[derive(Debug, Clone, Default)]
pub(crate) struct Remote {
    /// Prefixes of names and the storage class of what is put there; the longest prefix that fits counts.
    pub(crate) storage_classes: Vec<(String, String)>,
    /// What stands before all names.
    #[allow(dead_code, reason = "a build may have no stores on other machines")]
    pub(crate) prefix: String,
}

impl Remote {
    fn storage_class(&self, path: &str) -> Option<&str> {
        let fitting = self.storage_classes.iter().filter(|(prefix, _)| path.starts_with(prefix.as_str()));
        fitting.max_by_key(|(prefix, _)| prefix.len()).map(|(_, class)| class.as_str())
    }
}

/// Any store of the `object_store` crate, as a [`Store`].
#[derive(Clone)]
pub(crate) struct ObjectStoreDriver {
    store: Arc<dyn ObjectStore>,
    endpoint: String,
    /// Nothing where the store is a disk or memory of this machine, which is waited for as long as it takes.
    remote: Option<Remote>,
}

/// The crate's own drivers hold credentials, so nothing of them is shown.
impl fmt::Debug for ObjectStoreDriver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("ObjectStoreDriver");
        shown.field("endpoint", &self.endpoint).field("remote", &self.remote).finish_non_exhaustive()
    }
}

impl ObjectStoreDriver {
    /// Wraps `store`; `endpoint` is what [`Store::endpoint`] answers.
    pub(crate) fn new(store: Arc<dyn ObjectStore>, endpoint: String) -> ObjectStoreDriver {
        ObjectStoreDriver { store, endpoint, remote: None }
    }

    /// Makes it the driver of a store on another machine: calls end at a deadline, and a refused create is looked into.
    #[cfg(feature = "_http")]
    pub(crate) fn with_remote(mut self, remote: Remote) -> ObjectStoreDriver {
        self.remote = Some(remote);
        self
    }

    /// Puts at a path that need not be a valid [`Name`], for a driver's own staging.
    pub(crate) fn put_at(&self, path: &str, payload: &Payload, mode: PutMode) -> Result<()> {
        let mode = match mode {
            PutMode::Create => object_store::PutMode::Create,
            PutMode::Replace => object_store::PutMode::Overwrite,
        };
        // The parts are shared, never copied together.
        let parts: PutPayload = payload.parts().iter().cloned().collect();
        let location = Path::from(path);
        let mut options = PutOptions::from(mode);
        if let Some(class) = self.remote.as_ref().and_then(|remote| remote.storage_class(path)) {
            options.attributes.insert(Attribute::StorageClass, class.to_owned().into());
        }
        let deadline = deadline_of(payload.bytes());
        self.call(
            "put",
            path,
            deadline,
            |store| async move { store.put_opts(&location, parts, options).await },
        )?;
        Ok(())
    }

    /// Makes `refused`, the answer that an object exists, a temporary failure where none does: S3 refuses a create, with
    /// the status 409, also while another one is under way, which may yet fail.
    fn confirm_exists(&self, name: &Name, refused: StoreError) -> StoreError {
        match self.stat(name) {
            Ok(_) => refused,
            Err(error) if error.kind() == StoreErrorKind::NotFound => {
                let why =
                    "the store refused to create an object that does not exist: another create was under way";
                StoreError::new(StoreErrorKind::Unavailable, "put", name.as_str()).with_source(why)
            }
            Err(error) => error,
        }
    }

    /// The answer to a request for metadata has no body, so it does not tell a missing object from a missing bucket. The
    /// answer to a request for a byte does.
    fn say_what_is_missing(&self, name: &Name, missing: StoreError) -> StoreError {
        if missing.kind() != StoreErrorKind::NotFound || self.remote.is_none() {
            return missing;
        }
        let location = Path::from(name.as_str());
        let asked = self.call("stat", name.as_str(), DEADLINE_BASE, |store| async move {
            store.get_range(&location, 0..1).await
        });
        match asked {
            Err(error) if error.kind() == StoreErrorKind::NotFound => error,
            _ => missing,
        }
    }

    fn deadline(&self, time: Duration) -> Option<Duration> {
        self.remote.as_ref().map(|_| time)
    }

    fn call<T, F>(
        &self,
        operation: &'static str,
        object: &str,
        deadline: Duration,
        make: impl FnOnce(Arc<dyn ObjectStore>) -> F,
    ) -> Result<T>
    where
        F: Future<Output = object_store::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        runtime::wait(operation, object, self.deadline(deadline), make(Arc::clone(&self.store)))?
            .map_err(|error| from_object_store(operation, object, error))
    }
}

impl Store for ObjectStoreDriver {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.put_at(name.as_str(), &payload, mode).map_err(|error| {
            let is_refused = mode == PutMode::Create && error.kind() == StoreErrorKind::AlreadyExists;
            if is_refused && self.remote.is_some() { self.confirm_exists(name, error) } else { error }
        })
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        let location = Path::from(name.as_str());
        let answer = self
            .call("get", name.as_str(), DEADLINE_BASE, |store| async move { store.get(&location).await })?;
        // Only now is it known how long the rest may take.
        let deadline = self.deadline(deadline_of(answer.meta.size));
        runtime::wait("get", name.as_str(), deadline, answer.bytes())?
            .map_err(|error| from_object_store("get", name.as_str(), error))
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let outside = || {
            let why = format!("the bytes {range:?} are not inside the object");
            StoreError::new(StoreErrorKind::InvalidInput, "get_range", name.as_str()).with_source(why)
        };
        if range.start >= range.end {
            // Stores refuse an empty range, so whether it lies inside the object is answered by its length.
            let inside = range.start == range.end && range.end <= self.stat(name)?.bytes;
            return if inside { Ok(Bytes::new()) } else { Err(outside()) };
        }
        let (location, wanted) = (Path::from(name.as_str()), range.clone());
        let deadline = deadline_of(range.end - range.start);
        let answer = self.call("get_range", name.as_str(), deadline, |store| async move {
            store.get_range(&location, wanted).await
        });
        match answer {
            Ok(bytes) if bytes.len() as u64 == range.end - range.start => Ok(bytes),
            // Stores shorten a range that ends behind the object.
            Ok(_) => Err(outside()),
            // They have no common error for one that also begins there.
            Err(error)
                if error.kind() == StoreErrorKind::Other
                    && self.stat(name).is_ok_and(|object| object.bytes < range.end) =>
            {
                Err(outside())
            }
            Err(error) => Err(error),
        }
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        let prefix = folder_path("list", folder)?;
        // After a name that stands before the whole folder comes all of it; Garage, asked for that, finds nothing.
        let stands_before = |after: &Name| !folder.is_empty() && *after.as_str() < *format!("{folder}/");
        let offset = after.filter(|after| !stands_before(after)).map(|after| Path::from(after.as_str()));
        let mut stream = self.call("list", folder, LIST_DEADLINE, |store| async move {
            Ok(match &offset {
                Some(offset) => store.list_with_offset(prefix.as_ref(), offset),
                None => store.list(prefix.as_ref()),
            })
        })?;
        loop {
            // The stream travels to the driver's threads and back with each page, so nothing is read ahead and
            // `visit` runs on the caller's thread.
            let (page, rest) = runtime::wait("list", folder, self.deadline(LIST_DEADLINE), async move {
                let page: Vec<_> = stream.by_ref().take(LIST_PAGE_OBJECTS).collect().await;
                (page, stream)
            })?;
            stream = rest;
            let is_last = page.len() < LIST_PAGE_OBJECTS;
            for item in page {
                let meta = item.map_err(|error| from_object_store("list", folder, error))?;
                match object_meta(meta) {
                    Some(object) if after.is_none_or(|after| object.name > *after) => visit(object)?,
                    _ => {}
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        let prefix = folder_path("list_folder", folder)?;
        let listed = self.call("list_folder", folder, LIST_DEADLINE, |store| async move {
            store.list_with_delimiter(prefix.as_ref()).await
        })?;
        let mut listing = FolderListing {
            folders: listed
                .common_prefixes
                .iter()
                .filter_map(|path| path.filename().filter(|part| is_valid_part(part)).map(String::from))
                .collect(),
            objects: listed.objects.into_iter().filter_map(object_meta).collect(),
        };
        listing.folders.sort_unstable();
        listing.objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    fn delete(&self, name: &Name) -> Result<()> {
        let location = Path::from(name.as_str());
        self.call(
            "delete",
            name.as_str(),
            DEADLINE_BASE,
            |store| async move { store.delete(&location).await },
        )
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        let location = Path::from(name.as_str());
        let meta = self
            .call("stat", name.as_str(), DEADLINE_BASE, |store| async move { store.head(&location).await })
            .map_err(|error| self.say_what_is_missing(name, error))?;
        Ok(ObjectMeta {
            name: name.clone(),
            bytes: meta.size,
            modified_ms: meta.last_modified.timestamp_millis(),
        })
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }
}

/// How long a call may take that moves so many bytes.
pub(crate) fn deadline_of(bytes: u64) -> Duration {
    DEADLINE_BASE + Duration::from_secs(bytes / BYTES_PER_SECOND_MIN)
}

fn folder_path(operation: &'static str, folder: &str) -> Result<Option<Path>> {
    check_folder(operation, folder)?;
    Ok((!folder.is_empty()).then(|| Path::from(folder)))
}

/// What is not validly named was not written through this crate and is not listed.
fn object_meta(meta: object_store::ObjectMeta) -> Option<ObjectMeta> {
    let name = Name::new(String::from(meta.location)).ok()?;
    Some(ObjectMeta { name, bytes: meta.size, modified_ms: meta.last_modified.timestamp_millis() })
}

fn from_object_store(operation: &'static str, object: &str, error: Error) -> StoreError {
    #[cfg(feature = "_http")]
    if let Some(error) = crate::remote::error_of_server(operation, object, &error) {
        return error;
    }
    let kind = match &error {
        Error::NotFound { .. } => StoreErrorKind::NotFound,
        // The only condition this crate ever sets is that no object of the name exists.
        Error::AlreadyExists { .. } | Error::Precondition { .. } => StoreErrorKind::AlreadyExists,
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => StoreErrorKind::PermissionDenied,
        Error::InvalidPath { .. } | Error::UnknownConfigurationKey { .. } => StoreErrorKind::InvalidInput,
        Error::NotSupported { .. } | Error::NotImplemented { .. } => StoreErrorKind::Unsupported,
        _ => kind_of_cause(&error),
    };
    let failed = StoreError::new(kind, operation, object);
    match kind {
        // The kind says all there is, and what a server sent with it is long.
        StoreErrorKind::NotFound | StoreErrorKind::AlreadyExists => failed,
        _ => failed.with_source(error),
    }
}

/// Looks for an error of the operating system among the causes: the generic errors say nothing themselves.
fn kind_of_cause(error: &Error) -> StoreErrorKind {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(current) = cause {
        if let Some(error) = current.downcast_ref::<io::Error>() {
            return kind_of_io(error);
        }
        cause = current.source();
    }
    StoreErrorKind::Other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_of_the_operating_system_get_their_kinds() {
        let cases = [
            (rustix::io::Errno::NOSPC, StoreErrorKind::StorageFull),
            (rustix::io::Errno::DQUOT, StoreErrorKind::StorageFull),
            (rustix::io::Errno::ACCESS, StoreErrorKind::PermissionDenied),
            (rustix::io::Errno::ROFS, StoreErrorKind::PermissionDenied),
            (rustix::io::Errno::TIMEDOUT, StoreErrorKind::Unavailable),
            (rustix::io::Errno::NAMETOOLONG, StoreErrorKind::InvalidInput),
            (rustix::io::Errno::IO, StoreErrorKind::Other),
        ];
        for (errno, kind) in cases {
            let source = Box::new(io::Error::from(errno));
            let error = from_object_store("put", "data/aa", Error::Generic { store: "test", source });
            assert_eq!(error.kind(), kind, "{errno:?}");
            assert_eq!(error.is_retryable(), kind == StoreErrorKind::Unavailable);
            assert!(error.to_string().starts_with("put data/aa: "), "{error}");
        }
    }
}
