//! The memory of packs. It goes from one pack to the next: memory that is new to the process costs the kernel about as much as
//! sealing what is put into it, and memory that was freed in pieces of all lengths stays with the process.

use std::sync::Mutex;

use dr_store::Bytes;

use crate::observer::lock;

/// A block holds two frames of 1 MiB and their tags.
const BLOCK_BYTES: usize = (2 << 20) + (4 << 10);

/// PackBlocks that are not in use.
#[derive(Debug, Default)]
pub(crate) struct PackBlocks(Mutex<Vec<Vec<u8>>>);

impl PackBlocks {
    /// An empty block with room for `bytes`.
    pub(super) fn take(&self, bytes: usize) -> Vec<u8> {
        if bytes > BLOCK_BYTES {
            return Vec::with_capacity(bytes);
        }
        lock(&self.0).pop().unwrap_or_else(|| Vec::with_capacity(BLOCK_BYTES))
    }

    /// Takes back the blocks of a pack that is stored.
    pub(crate) fn give_back(&self, blocks: Vec<Bytes>) {
        let mut free = lock(&self.0);
        // One that a store still holds on to is left to it.
        for bytes in blocks.into_iter().filter_map(|bytes| bytes.try_into_mut().ok()) {
            let mut block = Vec::from(bytes);
            block.clear();
            if block.capacity() == BLOCK_BYTES {
                free.push(block);
            }
        }
    }
}
