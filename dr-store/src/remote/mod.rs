//! Stores of the network, each by its own protocol, over one HTTP client.

#[cfg(feature = "azure")]
mod azure;
mod client;
#[cfg(feature = "opendal")]
mod dal;
mod failure;
#[cfg(feature = "gcs")]
mod gcs;
mod keys;
#[allow(dead_code, reason = "a build may have no store with buckets, or none without")]
mod location;
mod notify;
#[cfg(feature = "s3")]
mod s3;
#[cfg(feature = "webdav")]
mod webdav;

use std::sync::Arc;

use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, RetryConfig};

#[cfg(feature = "azure")]
pub(crate) use self::azure::open as open_azure;
#[cfg(feature = "opendal")]
pub(crate) use self::dal::open as open_dal;
pub(crate) use self::failure::error_of_server;
#[cfg(feature = "gcs")]
pub(crate) use self::gcs::open as open_gcs;
pub(crate) use self::keys::KeyFilter;
pub(crate) use self::notify::post_json;
#[cfg(feature = "s3")]
pub(crate) use self::s3::open as open_s3;
#[cfg(feature = "webdav")]
pub(crate) use self::webdav::open as open_webdav;
use crate::object::{ObjectStoreDriver, Remote};
use crate::{Result, StoreError, StoreErrorKind, StoreOptions};

/// The crate makes no request again by itself: that would hide that an earlier one may have taken effect, and
/// [`RetryStore`](crate::RetryStore), which knows what to do then, is around every remote store.
fn no_retries() -> RetryConfig {
    RetryConfig { max_retries: 0, ..RetryConfig::default() }
}

/// Makes a driver of a store whose objects are below `prefix`.
fn driver(
    store: impl ObjectStore,
    prefix: &Path,
    endpoint: String,
    options: &StoreOptions,
) -> ObjectStoreDriver {
    let store: Arc<dyn ObjectStore> = if prefix.as_ref().is_empty() {
        Arc::new(store)
    } else {
        Arc::new(PrefixStore::new(store, prefix.clone()))
    };
    let storage_classes = options.storage_classes().to_vec();
    let remote = Remote { storage_classes, prefix: prefix.as_ref().to_owned() };
    ObjectStoreDriver::new(store, endpoint).with_remote(remote)
}

/// An error of opening that the caller has to do something about.
fn refused(
    kind: StoreErrorKind,
    place: &str,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    remedy: &'static str,
) -> StoreError {
    StoreError::new(kind, "open", place).with_source(why).with_remedy(remedy)
}

/// What a driver's own builder says of its settings.
fn build<T>(place: &str, built: object_store::Result<T>) -> Result<T> {
    built.map_err(|error| {
        error_of_server("open", place, &error).unwrap_or_else(|| {
            StoreError::new(StoreErrorKind::InvalidInput, "open", place).with_source(error.to_string())
        })
    })
}
