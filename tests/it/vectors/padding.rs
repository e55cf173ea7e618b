//! Padded lengths.

use dr_core::internals;

use super::case::{Case, cases, write};

#[test]
fn lengths_are_padded_as_written() {
    for (bytes, padded) in &cases("padding.txt")[0].values {
        let (object, pack) = internals::padded(bytes.parse().unwrap());
        assert_eq!(format!("{object} {pack}"), *padded, "{bytes}");
    }
}

pub(super) fn write_all() {
    let lengths = [
        0,
        1,
        255,
        256,
        257,
        1000,
        4095,
        4096,
        65_535,
        65_536,
        65_537,
        100_000,
        1_048_575,
        1_048_576,
        1_048_577,
        33_554_433,
        268_435_456u64,
    ];
    let padding = lengths.iter().fold(Case::new("length = padded object, padded pack"), |case, bytes| {
        let (object, pack) = internals::padded(*bytes);
        case.with(&bytes.to_string(), format!("{object} {pack}"))
    });
    write("padding.txt", "Padded lengths: FORMAT.md, sections 7 and 8.", &[padding]);
}
