//! What a run of entries refers to, read without building the entries: a collection looks at nothing else of them, and at
//! every one. Whatever [`decode_known_entries`](super::tree::decode_known_entries) refuses is refused here too.

use super::body::Scanner;
use super::tree::{check_extents, is_attribute, is_name, is_target};
use super::{FormatError, invalid};
use crate::id::ChunkId;
use crate::limits::{
    CHUNK_BYTES_MAX, STREAM_LEVELS_MAX, STREAM_REFS_MAX, TREE_CHUNK_BYTES_MAX, TREE_CHUNK_ENTRIES_MAX,
    XATTR_BYTES_MAX, XATTRS_BYTES_MAX,
};
use crate::tree::{ChunkRef, Extent, Stream};

const WHAT: &str = "a directory";

/// What a stream is to the entry that names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The content of a file.
    Content,
    /// Where the data of a file with holes lies.
    Extents,
    /// The entries of a directory.
    Directory,
}

/// What runs of entries refer to. Used again for the next ones, it allocates nothing.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct References {
    /// The chunks of streams without lists, by role.
    pub(crate) contents: Vec<ChunkRef>,
    pub(crate) extents: Vec<ChunkRef>,
    pub(crate) directories: Vec<ChunkRef>,
    /// Streams whose chunks stand in lists.
    pub(crate) listed: Vec<(Role, Stream)>,
}

impl References {
    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.contents.clear();
        self.extents.clear();
        self.directories.clear();
        self.listed.clear();
    }

    /// How many chunks and streams there are.
    pub(crate) fn count(&self) -> usize {
        self.contents.len() + self.extents.len() + self.directories.len() + self.listed.len()
    }

    /// Adds what a run of entries refers to. An extension that must be understood is refused. After an error, nothing of it
    /// means anything.
    pub(crate) fn skim(&mut self, bytes: &[u8]) -> Result<(), FormatError> {
        if bytes.len() > TREE_CHUNK_BYTES_MAX as usize {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let mut scanner = Scanner::begin(WHAT, bytes)?;
        skim_owners(&mut scanner)?;
        skim_owners(&mut scanner)?;
        let entries = scanner.count()?;
        if entries > TREE_CHUNK_ENTRIES_MAX {
            return Err(FormatError::TooLarge { what: WHAT });
        }
        let mut last: &[u8] = &[];
        for _ in 0..entries {
            let name = scanner.bytes()?;
            if !is_name(name) {
                return Err(invalid(WHAT, "an entry's name is not valid"));
            }
            if name <= last {
                return Err(invalid(WHAT, "its names are not sorted"));
            }
            last = name;
            self.skim_kind(&mut scanner)?;
            skim_metadata(&mut scanner)?;
        }
        if scanner.finish()? { Err(FormatError::Unsupported { what: WHAT, version: 1 }) } else { Ok(()) }
    }

    fn skim_kind(&mut self, scanner: &mut Scanner<'_>) -> Result<(), FormatError> {
        match scanner.u32()? {
            0 => self.skim_file(scanner),
            1 => self.skim_stream(scanner, Role::Directory).map(drop),
            2 if is_target(scanner.bytes()?) => Ok(()),
            2 => Err(invalid(WHAT, "a symbolic link's target is not valid")),
            3 | 4 => scanner.u64().map(drop),
            5 | 6 => Ok(()),
            _ => Err(scanner.failed()),
        }
    }

    fn skim_file(&mut self, scanner: &mut Scanner<'_>) -> Result<(), FormatError> {
        let bytes = scanner.u64()?;
        let stream_bytes = self.skim_stream(scanner, Role::Content)?;
        if !scanner.flag()? {
            let is_whole = stream_bytes == bytes;
            return if is_whole {
                Ok(())
            } else {
                Err(invalid(WHAT, "a file is not as long as its content"))
            };
        }
        match scanner.u32()? {
            0 => {
                let mut extents = Vec::new();
                for _ in 0..scanner.count()? {
                    extents.push(Extent { offset: scanner.u64()?, bytes: scanner.u64()? });
                }
                check_extents(&extents, stream_bytes, bytes)
            }
            1 => self.skim_stream(scanner, Role::Extents).map(drop),
            _ => Err(scanner.failed()),
        }
    }

    /// Takes a stream's references in. Gives its length.
    fn skim_stream(&mut self, scanner: &mut Scanner<'_>, role: Role) -> Result<u64, FormatError> {
        let into = match role {
            Role::Content => &mut self.contents,
            Role::Extents => &mut self.extents,
            Role::Directory => &mut self.directories,
        };
        let bytes = scanner.u64()?;
        let level = scanner.u8()?;
        let count = scanner.count()?;
        if level > STREAM_LEVELS_MAX || count > STREAM_REFS_MAX {
            return Err(FormatError::TooLarge { what: "a stream" });
        }
        let first = into.len();
        let mut total = 0;
        for _ in 0..count {
            let chunk = ChunkRef { id: ChunkId::from_bytes(scanner.array()?), bytes: scanner.u32()? };
            if chunk.bytes > CHUNK_BYTES_MAX {
                return Err(FormatError::TooLarge { what: "a chunk" });
            }
            if chunk.bytes == 0 {
                return Err(invalid("a stream", "it has a chunk of no bytes"));
            }
            total += u64::from(chunk.bytes);
            into.push(chunk);
        }
        if level > 0 {
            let chunks = into.split_off(first);
            self.listed.push((role, Stream { bytes, level, chunks }));
        } else if total != bytes {
            return Err(invalid("a stream", "its chunks are not as long as it is"));
        }
        Ok(bytes)
    }
}

