//! Reads the tree of a snapshot that is copied, beside one that was copied before and its copy.

use std::iter::Peekable;

use super::Damaged;
use super::fetch::{Fetch, Fetched};
use super::memo::Memo;
use super::plan::{Batch, Step};
use super::replay::Replay;
use crate::backup::{Storer, keep_packs_if_due};
use crate::error::{Error, Result};
use crate::format::snapshot::{Problem, ProblemKind};
use crate::limits::DEPTH_MAX;
use crate::observer::{Change, Event};
use crate::repository::{ChunkReader, Inner};
use crate::snapshot::Snapshot;
use crate::threads::Threads;
use crate::tree::{
    ChunkRef, DirectoryReader, Entry, EntryKind, FileContent, ReadChunk, SparseMap, Stream,
    known_stream_chunks, store_bytes,
};

/// The longest list of extents that is read, in bytes: 4 million extents.
const EXTENTS_BYTES_MAX: u64 = 64 << 20;

/// A snapshot that was copied before, and its copy.
pub(super) struct Pair<'p> {
    pub(super) before: &'p Snapshot,
    pub(super) copy: &'p Snapshot,
}

/// Copies trees.
pub(super) struct Copier<'c, 'a> {
    pub(super) storer: &'c Storer<'a>,
    /// Where is copied from.
    pub(super) repository: &'c Inner,
    pub(super) source: &'c ChunkReader<'c>,
    /// Reads what is here.
    pub(super) own: &'c ChunkReader<'c>,
    pub(super) shares_ids: bool,
    pub(super) damaged: Damaged,
    pub(super) threads: &'c Threads,
    pub(super) memo: &'c mut Memo,
    pub(super) problems: Vec<Problem>,
    pub(super) bytes_read: u64,
}

/// A directory that is read.
struct OpenDirectory<'r> {
    path: Vec<u8>,
    entries: DirectoryReader<'r>,
    known: Option<Known<'r>>,
}

/// A directory as it was copied before, there and here.
struct Known<'r> {
    before: Peekable<DirectoryReader<'r>>,
    copy: Peekable<DirectoryReader<'r>>,
}

impl Known<'_> {
    /// The entries of a name, there and here; names must be asked for in ascending order. What cannot be read is not known.
    fn find(&mut self, name: &[u8]) -> Option<(Entry, Entry)> {
        let before = find(&mut self.before, name);
        let copy = find(&mut self.copy, name);
        // Only where both are of one mind is the copy taken for one.
        before.zip(copy).filter(|(before, copy)| before.metadata == copy.metadata)
    }
}

fn find(entries: &mut Peekable<DirectoryReader<'_>>, name: &[u8]) -> Option<Entry> {
    while entries.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.name.as_slice() < name)).is_some() {}
    entries.next_if(|entry| entry.as_ref().is_ok_and(|entry| entry.name == name))?.ok()
}

/// The streams of two directories.
fn directories((before, copy): &(Entry, Entry)) -> Option<(&Stream, &Stream)> {
    match (&before.kind, &copy.kind) {
        (EntryKind::Directory(before), EntryKind::Directory(copy)) => Some((before, copy)),
        _ => None,
    }
}

/// What was copied of a file before, where it is the same still.
fn same_content(content: &FileContent, (before, copy): &(Entry, Entry)) -> Option<FileContent> {
    let (EntryKind::File(before), EntryKind::File(copy)) = (&before.kind, &copy.kind) else { return None };
    let is_same =
        before == content && copy.bytes == content.bytes && copy.stream.bytes == content.stream.bytes;
    is_same.then(|| copy.clone())
}

