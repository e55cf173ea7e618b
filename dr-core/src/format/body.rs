//! Bodies: what stands inside sealed objects. A schema number, the value in bincode, tagged extensions.
//!
//! This is the only module that knows bincode, and it sees only authenticated bytes.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::reader::Reader;
use super::{FormatError, invalid};

const MAX: usize = 256 << 20;

/// The bit of a tag (of an extension, of a kind of log entry) that says: who does not know this must not write or
/// collect.
pub(crate) const CRITICAL: u16 = 0x8000;

/// A later addition to a body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extension {
    /// What it is; with [`CRITICAL`] set, a program that does not know it must not write or collect.
    pub(crate) tag: u16,
    pub(crate) bytes: Vec<u8>,
}

/// A decoded body.
#[derive(Debug)]
pub(crate) struct Body<T> {
    pub(crate) value: T,
    pub(crate) extensions: Vec<Extension>,
    /// An extension is critical and unknown: the repository may be read but not written.
    pub(crate) read_only: bool,
}

/// Encodes a value as a body of schema 1 without extensions.
pub(crate) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_with(value, &[])
}

/// Encodes a value as a body of schema 1 with extensions.
pub(crate) fn encode_with<T: Serialize>(value: &T, extensions: &[Extension]) -> Vec<u8> {
    let mut bytes = 1u16.to_le_bytes().to_vec();
    encode_plain(&(value, extensions), &mut bytes);
    bytes
}

/// Decodes a body; the whole input must be consumed.
pub(crate) fn decode<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<Body<T>, FormatError> {
    let (schema, rest) = bytes.split_first_chunk::<2>().ok_or(FormatError::Truncated { what })?;
    let schema = u16::from_le_bytes(*schema);
    if schema != 1 {
        return Err(FormatError::Unsupported { what, version: u32::from(schema) });
    }
    let (value, extensions): (T, Vec<Extension>) = decode_plain(what, rest)?;
    let read_only = extensions.iter().any(|extension| extension.tag & CRITICAL != 0);
    Ok(Body { value, extensions, read_only })
}

/// Encodes a value in bincode: little-endian, variable-length integers.
pub(crate) fn encode_plain<T: Serialize>(value: &T, into: &mut Vec<u8>) {
    struct Sink<'a>(&'a mut Vec<u8>);
    impl bincode::enc::write::Writer for Sink<'_> {
        fn write(&mut self, bytes: &[u8]) -> Result<(), bincode::error::EncodeError> {
            self.0.extend_from_slice(bytes);
            Ok(())
        }
    }
    bincode::serde::encode_into_writer(value, Sink(into), bincode::config::standard())
        .expect("derived types of known length always encode, and a vector takes every byte");
}

/// Decodes a value from bincode; the whole input must be consumed.
pub(crate) fn decode_plain<T: DeserializeOwned>(what: &'static str, bytes: &[u8]) -> Result<T, FormatError> {
    let config = bincode::config::standard().with_limit::<MAX>();
    let (value, consumed) = bincode::serde::decode_from_slice(bytes, config)
        .map_err(|_| invalid(what, "its body does not decode"))?;
    if consumed != bytes.len() {
        return Err(invalid(what, "bytes follow its body"));
    }
    Ok(value)
}

/// Reads a body value by value, without building anything: for who looks at many and needs little of each. The values are
/// encoded as [`encode_plain`] does it, and what [`decode`] would refuse is refused.
pub(crate) struct Scanner<'a> {
    what: &'static str,
    reader: Reader<'a>,
}

