//! The codecs of stored bytes, opened to fuzz targets, format vectors and tests of hostile repositories. Compiled only
//! with the feature `internals`; no part of the supported interface.

mod archive;
mod decode;
mod forge;
pub mod protocol;
pub mod scale;
mod text;

use dr_store::PutMode;

pub use crate::chunker::Scan;
use crate::chunker::{Chunker, check_params};
use crate::crypto::{Cipher, Credentials, KdfStrength, Kek, KeyRing, ObjectKey, Secret};
use crate::entropy::SystemEntropy;
use crate::error::{Error, Result};
use crate::format::body;
use crate::format::checkpoint::{CheckpointBody, CheckpointSegment};
use crate::format::config::{Config, LogMode};
use crate::format::envelope::{COMMIT_BYTES, Header, ObjectType, PackClass};
use crate::format::key_slot::{Derivation, KeySlot};
use crate::format::log::{
    Event, HashList, LogEntry, SnapshotPlace, SnapshotRecord, decode_list, encode_list,
};
use crate::format::names;
use crate::format::pack::{Codec, FOOTER_NUMBER, TRAILER_NUMBER, Trailer};
use crate::format::padding;
use crate::format::ring::{ChunkerParams, RingBody, RingKey, Wraps};
use crate::format::segment::Segment;
use crate::format::snapshot::{Origin, SnapshotBody, origins_of};
use crate::format::tree::{
    check_extents, decode_entries, decode_extents, decode_refs, encode_entries, encode_extents, encode_refs,
};
use crate::frame::{Compression, Compressor, Frame};
use crate::id::{ChunkId, ObjectHash, SnapshotId};
use crate::index::Table;
use crate::log::{Appender, Behind, Log, append};
use crate::observer::lock;
use crate::pack::{CopiedFrame, PackBlocks, PackBuilder, PackEntry, Verify};
use crate::repository::Repository;
use crate::time::Timestamp;
use crate::tree::{ChunkRef, Entry, EntryKind, Extent, FileContent, SparseMap, Stream};

pub use archive::{ArchiveMember, read_archive};
pub use decode::{Decoded, Kind, decode};
pub use forge::Forger;
use text::{Text, join, join_extents, join_refs};

/// What a value holds, as names and texts: bytes in hexadecimal, numbers in decimal.
pub type Fields = Vec<(String, String)>;

/// Whether extents describe a file of so many bytes that holds so much data.
pub fn extents_fit(extents: &[Extent], data_bytes: u64, file_bytes: u64) -> bool {
    check_extents(extents, data_bytes, file_bytes).is_ok()
}

/// Encodes a run of entries, whatever they say.
pub fn encode_directory(entries: &[Entry]) -> Vec<u8> {
    encode_entries(entries)
}

/// Whether a run of entries is refused, and else refers to the same, whether its entries are built or skimmed.
pub fn skims_alike(run: &[u8]) -> bool {
    crate::format::skim::skims_alike(run)
}

/// Encodes a run of references, whatever they say.
pub fn encode_references(refs: &[ChunkRef]) -> Vec<u8> {
    encode_refs(refs)
}

/// Encodings of sample values: what a body is made of.
pub fn samples() -> Fields {
    let mut text = Text::default();
    macro_rules! samples {
        ($($name:literal: $value:expr,)*) => {$({
            let mut bytes = Vec::new();
            body::encode_plain(&$value, &mut bytes);
            text.hex($name, &bytes);
        })*};
    }
    samples! {
        "u8 0": 0u8, "u8 255": 255u8, "bool false": false, "bool true": true,
        "u16 250": 250u16, "u16 251": 251u16, "u16 65535": 65_535u16,
        "u32 250": 250u32, "u32 251": 251u32, "u32 65535": 65_535u32, "u32 65536": 65_536u32,
        "u32 4294967295": u32::MAX,
        "u64 250": 250u64, "u64 65536": 65_536u64, "u64 4294967296": 1u64 << 32,
        "u64 18446744073709551615": u64::MAX,
        "i64 0": 0i64, "i64 -1": -1i64, "i64 1": 1i64, "i64 -126": -126i64, "i64 1700000000": 1_700_000_000i64,
        "i64 -9223372036854775808": i64::MIN,
        "none": None::<u32>, "some u32 7": Some(7u32), "some some none": Some(Some(None::<u8>)),
        "bytes 0102": vec![1u8, 2], "list of u32 1, 300": vec![1u32, 300], "text dr": "dr",
        "32 bytes of ff": [255u8; 32], "id of 32 bytes of ff": ChunkId::from_bytes([255; 32]),
        "u8 1, u32 300": (1u8, 300u32),
        "variant 5 without fields": EntryKind::Fifo,
        "variant 2, bytes 61": EntryKind::Symlink(vec![0x61]),
        "time 1, 2": Timestamp { seconds: 1, nanoseconds: 2 },
    }
    text.0
}

