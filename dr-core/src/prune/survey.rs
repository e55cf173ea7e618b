//! Looks at the whole repository on one state of the log: what is needed, what is there, what nothing needs.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::marks::{Marks, PackUses, check_tables};
use super::options::PruneOptions;
use super::packs::{ListedPacks, StoredObjects};
use super::snapshots::{collectable, is_over};
use super::walk::mark_snapshots;
use crate::error::{Error, ErrorKind, Result};
use crate::format::checkpoint::SnapshotState;
use crate::format::names;
use crate::id::{ChunkId, ObjectHash, SnapshotId};
use crate::index::{Location, Table};
use crate::log::{Log, SegmentPlace, read_names};
use crate::observer::Context;
use crate::repository::{ChunkReader, Inner};

/// How often the survey is made again because the log changed under it.
const ATTEMPTS_MAX: usize = 20;

/// What was found on one state of the log.
pub(super) struct Survey {
    pub(super) log: Log,
    /// What is needed of each listed pack.
    pub(super) uses: PackUses,
    /// Copies of chunks that are given up: the pack, the chunk, and the copy that stays.
    pub(super) given_up: Vec<(ObjectHash, ChunkId, Option<Location>)>,
    /// Snapshots that are collected.
    pub(super) collected: Vec<SnapshotId>,
    /// Packs and segments in the store.
    pub(super) stored: StoredObjects,
    /// Live segments, and what each lists.
    pub(super) segments: Vec<(SegmentPlace, Arc<Table>)>,
    /// Packs and segments in the store that nothing names, and that are old.
    pub(super) leftovers: Vec<ObjectHash>,
    /// Which chunks of a pack are needed, for the packs asked for.
    pub(super) needed: HashMap<ObjectHash, HashSet<ChunkId>>,
}

/// Surveys the repository. `detail` chooses the packs of which the needed chunks are wanted.
pub(super) fn survey(
    repository: &Inner,
    now_ms: i64,
    options: &PruneOptions,
    ctx: Context<'_>,
    detail: &dyn Fn(&PackUses) -> HashSet<ObjectHash>,
) -> Result<Survey> {
    for _ in 0..ATTEMPTS_MAX {
        let (log, index) = repository.current_whole()?;
        log.check_writable()?;
        let surveyed = survey_once(
            repository,
            &log,
            ChunkReader::new(repository, &log, index).without_condemned(),
            now_ms,
            options,
            ctx,
            detail,
        );
        match surveyed {
            // Something that was looked for may have been moved meanwhile.
            Err(error) if error.is_damage() && repository.synchronise()?.fold.changed != log.fold.changed => {
            }
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                return Err(error
                    .with_remedy("nothing was deleted: run 'dr check', then 'dr repair', and prune again"));
            }
            surveyed => return surveyed,
        }
    }
    Err(Error::new(ErrorKind::StoreUnavailable, "the repository changes faster than it can be surveyed")
        .with_remedy("try again when fewer hosts are writing"))
}

fn survey_once(
    repository: &Inner,
    log: &Log,
    reader: ChunkReader<'_>,
    now_ms: i64,
    options: &PruneOptions,
    ctx: Context<'_>,
    detail: &dyn Fn(&PackUses) -> HashSet<ObjectHash>,
) -> Result<Survey> {
    check_tables(&reader.index)?;
    let listed = Arc::new(ListedPacks::new(&reader.index));
    let stored = StoredObjects::list(repository, listed.clone())?;
    // A run that appends nothing of the kind looks at what would be left.
    let is_dry = options.dry_run || options.shard.is_some();
    let collected = if is_dry { collectable(repository, log, now_ms, options)? } else { Vec::new() };
    let young = pending_packs(repository, log, now_ms, options)?;
    repository.collate_if_worth_it(&reader.index, ctx.cancel);
    let marks = Marks::new(&reader.index);
    let gone: HashSet<&SnapshotId> = collected.iter().collect();
    let stays = |state: &&SnapshotState| !gone.contains(&state.record.id);
    let snapshots: Vec<&SnapshotState> = log.fold.uncollected_snapshots().filter(stays).collect();
    mark_snapshots(repository, &snapshots, &reader, &marks, ctx)?;
    let given_up = marks.choose_copies(&listed);
    let mut uses = marks.uses(listed);
    let missing = |number| uses.get(number).filter(|pack| pack.live_chunks > 0 && !stored.has_pack(number));
    if let Some(missing) = (0..uses.len()).find_map(missing) {
        return Err(Error::corrupt("a pack that snapshots need is missing")
            .with_object(names::pack(missing.class, &missing.hash)));
    }
    let needed = needed_chunks(&reader, &marks, &detail(&uses));
    let segments = log
        .fold
        .segments()
        .iter()
        .zip(reader.index.tables())
        .map(|(place, table)| (place.clone(), table.clone()))
        .collect();
    let leftovers = leftovers(log, &stored, now_ms, options);
    uses.pass_over_unless_needed(young);
    Ok(Survey { log: log.clone(), uses, given_up, collected, stored, segments, leftovers, needed })
}

/// The packs of commits without a snapshot that are young: of runs that go on, or were cut short and will be taken up.
fn pending_packs(
    repository: &Inner,
    log: &Log,
    now_ms: i64,
    options: &PruneOptions,
) -> Result<HashSet<ObjectHash>> {
    let mut young = HashSet::new();
    for (slot, packs) in log.fold.pending.iter().rev() {
        if is_over(repository, *slot, options.leftover_age, now_ms)? {
            break;
        }
        young.extend(read_names(&repository.sync(), [packs])?);
    }
    Ok(young)
}

/// What is in the store, old, and named by nothing.
fn leftovers(log: &Log, stored: &StoredObjects, now_ms: i64, options: &PruneOptions) -> Vec<ObjectHash> {
    let age_ms = i64::try_from(options.leftover_age.as_millis()).unwrap_or(i64::MAX);
    let mut named: HashSet<&ObjectHash> = log.fold.segments().iter().map(SegmentPlace::hash).collect();
    named.extend(log.fold.superseded());
    let is_left = |hash: &ObjectHash| !named.contains(hash) && !log.fold.condemned().contains_key(hash);
    stored.unlisted(now_ms.saturating_sub(age_ms)).filter(is_left).collect()
}

fn needed_chunks(
    reader: &ChunkReader<'_>,
    marks: &Marks<'_>,
    packs: &HashSet<ObjectHash>,
) -> HashMap<ObjectHash, HashSet<ChunkId>> {
    let mut needed: HashMap<ObjectHash, HashSet<ChunkId>> = HashMap::new();
    if packs.is_empty() {
        return needed;
    }
    for (number, table) in reader.index.tables().iter().enumerate() {
        let wanted = |pack| table.pack(pack).map(|pack| pack.hash).filter(|hash| packs.contains(hash));
        let wanted: Vec<Option<ObjectHash>> = (0..table.pack_count()).map(wanted).collect();
        if wanted.iter().all(Option::is_none) {
            continue;
        }
        for ordinal in 0..table.chunks() {
            let place = table
                .record(ordinal)
                .and_then(|record| Some((record, table.frame(record.frame)?.pack as usize)));
            if let Some((record, pack)) = place
                && let Some(Some(pack)) = wanted.get(pack)
                && marks.is_marked(number, ordinal)
            {
                needed.entry(*pack).or_default().insert(record.id);
            }
        }
    }
    needed
}
