//! Stores chunks: claims new ones, frames and compresses them, fills packs, seals and puts them.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::budget::Budget;
use super::commit::Kept;
use super::options::BackupOptions;
use super::queue::Queue;
use super::sealing::{Sealing, Turn};
use super::segment::Buffers;
use super::window::{FrameJob, Window};
use crate::chunker::Chunker;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::frame::{Compressor, FRAME_TARGET_BYTES, Frame};
use crate::id::{ChunkId, ObjectHash};
use crate::index::Index;
use crate::limits::{FRAME_BYTES_MAX, TREE_CHUNK_BYTES_MAX};
use crate::observer::{Context, Event, lock};
use crate::pack::{PackBlocks, PackBuilder, PackEntry, Verify};
use crate::repository::{Inner, put_once};
use crate::tree::{ChunkRef, TreeSink};

const SHARDS: usize = 64;

/// What the threads of one backup share.
pub(crate) struct Storer<'a> {
    pub(crate) repository: &'a Inner,
    pub(crate) ctx: Context<'a>,
    pub(crate) chunker: Chunker,
    pub(crate) options: &'a BackupOptions,
    pub(crate) queue: Queue,
    pub(crate) buffers: Buffers,
    /// For work that a thread does only when there is much of it.
    spare: Mutex<Option<Scratch>>,
    index: Index,
    /// The new chunks of this backup, claimed by whoever saw them first, before they are compressed: no chunk is stored
    /// twice.
    claims: Vec<Mutex<HashSet<ChunkId>>>,
    window: Mutex<Window>,
    trees: Mutex<Window>,
    packs: [Mutex<OpenPacks>; 2],
    blocks: PackBlocks,
    sealing: Sealing,
    finished: Mutex<Finished>,
    dedup_packs: Mutex<HashSet<ObjectHash>>,
    /// Held while an entry is appended to the log.
    pub(crate) kept: Mutex<Kept>,
    pub(crate) counts: Counts,
}

/// What was counted.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) new_chunks: AtomicU64,
    pub(crate) new_bytes: AtomicU64,
    pub(crate) stored_bytes: AtomicU64,
}

impl Counts {
    pub(crate) fn add(counter: &AtomicU64, amount: u64) {
        counter.fetch_add(amount, Ordering::Relaxed);
    }
}

/// The two packs of a class that frames are spread over at random, so that a pack's length tells little of one file.
struct OpenPacks {
    class: PackClass,
    open: [PackBuilder; 2],
    /// What both may hold together; then the larger one is closed before it is full, which bounds memory.
    bytes_max: usize,
    random: u64,
}

/// Packs that are stored: those that no segment lists yet, and all of them by name.
#[derive(Debug, Default)]
pub(crate) struct Finished {
    pub(crate) unlisted: Vec<PackEntry>,
    pub(crate) names: Vec<ObjectHash>,
}

impl OpenPacks {
    fn new(class: PackClass, bytes_max: usize, seed: u64) -> OpenPacks {
        let open = [PackBuilder::new(class), PackBuilder::new(class)];
        OpenPacks { class, open, bytes_max, random: seed | 1 }
    }

    /// Chooses a pack for a frame; gives its number, and that of the one that must be closed first.
    fn choose(&mut self, frame: &Frame<'_>) -> (usize, Option<usize>) {
        // xorshift64 (Marsaglia 2003), seeded from the injected randomness.
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        let chosen = (self.random >> 32 & 1) as usize;
        let full = if self.open[chosen].is_full_for(frame.chunks.len()) {
            Some(chosen)
        } else if self.bytes() + frame.bytes.len() > self.bytes_max {
            Some(usize::from(self.open[1].bytes() > self.open[0].bytes()))
        } else {
            None
        };
        (chosen, full)
    }

    fn bytes(&self) -> usize {
        self.open.iter().map(PackBuilder::bytes).sum()
    }

    fn close(&mut self, number: usize) -> PackBuilder {
        std::mem::replace(&mut self.open[number], PackBuilder::new(self.class))
    }