/// Decodes sample values; gives how they are written.
pub fn decode_sample(kind: &str, bytes: &[u8]) -> Result<String> {
    const WHAT: &str = "a sample";
    Ok(match kind {
        "bool" => body::decode_plain::<bool>(WHAT, bytes)?.to_string(),
        "u16" => body::decode_plain::<u16>(WHAT, bytes)?.to_string(),
        "u32" => body::decode_plain::<u32>(WHAT, bytes)?.to_string(),
        "u64" => body::decode_plain::<u64>(WHAT, bytes)?.to_string(),
        "i64" => body::decode_plain::<i64>(WHAT, bytes)?.to_string(),
        "option of u32" => format!("{:?}", body::decode_plain::<Option<u32>>(WHAT, bytes)?),
        "list of u64" => format!("{:?}", body::decode_plain::<Vec<u64>>(WHAT, bytes)?),
        "text" => body::decode_plain::<String>(WHAT, bytes)?,
        "id" => body::decode_plain::<ChunkId>(WHAT, bytes)?.to_string(),
        _ => return Err(Error::corrupt("there is no such sample")),
    })
}

/// The padded length of a single object, and of a pack.
pub fn padded(bytes: u64) -> (u64, u64) {
    (padding::padme(bytes), padding::pack(bytes))
}

/// The name of a slot.
pub fn slot_name(slot: u64) -> dr_store::Name {
    names::slot(slot)
}

/// Decompresses a frame.
pub fn decompress(is_zstd: bool, bytes: &[u8], raw_bytes: u32) -> Result<Vec<u8>> {
    let mut raw = Vec::new();
    let codec = if is_zstd { Codec::Zstd } else { Codec::Raw };
    crate::frame::decompress_into(codec, bytes, raw_bytes, &mut raw).map(|()| raw)
}

/// How a stream is cut.
#[derive(Debug, Clone, Copy)]
#[expect(missing_docs, reason = "as in FORMAT.md")]
pub struct Params {
    pub min_bytes: u32,
    pub average_bytes: u32,
    pub max_bytes: u32,
    pub normalisation: u8,
}

impl Params {
    /// The parameters of new repositories.
    pub const DEFAULT: Params =
        Params { min_bytes: 128 << 10, average_bytes: 512 << 10, max_bytes: 2 << 20, normalisation: 2 };

    fn stored(self) -> ChunkerParams {
        let Params { min_bytes, average_bytes, max_bytes, normalisation } = self;
        ChunkerParams { algorithm: 1, min_bytes, average_bytes, max_bytes, normalisation }
    }
}

/// Gives the length of the first chunk of what it is given, found as fast as the machine can.
pub fn cutter(key: &[u8; 32], params: Params) -> Result<impl Fn(&[u8]) -> usize> {
    cutter_that(key, params, Scan::fastest())
}

/// The same, found in one of the ways that the machine can.
pub fn cutter_that(key: &[u8; 32], params: Params, scan: Scan) -> Result<impl Fn(&[u8]) -> usize> {
    let params = params.stored();
    check_params(&params)?;
    let chunker = Chunker::from_key(key, params).with_scan(scan);
    Ok(move |source: &[u8]| chunker.cut(source))
}

