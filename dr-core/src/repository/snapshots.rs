//! Lists and finds snapshots, and reads what is in them.

use super::{ChunkReader, Inner, Repository};
use crate::crypto::open_object;
use crate::error::{Error, ErrorKind, Result};
use crate::format::body;
use crate::format::checkpoint::SnapshotState;
use crate::format::envelope::ObjectType;
use crate::format::log::SnapshotPlace;
use crate::format::snapshot::{Problem, Relation, SnapshotBody, origins_of};
use crate::id::SnapshotId;
use crate::limits::{DEPTH_MAX, SNAPSHOT_BYTES_MAX, WALK_ENTRIES_MAX};
use crate::log::Log;
use crate::snapshot::{Selector, Snapshot, SnapshotFilter, Standing};
use crate::time::Timestamp;
use crate::tree::{DirectoryReader, Entry, EntryKind, ReadChunk, Stream, read_stream, stream_chunks};

/// Takes a path and the entry there, or the error that stands in its place; its own error ends a listing.
pub type Visit<'v> = dyn FnMut(&[u8], Result<&Entry>) -> Result<()> + 'v;

impl Repository {
    /// The snapshots that pass the filter and are not forgotten, in the order they were committed; one that was rewritten
    /// stands where the original stood.
    ///
    /// # Errors
    /// What the store answers.
    pub fn snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> {
        let log = self.0.synchronise()?;
        let mut snapshots = self.0.read_snapshots(&log)?.readable;
        snapshots.retain(|snapshot| filter.matches(snapshot));
        Ok(snapshots)
    }

    /// The snapshots that cannot be read, and why; `snapshots` leaves them out.
    ///
    /// # Errors
    /// What the store answers.
    pub fn unreadable_snapshots(&self) -> Result<Vec<(SnapshotId, Error)>> {
        let log = self.0.synchronise()?;
        let unreadable = self.0.read_snapshots(&log)?.unreadable;
        Ok(unreadable.into_iter().map(|(state, error)| (state.record.id, error)).collect())
    }

    /// Finds the one snapshot that `selector` (`latest`, `latest~N`, an id or its beginning) means among those that pass
    /// the filter.
    ///
    /// # Errors
    /// `InvalidInput` where the selector is none or means several, `NotFound`, and as `snapshots`.
    pub fn find_snapshot(&self, selector: &str, filter: &SnapshotFilter) -> Result<Snapshot> {
        self.choose(&Selector::parse(selector)?, filter)
    }

    /// Finds the newest whole snapshot that passes the filter and was not made after `time`.
    ///
    /// # Errors
    /// `NotFound`, and as `snapshots`.
    pub fn snapshot_at(&self, time: Timestamp, filter: &SnapshotFilter) -> Result<Snapshot> {
        self.choose(&Selector::At(time), filter)
    }

    /// Chooses a snapshot. One that cannot be read is not passed over in silence where it may be the one that is meant.
    fn choose(&self, selector: &Selector, filter: &SnapshotFilter) -> Result<Snapshot> {
        let log = self.0.synchronise()?;
        let ReadSnapshots { mut readable, unreadable } = self.0.read_snapshots(&log)?;
        readable.retain(|snapshot| filter.matches(snapshot));
        let chosen = selector.choose(&readable).cloned();
        let after = chosen.as_ref().map_or(0, |snapshot| snapshot.slot);
        for (state, error) in unreadable {
            let id = state.record.id.to_string();
            let is_meant = match selector {
                Selector::Prefix(prefix) => id.starts_with(prefix),
                _ => state.slot > after && !state.record.partial,
            };
            if is_meant {
                return Err(
                    error.with_remedy("it is damaged: name another snapshot by its id, or run 'dr check'")
                );
            }
        }
        chosen
    }

    /// Calls `visit` for everything below `path` in a snapshot (`/` for all of it), parents before what they hold, in
    /// order of name; `path` itself comes first, but not `/`. What cannot be read is an error in its place, and the
    /// listing goes on behind it.
    ///
    /// # Errors
    /// `NotFound` where the snapshot has no such path; an error that `visit` returns.
    pub fn list(&self, snapshot: &Snapshot, path: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let (log, index) = self.0.current()?;
        let reader = ChunkReader::new(&self.0, &log, index);
        let found = find_path(snapshot, path, &reader)?;
        walk(found, &reader, visit)
    }