    /// Takes what is left: both packs become one, as far as that fits.
    fn take(&mut self, blocks: &PackBlocks) -> Vec<PackBuilder> {
        let [mut first, second] =
            std::mem::replace(&mut self.open, [PackBuilder::new(self.class), PackBuilder::new(self.class)]);
        let rest = first.merge(second, blocks);
        std::iter::once(first).chain(rest).filter(|pack| !pack.is_empty()).collect()
    }
}

impl<'a> Storer<'a> {
    pub(crate) fn new(
        repository: &'a Inner,
        index: Index,
        options: &'a BackupOptions,
        ctx: Context<'a>,
    ) -> Result<Storer<'a>> {
        let budget = Budget::new(options, ctx.parallelism)?;
        let ctx = ctx.with_parallelism(budget.threads);
        let open_bytes = budget.open_bytes();
        let seed =
            |_| -> Result<u64> { Ok(u64::from_le_bytes(crate::entropy::random(&*repository.entropy)?)) };
        let [data, tree] = [seed(0)?, seed(1)?];
        Ok(Storer {
            repository,
            ctx,
            chunker: Chunker::new(&repository.domain),
            options,
            queue: Queue::default(),
            buffers: Buffers::default(),
            spare: Mutex::default(),
            index,
            claims: (0..SHARDS).map(|_| Mutex::default()).collect(),
            window: Mutex::new(Window::new(budget.window_bytes)),
            trees: Mutex::new(Window::new(budget.window_bytes)),
            packs: [
                Mutex::new(OpenPacks::new(PackClass::Data, open_bytes, data)),
                Mutex::new(OpenPacks::new(PackClass::Tree, open_bytes, tree)),
            ],
            blocks: PackBlocks::default(),
            sealing: Sealing::new(budget.pack_bytes),
            finished: Mutex::default(),
            dedup_packs: Mutex::default(),
            kept: Mutex::new(Kept::since(repository.clock.now())),
            counts: Counts::default(),
        })
    }

    /// The id of a chunk.
    pub(crate) fn id(&self, class: PackClass, chunk: &[u8]) -> ChunkId {
        ChunkId::from_bytes(*blake3::keyed_hash(self.repository.domain.id_key(class), chunk).as_bytes())
    }

    /// Whether the caller is the first to bring a chunk, and must store it.
    ///
    /// # Errors
    /// What the store answers where the index is read page by page.
    pub(crate) fn claim(&self, id: &ChunkId, bytes: usize) -> Result<bool> {
        let claims = &self.claims[usize::from(id.as_bytes()[0]) % SHARDS];
        if lock(claims).contains(id) {
            return Ok(false);
        }
        // Nothing is held here: it may take a page from the store.
        if let Some(pack) = self.pack_of(id)? {
            lock(&self.dedup_packs).insert(pack);
            return Ok(false);
        }
        if !lock(claims).insert(*id) {
            return Ok(false);
        }
        Counts::add(&self.counts.new_chunks, 1);
        Counts::add(&self.counts.new_bytes, bytes as u64);
        Ok(true)
    }

    /// Whether a chunk is stored already; then the snapshot rests on it.
    pub(crate) fn has_chunk(&self, id: &ChunkId) -> Result<bool> {
        // That it is not there is believed of the tables only.
        let found = match self.pack_of(id)? {
            None => self.index.pack_in_tables(id)?,
            found => found,
        };
        match found {
            Some(pack) => {
                lock(&self.dedup_packs).insert(pack);
                Ok(true)
            }
            None => Ok(lock(&self.claims[usize::from(id.as_bytes()[0]) % SHARDS]).contains(id)),
        }
    }

    /// The pack that holds a chunk. Where there were many lookups, a thread makes the next ones faster before it goes on;
    /// the others need not wait for it.
    fn pack_of(&self, id: &ChunkId) -> Result<Option<ObjectHash>> {
        if let Some(collation) = self.index.count_lookup(id) {
            self.repository.collate(&self.index, &collation, self.ctx.cancel);
        }
        self.index.pack_of(id)
    }

    /// Stores a small file's chunk through the window.
    pub(crate) fn store_small(&self, name: &[u8], chunk: Vec<u8>) -> Result<ChunkRef> {
        let id = self.id(PackClass::Data, &chunk);
        let bytes = chunk.len() as u32;
        if self.claim(&id, chunk.len())? && !self.options.dry_run {
            let frames = lock(&self.window).add(id, name, chunk);
            if !frames.is_empty() {
                self.queue.push_frames(frames);
            }
        }
        Ok(ChunkRef { id, bytes })
    }

    /// Stores chunks of file contents that were claimed before, through the window, in their order.
    pub(crate) fn store_claimed(&self, chunks: impl Iterator<Item = (ChunkId, Vec<u8>)>) {
        let mut window = lock(&self.window);
        let frames: Vec<FrameJob> = chunks.flat_map(|(id, chunk)| window.add(id, b"", chunk)).collect();
        drop(window);
        if !frames.is_empty() {
            self.queue.push_frames(frames);
            self.relieve();
        }
    }

    /// Compresses a frame of the window and adds it to a pack.
    pub(crate) fn store_frame_job(&self, job: FrameJob, scratch: &mut Scratch) -> Result<()> {
        let class = job.class;
        let chunks = job.gather(&mut scratch.buffer);
        let raw = std::mem::take(&mut scratch.buffer);
        let stored = self.store_frame(class, &raw, chunks, scratch);
        scratch.buffer = raw;
        stored
    }

    /// Compresses a frame and adds it to a pack; seals and puts the pack that was full.
    pub(crate) fn store_frame(
        &self,
        class: PackClass,
        raw: &[u8],
        chunks: Vec<(ChunkId, u32)>,
        scratch: &mut Scratch,
    ) -> Result<()> {
        if self.options.dry_run {
            return Ok(());
        }
        if raw.len() > FRAME_BYTES_MAX as usize {
            return Err(Error::new(ErrorKind::Internal, "a frame is larger than the format allows"));
        }
        let (codec, bytes) = scratch.compressor.compress(raw);
        let frame = Frame::new(codec, raw.len() as u32, bytes, chunks);
        let mut packs = lock(&self.packs[class as usize]);
        let (chosen, full) = packs.choose(&frame);
        let full = full.map(|number| (self.sealing.begin(packs.open[number].bytes()), packs.close(number)));
        if full.is_none() {
            // While too much is under way, no frame is added: memory stays bounded. Whoever has a pack to seal goes on with that.
            self.sealing.wait_for_room(packs.bytes() + frame.bytes.len());
        }
        packs.open[chosen].add(frame, &self.blocks);
        drop(packs);
        full.map_or(Ok(()), |(turn, pack)| self.store_pack(class, pack, &turn))
    }

    fn store_pack(&self, class: PackClass, pack: PackBuilder, turn: &Turn<'_>) -> Result<()> {
        self.ctx.cancel.check()?;
        if self.queue.is_failed() {
            // The failure itself is reported; another long attempt would only delay that.
            return Err(Error::cancelled());
        }
        let verify = if self.options.verify_frames { Verify::Frames } else { Verify::Nothing };
        let ids = self.repository.domain.id_key(class);
        let pool = turn.threads(self.ctx.parallelism)?.pool();
        let sealed = pack.seal(&self.repository.ring, &*self.repository.entropy, verify, ids, pool)?;
        let name = names::pack(class, &sealed.entry.hash);
        put_once(&*self.repository.store, &name, sealed.payload)?;
        self.blocks.give_back(sealed.blocks);
        Counts::add(&self.counts.stored_bytes, sealed.entry.bytes);
        self.ctx.observer.event(&Event::PackStored { pack: sealed.entry.hash, bytes: sealed.entry.bytes });
        let mut finished = lock(&self.finished);
        finished.names.push(sealed.entry.hash);
        finished.unlisted.push(sealed.entry);
        Ok(())
    }

    /// Does some of what is waiting, where that is much: whoever only brings trees would have memory grow while the store is slow.
    pub(super) fn relieve(&self) {
        while self.queue.is_behind() && self.help_once() {}
    }

    /// Does what frames and segments are waiting, and waits for what others do. All files must be handed out.
    pub(crate) fn settle(&self) -> Result<()> {
        while self.help_once() {}
        self.queue.wait_idle()
    }

    /// Does a piece of what is waiting; says whether there was one.
    fn help_once(&self) -> bool {
        let mut spare = lock(&self.spare);
        let Some(work) = self.queue.next_leaf() else { return false };
        let done = match &mut *spare {
            Some(scratch) => super::workers::run(self, work, scratch),
            none => Scratch::new(self.options)
                .and_then(|scratch| super::workers::run(self, work, none.insert(scratch))),
        };
        self.queue.finished(done);
        true
    }

    /// Stores everything that is still gathered. No worker may be running.
    pub(crate) fn flush(&self) -> Result<()> {
        let windows = [(&self.window, PackClass::Data), (&self.trees, PackClass::Tree)];
        for (window, class) in windows {
            let frames = lock(window).take(class, FRAME_TARGET_BYTES);
            self.queue.push_frames(frames);
        }
        self.settle()?;
        for class in PackClass::ALL {
            let left = lock(&self.packs[class as usize]).take(&self.blocks);
            for pack in left {
                let turn = self.sealing.begin(pack.bytes());
                self.store_pack(class, pack, &turn)?;
            }
        }
        Ok(())
    }

    /// Takes the stored packs that no segment lists yet.
    pub(crate) fn take_unlisted(&self) -> Vec<PackEntry> {
        std::mem::take(&mut lock(&self.finished).unlisted)
    }

    /// The names of all packs stored so far, sorted.
    pub(crate) fn own_packs(&self) -> Vec<ObjectHash> {
        let mut names = lock(&self.finished).names.clone();
        names.sort_unstable();
        names
    }

    /// Gives up the claims of chunks that are not stored any more: whoever brings them next must store them. No worker may
    /// be running, and nothing may be gathered.
    pub(crate) fn retain_claims(&self, is_stored: &dyn Fn(&ChunkId) -> bool) {
        for shard in &self.claims {
            lock(shard).retain(|id| is_stored(id));
        }
    }

    /// The index as it was when the backup began.
    pub(crate) fn index(&self) -> &Index {
        &self.index
    }

    /// Takes packs in that something else stored, and puts what the snapshot rests on in the place of what it rested on.
    pub(crate) fn replace_packs(
        &self,
        stored: Vec<PackEntry>,
        is_gone: &dyn Fn(&ObjectHash) -> bool,
        dedup: HashSet<ObjectHash>,
    ) {
        let mut finished = lock(&self.finished);
        finished.names.retain(|name| !is_gone(name));
        finished.unlisted.retain(|pack| !is_gone(&pack.hash));
        finished.names.extend(stored.iter().map(|pack| pack.hash));
        finished.unlisted.extend(stored);
        *lock(&self.dedup_packs) = dedup;
    }

    /// The packs that chunks were found in, sorted.
    pub(crate) fn dedup_packs(&self) -> Vec<ObjectHash> {
        let mut packs: Vec<ObjectHash> = lock(&self.dedup_packs).iter().copied().collect();
        packs.sort_unstable();
        packs
    }
}