/// What a log stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "named as in PROTOCOL.md")]
pub struct Folded {
    pub next: u64,
    pub live: Vec<SnapshotId>,
    pub uncollected: Vec<SnapshotId>,
    pub segments: Vec<ObjectHash>,
    pub condemned: Vec<ObjectHash>,
    pub writable: bool,
}

/// Folds entries that decode; `lists` gives the hashes of a list object.
pub fn fold(entries: &[Vec<u8>], lists: &dyn Fn(&ObjectHash) -> Result<Vec<ObjectHash>>) -> Result<Folded> {
    let mut log = Log::default();
    for entry in entries.iter().filter_map(|bytes| LogEntry::decode(bytes).ok()) {
        log.fold.apply(&entry, &mut |list| lists(list))?;
    }
    let mut condemned: Vec<ObjectHash> = log.fold.condemned().keys().copied().collect();
    condemned.sort_unstable();
    Ok(Folded {
        next: log.fold.next,
        live: log.fold.live_snapshots().map(|state| state.record.id).collect(),
        uncollected: log.fold.uncollected_snapshots().map(|state| state.record.id).collect(),
        segments: log.fold.segments().iter().map(|segment| *segment.hash()).collect(),
        condemned,
        writable: log.fold.check_writable().is_ok(),
    })
}

/// Writes a checkpoint of the log as it is now, and names it in the log.
pub fn write_checkpoint(repository: &Repository) -> Result<()> {
    repository.0.try_store_checkpoint(&mut lock(&repository.0.log))
}

/// The checkpoint of the log that a checkpoint stands for; none where that may not be gone on with.
pub fn refold(checkpoint: &[u8]) -> Result<Option<Vec<u8>>> {
    let log = Log::from_checkpoint(CheckpointBody::decode(checkpoint)?);
    Ok(log.to_checkpoint().map(|body| body.encode()))
}

/// How many places each id has in a table of the index.
pub fn look_up(table: Vec<u8>, ids: &[ChunkId]) -> Result<Vec<usize>> {
    let table = Table::from_bytes(table)?;
    table.records().for_each(|record| drop(table.locate(&record)));
    Ok(ids.iter().map(|id| table.lookup(id).count().max(table.packs_of(id).count())).collect())
}

/// A class of packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in FORMAT.md")]
pub enum Class {
    Data,
    Tree,
}

impl Class {
    fn pack(self) -> PackClass {
        match self {
            Class::Data => PackClass::Data,
            Class::Tree => PackClass::Tree,
        }
    }
}

/// A sealed object of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as in FORMAT.md")]
pub enum Single {
    Slot,
    List,
    Snapshot,
    Checkpoint,
}

impl Single {
    fn object(self) -> ObjectType {
        match self {
            Single::Slot => ObjectType::Slot,
            Single::List => ObjectType::List,
            Single::Snapshot => ObjectType::Snapshot,
            Single::Checkpoint => ObjectType::Checkpoint,
        }
    }
}

/// A frame as it is to be stored, true or not.
#[derive(Debug, Clone)]
pub struct ForgedFrame {
    /// Whether it says that it is compressed.
    pub is_zstd: bool,
    /// The raw length that it claims.
    pub raw_bytes: u32,
    /// Its bytes before sealing.
    pub bytes: Vec<u8>,
    /// The chunks that it claims.
    pub chunks: Vec<(ChunkId, u32)>,
}

/// The keys of a repository.
#[derive(Debug, Clone)]
pub struct Keys(KeyRing);

impl Keys {
    /// The keys of an open repository.
    pub fn of(repository: &Repository) -> Keys {
        Keys(repository.0.ring.clone())
    }

    /// Keys of one epoch and one domain.
    pub fn fixed(repository: [u8; 16], epoch: [u8; 32], domain: [u8; 32], params: Params) -> Keys {
        let keys = vec![
            RingKey::Epoch { epoch: 0, secret: epoch },
            RingKey::Domain { domain: 0, secret: domain, chunker: params.stored() },
        ];
        let ring = RingBody { generation: 0, config: ObjectHash::from_bytes([0; 32]), keys };
        Keys(
            KeyRing::decode(repository, &body::encode(&ring))
                .expect("the parameters are checked by the caller")
                .0,
        )
    }

