//! What opens a repository: a password, or 32 random bytes that a file or a command holds.

use std::fmt;

use zeroize::Zeroizing;

use super::secret::Secret;
use crate::error::{Error, ErrorKind, Result};

/// What opens a repository. The secret is wiped when this is dropped, and never printed.
#[derive(Clone)]
pub struct Credentials(pub(crate) Material);

#[derive(Clone)]
pub(crate) enum Material {
    Password(Zeroizing<Vec<u8>>),
    Key(Secret),
}

impl Credentials {
    /// A password, or what a password file or command gave. Key derivation makes each guess cost memory and time.
    ///
    /// # Errors
    /// `InvalidInput` for an empty password.
    pub fn password(password: impl Into<Vec<u8>>) -> Result<Credentials> {
        let password = Zeroizing::new(password.into());
        if password.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "the password is empty"));
        }
        Ok(Credentials(Material::Password(password)))
    }

    /// A key of 32 random bytes; costs no derivation.
    pub fn key(key: [u8; 32]) -> Credentials {
        Credentials(Material::Key(Secret::new(key)))
    }

    /// Reads the text of a key file: 64 hexadecimal digits and a line end.
    ///
    /// # Errors
    /// `InvalidInput` for anything else.
    pub fn key_file_text(text: &[u8]) -> Result<Credentials> {
        let wrong = || {
            Error::new(ErrorKind::InvalidInput, "a key file holds 64 hexadecimal digits and a line end")
                .with_remedy("make one with 'dr init --key-file'")
        };
        let text = std::str::from_utf8(text).map_err(|_| wrong())?;
        let id = crate::id::ChunkId::from_hex(text.trim_end_matches(['\r', '\n'])).ok_or_else(wrong)?;
        Ok(Credentials::key(*id.as_bytes()))
    }

    /// The text of a key file for a key of 32 random bytes.
    pub fn key_file_for(key: &[u8; 32]) -> String {
        format!("{}\n", crate::id::ChunkId::from_bytes(*key))
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Material::Password(_) => f.write_str("Credentials(password)"),
            Material::Key(_) => f.write_str("Credentials(key)"),
        }
    }
}

/// What a guess at a password costs. Source: RFC 9106, section 4.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KdfStrength {
    /// The RFC's second recommended option: 64 MiB, 3 passes, 4 lanes; about a tenth of a second.
    #[default]
    Standard,
    /// The RFC's first recommended option: 2 GiB, 1 pass, 4 lanes.
    Strong,
}
