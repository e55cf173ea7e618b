//! Opening a store by what a user writes: a path or a URL.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::file_url;
#[cfg(feature = "_http")]
use crate::remote;
use crate::{LocalStore, MemoryStore, Result, Store, StoreError, StoreErrorKind, StoreOptions};

/// Whether opening may make the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The place must exist.
    Existing,
    /// The place is made where it does not exist.
    Create,
}

/// What follows the colon of a URL, and how to open it.
struct Location<'a> {
    #[cfg_attr(
        not(any(feature = "webdav", feature = "opendal")),
        expect(dead_code, reason = "only some openers are of two schemes")
    )]
    scheme: &'a str,
    rest: &'a str,
    mode: OpenMode,
    #[cfg_attr(
        not(feature = "_http"),
        expect(dead_code, reason = "only stores of the network have options")
    )]
    options: &'a StoreOptions,
}

/// Opens a location of one scheme.
type Opener = fn(location: &Location<'_>) -> Result<Arc<dyn Store>>;

/// The schemes known. A new kind of store is a line here.
const OPENERS: &[(&str, Opener)] = &[
    ("file", open_file),
    ("memory", open_memory),
    #[cfg(feature = "s3")]
    ("s3", |at| guarded(remote::open_s3(at.rest, at.options), at.options)),
    #[cfg(feature = "gcs")]
    ("gs", |at| guarded(remote::open_gcs(at.rest, at.options), at.options)),
    #[cfg(feature = "azure")]
    ("az", |at| guarded(remote::open_azure(at.rest, at.options), at.options)),
    #[cfg(feature = "webdav")]
    ("http", |at| guarded(remote::open_webdav(at.scheme, at.rest, at.options), at.options)),
    #[cfg(feature = "webdav")]
    ("https", |at| guarded(remote::open_webdav(at.scheme, at.rest, at.options), at.options)),
    #[cfg(feature = "opendal")]
    ("sftp", open_dal),
    #[cfg(feature = "opendal")]
    ("b2", open_dal),
    #[cfg(feature = "opendal")]
    ("gdrive", open_dal),
    #[cfg(feature = "opendal")]
    ("onedrive", open_dal),
    #[cfg(feature = "opendal")]
    ("dropbox", open_dal),
    #[cfg(feature = "opendal")]
    ("swift", open_dal),
];

/// Schemes that a build of this crate may lack, and the feature that each needs.
const OPTIONAL: [(&str, &str); 11] = [
    ("s3", "s3"),
    ("gs", "gcs"),
    ("az", "azure"),
    ("http", "webdav"),
    ("https", "webdav"),
    ("sftp", "opendal"),
    ("b2", "opendal"),
    ("gdrive", "opendal"),
    ("onedrive", "opendal"),
    ("dropbox", "opendal"),
    ("swift", "opendal"),
];

/// The stores opened as `memory:<name>`, which live as long as the process.
static NAMED_MEMORY: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

/// Opens the store at `location` with the default options; see [`open_with`].
///
/// # Errors
/// As [`open_with`].
///
/// # Examples
/// ```
/// let store = dr_store::open("memory:", dr_store::OpenMode::Create)?;
/// assert!(store.list_folder("")?.objects.is_empty());
/// # Ok::<(), dr_store::StoreError>(())
/// ```
pub fn open(location: &str, mode: OpenMode) -> Result<Arc<dyn Store>> {
    open_with(location, mode, &StoreOptions::new())
}

/// Opens the store at `location`:
/// - a path, or `file:///path`;
/// - `memory:` (a new, empty one at every call) or `memory:<name>` (the same one at every call in this process);
/// - `s3://bucket/prefix` (feature `s3`), `gs://bucket/prefix` (feature `gcs`), `az://container/prefix` (feature
///   `azure`), `https://host/folder` of a WebDAV server (feature `webdav`);
/// - with the feature `opendal`, `sftp://user@host:port/path`, `b2://bucket/prefix`, `swift://container/prefix`, and
///   `gdrive:///folder`, `onedrive:///folder` and `dropbox:///folder`.
///
/// A relative path that begins like a URL is written with `./` in front. A store of the network is not asked anything:
/// whether its bucket exists is seen at the first call. Buckets are never made. What is returned for it makes calls that
/// fail for a while again, and keeps to the limits of the options.
///
/// # Credentials
/// They are variables, looked up by [`StoreOptions::with_variables`], and in the environment without it:
/// - S3: `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`; or those of a web identity or a container
///   (`AWS_WEB_IDENTITY_TOKEN_FILE` and `AWS_ROLE_ARN`, `AWS_CONTAINER_CREDENTIALS_…`). Also `AWS_REGION`,
///   `AWS_DEFAULT_REGION`, `AWS_ENDPOINT_URL_S3`, `AWS_ENDPOINT_URL` and `AWS_CA_BUNDLE`.
/// - Google: `GOOGLE_APPLICATION_CREDENTIALS` or `GOOGLE_SERVICE_ACCOUNT_KEY`.
/// - Azure: `AZURE_STORAGE_ACCOUNT_NAME`, and `AZURE_STORAGE_ACCOUNT_KEY`, `AZURE_STORAGE_SAS_TOKEN`,
///   `AZURE_STORAGE_TOKEN`, or `AZURE_CLIENT_ID`, `AZURE_TENANT_ID` and `AZURE_CLIENT_SECRET` or
///   `AZURE_FEDERATED_TOKEN_FILE`. Also `AZURE_STORAGE_ENDPOINT`.
/// - WebDAV: `DR_WEBDAV_USER`, `DR_WEBDAV_PASSWORD`.
/// - SFTP: what `ssh` has, or `DR_SFTP_KEY_FILE`; `DR_SFTP_KNOWN_HOSTS` is `strict` (the default), `add` or `accept`.
/// - B2: `B2_APPLICATION_KEY_ID`, `B2_APPLICATION_KEY`, `B2_BUCKET_ID`. Swift: `OS_STORAGE_URL`, `OS_AUTH_TOKEN`.
/// - Drives, with `GDRIVE`, `ONEDRIVE` or `DROPBOX` before it: `…_ACCESS_TOKEN`, or `…_REFRESH_TOKEN`, `…_CLIENT_ID` and
///   `…_CLIENT_SECRET`.
///
/// # Errors
/// `InvalidInput` where the scheme is unknown or the rest is wrong, `NotFound` where the place must exist and does
/// not, `PermissionDenied` where there are no credentials, and what the driver says.
pub fn open_with(location: &str, mode: OpenMode, options: &StoreOptions) -> Result<Arc<dyn Store>> {
    let Some((scheme, rest)) = split_scheme(location) else {
        return open_local(Path::new(location), mode);
    };
    let scheme = scheme.to_ascii_lowercase();
    match OPENERS.iter().find(|(known, _)| scheme == *known) {
        Some((_, opener)) => {
            options.check_kinds(&scheme)?;
            opener(&Location { scheme: &scheme, rest, mode, options })
        }
        None => {
            let known: Vec<&str> = OPENERS.iter().map(|(known, _)| *known).collect();
            let why = match OPTIONAL.iter().find(|(optional, _)| scheme == *optional) {
                Some((_, feature)) => format!("this program was built without the feature '{feature}'"),
                None => format!("unknown scheme; known are {}, and paths", known.join(", ")),
            };
            // The rest is not named: it may hold a password.
            Err(StoreError::new(StoreErrorKind::InvalidInput, "open", format!("{scheme}:…")).with_source(why))
        }
    }
}

/// Puts a store of the network behind the limits, and behind retries, which hold no place while they wait.
#[cfg(feature = "_http")]
fn guarded<S: Store + 'static>(driver: Result<S>, options: &StoreOptions) -> Result<Arc<dyn Store>> {
    let began = std::time::Instant::now();
    let elapsed = Arc::new(move || began.elapsed());
    let limited = crate::LimitStore::new(Arc::new(driver?), options.limits(), elapsed, options.sleep());
    Ok(Arc::new(crate::RetryStore::new(Arc::new(limited), options.retries(), options.sleep())))
}

