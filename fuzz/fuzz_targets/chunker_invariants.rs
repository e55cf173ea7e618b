//! The chunker: for any key, parameters and input, with every scan, and however the input is split into reads, the cuts are those of the
//! definition in FORMAT.md, which is written out here independently.
#![no_main]
use dr_core::internals::{Params, Scan, cutter_that};
use dr_fuzz::Input;

fn gear(key: &[u8; 32]) -> [u64; 256] {
    let mut stream = [0; 256];
    blake3::Hasher::new_keyed(key).finalize_xof().fill(&mut stream);
    let word = |at: usize| u64::from_le_bytes(stream[at * 8..at * 8 + 8].try_into().expect("eight bytes"));
    std::array::from_fn(|byte| word(byte % 16) ^ word(16 + byte / 16))
}

fn mask(bits: u32) -> u64 {
    (0..bits).map(|bit| if bit < 10 { 1 << (6 + bit) } else { 1u64 << (32 + bit - 10) }).sum()
}

fn defined_cut(gear: &[u64; 256], params: &Params, rest: &[u8]) -> usize {
    let (min, average, max) =
        (params.min_bytes as usize, params.average_bytes as usize, params.max_bytes as usize);
    if rest.len() <= min {
        return rest.len();
    }
    let end = rest.len().min(max);
    let bits = params.average_bytes.ilog2();
    let (small, large) =
        (mask(bits + u32::from(params.normalisation)), mask(bits - u32::from(params.normalisation)));
    let mut hash = 0u64;
    for position in min..end - end % 2 {
        hash = (hash << 1).wrapping_add(gear[usize::from(rest[position])]);
        if hash & if position < average { small } else { large } == 0 {
            return position;
        }
    }
    end
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let key = [input.u8(); 32];
    let params = Params {
        min_bytes: u32::from(input.u8()) * 2,
        average_bytes: 1 << (input.u8() % 12),
        max_bytes: u32::from(input.u16()) * 2,
        normalisation: input.u8() % 6,
    };
    let scans = Scan::ALL.into_iter().filter(|scan| scan.is_supported());
    let Ok(cutters) = scans.map(|scan| cutter_that(&key, params, scan)).collect::<Result<Vec<_>, _>>() else {
        return;
    };
    // The fuzzer's own bytes, then noise of a chosen alphabet and length.
    let (alphabet, length, split) =
        (input.u8().max(1), usize::from(input.u16()), usize::from(input.u16()) + 1);
    let mut source = input.0.to_vec();
    let mut noise = vec![0; length];
    blake3::Hasher::new().update(data).finalize_xof().fill(&mut noise);
    source.extend(noise.into_iter().map(|byte| byte % alphabet));

    let gear = gear(&key);
    let (mut rest, mut whole) = (&source[..], Vec::new());
    while !rest.is_empty() {
        let length = defined_cut(&gear, &params, rest);
        for cut in &cutters {
            assert_eq!(cut(rest), length);
        }
        assert!(
            length <= params.max_bytes as usize
                && (length >= params.min_bytes as usize || length == rest.len())
        );
        whole.push(length);
        rest = &rest[length..];
    }
    // A reader that gives `split` bytes at a time: cut while a chunk of any length is certain, then at the end.
    let cut = &cutters[0];
    let (mut buffer, mut parts) = (Vec::new(), Vec::new());
    for part in source.chunks(split) {
        buffer.extend_from_slice(part);
        while buffer.len() >= params.max_bytes as usize {
            let length = cut(&buffer);
            parts.push(length);
            buffer.drain(..length);
        }
    }
    while !buffer.is_empty() {
        let length = cut(&buffer);
        parts.push(length);
        buffer.drain(..length);
    }
    assert_eq!(parts, whole);
});