impl<'c> Copier<'c, '_> {
    /// Copies a tree; none where something of it is damaged and nothing is to be left out. The stack is explicit: no tree is
    /// too deep.
    pub(super) fn tree(&mut self, root: &Stream, pair: Option<&Pair<'_>>) -> Result<Option<Stream>> {
        let pair = pair.map(|pair| (&pair.before.root, &pair.copy.root));
        if let Some((_, copy)) = pair.filter(|(before, _)| *before == root) {
            return Ok(Some(copy.clone()));
        }
        let (mut batch, mut replay) = (Batch::default(), Replay::default());
        batch.push(Step::Enter(None));
        let mut stack = vec![self.open(Vec::new(), root, pair)];
        while let Some(open) = stack.last_mut() {
            self.storer.ctx.cancel.check()?;
            match open.entries.next() {
                None => {
                    stack.pop();
                    batch.push(Step::Leave);
                }
                Some(Err(error)) => {
                    let path = if open.path.is_empty() { b"/".to_vec() } else { open.path.clone() };
                    self.lose(&path, error)?;
                }
                Some(Ok(entry)) => {
                    let path = [open.path.as_slice(), b"/", &entry.name].concat();
                    let known = open.known.as_mut().and_then(|known| known.find(&entry.name));
                    let depth = stack.len();
                    if let Some(below) = self.entry((path, entry), known, depth, (&mut batch, &mut replay))? {
                        stack.push(below);
                    }
                }
            }
            if batch.is_full() {
                self.run(&mut batch, &mut replay)?;
            }
            if self.is_refused(&replay) {
                break;
            }
        }
        if !self.is_refused(&replay) {
            self.run(&mut batch, &mut replay)?;
        }
        let is_refused = self.is_refused(&replay);
        self.problems.append(&mut replay.problems);
        if is_refused { Ok(None) } else { replay.finish().map(Some) }
    }

    fn is_refused(&self, replay: &Replay) -> bool {
        self.damaged == Damaged::Refused && !(self.problems.is_empty() && replay.problems.is_empty())
    }

    /// Takes an entry. Gives the directory that is to be read next.
    fn entry(
        &mut self,
        (path, mut entry): (Vec<u8>, Entry),
        known: Option<(Entry, Entry)>,
        depth: usize,
        (batch, replay): (&mut Batch, &mut Replay),
    ) -> Result<Option<OpenDirectory<'c>>> {
        match &entry.kind {
            EntryKind::Directory(stream) => {
                let pair = known.as_ref().and_then(directories);
                if let Some((_, copy)) = pair.filter(|(before, _)| *before == stream) {
                    entry.kind = EntryKind::Directory(copy.clone());
                } else if depth >= DEPTH_MAX {
                    self.lose(&path, Error::corrupt("directories are nested too deep"))?;
                    return Ok(None);
                } else {
                    let below = self.open(path, stream, pair);
                    batch.push(Step::Enter(Some(Box::new(entry))));
                    return Ok(Some(below));
                }
            }
            EntryKind::File(content) => match known.as_ref().and_then(|known| same_content(content, known)) {
                Some(copy) => entry.kind = EntryKind::File(copy),
                None => return self.file(path, entry, batch, replay).map(|()| None),
            },
            _ => {}
        }
        let bytes = if let EntryKind::File(content) = &entry.kind { content.bytes } else { 0 };
        self.storer.ctx.observer.event(&Event::EntryDone { path, change: Change::Unchanged, bytes });
        batch.push(Step::Entry(Box::new(entry)));
        Ok(None)
    }

    fn open(&self, path: Vec<u8>, stream: &Stream, pair: Option<(&Stream, &Stream)>) -> OpenDirectory<'c> {
        let known = pair.map(|(before, copy)| Known {
            before: DirectoryReader::of_known(before, self.source).peekable(),
            copy: DirectoryReader::of_known(copy, self.own).peekable(),
        });
        OpenDirectory { path, entries: DirectoryReader::of_known(stream, self.source), known }
    }

    /// Gathers the chunks of a file.
    fn file(
        &mut self,
        path: Vec<u8>,
        mut entry: Entry,
        batch: &mut Batch,
        replay: &mut Replay,
    ) -> Result<()> {
        let EntryKind::File(content) = &mut entry.kind else { return Ok(()) };
        if let Some(SparseMap::Stream(extents)) = &mut content.sparse {
            match self.read_extents(extents) {
                Ok(parts) => *extents = store_bytes(parts.into_iter(), self.storer)?,
                Err(error) => return self.lose(&path, error),
            }
        }
        let stream = content.stream.clone();
        batch.push(Step::File(path, Box::new(entry)));
        for chunk in known_stream_chunks(&stream, self.source) {
            if let Ok(chunk) = &chunk
                && let Some(step) = self.here(chunk, batch)?
            {
                batch.push(step);
            } else {
                match chunk.and_then(|chunk| Ok((chunk, self.source.locate(&chunk)?))) {
                    Ok((chunk, location)) => batch.need(chunk, location),
                    Err(error) if error.is_damage() => {
                        batch.push(Step::Lost(error));
                        break;
                    }
                    Err(error) => return Err(error),
                }
            }
            if batch.is_full() {
                self.run(batch, replay)?;
            }
        }
        batch.push(Step::EndFile);
        Ok(())
    }

    /// The step of a chunk that is here, or is to be fetched already.
    fn here(&self, chunk: &ChunkRef, batch: &Batch) -> Result<Option<Step>> {
        if batch.needs(&chunk.id) {
            return Ok(Some(Step::Fetched(*chunk)));
        }
        let id = if self.shares_ids { Some(chunk.id) } else { self.memo.get(&chunk.id) };
        let Some(id) = id else { return Ok(None) };
        if !self.storer.has_chunk(&id)? {
            return Ok(None);
        }
        self.storer.ctx.observer.event(&Event::Progress { bytes: u64::from(chunk.bytes) });
        Ok(Some(Step::Here(ChunkRef { id, bytes: chunk.bytes })))
    }

    /// Reads a list of extents, as it was cut.
    fn read_extents(&self, extents: &Stream) -> Result<Vec<Vec<u8>>> {
        if extents.bytes > EXTENTS_BYTES_MAX {
            return Err(Error::corrupt("a stream of metadata is longer than the format allows"));
        }
        known_stream_chunks(extents, self.source).map(|chunk| self.source.read_tree(&chunk?)).collect()
    }

    /// Fetches what is gathered, and writes it.
    fn run(&mut self, batch: &mut Batch, replay: &mut Replay) -> Result<()> {
        let (steps, frames) = batch.take();
        let mut fetched = Fetched::new();
        if !frames.is_empty() {
            let needed = frames.iter().flat_map(|frame| &frame.chunks);
            self.bytes_read += needed.map(|(chunk, _)| u64::from(chunk.bytes)).sum::<u64>();
            let fetch = Fetch::new(self.storer, self.repository, self.source, self.shares_ids);
            fetched = fetch.run(frames, self.threads)?;
        }
        if !self.shares_ids {
            let known = fetched.iter().filter_map(|(id, here)| Some((*id, *here.as_ref().ok()?)));
            known.for_each(|(id, here)| self.memo.note(id, here));
        }
        replay.take(steps, &fetched, self.storer)?;
        keep_packs_if_due(self.storer)
    }

    /// Notes that something cannot be read where it is copied from.
    fn lose(&mut self, path: &[u8], error: Error) -> Result<()> {
        if !error.is_damage() {
            return Err(error);
        }
        let problem = Problem::new(path, ProblemKind::Damaged, error);
        self.storer.ctx.problem(&problem);
        self.problems.push(problem);
        Ok(())
    }
}
