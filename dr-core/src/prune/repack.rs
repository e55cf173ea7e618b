//! Rewrites what is needed of wasteful and of small packs into new ones.

use std::collections::{HashMap, HashSet};

use super::options::PruneReport;
use super::survey::Survey;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::id::{ChunkId, ObjectHash};
use crate::limits::PACK_BYTES_MAX;
use crate::observer::{Context, Event};
use crate::pack::{open_pack, split_frame};
use crate::repository::{ChunkWriter, Inner, check_bytes};

/// Frames below this share of the target are framed anew, together with others: they compress better so.
const SMALL_FRAME_BYTES: u32 = 256 << 10;

/// What is rewritten.
pub(super) struct Source {
    /// The packs, with class and length.
    packs: Vec<(ObjectHash, PackClass, u64)>,
    needed: HashMap<ObjectHash, HashSet<ChunkId>>,
}

impl Source {
    /// Takes what a survey found of `packs`.
    pub(super) fn of(found: &mut Survey, packs: &[ObjectHash]) -> Source {
        let place = |pack: &ObjectHash| {
            let stored = found.stored.get(pack)?;
            Some((*pack, stored.class?, stored.bytes))
        };
        let packs = packs.iter().filter_map(place).collect();
        Source { packs, needed: std::mem::take(&mut found.needed) }
    }
}

/// What came of rewriting packs.
pub(super) struct Repacked<'a> {
    /// The new packs that were read back whole.
    pub(super) verified: HashSet<ObjectHash>,
    /// Why not all was rewritten: the store is full.
    pub(super) stopped: Option<Error>,
    writer: ChunkWriter<'a>,
}

impl Repacked<'_> {
    /// Names new packs that there was no room to name before: the next run goes on from them.
    pub(super) fn name_the_rest(&mut self) -> Result<()> {
        match self.writer.commit_stored() {
            Err(error) if error.kind() != ErrorKind::StorageFull => Err(error),
            _ => Ok(()),
        }
    }
}

/// Writes the needed chunks of some packs into new packs, commits those, and reads them back. On a store that is full, what did
/// fit counts: the packs that it replaces make room for the rest.
pub(super) fn repack<'a>(
    repository: &'a Inner,
    source: Source,
    report: &mut PruneReport,
    ctx: Context<'a>,
) -> Result<Repacked<'a>> {
    let mut writer = ChunkWriter::new(repository, ctx)?;
    let stopped = match repack_all(repository, &mut writer, source, report, ctx) {
        Ok(()) => None,
        // Nothing was replaced, so nothing makes room.
        Err(error) if error.kind() != ErrorKind::StorageFull || writer.written.is_empty() => {
            return Err(error);
        }
        Err(full) => Some(full),
    };
    report.bytes_written += writer.bytes;
    let written = std::mem::take(&mut writer.written);
    let mut repacked = Repacked { verified: HashSet::new(), stopped, writer };
    repacked.name_the_rest()?;
    for pack in written {
        if is_intact(repository, &pack, ctx)? {
            repacked.verified.insert(pack);
        }
    }
    Ok(repacked)
}

/// Why a pack could not be rewritten.
enum Failure {
    /// It cannot be read.
    Source(Error),
    /// What is new cannot be written, or everything ends.
    Other(Error),
}

impl Failure {
    fn source(error: impl Into<Error>) -> Failure {
        Failure::Source(error.into())
    }
}

fn repack_all(
    repository: &Inner,
    writer: &mut ChunkWriter<'_>,
    source: Source,
    report: &mut PruneReport,
    ctx: Context<'_>,
) -> Result<()> {
    let Source { packs, mut needed } = source;
    ctx.observer.event(&Event::Total {
        entries: packs.len() as u64,
        bytes: packs.iter().map(|(.., bytes)| bytes).sum(),
    });
    for (pack, class, bytes) in packs {
        ctx.cancel.check()?;
        let needed = needed.remove(&pack).unwrap_or_default();
        match repack_one(repository, writer, (class, &pack, bytes), &needed, ctx) {
            Ok(()) => {
                report.packs_repacked += 1;
                report.bytes_repacked += bytes;
            }
            // Another collector was faster; else what could be read of it is in the new packs, and the rest is for a repair.
            Err(Failure::Source(error)) if error.is_damage() => {
                if !repository.synchronise()?.fold.condemned().contains_key(&pack) {
                    report.packs_damaged.push(pack);
                }
            }
            Err(Failure::Source(error) | Failure::Other(error)) => return Err(error),
        }
        ctx.observer.event(&Event::Progress { bytes });
        writer.commit_if_due()?;
    }
    writer.commit().map(drop)
}

/// Whether the store gives a pack back as it was written.
fn is_intact(repository: &Inner, pack: &ObjectHash, ctx: Context<'_>) -> Result<bool> {
    ctx.cancel.check()?;
    for class in PackClass::ALL {
        match repository.store.get(&names::pack(class, pack)) {
            Ok(bytes) => return Ok(ObjectHash::of_parts([&bytes[..]]) == *pack),
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(_) => {}
        }
    }
    Ok(false)
}

fn repack_one(
    repository: &Inner,
    writer: &mut ChunkWriter<'_>,
    (class, pack, bytes): (PackClass, &ObjectHash, u64),
    needed: &HashSet<ChunkId>,
    ctx: Context<'_>,
) -> std::result::Result<(), Failure> {
    let name = names::pack(class, pack);
    let unread = |error: Error| Failure::Source(error.with_object(&name));
    check_bytes(&name, bytes, PACK_BYTES_MAX).map_err(unread)?;
    let bytes = repository.store.get(&name).map_err(Failure::source)?;
    if ObjectHash::of_parts([&bytes[..]]) != *pack {
        return Err(unread(Error::corrupt("the pack does not hash to its name")));
    }
    let opened = open_pack(&repository.ring, class, &bytes).map_err(unread)?;
    let ids = repository.domain.id_key(class);
    for (number, frame) in opened.entry.frames.iter().enumerate() {
        ctx.cancel.check().map_err(Failure::Other)?;
        let live = frame.chunks.iter().filter(|(id, _)| needed.contains(id)).count();
        if live == 0 {
            continue;
        }
        let raw = opened.frame(&bytes, number).map_err(unread)?;
        let is_whole = live == frame.chunks.len();
        for (id, chunk) in split_frame(&raw, &frame.chunks) {
            if blake3::keyed_hash(ids, chunk) != *id.as_bytes() {
                return Err(unread(Error::corrupt(format!("chunk {id} does not hash to its id"))));
            }
        }
        if is_whole && frame.shape.raw_bytes >= SMALL_FRAME_BYTES {
            let header = match frame.header {
                0 => &opened.entry.header,
                foreign => &opened.entry.foreign[foreign as usize - 1],
            };
            let start = frame.offset as usize;
            let sealed = bytes[start..start + frame.shape.stored_bytes as usize].to_vec();
            let chunks = frame.chunks.clone();
            writer.add_frame(class, header, frame.shape, sealed, chunks).map_err(Failure::Other)?;
        } else {
            for (id, chunk) in split_frame(&raw, &frame.chunks).filter(|(id, _)| needed.contains(id)) {
                writer.add_chunk(class, *id, chunk).map_err(Failure::Other)?;
            }
        }
    }
    Ok(())
}