    /// The same keys, new objects sealed with `cipher`; those of `fixed` are sealed with ChaCha20-Poly1305.
    pub fn sealing_with(mut self, cipher: Cipher) -> Keys {
        self.0.seal_with(cipher.suite());
        self
    }

    /// Opens a sealed key ring with the key of one of its slots; gives the keys and the ring's body.
    pub fn open_ring(slot: &ObjectHash, slot_key: [u8; 32], bytes: &[u8]) -> Result<(Keys, Vec<u8>)> {
        let (header, _) = Header::decode(bytes)?;
        let refused = || Error::corrupt("the key ring is not wrapped for this slot");
        let Wraps { salt, mut wraps } = Wraps::decode(&header.aux)?;
        let wrap = wraps.iter_mut().find(|wrap| wrap.slot == *slot).ok_or_else(refused)?;
        let wrapping = Secret::new(slot_key).derive("dr 2026 v1 ring wrap", &[&salt]);
        let key = ObjectKey::wrapping(&wrapping, slot.as_bytes());
        let opened = key.open(0, key.header_hash(), &mut wrap.sealed_key).ok_or_else(refused)?;
        let secret = Secret::new((*opened).try_into().map_err(|_| refused())?);
        let kek = Kek::from_secret(secret.derive("dr 2026 v1 kek ring", &[&header.repository]));
        let body = crate::crypto::open_object(|_| Ok(kek), ObjectType::Ring, 0, bytes)?;
        Ok((Keys(KeyRing::decode(header.repository, &body)?.0), body))
    }

    /// Everything that is derived from the ring.
    pub fn derived(&self) -> Result<Fields> {
        let mut text = Text::default();
        for (name, object) in [
            ("kek.data", ObjectType::DataPack),
            ("kek.tree", ObjectType::TreePack),
            ("kek.index", ObjectType::Segment),
            ("kek.log", ObjectType::Slot),
        ] {
            text.hex(name, self.0.kek(&self.0.header(object))?.secret().bytes());
        }
        let domain = self.0.domain()?;
        text.hex("id.data", domain.data_ids.bytes());
        text.hex("id.tree", domain.tree_ids.bytes());
        text.hex("chunker", domain.chunker.bytes());
        Ok(text.0)
    }

    /// The commitment to the key that belongs to a header.
    pub fn commitment(&self, header: &[u8]) -> Result<[u8; 32]> {
        let (header, _) = Header::decode(header)?;
        Ok(*ObjectKey::derive(&self.0.kek(&header)?, &header)?.commit())
    }

    /// The id of a chunk.
    pub fn chunk_id(&self, class: Class, chunk: &[u8]) -> Result<ChunkId> {
        let domain = self.0.domain()?;
        Ok(ChunkId::from_bytes(*blake3::keyed_hash(domain.id_key(class.pack()), chunk).as_bytes()))
    }

    /// Seals an object of one message.
    pub fn seal(&self, object: Single, location: u64, body: &[u8]) -> Result<Vec<u8>> {
        let header = self.0.header(object.object());
        crate::crypto::seal_object(&self.0.kek(&header)?, header, location, body, &SystemEntropy)
    }

    /// Opens an object of one message.
    pub fn open(&self, object: Single, location: u64, bytes: &[u8]) -> Result<Vec<u8>> {
        crate::crypto::open_object(|header| self.0.kek(header), object.object(), location, bytes)
    }

    /// Seals frames as a pack.
    pub fn seal_pack(&self, class: Class, frames: Vec<ForgedFrame>) -> Result<Vec<u8>> {
        Ok(self.seal_frames(class, frames, &[])?.1)
    }

    /// Seals frames as a pack, with all frames of other packs behind them as they are.
    pub fn seal_pack_with_copies(
        &self,
        class: Class,
        frames: Vec<ForgedFrame>,
        others: &[Vec<u8>],
    ) -> Result<Vec<u8>> {
        Ok(self.seal_frames(class, frames, others)?.1)
    }

