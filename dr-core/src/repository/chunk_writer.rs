//! Writes chunks that are in the repository already into new packs: whole frames as they are, without opening them, and
//! single chunks framed anew.

use super::{Inner, NewSegment, put_once};
use crate::error::Result;
use crate::format::envelope::{Header, PackClass};
use crate::format::log::{Commit, Event};
use crate::format::names;
use crate::format::pack::FrameShape;
use crate::frame::{Compression, Compressor, FRAME_TARGET_BYTES, Frame};
use crate::id::{ChunkId, ObjectHash};
use crate::index::segment_of_packs;
use crate::limits::{FRAME_BYTES_MAX, PACK_CHUNKS_MAX};
use crate::log::Log;
use crate::observer::{Context, Event as Observed};
use crate::pack::{CopiedFrame, PackBlocks, PackBuilder, PackEntry, Verify};

/// Packs are committed when they list this many chunks, so that memory is bounded and a killed run keeps what it did.
const COMMIT_CHUNKS: usize = 1 << 18;
/// Packs are committed when they take this many bytes.
const COMMIT_BYTES: u64 = 1 << 30;

/// Chunks that make up the next frame of a class.
#[derive(Debug, Default)]
struct OpenFrame {
    raw: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
}

/// Writes chunks into new packs.
pub(crate) struct ChunkWriter<'a> {
    repository: &'a Inner,
    ctx: Context<'a>,
    compressor: Compressor,
    frames: [OpenFrame; 2],
    packs: [PackBuilder; 2],
    blocks: PackBlocks,
    unlisted: Vec<PackEntry>,
    /// The names of all packs written so far.
    pub(crate) written: Vec<ObjectHash>,
    pub(crate) bytes: u64,
}

impl<'a> ChunkWriter<'a> {
    pub(crate) fn new(repository: &'a Inner, ctx: Context<'a>) -> Result<ChunkWriter<'a>> {
        Ok(ChunkWriter {
            repository,
            ctx,
            compressor: Compressor::new(Compression::Auto)?,
            frames: Default::default(),
            packs: [PackBuilder::new(PackClass::Data), PackBuilder::new(PackClass::Tree)],
            blocks: PackBlocks::default(),
            unlisted: Vec::new(),
            written: Vec::new(),
            bytes: 0,
        })
    }

    /// Adds a chunk whose id was verified.
    pub(crate) fn add_chunk(&mut self, class: PackClass, id: ChunkId, chunk: &[u8]) -> Result<()> {
        if self.frames[class as usize].raw.len() + chunk.len() > FRAME_BYTES_MAX as usize {
            self.close_frame(class)?;
        }
        let frame = &mut self.frames[class as usize];
        frame.raw.extend_from_slice(chunk);
        frame.chunks.push((id, chunk.len() as u32));
        if frame.raw.len() >= FRAME_TARGET_BYTES || frame.chunks.len() >= PACK_CHUNKS_MAX as usize / 2 {
            self.close_frame(class)?;
        }
        Ok(())
    }

    /// Adds a sealed frame as it is. It must have been opened and its chunks verified.
    pub(crate) fn add_frame(
        &mut self,
        class: PackClass,
        header: &Header,
        shape: FrameShape,
        sealed: Vec<u8>,
        chunks: Vec<(ChunkId, u32)>,
    ) -> Result<()> {
        let frame = CopiedFrame { header: header.clone(), shape, sealed, chunks };
        if !self.packs[class as usize].has_room_for(&frame) {
            self.close_pack(class)?;
        }
        self.packs[class as usize].add_copy(frame);
        Ok(())
    }

    fn close_frame(&mut self, class: PackClass) -> Result<()> {
        let OpenFrame { raw, chunks } = std::mem::take(&mut self.frames[class as usize]);
        if chunks.is_empty() {
            return Ok(());
        }
        if self.packs[class as usize].is_full_for(chunks.len()) {
            self.close_pack(class)?;
        }
        let (codec, bytes) = self.compressor.compress(&raw);
        self.packs[class as usize].add(Frame::new(codec, raw.len() as u32, bytes, chunks), &self.blocks);
        Ok(())
    }

    fn close_pack(&mut self, class: PackClass) -> Result<()> {
        let pack = std::mem::replace(&mut self.packs[class as usize], PackBuilder::new(class));
        if pack.is_empty() {
            return Ok(());
        }
        self.ctx.cancel.check()?;
        let repository = self.repository;
        let ids = repository.domain.id_key(class);
        let sealed = pack.seal(&repository.ring, &*repository.entropy, Verify::Frames, ids, None)?;
        let name = names::pack(class, &sealed.entry.hash);
        put_once(&*repository.store, &name, sealed.payload)?;
        self.blocks.give_back(sealed.blocks);
        self.bytes += sealed.entry.bytes;
        let stored = Observed::PackStored { pack: sealed.entry.hash, bytes: sealed.entry.bytes };
        self.ctx.observer.event(&stored);
        self.written.push(sealed.entry.hash);
        self.unlisted.push(sealed.entry);
        Ok(())
    }

    /// Commits what was written, where it is much.
    pub(crate) fn commit_if_due(&mut self) -> Result<()> {
        let count = |pack: &PackEntry| pack.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
        let chunks: usize = self.unlisted.iter().map(count).sum();
        let bytes: u64 = self.unlisted.iter().map(|pack| pack.bytes).sum();
        if chunks >= COMMIT_CHUNKS || bytes >= COMMIT_BYTES { self.commit().map(drop) } else { Ok(()) }
    }

    /// Closes everything that is open.
    pub(crate) fn flush(&mut self) -> Result<()> {
        for class in PackClass::ALL {
            self.close_frame(class)?;
            self.close_pack(class)?;
        }
        Ok(())
    }

    /// Stores what is left, and takes the packs that no segment lists.
    pub(crate) fn take(&mut self) -> Result<Vec<PackEntry>> {
        self.flush()?;
        Ok(std::mem::take(&mut self.unlisted))
    }

    /// Stores what is left, and names it in the log, without a snapshot. Gives the state of the log then; none where there
    /// was nothing to commit, or where a collector condemned the new packs already, who then has what was in them.
    pub(crate) fn commit(&mut self) -> Result<Option<Log>> {
        self.flush()?;
        self.commit_stored()
    }

    /// As `commit`, but only what is in packs that are stored already. What could not be named is named by the next one.
    pub(crate) fn commit_stored(&mut self) -> Result<Option<Log>> {
        if self.unlisted.is_empty() {
            return Ok(None);
        }
        let mut own: Vec<ObjectHash> = self.unlisted.iter().map(|pack| pack.hash).collect();
        let mut commit = Commit {
            snapshot: None,
            segments: Vec::new(),
            inline_segments: Vec::new(),
            own_packs: self.repository.put_list(&own)?,
            dedup_packs: Default::default(),
            reused: Vec::new(),
        };
        match self.repository.put_segment_unless_small(&segment_of_packs(&self.unlisted))? {
            NewSegment::Object(hash) => commit.segments.push(hash),
            NewSegment::Inline(sealed) => commit.inline_segments.push(sealed),
        }
        own.extend(&commit.segments);
        let appended = self.repository.append_if(&mut |log| {
            Ok(log.fold.check_commit(&own, &[], &[]).is_ok().then(|| Event::Commit(commit.clone())))
        })?;
        self.unlisted.clear();
        Ok(appended)
    }
}