impl<'a> Scanner<'a> {
    /// Begins with the value of a body.
    pub(crate) fn begin(what: &'static str, bytes: &'a [u8]) -> Result<Scanner<'a>, FormatError> {
        let mut scanner = Scanner::plain(what, bytes);
        match scanner.reader.u16()? {
            1 => Ok(scanner),
            schema => Err(FormatError::Unsupported { what, version: u32::from(schema) }),
        }
    }

    /// Begins with a value that stands in no body.
    pub(crate) fn plain(what: &'static str, bytes: &'a [u8]) -> Scanner<'a> {
        Scanner { what, reader: Reader::new(what, bytes) }
    }

    /// What is said where the bytes are no such value.
    pub(crate) fn failed(&self) -> FormatError {
        invalid(self.what, "its body does not decode")
    }

    pub(crate) fn u8(&mut self) -> Result<u8, FormatError> {
        self.reader.u8()
    }

    pub(crate) fn u32(&mut self) -> Result<u32, FormatError> {
        match self.u64_unless_longer(4)? {
            Some(number) => Ok(number as u32),
            None => Err(self.failed()),
        }
    }

    /// An unsigned number; of a signed one, whether there is one.
    pub(crate) fn u64(&mut self) -> Result<u64, FormatError> {
        match self.u64_unless_longer(8)? {
            Some(number) => Ok(number),
            None => Err(self.failed()),
        }
    }

    /// A number that takes so many bytes at most, behind the one that says so.
    #[inline]
    fn u64_unless_longer(&mut self, bytes_max: usize) -> Result<Option<u64>, FormatError> {
        Ok(match self.reader.u8()? {
            byte @ ..=250 => Some(u64::from(byte)),
            251 => Some(u64::from(self.reader.u16()?)),
            252 if bytes_max >= 4 => Some(u64::from(self.reader.u32()?)),
            253 if bytes_max >= 8 => Some(self.reader.u64()?),
            _ => None,
        })
    }

    /// How many elements follow.
    pub(crate) fn count(&mut self) -> Result<usize, FormatError> {
        usize::try_from(self.u64()?).map_err(|_| self.failed())
    }

    /// A truth value, or whether an optional value follows.
    pub(crate) fn flag(&mut self) -> Result<bool, FormatError> {
        match self.reader.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(self.failed()),
        }
    }

    /// Bytes, or a text's.
    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], FormatError> {
        let count = self.count()?;
        self.reader.bytes(count)
    }

    /// Bytes of a length that is not stored.
    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], FormatError> {
        self.reader.array()
    }

    /// How many bytes are left.
    pub(crate) fn left(&self) -> usize {
        self.reader.left()
    }

    /// Ends a value that stands in no body.
    pub(crate) fn finish_plain(self) -> Result<(), FormatError> {
        self.reader.finish()
    }

    /// Ends the body. Says whether an extension is critical: none is known.
    pub(crate) fn finish(mut self) -> Result<bool, FormatError> {
        let mut read_only = false;
        for _ in 0..self.count()? {
            let tag = self.u64_unless_longer(2)?.ok_or_else(|| self.failed())?;
            read_only |= tag & u64::from(CRITICAL) != 0;
            self.bytes()?;
        }
        self.reader.finish()?;
        Ok(read_only)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_consumed_whole_and_its_schema_checked() {
        let bytes = encode(&(7u32, "x".to_owned()));
        assert_eq!(decode::<(u32, String)>("t", &bytes).unwrap().value, (7, "x".to_owned()));
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode::<(u32, String)>("t", &longer).is_err());
        assert!(decode::<(u32, String)>("t", &bytes[..bytes.len() - 1]).is_err());
        let mut newer = bytes;
        newer[0] = 2;
        assert_eq!(
            decode::<(u32, String)>("t", &newer).unwrap_err(),
            FormatError::Unsupported { what: "t", version: 2 }
        );
    }

    #[test]
    fn only_critical_extensions_forbid_writing() {
        let extension = |tag| Extension { tag, bytes: vec![1] };
        assert!(!decode::<u32>("t", &encode_with(&1u32, &[extension(7)])).unwrap().read_only);
        assert!(decode::<u32>("t", &encode_with(&1u32, &[extension(7 | CRITICAL)])).unwrap().read_only);
    }

    #[test]
    fn a_claimed_length_allocates_nothing() {
        // A vector of 2^60 elements, of which none follows.
        let mut bytes = vec![1, 0, 253];
        bytes.extend_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(decode::<Vec<u64>>("t", &bytes).is_err());
    }
}
