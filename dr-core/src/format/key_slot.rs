//! `keys/<hash>`: one way to open the repository. A password, or a key of 32 bytes from a file or a command, unseals the
//! slot's own random key, which in turn unseals the key ring.

use super::envelope::{COMMIT_BYTES, TAG_BYTES};
use super::reader::Reader;
use super::{FormatError, invalid};
use crate::limits::{KDF_LANES_MAX, KDF_MEMORY_KIB_MAX, KDF_PASSES_MAX, KEY_SLOT_BYTES_MAX, LABEL_BYTES_MAX};

const WHAT: &str = "a key slot";
const MAGIC: [u8; 8] = *b"\x89drkey\r\n";
const VERSION: u8 = 1;
const SUITE: u8 = 1;

/// How the key that opens the slot is derived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Derivation {
    /// Argon2id, version 0x13, over a password.
    Argon2id { memory_kib: u32, passes: u32, lanes: u32 },
    /// None: the secret is 32 random bytes.
    Raw,
}

/// A key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KeySlot {
    pub(crate) repository: [u8; 16],
    pub(crate) derivation: Derivation,
    pub(crate) salt: [u8; 32],
    pub(crate) label: String,
    pub(crate) commit: [u8; COMMIT_BYTES],
    pub(crate) sealed_key: [u8; 32 + TAG_BYTES],
}

impl KeySlot {
    /// The bytes before the commitment, which the slot's key is derived from and bound to.
    pub(crate) fn encode_header(&self) -> Vec<u8> {
        let (kind, memory_kib, passes, lanes) = match self.derivation {
            Derivation::Argon2id { memory_kib, passes, lanes } => (1, memory_kib, passes, lanes),
            Derivation::Raw => (2, 0, 0, 0),
        };
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[VERSION, kind, SUITE, 0]);
        bytes.extend_from_slice(&self.repository);
        for cost in [memory_kib, passes, lanes] {
            bytes.extend_from_slice(&cost.to_le_bytes());
        }
        bytes.extend_from_slice(&self.salt);
        bytes.push(u8::try_from(self.label.len()).expect("labels are at most 128 bytes"));
        bytes.extend_from_slice(self.label.as_bytes());
        bytes
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.encode_header();
        bytes.extend_from_slice(&self.commit);
        bytes.extend_from_slice(&self.sealed_key);
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<KeySlot, FormatError> {
        if bytes.len() > KEY_SLOT_BYTES_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let mut reader = Reader::new(WHAT, bytes);
        if reader.array::<8>()? != MAGIC {
            return Err(invalid(WHAT, "it does not begin with the magic number"));
        }
        let [version, kind, suite, reserved] = reader.array::<4>()?;
        for (what, found, known) in [(WHAT, version, VERSION), ("a key slot's suite", suite, SUITE)] {
            if found != known {
                return Err(FormatError::Unsupported { what, version: u32::from(found) });
            }
        }
        if reserved != 0 {
            return Err(invalid(WHAT, "a reserved byte is not zero"));
        }
        let repository = reader.array()?;
        let (memory_kib, passes, lanes) = (reader.u32()?, reader.u32()?, reader.u32()?);
        let derivation = match kind {
            1 => bounded(memory_kib, passes, lanes)?,
            2 if (memory_kib, passes, lanes) == (0, 0, 0) => Derivation::Raw,
            2 => return Err(invalid(WHAT, "a raw key has a derivation cost")),
            _ => {
                return Err(FormatError::Unsupported { what: "a key slot's kind", version: u32::from(kind) });
            }
        };
        let salt = reader.array()?;
        let label_bytes = usize::from(reader.u8()?);
        if label_bytes > LABEL_BYTES_MAX {
            return Err(FormatError::TooLarge { what: "a key slot's label" });
        }
        let label = std::str::from_utf8(reader.bytes(label_bytes)?)
            .map_err(|_| invalid(WHAT, "its label is not UTF-8"))?
            .to_owned();
        let (commit, sealed_key) = (reader.array()?, reader.array()?);
        reader.finish()?;
        Ok(KeySlot { repository, derivation, salt, label, commit, sealed_key })
    }
}

/// A hostile slot must not be able to exhaust memory or time.
fn bounded(memory_kib: u32, passes: u32, lanes: u32) -> Result<Derivation, FormatError> {
    let in_bounds = (lanes.max(1).saturating_mul(8)..=KDF_MEMORY_KIB_MAX).contains(&memory_kib)
        && (1..=KDF_PASSES_MAX).contains(&passes)
        && (1..=KDF_LANES_MAX).contains(&lanes);
    if in_bounds {
        Ok(Derivation::Argon2id { memory_kib, passes, lanes })
    } else {
        Err(FormatError::TooLarge { what: "a key slot's derivation cost" })
    }
}
