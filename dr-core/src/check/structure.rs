//! Checks what refers to what.

use std::cell::Cell;
use std::collections::HashSet;
use std::fmt::Display;
use std::sync::Arc;

use dr_store::StoreErrorKind;

use super::StoredPacks;
use super::findings::Findings;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::Config;
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::format::tree::decode_entries;
use crate::id::{ChunkId, ObjectHash};
use crate::index::{Index, RecordSet, Table};
use crate::limits::SEGMENT_BYTES_MAX;
use crate::log::{Log, read_list};
use crate::observer::{Context, Event, as_path, lock};
use crate::repository::{ChunkReader, Inner, check_bytes, is_given_up, missing_chunk, read_table};
use crate::snapshot::Snapshot;
use crate::tree::{ChunkRef, EntryKind, ReadChunk, SparseMap, Stream, stream_chunks};

/// Reads the config and all of the log from the store, and compares them with what this client has seen of them.
pub(super) fn check_log(repository: &Inner, findings: &Findings) -> Result<Log> {
    let seen = lock(&repository.log).clone();
    let config = repository.store.get(&names::config());
    match config.map_err(Error::from).and_then(|bytes| Ok(Config::decode(&bytes)?)) {
        Ok(config) if config == repository.config => {}
        Ok(_) => {
            findings.error(names::config(), "the config is not the one that the repository was opened with")
        }
        Err(error) if error.is_retryable() => return Err(error),
        Err(error) => findings.failure(names::config(), &error),
    }
    let mut log = Log::of_mode(repository.config.mode);
    log.synchronise(&repository.sync())?;
    if let Some(slot) = seen.first_difference(&log) {
        findings.error(names::slot(slot), "the slot of the log is not what it was when it was read before");
    }
    note_damage(&log, findings);
    Ok(log)
}

fn note_damage(log: &Log, findings: &Findings) {
    for (slot, _, snapshot) in &log.fold.broken {
        let what = snapshot.map_or("a commit".to_owned(), |id| format!("snapshot {id}"));
        findings.error(
            log.name_of(*slot),
            format_args!("{what} rests on what somebody collected while it was written: it is void"),
        );
    }
    for damaged in log.damage() {
        findings.error(
            names::slot(damaged.slot),
            format_args!("the slot of the log is damaged: {}", damaged.why),
        );
    }
    for void in log.damaged.iter().filter(|slot| slot.void) {
        findings
            .note(names::slot(void.slot), "the slot was written bad and says nothing; nothing depends on it");
    }
}

/// Reads every live segment from the store, and makes the index of what could be read.
pub(super) fn check_index(
    repository: &Inner,
    log: &Log,
    findings: &Findings,
    ctx: Context<'_>,
) -> Result<Index> {
    let mut tables = Vec::new();
    let mut has_gaps = false;
    for place in log.fold.segments() {
        ctx.cancel.check()?;
        match read_table(repository, place) {
            Ok(table) => {
                let cached = repository.cache.as_ref().map(|cache| cache.renew_table(place.hash(), &table));
                let table = match cached.flatten() {
                    Some(table) => table,
                    None => Table::from_bytes(table)?,
                };
                tables.push(Arc::new(table));
            }
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => {
                findings.failure(names::hashed(names::INDEX, place.hash()), &error);
                has_gaps = true;
            }
        }
    }
    repository.drop_damaged_concordance();
    let index = Index::new(tables, log.fold.condemned().clone());
    Ok(if has_gaps { index.with_gaps() } else { index })
}

/// Compares the packs that the index speaks of with those that are there.
pub(super) fn check_packs(
    repository: &Inner,
    index: &Index,
    log: &Log,
    findings: &Findings,
) -> Result<StoredPacks> {
    let mut stored = StoredPacks::new();
    repository.list_pack_folders(&mut |class, hash, meta| match hash {
        Some(hash) => _ = stored.insert(hash, (class, meta.bytes)),
        None => findings.note(&meta.name, "an object of an unknown name"),
    })?;
    let mut listed = HashSet::new();
    for pack in index.packs() {
        listed.insert(pack.hash);
        let name = names::pack(pack.class, &pack.hash);
        match stored.get(&pack.hash) {
            None => {
                findings.pack(&pack.hash);
                findings.error(name, "the pack is missing");
            }
            Some((class, _)) if *class != pack.class => {
                findings.pack(&pack.hash);
                findings.error(name, "the pack is in the other class's folder");
            }
            Some((_, bytes)) if *bytes != pack.bytes => {
                findings.pack(&pack.hash);
                findings.error(name, format_args!("the pack has {bytes} bytes instead of {}", pack.bytes));
            }
            Some(_) => {}
        }
    }
    for (hash, (class, bytes)) in &stored {
        if !listed.contains(hash) {
            let condemned = log.fold.condemned().contains_key(hash);
            let why = if condemned {
                "may be deleted"
            } else {
                "is listed by no index segment: a run was cut short"
            };
            findings.note(names::pack(*class, hash), format_args!("the pack ({bytes} bytes) {why}"));
        }
    }
    Ok(stored)
}

