//! Repositories of very many chunks, of which only the log, the index and the trees are written: for measuring what
//! operations cost that read no data.

use super::forge::append_snapshot;
use super::*;
use crate::cancel::CancelToken;
use crate::format::envelope::{Header, PackClass};
use crate::format::pack::FrameShape;
use crate::format::segment::{ChunkRecord, FrameRecord, SegmentPack};
use crate::frame::FRAME_TARGET_BYTES;
use crate::index::{Index, Limits};
use crate::observer::Context;
use crate::tree::Metadata;

/// Chunks of a segment, as a writer ends one.
const SEGMENT_CHUNKS: u64 = 1 << 20;
/// Frames of a data pack, and what each holds before and after compression.
const PACK_FRAMES: u32 = 32;
const FRAME_BYTES: u32 = 1 << 20;
/// The length that a data pack is said to have.
const PACK_BYTES: u64 = (PACK_FRAMES as u64 + 4) << 20;
/// The first frame's offset in a pack.
const FRAMES_START: u32 = 98;
/// Directories in a directory above them.
const DIRECTORIES_PER_GROUP: u64 = 250;

/// What a repository is to look like.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "the names say it")]
pub struct Shape {
    pub chunks: u64,
    /// At least 32, at most 65,536, a multiple of 32.
    pub chunks_per_pack: u32,
    pub files_per_directory: u64,
}

impl Shape {
    /// How many data packs the index lists that are not there.
    pub fn packs(&self) -> u64 {
        self.chunks.div_ceil(u64::from(self.chunks_per_pack))
    }

    fn chunks_per_frame(&self) -> u32 {
        self.chunks_per_pack / PACK_FRAMES
    }

    fn chunk_bytes(&self) -> u32 {
        FRAME_BYTES / self.chunks_per_frame()
    }
}

/// The name and the length of data pack `number`, which is not there.
pub fn ghost(number: u64) -> (dr_store::Name, u64) {
    (names::pack(PackClass::Data, &pack_hash(number)), PACK_BYTES)
}

/// The id of data chunk `number`.
pub fn chunk_id(number: u64) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

fn pack_hash(number: u64) -> ObjectHash {
    ObjectHash::from_bytes(*blake3::keyed_hash(&[1; 32], &number.to_le_bytes()).as_bytes())
}

/// Writes index segments and trees of so many chunks, and commits a snapshot of them: directories of files, each of one
/// chunk that is not there, and a file `real` whose content is there.
pub fn write(repository: &Repository, shape: Shape, real: &[u8]) -> Result<SnapshotId> {
    let keys = Keys::of(repository);
    let mut segments = Vec::new();
    let mut own: Vec<ObjectHash> = (0..shape.packs()).map(pack_hash).collect();
    let per_segment =
        (SEGMENT_CHUNKS / u64::from(shape.chunks_per_pack)).max(1) * u64::from(shape.chunks_per_pack);
    let mut first = 0;
    while first < shape.chunks {
        let end = shape.chunks.min(first + per_segment);
        segments.push(repository.0.put_segment(&data_segment(&keys, shape, first..end))?);
        first = end;
    }
    let mut trees = Trees::new(repository, &keys)?;
    let root = trees.write(shape, real)?;
    own.extend(trees.packs.iter().map(|pack| pack.hash));
    segments.push(repository.0.put_segment(&crate::index::segment_of_packs(&trees.packs))?);
    let own = repository.0.put_list(&own)?;
    append_snapshot(repository, &keys, root, segments, own)
}

/// The segment of the data chunks of these numbers.
fn data_segment(keys: &Keys, shape: Shape, numbers: std::ops::Range<u64>) -> Segment {
    let mut segment = Segment::default();
    let (per_pack, per_frame) = (u64::from(shape.chunks_per_pack), u64::from(shape.chunks_per_frame()));
    for number in numbers {
        let in_pack = number % per_pack;
        if in_pack == 0 {
            let hash = pack_hash(number / per_pack);
            segment.packs.push(SegmentPack { class: PackClass::Data, hash, bytes: PACK_BYTES });
            let header = Header { salt: *hash.as_bytes(), ..keys.0.header(ObjectType::DataPack) };
            segment.headers.push(header);
        }
        let pack = segment.packs.len() as u32 - 1;
        if in_pack % per_frame == 0 {
            let number = (in_pack / per_frame) as u32;
            let stored_bytes = FRAME_BYTES + 16;
            let shape = FrameShape { number, raw_bytes: FRAME_BYTES, stored_bytes, codec: Codec::Raw };
            let offset = FRAMES_START + number * stored_bytes;
            segment.frames.push(FrameRecord { pack, offset, header: pack, shape });
        }
        let offset = (in_pack % per_frame) as u32 * shape.chunk_bytes();
        let frame = segment.frames.len() as u32 - 1;
        segment.chunks.push(ChunkRecord { id: chunk_id(number), frame, offset, bytes: shape.chunk_bytes() });
    }
    segment.chunks.sort_unstable_by_key(|record| record.id);
    segment
}

/// Packs of trees, as a backup fills them.
struct Trees<'r> {
    repository: &'r Repository,
    keys: &'r Keys,
    compressor: Compressor,
    open: PackBuilder,
    raw: Vec<u8>,
    chunks: Vec<(ChunkId, u32)>,
    packs: Vec<PackEntry>,
}

