//! Lists of hashes, snapshot bodies and lists of references.
#![no_main]
use dr_core::internals::Kind;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    for kind in [Kind::List, Kind::Snapshot, Kind::Refs] {
        dr_fuzz::decodes_stably(kind, data);
    }
});
