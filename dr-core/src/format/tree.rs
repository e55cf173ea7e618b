//! Tree chunks: a run of a directory's entries, or a run of a stream's references.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::body;
use super::{FormatError, invalid};
use crate::limits::{
    CHUNK_BYTES_MAX, LINK_TARGET_BYTES_MAX, NAME_BYTES_MAX, STREAM_LEVELS_MAX, STREAM_REFS_MAX,
    TREE_CHUNK_BYTES_MAX, TREE_CHUNK_ENTRIES_MAX, XATTR_BYTES_MAX, XATTRS_BYTES_MAX,
};
use crate::time::Timestamp;
use crate::tree::{ChunkRef, Entry, EntryKind, Extent, SparseMap, Stream};

const WHAT: &str = "a directory";

/// A number and the name that the system had for it.
type Named = (u32, Arc<str>);

#[derive(Serialize)]
struct EntriesToStore<'a> {
    users: &'a [(u32, &'a str)],
    groups: &'a [(u32, &'a str)],
    entries: &'a [Entry],
}

#[derive(Deserialize)]
struct StoredEntries {
    users: Vec<(u32, String)>,
    groups: Vec<(u32, String)>,
    entries: Vec<Entry>,
}

/// Encodes a run of entries, in ascending order of name.
pub(crate) fn encode_entries(entries: &[Entry]) -> Vec<u8> {
    let (mut users, mut groups) = (Vec::new(), Vec::new());
    for metadata in entries.iter().map(|entry| &entry.metadata) {
        note(&mut users, metadata.uid, metadata.user.as_deref());
        note(&mut groups, metadata.gid, metadata.group.as_deref());
    }
    body::encode(&EntriesToStore { users: &users, groups: &groups, entries })
}

fn note<'a>(names: &mut Vec<(u32, &'a str)>, number: u32, name: Option<&'a str>) {
    if let Some(name) = name
        && let Err(place) = names.binary_search_by_key(&number, |(known, _)| *known)
    {
        names.insert(place, (number, name));
    }
}

/// Decodes a run of entries, and checks every one.
pub(crate) fn decode_entries(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    decode_entries_body(bytes).map(|(entries, _)| entries)
}

/// Decodes entries for who writes or collects by them: an extension that must be understood is refused.
pub(crate) fn decode_known_entries(bytes: &[u8]) -> Result<Vec<Entry>, FormatError> {
    match decode_entries_body(bytes)? {
        (entries, false) => Ok(entries),
        (_, true) => Err(FormatError::Unsupported { what: WHAT, version: 1 }),
    }
}

fn decode_entries_body(bytes: &[u8]) -> Result<(Vec<Entry>, bool), FormatError> {
    if bytes.len() > TREE_CHUNK_BYTES_MAX as usize {
        return Err(FormatError::TooLarge { what: WHAT });
    }
    let body = body::decode::<StoredEntries>(WHAT, bytes)?;
    let (stored, read_only) = (body.value, body.read_only);
    let users: Vec<Named> = share(stored.users);
    let groups: Vec<Named> = share(stored.groups);
    if !users.is_sorted_by_key(|(number, _)| *number) || !groups.is_sorted_by_key(|(number, _)| *number) {
        return Err(invalid(WHAT, "its owners are not sorted"));
    }
    let mut entries = stored.entries;
    if entries.len() > TREE_CHUNK_ENTRIES_MAX {
        return Err(FormatError::TooLarge { what: WHAT });
    }
    for entry in &mut entries {
        entry.metadata.user = lookup(&users, entry.metadata.uid);
        entry.metadata.group = lookup(&groups, entry.metadata.gid);
        check_entry(entry)?;
    }
    if !entries.is_sorted_by(|a, b| a.name < b.name) {
        return Err(invalid(WHAT, "its names are not sorted"));
    }
    Ok((entries, read_only))
}

fn share(names: Vec<(u32, String)>) -> Vec<Named> {
    names.into_iter().map(|(number, name)| (number, name.into())).collect()
}

fn lookup(names: &[Named], number: u32) -> Option<Arc<str>> {
    let place = names.binary_search_by_key(&number, |(known, _)| *known).ok()?;
    Some(names[place].1.clone())
}

/// Whether `name` can be the name of an entry.
pub(crate) fn is_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= NAME_BYTES_MAX
        && name != b"."
        && name != b".."
        && !name.iter().any(|byte| matches!(byte, b'/' | 0))
}

/// Whether `target` can be the target of a symbolic link.
pub(super) fn is_target(target: &[u8]) -> bool {
    (1..=LINK_TARGET_BYTES_MAX).contains(&target.len()) && !target.contains(&0)
}

/// Whether `name` can be the name of an extended attribute.
pub(super) fn is_attribute(name: &[u8]) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(&0)
}

