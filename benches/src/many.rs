//! A source of very many small files that takes no memory.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use dr_core::{
    Entry, EntryKind, Extent, FileContent, Metadata, Source, SourceDirectory, SourceFile, SourceItem, Stream,
};

const FILES_PER_DIRECTORY: u64 = 100;

/// Files of noise, a hundred to a directory.
#[derive(Debug, Clone, Copy)]
pub struct ManyFiles {
    /// How many.
    pub files: u64,
    /// How long each is.
    pub bytes: usize,
    /// Sources of different seeds have nothing in common.
    pub seed: u64,
}

impl Source for ManyFiles {
    fn paths(&self) -> Vec<PathBuf> {
        vec![PathBuf::from("/many")]
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Directory { source: *self, number: None }))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

#[derive(Debug)]
struct Directory {
    source: ManyFiles,
    /// Which directory of files; none for the root.
    number: Option<u64>,
}

#[derive(Debug)]
struct File {
    source: ManyFiles,
    number: u64,
}

fn number_of(name: &[u8]) -> io::Result<u64> {
    std::str::from_utf8(name).ok().and_then(|name| name.parse().ok()).ok_or(io::ErrorKind::NotFound.into())
}

fn entry(number: u64, kind: EntryKind) -> Entry {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links, metadata.inode) = (0o644, 1, number + 1);
    metadata.modified.seconds = 1_000_000_000;
    Entry::new(format!("{number:012}"), kind, metadata)
}

impl ManyFiles {
    fn file(&self, number: u64) -> Entry {
        let content = FileContent::new(self.bytes as u64, Stream::default(), None);
        entry(number, EntryKind::File(content))
    }
}

impl SourceDirectory for Directory {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let entries: Vec<Entry> = match self.number {
            None => (0..self.source.files.div_ceil(FILES_PER_DIRECTORY))
                .map(|number| entry(number, EntryKind::Directory(Stream::default())))
                .collect(),
            Some(number) => {
                let first = number * FILES_PER_DIRECTORY;
                (first..self.source.files.min(first + FILES_PER_DIRECTORY))
                    .map(|number| self.source.file(number))
                    .collect()
            }
        };
        Ok(entries
            .into_iter()
            .map(|entry| SourceItem { name: entry.name.clone(), entry: Ok(entry) })
            .collect())
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Directory { source: self.source, number: Some(number_of(name)?) }))
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        Ok(Box::new(File { source: self.source, number: number_of(name)? }))
    }
}

impl SourceFile for File {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let content = crate::noise(self.source.seed.wrapping_add(self.number), self.source.bytes);
        let rest = content.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn entry(&self) -> io::Result<Entry> {
        Ok(self.source.file(self.number))
    }

    fn extents(&self, _bytes: u64) -> io::Result<Option<Vec<Extent>>> {
        Ok(None)
    }
}
