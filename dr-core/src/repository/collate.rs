//! The concordance of an index: found in the cache, made, and removed when it is of no use.

use std::collections::HashSet;

use super::Inner;
use crate::cancel::CancelToken;
use crate::id::ObjectHash;
use crate::index::{Collation, ConcordanceFile, Index, Limits};

/// A concordance is made where there is room for so many.
const ROOM_PARTS: u64 = 8;

impl Inner {
    /// For which tables a concordance is worth having.
    pub(super) fn concordance_limits(&self) -> Limits {
        self.limits.get().copied().unwrap_or_default()
    }

    /// The concordance in the cache, where it is of some of these segments. One of hardly any is removed.
    pub(super) fn concordance(&self, live: &HashSet<ObjectHash>) -> Option<ConcordanceFile> {
        let cache = self.cache.as_ref()?;
        let file = cache.concordance().ok()?;
        let covered = file.names().iter().filter(|name| live.contains(name)).count();
        if covered < self.concordance_limits().tables {
            cache.remove_concordance();
            return None;
        }
        Some(file)
    }

    /// Removes the concordance in the cache where it is not what was written. Backups would store what it hides again.
    pub(crate) fn drop_damaged_concordance(&self) {
        let Some(cache) = &self.cache else { return };
        if !cache.concordance().is_ok_and(|file| file.is_intact()) {
            cache.remove_concordance();
        }
    }

    /// Lets an index whose every chunk may be looked for ask a concordance, where that is worth it. One that is damaged makes
    /// room for another.
    pub(crate) fn collate_if_worth_it(&self, index: &Index, cancel: &CancelToken) {
        if let Some(collation) = index.collation() {
            self.collate(index, &collation, cancel);
        } else if index.has_concordance() && index.intact_concordance().is_none() {
            self.drop_damaged_concordance();
        }
    }

    /// Makes a concordance, keeps it in the cache, and lets the index ask it. That this fails is no reason for anything else
    /// to fail: where there is little room, it is left to those who need it more.
    pub(crate) fn collate(&self, index: &Index, collation: &Collation, cancel: &CancelToken) {
        let Some(cache) = &self.cache else { return };
        if !cache.has_room_for(ROOM_PARTS * collation.file_bytes()) {
            return;
        }
        if cache.keep_concordance(|file| collation.write(file, cancel)).is_ok()
            && let Ok(file) = cache.concordance()
        {
            index.consult(file);
        }
    }
}