    fn seal_frames(
        &self,
        class: Class,
        frames: Vec<ForgedFrame>,
        others: &[Vec<u8>],
    ) -> Result<(PackEntry, Vec<u8>)> {
        let mut builder = PackBuilder::new(class.pack());
        for ForgedFrame { is_zstd, raw_bytes, bytes, chunks } in frames {
            let codec = if is_zstd { Codec::Zstd } else { Codec::Raw };
            builder.add(Frame::new(codec, raw_bytes, &bytes, chunks), &PackBlocks::default());
        }
        for other in others {
            let opened = crate::pack::open_pack(&self.0, class.pack(), other)?.entry;
            for frame in opened.frames {
                let header = match frame.header {
                    0 => &opened.header,
                    foreign => &opened.foreign[foreign as usize - 1],
                };
                let start = frame.offset as usize;
                builder.add_copy(CopiedFrame {
                    header: header.clone(),
                    shape: frame.shape,
                    sealed: other[start..start + frame.shape.stored_bytes as usize].to_vec(),
                    chunks: frame.chunks,
                });
            }
        }
        let sealed = builder.seal(&self.0, &SystemEntropy, Verify::Nothing, &[0; 32], None)?;
        Ok((sealed.entry, sealed.payload.to_vec()))
    }

    /// Opens a whole pack: what its footer says, and its raw frames.
    pub fn open_pack(&self, class: Class, bytes: &[u8]) -> Result<(Fields, Vec<Vec<u8>>)> {
        let pack = crate::pack::open_pack(&self.0, class.pack(), bytes)?;
        let mut text = Text::default();
        text.put("hash", pack.entry.hash);
        for (number, header) in pack.entry.foreign.iter().enumerate() {
            text.hex(&format!("foreign.{number}"), &header.encode());
        }
        let mut frames = Vec::new();
        for (number, frame) in pack.entry.frames.iter().enumerate() {
            let at = format!("frame.{number}");
            text.put(&format!("{at}.offset"), frame.offset);
            if frame.header > 0 {
                text.put(&format!("{at}.header"), frame.header);
            }
            text.put(&format!("{at}.number"), frame.shape.number);
            text.put(&format!("{at}.raw_bytes"), frame.shape.raw_bytes);
            text.put(&format!("{at}.stored_bytes"), frame.shape.stored_bytes);
            text.put(&format!("{at}.codec"), frame.shape.codec as u8);
            text.put(
                &format!("{at}.chunks"),
                join(frame.chunks.iter().map(|(id, bytes)| format!("{id}:{bytes}"))),
            );
            frames.push(pack.frame(bytes, number)?);
        }
        Ok((text.0, frames))
    }

    /// Seals any bytes as the frames, the footer and (where they are given) the trailer of an unpadded pack.
    pub fn forge_pack(
        &self,
        class: Class,
        frames: &[u8],
        footer: &[u8],
        trailer: Option<[u8; 48]>,
    ) -> Result<Vec<u8>> {
        self.forge(class.pack().object(), |_| frames.to_vec(), footer, trailer)
    }

    /// Seals any bytes as the sections, the footer and (where they are given) the trailer of an index segment.
    pub fn forge_segment(
        &self,
        sections: &[Vec<u8>],
        footer: &[u8],
        trailer: Option<[u8; 48]>,
    ) -> Result<Vec<u8>> {
        let seal = |key: &ObjectKey| {
            sections.iter().enumerate().fold(Vec::new(), |mut sealed, (number, section)| {
                let start = sealed.len();
                sealed.extend_from_slice(section);
                let tag = key.seal(number as u32, key.header_hash(), &mut sealed[start..]);
                sealed.extend_from_slice(&tag);
                sealed
            })
        };
        self.forge(ObjectType::Segment, seal, footer, trailer)
    }