/// Splits at the colon of a URL. A slash before the colon makes it a path.
fn split_scheme(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    is_scheme.then_some((scheme, rest))
}

#[cfg(feature = "opendal")]
fn open_dal(at: &Location<'_>) -> Result<Arc<dyn Store>> {
    guarded(remote::open_dal(at.scheme, at.rest, at.options), at.options)
}

fn open_file(at: &Location<'_>) -> Result<Arc<dyn Store>> {
    let (rest, mode) = (at.rest, at.mode);
    match file_url::to_path(rest) {
        Some(path) => open_local(&path, mode),
        None => Err(StoreError::new(StoreErrorKind::InvalidInput, "open", format!("file:{rest}"))
            .with_source("a file URL has the form file:///absolute/path")),
    }
}

fn open_local(path: &Path, mode: OpenMode) -> Result<Arc<dyn Store>> {
    Ok(match mode {
        OpenMode::Existing => Arc::new(LocalStore::open(path)?),
        OpenMode::Create => Arc::new(LocalStore::create(path)?),
    })
}

fn open_memory(at: &Location<'_>) -> Result<Arc<dyn Store>> {
    let (name, mode) = (at.rest, at.mode);
    if name.is_empty() {
        return Ok(Arc::new(MemoryStore::new()));
    }
    let mut named = NAMED_MEMORY.lock().unwrap_or_else(PoisonError::into_inner);
    match (named.get(name), mode) {
        (Some(store), _) => Ok(Arc::new(store.clone())),
        (None, OpenMode::Existing) => {
            Err(StoreError::new(StoreErrorKind::NotFound, "open", format!("memory:{name}")))
        }
        (None, OpenMode::Create) => {
            let store = MemoryStore::with_name(name);
            named.insert(name.to_owned(), store.clone());
            Ok(Arc::new(store))
        }
    }
}