/// Checks the small objects: every one of a hashed name must hash to it, and the lists that the log names must be there.
pub(super) fn check_objects(repository: &Inner, log: &Log, findings: &Findings) -> Result<()> {
    let sync = repository.sync();
    let mut needed: HashSet<ObjectHash> = HashSet::new();
    for list in log.fold.lists() {
        needed.insert(*list);
        if let Err(error) = read_list(&sync, list) {
            findings.failure(names::hashed(names::LIST, list), &error);
        }
    }
    needed.extend(log.fold.segments().iter().map(|segment| *segment.hash()));
    needed.extend(log.fold.checkpoints.iter().map(|(_, object)| *object));
    needed.extend(log.fold.ring.iter().map(|(_, ring)| *ring));
    let ring = repository.ring_in_force(log)?.ring;
    needed.extend(ring.slots().iter().map(|(slot, _)| *slot));
    for folder in [names::KEYS, names::RING, names::INDEX, names::LIST, names::CHECKPOINT] {
        for meta in repository.store.list_folder(folder)?.objects {
            let Some(hash) = names::parse_hash(&meta.name) else {
                findings.note(&meta.name, "an object of an unknown name");
                continue;
            };
            if let Err(error) = check_bytes(&meta.name, meta.bytes, SEGMENT_BYTES_MAX) {
                findings.failure(&meta.name, &error);
                continue;
            }
            let bytes = match repository.store.get(&meta.name) {
                // What a collector deletes meanwhile is missed by nobody; what is needed is missed below.
                Err(gone) if gone.kind() == StoreErrorKind::NotFound => continue,
                read => read?,
            };
            let is_intact = ObjectHash::of_parts([&bytes[..]]) == hash;
            match (is_intact, needed.remove(&hash)) {
                (false, true) => findings.error(&meta.name, "the object does not hash to its name"),
                (false, false) => {
                    findings.error(&meta.name, "the object does not hash to its name; nothing needs it")
                }
                (true, false) => findings.note(&meta.name, "nothing refers to the object"),
                (true, true) => {}
            }
        }
    }
    let slots: Vec<ObjectHash> =
        ring.slots().iter().map(|(slot, _)| *slot).filter(|slot| needed.contains(slot)).collect();
    let ring = log.fold.ring.map(|(_, ring)| ring).filter(|ring| needed.contains(ring));
    let is_missing = !slots.is_empty() || ring.is_some();
    // Unless somebody has changed the keys meanwhile.
    if is_missing && repository.synchronise()?.fold.ring == log.fold.ring {
        for slot in slots {
            findings.error(
                names::hashed(names::KEYS, &slot),
                "the key slot is missing: its password opens nothing any more",
            );
        }
        if let Some(ring) = ring {
            findings.error(names::hashed(names::RING, &ring), "the key ring is missing");
        }
    }
    for (_, checkpoint) in log.fold.checkpoints.iter().filter(|(_, hash)| needed.contains(hash)) {
        findings.note(
            names::hashed(names::CHECKPOINT, checkpoint),
            "the checkpoint is missing; it is only a copy",
        );
    }
    Ok(())
}

/// Walks every snapshot whose chunks must be there. Gives the number of snapshots.
pub(super) fn check_snapshots(
    repository: &Inner,
    log: &Log,
    index: &Index,
    stored: &StoredPacks,
    findings: &Findings,
    ctx: Context<'_>,
) -> Result<u64> {
    let mut walk = Walk {
        reader: ChunkReader::new(repository, log, index.clone()).without_condemned(),
        stored,
        findings,
        ctx,
        seen: RecordSet::new(index),
        what: String::new(),
        is_forgotten: false,
        is_noted: Cell::new(false),
        outage: Cell::new(false),
    };
    let bodies = ChunkReader::new(repository, log, index.clone()).without_condemned();
    let expected = log.fold.uncollected_snapshots().count() as u64;
    // What is garbage is not looked at, so that it may be less.
    ctx.observer.event(&Event::Expected { entries: expected, bytes: index.tree_bytes() });
    let mut count = 0;
    let states = log.fold.uncollected_snapshots();
    // Every tree chunk is read once: what both kinds need is looked at for those that are not forgotten.
    let (forgotten, live): (Vec<_>, Vec<_>) = states.partition(|state| state.forgotten.is_some());
    for state in live.into_iter().chain(forgotten) {
        ctx.cancel.check()?;
        count += 1;
        walk.what = format!("snapshot {}", state.record.id);
        walk.is_forgotten = state.forgotten.is_some();
        walk.is_noted.set(false);
        match repository.read_snapshot_through(state, &bodies) {
            Ok(snapshot) => walk.snapshot(&snapshot)?,
            Err(error) if error.kind() == ErrorKind::Cancelled || error.is_retryable() => return Err(error),
            Err(error) => walk.lose(&walk.what, &error),
        }
        ctx.observer.event(&Event::SnapshotDone { snapshot: state.record.id });
    }
    Ok(count)
}

