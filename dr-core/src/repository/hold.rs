//! How long forgotten snapshots must stay before they may be collected: a property of the repository, kept in its log.

use std::time::Duration;

use super::Repository;
use crate::error::{Error, ErrorKind, Result};
use crate::format::log::{Event, Hold};
use crate::limits::HOLD_SECONDS_MAX;

/// How long a repository holds forgotten snapshots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct HoldState {
    /// What was asked for last.
    pub set: Duration,
    /// What collections go by now: a longer hold that was shortened counts on until it has passed.
    pub in_force: Duration,
}

impl Repository {
    /// How long forgotten snapshots are held, by the store's time of the newest slot.
    ///
    /// # Errors
    /// What the store answers.
    pub fn hold(&self) -> Result<HoldState> {
        let log = self.0.synchronise()?;
        let mut written = |slot| Ok(self.0.store.stat(&log.name_of(slot))?.modified_ms);
        let in_force = log.fold.hold_at(u64::MAX, log.head_ms, &mut written)?;
        Ok(HoldState { set: log.fold.hold(), in_force })
    }

    /// Changes how long forgotten snapshots are held before a collection may take them, whoever runs it. A longer hold counts
    /// at once, a shorter one when the longer has passed since.
    ///
    /// # Errors
    /// `InvalidInput` where it is longer than ten years; what the store answers.
    pub fn set_hold(&self, hold: Duration) -> Result<()> {
        let hold = hold_of(hold)?;
        let is_new = |known: Duration| known.as_secs() != hold.seconds;
        self.0.append_if(&mut |log| Ok(is_new(log.fold.hold()).then(|| Event::Hold(hold.clone())))).map(drop)
    }
}

/// The entry that asks for a hold. One that would be cut is refused.
pub(super) fn hold_of(hold: Duration) -> Result<Hold> {
    let seconds = hold.as_secs().saturating_add(u64::from(hold.subsec_nanos() > 0));
    if seconds <= HOLD_SECONDS_MAX {
        return Ok(Hold { seconds });
    }
    Err(Error::new(ErrorKind::InvalidInput, "a hold is ten years at most")
        .with_remedy("it could not be shortened again before it has passed"))
}
