//! `ring/<hash>`: the key ring, sealed under a random key that is wrapped for every key slot.

use serde::{Deserialize, Serialize};

use super::envelope::TAG_BYTES;
use super::reader::Reader;
use super::{FormatError, invalid};
use crate::id::ObjectHash;
use crate::limits::KEY_SLOTS_MAX;

const WHAT: &str = "a key ring";
const WRAP_BYTES: usize = 32 + 32 + TAG_BYTES;

/// The wraps of a ring, as they stand in its header's variable part: a random salt of 32 bytes, a count, 80 bytes each.
/// The salt makes the wrapping keys of two rings differ though a key slot stays the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wraps {
    pub(crate) salt: [u8; 32],
    pub(crate) wraps: Vec<Wrap>,
}

/// The ring's key, wrapped for one key slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrap {
    /// The name of the key slot.
    pub(crate) slot: ObjectHash,
    pub(crate) sealed_key: [u8; 32 + TAG_BYTES],
}

impl Wraps {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = self.salt.to_vec();
        bytes.push(u8::try_from(self.wraps.len()).expect("there are at most 64 key slots"));
        for wrap in &self.wraps {
            bytes.extend_from_slice(wrap.slot.as_bytes());
            bytes.extend_from_slice(&wrap.sealed_key);
        }
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Wraps, FormatError> {
        let mut reader = Reader::new(WHAT, bytes);
        let salt = reader.array()?;
        let count = usize::from(reader.u8()?);
        if count > KEY_SLOTS_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        if bytes.len() != 33 + count * WRAP_BYTES {
            return Err(invalid(WHAT, "its wraps have the wrong length"));
        }
        let wraps = (0..count)
            .map(|_| Ok(Wrap { slot: ObjectHash::from_bytes(reader.array()?), sealed_key: reader.array()? }))
            .collect::<Result<_, FormatError>>()?;
        reader.finish()?;
        Ok(Wraps { salt, wraps })
    }
}

/// The body of a key ring.
#[derive(Serialize, Deserialize)]
pub(crate) struct RingBody {
    /// Counts the rings of a repository; the highest one that the log confirms is in force.
    pub(crate) generation: u64,
    /// The hash of `config`, so that it cannot be altered.
    pub(crate) config: ObjectHash,
    pub(crate) keys: Vec<RingKey>,
}

/// One key of the ring.
#[derive(Serialize, Deserialize)]
pub(crate) enum RingKey {
    /// The encryption secret of an epoch.
    Epoch { epoch: u32, secret: [u8; 32] },
    /// The secret of a deduplication domain (ids and chunker) and its chunker's parameters.
    Domain { domain: u32, secret: [u8; 32], chunker: ChunkerParams },
    /// The key of a key slot, so that a new ring can be wrapped for slots whose passwords nobody types.
    Slot { slot: ObjectHash, key: [u8; 32] },
}

/// How a domain cuts streams into chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ChunkerParams {
    /// 1: FastCDC of 2020 with a nibble table, ten mask bits in positions 6 to 15.
    pub(crate) algorithm: u16,
    pub(crate) min_bytes: u32,
    pub(crate) average_bytes: u32,
    pub(crate) max_bytes: u32,
    /// How many mask bits are added before, and taken off after, the average.
    pub(crate) normalisation: u8,
}

impl Drop for RingKey {
    fn drop(&mut self) {
        use zeroize::Zeroize;
        match self {
            RingKey::Epoch { secret, .. }
            | RingKey::Domain { secret, .. }
            | RingKey::Slot { key: secret, .. } => {
                secret.zeroize();
            }
        }
    }
}
