//! The stored bytes, one file per section of `docs/FORMAT.md`. Everything here is total and does no I/O: any input
//! gives a value or a [`FormatError`], and limits are checked before anything is allocated.

pub(crate) mod body;
pub(crate) mod checkpoint;
pub(crate) mod config;
pub(crate) mod envelope;
pub(crate) mod key_slot;
pub(crate) mod log;
pub(crate) mod names;
pub(crate) mod pack;
pub(crate) mod padding;
pub(crate) mod reader;
pub(crate) mod ring;
pub(crate) mod segment;
pub(crate) mod skim;
pub(crate) mod snapshot;
pub(crate) mod tree;

use crate::error::{Error, ErrorKind};

/// Why bytes are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// The bytes end before the value does.
    #[error("{what} is cut short")]
    Truncated {
        /// The value.
        what: &'static str,
    },
    /// The bytes are not such a value.
    #[error("{what} is damaged: {why}")]
    Invalid {
        /// The value.
        what: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A limit of the format is exceeded.
    #[error("{what} is larger than the format allows")]
    TooLarge {
        /// The value.
        what: &'static str,
    },
    /// A newer program wrote this.
    #[error("{what} has version {version}, which this program does not know")]
    Unsupported {
        /// The value.
        what: &'static str,
        /// The version it claims.
        version: u32,
    },
}

impl From<FormatError> for Error {
    fn from(error: FormatError) -> Error {
        match error {
            FormatError::Unsupported { .. } => Error::new(ErrorKind::UnsupportedFormat, error.to_string())
                .with_remedy("use a newer version of the program"),
            _ => Error::corrupt(error.to_string()),
        }
    }
}

pub(crate) fn invalid(what: &'static str, why: &'static str) -> FormatError {
    FormatError::Invalid { what, why }
}
