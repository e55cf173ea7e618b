//! Reads objects no longer than they may be: a stray object of a terabyte must not be able to exhaust memory.

use dr_store::{Bytes, Name, Store};

use crate::error::{Error, Result};

/// Reads an object of at most `bytes_max` bytes.
///
/// # Errors
/// `Corrupt` for a longer one, and what the store answers.
pub(crate) fn get_bounded(store: &dyn Store, name: &Name, bytes_max: u64) -> Result<Bytes> {
    check_bytes(name, store.stat(name)?.bytes, bytes_max)?;
    Ok(store.get(name)?)
}

/// Refuses an object that is longer than it may be.
pub(crate) fn check_bytes(name: &Name, bytes: u64, bytes_max: u64) -> Result<()> {
    if bytes <= bytes_max {
        return Ok(());
    }
    Err(Error::corrupt(format!("the object has {bytes} bytes; it may have {bytes_max} at most"))
        .with_object(name))
}
