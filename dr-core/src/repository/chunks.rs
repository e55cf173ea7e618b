//! Reads chunks: finds them in the index, fetches and opens their frames, verifies their ids.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

use dr_store::{StoreError, StoreErrorKind};

use super::Inner;
use crate::crypto::ObjectKey;
use crate::error::{Error, Result};
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::id::{ChunkId, ObjectHash};
use crate::index::{Index, Location};
use crate::log::Log;
use crate::observer::lock;
use crate::pack::open_frame;
use crate::time::Timestamp;
use crate::tree::{ChunkRef, ReadChunk};

/// Ranges are rounded out to this many bytes, so that their ends do not say where frames lie.
pub(crate) const RANGE_STEP_BYTES: u64 = 256 << 10;
/// Raw frames kept for the next chunk that is asked for.
pub(super) const KEPT_BYTES_MAX: usize = 24 << 20;

/// What the objects of errors about single chunks begin with.
const CHUNK: &str = "chunk ";
/// How often the log is read again in vain because a chunk is not where the index says, before that is believed.
const REFRESHES_MAX: u32 = 8;
/// After so many seconds it is doubted again, for those who read for longer than a call takes.
const BELIEVED_SECONDS: u64 = 60;

/// Reads and verifies chunks. A chunk that is not where the index says may have been moved meanwhile: then the log is read
/// again.
pub(crate) struct ChunkReader<'a> {
    pub(super) repository: Held<'a>,
    pub(crate) index: Index,
    /// Whether packs that may be deleted are read where nothing else is left.
    reads_condemned: bool,
    newer: Mutex<Newer>,
    kept: Mutex<KeptFrames>,
}

/// The repository that is read: a call's, or one that is held for as long as the reader is.
pub(super) enum Held<'a> {
    Borrowed(&'a Inner),
    Shared(Arc<Inner>),
}

impl Deref for Held<'_> {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        match self {
            Held::Borrowed(repository) => repository,
            Held::Shared(repository) => repository,
        }
    }
}

/// The verified bytes of a chunk: a part of the raw frame that they came in.
#[derive(Clone)]
pub(crate) struct ChunkBytes {
    frame: Arc<Vec<u8>>,
    place: Range<usize>,
}

impl ChunkBytes {
    /// How much memory is held for them.
    pub(crate) fn held(&self) -> usize {
        self.frame.len()
    }
}

impl Deref for ChunkBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.frame.get(self.place.clone()).unwrap_or_default()
    }
}

/// What was found by reading the log again.
struct Newer {
    index: Option<Index>,
    changed: u64,
    in_vain: u32,
    /// When it was last read in vain.
    last: Timestamp,
}

/// Where a frame lies: what frames are kept by.
pub(super) type FramePlace = (ObjectHash, u32);

/// A frame, once it was fetched. Held by whoever fetches it: nobody else does then.
type KeptFrame = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

#[derive(Default)]
struct KeptFrames {
    frames: HashMap<FramePlace, KeptFrame>,
    /// Those that were fetched, and their lengths, the oldest first.
    order: VecDeque<(FramePlace, usize)>,
    bytes: usize,
}

impl KeptFrames {
    /// Notes that a frame was fetched. The oldest ones are given up for it.
    fn note(&mut self, place: FramePlace, bytes: usize) {
        self.bytes += bytes;
        self.order.push_back((place, bytes));
        while self.bytes > KEPT_BYTES_MAX && self.order.len() > 1 {
            let Some((oldest, bytes)) = self.order.pop_front() else { break };
            self.frames.remove(&oldest);
            self.bytes -= bytes;
        }
    }
}

impl<'a> ChunkReader<'a> {
    /// Reads through `index`, which is that of `log`.
    pub(crate) fn new(repository: &'a Inner, log: &Log, index: Index) -> ChunkReader<'a> {
        ChunkReader::over(Held::Borrowed(repository), log, index)
    }

    /// The same for whoever reads longer than a call takes.
    pub(crate) fn shared(repository: Arc<Inner>, log: &Log, index: Index) -> ChunkReader<'static> {
        ChunkReader::over(Held::Shared(repository), log, index)
    }

