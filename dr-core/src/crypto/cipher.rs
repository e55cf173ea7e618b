//! The ciphers that objects are sealed with, one for each suite, and which of them this machine is better at.

use aws_lc_rs::aead::{self, AES_256_GCM, Aad, LessSafeKey, UnboundKey};
use chacha20poly1305::Tag;
use chacha20poly1305::aead::inout::InOutBuf;
use chacha20poly1305::aead::{AeadInOut, KeyInit};

use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::{Suite, TAG_BYTES};

/// What new objects are sealed with. Every object says what it was sealed with, and all are read, whatever is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Cipher {
    /// AES-256-GCM where the processor has instructions for it, else ChaCha20-Poly1305: the faster one.
    #[default]
    Auto,
    /// ChaCha20-Poly1305 (RFC 8439): as fast on every processor.
    ChaCha20Poly1305,
    /// AES-256-GCM (NIST SP 800-38D): four times as fast as the other where the processor has instructions for it, and
    /// several times as slow where it has none.
    Aes256Gcm,
}

impl Cipher {
    /// What objects are made with where this is chosen.
    pub(crate) fn suite(self) -> Suite {
        match self {
            Cipher::Auto if has_aes_instructions() => Suite::Aes256Gcm,
            Cipher::Auto | Cipher::ChaCha20Poly1305 => Suite::ChaCha20Poly1305,
            Cipher::Aes256Gcm => Suite::Aes256Gcm,
        }
    }
}

/// Whether the processor has what the fast implementation of AES-256-GCM runs on: AES, carry-less multiplication, and the
/// vectors that this one is written for.
#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
fn has_aes_instructions() -> bool {
    is_x86_feature_detected!("aes")
        && is_x86_feature_detected!("pclmulqdq")
        && is_x86_feature_detected!("avx")
        && is_x86_feature_detected!("movbe")
}

/// Whether the processor has what the fast implementation of AES-256-GCM runs on: AES and polynomial multiplication.
#[cfg(target_arch = "aarch64")]
fn has_aes_instructions() -> bool {
    use std::arch::is_aarch64_feature_detected;
    is_aarch64_feature_detected!("aes") && is_aarch64_feature_detected!("pmull")
}

#[cfg(not(any(target_arch = "x86", target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes_instructions() -> bool {
    false
}

/// A cipher with a key. It wipes the key when it is dropped, ChaCha20-Poly1305 by the feature `zeroize` of its crate;
/// AES-256-GCM's key lies, expanded, in one allocation of AWS-LC's, whose `OPENSSL_free` (`crypto/mem.c`) overwrites all that
/// it frees (`LcPtr` in `ptr.rs` of `aws-lc-rs` frees by `EVP_AEAD_CTX_free`). What sealing or opening a message leaves on
/// the stack (`aead_aes_gcm_seal_scatter_impl` in `e_aes.c`) is not the key: it is what tags are made of.
pub(super) enum KeyedCipher {
    ChaCha20Poly1305(chacha20poly1305::ChaCha20Poly1305),
    Aes256Gcm(LessSafeKey),
}

impl KeyedCipher {
    /// The cipher of a suite; the caller wipes its own copy of the key.
    pub(super) fn new(suite: Suite, key: &[u8; 32]) -> Result<KeyedCipher> {
        match suite {
            Suite::ChaCha20Poly1305 => Ok(KeyedCipher::chacha20_poly1305(key)),
            Suite::Aes256Gcm => UnboundKey::new(&AES_256_GCM, key)
                .map(|key| KeyedCipher::Aes256Gcm(LessSafeKey::new(key)))
                .map_err(|_| Error::new(ErrorKind::Internal, "AES-256-GCM could not be set up")),
        }
    }

    pub(super) fn chacha20_poly1305(key: &[u8; 32]) -> KeyedCipher {
        KeyedCipher::ChaCha20Poly1305(chacha20poly1305::ChaCha20Poly1305::new(key.into()))
    }

    /// Encrypts `buffer` in place and gives its tag; `None` where it is longer than the cipher's limit.
    pub(super) fn seal(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        buffer: &mut [u8],
    ) -> Option<[u8; TAG_BYTES]> {
        match self {
            KeyedCipher::ChaCha20Poly1305(cipher) => cipher
                .encrypt_inout_detached(&nonce.into(), associated, InOutBuf::from(buffer))
                .ok()
                .map(Into::into),
            KeyedCipher::Aes256Gcm(cipher) => cipher
                .seal_in_place_separate_tag(assume_unique(nonce), Aad::from(associated), buffer)
                .ok()
                .and_then(|tag| tag.as_ref().try_into().ok()),
        }
    }

    /// Decrypts `text` in place; false where it or what belongs to it was altered, and `text` means nothing then.
    pub(super) fn open(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        tag: [u8; TAG_BYTES],
        text: &mut [u8],
    ) -> bool {
        match self {
            KeyedCipher::ChaCha20Poly1305(cipher) => cipher
                .decrypt_inout_detached(&nonce.into(), associated, InOutBuf::from(text), &Tag::from(tag))
                .is_ok(),
            KeyedCipher::Aes256Gcm(cipher) => cipher
                .open_in_place_separate_tag(assume_unique(nonce), Aad::from(associated), &tag, text)
                .is_ok(),
        }
    }

    /// The same from `sealed` to `text`, which is as long.
    pub(super) fn open_into(
        &self,
        nonce: [u8; 12],
        associated: &[u8],
        tag: [u8; TAG_BYTES],
        sealed: &[u8],
        text: &mut [u8],
    ) -> bool {
        match self {
            KeyedCipher::ChaCha20Poly1305(cipher) => InOutBuf::new(sealed, text).is_ok_and(|buffers| {
                let tag = Tag::from(tag);
                cipher.decrypt_inout_detached(&nonce.into(), associated, buffers, &tag).is_ok()
            }),
            KeyedCipher::Aes256Gcm(cipher) => cipher
                .open_separate_gather(assume_unique(nonce), Aad::from(associated), sealed, &tag, text)
                .is_ok(),
        }
    }
}