    /// The paths that a snapshot lacks, or holds in a state that never was.
    ///
    /// # Errors
    /// `Corrupt` where the list cannot be read, and what the store answers.
    pub fn problems(&self, snapshot: &Snapshot) -> Result<Vec<Problem>> {
        let (log, index) = self.0.current()?;
        let reader = ChunkReader::new(&self.0, &log, index);
        let mut problems = Vec::new();
        for chunk in stream_chunks(&snapshot.problem_list, &reader) {
            let bytes = reader.read_tree(&chunk?)?;
            problems.extend(body::decode::<Vec<Problem>>("a list of problems", &bytes)?.value);
        }
        Ok(problems)
    }
}

/// A place in a snapshot: the path, and the entry there; none for `/`.
pub(crate) struct Found {
    pub(crate) path: Vec<u8>,
    pub(crate) entry: Option<Entry>,
    /// The directories on the way, outermost first.
    pub(crate) above: Vec<Entry>,
    root: Stream,
}

impl Found {
    /// The stream of the directory that was found; `None` where it is something else.
    pub(crate) fn directory(&self) -> Option<&Stream> {
        match &self.entry {
            None => Some(&self.root),
            Some(Entry { kind: EntryKind::Directory(stream), .. }) => Some(stream),
            Some(_) => None,
        }
    }
}

/// Finds a path in a snapshot.
pub(crate) fn find_path(snapshot: &Snapshot, path: &[u8], reader: &dyn ReadChunk) -> Result<Found> {
    find_below(&snapshot.root, path, reader)
}

/// The same below the root of a snapshot.
pub(crate) fn find_below(root: &Stream, path: &[u8], reader: &dyn ReadChunk) -> Result<Found> {
    let mut found = Found { path: Vec::new(), entry: None, above: Vec::new(), root: root.clone() };
    for component in path.split(|byte| *byte == b'/').filter(|component| !component.is_empty()) {
        let missing = || {
            Error::new(ErrorKind::NotFound, "the snapshot has no such path")
                .with_path(crate::observer::as_path(path))
                .with_remedy("list what it has with 'dr ls'")
        };
        let stream = found.directory().ok_or_else(missing)?.clone();
        let mut entry = None;
        let mut unreadable = None;
        for candidate in DirectoryReader::new(&stream, reader) {
            match candidate {
                Ok(candidate) if candidate.name == component => {
                    entry = Some(candidate);
                    break;
                }
                Ok(_) => {}
                Err(error) => unreadable = Some(error),
            }
        }
        if let (None, Some(error)) = (&entry, unreadable) {
            return Err(error);
        }
        let entry = entry.ok_or_else(missing)?;
        found.above.extend(found.entry.replace(entry));
        found.path.push(b'/');
        found.path.extend_from_slice(component);
    }
    Ok(found)
}

/// Whether a walk goes on into a directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Onward {
    /// It does.
    Into,
    /// It does not: the directory is not even read.
    Past,
}

/// As [`Visit`], for who may pass directories by.
pub(crate) type VisitSome<'v> = dyn FnMut(&[u8], Result<&Entry>) -> Result<Onward> + 'v;

/// Visits everything below a place, parents first.
pub(crate) fn walk(found: Found, reader: &dyn ReadChunk, visit: &mut Visit<'_>) -> Result<()> {
    walk_some(found, reader, &mut |path, entry| visit(path, entry).map(|()| Onward::Into))
}

/// Visits what is below a place and not passed by, parents first. The stack is explicit: no tree is too deep.
pub(crate) fn walk_some(found: Found, reader: &dyn ReadChunk, visit: &mut VisitSome<'_>) -> Result<()> {
    if let Some(entry) = &found.entry
        && visit(&found.path, Ok(entry))? == Onward::Past
    {
        return Ok(());
    }
    let Some(stream) = found.directory() else { return Ok(()) };
    let mut stack = vec![(found.path.clone(), DirectoryReader::new(stream, reader))];
    // What the levels above the one being listed hold decoded.
    let mut held = 0;
    while let Some((path, entries)) = stack.last_mut() {
        match entries.next() {
            None => {
                stack.pop();
                held -= stack.last().map_or(0, |(_, entries)| entries.held());
            }
            Some(Err(error)) => {
                visit(path, Err(error))?;
            }
            Some(Ok(entry)) => {
                let mut below = path.clone();
                below.push(b'/');
                below.extend_from_slice(&entry.name);
                let onward = visit(&below, Ok(&entry))?;
                if let (EntryKind::Directory(stream), Onward::Into) = (&entry.kind, onward) {
                    let above = entries.held();
                    if stack.len() >= DEPTH_MAX || held + above > WALK_ENTRIES_MAX {
                        let error = Error::corrupt("directories are nested deeper than the format allows");
                        visit(&below, Err(error))?;
                    } else {
                        held += above;
                        stack.push((below, DirectoryReader::new(stream, reader)));
                    }
                }
            }
        }
    }
    Ok(())
}

