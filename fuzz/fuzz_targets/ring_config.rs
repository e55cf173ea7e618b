//! The config, the wraps in a key ring's header, and the ring's body.
#![no_main]
use dr_core::ObjectHash;
use dr_core::internals::{Keys, Kind};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dr_fuzz::decodes_exactly(Kind::Config, data);
    dr_fuzz::decodes_exactly(Kind::Wraps, data);
    dr_fuzz::decodes_stably(Kind::Ring, data);
    assert!(Keys::open_ring(&ObjectHash::from_bytes([0; 32]), [0; 32], data).is_err());
});
