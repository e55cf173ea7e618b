//! Names of objects: relative, slash-separated, of a small alphabet, so that every store can hold them.

use std::fmt;

use crate::{Result, StoreError, StoreErrorKind};

/// The longest name a store must accept, in bytes.
pub const NAME_BYTES_MAX: usize = 512;

/// The longest part of a name, in bytes: file systems hold 255, and a staging suffix must fit behind it.
pub const NAME_PART_BYTES_MAX: usize = 240;

/// The name of an object: `/`-separated parts of `[a-z0-9._-]`, none of them empty, `.`, `..` or longer than
/// [`NAME_PART_BYTES_MAX`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks and wraps a name.
    ///
    /// # Errors
    /// `InvalidInput` where the name breaks the rule above.
    pub fn new(name: impl Into<String>) -> Result<Name> {
        let name = name.into();
        if is_valid(&name) {
            Ok(Name(name))
        } else {
            Err(StoreError::new(StoreErrorKind::InvalidInput, "name", name))
        }
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_valid(name: &str) -> bool {
    name.len() <= NAME_BYTES_MAX && name.split('/').all(is_valid_part)
}

/// Whether `part` may stand between two slashes of a name.
pub(crate) fn is_valid_part(part: &str) -> bool {
    (1..=NAME_PART_BYTES_MAX).contains(&part.len())
        && part != "."
        && part != ".."
        && part.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
}

/// Refuses a folder that is neither empty (the top) nor of the form of a name.
pub(crate) fn check_folder(operation: &'static str, folder: &str) -> Result<()> {
    if folder.is_empty() || is_valid(folder) {
        Ok(())
    } else {
        Err(StoreError::new(StoreErrorKind::InvalidInput, operation, folder))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_outside_the_alphabet_are_refused() {
        for bad in ["", "/a", "a/", "a//b", ".", "a/../b", "A", "a b", "a\0", "é"] {
            assert!(Name::new(bad).is_err(), "{bad:?} was accepted");
        }
        assert!(Name::new("a/".repeat(NAME_BYTES_MAX / 2) + "a").is_err());
        assert!(Name::new("a".repeat(NAME_PART_BYTES_MAX + 1)).is_err());
        for good in ["config", "log/0123456789abc/def", "data/00/ab-c_d.e"] {
            assert_eq!(Name::new(good).expect("a valid name").as_str(), good);
        }
    }
}
