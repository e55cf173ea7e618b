//! Which id a chunk got that was copied, for as many chunks as fit.

use std::collections::HashMap;

use crate::id::ChunkId;

/// Ids that are remembered; half of them may be given up for new ones at a time.
const IDS_MAX: usize = 512 << 10;

/// Ids of chunks where they came from, and here.
#[derive(Debug, Default)]
pub(super) struct Memo {
    young: HashMap<ChunkId, ChunkId>,
    old: HashMap<ChunkId, ChunkId>,
}

impl Memo {
    /// The id that a chunk got here, where that is remembered.
    pub(super) fn get(&self, id: &ChunkId) -> Option<ChunkId> {
        self.young.get(id).or_else(|| self.old.get(id)).copied()
    }

    /// Remembers the id that a chunk got.
    pub(super) fn note(&mut self, id: ChunkId, here: ChunkId) {
        if self.young.len() >= IDS_MAX / 2 {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, here);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_ids_are_remembered_and_memory_is_bounded() {
        let id = |n: u32| ChunkId::from_bytes(*blake3::hash(&n.to_le_bytes()).as_bytes());
        let mut memo = Memo::default();
        let count = IDS_MAX as u32 + 1000;
        for n in 0..count {
            memo.note(id(n), id(n + 1));
        }
        assert!(memo.young.len() + memo.old.len() <= IDS_MAX);
        assert_eq!(memo.get(&id(0)), None);
        for n in count - IDS_MAX as u32 / 2..count {
            assert_eq!(memo.get(&id(n)), Some(id(n + 1)));
        }
    }
}
