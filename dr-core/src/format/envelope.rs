//! The envelope of every sealed object: a plain header, which the object's key is derived from, and the commitment to
//! that key.

use super::reader::Reader;
use super::{FormatError, invalid};
use crate::limits::HEADER_AUX_BYTES_MAX;

const WHAT: &str = "an object's header";
const MAGIC: [u8; 8] = *b"\x89drobj\r\n";
const VERSION: u8 = 1;
/// The length of a header without its variable part, in bytes.
pub(crate) const HEADER_BYTES_MIN: usize = 66;
/// The length of the key commitment after the header, in bytes.
pub(crate) const COMMIT_BYTES: usize = 32;
/// The length of an authentication tag, in bytes.
pub(crate) const TAG_BYTES: usize = 16;

/// What an object is made with. All use BLAKE3 for derivation, ids and names; they differ in what seals.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Suite {
    ChaCha20Poly1305 = 1,
    Aes256Gcm = 2,
}

impl Suite {
    pub(crate) const ALL: [Suite; 2] = [Suite::ChaCha20Poly1305, Suite::Aes256Gcm];

    fn from_byte(byte: u8) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| *suite as u8 == byte)
    }

    /// The name of what seals.
    pub(crate) fn cipher_name(self) -> &'static str {
        match self {
            Suite::ChaCha20Poly1305 => "chacha20-poly1305",
            Suite::Aes256Gcm => "aes-256-gcm",
        }
    }
}

/// What a sealed object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ObjectType {
    Ring = 1,
    DataPack = 2,
    TreePack = 3,
    Segment = 4,
    Slot = 5,
    List = 6,
    Checkpoint = 7,
    Snapshot = 8,
}

impl ObjectType {
    fn from_byte(byte: u8) -> Option<ObjectType> {
        use ObjectType::*;
        [Ring, DataPack, TreePack, Segment, Slot, List, Checkpoint, Snapshot]
            .into_iter()
            .find(|object| *object as u8 == byte)
    }
}

/// The two classes of packs, each in its own folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum PackClass {
    Data,
    Tree,
}

impl PackClass {
    pub(crate) const ALL: [PackClass; 2] = [PackClass::Data, PackClass::Tree];

    pub(crate) fn folder(self) -> &'static str {
        match self {
            PackClass::Data => "data",
            PackClass::Tree => "tree",
        }
    }

    pub(crate) fn object(self) -> ObjectType {
        match self {
            PackClass::Data => ObjectType::DataPack,
            PackClass::Tree => ObjectType::TreePack,
        }
    }
}

/// The plain header of a sealed object.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Header {
    pub(crate) object: ObjectType,
    /// What this object is sealed with, whatever others of its repository are.
    pub(crate) suite: Suite,
    /// 0: the object's key comes from the epoch's key-encryption key.
    pub(crate) key_mode: u8,
    pub(crate) epoch: u32,
    pub(crate) repository: [u8; 16],
    pub(crate) salt: [u8; 32],
    pub(crate) aux: Vec<u8>,
}

impl Header {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let aux_bytes = u16::try_from(self.aux.len()).expect("the variable part is limited to 16 KiB");
        let mut bytes = Vec::with_capacity(HEADER_BYTES_MIN + self.aux.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, self.object as u8, self.suite as u8, self.key_mode]);
        bytes.extend_from_slice(&self.epoch.to_le_bytes());
        bytes.extend_from_slice(&self.repository);
        bytes.extend_from_slice(&self.salt);
        bytes.extend_from_slice(&aux_bytes.to_le_bytes());
        bytes.extend_from_slice(&self.aux);
        bytes
    }

    /// Reads the header at the beginning of `bytes`, and says how long it is.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, usize), FormatError> {
        let mut reader = Reader::new(WHAT, bytes);
        if reader.array::<8>()? != MAGIC {
            return Err(invalid(WHAT, "it does not begin with the magic number"));
        }
        let [version, object, suite, key_mode] = reader.array::<4>()?;
        if version != VERSION {
            return Err(FormatError::Unsupported { what: WHAT, version: u32::from(version) });
        }
        let suite = Suite::from_byte(suite)
            .ok_or(FormatError::Unsupported { what: "an object's suite", version: u32::from(suite) })?;
        if key_mode != 0 {
            return Err(FormatError::Unsupported {
                what: "an object's key mode",
                version: u32::from(key_mode),
            });
        }
        let object = ObjectType::from_byte(object)
            .ok_or(FormatError::Unsupported { what: "an object's type", version: u32::from(object) })?;
        let epoch = reader.u32()?;
        let repository = reader.array()?;
        let salt = reader.array()?;
        let aux_bytes = usize::from(reader.u16()?);
        if aux_bytes > HEADER_AUX_BYTES_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let aux = reader.bytes(aux_bytes)?.to_vec();
        Ok((Header { object, suite, key_mode, epoch, repository, salt, aux }, HEADER_BYTES_MIN + aux_bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip_and_refuse_what_they_do_not_know() {
        for suite in Suite::ALL {
            let header = Header {
                object: ObjectType::TreePack,
                suite,
                key_mode: 0,
                epoch: 3,
                repository: [1; 16],
                salt: [2; 32],
                aux: vec![9; 5],
            };
            let bytes = header.encode();
            assert_eq!(Header::decode(&bytes).unwrap(), (header, bytes.len()));
            for (offset, byte) in [(0, 0), (8, 2), (9, 99), (10, 0), (10, 3), (11, 1)] {
                let mut other = bytes.clone();
                other[offset] = byte;
                let error = Header::decode(&other).unwrap_err();
                let is_newer = matches!(error, FormatError::Unsupported { .. });
                assert_eq!(is_newer, offset > 0, "offset {offset}: {error}");
            }
            for cut in 0..bytes.len() {
                assert!(Header::decode(&bytes[..cut]).is_err());
            }
        }
    }
}
