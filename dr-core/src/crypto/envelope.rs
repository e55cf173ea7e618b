//! Sealing and opening: every object has a key of its own, derived from its header, and a commitment to that key.

use std::convert::Infallible;

use subtle::ConstantTimeEq;
use zeroize::Zeroize;

use super::cipher::KeyedCipher;
use super::keys::Kek;
use super::secret::Secret;
use crate::entropy::{Entropy, random};
use crate::error::{Error, Result};
use crate::format::envelope::{COMMIT_BYTES, Header, ObjectType, TAG_BYTES};
use crate::format::padding;

/// The key of one object.
pub(crate) struct ObjectKey {
    cipher: KeyedCipher,
    commit: [u8; COMMIT_BYTES],
    padding: Secret,
    header_hash: [u8; 32],
}

impl ObjectKey {
    /// Derives the key that belongs to a header, whose suite names the cipher: `XOF(keyed(KEK, header))` gives the cipher's
    /// key, the commitment and the padding's key, 32 bytes each. All of the header goes in, so that two suites never share a
    /// key.
    pub(crate) fn derive(kek: &Kek, header: &Header) -> Result<ObjectKey> {
        ObjectKey::expand(kek.secret(), &header.encode(), |key| KeyedCipher::new(header.suite, key))
    }

    /// Derives the key that wraps another one. No header says how: it is always suite 1.
    pub(crate) fn wrapping(secret: &Secret, bound: &[u8]) -> ObjectKey {
        let cipher = |key: &_| Ok::<_, Infallible>(KeyedCipher::chacha20_poly1305(key));
        let Ok(key) = ObjectKey::expand(secret, bound, cipher);
        key
    }

    fn expand<E>(
        secret: &Secret,
        header: &[u8],
        cipher: impl FnOnce(&[u8; 32]) -> std::result::Result<KeyedCipher, E>,
    ) -> std::result::Result<ObjectKey, E> {
        let mut hasher = blake3::Hasher::new_keyed(secret.bytes());
        hasher.update(header);
        let mut output = hasher.finalize_xof();
        let (mut key, mut commit, mut padding) = ([0; 32], [0; COMMIT_BYTES], [0; 32]);
        output.fill(&mut key);
        output.fill(&mut commit);
        output.fill(&mut padding);
        let cipher = cipher(&key);
        key.zeroize();
        hasher.zeroize();
        output.zeroize();
        let header_hash = *blake3::hash(header).as_bytes();
        Ok(ObjectKey { cipher: cipher?, commit, padding: Secret::new(padding), header_hash })
    }

    pub(crate) fn commit(&self) -> &[u8; COMMIT_BYTES] {
        &self.commit
    }

    /// Whether `commit`, read from an object, is the commitment to this key; in constant time.
    pub(crate) fn is_committed(&self, commit: &[u8]) -> bool {
        self.commit.ct_eq(commit).into()
    }

    pub(crate) fn header_hash(&self) -> &[u8; 32] {
        &self.header_hash
    }

    /// Encrypts `buffer` in place and gives its tag. A number must be used only once with one key.
    pub(crate) fn seal(&self, number: u32, associated: &[u8], buffer: &mut [u8]) -> [u8; TAG_BYTES] {
        self.cipher
            .seal(nonce(number), associated, buffer)
            .expect("a message of the format is far shorter than either cipher's limit, of 64 GiB and more")
    }

