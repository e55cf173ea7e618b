//! `config`: plain, fixed layout, 64 bytes. Authenticated by the key ring and by slot 0 of the log, which hold its hash.

use super::reader::Reader;
use super::{FormatError, invalid};
use crate::id::ObjectHash;

const WHAT: &str = "the repository's config";
const MAGIC: [u8; 8] = *b"\x89drcfg\r\n";
/// The version of the format that this program writes.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// The length of a config, in bytes.
pub(crate) const CONFIG_BYTES: usize = 64;

/// How slots of the log are created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogMode {
    /// The store creates a name for exactly one of several writers.
    CreateIfAbsent,
    /// It does not: entries carry a nonce and name the heads they saw.
    Siblings,
}

/// What a reader must know before it has a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) repository: [u8; 16],
    pub(crate) mode: LogMode,
}

impl Config {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(CONFIG_BYTES);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.repository);
        bytes.push(1);
        bytes.push(match self.mode {
            LogMode::CreateIfAbsent => 0,
            LogMode::Siblings => 1,
        });
        bytes.extend_from_slice(&[0; 2]);
        let check = blake3::hash(&bytes);
        bytes.extend_from_slice(check.as_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Config, FormatError> {
        let mut reader = Reader::new(WHAT, bytes);
        if reader.array::<8>()? != MAGIC {
            return Err(invalid(WHAT, "it does not begin with the magic number"));
        }
        let version = reader.u32()?;
        if version != FORMAT_VERSION {
            return Err(FormatError::Unsupported { what: WHAT, version });
        }
        let repository = reader.array()?;
        let suite = reader.u8()?;
        let mode = reader.u8()?;
        let reserved = reader.array::<2>()?;
        let check = reader.array::<32>()?;
        reader.finish()?;
        if blake3::hash(&bytes[..CONFIG_BYTES - 32]) != check {
            return Err(invalid(WHAT, "its checksum does not match"));
        }
        if suite != 1 {
            return Err(FormatError::Unsupported {
                what: "the repository's suite",
                version: u32::from(suite),
            });
        }
        let mode = match mode {
            0 => LogMode::CreateIfAbsent,
            1 => LogMode::Siblings,
            other => {
                return Err(FormatError::Unsupported { what: "the log's mode", version: u32::from(other) });
            }
        };
        if reserved != [0; 2] {
            return Err(invalid(WHAT, "a reserved byte is not zero"));
        }
        Ok(Config { repository, mode })
    }

    /// The repository's id as 32 hexadecimal digits.
    pub(crate) fn id(&self) -> String {
        self.repository.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(crate) fn hash(&self) -> ObjectHash {
        ObjectHash::of_parts([self.encode().as_slice()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let config = Config { repository: [7; 16], mode: LogMode::CreateIfAbsent };
        let bytes = config.encode();
        assert_eq!(bytes.len(), CONFIG_BYTES);
        assert_eq!(Config::decode(&bytes).unwrap(), config);
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(Config::decode(&flipped).is_err(), "bit {bit}");
        }
    }
}
