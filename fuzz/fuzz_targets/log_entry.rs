//! Entries of the log, and the state that any sequence of them folds into.
#![no_main]
use dr_core::internals::{Kind, fold};
use dr_core::{ErrorKind, ObjectHash};
use dr_fuzz::Input;

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dr_fuzz::decodes_stably(Kind::LogEntry, data);
    let mut input = Input(data);
    let mut entries = Vec::new();
    while !input.is_empty() {
        let length = usize::from(input.u16());
        entries.push(input.bytes(length).to_vec());
    }
    entries.push(data.to_vec());
    let lists = |list: &ObjectHash| {
        if list.as_bytes()[0] & 1 == 1 {
            return Err(dr_core::Error::new(ErrorKind::Corrupt, "missing"));
        }
        Ok(vec![ObjectHash::from_bytes([list.as_bytes()[1]; 32])])
    };
    let Ok(state) = fold(&entries, &lists) else { return };
    assert_eq!(fold(&entries, &lists).expect("folded before"), state);
    assert!(state.live.iter().all(|id| state.uncollected.contains(id)));
    assert!(state.segments.iter().all(|segment| !state.condemned.contains(segment)));
    let mut segments = state.segments.clone();
    segments.sort_unstable();
    segments.dedup();
    assert_eq!(segments.len(), state.segments.len(), "a segment counts twice");
});