/// Checks an entry that was read, or is to be written.
pub(crate) fn check_entry(entry: &Entry) -> Result<(), FormatError> {
    if !is_name(&entry.name) {
        return Err(invalid(WHAT, "an entry's name is not valid"));
    }
    match &entry.kind {
        EntryKind::File(content) => {
            check_stream(&content.stream)?;
            check_sparse(content.bytes, &content.stream, content.sparse.as_ref())?;
        }
        EntryKind::Directory(stream) => check_stream(stream)?,
        EntryKind::Symlink(target) if !is_target(target) => {
            return Err(invalid(WHAT, "a symbolic link's target is not valid"));
        }
        _ => {}
    }
    let metadata = &entry.metadata;
    if metadata.mode > 0o7777 {
        return Err(invalid(WHAT, "an entry's mode is not valid"));
    }
    let times = [Some(metadata.modified), Some(metadata.changed), metadata.created, metadata.accessed];
    if times.into_iter().flatten().any(|time: Timestamp| time.nanoseconds >= 1_000_000_000) {
        return Err(invalid(WHAT, "a time has more than a second of nanoseconds"));
    }
    let mut bytes = 0;
    for xattr in &metadata.xattrs {
        bytes += xattr.name.len() + xattr.value.len();
        if !is_attribute(&xattr.name) || xattr.value.len() > XATTR_BYTES_MAX || bytes > XATTRS_BYTES_MAX {
            return Err(invalid(WHAT, "an extended attribute is not valid"));
        }
    }
    Ok(())
}

fn check_sparse(bytes: u64, stream: &Stream, sparse: Option<&SparseMap>) -> Result<(), FormatError> {
    match sparse {
        None if stream.bytes != bytes => Err(invalid(WHAT, "a file is not as long as its content")),
        None => Ok(()),
        Some(SparseMap::Inline(extents)) => check_extents(extents, stream.bytes, bytes),
        Some(SparseMap::Stream(extents)) => check_stream(extents),
    }
}

/// Checks that extents are in order, inside a file of `file_bytes`, and together `data_bytes` long.
pub(crate) fn check_extents(extents: &[Extent], data_bytes: u64, file_bytes: u64) -> Result<(), FormatError> {
    let (mut end, mut total) = (0u64, 0u64);
    for extent in extents {
        let next = extent.offset.checked_add(extent.bytes);
        let Some(next) = next.filter(|next| extent.offset >= end && extent.bytes > 0 && *next <= file_bytes)
        else {
            return Err(invalid("a sparse file", "its extents are not in order"));
        };
        end = next;
        total += extent.bytes;
    }
    if total == data_bytes {
        Ok(())
    } else {
        Err(invalid("a sparse file", "its extents do not hold its data"))
    }
}

/// Encodes a list of extents for a [`SparseMap::Stream`].
pub(crate) fn encode_extents(extents: &[Extent]) -> Vec<u8> {
    extents
        .iter()
        .flat_map(|extent| [extent.offset.to_le_bytes(), extent.bytes.to_le_bytes()])
        .flatten()
        .collect()
}

/// Decodes a list of extents.
pub(crate) fn decode_extents(bytes: &[u8]) -> Result<Vec<Extent>, FormatError> {
    let (records, rest) = bytes.as_chunks::<16>();
    if !rest.is_empty() {
        return Err(FormatError::Truncated { what: "a sparse file's map" });
    }
    let number = |bytes: &[u8]| u64::from_le_bytes(*bytes.first_chunk().expect("half a record is 8 bytes"));
    Ok(records
        .iter()
        .map(|record| Extent { offset: number(&record[..8]), bytes: number(&record[8..]) })
        .collect())
}

pub(crate) fn check_stream(stream: &Stream) -> Result<(), FormatError> {
    const WHAT: &str = "a stream";
    if stream.level > STREAM_LEVELS_MAX || stream.chunks.len() > STREAM_REFS_MAX {
        return Err(FormatError::TooLarge { what: WHAT });
    }
    check_refs(&stream.chunks)?;
    let total: u64 = stream.chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
    if stream.level == 0 && total != stream.bytes {
        return Err(invalid(WHAT, "its chunks are not as long as it is"));
    }
    Ok(())
}

fn check_refs(refs: &[ChunkRef]) -> Result<(), FormatError> {
    if refs.iter().any(|chunk| chunk.bytes > CHUNK_BYTES_MAX) {
        return Err(FormatError::TooLarge { what: "a chunk" });
    }
    if refs.iter().any(|chunk| chunk.bytes == 0) {
        return Err(invalid("a stream", "it has a chunk of no bytes"));
    }
    Ok(())
}

/// Encodes a run of references.
pub(crate) fn encode_refs(refs: &[ChunkRef]) -> Vec<u8> {
    body::encode(&refs)
}

/// Decodes a run of references.
pub(crate) fn decode_refs(bytes: &[u8]) -> Result<Vec<ChunkRef>, FormatError> {
    decode_refs_body(bytes).map(|(refs, _)| refs)
}

/// Refuses a list with an extension that must be understood by who writes or collects by it.
pub(crate) fn check_known_refs(bytes: &[u8]) -> Result<(), FormatError> {
    decode_known_refs(bytes).map(drop)
}

/// Decodes a run of references for who writes or collects by them: an extension that must be understood is refused.
pub(crate) fn decode_known_refs(bytes: &[u8]) -> Result<Vec<ChunkRef>, FormatError> {
    match decode_refs_body(bytes)? {
        (refs, false) => Ok(refs),
        (_, true) => Err(FormatError::Unsupported { what: "a list of chunks", version: 1 }),
    }
}

fn decode_refs_body(bytes: &[u8]) -> Result<(Vec<ChunkRef>, bool), FormatError> {
    let body = body::decode::<Vec<ChunkRef>>("a list of chunks", bytes)?;
    let refs = body.value;
    check_refs(&refs)?;
    if refs.is_empty() {
        return Err(invalid("a list of chunks", "it is empty"));
    }
    Ok((refs, body.read_only))
}
