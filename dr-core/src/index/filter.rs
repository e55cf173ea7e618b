//! Binary fuse filters: which ids a segment may list. `xorf` builds them; they are asked here, so that the few steps that
//! this takes stand inline and many filters wait for memory together.

use xorf::{BinaryFuse8, DmaSerializable};

use crate::format::reader::Reader;
use crate::format::segment::{ChunkRecord, FILTER_CHUNKS_MIN};
use crate::id::ChunkId;

/// The bytes before a filter's fingerprints.
pub(super) const FILTER_HEAD_BYTES: usize = 20;
const _: () = assert!(FILTER_HEAD_BYTES == BinaryFuse8::DESCRIPTOR_LEN);

/// The first eight bytes of an id: what filters hold and pages are found by.
pub(crate) fn key(id: &ChunkId) -> u64 {
    first_number(id.as_bytes())
}

pub(super) fn first_number(id: &[u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

/// Builds the filter over the ids of sorted records; empty where there are too few or none can be built.
pub(crate) fn build_filter(chunks: &[ChunkRecord]) -> Vec<u8> {
    if chunks.len() < FILTER_CHUNKS_MIN {
        return Vec::new();
    }
    let mut keys: Vec<u64> = chunks.iter().map(|record| key(&record.id)).collect();
    keys.sort_unstable();
    keys.dedup();
    let Ok(filter) = BinaryFuse8::try_from_iterator(keys.into_iter()) else { return Vec::new() };
    let mut bytes = vec![0; FILTER_HEAD_BYTES];
    filter.dma_copy_descriptor_to(&mut bytes);
    bytes.extend_from_slice(filter.dma_fingerprints());
    bytes
}

/// The head of a sound filter: no lookup reaches outside of its fingerprints.
#[derive(Debug, Clone, Copy)]
pub(super) struct Filter {
    seed: u64,
    segment: u32,
    mask: u32,
    /// The length covered by segment starts.
    covered: u32,
}

impl Filter {
    /// Reads the head of a filter of so many fingerprints; none where it is not sound.
    pub(super) fn parse(head: &[u8], fingerprints: usize) -> Option<Filter> {
        let mut reader = Reader::new("a filter", head);
        let filter = Filter {
            seed: reader.u64().ok()?,
            segment: reader.u32().ok()?,
            mask: reader.u32().ok()?,
            covered: reader.u32().ok()?,
        };
        let (segment, covered) = (u64::from(filter.segment), u64::from(filter.covered));
        let power = filter.segment.is_power_of_two() && filter.mask == filter.segment - 1;
        let is_sound = power
            && covered > 0
            && covered + 2 * segment <= fingerprints as u64
            && covered.is_multiple_of(segment);
        is_sound.then_some(filter)
    }

    /// Whether the filter lets a key pass.
    #[inline]
    pub(super) fn passes(&self, fingerprints: &[u8], key: u64) -> bool {
        let hash = mix(key.wrapping_add(self.seed));
        let first = ((u128::from(hash) * u128::from(self.covered)) >> 64) as u32;
        // No sum overflows: they are below the number of fingerprints, which is one of 32 bits.
        let second = first.wrapping_add(self.segment) ^ ((hash >> 18) as u32 & self.mask);
        let third = first.wrapping_add(self.segment.wrapping_mul(2)) ^ (hash as u32 & self.mask);
        let at = |place: u32| fingerprints.get(place as usize).copied().unwrap_or_default();
        (hash ^ (hash >> 32)) as u8 == at(first) ^ at(second) ^ at(third)
    }
}

fn mix(mut number: u64) -> u64 {
    number ^= number >> 33;
    number = number.wrapping_mul(0xff51_afd7_ed55_8ccd);
    number ^= number >> 33;
    number = number.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ (number >> 33)
}

#[cfg(test)]
mod tests {
    use xorf::{BinaryFuse8Ref, Filter as _, FilterRef};

    use super::*;

    #[test]
    fn answers_are_those_of_the_library() {
        for count in [256u32, 257, 3000, 50_000] {
            let id = |number: u32| ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
            let record = |number| ChunkRecord { id: id(number), frame: 0, offset: 0, bytes: 1 };
            let mut records: Vec<ChunkRecord> = (0..count).map(record).collect();
            records.sort_by_key(|record| record.id);
            let bytes = build_filter(&records);
            let (head, fingerprints) = bytes.split_at(FILTER_HEAD_BYTES);
            let filter = Filter::parse(head, fingerprints.len()).unwrap();
            let library = BinaryFuse8Ref::from_dma(head, fingerprints);
            for number in 0..count + 20_000 {
                let key = key(&id(number));
                assert_eq!(filter.passes(fingerprints, key), library.contains(&key), "{number} of {count}");
                assert!(number >= count || filter.passes(fingerprints, key));
            }
        }
    }

    #[test]
    fn a_filter_whose_lookups_could_reach_outside_is_refused() {
        let head = |segment: u32, mask: u32, covered: u32| {
            let numbers = [segment, mask, covered].map(u32::to_le_bytes).concat();
            [&7u64.to_le_bytes(), &numbers[..]].concat()
        };
        assert!(Filter::parse(&head(64, 63, 128), 256).is_some());
        for (segment, mask, covered) in
            [(64, 63, 192), (63, 62, 126), (64, 127, 128), (64, 63, 0), (64, 63, 96)]
        {
            assert!(Filter::parse(&head(segment, mask, covered), 256).is_none());
        }
        assert!(Filter::parse(&head(0, u32::MAX, 128), 256).is_none());
        assert!(Filter::parse(&head(1 << 31, (1 << 31) - 1, 1 << 31), 256).is_none());
        assert!(Filter::parse(&head(64, 63, 128)[..19], 256).is_none());
    }
}
