//! What is gathered before it is fetched: entries in their order, and the chunks that they need, by the frame they lie in.

use std::collections::BTreeMap;
use std::collections::HashSet;

use crate::error::Error;
use crate::id::{ChunkId, ObjectHash};
use crate::index::Location;
use crate::tree::{ChunkRef, Entry};

/// Chunks that are gathered before they are fetched.
const CHUNKS_MAX: usize = 32 << 10;
/// Steps that are gathered before they are taken.
const STEPS_MAX: usize = 64 << 10;

/// A step of writing a tree.
#[derive(Debug)]
pub(super) enum Step {
    /// A directory begins; none for `/`.
    Enter(Option<Box<Entry>>),
    /// The directory ends.
    Leave,
    /// An entry that needs nothing more.
    Entry(Box<Entry>),
    /// A file begins: its path, and the entry whose content's references are those of the source.
    File(Vec<u8>, Box<Entry>),
    /// Its next chunk, which is here.
    Here(ChunkRef),
    /// Its next chunk, which is fetched: its id there.
    Fetched(ChunkRef),
    /// Something of the file cannot be read.
    Lost(Error),
    /// The file ends.
    EndFile,
}

/// A frame, and the chunks of it that are needed: where in the raw frame each begins.
#[derive(Debug)]
pub(super) struct FrameNeeds {
    pub(super) location: Location,
    pub(super) chunks: Vec<(ChunkRef, u32)>,
}

/// Steps and frames that are gathered.
#[derive(Debug, Default)]
pub(super) struct Batch {
    steps: Vec<Step>,
    frames: BTreeMap<(ObjectHash, u32), FrameNeeds>,
    needed: HashSet<ChunkId>,
}

impl Batch {
    pub(super) fn push(&mut self, step: Step) {
        self.steps.push(step);
    }

    /// Whether a chunk is to be fetched already.
    pub(super) fn needs(&self, id: &ChunkId) -> bool {
        self.needed.contains(id)
    }

    /// Adds a chunk of a file that is to be fetched.
    pub(super) fn need(&mut self, chunk: ChunkRef, location: Location) {
        self.steps.push(Step::Fetched(chunk));
        self.needed.insert(chunk.id);
        let offset = location.offset;
        let place = (location.pack.hash, location.frame_offset);
        let frame = self.frames.entry(place).or_insert_with(|| FrameNeeds { location, chunks: Vec::new() });
        frame.chunks.push((chunk, offset));
    }

    /// Whether what is gathered is to be fetched now.
    pub(super) fn is_full(&self) -> bool {
        self.needed.len() >= CHUNKS_MAX || self.steps.len() >= STEPS_MAX
    }

    /// Takes everything: the frames in the order in which they lie in packs.
    pub(super) fn take(&mut self) -> (Vec<Step>, Vec<FrameNeeds>) {
        self.needed.clear();
        (std::mem::take(&mut self.steps), std::mem::take(&mut self.frames).into_values().collect())
    }
}