    fn over<'h>(repository: Held<'h>, log: &Log, index: Index) -> ChunkReader<'h> {
        let newer = Newer { index: None, changed: log.fold.changed, in_vain: 0, last: Timestamp::default() };
        ChunkReader {
            repository,
            index,
            reads_condemned: true,
            newer: Mutex::new(newer),
            kept: Mutex::default(),
        }
    }

    /// Reads nothing that may be deleted: for whoever deletes, or says what is whole.
    pub(crate) fn without_condemned(mut self) -> Self {
        self.reads_condemned = false;
        self
    }

    /// Reads a chunk, from whichever copy is intact.
    pub(crate) fn read(&self, class: PackClass, chunk: &ChunkRef) -> Result<Vec<u8>> {
        self.read_shared(class, chunk).map(|bytes| bytes.to_vec())
    }

    /// The same without a copy of the bytes: the whole frame is held as long as they are.
    pub(crate) fn read_shared(&self, class: PackClass, chunk: &ChunkRef) -> Result<ChunkBytes> {
        let failure = match self.read_through(&self.index, class, chunk) {
            Err(error) if !error.is_retryable() => error,
            read => return read,
        };
        loop {
            let (newer, changed) = self.newest();
            if let Some(newer) = newer
                && let Ok(bytes) = self.read_through(&newer, class, chunk)
            {
                return Ok(bytes);
            }
            if !self.refresh(changed)? {
                return Err(failure);
            }
        }
    }

    /// Where a chunk lies, by the newest index where the first does not know it.
    pub(crate) fn locate(&self, chunk: &ChunkRef) -> Result<Location> {
        let fits = |location: &Location| location.bytes == chunk.bytes;
        if let Some(location) = self.index.find(&chunk.id, fits)? {
            return Ok(location);
        }
        loop {
            let (newer, changed) = self.newest();
            if let Some(newer) = &newer {
                for location in newer.lookup_all(&chunk.id) {
                    let location = location?;
                    if fits(&location) {
                        return Ok(location);
                    }
                }
            }
            if !self.refresh(changed)? {
                return Err(missing_chunk(newer.as_ref().unwrap_or(&self.index), &chunk.id));
            }
        }
    }

    /// Where a chunk lies as far as that is known, for whoever can do without.
    pub(super) fn locate_known(&self, chunk: &ChunkRef) -> Option<Location> {
        let fits = |location: &Location| location.bytes == chunk.bytes;
        let (newer, _) = self.newest();
        newer.as_ref().unwrap_or(&self.index).find(&chunk.id, fits).ok()?
    }

    /// The newest index that was read, if any but the first, and what state it is of.
    fn newest(&self) -> (Option<Index>, u64) {
        let newer = lock(&self.newer);
        (newer.index.clone(), newer.changed)
    }

    /// Reads the log again; whether chunks may lie elsewhere than they did in the state `seen`.
    fn refresh(&self, seen: u64) -> Result<bool> {
        let mut newer = lock(&self.newer);
        if newer.changed != seen {
            // Another thread was faster.
            return Ok(true);
        }
        let now = self.repository.clock.now();
        let is_believed = now.seconds.abs_diff(newer.last.seconds) < BELIEVED_SECONDS;
        if newer.in_vain >= REFRESHES_MAX && is_believed {
            return Ok(false);
        }
        let (log, index) = self.repository.current()?;
        if log.fold.changed == newer.changed {
            newer.in_vain += 1;
            newer.last = now;
            return Ok(false);
        }
        newer.changed = log.fold.changed;
        newer.in_vain = 0;
        newer.index = Some(index);
        Ok(true)
    }

    fn read_through(&self, index: &Index, class: PackClass, chunk: &ChunkRef) -> Result<ChunkBytes> {
        let mut failure = None;
        for location in index.lookup_all(&chunk.id) {
            let location = location?;
            if !self.reads_condemned && index.condemned().contains_key(&location.pack.hash) {
                continue;
            }
            if location.pack.class != class || location.bytes != chunk.bytes {
                failure = Some(Error::corrupt("the index speaks of a chunk of another kind or length"));
                continue;
            }
            match self.read_at(&location, &chunk.id) {
                Ok(bytes) => return Ok(bytes),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| missing_chunk(index, &chunk.id)))
    }

    fn read_at(&self, location: &Location, id: &ChunkId) -> Result<ChunkBytes> {
        let frame = self.frame(frame_place(location), location)?;
        cut_chunk(&self.repository, location, id, &frame)?;
        let start = location.offset as usize;
        Ok(ChunkBytes { frame, place: start..start + location.bytes as usize })
    }
}

pub(super) fn frame_place(location: &Location) -> FramePlace {
    (location.pack.hash, location.frame_offset)
}