/// Snapshots that could be read, and those that could not.
pub(crate) struct ReadSnapshots {
    pub(crate) readable: Vec<Snapshot>,
    pub(crate) unreadable: Vec<(SnapshotState, Error)>,
}

impl Inner {
    /// All snapshots that are not forgotten, in the order they were committed; one that was rewritten stands where the
    /// original stood.
    pub(crate) fn read_snapshots(&self, log: &Log) -> Result<ReadSnapshots> {
        let mut bodies = None;
        let mut read = ReadSnapshots { readable: Vec::new(), unreadable: Vec::new() };
        for state in log.fold.live_snapshots() {
            match self.read_snapshot(log, state, &mut bodies) {
                Ok(snapshot) => read.readable.push(snapshot),
                Err(error) if error.is_damage() => read.unreadable.push((state.clone(), error)),
                Err(error) => return Err(error),
            }
        }
        read.readable.sort_by_key(|snapshot| (snapshot.place, snapshot.slot));
        Ok(read)
    }

    /// Reads a snapshot's body. The index is opened only where a body is not in the log.
    pub(crate) fn read_snapshot<'a>(
        &'a self,
        log: &Log,
        state: &SnapshotState,
        reader: &mut Option<ChunkReader<'a>>,
    ) -> Result<Snapshot> {
        self.read_body(state, &mut |stream| {
            let reader = match reader {
                Some(reader) => reader,
                None => reader.insert(ChunkReader::new(self, log, self.index(log)?)),
            };
            read_stream(stream, SNAPSHOT_BYTES_MAX as u64, reader)
        })
    }

    /// The same, where the index is open.
    pub(crate) fn read_snapshot_through(
        &self,
        state: &SnapshotState,
        reader: &ChunkReader<'_>,
    ) -> Result<Snapshot> {
        self.read_body(state, &mut |stream| read_stream(stream, SNAPSHOT_BYTES_MAX as u64, reader))
    }

    fn read_body(
        &self,
        state: &SnapshotState,
        read: &mut dyn FnMut(&Stream) -> Result<Vec<u8>>,
    ) -> Result<Snapshot> {
        let id = state.record.id;
        let body = match &state.record.body {
            SnapshotPlace::Inline(sealed) => {
                open_object(|header| self.ring.kek(header), ObjectType::Snapshot, 0, sealed)
            }
            SnapshotPlace::Stream(stream) => read(stream),
        };
        let named = |error: Error| error.with_object(format!("snapshot {id}"));
        let body = body.map_err(named)?;
        if snapshot_id(self, &body) != id {
            return Err(named(Error::corrupt("a snapshot does not hash to its id")));
        }
        let decoded = SnapshotBody::decode(&body).map_err(|error| named(error.into()))?;
        let origins = origins_of(&decoded.extensions);
        // Whoever claims a place can only make the snapshot look older than it is.
        let place = origins
            .iter()
            .find(|origin| {
                origin.is_of(&self.config.repository) && origin.relation() == Some(Relation::Rewritten)
            })
            .map_or(state.slot, |origin| origin.slot.min(state.slot));
        let standing = Standing {
            id,
            slot: state.slot,
            store_ms: state.store_ms,
            forgotten: state.forgotten.is_some(),
            protected: state.protected,
            newer: decoded.read_only,
            tags: state.tags.clone(),
            origins,
            place,
        };
        Ok(Snapshot::new(standing, decoded.value))
    }
}

/// The id of a snapshot: the hash of its body, keyed as a tree chunk is.
pub(crate) fn snapshot_id(repository: &Inner, body: &[u8]) -> SnapshotId {
    SnapshotId::from_bytes(*blake3::keyed_hash(repository.domain.tree_ids.bytes(), body).as_bytes())
}
