//! What a view keeps of what it read last.

use std::collections::VecDeque;
use std::sync::Arc;

use super::file::OpenFile;
use crate::repository::ChunkBytes;
use crate::tree::{ChunkRef, Entry, FileContent};

/// So many files are kept open.
const FILES_MAX: usize = 64;
/// What open files hold together, in bytes; the last one may hold more.
const FILES_BYTES_MAX: usize = 32 << 20;
/// Frames that are held for verified chunks take so many bytes at most, and the last one.
const CHUNKS_BYTES_MAX: usize = 16 << 20;
/// So many decoded entries are kept, of half a KiB each, mostly; and the last run.
const ENTRIES_MAX: usize = 32 << 10;
/// A shorter run counts as one of so many: with it stay its place and the search for it.
const RUN_ENTRIES_MIN: usize = 128;
/// So many verified chunks are kept: one for each of some files that are read at a time.
const CHUNKS_MAX: usize = 32;

/// Files that were read last, the last one first.
#[derive(Default)]
pub(super) struct OpenFiles(VecDeque<(FileContent, Arc<OpenFile>)>);

impl OpenFiles {
    pub(super) fn find(&mut self, content: &FileContent) -> Option<Arc<OpenFile>> {
        let place = self.0.iter().position(|(known, _)| known == content)?;
        let found = self.0.remove(place)?;
        let opened = found.1.clone();
        self.0.push_front(found);
        Some(opened)
    }

    pub(super) fn keep(&mut self, content: &FileContent, opened: Arc<OpenFile>) {
        self.0.push_front((content.clone(), opened));
        self.0.truncate(FILES_MAX);
        let mut held = 0;
        let fitting = self.0.iter().take_while(|(_, file)| {
            held += file.held();
            held <= FILES_BYTES_MAX
        });
        let fitting = fitting.count().max(1);
        self.0.truncate(fitting);
    }
}

/// Chunks that were verified last, the last one first.
#[derive(Default)]
pub(super) struct RecentChunks(VecDeque<(ChunkRef, ChunkBytes)>);

impl RecentChunks {
    pub(super) fn find(&mut self, chunk: &ChunkRef) -> Option<ChunkBytes> {
        let place = self.0.iter().position(|(known, _)| known == chunk)?;
        let found = self.0.remove(place)?;
        let bytes = found.1.clone();
        self.0.push_front(found);
        Some(bytes)
    }

    pub(super) fn keep(&mut self, chunk: &ChunkRef, bytes: ChunkBytes) {
        self.0.push_front((*chunk, bytes));
        self.0.truncate(CHUNKS_MAX);
        let mut held = 0;
        let fitting = self.0.iter().take_while(|(_, bytes)| {
            held += bytes.held();
            held <= CHUNKS_BYTES_MAX
        });
        let fitting = fitting.count().max(1);
        self.0.truncate(fitting);
    }
}

/// Runs of directories' entries that were read last, the last one first.
#[derive(Default)]
pub(super) struct RecentRuns(VecDeque<(ChunkRef, Arc<Vec<Entry>>)>);

impl RecentRuns {
    pub(super) fn find(&mut self, chunk: &ChunkRef) -> Option<Arc<Vec<Entry>>> {
        let place = self.0.iter().position(|(known, _)| known == chunk)?;
        let found = self.0.remove(place)?;
        let entries = found.1.clone();
        self.0.push_front(found);
        Some(entries)
    }

    pub(super) fn keep(&mut self, chunk: &ChunkRef, entries: Arc<Vec<Entry>>) {
        self.0.push_front((*chunk, entries));
        let mut held = 0;
        let fitting = self.0.iter().take_while(|(_, entries)| {
            held += entries.len().max(RUN_ENTRIES_MIN);
            held <= ENTRIES_MAX
        });
        let fitting = fitting.count().max(1);
        self.0.truncate(fitting);
    }
}
