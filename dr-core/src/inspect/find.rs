//! Finds entries in many snapshots. What several snapshots share is looked at once.

use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use super::{EntryType, below};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::format::tree::decode_refs;
use crate::id::{ChunkId, ObjectHash};
use crate::index::Index;
use crate::limits::{DEPTH_MAX, STREAM_LEVELS_MAX, WALK_ENTRIES_MAX};
use crate::observer::Context;
use crate::repository::{ChunkReader, Repository, find_path};
use crate::select::{Match, PathKind, Patterns};
use crate::snapshot::Snapshot;
use crate::time::Timestamp;
use crate::tree::{DirectoryReader, Entry, EntryKind, ReadChunk, SparseMap, Stream};

/// So many found entries are remembered to be told again; beyond that, directories that hold some are looked at again.
const HITS_MAX: usize = 64 << 10;
/// So many directories are remembered in which nothing was found.
const EMPTY_MAX: usize = 4 << 20;

/// Takes a snapshot, a path in it and the entry found there, or the error that stands in the place of some entries.
pub type VisitFound<'v> = dyn FnMut(&Snapshot, &[u8], Result<&Entry>) -> Result<()> + 'v;

/// What is looked for: all that is set must be true of an entry.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct FindQuery {
    /// Only what one of these patterns matches; everything where there is none.
    pub names: Patterns,
    /// Only entries of one of these types.
    pub types: Vec<EntryType>,
    /// Only what was modified at this time or later.
    pub newer: Option<Timestamp>,
    /// Only what was modified before this time.
    pub older: Option<Timestamp>,
    /// Only files of at least so many bytes.
    pub bytes_min: Option<u64>,
    /// Only files of at most so many bytes.
    pub bytes_max: Option<u64>,
    /// Only what needs one of these chunks, for its content or for the list of it.
    pub chunks: Vec<ChunkId>,
    /// Only what needs a chunk in one of these packs.
    pub packs: Vec<ObjectHash>,
    /// Only below this path.
    pub below: Vec<u8>,
}

impl FindQuery {
    /// Everything.
    pub fn new() -> FindQuery {
        FindQuery::default()
    }
}

/// What a search went through.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct FindReport {
    /// Snapshots that were looked through.
    pub snapshots: u64,
    /// Entries that were found, each counted for every snapshot that has it.
    pub found: u64,
    /// Directories that were read.
    pub directories_read: u64,
    /// Directories that were known from a snapshot before.
    pub directories_known: u64,
    /// Places that could not be read.
    pub unread: u64,
}

impl Repository {
    /// Calls `visit` for everything in `snapshots` that is looked for, one snapshot after the other, each in the order of
    /// its paths.
    ///
    /// # Errors
    /// `NotFound` where no snapshot has the path below which to look, or the index does not know a pack that is looked for; `Cancelled`, what the store answers, and the
    /// first error that `visit` returns. What cannot be read is an error in its place, and the search goes on behind it.
    pub fn find(
        &self,
        snapshots: &[Snapshot],
        query: &FindQuery,
        visit: &mut VisitFound<'_>,
        ctx: &Context<'_>,
    ) -> Result<FindReport> {
        let (log, index) = if query.packs.is_empty() { self.0.current()? } else { self.0.current_whole()? };
        let chunks = wanted_chunks(query, &index)?;
        let reader = ChunkReader::new(&self.0, &log, index);
        let mut search = Search {
            query,
            chunks,
            reader: &reader,
            ctx: *ctx,
            memo: Memo::default(),
            report: FindReport::default(),
            has_place: false,
        };
        for snapshot in snapshots {
            search.report.snapshots += 1;
            search.snapshot(snapshot, visit)?;
        }
        if !search.has_place && !snapshots.is_empty() {
            return Err(Error::new(ErrorKind::NotFound, "no snapshot has the path below which to look")
                .with_path(Path::new(OsStr::from_bytes(&query.below)))
                .with_remedy("give it as it is in the snapshots: 'dr ls' shows that"));
        }
        Ok(search.report)
    }
}

/// The chunks that are looked for; none where anything will do.
fn wanted_chunks(query: &FindQuery, index: &Index) -> Result<Option<HashSet<ChunkId>>> {
    if query.chunks.is_empty() && query.packs.is_empty() {
        return Ok(None);
    }
    let mut wanted: HashSet<ChunkId> = query.chunks.iter().copied().collect();
    for pack in &query.packs {
        let mut is_known = false;
        for table in index.tables() {
            let number =
                (0..table.pack_count()).find(|number| table.pack(*number).is_some_and(|it| it.hash == *pack));
            let Some(number) = number else { continue };
            is_known = true;
            let is_in = |frame: u32| table.frame(frame).is_some_and(|frame| frame.pack == number);
            wanted.extend(table.records().filter(|record| is_in(record.frame)).map(|record| record.id));
        }
        if !is_known {
            return Err(Error::new(ErrorKind::NotFound, "the index knows no such pack")
                .with_object(names::pack(PackClass::Data, pack))
                .with_remedy("give the whole name, 64 digits, as 'dr check' prints it"));
        }
    }
    Ok(Some(wanted))
}