/// Nonces are numbers of messages, each used once with one key: see `ObjectKey::seal`.
fn assume_unique(nonce: [u8; 12]) -> aead::Nonce {
    aead::Nonce::assume_unique_for_key(nonce)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(text: &str) -> Vec<u8> {
        let digits: String = text.split_whitespace().collect();
        (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
    }

    /// A published message.
    struct Known {
        suite: Suite,
        key: Vec<u8>,
        nonce: Vec<u8>,
        associated: Vec<u8>,
        text: Vec<u8>,
        sealed: Vec<u8>,
        tag: Vec<u8>,
    }

    fn published() -> [Known; 2] {
        [
            // RFC 8439, section 2.8.2.
            Known {
                suite: Suite::ChaCha20Poly1305,
                key: (0x80..=0x9f).collect(),
                nonce: hex("07000000 4041424344454647"),
                associated: hex("50515253c0c1c2c3c4c5c6c7"),
                text: b"Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the \
                        future, sunscreen would be it."
                    .to_vec(),
                sealed: hex("d31a8d34648e60db7b86afbc53ef7ec2 a4aded51296e08fea9e2b5a736ee62d6
                    3dbea45e8ca9671282fafb69da92728b 1a71de0a9e060b2905d6a5b67ecd3b36
                    92ddbd7f2d778b8c9803aee328091b58 fab324e4fad675945585808b4831d7bc
                    3ff4def08e4b7a9de576d26586cec64b 6116"),
                tag: hex("1ae10b594f09e26a7e902ecbd0600691"),
            },
            // McGrew and Viega, The Galois/Counter Mode of Operation (submitted to NIST), test case 16.
            Known {
                suite: Suite::Aes256Gcm,
                key: hex("feffe9928665731c6d6a8f9467308308 feffe9928665731c6d6a8f9467308308"),
                nonce: hex("cafebabefacedbaddecaf888"),
                associated: hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
                text: hex("d9313225f88406e5a55909c5aff5269a 86a7a9531534f7da2e4c303d8a318a72
                    1c3c0c95956809532fcf0e2449a6b525 b16aedf5aa0de657ba637b39"),
                sealed: hex("522dc1f099567d07f47f37a32a84427d 643a8cdcbfe5c0c97598a2bd2555d1aa
                    8cb08e48590dbb3da7b08b1056828838 c5f61e6393ba7a0abcc9f662"),
                tag: hex("76fc6ece0f4e1768cddf8853bb2d551b"),
            },
        ]
    }

    #[test]
    fn published_messages_are_sealed_and_opened() {
        for known in published() {
            let cipher = KeyedCipher::new(known.suite, &known.key.try_into().unwrap()).unwrap();
            let nonce: [u8; 12] = known.nonce.try_into().unwrap();
            let mut buffer = known.text.clone();
            let tag = cipher.seal(nonce, &known.associated, &mut buffer).unwrap();
            assert_eq!((&buffer, tag.as_slice()), (&known.sealed, known.tag.as_slice()), "{:?}", known.suite);
            let mut text = vec![7; buffer.len()];
            assert!(cipher.open_into(nonce, &known.associated, tag, &buffer, &mut text));
            assert_eq!(text, known.text);
            assert!(cipher.open(nonce, &known.associated, tag, &mut buffer));
            assert_eq!(buffer, known.text);
        }
    }

    #[test]
    fn messages_of_every_length_round_trip_and_nothing_else_opens() {
        for suite in Suite::ALL {
            let cipher = KeyedCipher::new(suite, &[3; 32]).unwrap();
            for length in (0..300).chain([4095, 4096, 70_001]) {
                let plain: Vec<u8> = (0..length).map(|at| at as u8).collect();
                let mut sealed = plain.clone();
                let tag = cipher.seal([1; 12], b"with", &mut sealed).unwrap();
                let open = |nonce, associated: &[u8], tag, sealed: &[u8]| {
                    let (mut aside, mut in_place) = (vec![0; sealed.len()], sealed.to_vec());
                    let opened = cipher.open_into(nonce, associated, tag, sealed, &mut aside);
                    assert_eq!(opened, cipher.open(nonce, associated, tag, &mut in_place));
                    opened.then(|| {
                        assert_eq!(aside, in_place);
                        aside
                    })
                };
                assert_eq!(open([1; 12], b"with", tag, &sealed).as_ref(), Some(&plain));
                assert_eq!(open([2; 12], b"with", tag, &sealed), None);
                assert_eq!(open([1; 12], b"witt", tag, &sealed), None);
                assert_eq!(open([1; 12], b"with", [tag[0] ^ 1; 16], &sealed), None);
                if let Some(last) = sealed.last_mut() {
                    *last ^= 0x80;
                    assert_eq!(open([1; 12], b"with", tag, &sealed), None);
                }
            }
            let mut too_short = [0; 3];
            assert!(!cipher.open_into([1; 12], b"", [0; 16], &[0; 4], &mut too_short));
        }
    }

    #[test]
    fn what_was_asked_for_is_taken() {
        assert_eq!(Cipher::ChaCha20Poly1305.suite(), Suite::ChaCha20Poly1305);
        assert_eq!(Cipher::Aes256Gcm.suite(), Suite::Aes256Gcm);
        let automatic = if has_aes_instructions() { Suite::Aes256Gcm } else { Suite::ChaCha20Poly1305 };
        assert_eq!(Cipher::default().suite(), automatic);
    }
}
