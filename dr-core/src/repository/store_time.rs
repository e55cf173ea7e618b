//! What time it is where the objects are: no decision that deletes depends on this machine's clock.

use dr_store::{Bytes, PutMode, StoreErrorKind};

use super::Inner;
use crate::entropy::random;
use crate::error::Result;
use crate::format::names;

impl Inner {
    /// The time by the store's clock: that of an object that is written for it. A dry run writes nothing, and takes the newest
    /// slot's.
    pub(crate) fn store_time(&self, dry_run: bool) -> Result<i64> {
        let head_ms = self.synchronise()?.head_ms;
        if dry_run {
            return Ok(head_ms);
        }
        let nonce: [u8; 16] = random(&*self.entropy)?;
        let name = names::probe(&nonce);
        match self.store.put(&name, Bytes::new().into(), PutMode::Replace) {
            Ok(()) => {}
            // Nobody else draws that name: the put itself came through twice.
            Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
            // A full disk must not keep anybody from making room; what is old is only taken to be younger.
            Err(error) if error.kind() == StoreErrorKind::StorageFull => return Ok(head_ms),
            Err(error) => return Err(error.into()),
        }
        let now_ms = match self.store.stat(&name) {
            Ok(meta) => meta.modified_ms,
            // Another collector swept it up.
            Err(error) if error.kind() == StoreErrorKind::NotFound => return Ok(head_ms),
            Err(error) => return Err(error.into()),
        };
        // It may stay where deleting is refused: nothing under that prefix means anything.
        let _ = self.store.delete(&name);
        Ok(now_ms)
    }
}