impl<'r> Trees<'r> {
    fn new(repository: &'r Repository, keys: &'r Keys) -> Result<Trees<'r>> {
        Ok(Trees {
            repository,
            keys,
            compressor: Compressor::new(Compression::Fast)?,
            open: PackBuilder::new(PackClass::Tree),
            raw: Vec::new(),
            chunks: Vec::new(),
            packs: Vec::new(),
        })
    }

    fn write(&mut self, shape: Shape, real: &[u8]) -> Result<Stream> {
        let mut groups = Vec::new();
        let mut directories = Vec::new();
        let mut file = 0;
        while file < shape.chunks {
            let end = shape.chunks.min(file + shape.files_per_directory);
            let files: Vec<Entry> = (file..end).map(|number| file_entry(shape, number)).collect();
            directories.push(directory_entry(file, self.directory(&files)?));
            file = end;
            if directories.len() as u64 == DIRECTORIES_PER_GROUP || file == shape.chunks {
                let group = self.directory(&std::mem::take(&mut directories))?;
                groups.push(directory_entry(file, group));
            }
        }
        groups.push(self.real_file(real)?);
        let root = self.directory(&groups)?;
        self.end_frame()?;
        self.end_pack()?;
        Ok(root)
    }

    /// A file whose content is stored, in a pack of its own.
    fn real_file(&mut self, content: &[u8]) -> Result<Entry> {
        let id = self.keys.chunk_id(Class::Data, content)?;
        let bytes = content.len() as u32;
        let frame = ForgedFrame {
            is_zstd: false,
            raw_bytes: bytes,
            bytes: content.to_vec(),
            chunks: vec![(id, bytes)],
        };
        let (entry, sealed) = self.keys.seal_frames(Class::Data, vec![frame], &[])?;
        let name = names::pack(PackClass::Data, &entry.hash);
        self.repository.0.store.put(&name, sealed.into(), PutMode::Create)?;
        self.packs.push(entry);
        Ok(Entry::new("real", file_kind(ChunkRef { id, bytes }), metadata(1)))
    }

    fn directory(&mut self, entries: &[Entry]) -> Result<Stream> {
        let encoded = encode_entries(entries);
        let chunk = ChunkRef { id: self.keys.chunk_id(Class::Tree, &encoded)?, bytes: encoded.len() as u32 };
        self.raw.extend_from_slice(&encoded);
        self.chunks.push((chunk.id, chunk.bytes));
        if self.raw.len() >= FRAME_TARGET_BYTES {
            self.end_frame()?;
        }
        Ok(Stream { bytes: u64::from(chunk.bytes), level: 0, chunks: vec![chunk] })
    }

    fn end_frame(&mut self) -> Result<()> {
        let chunks = std::mem::take(&mut self.chunks);
        if self.open.is_full_for(chunks.len()) {
            self.end_pack()?;
        }
        let (codec, bytes) = self.compressor.compress(&self.raw);
        self.open.add(Frame::new(codec, self.raw.len() as u32, bytes, chunks), &PackBlocks::default());
        self.raw.clear();
        Ok(())
    }

    fn end_pack(&mut self) -> Result<()> {
        let pack = std::mem::replace(&mut self.open, PackBuilder::new(PackClass::Tree));
        let sealed = pack.seal(&self.keys.0, &SystemEntropy, Verify::Nothing, &[0; 32], None)?;
        let name = names::pack(PackClass::Tree, &sealed.entry.hash);
        self.repository.0.store.put(&name, sealed.payload, PutMode::Create)?;
        self.packs.push(sealed.entry);
        Ok(())
    }
}

fn file_entry(shape: Shape, number: u64) -> Entry {
    let chunk = ChunkRef { id: chunk_id(number), bytes: shape.chunk_bytes() };
    Entry::new(format!("file{number:012}.rs"), file_kind(chunk), metadata(number))
}

fn file_kind(chunk: ChunkRef) -> EntryKind {
    let bytes = u64::from(chunk.bytes);
    EntryKind::File(FileContent::new(bytes, Stream { bytes, level: 0, chunks: vec![chunk] }, None))
}

fn directory_entry(number: u64, stream: Stream) -> Entry {
    Entry::new(format!("d{number:012}"), EntryKind::Directory(stream), metadata(number))
}

fn metadata(number: u64) -> Metadata {
    let mut metadata = Metadata { mode: 0o644, inode: number + 1_000_000, links: 1, ..Metadata::default() };
    metadata.modified.seconds = 1_700_000_000 + number as i64;
    metadata.changed = metadata.modified;
    metadata
}

/// Lets the repository make a concordance of any four tables, however few chunks they list.
pub fn collate_small(repository: &Repository) {
    let _ = repository.0.limits.set(Limits { table_chunks: 1, tables: 4, chunks: 1 });
}

/// The index of an open repository.
#[derive(Debug)]
pub struct OpenIndex(Index);

impl OpenIndex {
    /// Loads the index.
    pub fn load(repository: &Repository) -> Result<OpenIndex> {
        Ok(OpenIndex(repository.0.current_whole()?.1))
    }

    /// Whether a chunk is found, by the way that a backup asks.
    pub fn holds(&self, id: &ChunkId) -> bool {
        self.0.pack_of(id).is_ok_and(|pack| pack.is_some())
    }

    /// Makes a concordance of all large tables and asks it from now on; false where it is not worth it, or there is one.
    pub fn collate(&self, repository: &Repository) -> bool {
        let Some(collation) = self.0.collation() else { return false };
        repository.0.collate(&self.0, &collation, &CancelToken::new());
        self.0.collation().is_none()
    }

    /// How many segments there are.
    pub fn segments(&self) -> usize {
        self.0.tables().len()
    }
}

/// Marks what all snapshots need, as a collection does, and says how many records that are.
pub fn mark(repository: &Repository, ctx: &Context<'_>) -> Result<u64> {
    crate::prune::mark_all(&repository.0, *ctx)
}
