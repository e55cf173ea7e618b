//! The plain header of sealed objects: what decodes is exactly what is encoded; nothing else opens.
#![no_main]
use dr_core::internals::{Class, Kind, Single, decode};
use dr_fuzz::keys;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    if let Ok(decoded) = decode(Kind::Header, data) {
        assert!(data.starts_with(&decoded.encoded));
        let _ = keys().commitment(&decoded.encoded);
    }
    assert!(keys().open(Single::List, 0, data).is_err());
    assert!(keys().open_pack(Class::Tree, data).is_err());
    assert!(keys().open_segment(data).is_err());
});
