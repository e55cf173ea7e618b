//! Writes a repository's objects by hand, true or not.

use super::*;

/// Writes a repository's objects by hand: whatever it is told, sealed with the right keys.
#[derive(Debug)]
pub struct Forger<'r> {
    repository: &'r Repository,
    keys: Keys,
    compressor: Compressor,
    frames: [Vec<ForgedFrame>; 2],
    invented: u32,
}

impl<'r> Forger<'r> {
    /// A writer to an open repository.
    pub fn new(repository: &'r Repository) -> Result<Forger<'r>> {
        let compressor = Compressor::new(Compression::Fast)?;
        let frames = [Vec::new(), Vec::new()];
        Ok(Forger { repository, keys: Keys::of(repository), compressor, frames, invented: 0 })
    }

    /// Lists so many chunks beside those that are stored, in packs that are not there.
    pub fn invent_chunks(&mut self, chunks: u32) {
        self.invented += chunks;
    }

    /// Stores a chunk as a frame of its own.
    pub fn chunk(&mut self, class: Class, chunk: &[u8]) -> Result<ChunkRef> {
        let id = self.keys.chunk_id(class, chunk)?;
        let bytes = chunk.len() as u32;
        let (codec, stored) = self.compressor.compress(chunk);
        let (is_zstd, stored) = (codec == Codec::Zstd, stored.to_vec());
        self.frame(
            class,
            ForgedFrame { is_zstd, raw_bytes: bytes, bytes: stored, chunks: vec![(id, bytes)] },
        );
        Ok(ChunkRef { id, bytes })
    }

    /// The id of a chunk that is not stored.
    pub fn chunk_id(&self, class: Class, chunk: &[u8]) -> Result<ChunkId> {
        self.keys.chunk_id(class, chunk)
    }

    /// Stores a frame, true or not.
    pub fn frame(&mut self, class: Class, frame: ForgedFrame) {
        self.frames[class as usize].push(frame);
    }

    /// Stores a directory of one tree chunk.
    pub fn directory(&mut self, entries: &[Entry]) -> Result<Stream> {
        let chunk = self.chunk(Class::Tree, &encode_entries(entries))?;
        Ok(Stream { bytes: u64::from(chunk.bytes), level: 0, chunks: vec![chunk] })
    }

    /// Writes the packs and their segment, and commits a snapshot whose entries of `/` are `root`.
    pub fn commit(self, root: Stream) -> Result<SnapshotId> {
        let Forger { repository, keys, frames: [data, tree], invented, .. } = self;
        let inner = &repository.0;
        let (mut packs, mut own) = (Vec::new(), Vec::new());
        for (class, frames) in [(Class::Data, data), (Class::Tree, tree)] {
            if frames.is_empty() {
                continue;
            }
            let (entry, bytes) = keys.seal_frames(class, frames, &[])?;
            inner.store.put(&names::pack(class.pack(), &entry.hash), bytes.into(), PutMode::Create)?;
            own.push(entry.hash);
            packs.push(entry);
        }
        own.sort_unstable();
        let mut segment = crate::index::segment_of_packs(&packs);
        invent(&mut segment, invented);
        let (segment, _) = crate::index::seal_segment(&keys.0, &segment, &SystemEntropy)?;
        let segment = crate::repository::put_hashed(&*inner.store, names::INDEX, segment)?;
        append_snapshot(repository, &keys, root, vec![segment], HashList::Inline(own))
    }
}

/// Appends the commit of a snapshot whose entries of `/` are `root`.
pub(super) fn append_snapshot(
    repository: &Repository,
    keys: &Keys,
    root: Stream,
    segments: Vec<ObjectHash>,
    own_packs: HashList,
) -> Result<SnapshotId> {
    let inner = &repository.0;
    let body = SnapshotBody {
        nonce: crate::entropy::random(&SystemEntropy)?,
        time: Timestamp::default(),
        finished: Timestamp::default(),
        host: "hostile".to_owned(),
        paths: vec![b"/".to_vec()],
        tags: Vec::new(),
        program: "forger".to_owned(),
        parent: None,
        partial: false,
        root,
        totals: crate::snapshot::Totals::default(),
        problems: 0,
        problem_list: Stream::default(),
    }
    .encode();
    let id = crate::repository::snapshot_id(inner, &body);
    let record = SnapshotRecord {
        id,
        partial: false,
        body: SnapshotPlace::Inline(keys.seal(Single::Snapshot, 0, &body)?),
    };
    let commit = crate::format::log::Commit {
        snapshot: Some(record),
        segments,
        inline_segments: Vec::new(),
        own_packs,
        dedup_packs: HashList::default(),
        reused: Vec::new(),
    };
    let mut log = lock(&inner.log);
    let appender = Appender { ring: &keys.0, entropy: &SystemEntropy, ..inner.appender(Behind::Entry) };
    append(&mut log, appender, &mut |_| Ok(Event::Commit(commit.clone())))?;
    Ok(id)
}

/// Adds chunks that nobody has to a segment, 64 to a frame, 30,000 frames to a pack.
fn invent(segment: &mut Segment, chunks: u32) {
    use crate::format::pack::FrameShape;
    use crate::format::segment::{ChunkRecord, FrameRecord, SegmentPack};
    const STORED_BYTES: u32 = 1000;
    for number in 0..chunks {
        let id = *blake3::hash(&number.to_le_bytes()).as_bytes();
        let (frame, place) = (number / 64, number % 64);
        if frame % 30_000 == 0 && place == 0 {
            let (class, hash) = (PackClass::Data, ObjectHash::from_bytes(id));
            segment.packs.push(SegmentPack { class, hash, bytes: 32 << 20 });
        }
        if place == 0 {
            segment.frames.push(FrameRecord {
                pack: segment.packs.len() as u32 - 1,
                offset: 98 + frame % 30_000 * STORED_BYTES,
                header: 0,
                shape: FrameShape {
                    number: frame % 30_000,
                    raw_bytes: 1 << 20,
                    stored_bytes: STORED_BYTES,
                    codec: Codec::Zstd,
                },
            });
        }
        let record = ChunkRecord {
            id: ChunkId::from_bytes(id),
            frame: segment.frames.len() as u32 - 1,
            offset: place * 1000,
            bytes: 1000,
        };
        segment.chunks.push(record);
    }
    segment.chunks.sort_by_key(|record| record.id);
}