/// What a directory is known by: its path and what its stream holds.
type Key = [u8; 16];

fn key_of(path: &[u8], stream: &Stream) -> Key {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(path.len() as u64).to_le_bytes()).update(path).update(&[stream.level]);
    for chunk in &stream.chunks {
        hasher.update(chunk.id.as_bytes());
    }
    let mut key = [0; 16];
    hasher.finalize_xof().fill(&mut key);
    key
}

/// What was found in a directory.
enum Hit {
    Entry(Entry),
    /// In the directory of this name below it.
    Below(Vec<u8>, Rc<Vec<Hit>>),
}

/// What is known of directories that were looked through.
#[derive(Default)]
struct Memo {
    empty: HashSet<Key>,
    hits: HashMap<Key, Rc<Vec<Hit>>>,
    /// How many entries are held, here and in directories that are being looked through.
    held: usize,
}

/// A directory that is being looked through.
struct Level<'r> {
    path: Vec<u8>,
    key: Key,
    entries: DirectoryReader<'r>,
    hits: Vec<Hit>,
    /// All of it was read, and all that was found is in `hits`.
    is_known: bool,
}

struct Search<'s> {
    query: &'s FindQuery,
    chunks: Option<HashSet<ChunkId>>,
    reader: &'s ChunkReader<'s>,
    ctx: Context<'s>,
    memo: Memo,
    report: FindReport,
    /// Some snapshot has the path below which to look, or cannot be read there.
    has_place: bool,
}

impl<'s> Search<'s> {
    fn snapshot(&mut self, snapshot: &Snapshot, visit: &mut VisitFound<'_>) -> Result<()> {
        let found = match find_path(snapshot, &self.query.below, self.reader) {
            Ok(found) => found,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => {
                self.has_place = true;
                return self.unread(snapshot, &self.query.below, error, visit);
            }
        };
        self.has_place = true;
        if let Some(entry) = &found.entry
            && self.matches(&found.path, entry)?
        {
            self.tell(snapshot, &found.path, entry, visit)?;
        }
        match found.directory() {
            Some(stream) => self.tree(snapshot, found.path.clone(), stream, visit),
            None => Ok(()),
        }
    }

    /// Looks through a directory and all below it. The stack is explicit: no tree is too deep.
    fn tree(
        &mut self,
        snapshot: &Snapshot,
        path: Vec<u8>,
        stream: &Stream,
        visit: &mut VisitFound<'_>,
    ) -> Result<()> {
        let mut stack: Vec<Level<'s>> = Vec::new();
        let key = key_of(&path, stream);
        if !self.is_told_again(snapshot, &path, key, &mut stack, visit)? {
            stack.push(self.level(path, key, stream));
        }
        let mut held = 0;
        while let Some(level) = stack.last_mut() {
            self.ctx.cancel.check()?;
            match level.entries.next() {
                None => {
                    self.leave(&mut stack);
                    held -= stack.last().map_or(0, |level| level.entries.held());
                }
                Some(Err(error)) => {
                    level.is_known = false;
                    let path = level.path.clone();
                    self.unread(snapshot, &path, error, visit)?;
                }
                Some(Ok(entry)) => {
                    let path = below(&level.path, &entry.name);
                    let above = level.entries.held();
                    if self.matches(&path, &entry)? {
                        self.tell(snapshot, &path, &entry, visit)?;
                        self.keep(&mut stack, Hit::Entry(entry.clone()));
                    }
                    let EntryKind::Directory(stream) = &entry.kind else { continue };
                    let key = key_of(&path, stream);
                    if self.is_told_again(snapshot, &path, key, &mut stack, visit)? {
                        continue;
                    }
                    if stack.len() >= DEPTH_MAX || held + above > WALK_ENTRIES_MAX {
                        let error = Error::corrupt("directories are nested deeper than the format allows");
                        self.unread(snapshot, &path, error, visit)?;
                        continue;
                    }
                    held += above;
                    stack.push(self.level(path, key, stream));
                }
            }
        }
        Ok(())
    }

