//! What all parts of a restore need.

use super::guarded::Guarded;
use super::options::RestoreOptions;
use super::places::Places;
use super::target::Target;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::observer::Context;
use crate::repository::{ChunkReader, Inner};

/// How temporary names begin. 32 hexadecimal digits follow.
const TEMPORARY: &[u8] = b".dr-restore-";
const DIGITS: usize = 32;

/// What all parts of a restore need.
pub(super) struct Job<'a> {
    pub(super) repository: &'a Inner,
    pub(super) reader: &'a ChunkReader<'a>,
    /// Where everything goes; nothing in a dry run for which there is none yet.
    pub(super) target: Option<&'a Target>,
    pub(super) options: &'a RestoreOptions,
    pub(super) places: Places,
    pub(super) guarded: Guarded,
    pub(super) snapshot: SnapshotId,
    pub(super) ctx: Context<'a>,
}

impl<'a> Job<'a> {
    /// Where everything goes.
    pub(super) fn target(&self) -> Result<&'a Target> {
        self.target.ok_or_else(|| Error::new(ErrorKind::Internal, "a dry run has no target to write to"))
    }

    /// The name that a file of the snapshot has until it is whole: the same whenever it is restored. No snapshot can
    /// hold it, since it depends on the snapshot's id, which is a hash of all the names.
    pub(super) fn temporary_name(&self, path: &[u8]) -> Vec<u8> {
        let hash = blake3::keyed_hash(self.snapshot.as_bytes(), path);
        [TEMPORARY, &hash.to_hex().as_bytes()[..DIGITS]].concat()
    }
}

/// Whether a name has the form of a temporary one.
pub(super) fn is_temporary(name: &[u8]) -> bool {
    name.strip_prefix(TEMPORARY).is_some_and(|digits| {
        digits.len() == DIGITS && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn temporary_names_are_told_by_their_form() {
        let name = [TEMPORARY, &[b'f'; DIGITS][..]].concat();
        assert!(is_temporary(&name));
        for other in [&name[1..], &name[..name.len() - 1], b".dr-restore-", b"f", &[&name[..], b"0"].concat()]
        {
            assert!(!is_temporary(other));
        }
        assert!(!is_temporary(&[TEMPORARY, &[b'F'; DIGITS][..]].concat()));
    }
}
