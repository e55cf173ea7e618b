//! Derived keys and ids.

use dr_core::internals::{Class, Keys, Params};

use super::case::{Case, cases, from_hex, write};
use super::{DOMAIN, EPOCH, REPOSITORY, header, keys};

#[test]
fn derivations_are_as_written() {
    for case in cases("derivations.txt") {
        let keys =
            Keys::fixed(case.array("repository"), case.array("epoch"), case.array("domain"), Params::DEFAULT);
        let mut found = keys.derived().unwrap();
        found.push(("id of data abc".to_owned(), keys.chunk_id(Class::Data, b"abc").unwrap().to_string()));
        found.push(("id of tree abc".to_owned(), keys.chunk_id(Class::Tree, b"abc").unwrap().to_string()));
        assert_eq!(found, case.expected()[..9]);
        // The object's key: computed here from the key-encryption key, and its commitment by the engine.
        let header = case.hex("header");
        assert_eq!(object_keys(&case.array("is kek.log"), &header)[..], case.hex("object keys"));
        assert_eq!(keys.commitment(&header).unwrap()[..], case.hex("object keys")[32..64]);
    }
}

fn object_keys(kek: &[u8; 32], header: &[u8]) -> [u8; 96] {
    let mut output = [0; 96];
    blake3::Hasher::new_keyed(kek).update(header).finalize_xof().fill(&mut output);
    output
}

pub(super) fn write_all() {
    let keys = keys();
    let derived = keys.derived().unwrap();
    let kek: [u8; 32] =
        from_hex(&derived.iter().find(|(name, _)| name == "kek.log").unwrap().1).try_into().unwrap();
    let case = |title: &str, header: Vec<u8>| {
        Case::new(title)
            .with_hex("repository", &REPOSITORY)
            .with_hex("epoch", &EPOCH)
            .with_hex("domain", &DOMAIN)
            .with_hex("header", &header)
            .with_hex("object keys", &object_keys(&kek, &header))
            .meaning(derived.clone())
            .with("is id of data abc", keys.chunk_id(Class::Data, b"abc").unwrap())
            .with("is id of tree abc", keys.chunk_id(Class::Tree, b"abc").unwrap())
    };
    let cases = [case("one epoch, one domain", header(5, 1)), case("a header of suite 2", header(5, 2))];
    write("derivations.txt", "Derived keys and ids: FORMAT.md, sections 5 and 6.", &cases);
}
