//! Making and opening key slots.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::credentials::{Credentials, KdfStrength, Material};
use super::envelope::ObjectKey;
use super::secret::Secret;
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::key_slot::{Derivation, KeySlot};
use crate::limits::{KDF_MEMORY_KIB_MIN, KDF_PASSES_MIN, LABEL_BYTES_MAX};

const _: () = assert!(STANDARD.0 >= KDF_MEMORY_KIB_MIN && STANDARD.1 >= KDF_PASSES_MIN);
const STANDARD: (u32, u32, u32) = (64 << 10, 3, 4);
const STRONG: (u32, u32, u32) = (2 << 20, 1, 4);

/// Makes a key slot that the credentials open; gives it and the slot's own random key.
pub(crate) fn new_slot(
    repository: [u8; 16],
    credentials: &Credentials,
    strength: KdfStrength,
    label: &str,
    entropy: &dyn Entropy,
) -> Result<(KeySlot, Secret)> {
    if label.len() > LABEL_BYTES_MAX {
        return Err(Error::new(ErrorKind::InvalidInput, "the key's label is longer than 128 bytes"));
    }
    let derivation = match (&credentials.0, strength) {
        (Material::Key(_), _) => Derivation::Raw,
        (Material::Password(_), strength) => {
            let (memory_kib, passes, lanes) = match strength {
                KdfStrength::Standard => STANDARD,
                KdfStrength::Strong => STRONG,
            };
            Derivation::Argon2id { memory_kib, passes, lanes }
        }
    };
    let mut slot = KeySlot {
        repository,
        derivation,
        salt: random(entropy)?,
        label: label.to_owned(),
        commit: [0; 32],
        sealed_key: [0; 48],
    };
    let key = Secret::new(random(entropy)?);
    let wrapping = wrapping_key(&slot, credentials)?
        .ok_or_else(|| Error::new(ErrorKind::Internal, "a new key slot does not fit its credentials"))?;
    slot.commit = *wrapping.commit();
    slot.sealed_key[..32].copy_from_slice(key.bytes());
    let tag = wrapping.seal(0, wrapping.header_hash(), &mut slot.sealed_key[..32]);
    slot.sealed_key[32..].copy_from_slice(&tag);
    Ok((slot, key))
}

/// Opens a key slot; `None` where the credentials are not the slot's.
pub(crate) fn open_slot(slot: &KeySlot, credentials: &Credentials) -> Result<Option<Secret>> {
    let Some(wrapping) = wrapping_key(slot, credentials)? else { return Ok(None) };
    if !wrapping.is_committed(&slot.commit) {
        return Ok(None);
    }
    let mut sealed = Zeroizing::new(slot.sealed_key);
    let opened = wrapping.open(0, wrapping.header_hash(), &mut sealed[..]);
    Ok(opened.and_then(|key| <[u8; 32]>::try_from(key).ok()).map(Secret::new))
}

/// The key that wraps the slot's own key; `None` where the slot is of another kind than the credentials.
fn wrapping_key(slot: &KeySlot, credentials: &Credentials) -> Result<Option<ObjectKey>> {
    let secret = match (&credentials.0, slot.derivation) {
        (Material::Key(key), Derivation::Raw) => key.clone(),
        (Material::Password(password), Derivation::Argon2id { memory_kib, passes, lanes }) => {
            let failed = |error: argon2::Error| {
                Error::new(ErrorKind::LimitExceeded, "the key could not be derived")
                    .with_source(error.to_string())
            };
            let params = Params::new(memory_kib, passes, lanes, Some(32)).map_err(failed)?;
            let mut output = Zeroizing::new([0; 32]);
            Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
                .hash_password_into(password, &slot.salt, &mut *output)
                .map_err(failed)?;
            Secret::new(*output)
        }
        _ => return Ok(None),
    };
    let header = slot.encode_header();
    Ok(Some(ObjectKey::wrapping(&secret.derive("dr 2026 v1 key slot", &[]), &header)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    fn slot(credentials: &Credentials) -> (KeySlot, Secret) {
        new_slot([3; 16], credentials, KdfStrength::Standard, "test", &SystemEntropy).unwrap()
    }

    #[test]
    fn only_the_right_credentials_open_a_slot() {
        let password = Credentials::password("correct").unwrap();
        let (made, key) = slot(&password);
        let decoded = KeySlot::decode(&made.encode()).unwrap();
        assert!(open_slot(&decoded, &password).unwrap() == Some(key));
        assert!(open_slot(&decoded, &Credentials::password("wrong").unwrap()).unwrap().is_none());
        assert!(open_slot(&decoded, &Credentials::key([0; 32])).unwrap().is_none());
    }

    #[test]
    fn every_flipped_bit_of_a_raw_slot_is_noticed() {
        let credentials = Credentials::key([9; 32]);
        let (made, _) = slot(&credentials);
        let bytes = made.encode();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let opened = KeySlot::decode(&flipped).map(|slot| open_slot(&slot, &credentials).unwrap());
            assert!(!matches!(opened, Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn credentials_and_keys_are_not_printed() {
        let credentials = Credentials::password("hunter2").unwrap();
        assert_eq!(format!("{credentials:?}"), "Credentials(password)");
        assert_eq!(format!("{:?}", Secret::new([1; 32])), "Secret(..)");
    }
}
