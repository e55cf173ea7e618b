//! Packs of either suite whose footer and trailer authenticate and say anything. A frame that opens has the length that it claims.
#![no_main]
use std::sync::OnceLock;

use dr_core::internals::{Class, Fields};
use dr_fuzz::{Input, frames, keys, sealing_keys};

const FRAMES_START: usize = 98;

fn sample() -> &'static (Vec<u8>, Vec<u8>) {
    static SAMPLE: OnceLock<(Vec<u8>, Vec<u8>)> = OnceLock::new();
    SAMPLE.get_or_init(|| {
        let pack = keys().seal_pack(Class::Data, frames(4, 3)).expect("a true pack is sealed");
        let footer = keys().footer_of(&pack).expect("a true pack opens");
        (pack[FRAMES_START..2000].to_vec(), footer)
    })
}

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let (region, footer) = sample();
    let (mut region, mut footer) = (region.clone(), footer.clone());
    let mode = input.u8();
    region.truncate(usize::from(input.u16()) % 2048);
    let trailer = (mode & 1 == 1).then(|| {
        let mut trailer = [0; 48];
        trailer[..8].copy_from_slice(&input.u64().to_le_bytes());
        trailer[8..16].copy_from_slice(&u64::from(input.u16()).to_le_bytes());
        trailer[16..20].copy_from_slice(&input.u32().to_le_bytes());
        trailer
    });
    if mode & 2 == 2 {
        footer = input.0.to_vec()
    } else {
        input.edit(&mut footer)
    }
    let pack = sealing_keys(mode >> 2)
        .forge_pack(Class::Data, &region, &footer, trailer)
        .expect("anything is sealed");
    if let Ok((fields, raws)) = keys().open_pack(Class::Data, &pack) {
        check(&fields, &raws);
    }
    // The same bytes in the other class's folder, or cut short, are nothing.
    assert!(keys().open_pack(Class::Tree, &pack).is_err());
    assert!(keys().open_pack(Class::Data, &pack[..pack.len() - 1]).is_err());
});

fn check(fields: &Fields, raws: &[Vec<u8>]) {
    for (number, raw) in raws.iter().enumerate() {
        let name = format!("frame.{number}.raw_bytes");
        let claimed = fields.iter().find(|(field, _)| *field == name).map(|(_, value)| value.as_str());
        assert_eq!(claimed, Some(raw.len().to_string().as_str()));
    }
}
