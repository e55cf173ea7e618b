//! Where streams are cut.

use dr_core::internals::{self, Params};

use super::case::{Case, cases, write};

#[test]
fn streams_are_cut_as_written() {
    for case in cases("chunker.txt") {
        let params = Params {
            min_bytes: case.number("min"),
            average_bytes: case.number("average"),
            max_bytes: case.number("max"),
            normalisation: case.number("normalisation"),
        };
        let key = case.array("key");
        let cutter = internals::cutter(&key, params);
        if case.text("cuts") == "error" {
            assert!(cutter.is_err(), "{}", case.title);
        } else {
            assert_eq!(cuts(&case, &cutter.unwrap()), case.text("cuts"), "{}", case.title);
        }
    }
}

/// Where chunks end in `input bytes` bytes of the BLAKE3 output of `input seed`, each modulo `input alphabet`.
fn cuts(case: &Case, cut: &dyn Fn(&[u8]) -> usize) -> String {
    let mut source = vec![0; case.number("input bytes")];
    blake3::Hasher::new().update(case.text("input seed").as_bytes()).finalize_xof().fill(&mut source);
    let alphabet: u16 = case.number("input alphabet");
    source.iter_mut().for_each(|byte| *byte = (u16::from(*byte) % alphabet) as u8);
    let (mut ends, mut end) = (Vec::new(), 0);
    while end < source.len() {
        end += cut(&source[end..]);
        ends.push(end.to_string());
    }
    ends.join(" ")
}

pub(super) fn write_all() {
    let case = |title: &str, key: u8, params: [u32; 4], input: (&str, usize, u16)| {
        let case = Case::new(title)
            .with_hex("key", &[key; 32])
            .with("min", params[0])
            .with("average", params[1])
            .with("max", params[2])
            .with("normalisation", params[3])
            .with("input seed", input.0)
            .with("input bytes", input.1)
            .with("input alphabet", input.2);
        let params = Params {
            min_bytes: params[0],
            average_bytes: params[1],
            max_bytes: params[2],
            normalisation: params[3] as u8,
        };
        let ends = internals::cutter(&[key; 32], params).map_or("error".to_owned(), |cut| cuts(&case, &cut));
        case.with("cuts", ends)
    };
    let small = [64, 256, 1024, 2];
    let default = [128 << 10, 512 << 10, 2 << 20, 2];
    write(
        "chunker.txt",
        "Where streams are cut: FORMAT.md, section 13. The input is BLAKE3 output of the seed, each byte modulo the alphabet.",
        &[
            case("small", 1, small, ("dr", 20_001, 256)),
            case("small, another key", 2, small, ("dr", 20_001, 256)),
            case("few values", 1, small, ("dr", 20_000, 2)),
            case("one value", 1, small, ("dr", 5000, 1)),
            case("shorter than the minimum", 1, small, ("dr", 64, 256)),
            case("odd rests", 1, [64, 128, 256, 0], ("odd", 4097, 256)),
            case("no normalisation", 3, [64, 4096, 16_384, 0], ("dr", 100_000, 256)),
            case("defaults", 1, default, ("dr", 8 << 20, 256)),
            case("minimum too small", 1, [62, 256, 1024, 2], ("dr", 1, 256)),
            case("average no power of two", 1, [64, 258, 1024, 2], ("dr", 1, 256)),
            case("maximum too large", 1, [64, 256, (16 << 20) + 2, 2], ("dr", 1, 256)),
            case("odd maximum", 1, [64, 256, 1023, 2], ("dr", 1, 256)),
            case("too much normalisation", 1, [64, 256, 1024, 5], ("dr", 1, 256)),
        ],
    );
}
