//! Candidates for cuts with the vectors of x86-64: one of the two modules that hold `unsafe`.
//!
//! A byte's 16-bit word is looked up by its halves, a byte of the word at a time. Of 16 neighbours, one vector holds the words
//! of the first eight, another those of the last eight. The sum over 16 bytes takes four steps: the sum over 2n bytes
//! is that over the last n plus that over the n before them, shifted by n.
#![expect(unsafe_code, reason = "vectors are loaded through pointers, and need a processor that has them")]

use std::arch::x86_64::*;

use super::{BLOCK_BYTES, MASK_SHIFT, Nibbles};

pub(super) fn has_avx512() -> bool {
    is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw")
}

pub(super) fn has_avx2() -> bool {
    is_x86_feature_detected!("avx2")
}

/// See `super::find_candidates`.
///
/// # Panics
/// Where the machine has no AVX-512BW.
pub(super) fn find_candidates_avx512(
    nibbles: &Nibbles,
    mask: u16,
    blocks: &[[u8; BLOCK_BYTES]],
    found: &mut [u64],
) {
    assert!(has_avx512(), "the processor has no AVX-512BW");
    // SAFETY: the processor has the instructions, as was just asked.
    unsafe { avx512(nibbles, mask, blocks, found) }
}

/// See `super::find_candidates`.
///
/// # Panics
/// Where the machine has no AVX2.
pub(super) fn find_candidates_avx2(
    nibbles: &Nibbles,
    mask: u16,
    blocks: &[[u8; BLOCK_BYTES]],
    found: &mut [u64],
) {
    assert!(has_avx2(), "the processor has no AVX2");
    // SAFETY: the processor has the instructions, as was just asked.
    unsafe { avx2(nibbles, mask, blocks, found) }
}

#[target_feature(enable = "avx512f,avx512bw")]
fn avx512(nibbles: &Nibbles, mask: u16, blocks: &[[u8; BLOCK_BYTES]], found: &mut [u64]) {
    let table = |bytes: &[u8; 16]| _mm512_broadcast_i32x4(load_16(bytes));
    let (low, high) = (nibbles.low.each_ref().map(table), nibbles.high.each_ref().map(table));
    let half = _mm512_set1_epi8(15);
    let mask = _mm512_set1_epi16((mask >> MASK_SHIFT) as i16);
    // The second vector of the block before, at each step.
    let mut carried = [_mm512_setzero_si512(); 4];
    for (number, block) in blocks.iter().enumerate() {
        let bytes = load_64(block);
        let (lows, highs) =
            (_mm512_and_si512(bytes, half), _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), half));
        let plane = |at: usize| {
            _mm512_xor_si512(_mm512_shuffle_epi8(low[at], lows), _mm512_shuffle_epi8(high[at], highs))
        };
        let (bits_0_to_7, bits_8_to_15) = (plane(0), plane(1));
        let mut first = _mm512_unpacklo_epi8(bits_0_to_7, bits_8_to_15);
        let mut second = _mm512_unpackhi_epi8(bits_0_to_7, bits_8_to_15);
        // The last eight words before each sixteen.
        let mut before = |step: usize, second| {
            _mm512_alignr_epi64::<6>(second, std::mem::replace(&mut carried[step], second))
        };

        let words = before(0, second);
        let older = (_mm512_alignr_epi8::<14>(first, words), _mm512_alignr_epi8::<14>(second, first));
        first = _mm512_add_epi16(first, _mm512_slli_epi16::<1>(older.0));
        second = _mm512_add_epi16(second, _mm512_slli_epi16::<1>(older.1));
        let words = before(1, second);
        let older = (_mm512_alignr_epi8::<12>(first, words), _mm512_alignr_epi8::<12>(second, first));
        first = _mm512_add_epi16(first, _mm512_slli_epi16::<2>(older.0));
        second = _mm512_add_epi16(second, _mm512_slli_epi16::<2>(older.1));
        let words = before(2, second);
        let older = (_mm512_alignr_epi8::<8>(first, words), _mm512_alignr_epi8::<8>(second, first));
        first = _mm512_add_epi16(first, _mm512_slli_epi16::<4>(older.0));
        second = _mm512_add_epi16(second, _mm512_slli_epi16::<4>(older.1));
        let older = (before(3, second), first);
        first = _mm512_add_epi16(first, _mm512_slli_epi16::<8>(older.0));
        second = _mm512_add_epi16(second, _mm512_slli_epi16::<8>(older.1));

        // Ten bits of a word, as a byte that is zero where they are: in the order of the source again.
        let masked = |words| _mm512_and_si512(_mm512_srli_epi16::<MASK_SHIFT>(words), mask);
        let bytes = _mm512_packus_epi16(masked(first), masked(second));
        if let Some(found) = number.checked_sub(1).and_then(|number| found.get_mut(number)) {
            *found = _mm512_testn_epi8_mask(bytes, bytes);
        }
    }
}

