//! 32 secret bytes: wiped when dropped, compared in constant time, never printed.

use std::fmt;

use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// 32 secret bytes.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Secret([u8; 32]);

impl Secret {
    pub(crate) fn new(mut bytes: [u8; 32]) -> Secret {
        let secret = Secret(bytes);
        bytes.zeroize();
        secret
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Derives a key of its own for `context`, a constant, from this secret and `material`.
    /// Source: BLAKE3's key derivation mode, section 2.3 of its specification.
    pub(crate) fn derive(&self, context: &'static str, material: &[&[u8]]) -> Secret {
        let mut hasher = blake3::Hasher::new_derive_key(context);
        hasher.update(&self.0);
        for part in material {
            hasher.update(part);
        }
        let mut output = hasher.finalize();
        hasher.zeroize();
        let secret = Secret(*output.as_bytes());
        output.zeroize();
        secret
    }
}

impl PartialEq for Secret {
    fn eq(&self, other: &Secret) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
