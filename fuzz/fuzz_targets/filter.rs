//! Tables of the cache with damaged filters, fan-outs and records: lookups never leave the table.
#![no_main]
use std::sync::OnceLock;

use dr_core::ChunkId;
use dr_core::internals::{Class, look_up};
use dr_fuzz::{Input, frames, keys};

fn sample() -> &'static (Vec<u8>, Vec<ChunkId>) {
    static SAMPLE: OnceLock<(Vec<u8>, Vec<ChunkId>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let frames = frames(30, 10);
        let ids = frames.iter().flat_map(|frame| &frame.chunks).map(|(id, _)| *id).collect();
        (keys().seal_segment(Class::Data, frames).expect("a true segment is sealed").1, ids)
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let (table, ids) = sample();
    let mut table = table.clone();
    let mut input = Input(data);
    if input.u8() & 1 == 1 {
        // The head and the filter's descriptor, where the numbers are.
        let descriptor = 64 + 4 * ((1 << (ids.len() / 16).ilog2()) + 1);
        for at in [8, 12, 16, 20, 24, descriptor, descriptor + 8, descriptor + 12, descriptor + 16] {
            if input.u8() & 1 == 1 {
                table[at..at + 4].copy_from_slice(&input.array::<4>());
            }
        }
    }
    input.edit(&mut table);
    if table.len() >= 64 {
        let check = *blake3::Hasher::new().update(&table[..32]).update(&table[64..]).finalize().as_bytes();
        table[32..64].copy_from_slice(&check);
    }
    if let Ok(found) = look_up(table, ids) {
        assert_eq!(found.len(), ids.len());
    }
});
