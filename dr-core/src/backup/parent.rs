//! The snapshots that a backup compares with, read directory by directory beside the walk.

use std::iter::Peekable;

use super::options::{BackupOptions, Parent};
use super::storer::Storer;
use crate::error::Result;
use crate::log::Log;
use crate::observer::{Context, Event};
use crate::repository::{ChunkReader, Inner};
use crate::snapshot::{Selector, Snapshot};
use crate::tree::{DirectoryReader, Entry, EntryKind, NotingReader, SparseMap, Stream, stream_chunks};

/// The snapshots to compare with, the one to believe first coming first.
pub(crate) struct Parents<'a> {
    reader: ChunkReader<'a>,
    pub(crate) snapshots: Vec<Snapshot>,
    /// The state of the log that they were read on: the next slot then.
    pub(crate) read_at: u64,
    /// Chunks of theirs may be lost: what is taken over is looked up.
    pub(crate) must_look: bool,
}

impl<'a> Parents<'a> {
    /// Finds the parents of a backup of `paths`: the newest whole snapshot of the same host and paths, and before it a
    /// newer partial one, so that what an interrupted run has read is not read again.
    pub(crate) fn find(
        repository: &'a Inner,
        log: &Log,
        reader: ChunkReader<'a>,
        options: &BackupOptions,
        paths: &[std::path::PathBuf],
        must_look: bool,
    ) -> Result<Parents<'a>> {
        let mut snapshots = Vec::new();
        match &options.parent {
            // Where the index has gaps, what a parent has may be out of reach: everything is read and what is missing is
            // stored again.
            _ if !reader.index.is_whole() => {}
            Parent::Nothing => {}
            Parent::Snapshot(selector) => {
                let all = repository.read_snapshots(log)?.readable;
                snapshots.push(Selector::parse(selector)?.choose(&all)?.clone());
            }
            Parent::Newest => {
                let is_alike = |snapshot: &Snapshot| snapshot.host == options.host && snapshot.paths == paths;
                // A snapshot that cannot be read is no parent; `check` speaks of it.
                let mut states: Vec<_> = log.fold.live_snapshots().collect();
                states.reverse();
                let mut bodies = None;
                for state in states {
                    let alike = repository.read_snapshot(log, state, &mut bodies).ok().filter(is_alike);
                    let Some(snapshot) = alike.filter(|snapshot| !snapshot.newer) else { continue };
                    if !snapshot.partial || snapshots.is_empty() {
                        let is_whole = !snapshot.partial;
                        snapshots.push(snapshot);
                        if is_whole {
                            break;
                        }
                    }
                }
            }
        }
        // Chunks that went with a repair are missing in what was committed before it.
        let is_lossy = |snapshot: &Snapshot| log.fold.lossy.is_some_and(|slot| slot > snapshot.slot);
        let must_look = must_look || snapshots.iter().any(is_lossy);
        Ok(Parents { reader, snapshots, read_at: log.fold.next, must_look })
    }

    /// Tells that there will probably be as much as in the whole snapshot among the parents, or that there is none.
    pub(crate) fn expect_as_much(&self, ctx: Context<'_>) {
        let whole = self.snapshots.iter().find(|snapshot| !snapshot.partial);
        ctx.observer.event(&whole.map_or(Event::Uncounted, |Snapshot { totals, .. }| Event::Expected {
            entries: totals.files + totals.directories + totals.others,
            bytes: totals.bytes,
        }));
    }

    /// Whether everything that a file of a parent consists of is there, where that is in doubt.
    ///
    /// # Errors
    /// What the store answers, except that something is damaged.
    pub(crate) fn has_content(&self, entry: &Entry, storer: &Storer<'_>) -> Result<bool> {
        let EntryKind::File(content) = &entry.kind else { return Ok(true) };
        if self.must_look && !self.has_stream(&content.stream, storer)? {
            return Ok(false);
        }
        match &content.sparse {
            Some(SparseMap::Stream(extents)) if self.must_look => self.has_stream(extents, storer),
            _ => Ok(true),
        }
    }

    fn has_stream(&self, stream: &Stream, storer: &Storer<'_>) -> Result<bool> {
        let lists = NotingReader::new(&self.reader);
        for chunk in stream_chunks(stream, &lists) {
            let is_there = match chunk {
                Ok(chunk) => storer.has_chunk(&chunk.id)?,
                Err(error) if error.is_damage() => false,
                Err(error) => return Err(error),
            };
            if !is_there {
                return Ok(false);
            }
        }
        for list in lists.take() {
            if !storer.has_chunk(&list.id)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads a directory of a parent.
    pub(crate) fn read_directory(&self, stream: &Stream) -> DirectoryReader<'_> {
        DirectoryReader::new(stream, &self.reader)
    }

    /// The same for who writes by the entries: what only a newer program understands is an error.
    pub(crate) fn read_known_directory(&self, stream: &Stream) -> DirectoryReader<'_> {
        DirectoryReader::of_known(stream, &self.reader)
    }

    /// The parents' view of `/`.
    pub(crate) fn root(&self) -> ParentDirectory<'_> {
        let streams: Vec<Option<&Stream>> =
            self.snapshots.iter().map(|snapshot| Some(&snapshot.root)).collect();
        self.directory(&streams)
    }

    /// The parents' view of a directory, given what each parent has in its place.
    pub(crate) fn directory_of(&self, entries: &[Option<Entry>]) -> ParentDirectory<'_> {
        let streams: Vec<Option<&Stream>> = entries
            .iter()
            .map(|entry| match entry.as_ref()?.kind {
                EntryKind::Directory(ref stream) => Some(stream),
                _ => None,
            })
            .collect();
        self.directory(&streams)
    }

    fn directory(&self, streams: &[Option<&Stream>]) -> ParentDirectory<'_> {
        ParentDirectory {
            first: streams.first().copied().flatten().cloned(),
            views: streams
                .iter()
                .map(|stream| stream.map(|stream| DirectoryReader::new(stream, &self.reader).peekable()))
                .collect(),
            // What is looked up is written again as well: its own chunks are looked up then.
            is_same: !self.must_look,
        }
    }
}

