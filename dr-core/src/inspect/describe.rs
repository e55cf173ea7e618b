//! Shows single stored objects, as the engine's own decoders read them. No key and no secret is ever shown.

use std::fmt::Display;

use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;
use crate::format::envelope::{Header, PackClass};
use crate::format::key_slot::{Derivation, KeySlot};
use crate::format::log::{Event, HashList, LogEntry, SnapshotPlace};
use crate::format::names;
use crate::format::tree::{decode_entries, decode_refs};
use crate::id::{ChunkId, ObjectHash, SnapshotId};
use crate::limits::KEY_SLOT_BYTES_MAX;
use crate::log::read_entry_of;
use crate::pack::{PackEntry, open_pack_tail};
use crate::repository::{ChunkReader, Inner, Repository, get_bounded, read_segment};
use crate::time::Timestamp;
use crate::tree::{ChunkRef, Entry, EntryKind, SparseMap, Stream};

/// A stored object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoredObject {
    /// What a reader must know before it has a key.
    Config,
    /// The key slots.
    Keys,
    /// A snapshot, also a forgotten one.
    Snapshot(SnapshotId),
    /// A slot of the log.
    Log(u64),
    /// A tree chunk: a run of entries, or a list of chunks.
    Tree(ChunkId),
    /// A pack: its frames, and the chunks in them.
    Pack(ObjectHash),
    /// A live segment of the index.
    Index(ObjectHash),
}

/// Stored objects of which there may be many, and whose names nobody knows by heart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ObjectKind {
    /// The slots of the log.
    Log,
    /// The packs in the store, also those that no segment lists.
    Pack,
    /// The live segments of the index, also those that stand in the log.
    Index,
}

