//! The stages of a backup one by one, for benchmarks. No part of the supported interface.

pub use crate::chunker::Scan;
use crate::chunker::{Chunker, DEFAULT_PARAMS};
use crate::crypto::{Cipher, KeyRing};
use crate::entropy::SystemEntropy;
use crate::error::Result;
use crate::format::envelope::{ObjectType, PackClass};
use crate::format::pack::{Codec, FrameShape};
use crate::format::segment::{ChunkRecord, FrameRecord, Segment, SegmentPack};
use crate::format::tree::{decode_entries, encode_entries};
use crate::frame::{Compression, Compressor, Frame};
use crate::id::{ChunkId, ObjectHash};
use crate::index::{Table, encode_segment_table};
use crate::pack::{PackBlocks, PackBuilder, Verify};
use crate::tree::{ChunkRef, Entry, EntryKind, FileContent, Metadata, Stream};

/// The keys of a repository that does not exist.
#[derive(Debug)]
pub struct Stages {
    ring: KeyRing,
    chunker: Chunker,
    ids: [u8; 32],
}

impl Stages {
    /// Draws keys.
    ///
    /// # Errors
    /// `Internal` where there is no randomness.
    pub fn new() -> Result<Stages> {
        let ring = KeyRing::new([1; 16], DEFAULT_PARAMS, &SystemEntropy)?;
        let domain = ring.domain()?;
        let ids = *domain.id_key(PackClass::Data);
        Ok(Stages { chunker: Chunker::new(&domain), ring, ids })
    }

    /// The same keys, packs sealed with another cipher than ChaCha20-Poly1305.
    pub fn with_cipher(mut self, cipher: Cipher) -> Stages {
        self.ring.seal_with(cipher.suite());
        self
    }

    /// The same keys, with cuts found in another way. The machine must be able to.
    pub fn with_scan(self, scan: Scan) -> Stages {
        Stages { chunker: self.chunker.with_scan(scan), ..self }
    }

    /// Cuts bytes into chunks; gives their lengths.
    pub fn chunk(&self, mut bytes: &[u8]) -> Vec<usize> {
        let mut lengths = Vec::new();
        while !bytes.is_empty() {
            let length = self.chunker.cut(bytes);
            lengths.push(length);
            bytes = &bytes[length..];
        }
        lengths
    }

    /// Computes a chunk's id.
    pub fn hash(&self, chunk: &[u8]) -> ChunkId {
        ChunkId::from_bytes(*blake3::keyed_hash(&self.ids, chunk).as_bytes())
    }

    /// Compresses frames of at most 1 MiB; gives the length of the result.
    ///
    /// # Errors
    /// `Internal` where the compressor cannot be set up.
    pub fn compress(&self, compression: Compression, bytes: &[u8]) -> Result<usize> {
        let mut compressor = Compressor::new(compression)?;
        Ok(bytes.chunks(1 << 20).map(|frame| compressor.compress(frame).1.len()).sum())
    }

    /// Seals a pack of raw frames of 1 MiB, with or without opening them again; gives its length.
    ///
    /// # Errors
    /// `Internal` where a frame does not read back.
    pub fn seal(&self, bytes: &[u8], verify_frames: bool) -> Result<u64> {
        let (mut builder, blocks) = (PackBuilder::new(PackClass::Data), PackBlocks::default());
        for raw in bytes.chunks(1 << 20) {
            let chunks = vec![(self.hash(raw), raw.len() as u32)];
            builder.add(Frame::new(Codec::Raw, raw.len() as u32, raw, chunks), &blocks);
        }
        let verify = if verify_frames { Verify::Frames } else { Verify::Nothing };
        Ok(builder.seal(&self.ring, &SystemEntropy, verify, &self.ids, None)?.payload.bytes())
    }

    /// An index of so many chunks whose ids are hashes of their numbers, in memory.
    ///
    /// # Errors
    /// None that can occur.
    pub fn index(&self, chunks: u32) -> Result<BenchIndex> {
        let shape = FrameShape { number: 0, raw_bytes: 1 << 20, stored_bytes: 1 << 19, codec: Codec::Zstd };
        let mut segment = Segment {
            packs: vec![SegmentPack {
                class: PackClass::Data,
                hash: ObjectHash::from_bytes([2; 32]),
                bytes: 32 << 20,
            }],
            headers: vec![self.ring.header(ObjectType::DataPack)],
            frames: vec![FrameRecord { pack: 0, offset: 98, header: 0, shape }],
            ..Segment::default()
        };
        segment.chunks = (0..chunks)
            .map(|number| ChunkRecord { id: numbered(number), frame: 0, offset: 0, bytes: 1 })
            .collect();
        segment.chunks.sort_unstable_by_key(|record| record.id);
        Ok(BenchIndex(Table::from_bytes(encode_segment_table(&segment))?))
    }

    /// A directory of so many files, encoded.
    pub fn encode_tree(&self, entries: &[Entry]) -> Vec<u8> {
        encode_entries(entries)
    }

    /// Decodes a directory.
    ///
    /// # Errors
    /// `Corrupt` where the bytes are no directory.
    pub fn decode_tree(&self, bytes: &[u8]) -> Result<Vec<Entry>> {
        Ok(decode_entries(bytes)?)
    }

    /// Entries like those of a directory of small files.
    pub fn entries(count: u32) -> Vec<Entry> {
        (0..count)
            .map(|number| {
                let chunk = ChunkRef { id: numbered(number), bytes: 4000 };
                let stream = Stream { bytes: 4000, level: 0, chunks: vec![chunk] };
                let mut metadata =
                    Metadata { mode: 0o644, inode: u64::from(number) + 1_000_000, ..Metadata::default() };
                metadata.modified.seconds = 1_700_000_000 + i64::from(number);
                metadata.changed = metadata.modified;
                Entry::new(
                    format!("file{number:08}.rs"),
                    EntryKind::File(FileContent::new(4000, stream, None)),
                    metadata,
                )
            })
            .collect()
    }
}

fn numbered(number: u32) -> ChunkId {
    ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes())
}

/// An index in memory.
#[derive(Debug)]
pub struct BenchIndex(Table);

impl BenchIndex {
    /// Whether chunk `number` is found.
    pub fn holds(&self, number: u32) -> bool {
        self.0.packs_of(&numbered(number)).next().is_some()
    }
}