fn skim_owners(scanner: &mut Scanner<'_>) -> Result<(), FormatError> {
    let mut last = 0;
    for _ in 0..scanner.count()? {
        let number = scanner.u32()?;
        if number < last {
            return Err(invalid(WHAT, "its owners are not sorted"));
        }
        last = number;
        if std::str::from_utf8(scanner.bytes()?).is_err() {
            return Err(scanner.failed());
        }
    }
    Ok(())
}

fn skim_metadata(scanner: &mut Scanner<'_>) -> Result<(), FormatError> {
    let mode = scanner.u32()?;
    let _uid = scanner.u32()?;
    let _gid = scanner.u32()?;
    let mut is_time = skim_time(scanner)?;
    is_time &= skim_time(scanner)?;
    for _ in ["created", "accessed"] {
        if scanner.flag()? {
            is_time &= skim_time(scanner)?;
        }
    }
    for _ in ["inode", "device", "links"] {
        scanner.u64()?;
    }
    let _is_racy = scanner.flag()?;
    if mode > 0o7777 {
        return Err(invalid(WHAT, "an entry's mode is not valid"));
    }
    if !is_time {
        return Err(invalid(WHAT, "a time has more than a second of nanoseconds"));
    }
    let mut bytes = 0;
    for _ in 0..scanner.count()? {
        let (name, value) = (scanner.bytes()?, scanner.bytes()?);
        bytes += name.len() + value.len();
        if !is_attribute(name) || value.len() > XATTR_BYTES_MAX || bytes > XATTRS_BYTES_MAX {
            return Err(invalid(WHAT, "an extended attribute is not valid"));
        }
    }
    Ok(())
}

/// Whether a time is one.
fn skim_time(scanner: &mut Scanner<'_>) -> Result<bool, FormatError> {
    let _seconds = scanner.u64()?;
    Ok(scanner.u32()? < 1_000_000_000)
}

/// Whether a run of entries is refused, and else refers to the same, whether its entries are built or skimmed.
#[cfg(any(test, feature = "internals"))]
pub(crate) fn skims_alike(bytes: &[u8]) -> bool {
    use crate::tree::{EntryKind, SparseMap};
    let mut skimmed = References::default();
    let mut built = References::default();
    let mut add = |role, stream: Stream| match role {
        _ if stream.level > 0 => built.listed.push((role, stream)),
        Role::Content => built.contents.extend(stream.chunks),
        Role::Extents => built.extents.extend(stream.chunks),
        Role::Directory => built.directories.extend(stream.chunks),
    };
    match (super::tree::decode_known_entries(bytes), skimmed.skim(bytes)) {
        (Err(one), Err(other)) => {
            // Whoever collects tells what is damaged from what is newer.
            matches!(one, FormatError::Unsupported { .. }) == matches!(other, FormatError::Unsupported { .. })
        }
        (Ok(entries), Ok(())) => {
            for entry in entries {
                match entry.kind {
                    EntryKind::Directory(stream) => add(Role::Directory, stream),
                    EntryKind::File(content) => {
                        add(Role::Content, content.stream);
                        if let Some(SparseMap::Stream(stream)) = content.sparse {
                            add(Role::Extents, stream);
                        }
                    }
                    _ => {}
                }
            }
            built == skimmed
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
