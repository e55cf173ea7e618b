//! The packs that a check on this machine found missing or damaged, so that the next backup stores again what was in them.

use std::collections::HashSet;
use std::fs;

use super::Inner;
use super::state::write_private;
use crate::id::ObjectHash;

/// More packs than these are not remembered: then something else is wrong.
const PACKS_MAX: usize = 1 << 20;

impl Inner {
    /// The packs that are known to be damaged.
    pub(crate) fn distrusted(&self) -> HashSet<ObjectHash> {
        let text = self.seen.as_ref().and_then(|seen| fs::read_to_string(seen.damaged_path()).ok());
        text.iter().flat_map(|text| text.lines()).filter_map(ObjectHash::from_hex).take(PACKS_MAX).collect()
    }

    /// Remembers the packs that are known to be damaged. State that cannot be written costs only that they are found again.
    pub(crate) fn remember_distrusted(&self, packs: &HashSet<ObjectHash>) {
        let Some(path) = self.seen.as_ref().map(super::SeenHead::damaged_path) else { return };
        if packs.is_empty() {
            let _ = fs::remove_file(path);
            return;
        }
        let mut lines: Vec<String> = packs.iter().take(PACKS_MAX).map(|pack| format!("{pack}\n")).collect();
        lines.sort_unstable();
        let _ = write_private(&path, lines.concat().as_bytes());
    }
}
