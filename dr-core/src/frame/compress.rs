//! zstd, one frame a message, and the early test for bytes that do not compress.

use std::cell::RefCell;
use std::{fmt, io};

use crate::error::{Error, ErrorKind, Result};
use crate::format::pack::Codec;

/// How hard to compress.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// Not at all.
    Off,
    /// zstd level 1.
    Fast,
    /// zstd level 3.
    #[default]
    Auto,
    /// zstd level 7.
    Better,
    /// zstd level 19.
    Max,
}

impl Compression {
    fn level(self) -> i32 {
        match self {
            Compression::Off => 0,
            Compression::Fast => 1,
            Compression::Auto => 3,
            Compression::Better => 7,
            Compression::Max => 19,
        }
    }
}

/// How many samples of a frame are looked at, and how long each is, to tell whether it compresses.
const SAMPLES: usize = 8;
const SAMPLE_BYTES: usize = 2 << 10;
const TRIAL_BYTES: usize = 16 << 10;
/// Samples of encrypted or compressed data have more bits of entropy a byte than this; text and programs stay below 7.
const NOISE_BITS: f32 = 7.8;

/// Compresses frames; one a thread, because its context is reused.
pub(crate) struct Compressor {
    compression: Compression,
    context: zstd::bulk::Compressor<'static>,
    trial: zstd::bulk::Compressor<'static>,
    /// Where frames are compressed to, before what they take is known.
    scratch: Vec<u8>,
}

impl fmt::Debug for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Compressor").field("compression", &self.compression).finish_non_exhaustive()
    }
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Result<Compressor> {
        let failed =
            |error| Error::new(ErrorKind::Internal, "the compressor could not be set up").with_source(error);
        Ok(Compressor {
            compression,
            context: zstd::bulk::Compressor::new(compression.level()).map_err(failed)?,
            trial: zstd::bulk::Compressor::new(-5).map_err(failed)?,
            scratch: Vec::new(),
        })
    }

    /// Compresses `raw`, or gives it back where that saves nothing.
    pub(crate) fn compress<'a>(&'a mut self, raw: &'a [u8]) -> (Codec, &'a [u8]) {
        if self.compression != Compression::Off && !self.is_noise(raw) {
            self.scratch.clear();
            self.scratch.reserve(zstd::zstd_safe::compress_bound(raw.len()));
            let written = self.context.compress_to_buffer(raw, &mut self.scratch);
            // Less than one part in 64 saved is not worth a decompression.
            if written.is_ok_and(|written| written + raw.len() / 64 < raw.len()) {
                return (Codec::Zstd, &self.scratch);
            }
        }
        (Codec::Raw, raw)
    }

    /// Whether the bytes look random and a quick trial cannot compress them either. Entropy alone would misjudge repeated
    /// random blocks.
    fn is_noise(&mut self, raw: &[u8]) -> bool {
        if raw.len() < SAMPLES * SAMPLE_BYTES || sampled_entropy(raw) < NOISE_BITS {
            return false;
        }
        let start = (raw.len() - TRIAL_BYTES.min(raw.len())) / 2;
        let sample = &raw[start..start + TRIAL_BYTES.min(raw.len())];
        let compressed = self.trial.compress(sample).map_or(sample.len(), |bytes| bytes.len());
        compressed + sample.len() / 64 >= sample.len()
    }
}

/// The order-0 entropy of a few samples, in bits a byte.
fn sampled_entropy(raw: &[u8]) -> f32 {
    let mut counts = [0u32; 256];
    let stride = (raw.len() - SAMPLE_BYTES) / (SAMPLES - 1);
    for sample in 0..SAMPLES {
        for byte in &raw[sample * stride..sample * stride + SAMPLE_BYTES] {
            counts[usize::from(*byte)] += 1;
        }
    }
    let total = (SAMPLES * SAMPLE_BYTES) as f32;
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| *count as f32 / total)
        .map(|share| -share * share.log2())
        .sum()
}

/// Decompresses a frame that is `raw_bytes` long, a length that was authenticated and is bounded, to `raw`, whatever that held
/// before.
pub(crate) fn decompress_into(codec: Codec, bytes: &[u8], raw_bytes: u32, raw: &mut Vec<u8>) -> Result<()> {
    raw.clear();
    match codec {
        Codec::Raw => raw.extend_from_slice(bytes),
        Codec::Zstd => {
            raw.reserve_exact(raw_bytes as usize);
            with_decompressor(|context| context.decompress_to_buffer(bytes, raw))
                .map_err(|error| Error::corrupt("a frame does not decompress").with_source(error))?;
        }
    }
    if raw.len() == raw_bytes as usize {
        Ok(())
    } else {
        Err(Error::corrupt("a frame is not as long as it should be"))
    }
}

/// Calls with this thread's context: making one costs as much as decompressing a few kilobytes.
fn with_decompressor<T>(
    call: impl FnOnce(&mut zstd::bulk::Decompressor<'static>) -> io::Result<T>,
) -> io::Result<T> {
    thread_local! {
        static CONTEXT: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| match context {
        Some(context) => call(context),
        None => call(context.insert(zstd::bulk::Decompressor::new()?)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decompress(codec: Codec, bytes: &[u8], raw_bytes: u32) -> Result<Vec<u8>> {
        let mut raw = b"what was there before".to_vec();
        decompress_into(codec, bytes, raw_bytes, &mut raw)?;
        Ok(raw)
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut output = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut output);
        output
    }

    #[test]
    fn frames_round_trip_and_noise_is_stored_raw() {
        let mut compressor = Compressor::new(Compression::Auto).unwrap();
        let block = noise(32 << 10);
        let repeated = block.repeat(16);
        for (raw, expected) in [
            (vec![], Codec::Raw),
            (b"a".repeat(100_000), Codec::Zstd),
            (noise(1 << 20), Codec::Raw),
            (b"x".to_vec(), Codec::Raw),
            (repeated[..40 << 10].to_vec(), Codec::Raw),
        ] {
            let (codec, bytes) = compressor.compress(&raw);
            assert_eq!(codec, expected, "{} bytes", raw.len());
            assert_eq!(decompress(codec, bytes, raw.len() as u32).unwrap(), raw);
            assert!(decompress(codec, bytes, raw.len() as u32 + 1).is_err());
        }
    }

    #[test]
    fn a_bomb_is_refused_before_it_grows() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 19).unwrap();
        assert!(decompress(Codec::Zstd, &bomb, 1 << 20).is_err());
    }
}
