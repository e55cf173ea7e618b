//! Decompression: the claimed length or an error, and never more memory than that.
#![no_main]
use dr_core::internals::decompress;
use dr_fuzz::Input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mode = input.u8();
    let raw_bytes = input.u32() % ((16 << 20) + 1);
    if let Ok(raw) = decompress(mode & 1 == 1, input.0, raw_bytes) {
        assert_eq!(raw.len(), raw_bytes as usize);
    }
    // What zstd writes is read back, and with no other length.
    let packed = zstd::bulk::compress(input.0, i32::from(mode >> 4)).expect("memory is enough");
    let length = input.0.len() as u32;
    assert_eq!(decompress(true, &packed, length).expect("an intact frame"), input.0);
    assert!(decompress(true, &packed, length + 1).is_err());
    assert!(length == 0 || decompress(true, &packed, length - 1).is_err());
});
