//! The map of a file with holes: what is accepted lies inside the file, in order, and holds exactly the data.
#![no_main]
use dr_core::Extent;
use dr_core::internals::{Kind, extents_fit};
use dr_fuzz::Input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dr_fuzz::decodes_exactly(Kind::Extents, data);
    let mut input = Input(data);
    // Half the runs use small numbers, so that maps fit together now and then.
    let small = input.u8() & 1 == 0;
    let number = |input: &mut Input<'_>| if small { u64::from(input.u8()) } else { input.u64() };
    let (data_bytes, file_bytes) = (number(&mut input), number(&mut input));
    let mut extents = Vec::new();
    while !input.is_empty() {
        extents.push(Extent { offset: number(&mut input), bytes: number(&mut input) });
    }
    let total = extents.iter().map(|extent| u128::from(extent.bytes)).sum::<u128>();
    for data_bytes in [data_bytes, total as u64] {
        if extents_fit(&extents, data_bytes, file_bytes) {
            assert_eq!(total, u128::from(data_bytes));
            let mut end = 0;
            for extent in &extents {
                assert!(extent.bytes > 0 && extent.offset >= end);
                end = extent.offset + extent.bytes;
            }
            assert!(end <= file_bytes);
        }
    }
});
