//! Directories, by name and by place: no more of a large one is read than is asked for.

use std::sync::Arc;

use super::SnapshotView;
use crate::error::{Error, Result};
use crate::format::tree::decode_entries;
use crate::observer::lock;
use crate::snapshot::Snapshot;
use crate::tree::{ChunkRef, Entry, Placed, ReadChunk, Stream, StreamMap};

/// Some consecutive entries of a directory.
#[derive(Debug)]
#[non_exhaustive]
pub struct EntryRun {
    /// The entries, in ascending order of name; or why they cannot be read. The runs behind them may still be.
    pub entries: Result<Arc<Vec<Entry>>>,
    /// The place of the next run.
    pub next: u64,
}

impl SnapshotView {
    /// The topmost directory of any snapshot of the repository, to be read through this view, whose memory is shared so.
    pub fn root_of(&self, snapshot: &Snapshot) -> Stream {
        snapshot.root.clone()
    }

    /// The entry of a directory that has this name; none where it has no such entry.
    ///
    /// # Errors
    /// `Corrupt` where the entry may be in what cannot be read, and what the store answers.
    pub fn child(&self, directory: &Stream, name: &[u8]) -> Result<Option<Entry>> {
        let mut map = StreamMap::new(directory);
        let (mut from, mut to) = (0, directory.bytes);
        while from < to {
            let place = from + (to - from) / 2;
            let found = self.placed(&mut map, place).and_then(|run| Ok((run, self.run(&run.chunk)?)));
            let (run, entries) = match found {
                Ok(found) => found,
                Err(error) if error.is_damage() => return self.search(directory, name),
                Err(error) => return Err(error),
            };
            match entries.binary_search_by(|entry| entry.name.as_slice().cmp(name)) {
                Ok(number) => return Ok(entries.get(number).cloned()),
                Err(0) => to = run.start,
                Err(number) if number == entries.len() => from = run.end(),
                Err(_) => return Ok(None),
            }
        }
        Ok(None)
    }

    /// The run of entries at a place of a directory: 0 for the first, and what each run says for the next. None behind the
    /// last. Places stay the same for as long as the directory does.
    ///
    /// # Errors
    /// `Corrupt` where nothing from there on can be read, and what the store answers.
    pub fn entries_at(&self, directory: &Stream, place: u64) -> Result<Option<EntryRun>> {
        if place >= directory.bytes {
            return Ok(None);
        }
        let mut map = StreamMap::new(directory);
        let run = self.placed(&mut map, place)?;
        let entries = match self.run(&run.chunk) {
            Err(error) if !error.is_damage() => return Err(error),
            entries => entries,
        };
        // Lists may repeat one another: without an order, a few of them would hold entries without end.
        if let (Ok(entries), Some(before)) = (&entries, run.start.checked_sub(1))
            && let Ok(last) = self.placed(&mut map, before).and_then(|run| self.run(&run.chunk))
            && last.last().map(|entry| &entry.name) >= entries.first().map(|entry| &entry.name)
        {
            return Err(Error::corrupt("a directory's names are not sorted"));
        }
        Ok(Some(EntryRun { entries, next: run.end() }))
    }

    /// Looks at every run that can be read.
    fn search(&self, directory: &Stream, name: &[u8]) -> Result<Option<Entry>> {
        let (mut found, mut unreadable) = (None, None);
        self.entries(directory, &mut |entry| {
            match entry {
                Ok(entry) if entry.name == name => found = Some(entry),
                Ok(_) => {}
                Err(error) if error.is_damage() => unreadable = Some(error),
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        match (found, unreadable) {
            (None, Some(error)) => Err(error),
            (found, _) => Ok(found),
        }
    }

    fn placed(&self, map: &mut StreamMap, place: u64) -> Result<Placed> {
        let (run, number) = map.find(place, self.reader())?;
        Ok(run[number])
    }

    /// A run of entries, decoded.
    fn run(&self, chunk: &ChunkRef) -> Result<Arc<Vec<Entry>>> {
        if let Some(run) = lock(&self.0.runs).find(chunk) {
            return Ok(run);
        }
        let entries = decode_entries(&self.0.reader.read_tree(chunk)?)?;
        if entries.is_empty() {
            return Err(Error::corrupt("a directory has a run of no entries"));
        }
        let entries = Arc::new(entries);
        lock(&self.0.runs).keep(chunk, entries.clone());
        Ok(entries)
    }
}
