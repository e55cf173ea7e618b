//! Key slots, which are read before there is any key. No derivation is run: its cost is bounded by the decoder.
#![no_main]
use dr_core::Credentials;
use dr_core::internals::{Kind, open_key_slot};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dr_fuzz::decodes_exactly(Kind::KeySlot, data);
    if let Ok(opened) = open_key_slot(data, &Credentials::key([0; 32])) {
        assert_eq!(opened, None, "nobody sealed this slot");
    }
});
