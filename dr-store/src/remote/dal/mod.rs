//! Stores that only OpenDAL knows. None of them has a creation that fails where an object exists and lets nobody see a
//! half-written one, so such a put is answered with `Unsupported`.

mod open;

use std::fmt;
use std::future::Future;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::StreamExt;
use opendal::{Buffer, Entry, ErrorKind, Metadata, Operator};

pub(crate) use self::open::open;
use crate::name::{check_folder, is_valid_part};
use crate::object::{DEADLINE_BASE, LIST_DEADLINE, LIST_PAGE_OBJECTS, deadline_of};
use crate::runtime;
use crate::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};

/// A store of OpenDAL, as a [`Store`].
pub(crate) struct DalStore {
    operator: Operator,
    endpoint: String,
    /// Whether a put is written beside its name and then renamed, because readers would see it grow.
    puts_are_staged: bool,
    staged: AtomicU64,
    /// Keeps the staging files of two processes apart.
    nonce: u64,
}

/// The operator holds credentials, so nothing of it is shown.
impl fmt::Debug for DalStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DalStore").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl DalStore {
    fn call<T, F>(
        &self,
        operation: &'static str,
        object: &str,
        deadline: Duration,
        make: impl FnOnce(Operator) -> F,
    ) -> Result<T>
    where
        F: Future<Output = opendal::Result<T>> + Send + 'static,
        T: Send + 'static,
    {
        runtime::wait(operation, object, Some(deadline), make(self.operator.clone()))?
            .map_err(|error| from_opendal(operation, object, &error))
    }

    /// A name that no valid object has, for a file that is being written.
    fn staging_of(&self, name: &Name) -> String {
        let count = self.staged.fetch_add(1, Ordering::Relaxed);
        format!("{name}#{:016x}{count}", self.nonce)
    }
}

