//! Opening a store by what a user writes: a path or a URL.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use crate::file_url;
use crate::{LocalStore, MemoryStore, Result, Store, StoreError, StoreErrorKind};

/// Whether opening may make the place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// The place must exist.
    Existing,
    /// The place is made where it does not exist.
    Create,
}

/// Opens what follows the colon of a URL.
type Opener = fn(rest: &str, mode: OpenMode) -> Result<Arc<dyn Store>>;

/// The schemes known. A new kind of store is a line here.
const OPENERS: &[(&str, Opener)] = &[("file", open_file), ("memory", open_memory)];

/// The stores opened as `memory:<name>`, which live as long as the process.
static NAMED_MEMORY: LazyLock<Mutex<HashMap<String, MemoryStore>>> = LazyLock::new(Mutex::default);

/// Opens the store at `location`: a path, `file:///path`, `memory:` (a new, empty one at every call) or
/// `memory:<name>` (the same one at every call in this process).
///
/// A relative path that begins like a URL is written with `./` in front.
///
/// # Errors
/// `InvalidInput` where the scheme is unknown or the rest is wrong, `NotFound` where the place must exist and does
/// not, and what the driver says.
///
/// # Examples
/// ```
/// let store = dr_store::open("memory:", dr_store::OpenMode::Create)?;
/// assert!(store.list_folder("")?.objects.is_empty());
/// # Ok::<(), dr_store::StoreError>(())
/// ```
pub fn open(location: &str, mode: OpenMode) -> Result<Arc<dyn Store>> {
    let Some((scheme, rest)) = split_scheme(location) else {
        return open_local(Path::new(location), mode);
    };
    match OPENERS.iter().find(|(known, _)| scheme.eq_ignore_ascii_case(known)) {
        Some((_, opener)) => opener(rest, mode),
        None => {
            let known: Vec<&str> = OPENERS.iter().map(|(known, _)| *known).collect();
            let why = format!("unknown scheme; known are {}, and paths", known.join(", "));
            // The rest is not named: it may hold a password.
            Err(StoreError::new(StoreErrorKind::InvalidInput, "open", format!("{scheme}:…")).with_source(why))
        }
    }
}

/// Splits at the colon of a URL. A slash before the colon makes it a path.
fn split_scheme(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let is_scheme = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-'));
    is_scheme.then_some((scheme, rest))
}

fn open_file(rest: &str, mode: OpenMode) -> Result<Arc<dyn Store>> {
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

fn open_memory(name: &str, mode: OpenMode) -> Result<Arc<dyn Store>> {
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
