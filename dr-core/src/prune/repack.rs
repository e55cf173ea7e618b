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
pub(super) struct Repacked {
    /// The new packs that were read back whole.
    pub(super) verified: HashSet<ObjectHash>,
    /// Why not all was rewritten: the store is full.
    pub(super) stopped: Option<Error>,
}

/// Writes the needed chunks of some packs into new packs, commits those, and reads them back. On a store that is full, what did
/// fit counts: the packs that it replaces make room for the rest.
pub(super) fn repack(
    repository: &Inner,
    source: Source,
    report: &mut PruneReport,
    ctx: Context<'_>,
) -> Result<Repacked> {
    let mut writer = ChunkWriter::new(repository, ctx)?;
    let stopped = match repack_all(repository, &mut writer, source, report, ctx) {
        Ok(()) => None,
        Err(error) if error.kind() == ErrorKind::StorageFull => match writer.commit_stored() {
            Ok(_) => Some(error),
            Err(_) => return Err(error),
        },
        Err(error) => return Err(error),
    };
    report.bytes_written += writer.bytes;
    let written = std::mem::take(&mut writer.written);
    let checked = written.into_iter().map(|pack| Ok((is_intact(repository, &pack, ctx)?, pack)));
    let verified = checked.filter_map(intact).collect::<Result<_>>()?;
    Ok(Repacked { verified, stopped })
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
            Err(error) if error.is_damage() => {
                if !repository.synchronise()?.fold.condemned().contains_key(&pack) {
                    report.packs_damaged.push(pack);
                }
            }
            Err(error) => return Err(error),
        }
        ctx.observer.event(&Event::Progress { bytes });
        writer.commit_if_due()?;
    }
    writer.commit().map(drop)
}

fn intact(checked: Result<(bool, ObjectHash)>) -> Option<Result<ObjectHash>> {
    match checked {
        Ok((true, pack)) => Some(Ok(pack)),
        Ok((false, _)) => None,
        Err(error) => Some(Err(error)),
    }
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
) -> Result<()> {
    let name = names::pack(class, pack);
    check_bytes(&name, bytes, PACK_BYTES_MAX)?;
    let bytes = repository.store.get(&name)?;
    if ObjectHash::of_parts([&bytes[..]]) != *pack {
        return Err(Error::corrupt("the pack does not hash to its name").with_object(&name));
    }
    let opened = open_pack(&repository.ring, class, &bytes).map_err(|error| error.with_object(&name))?;
    let ids = repository.domain.id_key(class);
    for (number, frame) in opened.entry.frames.iter().enumerate() {
        ctx.cancel.check()?;
        let live = frame.chunks.iter().filter(|(id, _)| needed.contains(id)).count();
        if live == 0 {
            continue;
        }
        let raw = opened.frame(&bytes, number).map_err(|error| error.with_object(&name))?;
        let is_whole = live == frame.chunks.len();
        for (id, chunk) in split_frame(&raw, &frame.chunks) {
            if blake3::keyed_hash(ids, chunk) != *id.as_bytes() {
                return Err(Error::corrupt(format!("chunk {id} does not hash to its id")).with_object(&name));
            }
        }
        if is_whole && frame.shape.raw_bytes >= SMALL_FRAME_BYTES {
            let header = match frame.header {
                0 => &opened.entry.header,
                foreign => &opened.entry.foreign[foreign as usize - 1],
            };
            let start = frame.offset as usize;
            let sealed = bytes[start..start + frame.shape.stored_bytes as usize].to_vec();
            writer.add_frame(class, header, frame.shape, sealed, frame.chunks.clone())?;
        } else {
            for (id, chunk) in split_frame(&raw, &frame.chunks).filter(|(id, _)| needed.contains(id)) {
                writer.add_chunk(class, *id, chunk)?;
            }
        }
    }
    Ok(())
}
