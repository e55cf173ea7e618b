//! Saves what is readable of damaged packs, and condemns them.

use std::collections::{BTreeMap, HashSet};

use super::PackRepair;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::format::log::{Condemn, Event};
use crate::id::{ChunkId, ObjectHash};
use crate::index::{Index, Location};
use crate::log::Log;
use crate::observer::{Context, Event as Observed};
use crate::repository::{ChunkWriter, Inner, Repository, cut_chunk, fetch_frame};

/// How often the repair begins anew because the log went on.
const ATTEMPTS_MAX: usize = 10;

impl Repository {
    /// Stores again what can be read of damaged packs, and condemns them, with the chunks that cannot. Snapshots that need
    /// those stay, and name what they lack when they are restored; the next backup does not take over what is lost.
    ///
    /// # Errors
    /// `Corrupt` where the log or the index is damaged, `Cancelled`, and what the store answers.
    pub fn repair_packs(&self, packs: &[ObjectHash], ctx: &Context<'_>) -> Result<PackRepair> {
        let repository = &self.0;
        for _ in 0..ATTEMPTS_MAX {
            let (log, index) = repository.current_whole()?;
            log.check_writable()?;
            if !index.is_whole() {
                return Err(Error::corrupt("a part of the index is damaged")
                    .with_remedy("run 'dr repair index' first"));
            }
            let known: HashSet<ObjectHash> = index.packs().iter().map(|pack| pack.hash).collect();
            let packs: HashSet<ObjectHash> =
                packs.iter().filter(|pack| known.contains(pack)).copied().collect();
            if packs.is_empty() {
                return Ok(PackRepair::default());
            }
            let mut writer = ChunkWriter::new(repository, *ctx)?;
            let condemned = log.fold.condemned().len();
            let mut report = save(repository, &index, &packs, &mut writer, *ctx)?;
            writer.commit()?;
            report.packs.sort_unstable();
            if condemn(repository, &report, &writer.written, condemned)?.is_some() {
                let mut left = repository.distrusted();
                left.retain(|pack| !packs.contains(pack));
                repository.remember_distrusted(&left);
                return Ok(report);
            }
        }
        Err(Error::new(ErrorKind::StoreUnavailable, "others collected what the repair wrote")
            .with_remedy("run the repair again while nobody prunes"))
    }
}

/// Reads every chunk that the index lists in `packs`, and stores it again.
fn save(
    repository: &Inner,
    index: &Index,
    packs: &HashSet<ObjectHash>,
    writer: &mut ChunkWriter<'_>,
    ctx: Context<'_>,
) -> Result<PackRepair> {
    let mut report = PackRepair { packs: packs.iter().copied().collect(), ..PackRepair::default() };
    // By frame, so that each is fetched once.
    let mut frames: BTreeMap<(ObjectHash, u32), Vec<(ChunkId, Location)>> = BTreeMap::new();
    for table in index.tables() {
        for record in table.records() {
            let Some(location) = table.locate(&record).filter(|it| packs.contains(&it.pack.hash)) else {
                continue;
            };
            let place = (location.pack.hash, location.frame_offset);
            frames.entry(place).or_default().push((record.id, location));
        }
    }
    ctx.observer.event(&Observed::Total { entries: frames.len() as u64, bytes: 0 });
    let mut saved = HashSet::new();
    let mut missing: BTreeMap<ChunkId, PackClass> = BTreeMap::new();
    for chunks in frames.into_values() {
        ctx.cancel.check()?;
        let Some((_, location)) = chunks.first() else { continue };
        let raw = match fetch_frame(repository, location) {
            Ok(raw) => Some(raw),
            Err(error) if error.is_damage() => None,
            Err(error) => return Err(error),
        };
        for (id, location) in &chunks {
            let chunk = raw.as_ref().and_then(|raw| cut_chunk(repository, location, id, raw).ok());
            match chunk {
                Some(chunk) if saved.insert(*id) => writer.add_chunk(location.pack.class, *id, chunk)?,
                Some(_) => {}
                None => _ = missing.insert(*id, location.pack.class),
            }
        }
        writer.commit_if_due()?;
    }
    report.chunks_saved = saved.len() as u64;
    missing.retain(|id, _| !saved.contains(id));
    // A copy elsewhere counts only if it can be read; a store that does not answer says nothing of it.
    let is_elsewhere = |id: &ChunkId| -> Result<bool> {
        for location in index.lookup(id) {
            let location = location?;
            if packs.contains(&location.pack.hash) {
                continue;
            }
            match fetch_frame(repository, &location) {
                Ok(raw) if cut_chunk(repository, &location, id, &raw).is_ok() => return Ok(true),
                Err(error) if !error.is_damage() => return Err(error),
                _ => {}
            }
        }
        Ok(false)
    };
    for id in missing.into_keys() {
        if !is_elsewhere(&id)? {
            report.chunks_lost.push(id);
        }
    }
    Ok(report)
}

/// Condemns the packs; `None` where others condemned something since `condemned` names were: perhaps what was saved of them.
fn condemn(
    repository: &Inner,
    report: &PackRepair,
    written: &[ObjectHash],
    condemned: usize,
) -> Result<Option<Log>> {
    let event = Condemn {
        packs: repository.put_list(&report.packs)?,
        segments: Default::default(),
        snapshots: Vec::new(),
        lossy: !report.chunks_lost.is_empty(),
    };
    repository.append_if(&mut |log| {
        // The copies elsewhere, and what was saved, must still stay.
        let is_valid =
            log.fold.condemned().len() == condemned && log.fold.check_commit(written, &[], &[]).is_ok();
        Ok(is_valid.then(|| Event::Condemn(event.clone())))
    })
}
