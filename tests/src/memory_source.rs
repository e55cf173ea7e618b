//! A source that exists only in memory, for trees that no file system would hold or that misbehave on purpose.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dr_core::{
    Entry, EntryKind, Extent, FileContent, Metadata, Source, SourceDirectory, SourceFile, SourceItem, Stream,
    Timestamp, Xattr,
};

/// A source of one directory of files.
#[derive(Debug, Default)]
pub struct MemorySource {
    /// The files by name.
    pub files: BTreeMap<String, MemoryFile>,
    /// What the snapshot is told was asked for.
    pub paths: Vec<PathBuf>,
    /// The attributes of the symbolic link `link`, which is there where this is set.
    pub link_xattrs: Option<Vec<Xattr>>,
    /// Whether all but the first attribute of the link and of each file cannot be read.
    pub hides_xattrs: Arc<AtomicBool>,
    /// Panics when it is listed.
    pub panics: bool,
    /// What happens before each read of a file's bytes.
    pub before_read: BeforeRead,
}

/// Takes the place in the file that is about to be read.
#[derive(Clone, Default)]
pub struct BeforeRead(pub Option<Arc<dyn Fn(u64) + Send + Sync>>);

impl fmt::Debug for BeforeRead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("BeforeRead").field(&self.0.is_some()).finish()
    }
}

/// A file in memory.
#[derive(Debug, Clone, Default)]
pub struct MemoryFile {
    /// The content.
    pub bytes: Vec<u8>,
    /// The extended attributes.
    pub xattrs: Vec<Xattr>,
    /// When it was modified and changed, in nanoseconds since 1970; nothing for long ago.
    pub changed: Option<i128>,
}

#[derive(Debug)]
struct Root(Arc<MemorySource>);

#[derive(Debug)]
struct OpenFile {
    source: Arc<MemorySource>,
    name: String,
    file: MemoryFile,
}

/// The source as the engine takes it.
#[derive(Debug, Clone)]
pub struct SharedSource(pub Arc<MemorySource>);

impl Source for SharedSource {
    fn paths(&self) -> Vec<PathBuf> {
        self.0.paths.clone()
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Root(self.0.clone())))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

impl MemorySource {
    /// Adds to an entry what can be read of its attributes.
    fn complete(&self, entry: &mut Entry, xattrs: &[Xattr]) -> io::Result<()> {
        entry.metadata.xattrs = xattrs.to_vec();
        if self.hides_xattrs.load(Ordering::Relaxed) && xattrs.len() > 1 {
            entry.metadata.xattrs.truncate(1);
            return Err(io::Error::other("an attribute cannot be read now"));
        }
        Ok(())
    }
}

fn metadata() -> Metadata {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links) = (0o644, 1);
    metadata.modified.seconds = 1_000_000_000;
    metadata.changed.nanoseconds = 5;
    metadata
}

fn file_entry(name: &str, file: &MemoryFile) -> Entry {
    let content = FileContent::new(file.bytes.len() as u64, Stream::default(), None);
    let mut metadata = metadata();
    if let Some(changed) = file.changed {
        metadata.changed = Timestamp::from_nanoseconds(changed);
        metadata.modified = metadata.changed;
    }
    Entry::new(name, EntryKind::File(content), metadata)
}

impl SourceDirectory for Root {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        assert!(!self.0.panics, "this source panics when it is listed");
        let mut items: Vec<SourceItem> = self
            .0
            .files
            .iter()
            .map(|(name, file)| SourceItem {
                name: name.as_bytes().to_vec(),
                entry: Ok(file_entry(name, file)),
            })
            .collect();
        if self.0.link_xattrs.is_some() {
            let link = Entry::new("~link", EntryKind::Symlink(Vec::new()), metadata());
            items.push(SourceItem { name: link.name.clone(), entry: Ok(link) });
        }
        Ok(items)
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        entry.kind = EntryKind::Symlink(b"target".to_vec());
        self.0.complete(entry, self.0.link_xattrs.as_deref().unwrap_or_default())
    }

    fn open_directory(&self, _name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        let name = std::str::from_utf8(name).map_err(io::Error::other)?;
        let file = self.0.files.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(OpenFile { source: self.0.clone(), name: name.to_owned(), file: file.clone() }))
    }
}

impl SourceFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        if let Some(before) = &self.source.before_read.0 {
            before(offset);
        }
        let rest = self.file.bytes.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn entry(&self) -> io::Result<Entry> {
        Ok(file_entry(&self.name, &self.file))
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        self.source.complete(entry, &self.file.xattrs)
    }

    fn extents(&self, _bytes: u64) -> io::Result<Option<Vec<Extent>>> {
        Ok(None)
    }
}
