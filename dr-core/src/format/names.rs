//! Names of stored objects.

use dr_store::Name;

use super::envelope::PackClass;
use crate::id::ObjectHash;

/// The folders of a repository.
pub(crate) const CONFIG: &str = "config";
pub(crate) const KEYS: &str = "keys";
pub(crate) const RING: &str = "ring";
pub(crate) const INDEX: &str = "index";
pub(crate) const LOG: &str = "log";
pub(crate) const LIST: &str = "list";
pub(crate) const CHECKPOINT: &str = "ckpt";
pub(crate) const PROBE: &str = "probe";

pub(crate) fn config() -> Name {
    name(CONFIG.to_owned())
}

pub(crate) fn hashed(folder: &str, hash: &ObjectHash) -> Name {
    name(format!("{folder}/{hash}"))
}

pub(crate) fn pack(class: PackClass, hash: &ObjectHash) -> Name {
    name(format!("{}/{:02x}/{hash}", class.folder(), hash.as_bytes()[0]))
}

/// A probe of the store.
pub(crate) fn probe(nonce: &[u8; 16]) -> Name {
    let digits: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    name(format!("{PROBE}/{digits}"))
}

/// Slot `n` of the log: sixteen hexadecimal digits of 2^64-1-n, the last three after a slash.
pub(crate) fn slot(slot: u64) -> Name {
    let digits = format!("{:016x}", !slot);
    let (folder, rest) = digits.split_at(13);
    name(format!("{LOG}/{folder}/{rest}"))
}

/// The slot that a folder and a name below `log/` stand for.
pub(crate) fn parse_slot(name: &Name) -> Option<u64> {
    let (folder, rest) = name.as_str().strip_prefix("log/")?.split_once('/')?;
    if folder.len() != 13 || rest.len() != 3 {
        return None;
    }
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    if !is_hex(folder) || !is_hex(rest) {
        return None;
    }
    let number = u64::from_str_radix(folder, 16).ok()? << 12 | u64::from_str_radix(rest, 16).ok()?;
    Some(!number)
}

/// An entry of slot `n` in a log whose slots may hold several: the slot's name, a hyphen, and the attempt's nonce.
pub(crate) fn sibling(slot_number: u64, nonce: &[u8; 16]) -> Name {
    let digits: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    name(format!("{}-{digits}", slot(slot_number)))
}

/// The slot that such an entry stands in.
pub(crate) fn parse_sibling(name: &Name) -> Option<u64> {
    let (slot, nonce) = name.as_str().split_once('-')?;
    let is_hex = nonce.len() == 32 && nonce.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    parse_slot(&Name::new(slot).ok()?).filter(|_| is_hex)
}

/// The lowest slot of a folder below `log/`: thirteen digits of the inverted slot number are the slot's number without its
/// low twelve bits, inverted.
pub(crate) fn first_slot_of(folder: &str) -> Option<u64> {
    let number = u64::from_str_radix(folder, 16).ok().filter(|_| folder.len() == 13)?;
    Some(!(number << 12 | 0xfff))
}

/// Whether an object of a repository can have this name.
pub(crate) fn is_own(name: &str) -> bool {
    let Ok(parsed) = Name::new(name) else { return false };
    let folder = name.split('/').next().unwrap_or_default();
    match folder {
        CONFIG => name == CONFIG,
        LOG => parse_slot(&parsed).or_else(|| parse_sibling(&parsed)).is_some(),
        KEYS | RING | INDEX | LIST | CHECKPOINT | "data" | "tree" => parse_hash(&parsed).is_some(),
        _ => false,
    }
}

/// The hash that is the last part of a name.
pub(crate) fn parse_hash(name: &Name) -> Option<ObjectHash> {
    ObjectHash::from_hex(name.as_str().rsplit('/').next()?)
}

fn name(text: String) -> Name {
    Name::new(text).expect("built of hexadecimal digits and fixed folders")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_inverted_and_round_trip() {
        assert_eq!(slot(0).as_str(), "log/fffffffffffff/fff");
        assert_eq!(slot(4096).as_str(), "log/ffffffffffffe/fff");
        for n in [0, 1, 4095, 4096, 1 << 40, u64::MAX] {
            assert_eq!(parse_slot(&slot(n)), Some(n));
        }
        assert!(
            is_own("config") && is_own(slot(7).as_str()) && is_own(&format!("data/00/{}", "0".repeat(64)))
        );
        assert!(!is_own("thesis.txt") && !is_own("data/report") && !is_own("docs/config"));
        let entry = sibling(4096, &[0xab; 16]);
        assert_eq!(entry.as_str(), format!("log/ffffffffffffe/fff-{}", "ab".repeat(16)));
        assert_eq!((parse_sibling(&entry), parse_slot(&entry)), (Some(4096), None));
        assert_eq!(parse_sibling(&slot(7)), None);
        assert_eq!((first_slot_of("fffffffffffff"), first_slot_of("ffffffffffffe")), (Some(0), Some(4096)));
        assert!(slot(1) < slot(0));
        for bad in ["log/a/fff", "log/fffffffffffff/ff", "log/fffffffffffff/+ff", "log/fffffffffffff"] {
            assert_eq!(parse_slot(&Name::new(bad.to_owned()).unwrap_or_else(|_| config())), None);
        }
    }
}
