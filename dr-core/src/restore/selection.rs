//! Which paths of a snapshot are restored.

use crate::select::{PathKind, Patterns};
use crate::tree::Entry;

/// Which paths of a snapshot are restored: what a pattern of `include` means, or everything where there is none, without
/// what a pattern of `exclude` means.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct RestoreSelection {
    /// What is restored, with everything below it.
    pub include: Patterns,
    /// What is not, with everything below it.
    pub exclude: Patterns,
}

impl RestoreSelection {
    /// Whether a path of the snapshot is restored.
    pub(super) fn takes(&self, path: &[u8], kind: PathKind) -> bool {
        let is_included = self.include.is_empty() || self.include.excludes(path, kind);
        is_included && !self.exclude.excludes(path, kind)
    }

    /// Whether something below a directory may be restored.
    pub(super) fn may_take_below(&self, directory: &[u8]) -> bool {
        let is_included = self.include.is_empty() || self.include.may_exclude_below(directory);
        is_included && !self.exclude.excludes(directory, PathKind::Directory)
    }

    /// Whether anything is left out.
    pub(super) fn is_everything(&self) -> bool {
        self.include.is_empty() && self.exclude.is_empty()
    }
}

/// What kind of path an entry has.
pub(super) fn kind_of(entry: &Entry) -> PathKind {
    if entry.is_directory() { PathKind::Directory } else { PathKind::Other }
}
