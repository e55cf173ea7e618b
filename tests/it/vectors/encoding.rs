//! The encoding of bodies.

use dr_core::internals::{self, Fields};

use super::case::{Case, cases, write};

#[test]
fn encodings_are_as_written() {
    let written: Fields = cases("encoding.txt")[0].values.clone();
    assert_eq!(internals::samples(), written);
    for case in &cases("encoding.txt")[1..] {
        let read = internals::decode_sample(case.text("type"), &case.hex("bytes"));
        match case.text("value") {
            "error" => assert!(read.is_err(), "{}: {read:?}", case.title),
            value => assert_eq!(read.unwrap(), value, "{}", case.title),
        }
    }
}

pub(super) fn write_all() {
    let mut written = Case::new("type value = bytes");
    written.values = internals::samples();
    let mut cases = vec![written];
    for (kind, bytes, value) in [
        ("u16", "fb0500", "5"),
        ("u64", "fd0500000000000000", "5"),
        ("i64", "fb0200", "1"),
        ("option of u32", "0107", "Some(7)"),
        ("list of u64", "020102", "[1, 2]"),
        ("bool", "02", "error"),
        ("u16", "fc05000000", "error"),
        ("u32", "fd0500000000000000", "error"),
        ("u64", "fe00000000000000000000000000000000", "error"),
        ("u64", "ff", "error"),
        ("u64", "fb05", "error"),
        ("u64", "", "error"),
        ("u64", "0500", "error"),
        ("option of u32", "02", "error"),
        ("list of u64", "0201", "error"),
        ("list of u64", "fdffffffffffffff7f01", "error"),
        ("text", "01ff", "error"),
        ("id", "0000", "error"),
    ] {
        let title = format!("{kind} {bytes}");
        cases.push(Case::new(&title).with("type", kind).with("bytes", bytes).with("value", value));
    }
    write("encoding.txt", "The encoding of bodies: FORMAT.md, section 1.", &cases);
}