impl TreeSink for Storer<'_> {
    fn store_tree(&self, bytes: &[u8]) -> Result<ChunkRef> {
        if bytes.len() > TREE_CHUNK_BYTES_MAX as usize {
            return Err(Error::new(ErrorKind::Internal, "a tree chunk is larger than the format allows"));
        }
        let id = self.id(PackClass::Tree, bytes);
        if self.claim(&id, bytes.len())? && !self.options.dry_run {
            let mut trees = lock(&self.trees);
            trees.add_in_order(id, bytes.to_vec());
            if trees.bytes() >= FRAME_TARGET_BYTES {
                let frames = trees.take(PackClass::Tree, FRAME_TARGET_BYTES);
                drop(trees);
                self.queue.push_frames(frames);
                self.relieve();
            }
        }
        Ok(ChunkRef { id, bytes: bytes.len() as u32 })
    }
}

/// What a thread keeps to itself.
#[derive(Debug)]
pub(crate) struct Scratch {
    pub(crate) compressor: Compressor,
    pub(crate) buffer: Vec<u8>,
}

impl Scratch {
    pub(crate) fn new(options: &BackupOptions) -> Result<Scratch> {
        Ok(Scratch { compressor: Compressor::new(options.compression)?, buffer: Vec::new() })
    }
}
