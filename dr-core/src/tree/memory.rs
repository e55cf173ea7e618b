//! Tree chunks in memory, for tests.

use std::cell::RefCell;
use std::collections::HashMap;

use super::{ChunkRef, ReadChunk, TreeSink};
use crate::error::{Error, Result};
use crate::id::ChunkId;

/// Tree chunks in memory.
#[derive(Default)]
pub(super) struct Chunks(pub(super) RefCell<HashMap<ChunkId, Vec<u8>>>);

impl TreeSink for Chunks {
    fn store_tree(&self, bytes: &[u8]) -> Result<ChunkRef> {
        let id = ChunkId::from_bytes(*blake3::hash(bytes).as_bytes());
        self.0.borrow_mut().insert(id, bytes.to_vec());
        Ok(ChunkRef { id, bytes: bytes.len() as u32 })
    }
}

impl ReadChunk for Chunks {
    fn read_tree(&self, chunk: &ChunkRef) -> Result<Vec<u8>> {
        self.0.borrow().get(&chunk.id).cloned().ok_or_else(|| Error::corrupt("missing"))
    }
}
