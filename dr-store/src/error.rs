//! What can go wrong with a store: a coarse kind for programs, a message that names the object for people.

use std::fmt;
use std::io;

/// A result of a store call.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The coarse kind of a store failure, for programs to branch on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// No object has that name.
    NotFound,
    /// A put in mode create met an object of that name.
    AlreadyExists,
    /// The store refused: credentials or permissions.
    PermissionDenied,
    /// The store has no space left.
    StorageFull,
    /// The call may succeed if it is made again (network, overload, time-out).
    Unavailable,
    /// The call itself is wrong: bad URL, bad name, range outside the object.
    InvalidInput,
    /// The object is no longer the one that was asked for.
    Changed,
    /// The store cannot do what was asked (for example conditional creation).
    Unsupported,
    /// Anything else, an I/O error of the disk included.
    Other,
}

/// A failed store call: what was tried, on which object, and why.
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    operation: &'static str,
    object: String,
    remedy: Option<&'static str>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl StoreError {
    /// Builds an error of `kind` for `operation` ("put", "get", …) on `object` (a name, a prefix or a URL).
    pub fn new(kind: StoreErrorKind, operation: &'static str, object: impl Into<String>) -> Self {
        StoreError { kind, operation, object: object.into(), remedy: None, source: None }
    }

    /// Builds an error from an error of the operating system.
    pub(crate) fn from_io(operation: &'static str, object: impl Into<String>, source: io::Error) -> Self {
        StoreError::new(kind_of_io(&source), operation, object).with_source(source)
    }

    /// Adds the cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says what the reader can do about it.
    #[must_use]
    pub fn with_remedy(mut self, remedy: &'static str) -> Self {
        self.remedy.get_or_insert(remedy);
        self
    }

    /// The coarse kind.
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }

    /// The object, prefix or URL the call was about.
    pub fn object(&self) -> &str {
        &self.object
    }

    /// What the reader can do about it, where the driver knows more than the kind says.
    pub fn remedy(&self) -> Option<&'static str> {
        self.remedy
    }

    /// Whether the same call may succeed later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        self.kind == StoreErrorKind::Unavailable
    }
}

/// The coarse kind of an error of the operating system.
pub(crate) fn kind_of_io(error: &io::Error) -> StoreErrorKind {
    use io::ErrorKind as Io;
    match error.kind() {
        Io::NotFound => StoreErrorKind::NotFound,
        Io::AlreadyExists => StoreErrorKind::AlreadyExists,
        Io::PermissionDenied | Io::ReadOnlyFilesystem => StoreErrorKind::PermissionDenied,
        Io::StorageFull | Io::QuotaExceeded => StoreErrorKind::StorageFull,
        Io::InvalidInput | Io::InvalidFilename | Io::NotADirectory | Io::IsADirectory => {
            StoreErrorKind::InvalidInput
        }
        Io::Unsupported => StoreErrorKind::Unsupported,
        Io::TimedOut
        | Io::Interrupted
        | Io::WouldBlock
        | Io::ConnectionRefused
        | Io::ConnectionReset
        | Io::ConnectionAborted
        | Io::NotConnected
        | Io::BrokenPipe
        | Io::HostUnreachable
        | Io::NetworkUnreachable
        | Io::NetworkDown
        | Io::StaleNetworkFileHandle => StoreErrorKind::Unavailable,
        _ => StoreErrorKind::Other,
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self.kind {
            StoreErrorKind::NotFound => "no such object",
            StoreErrorKind::AlreadyExists => "an object of that name exists",
            StoreErrorKind::PermissionDenied => "the store refused access",
            StoreErrorKind::StorageFull => "the store is full",
            StoreErrorKind::Unavailable => "the store did not answer",
            StoreErrorKind::InvalidInput => "the request is not valid",
            StoreErrorKind::Changed => "the object is another one by now",
            StoreErrorKind::Unsupported => "the store cannot do this",
            StoreErrorKind::Other => "the store failed",
        };
        write!(f, "{} {}: {why}", self.operation, self.object)
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}
