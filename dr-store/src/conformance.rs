//! The suite that every driver must pass: it checks the contract of [`Store`] from outside.
//!
//! ```
//! use std::sync::Arc;
//! dr_store::conformance::run(&|| Arc::new(dr_store::MemoryStore::new()))?;
//! # Ok::<(), String>(())
//! ```

mod concurrent;
mod listing;
mod objects;

use std::sync::Arc;

use crate::{Bytes, Name, Result, Store, StoreErrorKind};

/// What a check says: nothing, or what the store did wrong.
type Outcome = std::result::Result<(), String>;

/// A check and the name by which a failure of it is reported.
type Check = (&'static str, fn(&Arc<dyn Store>) -> Outcome);

/// Runs every check, each on a store of its own that `make` makes and that must be empty.
///
/// The largest object is 40 MiB.
///
/// # Errors
/// The name of the first check that failed, and what the store did wrong.
pub fn run(make: &dyn Fn() -> Arc<dyn Store>) -> std::result::Result<(), String> {
    run_without(&[], make)
}

/// Runs every check but those named in `left_out`, which a store is known not to pass.
///
/// # Errors
/// The name of the first check that failed, and what the store did wrong; a name in `left_out` that no check has.
pub fn run_without(left_out: &[&str], make: &dyn Fn() -> Arc<dyn Store>) -> std::result::Result<(), String> {
    let checks = [objects::CHECKS, listing::CHECKS, concurrent::CHECKS].concat();
    if let Some(unknown) = left_out.iter().find(|out| checks.iter().all(|(name, _)| name != *out)) {
        return Err(format!("there is no check {unknown:?}"));
    }
    for (name, check) in checks.into_iter().filter(|(name, _)| !left_out.contains(name)) {
        check(&make()).map_err(|why| format!("{name}: {why}"))?;
    }
    Ok(())
}

fn ensure(holds: bool, why: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(why()) }
}

/// Fails with what was being done where the store fails.
fn done<T>(result: Result<T>, doing: &str) -> std::result::Result<T, String> {
    result.map_err(|error| format!("{doing}: {error} ({:?})", error.kind()))
}

fn ensure_fails<T>(result: Result<T>, kind: StoreErrorKind, doing: &str) -> Outcome {
    match result {
        Err(error) if error.kind() == kind => Ok(()),
        Err(error) => Err(format!("{doing}: expected {kind:?}, got {error} ({:?})", error.kind())),
        Ok(_) => Err(format!("{doing}: expected {kind:?}, and it succeeded")),
    }
}

/// Object contents are named in messages by length only: they can be large.
fn ensure_bytes(found: &[u8], expected: &[u8], what: &str) -> Outcome {
    ensure(found == expected, || {
        format!("{what}: {} bytes read differ from the {} bytes put", found.len(), expected.len())
    })
}

fn name(text: &str) -> std::result::Result<Name, String> {
    done(Name::new(text), "making a name")
}

/// Bytes that no two offsets or seeds are likely to share.
fn pattern(length: usize, seed: u64) -> Bytes {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let words = std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.flatten().take(length).collect::<Vec<u8>>().into()
}