    fn level(&mut self, path: Vec<u8>, key: Key, stream: &Stream) -> Level<'s> {
        self.report.directories_read += 1;
        let entries = DirectoryReader::new(stream, self.reader);
        Level { path, key, entries, hits: Vec::new(), is_known: true }
    }

    /// Tells what was found in a directory that is known. Whether it is.
    fn is_told_again(
        &mut self,
        snapshot: &Snapshot,
        path: &[u8],
        key: Key,
        stack: &mut [Level<'_>],
        visit: &mut VisitFound<'_>,
    ) -> Result<bool> {
        if self.memo.empty.contains(&key) {
            self.report.directories_known += 1;
            return Ok(true);
        }
        let Some(hits) = self.memo.hits.get(&key).cloned() else { return Ok(false) };
        self.report.directories_known += 1;
        let mut told = vec![(path.to_vec(), hits.clone(), 0)];
        while let Some((path, hits, next)) = told.last_mut() {
            let Some(hit) = hits.get(*next) else {
                told.pop();
                continue;
            };
            *next += 1;
            match hit {
                Hit::Entry(entry) => self.tell(snapshot, &below(path, &entry.name), entry, visit)?,
                Hit::Below(name, hits) => {
                    let inner = (below(path, name), hits.clone(), 0);
                    told.push(inner);
                }
            }
        }
        if let Some(level) = stack.last_mut() {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            level.hits.push(Hit::Below(name.to_vec(), hits));
        }
        Ok(true)
    }

    /// Remembers a directory that was looked through, and what was found in it.
    fn leave(&mut self, stack: &mut Vec<Level<'_>>) {
        let Some(Level { path, key, hits, is_known, .. }) = stack.pop() else { return };
        if !is_known {
            self.forget(&hits);
            if let Some(above) = stack.last_mut() {
                above.is_known = false;
            }
            return;
        }
        if hits.is_empty() {
            if self.memo.empty.len() < EMPTY_MAX {
                self.memo.empty.insert(key);
            }
            return;
        }
        let hits = Rc::new(hits);
        self.memo.hits.insert(key, hits.clone());
        if let Some(above) = stack.last_mut() {
            let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
            above.hits.push(Hit::Below(name.to_vec(), hits));
        }
    }

    fn keep(&mut self, stack: &mut [Level<'_>], hit: Hit) {
        let Some(level) = stack.last_mut() else { return };
        if self.memo.held >= HITS_MAX {
            level.is_known = false;
        }
        if level.is_known {
            self.memo.held += 1;
            level.hits.push(hit);
        } else {
            let hits = std::mem::take(&mut level.hits);
            self.forget(&hits);
        }
    }

    /// Notes that these are held no more.
    fn forget(&mut self, hits: &[Hit]) {
        self.memo.held -= hits.iter().filter(|hit| matches!(hit, Hit::Entry(_))).count();
    }

    fn tell(
        &mut self,
        snapshot: &Snapshot,
        path: &[u8],
        entry: &Entry,
        visit: &mut VisitFound<'_>,
    ) -> Result<()> {
        self.report.found += 1;
        visit(snapshot, path, Ok(entry))
    }

    fn unread(
        &mut self,
        snapshot: &Snapshot,
        path: &[u8],
        error: Error,
        visit: &mut VisitFound<'_>,
    ) -> Result<()> {
        if !error.is_damage() {
            return Err(error);
        }
        self.report.unread += 1;
        visit(snapshot, path, Err(error))
    }

    fn matches(&self, path: &[u8], entry: &Entry) -> Result<bool> {
        let query = self.query;
        let modified = entry.metadata.modified;
        if !query.types.is_empty() && !query.types.contains(&EntryType::of(&entry.kind))
            || query.newer.is_some_and(|time| modified < time)
            || query.older.is_some_and(|time| modified >= time)
        {
            return Ok(false);
        }
        if query.bytes_min.is_some() || query.bytes_max.is_some() {
            let EntryKind::File(content) = &entry.kind else { return Ok(false) };
            let fits = query.bytes_min.unwrap_or(0)..=query.bytes_max.unwrap_or(u64::MAX);
            if !fits.contains(&content.bytes) {
                return Ok(false);
            }
        }
        let kind = if entry.is_directory() { PathKind::Directory } else { PathKind::Other };
        if !query.names.is_empty() && query.names.matches(path, kind) != Match::Excluded {
            return Ok(false);
        }
        match &self.chunks {
            Some(chunks) => self.needs_any(entry, chunks),
            None => Ok(true),
        }
    }

    /// Whether an entry needs one of these chunks. A list that cannot be read hides what it names.
    fn needs_any(&self, entry: &Entry, chunks: &HashSet<ChunkId>) -> Result<bool> {
        let mut streams = Vec::new();
        match &entry.kind {
            EntryKind::Directory(stream) => streams.push(stream),
            EntryKind::File(content) => {
                streams.push(&content.stream);
                if let Some(SparseMap::Stream(stream)) = &content.sparse {
                    streams.push(stream);
                }
            }
            _ => {}
        }
        for stream in streams {
            let mut lists = vec![(stream.level.min(STREAM_LEVELS_MAX), stream.chunks.clone())];
            while let Some((level, refs)) = lists.pop() {
                if refs.iter().any(|chunk| chunks.contains(&chunk.id)) {
                    return Ok(true);
                }
                for list in refs.iter().filter(|_| level > 0) {
                    self.ctx.cancel.check()?;
                    match self.reader.read_tree(list).and_then(|bytes| Ok(decode_refs(&bytes)?)) {
                        Ok(refs) if level == 1 => {
                            if refs.iter().any(|chunk| chunks.contains(&chunk.id)) {
                                return Ok(true);
                            }
                        }
                        Ok(refs) => lists.push((level - 1, refs)),
                        Err(error) if error.is_damage() => {}
                        Err(error) => return Err(error),
                    }
                }
            }
        }
        Ok(false)
    }
}