/// A walk over all trees, in which every tree chunk is read once.
struct Walk<'a> {
    reader: ChunkReader<'a>,
    stored: &'a StoredPacks,
    findings: &'a Findings,
    ctx: Context<'a>,
    /// Runs of entries that were looked at.
    seen: RecordSet,
    /// The snapshot that is being looked at.
    what: String,
    is_forgotten: bool,
    /// It is forgotten, and the note says that it lacks something.
    is_noted: Cell<bool>,
    /// The store did not answer: nothing can be said of what is damaged.
    outage: Cell<bool>,
}

impl Walk<'_> {
    fn snapshot(&mut self, snapshot: &Snapshot) -> Result<()> {
        self.references(PackClass::Tree, &snapshot.problem_list, b"the list of problems");
        let mut stack = vec![(Vec::new(), snapshot.root.clone())];
        while let Some((path, stream)) = stack.pop() {
            self.ctx.cancel.check()?;
            self.directory(&path, &stream, &mut stack);
            if self.outage.get() {
                return Err(Error::new(
                    ErrorKind::StoreUnavailable,
                    "the store stopped answering during the check",
                )
                .with_remedy("try again when the store answers"));
            }
        }
        Ok(())
    }

    fn directory(&mut self, path: &[u8], stream: &Stream, stack: &mut Vec<(Vec<u8>, Stream)>) {
        let mut here = HashSet::new();
        for chunk in stream_chunks(stream, &self.reader) {
            let entries = chunk.and_then(|chunk| {
                if !here.insert(chunk.id) {
                    return Err(Error::corrupt("a directory repeats itself"));
                }
                if !self.is_new(&chunk.id) {
                    return Ok(Vec::new());
                }
                let read = self.reader.read_tree(&chunk);
                self.ctx.observer.event(&Event::Progress { bytes: chunk.bytes.into() });
                Ok(decode_entries(&read?)?)
            });
            let entries = match entries {
                Ok(entries) => entries,
                Err(error) => {
                    self.fail(path, &error);
                    if error.object().is_none() {
                        return;
                    }
                    continue;
                }
            };
            for entry in entries {
                let below = [path, b"/", &entry.name].concat();
                match entry.kind {
                    EntryKind::Directory(stream) => stack.push((below, stream)),
                    EntryKind::File(content) => {
                        self.references(PackClass::Data, &content.stream, &below);
                        if let Some(SparseMap::Stream(extents)) = &content.sparse {
                            self.references(PackClass::Tree, extents, &below);
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    /// Whether the chunk was not looked at before. One that the index does not know counts as new each time.
    fn is_new(&self, chunk: &ChunkId) -> bool {
        let tables = self.reader.index.tables().iter().enumerate();
        let place = tables.filter_map(|(number, table)| Some((number, table.ordinals(chunk).next()?))).next();
        place.is_none_or(|place| self.seen.insert(place))
    }

    /// Checks that every chunk of a stream lies in a pack that is there.
    fn references(&self, class: PackClass, stream: &Stream, path: &[u8]) {
        let mut total = 0;
        for chunk in stream_chunks(stream, &self.reader) {
            if self.ctx.cancel.is_cancelled() {
                return;
            }
            let checked = chunk.and_then(|chunk| {
                total += u64::from(chunk.bytes);
                self.reference(class, &chunk)
            });
            if let Err(error) = checked {
                self.fail(path, &error);
                return;
            }
        }
        if total != stream.bytes {
            self.fail(path, &Error::corrupt("its chunks are not as long as it is"));
        }
    }

    fn reference(&self, class: PackClass, chunk: &ChunkRef) -> Result<()> {
        let mut known = None;
        for location in self.reader.index.lookup(&chunk.id) {
            let location = location?;
            let is_right = location.bytes == chunk.bytes && location.pack.class == class;
            if is_right && self.stored.contains_key(&location.pack.hash) {
                return Ok(());
            }
            known = Some(location);
        }
        Err(match known {
            Some(location) => Error::corrupt("the pack of a chunk is missing")
                .with_object(names::pack(class, &location.pack.hash)),
            None => missing_chunk(&self.reader.index, &chunk.id),
        })
    }

    fn fail(&self, path: &[u8], error: &Error) {
        if error.is_retryable() {
            self.outage.set(true);
        }
        self.lose(format_args!("{}:{}", self.what, as_path(path).display()), error);
    }

    /// Something is lost. Where the index does not promise it any more, and only forgotten snapshots need it, nothing is left
    /// to repair: one note for each of them says so.
    fn lose(&self, place: impl Display, error: &Error) {
        if !(self.is_forgotten && is_given_up(&self.reader.index, error)) {
            self.findings.failure(place, error);
        } else if !self.is_noted.replace(true) {
            let why = "the snapshot is forgotten, and 'dr prune' collects it";
            self.findings.note(place, format_args!("{error}; {why}"));
        }
    }
}
