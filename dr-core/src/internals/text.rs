//! Writes decoded values as names and texts.

use std::fmt::{Display, Write};

use super::*;

pub(super) fn join<T: Display>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

pub(super) fn join_refs(refs: &[ChunkRef]) -> String {
    join(refs.iter().map(|chunk| format!("{}:{}", chunk.id, chunk.bytes)))
}

pub(super) fn join_extents(extents: &[Extent]) -> String {
    join(extents.iter().map(|extent| format!("{}:{}", extent.offset, extent.bytes)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Writes values as fields.
#[derive(Default)]
pub(super) struct Text(pub(super) Fields);

impl Text {
    pub(super) fn put(&mut self, name: &str, value: impl Display) {
        self.0.push((name.to_owned(), value.to_string()));
    }

    pub(super) fn hex(&mut self, name: &str, bytes: &[u8]) {
        self.put(name, hex(bytes));
    }

    pub(super) fn time(&mut self, name: &str, time: Timestamp) {
        self.put(name, format!("{}:{}", time.seconds, time.nanoseconds));
    }

    pub(super) fn header(&mut self, at: &str, header: &Header) {
        self.put(&format!("{at}type"), header.object as u8);
        self.put(&format!("{at}suite"), header.suite as u8);
        self.put(&format!("{at}key_mode"), header.key_mode);
        self.put(&format!("{at}epoch"), header.epoch);
        self.hex(&format!("{at}repository"), &header.repository);
        self.hex(&format!("{at}salt"), &header.salt);
        self.hex(&format!("{at}aux"), &header.aux);
    }

    pub(super) fn key_slot(&mut self, slot: &KeySlot) {
        self.hex("repository", &slot.repository);
        match slot.derivation {
            Derivation::Argon2id { memory_kib, passes, lanes } => {
                self.put("kind", "argon2id");
                self.put("cost", format!("{memory_kib} {passes} {lanes}"));
            }
            Derivation::Raw => self.put("kind", "raw"),
        }
        self.hex("salt", &slot.salt);
        self.put("label", &slot.label);
        self.hex("commit", &slot.commit);
        self.hex("sealed_key", &slot.sealed_key);
    }

    pub(super) fn ring(&mut self, ring: &RingBody) {
        self.put("generation", ring.generation);
        self.put("config", ring.config);
        for (number, key) in ring.keys.iter().enumerate() {
            let at = format!("key.{number}");
            match key {
                RingKey::Epoch { epoch, secret } => self.put(&at, format!("epoch {epoch} {}", hex(secret))),
                RingKey::Domain { domain, secret, chunker } => {
                    let ChunkerParams { algorithm, min_bytes, average_bytes, max_bytes, normalisation } =
                        chunker;
                    let params =
                        format!("{algorithm} {min_bytes} {average_bytes} {max_bytes} {normalisation}");
                    self.put(&at, format!("domain {domain} {} {params}", hex(secret)));
                }
                RingKey::Slot { slot, key } => self.put(&at, format!("slot {slot} {}", hex(key))),
            }
        }
    }

    pub(super) fn list(&mut self, name: &str, list: &HashList) {
        match list {
            HashList::Inline(hashes) => self.put(name, join(hashes)),
            HashList::List(object) => self.put(name, format!("list {object}")),
        }
    }

    fn record(&mut self, at: &str, record: &SnapshotRecord) {
        self.put(&format!("{at}.snapshot"), record.id);
        self.put(&format!("{at}.partial"), record.partial);
        match &record.body {
            SnapshotPlace::Inline(sealed) => self.hex(&format!("{at}.body"), sealed),
            SnapshotPlace::Stream(stream) => self.stream(&format!("{at}.body"), stream),
        }
    }

    pub(super) fn checkpoint(&mut self, checkpoint: &CheckpointBody) {
        let CheckpointBody { through, head, head_ms, changed, .. } = checkpoint;
        self.put("through", format!("{through} {head} {head_ms}"));
        self.put("changed", changed);
        let or_none = |found: Option<String>| found.unwrap_or_else(|| "none".to_owned());
        self.put("genesis", or_none(checkpoint.genesis.map(|(config, ring)| format!("{config} {ring}"))));
        self.put("ring", or_none(checkpoint.ring.map(|(number, ring)| format!("{number} {ring}"))));
        for (number, state) in checkpoint.snapshots.iter().enumerate() {
            let at = format!("snapshot.{number}");
            self.record(&at, &state.record);
            self.put(&format!("{at}.slot"), state.slot);
            self.put(&format!("{at}.store_ms"), state.store_ms);
            self.put(&format!("{at}.next_ms"), or_none(state.next_ms.map(|time| time.to_string())));
            self.put(&format!("{at}.forgotten"), or_none(state.forgotten.map(|slot| slot.to_string())));
            self.put(&format!("{at}.protected"), state.protected);
            if let Some(tags) = &state.tags {
                self.put(&format!("{at}.tags"), join(tags));
            }
        }
        for (number, segment) in checkpoint.segments.iter().enumerate() {
            match segment {
                CheckpointSegment::Object(hash) => self.put(&format!("segment.{number}"), hash),
                CheckpointSegment::Inline(bytes) => self.hex(&format!("segment.{number}.inline"), bytes),
            }
        }
        self.put("superseded", join(&checkpoint.superseded));
        for (name, slot) in &checkpoint.condemned {
            self.put("condemned", format!("{name} {slot}"));
        }
        self.put("lossy", or_none(checkpoint.lossy.map(|slot| slot.to_string())));
        for (slot, writer, nonce) in &checkpoint.attempts {
            self.put("attempt", format!("{slot} {} {}", hex(writer), hex(nonce)));
        }
        self.put("lists", join(&checkpoint.lists));
        for (through, object) in &checkpoint.checkpoints {
            self.put("checkpoint", format!("{through} {object}"));
        }
        self.put("void", join(&checkpoint.void));
        for (slot, forgotten) in &checkpoint.collected {
            self.put("collected", format!("{slot} {forgotten}"));
        }
        for (slot, packs) in &checkpoint.pending {
            self.list(&format!("pending.{slot}"), packs);
        }
        for (slot, seconds) in &checkpoint.holds {
            self.put("hold", format!("{slot} {seconds}"));
        }
    }

    pub(super) fn log_entry(&mut self, entry: &LogEntry) {
        self.put("slot", entry.slot);
        self.put("previous", entry.previous);
        self.put("previous_ms", entry.previous_ms);
        self.hex("writer", &entry.writer);
        self.hex("nonce", &entry.nonce);
        self.put("read_only", entry.read_only);
        match &entry.event {
            Event::Genesis(event) => self.put("genesis", format!("{} {}", event.config, event.ring)),
            Event::Commit(commit) => {
                if let Some(record) = &commit.snapshot {
                    self.record("commit", record);
                }
                self.put("commit.segments", join(&commit.segments));
                self.put(
                    "commit.inline_segments",
                    join(commit.inline_segments.iter().map(|bytes| hex(bytes))),
                );
                self.list("commit.own_packs", &commit.own_packs);
                self.list("commit.dedup_packs", &commit.dedup_packs);
                self.put("commit.reused", join(&commit.reused));
            }
            Event::Forget(event) => self.put("forget", join(&event.snapshots)),
            Event::Unforget(event) => self.put("unforget", join(&event.snapshots)),
            Event::Condemn(event) => {
                self.list("condemn.packs", &event.packs);
                self.list("condemn.segments", &event.segments);
                self.put("condemn.snapshots", join(&event.snapshots));
                self.put("condemn.lossy", event.lossy);
            }
            Event::Reindex(event) => {
                self.put("reindex.inputs", join(&event.inputs));
                self.put("reindex.outputs", join(&event.outputs));
                self.list("reindex.own_packs", &event.own_packs);
            }
            Event::Checkpoint(event) => self.put("checkpoint", format!("{} {}", event.through, event.object)),
            Event::Keys(event) => self.put("keys", format!("{} {}", event.generation, event.ring)),
            Event::Protect(event) => self.put("protect", join(&event.snapshots)),
            Event::Unprotect(event) => self.put("unprotect", join(&event.snapshots)),
            Event::Tag(event) => {
                self.put("tag.snapshots", join(&event.snapshots));
                self.put("tag.tags", join(&event.tags));
            }
            Event::Hold(event) => self.put("hold", event.seconds),
            Event::Unknown { kind } => self.put("unknown", kind),
        }
    }

    pub(super) fn stream(&mut self, at: &str, stream: &Stream) {
        self.put(&format!("{at}.bytes"), stream.bytes);
        self.put(&format!("{at}.level"), stream.level);
        self.put(&format!("{at}.chunks"), join_refs(&stream.chunks));
    }

    pub(super) fn snapshot(&mut self, body: &SnapshotBody, origins: &[Origin]) {
        self.hex("nonce", &body.nonce);
        self.time("time", body.time);
        self.time("finished", body.finished);
        self.put("host", &body.host);
        self.put("paths", join(body.paths.iter().map(|path| hex(path))));
        self.put("tags", join(&body.tags));
        self.put("program", &body.program);
        self.put("parent", body.parent.map_or("none".to_owned(), |id| id.to_string()));
        self.put("partial", body.partial);
        self.stream("root", &body.root);
        let t = &body.totals;
        let counts = [
            t.files,
            t.directories,
            t.others,
            t.bytes,
            t.files_read,
            t.bytes_read,
            t.new_chunks,
            t.new_bytes,
            t.stored_bytes,
        ];
        self.put("totals", join(counts));
        self.put("problems", body.problems);
        self.stream("problem_list", &body.problem_list);
        for (number, origin) in origins.iter().enumerate() {
            let relation = origin.relation().map_or("newer".to_owned(), |relation| format!("{relation:?}"));
            let from = format!("{relation} {} {} {}", origin.repository(), origin.snapshot, origin.slot);
            self.put(&format!("origin.{number}"), from);
        }
    }

    pub(super) fn entry(&mut self, number: usize, entry: &Entry) {
        let at = |name: &str| format!("entry.{number}.{name}");
        self.hex(&at("name"), &entry.name);
        match &entry.kind {
            EntryKind::File(FileContent { bytes, stream, sparse }) => {
                self.put(&at("file"), bytes);
                self.stream(&at("stream"), stream);
                match sparse {
                    None => {}
                    Some(SparseMap::Inline(extents)) => self.put(&at("extents"), join_extents(extents)),
                    Some(SparseMap::Stream(stream)) => self.stream(&at("extents"), stream),
                }
            }
            EntryKind::Directory(stream) => self.stream(&at("directory"), stream),
            EntryKind::Symlink(target) => self.hex(&at("symlink"), target),
            EntryKind::CharacterDevice(device) => self.put(&at("character_device"), device),
            EntryKind::BlockDevice(device) => self.put(&at("block_device"), device),
            EntryKind::Fifo => self.put(&at("fifo"), ""),
            EntryKind::Socket => self.put(&at("socket"), ""),
        }
        let m = &entry.metadata;
        self.put(&at("mode"), m.mode);
        self.put(&at("uid"), m.uid);
        self.put(&at("gid"), m.gid);
        self.put(&at("user"), m.user.as_deref().unwrap_or_default());
        self.put(&at("group"), m.group.as_deref().unwrap_or_default());
        self.time(&at("modified"), m.modified);
        self.time(&at("changed"), m.changed);
        for (name, time) in [("created", m.created), ("accessed", m.accessed)] {
            match time {
                Some(time) => self.time(&at(name), time),
                None => self.put(&at(name), "none"),
            }
        }
        self.put(&at("inode"), m.inode);
        self.put(&at("device"), m.device);
        self.put(&at("links"), m.links);
        self.put(&at("racy"), m.racy);
        self.put(&at("xattrs"), join(m.xattrs.iter().map(|x| format!("{}:{}", hex(&x.name), hex(&x.value)))));
    }

    pub(super) fn segment(&mut self, segment: &Segment) {
        self.put("inputs", join(&segment.inputs));
        for (number, pack) in segment.packs.iter().enumerate() {
            self.put(&format!("pack.{number}"), format!("{} {} {}", pack.class as u8, pack.hash, pack.bytes));
        }
        for (number, header) in segment.headers.iter().enumerate() {
            self.hex(&format!("header.{number}"), &header.encode());
        }
        for (number, frame) in segment.frames.iter().enumerate() {
            let s = frame.shape;
            let codec = s.codec as u8;
            let numbers = [frame.pack, frame.offset, frame.header, s.number, s.raw_bytes, s.stored_bytes];
            self.put(&format!("frame.{number}"), format!("{} {codec}", join(numbers)));
        }
        for (number, chunk) in segment.chunks.iter().enumerate() {
            let place = format!("{} {} {} {}", chunk.id, chunk.frame, chunk.offset, chunk.bytes);
            self.put(&format!("chunk.{number}"), place);
        }
    }
}