#[target_feature(enable = "avx2")]
fn avx2(nibbles: &Nibbles, mask: u16, blocks: &[[u8; BLOCK_BYTES]], found: &mut [u64]) {
    let table = |bytes: &[u8; 16]| _mm256_broadcastsi128_si256(load_16(bytes));
    let (low, high) = (nibbles.low.each_ref().map(table), nibbles.high.each_ref().map(table));
    let half = _mm256_set1_epi8(15);
    let mask = _mm256_set1_epi16((mask >> MASK_SHIFT) as i16);
    let mut carried = [_mm256_setzero_si256(); 4];
    let mut candidates = |block: &[u8; 32]| {
        let bytes = load_32(block);
        let (lows, highs) =
            (_mm256_and_si256(bytes, half), _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), half));
        let plane = |at: usize| {
            _mm256_xor_si256(_mm256_shuffle_epi8(low[at], lows), _mm256_shuffle_epi8(high[at], highs))
        };
        let (bits_0_to_7, bits_8_to_15) = (plane(0), plane(1));
        let mut first = _mm256_unpacklo_epi8(bits_0_to_7, bits_8_to_15);
        let mut second = _mm256_unpackhi_epi8(bits_0_to_7, bits_8_to_15);
        let mut before = |step: usize, second| {
            _mm256_permute2x128_si256::<0x21>(std::mem::replace(&mut carried[step], second), second)
        };

        let words = before(0, second);
        let older = (_mm256_alignr_epi8::<14>(first, words), _mm256_alignr_epi8::<14>(second, first));
        first = _mm256_add_epi16(first, _mm256_slli_epi16::<1>(older.0));
        second = _mm256_add_epi16(second, _mm256_slli_epi16::<1>(older.1));
        let words = before(1, second);
        let older = (_mm256_alignr_epi8::<12>(first, words), _mm256_alignr_epi8::<12>(second, first));
        first = _mm256_add_epi16(first, _mm256_slli_epi16::<2>(older.0));
        second = _mm256_add_epi16(second, _mm256_slli_epi16::<2>(older.1));
        let words = before(2, second);
        let older = (_mm256_alignr_epi8::<8>(first, words), _mm256_alignr_epi8::<8>(second, first));
        first = _mm256_add_epi16(first, _mm256_slli_epi16::<4>(older.0));
        second = _mm256_add_epi16(second, _mm256_slli_epi16::<4>(older.1));
        let older = (before(3, second), first);
        first = _mm256_add_epi16(first, _mm256_slli_epi16::<8>(older.0));
        second = _mm256_add_epi16(second, _mm256_slli_epi16::<8>(older.1));

        let is_zero = |words| {
            let masked = _mm256_and_si256(_mm256_srli_epi16::<MASK_SHIFT_I32>(words), mask);
            _mm256_cmpeq_epi16(masked, _mm256_setzero_si256())
        };
        _mm256_movemask_epi8(_mm256_packs_epi16(is_zero(first), is_zero(second))).cast_unsigned()
    };
    for (number, block) in blocks.iter().enumerate() {
        let (halves, _) = block.as_chunks::<32>();
        let words = [candidates(&halves[0]), candidates(&halves[1])].map(u64::from);
        if let Some(found) = number.checked_sub(1).and_then(|number| found.get_mut(number)) {
            *found = words[0] | words[1] << 32;
        }
    }
}

const MASK_SHIFT_I32: i32 = MASK_SHIFT as i32;

#[target_feature(enable = "avx512f")]
fn load_64(bytes: &[u8; 64]) -> __m512i {
    // SAFETY: a vector of 64 bytes is read from 64 bytes; it need not be aligned.
    unsafe { _mm512_loadu_si512(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2")]
fn load_32(bytes: &[u8; 32]) -> __m256i {
    // SAFETY: a vector of 32 bytes is read from 32 bytes; it need not be aligned.
    unsafe { _mm256_loadu_si256(bytes.as_ptr().cast()) }
}

#[target_feature(enable = "sse2")]
fn load_16(bytes: &[u8; 16]) -> __m128i {
    // SAFETY: a vector of 16 bytes is read from 16 bytes; it need not be aligned.
    unsafe { _mm_loadu_si128(bytes.as_ptr().cast()) }
}
