//! Rebuilds index segments from the footers of packs.

use std::collections::HashSet;

use dr_store::Name;

use super::{IndexRepair, is_of_others, stored_packs};
use crate::error::{Error, ErrorKind, Result};
use crate::format::log::{Event, HashList, Reindex};
use crate::format::names;
use crate::id::ObjectHash;
use crate::index::segment_of_packs;
use crate::limits::PACK_BYTES_MAX;
use crate::observer::{Context, Event as Observed};
use crate::pack::{PackEntry, open_pack_tail};
use crate::repository::{Inner, Repository, check_bytes, cut_short, get_bounded, read_segment};

/// Segments are written when they list this many chunks.
const SEGMENT_CHUNKS: usize = 1 << 20;
/// Inputs of one entry: their names must fit into a slot.
const INPUTS_MAX: usize = 512;

impl Repository {
    /// Replaces the live index segments that cannot be read: what they listed is found again in the footers of the packs.
    /// Where no segment is damaged, nothing is done.
    ///
    /// # Errors
    /// `Corrupt` where the log is damaged, `UnsupportedFormat` or `WrongCredentials` where a newer program or another key made
    /// something that is not damaged (nothing is replaced then), `Cancelled`, and what the store answers.
    pub fn repair_index(&self, ctx: &Context<'_>) -> Result<IndexRepair> {
        let repository = &self.0;
        // Nothing is replaced by what another machine says of the log.
        repository.fold_from_genesis()?;
        let log = repository.synchronise()?;
        log.check_writable()?;
        let mut report = IndexRepair::default();
        let mut listed = HashSet::new();
        for place in log.fold.segments() {
            ctx.cancel.check()?;
            match read_segment(repository, place) {
                Ok((segment, _)) => listed.extend(segment.packs.iter().map(|pack| pack.hash)),
                // Its bytes are those that the log names.
                Err(error) if is_of_others(&error) => return Err(error),
                Err(error) if error.is_damage() => report.segments_damaged.push(*place.hash()),
                Err(error) => return Err(error),
            }
        }
        if report.segments_damaged.is_empty() {
            return Ok(report);
        }
        let condemned = log.fold.condemned();
        let stored = stored_packs(repository, &|pack| condemned.contains_key(pack) || listed.contains(pack))?;
        ctx.observer.event(&Observed::Total { entries: stored.len() as u64, bytes: 0 });
        let mut outputs = Vec::new();
        let mut batch: Vec<PackEntry> = Vec::new();
        let mut chunks = 0;
        for (pack, class, bytes) in stored {
            ctx.cancel.check()?;
            let name = names::pack(class, &pack);
            let tail = check_bytes(&name, bytes, PACK_BYTES_MAX).and_then(|()| {
                open_pack_tail(&repository.ring, class, pack, bytes, &|range| {
                    repository.store.get_range(&name, range).map_err(cut_short)
                })
            });
            match tail {
                Ok(entry) => {
                    report.packs_listed.push(pack);
                    chunks += entry.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
                    batch.push(entry);
                }
                Err(error) if is_of_others(&error) && is_whole(repository, &name, &pack)? => {
                    return Err(error);
                }
                Err(error) if error.is_damage() => report.packs_unreadable.push(pack),
                Err(error) => return Err(error),
            }
            if chunks >= SEGMENT_CHUNKS {
                outputs.push(repository.put_segment(&segment_of_packs(&std::mem::take(&mut batch)))?);
                chunks = 0;
            }
        }
        if !batch.is_empty() {
            outputs.push(repository.put_segment(&segment_of_packs(&batch))?);
        }
        report.segments_written = outputs.len() as u64;
        replace(repository, &report, outputs)?;
        Ok(report)
    }
}

/// Whether a pack is what its name says, byte for byte.
fn is_whole(repository: &Inner, name: &Name, pack: &ObjectHash) -> Result<bool> {
    let bytes = get_bounded(&*repository.store, name, PACK_BYTES_MAX)?;
    Ok(ObjectHash::of_parts([&bytes[..]]) == *pack)
}

/// Names the new segments in the place of the damaged ones. What a damaged segment listed is only dropped in the entry that
/// brings everything that was found.
fn replace(repository: &Inner, report: &IndexRepair, outputs: Vec<ObjectHash>) -> Result<()> {
    let own_packs = repository.put_list(&report.packs_listed)?;
    for (number, inputs) in report.segments_damaged.chunks(INPUTS_MAX).enumerate() {
        let reindex = Reindex {
            inputs: inputs.to_vec(),
            outputs: if number == 0 { outputs.clone() } else { Vec::new() },
            own_packs: if number == 0 { own_packs.clone() } else { HashList::default() },
        };
        let own = if number == 0 { report.packs_listed.as_slice() } else { &[] };
        let appended = repository.append_if(&mut |log| {
            Ok(log.fold.check_reindex(&reindex, own).is_ok().then(|| Event::Reindex(reindex.clone())))
        })?;
        if appended.is_none() {
            return Err(Error::new(ErrorKind::StoreUnavailable, "somebody else changed the index meanwhile")
                .with_remedy("run the repair again"));
        }
    }
    Ok(())
}
