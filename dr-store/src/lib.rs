//! Named opaque bytes on any object store: the bottom layer of dr.
//!
//! A driver author implements [`Store`] and runs the conformance suite (feature `conformance`) against it; nothing
//! here knows of chunks, packs or keys. Stores are opened from a URL or a path by [`open`] and
//! [`open_with`].
//!
//! # The contract
//! - A put is atomic: a reader sees the whole object or none of it, and when `put` returns `Ok` the object is durable
//!   and every later `get`, `stat` and listing (by anybody) shows it.
//! - [`PutMode::Create`] succeeds for exactly one of any number of concurrent callers. Not every server keeps this:
//!   [`probe::probe_create`] tells which, and a driver whose server has no such put answers `Unsupported`.
//! - `AlreadyExists` says that an object of the name was there to be read when the call ended. Whose it is, it does not
//!   say: it may be the caller's own, from an attempt whose answer was lost, so a caller to whom this matters reads it
//!   back. A server's refusal that may mean less (a conflict with another request under way) is `Unavailable`.
//! - An error leaves it unknown whether the call took effect, unless its kind says so.
//! - Secrets are in no error, no `Debug` output and no endpoint.
//! - All calls block, may be made from any thread, also from a thread of a tokio runtime.
//! - No name may be a folder of another name: a file system cannot hold both `a` and `a/b`.
//! - A folder that holds no object is not listed.

mod bucket;
mod error;
mod file_url;
mod limit;
mod local;
mod memory;
mod metered;
mod name;
mod notify;
mod object;
mod open;
mod options;
mod retry;
mod runtime;

#[cfg(feature = "_http")]
mod remote;

pub mod probe;

#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "sim")]
pub mod sim;

use std::fmt::Debug;
use std::ops::Range;
use std::path::PathBuf;

pub use bucket::{Bucket, BucketFolder, BucketObject, is_bucket, open_bucket};
pub use bytes::Bytes;
pub use error::{Result, StoreError, StoreErrorKind};
pub use limit::{Elapsed, LimitOptions, LimitStore};
pub use local::LocalStore;
pub use memory::MemoryStore;
pub use metered::{MeteredStore, StoreCounts};
pub use name::{NAME_BYTES_MAX, NAME_PART_BYTES_MAX, Name};
pub use notify::post_json;
pub use open::{OpenMode, open, open_with};
pub use options::{SETTINGS, StoreOptions};
pub use retry::{RetryOptions, RetryStore, Sleep};

/// How a put treats an object of the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutMode {
    /// Fails with `AlreadyExists`, and changes nothing, where the name is taken.
    Create,
    /// Replaces what is there, atomically.
    Replace,
}

/// What a store says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// The object's name.
    pub name: Name,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written by the store's own clock, in milliseconds since 1970-01-01 UTC.
    pub modified_ms: i64,
}

/// One level of a listing, both parts in ascending order of name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FolderListing {
    /// Names of the folders right below, without the parent's prefix and without slashes.
    pub folders: Vec<String>,
    /// The objects right below.
    pub objects: Vec<ObjectMeta>,
}

/// An object's bytes as the parts they were made in, so that a pack is never copied together.
#[derive(Debug, Clone, Default)]
pub struct Payload(Vec<Bytes>);

impl Payload {
    /// Builds a payload from its parts in order.
    pub fn from_parts(parts: Vec<Bytes>) -> Payload {
        Payload(parts)
    }

    /// The parts in order.
    pub fn parts(&self) -> &[Bytes] {
        &self.0
    }

    /// The length of all parts together, in bytes.
    pub fn bytes(&self) -> u64 {
        self.0.iter().map(|part| part.len() as u64).sum()
    }

    /// Copies the parts into one buffer.
    pub fn to_vec(&self) -> Vec<u8> {
        self.0.concat()
    }
}

impl<T: Into<Bytes>> From<T> for Payload {
    fn from(bytes: T) -> Payload {
        Payload(vec![bytes.into()])
    }
}

/// Named opaque bytes. The crate documentation states the contract.
pub trait Store: Debug + Send + Sync {
    /// Writes an object, durably and atomically.
    ///
    /// # Errors
    /// `AlreadyExists` in mode create where the name is taken; `StorageFull`, `PermissionDenied`, `Unavailable`.
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()>;

    /// Reads a whole object.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Unavailable`.
    fn get(&self, name: &Name) -> Result<Bytes>;

    /// Reads the bytes `range` of an object; the answer has exactly that length.
    ///
    /// # Errors
    /// As `get`, and `InvalidInput` where the range is not inside the object.
    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes>;

    /// Calls `visit` for every object whose name begins with `folder` and a slash (all objects where `folder` is
    /// empty) and is greater than `after`, in no particular order. An error of `visit` ends the listing.
    ///
    /// # Errors
    /// `PermissionDenied`, `Unavailable`, and what `visit` returned.
    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()>;

    /// Lists one level: the folders and objects right below `folder` (the top where it is empty).
    ///
    /// # Errors
    /// `PermissionDenied`, `Unavailable`.
    fn list_folder(&self, folder: &str) -> Result<FolderListing>;

    /// Deletes an object.
    ///
    /// # Errors
    /// `NotFound` where the store can tell, `PermissionDenied`, `Unavailable`.
    fn delete(&self, name: &Name) -> Result<()>;

    /// Says how long an object is and when it was written.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Unavailable`.
    fn stat(&self, name: &Name) -> Result<ObjectMeta>;

    /// Whether the driver itself vouches that of several who create a name exactly one succeeds. Whoever writes to other
    /// stores probes them first.
    fn create_is_proven(&self) -> bool {
        false
    }

    /// The folder of this machine's file system that the objects are in, where there is one, so that nobody takes it for
    /// something else.
    fn local_root(&self) -> Option<PathBuf> {
        None
    }

    /// Removes what dead writers left behind: staging files, older than a day, of objects whose names `is_name` takes for
    /// its own. To be called by a writer that knows what the place is, never on merely opening it. Stores that leave
    /// nothing behind do nothing.
    ///
    /// # Errors
    /// `PermissionDenied`, `Other`.
    fn sweep(&self, is_name: &dyn Fn(&str) -> bool) -> Result<u64> {
        let _ = is_name;
        Ok(0)
    }

    /// A text that names this place for people and for per-place state: a URL without secrets.
    fn endpoint(&self) -> String;
}
