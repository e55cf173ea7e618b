//! Buckets that somebody else fills: they are only read, with what tells one version of an object from the next.

use std::fmt::Debug;
use std::ops::Range;
#[cfg(feature = "_http")]
use std::sync::{Arc, Mutex, PoisonError};

use crate::{Bytes, Result};

/// An object that somebody else wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BucketObject {
    /// The last part of its key.
    pub name: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// When it was written by the server's clock, in seconds since 1970-01-01 UTC: not all answers are more exact.
    pub modified_s: i64,
    /// What the server calls this version of the object, as it stands in its answers.
    pub etag: Option<String>,
}

/// One level of a bucket, the first two parts in ascending order of name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketFolder {
    /// Names of the folders right below.
    pub folders: Vec<String>,
    /// The objects right below.
    pub objects: Vec<BucketObject>,
    /// Keys that lead through no folders and so cannot be read here, without the folder's own part, and why.
    pub unusable: Vec<(String, &'static str)>,
}

/// A bucket (or container, or folder of a server) that is only read. Other than in a [`Store`](crate::Store), keys are whatever
/// the writer chose; parts between slashes are folders.
pub trait Bucket: Debug + Send + Sync {
    /// Lists one level: what is right below `folder` (the top where it is empty).
    ///
    /// # Errors
    /// `PermissionDenied`, `Unavailable`, `NotFound` where the bucket itself is not there.
    fn list_folder(&self, folder: &str) -> Result<BucketFolder>;

    /// Says what an object is now.
    ///
    /// # Errors
    /// `NotFound`, `PermissionDenied`, `Unavailable`.
    fn stat(&self, key: &str) -> Result<BucketObject>;

    /// Reads the bytes `range` of the version `etag` of an object; the answer has exactly that length.
    ///
    /// # Errors
    /// `Changed` where the object is another one by now; `NotFound`, `PermissionDenied`, `Unavailable`.
    fn read(&self, key: &str, etag: Option<&str>, range: Range<u64>) -> Result<Bytes>;

    /// A text that names this place for people: a URL without secrets.
    fn endpoint(&self) -> String;
}

/// Whether a location is that of a bucket: a URL whose scheme [`open_bucket`] may know.
pub fn is_bucket(location: &str) -> bool {
    let Some((scheme, rest)) = location.split_once(':') else { return false };
    let known = ["s3", "gs", "az", "http", "https"];
    rest.starts_with("//") && known.contains(&scheme.to_ascii_lowercase().as_str())
}

/// Opens the bucket at `location` for reading: `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`, or
/// `https://host/folder` of a WebDAV server, where this program was built with it. Settings and credentials are those of
/// [`open_with`](crate::open_with). The server is not asked anything yet.
///
/// # Errors
/// As [`open_with`](crate::open_with).
#[cfg(feature = "_http")]
pub fn open_bucket(location: &str, options: &crate::StoreOptions) -> Result<Arc<dyn Bucket>> {
    use crate::remote::{self, KeyFilter};
    let (scheme, rest) = location.split_once(':').unwrap_or(("", location));
    let scheme = scheme.to_ascii_lowercase();
    options.check_kinds(&scheme)?;
    let keys = Arc::new(KeyFilter::default());
    let own = options.clone().with_key_filter(Arc::clone(&keys));
    let driver = match scheme.as_str() {
        #[cfg(feature = "s3")]
        "s3" => remote::open_s3(rest, &own)?,
        #[cfg(feature = "gcs")]
        "gs" => remote::open_gcs(rest, &own)?,
        #[cfg(feature = "azure")]
        "az" => remote::open_azure(rest, &own)?,
        #[cfg(feature = "webdav")]
        "http" | "https" => remote::open_webdav(&scheme, rest, &own)?,
        _ => return Err(unknown(&scheme)),
    };
    let retry = crate::RetryStore::new(Arc::new(driver.clone()), options.retries(), options.sleep());
    Ok(Arc::new(RemoteBucket { driver, keys, retry, listing: Mutex::default() }))
}

/// Opens nothing: this program was built without stores of the network.
///
/// # Errors
/// `InvalidInput`, always.
#[cfg(not(feature = "_http"))]
pub fn open_bucket(location: &str, _options: &crate::StoreOptions) -> Result<std::sync::Arc<dyn Bucket>> {
    Err(unknown(location.split_once(':').map_or("", |(scheme, _)| scheme)))
}

fn unknown(scheme: &str) -> crate::StoreError {
    let why =
        "this program cannot read from such a place (it may have been built without the feature for it)";
    // The rest is not named: it may hold a password.
    crate::StoreError::new(crate::StoreErrorKind::InvalidInput, "open", format!("{scheme}:…"))
        .with_source(why)
}

/// A bucket of a server. Calls that fail for a while are made again.
#[cfg(feature = "_http")]
struct RemoteBucket {
    driver: crate::object::ObjectStoreDriver,
    /// Takes out of the answers what the driver would stumble over.
    keys: Arc<crate::remote::KeyFilter>,
    retry: crate::RetryStore,
    /// Held while a folder is listed: what was taken out belongs to it.
    listing: Mutex<()>,
}

#[cfg(feature = "_http")]
impl Debug for RemoteBucket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteBucket").field("driver", &self.driver).finish_non_exhaustive()
    }
}

#[cfg(feature = "_http")]
impl Bucket for RemoteBucket {
    fn list_folder(&self, folder: &str) -> Result<BucketFolder> {
        let _turn = self.listing.lock().unwrap_or_else(PoisonError::into_inner);
        self.retry.attempts(|_| {
            // An attempt that failed may have left some.
            drop(self.keys.take());
            let mut listed = self.driver.list_objects(folder)?;
            listed.unusable = self.driver.below(folder, self.keys.take());
            Ok(listed)
        })
    }

    fn stat(&self, key: &str) -> Result<BucketObject> {
        self.retry.attempts(|_| self.driver.stat_object(key))
    }

    fn read(&self, key: &str, etag: Option<&str>, range: Range<u64>) -> Result<Bytes> {
        self.retry.attempts(|_| self.driver.read_object(key, etag, range.clone()))
    }

    fn endpoint(&self) -> String {
        crate::Store::endpoint(&self.driver)
    }
}
