//! Every bound of the format, checked before anything is allocated. `docs/FORMAT.md` states them too.

/// The longest chunk, in bytes.
pub(crate) const CHUNK_BYTES_MAX: u32 = 16 << 20;
/// The longest raw frame, in bytes: no longer than the longest chunk, so that any chunk can be a frame of its own.
pub(crate) const FRAME_BYTES_MAX: u32 = CHUNK_BYTES_MAX;
/// The largest pack a reader accepts, in bytes.
pub(crate) const PACK_BYTES_MAX: u64 = 256 << 20;
/// The most chunks in a pack.
pub(crate) const PACK_CHUNKS_MAX: u32 = 65_536;
/// The largest footer of a pack, raw, in bytes.
pub(crate) const PACK_FOOTER_BYTES_MAX: u32 = 8 << 20;
/// The most headers of other packs that a pack's verbatim frames may need.
pub(crate) const PACK_FOREIGN_HEADERS_MAX: usize = 4096;
/// The largest index segment, in bytes.
pub(crate) const SEGMENT_BYTES_MAX: u64 = 256 << 20;
/// The most chunks in an index segment.
pub(crate) const SEGMENT_CHUNKS_MAX: u32 = 4 << 20;
/// The largest body of a log slot, in bytes.
pub(crate) const SLOT_BYTES_MAX: usize = 64 << 10;
/// The largest sealed slot: body, header, padding.
pub(crate) const SEALED_SLOT_BYTES_MAX: u64 = 128 << 10;
/// The largest list object or checkpoint, in bytes.
pub(crate) const LIST_BYTES_MAX: usize = 64 << 20;
/// The most hashes in a list object: with its encoding they stay below its largest length.
pub(crate) const LIST_HASHES_MAX: usize = 1 << 20;
/// The largest snapshot body, in bytes.
pub(crate) const SNAPSHOT_BYTES_MAX: usize = 1 << 20;
/// The most snapshots that one says it was made of.
pub(crate) const ORIGINS_MAX: usize = 64;
/// The largest tree chunk, in bytes: a writer ends one at 256 KiB and an entry, which holds 1 MiB of attributes at most.
pub(crate) const TREE_CHUNK_BYTES_MAX: u32 = 4 << 20;
/// The most entries in a tree chunk: a writer counts at least 64 bytes for each and ends a chunk at 256 KiB.
pub(crate) const TREE_CHUNK_ENTRIES_MAX: usize = 4096;
/// The most entries that a walk holds decoded, over all levels.
pub(crate) const WALK_ENTRIES_MAX: usize = 1 << 19;
/// The longest name of an entry, in bytes.
pub(crate) const NAME_BYTES_MAX: usize = 255;
/// The longest target of a symbolic link, in bytes.
pub(crate) const LINK_TARGET_BYTES_MAX: usize = 4096;
/// The longest path of a directory that is backed up, in bytes: each level being listed holds its own.
pub(crate) const PATH_BYTES_MAX: usize = 32 << 10;
/// The deepest nesting of directories.
pub(crate) const DEPTH_MAX: usize = 4096;
/// The largest extended attribute, in bytes (the kernel's own limit).
pub(crate) const XATTR_BYTES_MAX: usize = 64 << 10;
/// The most bytes of extended attributes of one entry.
pub(crate) const XATTRS_BYTES_MAX: usize = 1 << 20;
/// The most levels of lists above a stream's bytes.
pub(crate) const STREAM_LEVELS_MAX: u8 = 8;
/// The most references a stream holds outside of its chunks.
pub(crate) const STREAM_REFS_MAX: usize = 4096;
/// The most problems that a report holds; a snapshot lists all of its own.
pub(crate) const REPORTED_PROBLEMS_MAX: usize = 1000;
/// The nodes of one store may tell times that differ by so much, or by a twentieth of a short hold: what is younger by less
/// counts as of the same time.
pub(crate) const CLOCKS_DIFFER_MS: i64 = 15 * 60 * 1000;
/// The most key slots of a repository.
pub(crate) const KEY_SLOTS_MAX: usize = 64;
/// The largest key slot, in bytes.
pub(crate) const KEY_SLOT_BYTES_MAX: usize = 16 << 10;
/// The largest key ring, in bytes.
pub(crate) const RING_BYTES_MAX: usize = 4 << 20;
/// The longest variable part of a header, in bytes.
pub(crate) const HEADER_AUX_BYTES_MAX: usize = 16 << 10;
/// What a reader lets a key slot cost: KiB of memory, passes and lanes.
pub(crate) const KDF_MEMORY_KIB_MAX: u32 = 4 << 20;
pub(crate) const KDF_PASSES_MAX: u32 = 64;
pub(crate) const KDF_LANES_MAX: u32 = 16;
/// What a writer never goes below.
pub(crate) const KDF_MEMORY_KIB_MIN: u32 = 64 << 10;
pub(crate) const KDF_PASSES_MIN: u32 = 3;
/// The longest label of a key slot, in bytes.
pub(crate) const LABEL_BYTES_MAX: usize = 128;

/// The longest hold that counts, in seconds: ten years. A longer one, which could not be taken back for as long, is cut.
pub(crate) const HOLD_SECONDS_MAX: u64 = 3660 * 24 * 3600;

const _: () = assert!(PACK_FOOTER_BYTES_MAX as u64 <= PACK_BYTES_MAX);
const _: () = assert!(LIST_HASHES_MAX * 33 < LIST_BYTES_MAX);
const _: () = assert!(XATTR_BYTES_MAX <= XATTRS_BYTES_MAX);
const _: () = assert!(XATTRS_BYTES_MAX * 4 <= TREE_CHUNK_BYTES_MAX as usize);
const _: () = assert!(KEY_SLOTS_MAX * 80 + 32 < HEADER_AUX_BYTES_MAX);