/// One directory as the parents know it.
pub(crate) struct ParentDirectory<'p> {
    first: Option<Stream>,
    views: Vec<Option<Peekable<DirectoryReader<'p>>>>,
    is_same: bool,
}

impl ParentDirectory<'_> {
    /// The parents' entries of that name; names must be asked for in ascending order. A parent that cannot be read from
    /// here on knows nothing more.
    pub(crate) fn find(&mut self, name: &[u8]) -> Vec<Option<Entry>> {
        let mut found = Vec::with_capacity(self.views.len());
        for (number, view) in self.views.iter_mut().enumerate() {
            let mut entry = None;
            while let Some(next) = view.as_mut().and_then(|entries| entries.peek()) {
                match next {
                    Err(_) => {
                        *view = None;
                        self.is_same = false;
                    }
                    Ok(next) if next.name.as_slice() > name => break,
                    Ok(next) => {
                        let is_it = next.name == name;
                        let taken = view.as_mut().and_then(Iterator::next);
                        if is_it {
                            entry = taken.and_then(Result::ok);
                            break;
                        }
                        // The parent has something that is gone now.
                        self.is_same &= number > 0;
                    }
                }
            }
            found.push(entry);
        }
        found
    }

    /// Says that the directory differs from what the first parent has.
    pub(crate) fn differs(&mut self) {
        self.is_same = false;
    }

    /// The first parent's stream, where nothing differs from it.
    pub(crate) fn unchanged_stream(&mut self) -> Option<Stream> {
        let ends = |view: &mut Peekable<DirectoryReader<'_>>| view.peek().is_none();
        let is_exhausted = self.views.first_mut().and_then(Option::as_mut).is_some_and(ends);
        if self.is_same && is_exhausted { self.first.clone() } else { None }
    }
}