    /// Decrypts `sealed`, a ciphertext and its tag, in place; `None` where it was altered.
    pub(crate) fn open<'a>(
        &self,
        number: u32,
        associated: &[u8],
        sealed: &'a mut [u8],
    ) -> Option<&'a mut [u8]> {
        let length = sealed.len().checked_sub(TAG_BYTES)?;
        let (text, tag) = sealed.split_at_mut(length);
        let tag: [u8; TAG_BYTES] = (*tag).try_into().ok()?;
        self.cipher.open(nonce(number), associated, tag, text).then_some(text)
    }

    /// Decrypts `sealed`, a ciphertext and its tag, to `text`, whatever that held before; false where it was altered, and
    /// `text` means nothing then.
    pub(crate) fn open_into(
        &self,
        number: u32,
        associated: &[u8],
        sealed: &[u8],
        text: &mut Vec<u8>,
    ) -> bool {
        let Some((sealed, tag)) = sealed.split_last_chunk::<TAG_BYTES>() else { return false };
        text.resize(sealed.len(), 0);
        self.cipher.open_into(nonce(number), associated, *tag, sealed, text)
    }

    /// Fills `bytes` with what nobody without the key can tell from sealed bytes.
    pub(crate) fn fill_padding(&self, bytes: &mut [u8]) {
        blake3::Hasher::new_keyed(self.padding.bytes()).finalize_xof().fill(bytes);
    }
}

fn nonce(number: u32) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[..4].copy_from_slice(&number.to_le_bytes());
    nonce
}

/// What a single object is bound to beside its header: slots of the log to their number, so that none can stand in
/// another's place.
fn associated(key: &ObjectKey, location: u64) -> [u8; 40] {
    let mut associated = [0; 40];
    associated[..32].copy_from_slice(key.header_hash());
    associated[32..].copy_from_slice(&location.to_le_bytes());
    associated
}

/// Seals a body as an object of one message: header, commitment, then length, body and padding as one sealed message.
/// The salt hashes fresh randomness and the body, so that repeated randomness repeats no key for different bytes.
pub(crate) fn seal_object(
    kek: &Kek,
    mut header: Header,
    location: u64,
    body: &[u8],
    entropy: &dyn Entropy,
) -> Result<Vec<u8>> {
    let randomness: [u8; 32] = random(entropy)?;
    header.salt = hedged_salt(&randomness, entropy, |hasher| {
        hasher.update(&location.to_le_bytes()).update(body);
    });
    let mut object = header.encode();
    let key = ObjectKey::derive(kek, &header)?;
    object.extend_from_slice(key.commit());
    let start = object.len();
    let length = u32::try_from(body.len())
        .map_err(|_| Error::new(crate::ErrorKind::LimitExceeded, "an object's body is longer than 4 GiB"))?;
    object.extend_from_slice(&length.to_le_bytes());
    object.extend_from_slice(body);
    let padded = padding::padme((start + 4 + body.len() + TAG_BYTES) as u64) as usize;
    object.resize(padded - TAG_BYTES, 0);
    let tag = key.seal(0, &associated(&key, location), &mut object[start..]);
    object.extend_from_slice(&tag);
    Ok(object)
}

/// Opens an object of one message; `what` names it in errors.
pub(crate) fn open_object(
    keks: impl FnOnce(&Header) -> Result<Kek>,
    object: ObjectType,
    location: u64,
    bytes: &[u8],
) -> Result<Vec<u8>> {
    let (header, header_bytes) = Header::decode(bytes)?;
    if header.object != object {
        return Err(Error::corrupt("the object is of another type than its name says"));
    }
    let kek = keks(&header)?;
    let key = ObjectKey::derive(&kek, &header)?;
    let (commit, sealed) = bytes[header_bytes..]
        .split_at_checked(COMMIT_BYTES)
        .ok_or_else(|| Error::corrupt("the object is cut short"))?;
    if !key.is_committed(commit) {
        return Err(Error::corrupt("the object's key commitment does not match"));
    }
    let mut sealed = sealed.to_vec();
    let text = key
        .open(0, &associated(&key, location), &mut sealed)
        .ok_or_else(|| Error::corrupt("the object does not authenticate"))?;
    let (length, padded) =
        text.split_first_chunk::<4>().ok_or_else(|| Error::corrupt("the object has no length"))?;
    let length = u32::from_le_bytes(*length) as usize;
    let body = padded.get(..length).ok_or_else(|| Error::corrupt("the object's length is wrong"))?;
    if padded[length..].iter().any(|byte| *byte != 0) {
        return Err(Error::corrupt("the object's padding is not zero"));
    }
    Ok(body.to_vec())
}

