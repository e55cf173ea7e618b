//! The engine's one error type: a coarse kind for programs, a message that names the object, the cause and the remedy
//! for people.

use std::fmt;
use std::path::{Path, PathBuf};

use dr_store::{StoreError, StoreErrorKind};

/// A result of an engine call.
pub type Result<T> = std::result::Result<T, Error>;

/// The coarse kind of a failure, for programs to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// There is no repository, snapshot or path of that name.
    NotFound,
    /// What was to be created exists.
    AlreadyExists,
    /// No key slot opens with the credentials given.
    WrongCredentials,
    /// Stored bytes are damaged, or a referenced object is missing.
    Corrupt,
    /// The log is shorter than, or different from, the one this client saw before.
    RolledBack,
    /// The bytes are of a format version or extension that this program does not know.
    UnsupportedFormat,
    /// The store did not answer or failed; the call may succeed later.
    StoreUnavailable,
    /// The store failed in a way that trying again does not mend, for example an I/O error of its disk.
    StoreFailed,
    /// The store has no space left.
    StorageFull,
    /// The store or the operating system refused access.
    PermissionDenied,
    /// The source could not be read, or it changed in a way that leaves nothing to save.
    Source,
    /// The target of a restore could not be written.
    Destination,
    /// An argument is not valid.
    InvalidInput,
    /// A limit of the format was reached.
    LimitExceeded,
    /// The caller cancelled the call.
    Cancelled,
    /// A defect of this program.
    Internal,
}

/// A failure: what failed, on which object or path, why, and what to do.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    object: Option<String>,
    path: Option<PathBuf>,
    remedy: Option<&'static str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// Builds an error of `kind`; `message` says in lower case what failed.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            object: None,
            path: None,
            remedy: None,
            source: None,
        }))
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn cancelled() -> Error {
        Error::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Names the stored object that the failure is about.
    #[must_use]
    pub fn with_object(mut self, object: impl fmt::Display) -> Error {
        self.0.object.get_or_insert_with(|| object.to_string());
        self
    }

    /// Names the file that the failure is about.
    #[must_use]
    pub fn with_path(mut self, path: impl AsRef<Path>) -> Error {
        self.0.path.get_or_insert_with(|| path.as_ref().to_owned());
        self
    }

    /// Says what the reader can do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &'static str) -> Error {
        self.0.remedy.get_or_insert(remedy);
        self
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// The coarse kind.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The stored object the failure is about.
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// The file the failure is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// What the reader can do about it.
    pub fn remedy(&self) -> Option<&'static str> {
        self.0.remedy
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        self.0.kind == ErrorKind::StoreUnavailable
    }

    /// Whether it speaks of one object's bytes, so that others may still be read.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(
            self.0.kind,
            ErrorKind::Corrupt
                | ErrorKind::UnsupportedFormat
                | ErrorKind::WrongCredentials
                | ErrorKind::StoreFailed
        )
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        // The message of a store's error names its object already.
        if let Some(object) = self.0.object.as_ref().filter(|object| !self.0.message.contains(*object)) {
            write!(f, ": {object}")?;
        }
        if let Some(path) = &self.0.path {
            write!(f, ": {}", path.display())?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)?;
        if let Some(source) = &self.0.source {
            write!(f, " ({source})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Error {
        let (kind, remedy) = match error.kind() {
            StoreErrorKind::NotFound => {
                (ErrorKind::Corrupt, "an object the repository refers to is missing: run 'dr check'")
            }
            StoreErrorKind::AlreadyExists => {
                (ErrorKind::AlreadyExists, "another writer was faster: try again")
            }
            StoreErrorKind::PermissionDenied => {
                (ErrorKind::PermissionDenied, "check the credentials and the permissions of the store")
            }
            StoreErrorKind::StorageFull => {
                (ErrorKind::StorageFull, "free some space and try again: snapshots made before are intact")
            }
            StoreErrorKind::Unavailable => (ErrorKind::StoreUnavailable, "try again when the store answers"),
            StoreErrorKind::InvalidInput => {
                (ErrorKind::InvalidInput, "check the repository's location and the settings of its store")
            }
            StoreErrorKind::Changed => {
                (ErrorKind::StoreUnavailable, "somebody replaced it while it was read: try again")
            }
            StoreErrorKind::Unsupported => (
                ErrorKind::InvalidInput,
                "this store, or this program as it was built, cannot do that: see 'dr version --verbose'",
            ),
            _ => (
                ErrorKind::StoreFailed,
                "look after the store's disk; what can still be read can be restored",
            ),
        };
        let mut converted = Error::new(kind, error.to_string())
            .with_object(error.object())
            .with_remedy(error.remedy().unwrap_or(remedy));
        converted.0.source = std::error::Error::source(&error).map(|cause| cause.to_string().into());
        converted
    }
}
