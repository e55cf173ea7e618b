//! Cuts streams into chunks where their content says so: FastCDC of 2020 (Xia et al., "The Design of Fast
//! Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE TPDS 31(9), 2020) with a gear table of
//! the repository's own.
//!
//! The table is made of two secret tables of 16 words, one for each half of a byte, and mask bits lie in positions 6
//! to 15: both so that a vectorised scan finds the same cuts. The scan of the `fastcdc` crate is the reference, and what
//! machines without such vectors use.

mod scan;

pub use scan::Scan;

use crate::crypto::Domain;
use crate::format::ring::ChunkerParams;
use crate::format::{FormatError, invalid};
use crate::limits::CHUNK_BYTES_MAX;
use scan::{Gear, MASK_SHIFT};

/// The only known algorithm.
const ALGORITHM: u16 = 1;
/// The mask bits that lie in positions 6 to 15, in the part of the hash that depends on 16 bytes only.
const LOW_BITS: u32 = 10;
/// Further mask bits lie from here on.
const HIGH_SHIFT: u32 = 32;

/// The parameters of new repositories.
pub(crate) const DEFAULT_PARAMS: ChunkerParams = ChunkerParams {
    algorithm: ALGORITHM,
    min_bytes: 128 << 10,
    average_bytes: 512 << 10,
    max_bytes: 2 << 20,
    normalisation: 2,
};

/// Checks parameters that came from a key ring.
pub(crate) fn check_params(params: &ChunkerParams) -> Result<(), FormatError> {
    const WHAT: &str = "the chunker's parameters";
    if params.algorithm != ALGORITHM {
        return Err(FormatError::Unsupported { what: "the chunker", version: u32::from(params.algorithm) });
    }
    let ordered = params.min_bytes >= 64
        && params.min_bytes < params.average_bytes
        && params.average_bytes < params.max_bytes
        && params.max_bytes <= CHUNK_BYTES_MAX
        && params.min_bytes.is_multiple_of(2)
        && params.average_bytes.is_power_of_two()
        && params.max_bytes.is_multiple_of(2);
    let bits = params.average_bytes.max(1).ilog2();
    let normalised = u32::from(params.normalisation) <= 4 && bits > u32::from(params.normalisation);
    if ordered && normalised { Ok(()) } else { Err(invalid(WHAT, "they are out of order")) }
}

/// Finds where to cut.
pub(crate) struct Chunker {
    params: ChunkerParams,
    mask_small: u64,
    mask_large: u64,
    gear: Gear,
    scan: Scan,
}

impl std::fmt::Debug for Chunker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chunker").field("params", &self.params).finish_non_exhaustive()
    }
}

impl Chunker {
    /// The chunker of a domain.
    pub(crate) fn new(domain: &Domain) -> Chunker {
        Chunker::from_key(domain.chunker.bytes(), domain.params)
    }

    /// A chunker whose table is drawn from `key`; the parameters are checked.
    pub(crate) fn from_key(key: &[u8; 32], params: ChunkerParams) -> Chunker {
        let mut output = blake3::Hasher::new_keyed(key).finalize_xof();
        let mut words = || -> [u64; 16] {
            std::array::from_fn(|_| {
                let mut bytes = [0; 8];
                output.fill(&mut bytes);
                u64::from_le_bytes(bytes)
            })
        };
        let (low, high) = (words(), words());
        let bits = params.average_bytes.ilog2();
        Chunker {
            params,
            mask_small: mask(bits + u32::from(params.normalisation)),
            mask_large: mask(bits - u32::from(params.normalisation)),
            gear: Gear::new(&low, &high),
            scan: Scan::fastest(),
        }
    }

    /// The same cuts, found in another way. The machine must be able to.
    #[cfg(any(test, feature = "internals"))]
    pub(crate) fn with_scan(self, scan: Scan) -> Chunker {
        Chunker { scan, ..self }
    }

    /// Streams no longer than this are one chunk, whatever they hold.
    pub(crate) fn min_bytes(&self) -> usize {
        self.params.min_bytes as usize
    }

    /// No chunk is longer than this.
    pub(crate) fn max_bytes(&self) -> usize {
        self.params.max_bytes as usize
    }

    /// The length of the first chunk of `source`, which must hold the stream's next `max_bytes` bytes or all of its rest.
    pub(crate) fn cut(&self, source: &[u8]) -> usize {
        if self.scan == Scan::Reference {
            return self.cut_by_reference(source);
        }
        let min = self.min_bytes();
        if source.len() <= min {
            return source.len();
        }
        let end = source.len().min(self.max_bytes());
        // The reference takes two bytes at a time: the last byte of an odd rest is never looked at.
        let last = end - end % 2;
        let centre = last.min(self.params.average_bytes as usize);
        let find = |range, mask| self.gear.find(self.scan, source, min, range, mask);
        find(min..centre, self.mask_small).or_else(|| find(centre..last, self.mask_large)).unwrap_or(end)
    }

    fn cut_by_reference(&self, source: &[u8]) -> usize {
        let words = self.gear.words();
        let (_, length) = fastcdc::v2020::cut_gear(
            source,
            self.params.min_bytes as usize,
            self.params.average_bytes as usize,
            self.params.max_bytes as usize,
            self.mask_small,
            self.mask_large,
            self.mask_small << 1,
            self.mask_large << 1,
            &words[..],
            &self.gear.words_shifted()[..],
        );
        length
    }
}

/// A mask of `bits` bits: ten in positions 6 to 15, the others from position 32 up.
fn mask(bits: u32) -> u64 {
    let low = bits.min(LOW_BITS);
    let high = bits - low;
    ((1 << low) - 1) << MASK_SHIFT | ((1 << high) - 1) << HIGH_SHIFT
}

#[cfg(test)]
mod tests;
