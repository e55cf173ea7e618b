//! What the fuzz targets share: fixed keys, a cursor over the fuzzer's bytes, and sealed samples to start from.

use std::sync::OnceLock;

use dr_core::Cipher;
use dr_core::internals::{Class, ForgedFrame, Keys, Kind, Params, decode};

/// Keys that are the same in every run.
pub fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| Keys::fixed([1; 16], [2; 32], [3; 32], Params::DEFAULT))
}

/// The same keys, new objects sealed with the cipher that a number stands for.
pub fn sealing_keys(number: u8) -> &'static Keys {
    static AES: OnceLock<Keys> = OnceLock::new();
    match number % 2 {
        0 => keys(),
        _ => AES.get_or_init(|| keys().clone().sealing_with(Cipher::Aes256Gcm)),
    }
}

/// Decodes, and where that works: what this program then writes, it reads as the same, and writes again alike.
pub fn decodes_stably(kind: Kind, bytes: &[u8]) {
    if let Ok(first) = decode(kind, bytes) {
        let second = decode(kind, &first.encoded).expect("what is written is read");
        assert_eq!(first.encoded, second.encoded, "{kind:?}");
    }
}

/// Decodes a fixed layout, of which there is one encoding only.
pub fn decodes_exactly(kind: Kind, bytes: &[u8]) {
    if let Ok(decoded) = decode(kind, bytes) {
        assert_eq!(decoded.encoded, bytes, "{kind:?}");
    }
}

/// The fuzzer's bytes, taken from the front; zeros after the end.
#[derive(Debug)]
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    pub fn array<const N: usize>(&mut self) -> [u8; N] {
        let taken = self.bytes(N);
        std::array::from_fn(|index| taken.get(index).copied().unwrap_or(0))
    }

    pub fn u8(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.array())
    }

    pub fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Changes a few bytes of `target` as the input says: overwrites, inserts, removes.
    pub fn edit(&mut self, target: &mut Vec<u8>) {
        for _ in 0..self.u8() % 8 {
            let at = usize::from(self.u16()).min(target.len());
            match self.u8() % 3 {
                0 => {
                    let new = self.bytes(4);
                    for (place, byte) in target[at..].iter_mut().zip(new) {
                        *place = *byte;
                    }
                }
                1 => {
                    let new = self.bytes(4).to_vec();
                    target.splice(at..at, new);
                }
                _ => {
                    let end = (at + usize::from(self.u8() % 8)).min(target.len());
                    target.drain(at..end);
                }
            }
        }
    }
}

/// Frames with true contents: some compressed, several chunks each.
pub fn frames(count: u32, chunks_each: u32) -> Vec<ForgedFrame> {
    (0..count)
        .map(|number| {
            let chunk = |index: u32| [number.to_le_bytes(), index.to_le_bytes()].concat();
            let raw: Vec<u8> = (0..chunks_each).flat_map(chunk).collect();
            let is_zstd = number % 2 == 1;
            ForgedFrame {
                is_zstd,
                raw_bytes: raw.len() as u32,
                bytes: if is_zstd { zstd::bulk::compress(&raw, 1).expect("memory is enough") } else { raw },
                chunks: (0..chunks_each)
                    .map(|index| (keys().chunk_id(Class::Data, &chunk(index)).expect("there is a domain"), 8))
                    .collect(),
            }
        })
        .collect()
}
