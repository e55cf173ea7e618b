use proptest::prelude::*;

use super::*;

const SMALL: ChunkerParams =
    ChunkerParams { algorithm: 1, min_bytes: 64, average_bytes: 256, max_bytes: 1024, normalisation: 2 };

fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut output = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut output);
    output
}

/// The definition, byte by byte: the hash of a position is the sum of the last 64 bytes' words, each shifted by its age.
fn cut_by_definition(chunker: &Chunker, source: &[u8]) -> usize {
    let params = &chunker.params;
    let (min, average) = (params.min_bytes as usize, params.average_bytes as usize);
    let end = source.len().min(params.max_bytes as usize);
    if source.len() <= min {
        return source.len();
    }
    let centre = average.min(end);
    let mut hash = 0u64;
    // The reference takes two bytes at a time: the last byte of an odd rest is never looked at.
    for (position, byte) in source[..end - end % 2].iter().enumerate().skip(min) {
        hash = (hash << 1).wrapping_add(chunker.gear[usize::from(*byte)]);
        let mask = if position < centre { chunker.mask_small } else { chunker.mask_large };
        if hash & mask == 0 {
            return position;
        }
    }
    end
}

fn cuts(chunker: &Chunker, source: &[u8]) -> Vec<usize> {
    let mut rest = source;
    let mut lengths = Vec::new();
    while !rest.is_empty() {
        let length = chunker.cut(rest);
        lengths.push(length);
        rest = &rest[length..];
    }
    lengths
}

#[test]
fn default_parameters_are_valid_and_cut_near_the_average() {
    check_params(&DEFAULT_PARAMS).unwrap();
    let chunker = Chunker::from_key(&[1; 32], DEFAULT_PARAMS);
    let lengths = cuts(&chunker, &noise(1, 64 << 20));
    let mean = (64 << 20) / lengths.len();
    assert!((384 << 10..768 << 10).contains(&mean), "the mean chunk has {mean} bytes");
}

#[test]
fn another_key_cuts_elsewhere_and_a_shifted_copy_cuts_alike() {
    let data = noise(2, 1 << 20);
    let chunker = Chunker::from_key(&[1; 32], SMALL);
    assert_ne!(cuts(&chunker, &data), cuts(&Chunker::from_key(&[2; 32], SMALL), &data));
    let ends = |lengths: Vec<usize>, start: usize| {
        lengths
            .into_iter()
            .scan(start, |end, length| {
                *end += length;
                Some(*end)
            })
            .collect::<Vec<_>>()
    };
    let whole = ends(cuts(&chunker, &data), 0);
    let shifted = ends(cuts(&chunker, &data[1000..]), 1000);
    let common = shifted.iter().filter(|end| whole.contains(end)).count();
    assert!(common * 10 > shifted.len() * 9, "{common} of {} cuts are common", shifted.len());
}

proptest! {
    #[test]
    fn the_reference_scan_follows_the_definition(seed: u64, bytes in 0usize..20_000, alphabet in 1u8..=255) {
        let data: Vec<u8> = noise(seed, bytes).into_iter().map(|byte| byte % alphabet).collect();
        let chunker = Chunker::from_key(&[3; 32], SMALL);
        let mut rest = &data[..];
        while !rest.is_empty() {
            let length = chunker.cut(rest);
            prop_assert_eq!(length, cut_by_definition(&chunker, rest));
            prop_assert!(length <= 1024 && (length >= 64 || length == rest.len()));
            rest = &rest[length..];
        }
    }
}
