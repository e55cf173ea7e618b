//! Single sealed objects.

use dr_core::internals::Single;

use super::case::{Case, cases, to_hex, write};
use super::{keys, keys_of_suite_2};

#[test]
fn sealed_objects_open_as_written() {
    for case in cases("sealed.txt") {
        let location = case.number("location");
        let open = |bytes: &[u8], location| keys().open(single_of(case.text("kind")), location, bytes);
        assert_eq!(to_hex(&open(&case.hex("bytes"), location).unwrap()), case.text("body"), "{}", case.title);
        assert!(open(&case.hex("bytes"), location + 1).is_err());
        case.assert_rejects(|bytes| open(bytes, location).is_ok());
    }
}

fn single_of(name: &str) -> Single {
    match name {
        "slot" => Single::Slot,
        "list" => Single::List,
        "snapshot" => Single::Snapshot,
        "checkpoint" => Single::Checkpoint,
        _ => panic!("there is no kind {name}"),
    }
}

pub(super) fn write_all() {
    let mut cases = Vec::new();
    for (suffix, keys) in [("", keys()), (", suite 2", keys_of_suite_2())] {
        for (kind, location, body) in [
            ("slot", 7, &b"a slot's body"[..]),
            ("list", 0, b""),
            ("snapshot", 0, &[5; 300]),
            ("checkpoint", 0, &[6; 20]),
        ] {
            let bytes = keys.seal(single_of(kind), location, body).unwrap();
            let last = bytes.len() * 8 - 1;
            cases.push(
                Case::new(&format!("{kind}{suffix}"))
                    .with("kind", kind)
                    .with("location", location)
                    .with_hex("bytes", &bytes)
                    .with_hex("body", body)
                    .with("reject", "flip 72")
                    .with("reject", "flip 300")
                    .with("reject", "flip 530")
                    .with("reject", "flip 800")
                    .with("reject", format!("flip {last}"))
                    .with("reject", format!("truncate {}", bytes.len() - 1))
                    .with("reject", "truncate 97")
                    .with("reject", "append 00"),
            );
        }
    }
    write("sealed.txt", "Single objects under the keys of derivations.txt: FORMAT.md, section 7.", &cases);
}