/// What is in an object, as a value that a program can print.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Description {
    /// There is none.
    Nothing,
    /// Yes or no.
    Flag(bool),
    /// A number.
    Number(i128),
    /// A text.
    Text(String),
    /// Bytes that may be no text, such as a name.
    Bytes(Vec<u8>),
    /// Several in order.
    List(Vec<Description>),
    /// Fields by name.
    Record(Vec<(&'static str, Description)>),
}

impl Repository {
    /// Reads one stored object and says what is in it.
    ///
    /// # Errors
    /// `NotFound` where there is no such object, `Corrupt` where it cannot be read, and what the store answers.
    pub fn describe(&self, object: &StoredObject) -> Result<Description> {
        let repository = &*self.0;
        match object {
            StoredObject::Config => Ok(config(repository)),
            StoredObject::Keys => keys(repository),
            StoredObject::Snapshot(id) => snapshot(repository, id),
            StoredObject::Log(slot) => slot_of(repository, *slot),
            StoredObject::Tree(id) => tree_chunk(repository, id),
            StoredObject::Pack(hash) => pack(repository, hash),
            StoredObject::Index(hash) => segment(repository, hash),
        }
    }

    /// Names all objects of a kind, in ascending order of number or hash; those of the index in the order of the log.
    /// [`Repository::describe`] shows each of them.
    ///
    /// # Errors
    /// What the store answers.
    pub fn stored_objects(&self, kind: ObjectKind) -> Result<Vec<StoredObject>> {
        let repository = &*self.0;
        if kind == ObjectKind::Pack {
            let mut packs = Vec::new();
            repository.list_pack_folders(&mut |_, hash, _| packs.extend(hash))?;
            packs.sort_unstable();
            // One that stands in both folders, by somebody's mistake, has one name.
            packs.dedup();
            return Ok(packs.into_iter().map(StoredObject::Pack).collect());
        }
        let log = repository.synchronise()?;
        Ok(match kind {
            ObjectKind::Index => {
                log.fold.segments().iter().map(|place| StoredObject::Index(*place.hash())).collect()
            }
            _ => (0..log.fold.next).map(StoredObject::Log).collect(),
        })
    }
}

fn text(value: impl Display) -> Description {
    Description::Text(value.to_string())
}

fn number(value: impl Into<i128>) -> Description {
    Description::Number(value.into())
}

fn list<T>(items: impl IntoIterator<Item = T>, describe: impl Fn(T) -> Description) -> Description {
    Description::List(items.into_iter().map(describe).collect())
}

fn optional<T>(value: Option<T>, describe: impl Fn(T) -> Description) -> Description {
    value.map_or(Description::Nothing, describe)
}

fn hex(bytes: &[u8]) -> Description {
    Description::Text(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn time(time: Timestamp) -> Description {
    Description::Record(vec![("seconds", number(time.seconds)), ("nanoseconds", number(time.nanoseconds))])
}

fn missing(what: &str, name: impl Display) -> Error {
    Error::new(ErrorKind::NotFound, format!("the repository has no such {what}"))
        .with_object(name)
        .with_remedy("give the whole name; 'dr snapshots', 'dr stats' and 'dr check' print some")
}

fn config(repository: &Inner) -> Description {
    let mode = match repository.config.mode {
        LogMode::CreateIfAbsent => "create-if-absent",
        LogMode::Siblings => "siblings",
    };
    Description::Record(vec![
        ("id", text(repository.config.id())),
        ("format_version", number(crate::format::config::FORMAT_VERSION)),
        ("log_mode", text(mode)),
    ])
}

fn keys(repository: &Inner) -> Result<Description> {
    let mut slots = Vec::new();
    for meta in repository.store.list_folder(names::KEYS)?.objects {
        let bytes = get_bounded(&*repository.store, &meta.name, KEY_SLOT_BYTES_MAX as u64)?;
        let mut fields = vec![("name", text(&meta.name)), ("bytes", number(meta.bytes))];
        match KeySlot::decode(&bytes) {
            Ok(slot) => {
                fields.push(("label", text(&slot.label)));
                match slot.derivation {
                    Derivation::Argon2id { memory_kib, passes, lanes } => fields.extend([
                        ("derivation", text("argon2id")),
                        ("memory_kib", number(memory_kib)),
                        ("passes", number(passes)),
                        ("lanes", number(lanes)),
                    ]),
                    Derivation::Raw => fields.push(("derivation", text("key file"))),
                }
            }
            Err(error) => fields.push(("unreadable", text(error))),
        }
        let opens = names::parse_hash(&meta.name)
            .is_some_and(|hash| repository.ring.slots().iter().any(|(known, _)| *known == hash));
        fields.push(("in_force", Description::Flag(opens)));
        slots.push(Description::Record(fields));
    }
    Ok(Description::List(slots))
}

fn snapshot(repository: &Inner, id: &SnapshotId) -> Result<Description> {
    let log = repository.synchronise()?;
    let state = log.fold.snapshot(id).ok_or_else(|| missing("snapshot", id))?;
    let snapshot = repository.read_snapshot(&log, state, &mut None)?;
    let totals = &snapshot.totals;
    let place = match &state.record.body {
        SnapshotPlace::Inline(_) => text("in the log"),
        SnapshotPlace::Stream(stream) => stream_of(stream),
    };
    let path = |path: &std::path::PathBuf| Description::Bytes(path.as_os_str().as_encoded_bytes().to_vec());
    Ok(Description::Record(vec![
        ("id", text(snapshot.id)),
        ("slot", number(snapshot.slot)),
        ("body", place),
        ("time", time(snapshot.time)),
        ("finished", time(snapshot.finished)),
        ("store_ms", number(snapshot.store_ms)),
        ("host", text(&snapshot.host)),
        ("paths", list(&snapshot.paths, path)),
        ("tags", list(&snapshot.tags, text)),
        ("program", text(&snapshot.program)),
        ("parent", optional(snapshot.parent, text)),
        ("partial", Description::Flag(snapshot.partial)),
        ("forgotten", Description::Flag(snapshot.forgotten)),
        ("protected", Description::Flag(snapshot.protected)),
        ("problems", number(snapshot.problems)),
        ("problem_list", stream_of(&snapshot.problem_list)),
        (
            "totals",
            Description::Record(vec![
                ("files", number(totals.files)),
                ("directories", number(totals.directories)),
                ("others", number(totals.others)),
                ("bytes", number(totals.bytes)),
                ("files_read", number(totals.files_read)),
                ("bytes_read", number(totals.bytes_read)),
                ("new_chunks", number(totals.new_chunks)),
                ("new_bytes", number(totals.new_bytes)),
                ("stored_bytes", number(totals.stored_bytes)),
            ]),
        ),
        ("root", stream_of(&snapshot.root)),
    ]))
}

fn chunk_of(chunk: &ChunkRef) -> Description {
    Description::Record(vec![("id", text(chunk.id)), ("bytes", number(chunk.bytes))])
}

fn stream_of(stream: &Stream) -> Description {
    Description::Record(vec![
        ("bytes", number(stream.bytes)),
        ("level", number(stream.level)),
        ("chunks", list(&stream.chunks, chunk_of)),
    ])
}

fn slot_of(repository: &Inner, slot: u64) -> Result<Description> {
    let log = repository.synchronise()?;
    if slot >= log.fold.next {
        return Err(missing("slot of the log", slot));
    }
    let name = log.name_of(slot);
    let entry = read_entry_of(&repository.sync(), slot, &name)?;
    let LogEntry { previous, previous_ms, writer, nonce, event, heads, read_only, .. } = &entry;
    Ok(Description::Record(vec![
        ("slot", number(slot)),
        ("name", text(&name)),
        ("previous", text(previous)),
        ("previous_ms", number(*previous_ms)),
        ("writer", hex(writer)),
        ("nonce", hex(nonce)),
        ("heads", list(heads, text)),
        ("read_only", Description::Flag(*read_only)),
        ("event", event_of(event)),
    ]))
}

fn hashes_of(hashes: &HashList) -> Description {
    match hashes {
        HashList::Inline(hashes) => list(hashes, text),
        HashList::List(object) => Description::Record(vec![("list", text(object))]),
    }
}

fn event_of(event: &Event) -> Description {
    let snapshots = |snapshots: &[SnapshotId]| ("snapshots", list(snapshots, text));
    let (kind, fields) = match event {
        Event::Genesis(event) => {
            ("genesis", vec![("config", text(event.config)), ("ring", text(event.ring))])
        }
        Event::Commit(event) => {
            let snapshot = event.snapshot.as_ref().map(|snapshot| {
                let place = match &snapshot.body {
                    SnapshotPlace::Inline(sealed) => number(sealed.len() as u64),
                    SnapshotPlace::Stream(stream) => stream_of(stream),
                };
                Description::Record(vec![
                    ("id", text(snapshot.id)),
                    ("partial", Description::Flag(snapshot.partial)),
                    ("body", place),
                ])
            });
            let inline = |segment: &Vec<u8>| {
                let hash = ObjectHash::of_parts([segment.as_slice()]);
                Description::Record(vec![("hash", text(hash)), ("bytes", number(segment.len() as u64))])
            };
            let fields = vec![
                ("snapshot", snapshot.unwrap_or(Description::Nothing)),
                ("segments", list(&event.segments, text)),
                ("inline_segments", list(&event.inline_segments, inline)),
                ("own_packs", hashes_of(&event.own_packs)),
                ("dedup_packs", hashes_of(&event.dedup_packs)),
                ("reused", list(&event.reused, text)),
            ];
            ("commit", fields)
        }
        Event::Forget(event) => ("forget", vec![snapshots(&event.snapshots)]),
        Event::Unforget(event) => ("unforget", vec![snapshots(&event.snapshots)]),
        Event::Protect(event) => ("protect", vec![snapshots(&event.snapshots)]),
        Event::Unprotect(event) => ("unprotect", vec![snapshots(&event.snapshots)]),
        Event::Tag(event) => ("tag", vec![snapshots(&event.snapshots), ("tags", list(&event.tags, text))]),
        Event::Hold(event) => ("hold", vec![("seconds", number(event.seconds))]),
        Event::Condemn(event) => {
            let fields = vec![
                ("packs", hashes_of(&event.packs)),
                ("segments", hashes_of(&event.segments)),
                snapshots(&event.snapshots),
                ("lossy", Description::Flag(event.lossy)),
            ];
            ("condemn", fields)
        }
        Event::Reindex(event) => {
            let fields = vec![
                ("inputs", list(&event.inputs, text)),
                ("outputs", list(&event.outputs, text)),
                ("own_packs", hashes_of(&event.own_packs)),
            ];
            ("reindex", fields)
        }
        Event::Checkpoint(event) => {
            ("checkpoint", vec![("through", number(event.through)), ("object", text(event.object))])
        }
        Event::Keys(event) => {
            ("keys", vec![("generation", number(event.generation)), ("ring", text(event.ring))])
        }
        Event::Unknown { kind } => ("unknown", vec![("number", number(*kind))]),
    };
    Description::Record([vec![("kind", text(kind))], fields].concat())
}

fn tree_chunk(repository: &Inner, id: &ChunkId) -> Result<Description> {
    let (log, index) = repository.current()?;
    let found = index.find(id, |location| location.pack.class == PackClass::Tree)?;
    let found = found.ok_or_else(|| missing("tree chunk", id))?;
    let reader = ChunkReader::new(repository, &log, index);
    let bytes = reader.read(PackClass::Tree, &ChunkRef { id: *id, bytes: found.bytes })?;
    let mut fields = vec![
        ("id", text(id)),
        ("bytes", number(found.bytes)),
        ("pack", text(found.pack.hash)),
        ("frame_offset", number(found.frame_offset)),
        ("offset", number(found.offset)),
    ];
    // A chunk does not say what it is: whoever names it knows.
    if let Ok(entries) = decode_entries(&bytes) {
        fields.push(("entries", list(&entries, entry_of)));
    } else if let Ok(refs) = decode_refs(&bytes) {
        fields.push(("chunks", list(&refs, chunk_of)));
    } else {
        fields.push(("other", Description::Bytes(bytes)));
    }
    Ok(Description::Record(fields))
}

fn entry_of(entry: &Entry) -> Description {
    let metadata = &entry.metadata;
    let (kind, content) = match &entry.kind {
        EntryKind::File(content) => {
            let sparse = match &content.sparse {
                None => Description::Nothing,
                Some(SparseMap::Inline(extents)) => list(extents, |extent| {
                    Description::Record(vec![
                        ("offset", number(extent.offset)),
                        ("bytes", number(extent.bytes)),
                    ])
                }),
                Some(SparseMap::Stream(stream)) => stream_of(stream),
            };
            let fields = vec![
                ("bytes", number(content.bytes)),
                ("stream", stream_of(&content.stream)),
                ("sparse", sparse),
            ];
            ("file", Description::Record(fields))
        }
        EntryKind::Directory(stream) => ("dir", stream_of(stream)),
        EntryKind::Symlink(target) => ("symlink", Description::Bytes(target.clone())),
        EntryKind::CharacterDevice(device) => ("chardev", number(*device)),
        EntryKind::BlockDevice(device) => ("blockdev", number(*device)),
        EntryKind::Fifo => ("fifo", Description::Nothing),
        EntryKind::Socket => ("socket", Description::Nothing),
    };
    let xattrs = list(&metadata.xattrs, |xattr| {
        Description::Record(vec![
            ("name", Description::Bytes(xattr.name.clone())),
            ("value", Description::Bytes(xattr.value.clone())),
        ])
    });
    Description::Record(vec![
        ("name", Description::Bytes(entry.name.clone())),
        ("type", text(kind)),
        ("content", content),
        ("mode", number(metadata.mode)),
        ("uid", number(metadata.uid)),
        ("gid", number(metadata.gid)),
        ("user", optional(metadata.user.as_ref(), text)),
        ("group", optional(metadata.group.as_ref(), text)),
        ("modified", time(metadata.modified)),
        ("changed", time(metadata.changed)),
        ("created", optional(metadata.created, time)),
        ("accessed", optional(metadata.accessed, time)),
        ("inode", number(metadata.inode)),
        ("device", number(metadata.device)),
        ("links", number(metadata.links)),
        ("racy", Description::Flag(metadata.racy)),
        ("xattrs", xattrs),
    ])
}

fn header_of(header: &Header) -> Description {
    Description::Record(vec![
        ("suite", number(header.suite as u8)),
        ("cipher", text(header.suite.cipher_name())),
        ("key_mode", number(header.key_mode)),
        ("epoch", number(header.epoch)),
        ("repository", hex(&header.repository)),
    ])
}

fn pack(repository: &Inner, hash: &ObjectHash) -> Result<Description> {
    for class in PackClass::ALL {
        let name = names::pack(class, hash);
        let bytes = match repository.store.stat(&name) {
            Ok(meta) => meta.bytes,
            Err(error) if error.kind() == dr_store::StoreErrorKind::NotFound => continue,
            Err(error) => return Err(error.into()),
        };
        let fetch = |range: std::ops::Range<u64>| Ok(repository.store.get_range(&name, range)?);
        let entry = open_pack_tail(&repository.ring, class, *hash, bytes, &fetch)
            .map_err(|error| error.with_object(&name))?;
        return Ok(pack_of(&entry, &name));
    }
    Err(missing("pack", hash))
}

fn pack_of(entry: &PackEntry, name: &dr_store::Name) -> Description {
    let frame = |frame: &crate::pack::builder::PackFrame| {
        let chunk = |(id, bytes): &(ChunkId, u32)| chunk_of(&ChunkRef { id: *id, bytes: *bytes });
        Description::Record(vec![
            ("offset", number(frame.offset)),
            ("header", number(frame.header)),
            ("raw_bytes", number(frame.shape.raw_bytes)),
            ("stored_bytes", number(frame.shape.stored_bytes)),
            ("codec", Description::Text(format!("{:?}", frame.shape.codec).to_lowercase())),
            ("chunks", list(&frame.chunks, chunk)),
        ])
    };
    let headers = std::iter::once(&entry.header).chain(&entry.foreign);
    Description::Record(vec![
        ("name", text(name)),
        ("class", text(entry.class.folder())),
        ("bytes", number(entry.bytes)),
        ("headers", list(headers, header_of)),
        ("frames", list(&entry.frames, frame)),
    ])
}

fn segment(repository: &Inner, hash: &ObjectHash) -> Result<Description> {
    let log = repository.synchronise()?;
    let place = log.fold.segments().iter().find(|place| place.hash() == hash);
    let (segment, _) = read_segment(repository, place.ok_or_else(|| missing("live segment", hash))?)?;
    let mut frames = vec![0u64; segment.packs.len()];
    let mut chunks = vec![(0u64, 0u64); segment.packs.len()];
    for frame in &segment.frames {
        if let Some(count) = frames.get_mut(frame.pack as usize) {
            *count += 1;
        }
    }
    for record in &segment.chunks {
        let pack = segment.frames.get(record.frame as usize).map(|frame| frame.pack as usize);
        if let Some(sums) = pack.and_then(|pack| chunks.get_mut(pack)) {
            *sums = (sums.0 + 1, sums.1 + u64::from(record.bytes));
        }
    }
    let packs =
        segment.packs.iter().zip(frames).zip(chunks).map(|((pack, frames), (chunks, chunk_bytes))| {
            Description::Record(vec![
                ("name", text(names::pack(pack.class, &pack.hash))),
                ("bytes", number(pack.bytes)),
                ("frames", number(frames)),
                ("chunks", number(chunks)),
                ("chunk_bytes", number(chunk_bytes)),
            ])
        });
    Ok(Description::Record(vec![
        ("hash", text(hash)),
        ("inputs", list(&segment.inputs, text)),
        ("headers", list(&segment.headers, header_of)),
        ("frames", number(segment.frames.len() as u64)),
        ("chunks", number(segment.chunks.len() as u64)),
        ("packs", Description::List(packs.collect())),
    ]))
}