/// A salt from fresh randomness, this process, a counter, and what is to be sealed.
pub(crate) fn hedged_salt(
    randomness: &[u8; 32],
    entropy: &dyn Entropy,
    content: impl FnOnce(&mut blake3::Hasher),
) -> [u8; 32] {
    let (process, count) = entropy.hedge();
    let mut hasher = blake3::Hasher::new_derive_key("dr 2026 v1 hedged salt");
    hasher.update(randomness);
    hasher.update(&process.to_le_bytes());
    hasher.update(&count.to_le_bytes());
    content(&mut hasher);
    *hasher.finalize().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;
    use crate::error::ErrorKind;
    use crate::format::envelope::Suite;

    fn header(suite: Suite) -> Header {
        Header {
            object: ObjectType::List,
            suite,
            key_mode: 0,
            epoch: 0,
            repository: [1; 16],
            salt: [0; 32],
            aux: vec![],
        }
    }

    fn kek() -> Kek {
        Kek::for_tests(7)
    }

    #[test]
    fn objects_round_trip_padded_and_every_flipped_bit_is_noticed() {
        for suite in Suite::ALL {
            let sealed = seal_object(&kek(), header(suite), 5, b"body", &SystemEntropy).unwrap();
            assert_eq!(sealed.len() as u64, padding::padme(sealed.len() as u64));
            let open = |bytes: &[u8], location| open_object(|_| Ok(kek()), ObjectType::List, location, bytes);
            assert_eq!(open(&sealed, 5).unwrap(), b"body");
            assert!(open(&sealed, 6).is_err(), "an object moved to another place must not open");
            for bit in 0..sealed.len() * 8 {
                let mut flipped = sealed.clone();
                flipped[bit / 8] ^= 1 << (bit % 8);
                assert!(open(&flipped, 5).is_err(), "bit {bit}");
            }
            for cut in 0..sealed.len() {
                assert!(open(&sealed[..cut], 5).is_err());
            }
        }
    }

    #[test]
    fn an_object_never_opens_with_another_suite() {
        for suite in Suite::ALL {
            let sealed = seal_object(&kek(), header(suite), 0, b"body", &SystemEntropy).unwrap();
            let as_other = |byte: u8| {
                let mut other = sealed.clone();
                other[10] = byte;
                open_object(|_| Ok(kek()), ObjectType::List, 0, &other)
            };
            assert_eq!(as_other(suite as u8).unwrap(), b"body");
            for other in Suite::ALL.into_iter().filter(|other| *other != suite) {
                let error = as_other(other as u8).unwrap_err();
                assert!(error.to_string().contains("key commitment"), "{suite:?} as {other:?}: {error}");
            }
            for unknown in [0, 3, 255] {
                assert_eq!(as_other(unknown).unwrap_err().kind(), ErrorKind::UnsupportedFormat);
            }
        }
    }

    #[test]
    fn no_two_suites_share_a_key() {
        let key = |suite| ObjectKey::derive(&kek(), &header(suite)).unwrap();
        let [first, second] = Suite::ALL.map(key);
        assert_ne!(first.commit(), second.commit());
        assert_ne!(first.header_hash(), second.header_hash());
        let padding = |key: &ObjectKey| {
            let mut bytes = [0; 32];
            key.fill_padding(&mut bytes);
            bytes
        };
        assert_ne!(padding(&first), padding(&second));
    }

    #[test]
    fn keys_are_shared_between_threads() {
        fn check<T: Send + Sync>() {}
        check::<ObjectKey>();
    }

    #[test]
    fn repeated_randomness_repeats_no_key() {
        #[derive(Debug)]
        struct Stuck;
        impl Entropy for Stuck {
            fn fill(&self, bytes: &mut [u8]) -> Result<()> {
                bytes.fill(4);
                Ok(())
            }
        }
        for suite in Suite::ALL {
            let first = seal_object(&kek(), header(suite), 0, b"one", &Stuck).unwrap();
            let second = seal_object(&kek(), header(suite), 0, b"two", &Stuck).unwrap();
            assert_ne!(first[32..64], second[32..64], "the salts are equal");
        }
    }
}
