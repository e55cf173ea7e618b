//! Looks at the whole repository on one state of the log: what is needed, what is there, what nothing needs.

use std::collections::{HashMap, HashSet};

use super::marks::{Marks, PackUse, check_tables};
use super::options::PruneOptions;
use super::snapshots::{collectable, is_over};
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::format::log::SnapshotPlace;
use crate::format::names;
use crate::id::{ChunkId, ObjectHash, SnapshotId};
use crate::index::Location;
use crate::log::{Log, SegmentPlace, read_names};
use crate::observer::Context;
use crate::repository::{ChunkReader, Inner};

/// How often the survey is made again because the log changed under it.
const ATTEMPTS_MAX: usize = 20;

/// An object of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// Which folder it lies in; none for an index segment.
    pub(super) class: Option<PackClass>,
    pub(super) bytes: u64,
    pub(super) modified_ms: i64,
}

/// What was found on one state of the log.
pub(super) struct Survey {
    pub(super) log: Log,
    /// What is needed of each listed pack.
    pub(super) uses: Vec<PackUse>,
    /// Copies of chunks that are given up: the pack, the chunk, and the copy that stays.
    pub(super) given_up: Vec<(ObjectHash, ChunkId, Option<Location>)>,
    /// Snapshots that are collected.
    pub(super) collected: Vec<SnapshotId>,
    /// Packs and segments in the store.
    pub(super) stored: HashMap<ObjectHash, Stored>,
    /// Live segments, and the packs that each lists.
    pub(super) segments: Vec<(SegmentPlace, Vec<ObjectHash>)>,
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
    detail: &dyn Fn(&[PackUse]) -> HashSet<ObjectHash>,
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
    detail: &dyn Fn(&[PackUse]) -> HashSet<ObjectHash>,
) -> Result<Survey> {
    check_tables(&reader.index)?;
    let stored = list_stored(repository)?;
    // A run that appends nothing of the kind looks at what would be left.
    let is_dry = options.dry_run || options.shard.is_some();
    let collected = if is_dry { collectable(repository, log, now_ms, options)? } else { Vec::new() };
    let young = pending_packs(repository, log, now_ms, options)?;
    let mut marks = Marks::new(&reader);
    let mut bodies = Some(ChunkReader::new(repository, log, reader.index.clone()).without_condemned());
    for state in log.fold.uncollected_snapshots() {
        if collected.contains(&state.record.id) {
            continue;
        }
        let named = |error: Error| error.with_object(format!("snapshot {}", state.record.id));
        if let SnapshotPlace::Stream(stream) = &state.record.body {
            marks.mark_stream(PackClass::Tree, stream).map_err(named)?;
        }
        let snapshot = repository.read_snapshot(log, state, &mut bodies)?;
        snapshot.refuse_newer()?;
        marks.mark_snapshot(&snapshot, ctx).map_err(named)?;
    }
    let given_up = marks.choose_copies();
    let given_up = given_up.into_iter().map(|(pack, chunk)| (pack, chunk, marks.survivor(&chunk))).collect();
    let mut uses = marks.uses();
    if let Some(missing) = uses.iter().find(|pack| pack.live_chunks > 0 && !stored.contains_key(&pack.hash)) {
        return Err(Error::corrupt("a pack that snapshots need is missing")
            .with_object(names::pack(missing.class, &missing.hash)));
    }
    let needed = needed_chunks(&reader, &marks, &detail(&uses));
    let segments = log
        .fold
        .segments()
        .iter()
        .zip(reader.index.tables())
        .map(|(place, table)| (place.clone(), table.packs().iter().map(|pack| pack.hash).collect()))
        .collect();
    let leftovers = leftovers(log, &uses, &stored, now_ms, options);
    uses.retain(|pack| pack.live_chunks > 0 || !young.contains(&pack.hash));
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

fn list_stored(repository: &Inner) -> Result<HashMap<ObjectHash, Stored>> {
    let mut stored = HashMap::new();
    repository.list_packs(&mut |class, hash, meta| {
        let found = Stored { class: Some(class), bytes: meta.bytes, modified_ms: meta.modified_ms };
        stored.insert(hash, found);
    })?;
    repository.store.list(names::INDEX, None, &mut |meta| {
        if let Some(hash) = names::parse_hash(&meta.name) {
            stored.insert(hash, Stored { class: None, bytes: meta.bytes, modified_ms: meta.modified_ms });
        }
        Ok(())
    })?;
    Ok(stored)
}

/// What is in the store, old, and named by nothing.
fn leftovers(
    log: &Log,
    uses: &[PackUse],
    stored: &HashMap<ObjectHash, Stored>,
    now_ms: i64,
    options: &PruneOptions,
) -> Vec<ObjectHash> {
    let age_ms = i64::try_from(options.leftover_age.as_millis()).unwrap_or(i64::MAX);
    let mut named: HashSet<ObjectHash> = uses.iter().map(|pack| pack.hash).collect();
    named.extend(log.fold.segments().iter().map(SegmentPlace::hash));
    named.extend(log.fold.superseded());
    let is_left = |(hash, found): &(&ObjectHash, &Stored)| {
        !named.contains(*hash)
            && !log.fold.condemned().contains_key(*hash)
            && now_ms.saturating_sub(found.modified_ms) >= age_ms
    };
    let mut left: Vec<ObjectHash> = stored.iter().filter(is_left).map(|(hash, _)| *hash).collect();
    left.sort_unstable();
    left
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
        let wanted: Vec<bool> = table.packs().iter().map(|pack| packs.contains(&pack.hash)).collect();
        if !wanted.contains(&true) {
            continue;
        }
        for ordinal in 0..table.chunks() {
            let place = table
                .record(ordinal)
                .and_then(|record| Some((record, table.frame(record.frame)?.pack as usize)));
            if let Some((record, pack)) = place
                && wanted.get(pack) == Some(&true)
                && marks.is_marked(number, ordinal)
            {
                needed.entry(table.packs()[pack].hash).or_default().insert(record.id);
            }
        }
    }
    needed
}
