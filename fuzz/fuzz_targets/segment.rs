//! Index segments of either suite whose parts authenticate and say anything; what opens becomes a table that answers any question.
#![no_main]
use std::sync::OnceLock;

use dr_core::ChunkId;
use dr_core::internals::{Class, look_up};
use dr_fuzz::{Input, frames, keys, sealing_keys};

type Parts = (Vec<Vec<u8>>, Vec<u8>);

/// A segment with a filter and one without.
fn samples() -> &'static [Parts; 2] {
    static SAMPLES: OnceLock<[Parts; 2]> = OnceLock::new();
    SAMPLES.get_or_init(|| {
        [(4, 3), (30, 10)].map(|(count, chunks)| {
            let (_, _, sections, footer) =
                keys().seal_segment(Class::Data, frames(count, chunks)).expect("a true segment is sealed");
            (sections, footer)
        })
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mode = input.u8();
    let (mut sections, mut footer) = samples()[usize::from(mode & 1)].clone();
    if mode & 2 == 2 {
        input.edit(&mut footer);
    }
    for _ in 0..mode >> 6 {
        let chosen = usize::from(input.u8()) % sections.len();
        input.edit(&mut sections[chosen]);
    }
    if mode & 4 == 4 {
        footer = input.0.to_vec();
    }
    let object = sealing_keys(mode >> 3).forge_segment(&sections, &footer, None).expect("anything is sealed");
    if let Ok((fields, table)) = keys().open_segment(&object) {
        let ids: Vec<ChunkId> = fields
            .iter()
            .filter(|(name, _)| name.starts_with("chunk."))
            .filter_map(|(_, value)| ChunkId::from_hex(value.split(' ').next()?))
            .chain([ChunkId::from_bytes([0; 32]), ChunkId::from_bytes([255; 32])])
            .collect();
        look_up(table, &ids).expect("the table of a segment that opened is sound");
    }
});
