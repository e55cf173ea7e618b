//! Key slots, and the ring that their keys open.

use dr_core::internals::{self, Keys, Kind};
use dr_core::{Credentials, ObjectHash, Result};

use super::REPOSITORY;
use super::case::{Case, cases, from_hex, to_hex, write};

#[test]
fn key_slots_and_the_ring_open_as_written() {
    for case in cases("key_slots.txt") {
        let bytes = case.hex("bytes");
        if case.title == "ring" {
            let slot = ObjectHash::from_hex(case.text("slot")).unwrap();
            let open = |bytes: &[u8]| Keys::open_ring(&slot, case.array("slot key"), bytes);
            let (keys, body) = open(&bytes).unwrap();
            let mut found = internals::decode(Kind::Ring, &body).unwrap().fields;
            found.extend(keys.derived().unwrap());
            assert_eq!(found, case.expected());
            case.assert_rejects(|bytes| open(bytes).is_ok());
        } else {
            let credentials = credentials(&case);
            let opened = internals::open_key_slot(&bytes, &credentials).unwrap();
            assert_eq!(opened.map(|key| to_hex(&key)).as_deref(), Some(case.text("key")), "{}", case.title);
            case.assert_rejects(|bytes| matches!(internals::open_key_slot(bytes, &credentials), Ok(Some(_))));
        }
    }
}

fn credentials(case: &Case) -> Credentials {
    match case.text("with").split_once(' ').unwrap() {
        ("password", password) => Credentials::password(password).unwrap(),
        (_, key) => Credentials::key_file_text(key.as_bytes()).unwrap(),
    }
}

pub(super) fn write_all(objects: &Case) -> Result<()> {
    let object = |folder: &str| {
        let found = objects.values.iter().find(|(name, _)| name.starts_with(folder));
        found.map(|(name, bytes)| (name[folder.len()..].to_owned(), from_hex(bytes))).unwrap()
    };
    let (slot, slot_bytes) = object("keys/");
    let (_, ring) = object("ring/");
    let slot_key = internals::open_key_slot(&slot_bytes, &dr_tests::key())?.unwrap();
    let (keys, body) = Keys::open_ring(&ObjectHash::from_hex(&slot).unwrap(), slot_key, &ring)?;
    let slot_case = |title: &str, with: &str, bytes: &[u8], key: &[u8; 32]| {
        let case = Case::new(title).with("with", with).with_hex("bytes", bytes).with_hex("key", key);
        let last = bytes.len() * 8 - 1;
        let case = case
            .with("reject", "flip 330")
            .with("reject", format!("flip {last}"))
            .with("reject", "append 00");
        // A cost of 2^32 - 1 lanes, 5 GiB, or no passes.
        let costs = [("ffffffff", 36, "lanes"), ("00005000", 28, "memory"), ("00000000", 32, "passes")];
        costs.into_iter().fold(case, |case, (cost, at, _)| {
            let mut planted = bytes.to_vec();
            planted[9] = 1;
            planted[at..at + 4].copy_from_slice(&from_hex(cost));
            case.with("reject", format!("replace {}", to_hex(&planted)))
        })
    };
    let (password, password_key) =
        internals::seal_key_slot(REPOSITORY, &Credentials::password("correct horse")?, "laptop")?;
    let key_text = format!("key {}", to_hex(&[42; 32]));
    let ring_case = Case::new("ring")
        .with("slot", slot)
        .with_hex("slot key", &slot_key)
        .with_hex("bytes", &ring)
        .meaning(internals::decode(Kind::Ring, &body)?.fields)
        .meaning(keys.derived()?)
        .with("reject", "flip 600")
        .with("reject", "flip 900")
        .with("reject", "flip 2000")
        .with("reject", "append 00");
    write(
        "key_slots.txt",
        "Key slots, the keys in them, and the ring of repository.txt: FORMAT.md, sections 4 and 5.",
        &[
            slot_case("key", &key_text, &slot_bytes, &slot_key),
            slot_case("password", "password correct horse", &password, &password_key),
            ring_case,
        ],
    );
    Ok(())
}
