//! Bodies of checkpoints, and the logs that they stand for: what is read of one is what was folded into it.
#![no_main]
use dr_core::internals::{Kind, refold};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dr_fuzz::decodes_stably(Kind::Checkpoint, data);
    if let Ok(Some(again)) = refold(data) {
        // Not the bytes: a segment that stands twice counts once.
        assert_eq!(refold(&again).expect("what is written is read").as_deref(), Some(&again[..]));
    }
});