    fn forge(
        &self,
        object: ObjectType,
        middle: impl FnOnce(&ObjectKey) -> Vec<u8>,
        footer: &[u8],
        trailer: Option<[u8; 48]>,
    ) -> Result<Vec<u8>> {
        let header = self.0.header(object);
        let mut bytes = header.encode();
        let key = ObjectKey::derive(&self.0.kek(&header)?, &header)?;
        bytes.extend_from_slice(key.commit());
        bytes.extend(middle(&key));
        let frames_end = bytes.len() as u64;
        let true_trailer =
            Trailer { frames_end, footer_offset: frames_end, footer_bytes: footer.len() as u32 + 16 };
        for (number, text) in
            [(FOOTER_NUMBER, footer), (TRAILER_NUMBER, &trailer.unwrap_or_else(|| true_trailer.encode())[..])]
        {
            let start = bytes.len();
            bytes.extend_from_slice(text);
            let tag = key.seal(number, key.header_hash(), &mut bytes[start..]);
            bytes.extend_from_slice(&tag);
        }
        Ok(bytes)
    }

    /// The unsealed footer of a pack or segment whose trailer is sound.
    pub fn footer_of(&self, bytes: &[u8]) -> Result<Vec<u8>> {
        let short = || Error::corrupt("it is cut short");
        let (header, length) = Header::decode(bytes)?;
        let key = ObjectKey::derive(&self.0.kek(&header)?, &header)?;
        let start =
            bytes.len().checked_sub(64).filter(|start| *start >= length + COMMIT_BYTES).ok_or_else(short)?;
        let mut trailer = bytes[start..].to_vec();
        let trailer = key.open(TRAILER_NUMBER, key.header_hash(), &mut trailer).ok_or_else(short)?;
        let trailer = Trailer::decode(trailer, (length + COMMIT_BYTES) as u64, bytes.len() as u64)?;
        let mut footer = bytes[trailer.footer_offset as usize..start].to_vec();
        Ok(key.open(FOOTER_NUMBER, key.header_hash(), &mut footer).ok_or_else(short)?.to_vec())
    }

    /// Seals the segment that describes a pack of `frames`, which is taken for stored; also gives its table, and the
    /// unsealed sections and footer.
    #[expect(clippy::type_complexity, reason = "only fuzz targets and tests take it apart")]
    pub fn seal_segment(
        &self,
        class: Class,
        frames: Vec<ForgedFrame>,
    ) -> Result<(Vec<u8>, Vec<u8>, Vec<Vec<u8>>, Vec<u8>)> {
        let segment = crate::index::segment_of_packs(&[self.seal_frames(class, frames, &[])?.0]);
        let (object, table) = crate::index::seal_segment(&self.0, &segment, &SystemEntropy)?;
        let parts = segment.encode(filter_of(&segment, &table));
        Ok((object, table, parts.sections, parts.footer))
    }

    /// Opens a segment: what it says, and its table.
    pub fn open_segment(&self, bytes: &[u8]) -> Result<(Fields, Vec<u8>)> {
        let (segment, table) = crate::index::open_segment(|header| self.0.kek(header), bytes)?;
        let mut text = Text::default();
        text.segment(&segment);
        text.hex("filter", &filter_of(&segment, &table));
        Ok((text.0, table))
    }
}

/// The filter's bytes, which stand in a table between the fan-out and the records.
fn filter_of(segment: &Segment, table: &[u8]) -> Vec<u8> {
    let number = |at: usize| {
        table.get(at..at + 4).map_or(0, |bytes| bytes.iter().rev().fold(0, |n, b| n << 8 | usize::from(*b)))
    };
    let start = 64 + ((1 << number(8)) + 1) * 4;
    debug_assert_eq!(number(16), segment.chunks.len());
    table.get(start..start + number(12)).unwrap_or_default().to_vec()
}

/// Makes a key slot; gives its bytes and its key.
pub fn seal_key_slot(
    repository: [u8; 16],
    credentials: &Credentials,
    label: &str,
) -> Result<(Vec<u8>, [u8; 32])> {
    let (slot, key) =
        crate::crypto::new_slot(repository, credentials, KdfStrength::Standard, label, &SystemEntropy)?;
    Ok((slot.encode(), *key.bytes()))
}

/// Opens a key slot; `None` where the credentials are not the slot's.
pub fn open_key_slot(bytes: &[u8], credentials: &Credentials) -> Result<Option<[u8; 32]>> {
    Ok(crate::crypto::open_slot(&KeySlot::decode(bytes)?, credentials)?.map(|key| *key.bytes()))
}