impl Store for DalStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        if mode == PutMode::Create {
            let why = "this kind of store cannot create an object only where none is";
            return Err(StoreError::new(StoreErrorKind::Unsupported, "put", name.as_str()).with_source(why));
        }
        let deadline = deadline_of(payload.bytes());
        let bytes: Buffer = payload.parts().iter().cloned().collect();
        let path = name.as_str().to_owned();
        if !self.puts_are_staged {
            return self.call("put", name.as_str(), deadline, |to| async move {
                to.write(&path, bytes).await.map(drop)
            });
        }
        let staging = self.staging_of(name);
        self.call("put", name.as_str(), deadline, |to| async move {
            let written = async {
                to.write(&staging, bytes).await?;
                to.rename(&staging, &path).await
            };
            let answer = written.await;
            if answer.is_err() {
                // What is left of it is listed by nobody.
                let _ = to.delete(&staging).await;
            }
            answer
        })
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        let bytes = self.stat(name)?.bytes;
        let path = name.as_str().to_owned();
        let read = self
            .call("get", name.as_str(), deadline_of(bytes), |from| async move { from.read(&path).await })?;
        Ok(read.to_bytes())
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let length = self.stat(name)?.bytes;
        if range.start > range.end || range.end > length {
            let why = format!("the bytes {range:?} are not inside the object's {length}");
            return Err(
                StoreError::new(StoreErrorKind::InvalidInput, "get_range", name.as_str()).with_source(why)
            );
        }
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let (path, wanted) = (name.as_str().to_owned(), range.end - range.start);
        let read = self.call("get_range", name.as_str(), deadline_of(wanted), |from| async move {
            from.read_with(&path).range(range).await
        })?;
        if read.len() as u64 == wanted {
            return Ok(read.to_bytes());
        }
        let why = format!("{} bytes came, of {wanted}", read.len());
        Err(StoreError::new(StoreErrorKind::Unavailable, "get_range", name.as_str()).with_source(why))
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        check_folder("list", folder)?;
        let path = path_of(folder);
        let begun = self.call("list", folder, LIST_DEADLINE, |from| async move {
            from.lister_with(&path).recursive(true).await
        });
        let mut entries = match begun {
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(()),
            answer => answer?,
        };
        loop {
            let (page, rest) = runtime::wait("list", folder, Some(LIST_DEADLINE), async move {
                let page: Vec<_> = entries.by_ref().take(LIST_PAGE_OBJECTS).collect().await;
                (page, entries)
            })?;
            entries = rest;
            let is_last = page.len() < LIST_PAGE_OBJECTS;
            for entry in page {
                let entry = match entry {
                    // A folder that does not exist has no objects.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    answer => answer.map_err(|error| from_opendal("list", folder, &error))?,
                };
                match self.object(&entry)? {
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
        check_folder("list_folder", folder)?;
        let path = path_of(folder);
        let listed =
            self.call("list_folder", folder, LIST_DEADLINE, |from| async move { from.list(&path).await });
        let entries = match listed {
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(FolderListing::default()),
            answer => answer?,
        };
        let mut listing = FolderListing::default();
        for entry in entries {
            let (parent, part) = split(entry.path());
            if parent != folder {
                continue;
            }
            if entry.metadata().is_dir() {
                listing.folders.extend(is_valid_part(part).then(|| part.to_owned()));
            } else {
                listing.objects.extend(self.object(&entry)?);
            }
        }
        listing.folders.sort_unstable();
        listing.objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(listing)
    }

    fn delete(&self, name: &Name) -> Result<()> {
        let path = name.as_str().to_owned();
        self.call("delete", name.as_str(), DEADLINE_BASE, |from| async move { from.delete(&path).await })
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        let path = name.as_str().to_owned();
        let found =
            self.call("stat", name.as_str(), DEADLINE_BASE, |from| async move { from.stat(&path).await })?;
        if !found.is_file() {
            return Err(StoreError::new(StoreErrorKind::NotFound, "stat", name.as_str()));
        }
        Ok(object_meta(name.clone(), &found))
    }

    fn endpoint(&self) -> String {
        self.endpoint.clone()
    }
}

impl DalStore {
    /// The object that a listing shows, where it is one. Some services list names alone.
    fn object(&self, entry: &Entry) -> Result<Option<ObjectMeta>> {
        let metadata = entry.metadata();
        let Ok(name) = Name::new(entry.path()) else { return Ok(None) };
        if metadata.is_file() && metadata.last_modified().is_some() {
            return Ok(Some(object_meta(name, metadata)));
        }
        match self.stat(&name) {
            Ok(object) => Ok(Some(object)),
            // It was deleted meanwhile, or is a folder.
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn object_meta(name: Name, metadata: &Metadata) -> ObjectMeta {
    let modified_ms = metadata.last_modified().map_or(0, |time| time.into_inner().as_millisecond());
    ObjectMeta { name, bytes: metadata.content_length(), modified_ms }
}

/// A folder as OpenDAL writes it: with a slash behind it, also the top.
fn path_of(folder: &str) -> String {
    format!("{folder}/")
}

/// A listed path's folder and last part.
fn split(path: &str) -> (&str, &str) {
    let path = path.trim_end_matches('/');
    path.rsplit_once('/').unwrap_or(("", path))
}

/// Only the message is kept: the context of an error may hold a URL with secrets.
fn from_opendal(operation: &'static str, object: &str, error: &opendal::Error) -> StoreError {
    let kind = match error.kind() {
        ErrorKind::NotFound | ErrorKind::IsADirectory | ErrorKind::NotADirectory => StoreErrorKind::NotFound,
        ErrorKind::AlreadyExists | ErrorKind::ConditionNotMatch => StoreErrorKind::AlreadyExists,
        ErrorKind::PermissionDenied => StoreErrorKind::PermissionDenied,
        ErrorKind::RateLimited => StoreErrorKind::Unavailable,
        ErrorKind::Unsupported => StoreErrorKind::Unsupported,
        ErrorKind::ConfigInvalid | ErrorKind::RangeNotSatisfied => StoreErrorKind::InvalidInput,
        _ if error.is_temporary() => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Other,
    };
    let failed = StoreError::new(kind, operation, object);
    match kind {
        StoreErrorKind::NotFound | StoreErrorKind::AlreadyExists => failed,
        _ => failed.with_source(error.message().to_owned()),
    }
}
