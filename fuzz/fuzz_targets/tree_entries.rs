//! Directory chunks: whatever decodes has names that stay in their directory, in order. Skimming one refuses and finds the
//! same as building its entries does.
#![no_main]
use dr_core::internals::{Kind, decode, skims_alike};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    dr_fuzz::decodes_stably(Kind::Entries, data);
    assert!(skims_alike(data));
    let Ok(decoded) = decode(Kind::Entries, data) else { return };
    let names: Vec<&str> = decoded
        .fields
        .iter()
        .filter(|(field, _)| field.starts_with("entry.") && field.ends_with(".name"))
        .map(|(_, name)| name.as_str())
        .collect();
    assert!(names.is_sorted_by(|a, b| a < b));
    for name in names {
        assert!(!name.is_empty() && name.len() <= 510 && name != "2e" && name != "2e2e");
        let is_bad = |pair: &[u8]| pair == b"2f" || pair == b"00";
        assert!(!name.as_bytes().chunks(2).any(is_bad), "{name}");
    }
});
