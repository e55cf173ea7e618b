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
        hash = (hash << 1).wrapping_add(chunker.gear.words()[usize::from(*byte)]);
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

fn scans() -> impl Iterator<Item = Scan> {
    Scan::ALL.into_iter().filter(|scan| scan.is_supported())
}

/// Bytes of a kind on which a scan may go wrong: noise of some letters, runs, and things that come again.
fn input(kind: u8, seed: u64, bytes: usize, letters: u8) -> Vec<u8> {
    let noise = noise(seed, bytes).into_iter().map(|byte| byte % letters.max(1));
    match kind % 4 {
        0 => noise.collect(),
        1 => noise.enumerate().map(|(at, byte)| if at / 700 % 2 == 0 { byte } else { 0 }).collect(),
        2 => (0..bytes).map(|at| (at % (usize::from(letters) + 1)) as u8).collect(),
        _ => vec![letters; bytes],
    }
}

proptest! {
    #[test]
    fn every_scan_follows_the_definition(seed: u64, kind: u8, bytes in 0usize..20_000, letters in 1u8..=255) {
        let data = input(kind, seed, bytes, letters);
        for scan in scans() {
            let chunker = Chunker::from_key(&[3; 32], SMALL).with_scan(scan);
            let mut rest = &data[..];
            while !rest.is_empty() {
                let length = chunker.cut(rest);
                prop_assert_eq!(length, cut_by_definition(&chunker, rest), "{:?}", scan);
                prop_assert!(length <= 1024 && (length >= 64 || length == rest.len()));
                rest = &rest[length..];
            }
        }
    }

    /// Chunks as long as those of a repository, with every boundary between vectors, spans and sums in them.
    #[test]
    fn every_scan_finds_the_cuts_of_the_reference(
        key: [u8; 32], kind: u8, bytes in 0usize..700_000, letters in 1u8..=255, average in 10u32..18,
        min in 32u32..600, normalisation in 0u8..4,
    ) {
        let average_bytes = 1 << average;
        let params = ChunkerParams {
            algorithm: 1,
            min_bytes: (min * 2).min(average_bytes - 2),
            average_bytes,
            max_bytes: average_bytes * 4,
            normalisation,
        };
        check_params(&params).unwrap();
        let data = input(kind, u64::from(key[0]), bytes, letters);
        let expected = cuts(&Chunker::from_key(&key, params).with_scan(Scan::Reference), &data);
        for scan in scans() {
            prop_assert_eq!(&cuts(&Chunker::from_key(&key, params).with_scan(scan), &data), &expected, "{:?}", scan);
        }
    }
}

/// Bytes for which every position is a candidate and none a cut, as only somebody who knows the key can make them: vectors
/// give up for a while, and the cuts stay the same.
#[test]
fn data_made_of_candidates_is_cut_alike() {
    let mut tried = 0;
    for seed in 0..200_000u32 {
        let key = *blake3::hash(&seed.to_le_bytes()).as_bytes();
        let chunker = Chunker::from_key(&key, DEFAULT_PARAMS);
        // The sum of a run of one byte is its word times -1, modulo 2^64: 63 carries and the word itself.
        let byte = (0..=255u8).find(|byte| {
            let hash = (0..64)
                .fold(0u64, |hash, _| (hash << 1).wrapping_add(chunker.gear.words()[usize::from(*byte)]));
            hash & chunker.mask_large & 0xffff == 0 && hash & chunker.mask_large != 0
        });
        let Some(byte) = byte else { continue };
        let mut data = noise(u64::from(seed), 3 << 20);
        data[200 << 10..1300 << 10].fill(byte);
        let expected = cuts(&Chunker::from_key(&key, DEFAULT_PARAMS).with_scan(Scan::Reference), &data);
        for scan in scans() {
            assert_eq!(
                cuts(&Chunker::from_key(&key, DEFAULT_PARAMS).with_scan(scan), &data),
                expected,
                "{scan:?}"
            );
        }
        tried += 1;
        if tried == 3 {
            return;
        }
    }
    panic!("no key makes such bytes");
}