impl ChunkReader<'_> {
    /// A frame, fetched once however many threads ask for it at a time.
    fn frame(&self, place: FramePlace, location: &Location) -> Result<Arc<Vec<u8>>> {
        let kept = lock(&self.kept).frames.entry(place).or_default().clone();
        let mut held = lock(&kept);
        if let Some(frame) = &*held {
            return Ok(frame.clone());
        }
        match fetch_frame(&self.repository, location) {
            Ok(frame) => {
                let frame = Arc::new(frame);
                *held = Some(frame.clone());
                lock(&self.kept).note(place, frame.len());
                Ok(frame)
            }
            Err(error) => {
                lock(&self.kept).frames.remove(&place);
                Err(error)
            }
        }
    }
}

impl ChunkReader<'_> {
    /// Whether a frame is kept, or being fetched.
    pub(super) fn has_frame(&self, place: &FramePlace) -> bool {
        lock(&self.kept).frames.contains_key(place)
    }

    /// Keeps a frame that was fetched before it was asked for.
    pub(super) fn keep_frame(&self, place: FramePlace, frame: Vec<u8>) {
        let kept = lock(&self.kept).frames.entry(place).or_default().clone();
        let mut held = lock(&kept);
        if held.is_none() {
            lock(&self.kept).note(place, frame.len());
            *held = Some(Arc::new(frame));
        }
    }
}

impl ReadChunk for ChunkReader<'_> {
    fn read_tree(&self, chunk: &ChunkRef) -> Result<Vec<u8>> {
        self.read(PackClass::Tree, chunk)
    }
}

/// Says that the index does not know a chunk.
pub(crate) fn missing_chunk(index: &Index, id: &ChunkId) -> Error {
    let message = if index.is_whole() {
        "a chunk is in no pack that the index knows".to_owned()
    } else {
        let gap = index.gap().map(|gap| format!(" ({gap})")).unwrap_or_default();
        format!("a chunk is in no pack that the readable part of the index knows{gap}")
    };
    Error::corrupt(message).with_object(format!("{CHUNK}{id}")).with_remedy(
        "run 'dr check' to see what is damaged; a backup of the same files stores the chunk again",
    )
}

/// Whether an error says that a chunk is in no pack, and the whole index agrees: nobody will count on it any more.
pub(crate) fn is_given_up(index: &Index, error: &Error) -> bool {
    index.is_whole() && error.object().is_some_and(|object| object.starts_with(CHUNK))
}

/// Cuts a chunk out of its raw frame and verifies its id.
pub(crate) fn cut_chunk<'f>(
    repository: &Inner,
    location: &Location,
    id: &ChunkId,
    frame: &'f [u8],
) -> Result<&'f [u8]> {
    let start = location.offset as usize;
    let chunk = frame.get(start..start + location.bytes as usize).unwrap_or_default();
    if blake3::keyed_hash(repository.domain.id_key(location.pack.class), chunk) == *id.as_bytes() {
        Ok(chunk)
    } else {
        Err(Error::corrupt(format!("chunk {id} does not hash to its id")).with_object(pack_name(location)))
    }
}

/// Fetches and opens one frame.
pub(crate) fn fetch_frame(repository: &Inner, location: &Location) -> Result<Vec<u8>> {
    let start = u64::from(location.frame_offset);
    let end = start + u64::from(location.shape.stored_bytes);
    let from = start - start % RANGE_STEP_BYTES;
    let to = end.next_multiple_of(RANGE_STEP_BYTES).min(location.pack.bytes);
    let name = pack_name(location);
    let fetched = match repository.store.get_range(&name, from..to) {
        Ok(fetched) => fetched,
        Err(error) if error.is_retryable() => return Err(error.into()),
        // The pack may be cut short behind this frame.
        Err(_) => {
            let sealed = repository.store.get_range(&name, start..end).map_err(cut_short)?;
            return open_located(repository, location, &sealed);
        }
    };
    let sealed = fetched
        .get((start - from) as usize..(end - from) as usize)
        .ok_or_else(|| Error::corrupt("the pack is cut short").with_object(&name))?;
    open_located(repository, location, sealed)
}

/// A range that lies outside of a pack says that the pack is cut short.
pub(crate) fn cut_short(error: StoreError) -> Error {
    if error.kind() == StoreErrorKind::InvalidInput {
        Error::corrupt("the pack is cut short").with_object(error.object())
    } else {
        error.into()
    }
}

/// Opens a sealed frame that was fetched.
pub(crate) fn open_located(repository: &Inner, location: &Location, sealed: &[u8]) -> Result<Vec<u8>> {
    let key = ObjectKey::derive(&repository.ring.kek(&location.header)?, &location.header)?;
    open_frame(&key, &location.shape, sealed).map_err(|error| error.with_object(pack_name(location)))
}

pub(crate) fn pack_name(location: &Location) -> dr_store::Name {
    names::pack(location.pack.class, &location.pack.hash)
}
