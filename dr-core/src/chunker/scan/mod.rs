//! The scan for cuts. The hash of a position modulo 2^16 is exact in 16-bit lanes and depends on 16 bytes only, and ten mask
//! bits lie in it: vectors find the one position in a thousand that may be a cut, and the whole hash decides.

#[cfg(target_arch = "x86_64")]
mod x86;

use std::ops::Range;

/// Bytes that the hash of a position depends on.
pub(super) const WINDOW_BYTES: usize = 64;
/// Bytes whose candidates are one word.
const BLOCK_BYTES: usize = 64;
/// Blocks whose candidates are found at once.
const SPAN_BLOCKS: usize = 64;
/// Candidates in a span above which adding up is faster than looking at each of them. Noise has four.
const CANDIDATES_MAX: u32 = 32;
/// Bytes that are added up after such a span, before vectors are tried again: data made to be slow is slow once in 32 KiB.
const DENSE_BYTES: usize = 32 << 10;

/// The mask bits from this one on, below bit 16, are those that vectors look at.
pub(super) const MASK_SHIFT: u32 = 6;

/// How cuts are looked for. All find the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scan {
    /// 64 bytes at a time, with the instructions of AVX-512BW.
    Avx512,
    /// 32 bytes at a time, with the instructions of AVX2.
    Avx2,
    /// What the crate `fastcdc` does, two bytes at a time.
    Reference,
}

impl Scan {
    /// All of them, the fastest first.
    pub const ALL: [Scan; 3] = [Scan::Avx512, Scan::Avx2, Scan::Reference];

    /// Whether this machine can do it.
    pub fn is_supported(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        match self {
            Scan::Avx512 => return x86::has_avx512(),
            Scan::Avx2 => return x86::has_avx2(),
            Scan::Reference => {}
        }
        self == Scan::Reference
    }

    /// The fastest that this machine can do.
    pub(crate) fn fastest() -> Scan {
        Scan::ALL.into_iter().find(|scan| scan.is_supported()).unwrap_or(Scan::Reference)
    }
}

/// The gear table.
pub(super) struct Gear {
    words: Box<[u64; 256]>,
    words_shifted: Box<[u64; 256]>,
    nibbles: Nibbles,
}

/// The low 16 bits of the words that a byte's word is made of, one byte of them at a time.
#[derive(Clone, Copy)]
struct Nibbles {
    /// Of the words of the low half of a byte: their bits 0 to 7, and 8 to 15.
    low: [[u8; 16]; 2],
    /// Of the words of its high half.
    high: [[u8; 16]; 2],
}

impl Gear {
    /// The table whose word for a byte is `low` of its low half XOR `high` of its high half.
    pub(super) fn new(low: &[u64; 16], high: &[u64; 16]) -> Gear {
        let bytes = |words: &[u64; 16]| [words.map(|word| word as u8), words.map(|word| (word >> 8) as u8)];
        let words: [u64; 256] = std::array::from_fn(|byte| low[byte & 15] ^ high[byte >> 4]);
        Gear {
            words: Box::new(words),
            words_shifted: Box::new(words.map(|word| word << 1)),
            nibbles: Nibbles { low: bytes(low), high: bytes(high) },
        }
    }

    /// The words of all bytes.
    pub(super) fn words(&self) -> &[u64; 256] {
        &self.words
    }

    /// The same, shifted left by one, as the reference wants them beside.
    pub(super) fn words_shifted(&self) -> &[u64; 256] {
        &self.words_shifted
    }

    /// The first position of `range` whose hash has no bit of `mask`. The hash of a position is the sum of the words of the
    /// last 64 bytes up to it, each shifted by its age; the first byte is the one at `first`.
    pub(super) fn find(
        &self,
        scan: Scan,
        source: &[u8],
        first: usize,
        range: Range<usize>,
        mask: u64,
    ) -> Option<usize> {
        // Before there is a whole window, every sum is of another length.
        let whole = range.end.min(range.start.max(first + WINDOW_BYTES));
        if let Some(found) = self.find_adding(source, first, range.start..whole, mask) {
            return Some(found);
        }
        let mut position = whole;
        let mut masks = [0; SPAN_BLOCKS];
        while range.end - position >= BLOCK_BYTES {
            let blocks = SPAN_BLOCKS.min((range.end - position) / BLOCK_BYTES);
            let masks = &mut masks[..blocks];
            let span = &source[position - BLOCK_BYTES..position + blocks * BLOCK_BYTES];
            find_candidates(scan, &self.nibbles, mask as u16, span.as_chunks().0, masks);
            let candidates: u32 = masks.iter().map(|mask| mask.count_ones()).sum();
            if candidates > CANDIDATES_MAX {
                let end = range.end.min(position + DENSE_BYTES);
                if let Some(found) = self.find_adding(source, first, position..end, mask) {
                    return Some(found);
                }
                position = end;
                continue;
            }
            if let Some(found) = self.find_among(source, position, masks, mask) {
                return Some(found);
            }
            position += blocks * BLOCK_BYTES;
        }
        self.find_adding(source, first, position..range.end, mask)
    }

    /// The first candidate whose whole hash has no bit of `mask`.
    fn find_among(&self, source: &[u8], start: usize, candidates: &[u64], mask: u64) -> Option<usize> {
        for (block, candidates) in candidates.iter().enumerate() {
            let mut left = *candidates;
            while left != 0 {
                let position = start + block * BLOCK_BYTES + left.trailing_zeros() as usize;
                if self.hash_of_window(source, position) & mask == 0 {
                    return Some(position);
                }
                left &= left - 1;
            }
        }
        None
    }

    /// The hash of a position with a whole window before it. Four sums at a time do not wait for one another.
    fn hash_of_window(&self, source: &[u8], position: usize) -> u64 {
        let (quarters, _) = source[position + 1 - WINDOW_BYTES..=position].as_chunks::<16>();
        let mut sums = [0u64; 4];
        for age in 0..16 {
            for (sum, quarter) in sums.iter_mut().zip(quarters) {
                *sum = (*sum << 1).wrapping_add(self.words[usize::from(quarter[age])]);
            }
        }
        sums.into_iter().fold(0, |hash, sum| (hash << 16).wrapping_add(sum))
    }

    /// The same as `find`, by adding up byte after byte.
    fn find_adding(&self, source: &[u8], first: usize, range: Range<usize>, mask: u64) -> Option<usize> {
        let add = |hash: u64, byte: &u8| (hash << 1).wrapping_add(self.words[usize::from(*byte)]);
        let window = first.max(range.start.saturating_sub(WINDOW_BYTES));
        let mut hash = source[window..range.start].iter().fold(0, add);
        let start = range.start;
        let found = source[range].iter().position(|byte| {
            hash = add(hash, byte);
            hash & mask == 0
        })?;
        Some(start + found)
    }
}

/// Finds the positions whose hash has none of the bits 6 to 15 of `mask`: a bit of a word for each byte of a block. The first
/// block only gives what comes before the second, which the first word is of.
fn find_candidates(
    scan: Scan,
    nibbles: &Nibbles,
    mask: u16,
    blocks: &[[u8; BLOCK_BYTES]],
    found: &mut [u64],
) {
    match scan {
        #[cfg(target_arch = "x86_64")]
        Scan::Avx512 => x86::find_candidates_avx512(nibbles, mask, blocks, found),
        #[cfg(target_arch = "x86_64")]
        Scan::Avx2 => x86::find_candidates_avx2(nibbles, mask, blocks, found),
        // Every position is a candidate.
        _ => found.fill(u64::MAX),
    }
}
