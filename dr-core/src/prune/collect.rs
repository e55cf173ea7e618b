//! Condemns what nothing needs, on exactly the state of the log that this was worked out on, and deletes what is condemned.

use std::collections::{BTreeMap, HashMap, HashSet};

use dr_store::StoreErrorKind;

use super::options::{PruneOptions, PruneReport};
use super::packs::StoredObjects;
use super::snapshots::is_over;
use super::survey::{Survey, survey};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;
use crate::format::log::{Condemn, Event};
use crate::format::names;
use crate::id::{ChunkId, ObjectHash};
use crate::index::Location;
use crate::limits::LIST_HASHES_MAX;
use crate::log::{Fold, Log, read_entry, read_names};
use crate::observer::Context;
use crate::repository::{Inner, cut_chunk, fetch_frame};
use crate::threads::Threads;

/// How often another writer may be faster before a collection gives up.
const ATTEMPTS_MAX: usize = 100;
/// Packs that one entry condemns at most: its list must be readable.
const CONDEMNED_MAX: usize = LIST_HASHES_MAX / 2;
/// Objects that are deleted at the same time, unless the caller wants one thread.
const DELETES: usize = 16;

/// Condemns what `first`, or a newer survey where the log went on, finds to be of no use. `verified` packs were read back
/// whole by this run.
pub(super) fn condemn(
    repository: &Inner,
    mut found: Survey,
    now_ms: i64,
    options: &PruneOptions,
    verified: &HashSet<ObjectHash>,
    report: &mut PruneReport,
    ctx: Context<'_>,
) -> Result<Survey> {
    let mut distrusted = HashSet::new();
    for _ in 0..ATTEMPTS_MAX {
        ctx.cancel.check()?;
        let useless = Useless::of(&found, &distrusted);
        if useless.is_empty() {
            return Ok(found);
        }
        // A copy is given up only when the one that stays was read.
        let bad = verify_survivors(repository, &found, &useless.packs, verified, ctx)?;
        if !bad.is_empty() {
            distrusted.extend(bad);
            continue;
        }
        match append_condemn(repository, &found, &useless)? {
            Some(log) => {
                useless.count(&found, report);
                found.log = log;
                return Ok(found);
            }
            None => match advance(repository, &found, &useless)? {
                Some(log) => found.log = log,
                None => found = survey(repository, now_ms, options, ctx, &|_| HashSet::new())?,
            },
        }
    }
    Err(Error::new(ErrorKind::StoreUnavailable, "other writers were faster all the time")
        .with_remedy("nothing was deleted by this run; try again when fewer hosts are writing"))
}

/// What may be condemned.
struct Useless {
    packs: Vec<ObjectHash>,
    segments: Vec<ObjectHash>,
    /// Live segments that list nothing but condemned packs.
    dead: HashSet<ObjectHash>,
}

impl Useless {
    /// `distrusted` packs stay, as the copies of their chunks elsewhere could not be read.
    fn of(found: &Survey, distrusted: &HashSet<ObjectHash>) -> Useless {
        let is_dead = |hash: &ObjectHash| !distrusted.contains(hash);
        let mut packs: Vec<ObjectHash> = found
            .uses
            .iter()
            .filter(|pack| pack.live_chunks == 0)
            .map(|pack| pack.hash)
            .filter(is_dead)
            .collect();
        let (left_segments, left_packs): (Vec<ObjectHash>, Vec<ObjectHash>) = found
            .leftovers
            .iter()
            .partition(|hash| found.stored.get(hash).is_some_and(|it| it.class.is_none()));
        packs.extend(left_packs);
        // What is left over goes with the next run.
        packs.truncate(CONDEMNED_MAX);
        let gone: HashSet<&ObjectHash> = packs.iter().collect();
        let condemned = found.log.fold.condemned();
        let is_gone = |pack: &ObjectHash| gone.contains(pack) || condemned.contains_key(pack);
        let dead: HashSet<ObjectHash> = found
            .segments
            .iter()
            .filter(|(_, table)| table.packs().all(|pack| is_gone(&pack.hash)))
            .map(|(place, _)| *place.hash())
            .collect();
        let mut segments: Vec<ObjectHash> = dead.iter().copied().collect();
        segments.extend(found.log.fold.superseded());
        segments.extend(left_segments);
        segments.sort_unstable();
        segments.truncate(CONDEMNED_MAX);
        Useless { packs, segments, dead }
    }

    fn is_empty(&self) -> bool {
        self.packs.is_empty() && self.segments.is_empty()
    }

    fn count(&self, found: &Survey, report: &mut PruneReport) {
        let left: HashSet<&ObjectHash> = found.leftovers.iter().collect();
        let size = |hash: &ObjectHash| found.stored.get(hash).map_or(0, |it| it.bytes);
        for hash in self.packs.iter().chain(&self.segments).filter(|hash| left.contains(hash)) {
            report.leftovers += 1;
            report.bytes_leftover += size(hash);
        }
        for hash in self.packs.iter().filter(|hash| !left.contains(hash)) {
            report.packs_dead += 1;
            report.bytes_dead += size(hash);
        }
    }
}

/// Appends the entry; `None` where the log went on meanwhile in a way that makes the survey worthless.
fn append_condemn(repository: &Inner, found: &Survey, useless: &Useless) -> Result<Option<Log>> {
    let event = Condemn {
        packs: repository.put_list(&useless.packs)?,
        segments: repository.put_list(&useless.segments)?,
        snapshots: Vec::new(),
        lossy: false,
    };
    let changed = found.log.fold.changed;
    repository.append_if(&mut |log| {
        let checked = log.fold.check_condemn(changed, &[], &useless.segments, &useless.dead);
        Ok(checked.is_ok().then(|| Event::Condemn(event.clone())))
    })
}

/// Where the log went on since the survey, decides whether what it found still holds: commits that rest on nothing that is to
/// go change nothing of it. Gives the newest state then.
fn advance(repository: &Inner, found: &Survey, useless: &Useless) -> Result<Option<Log>> {
    let log = repository.synchronise()?;
    if repository.config.mode != LogMode::CreateIfAbsent {
        return Ok(None);
    }
    let sync = repository.sync();
    let packs: HashSet<ObjectHash> = useless.packs.iter().copied().collect();
    let segments: HashSet<ObjectHash> = useless.segments.iter().copied().collect();
    for slot in found.log.fold.next..log.fold.next {
        let event = read_entry(&sync, slot)?.event;
        let named = match &event {
            Event::Commit(commit) => read_names(&sync, [&commit.own_packs, &commit.dedup_packs])?,
            _ => Vec::new(),
        };
        if !Fold::leaves_plan(&event, &named, &packs, &segments) {
            return Ok(None);
        }
    }
    Ok(Some(log))
}

/// A pack that is given up, a chunk in it, and the copy that stays.
type GivenUp = (ObjectHash, ChunkId, Location);

/// Reads the copies that stay of chunks whose other copies are given up with `packs`. Gives the packs that must stay because
/// that failed.
fn verify_survivors(
    repository: &Inner,
    found: &Survey,
    packs: &[ObjectHash],
    verified: &HashSet<ObjectHash>,
    ctx: Context<'_>,
) -> Result<HashSet<ObjectHash>> {
    let condemned: HashSet<&ObjectHash> = packs.iter().collect();
    // By frame, so that each is fetched once; in order, so that a run can be replayed.
    let mut frames: BTreeMap<(ObjectHash, u32), Vec<GivenUp>> = BTreeMap::new();
    let mut bad = HashSet::new();
    for (pack, chunk, survivor) in &found.given_up {
        if !condemned.contains(pack) {
            continue;
        }
        match survivor {
            None => _ = bad.insert(*pack),
            Some(location) if verified.contains(&location.pack.hash) => {}
            Some(location) => {
                let place = (location.pack.hash, location.frame_offset);
                frames.entry(place).or_default().push((*pack, *chunk, location.clone()));
            }
        }
    }
    for chunks in frames.into_values() {
        ctx.cancel.check()?;
        let Some((_, _, location)) = chunks.first() else { continue };
        let raw = match fetch_frame(repository, location) {
            Err(error) if error.is_retryable() => return Err(error),
            fetched => fetched.ok(),
        };
        for (pack, chunk, location) in &chunks {
            let is_good = raw.as_ref().is_some_and(|raw| cut_chunk(repository, location, chunk, raw).is_ok());
            if !is_good {
                bad.insert(*pack);
            }
        }
    }
    Ok(bad)
}

/// Deletes what is condemned and there, where the grace is over. A store that refuses to delete is no failure: it may hold
/// objects for a time.
pub(super) fn delete(
    repository: &Inner,
    log: &Log,
    now_ms: i64,
    stored: &StoredObjects,
    options: &PruneOptions,
    report: &mut PruneReport,
    ctx: Context<'_>,
) -> Result<()> {
    report.objects_waiting = 0;
    let mut due = Vec::new();
    let mut over: HashMap<u64, bool> = HashMap::new();
    for (hash, found, slot) in stored.condemned(log.fold.condemned()) {
        let is_due = match over.get(&slot) {
            Some(known) => *known,
            None => {
                let known = is_over(repository, slot, options.grace, now_ms)?;
                over.insert(slot, known);
                known
            }
        };
        if is_due {
            due.push((hash, found));
        } else {
            report.objects_waiting += 1;
        }
    }
    let threads = Threads::new(if ctx.parallelism == 1 { 1 } else { DELETES }, "dr-prune")?;
    let deleted: Vec<Result<Option<u64>>> = threads.map(due, |(hash, found)| {
        ctx.cancel.check()?;
        let name = match found.class {
            Some(class) => names::pack(class, &hash),
            None => names::hashed(names::INDEX, &hash),
        };
        match repository.store.delete(&name) {
            Ok(()) => Ok(Some(found.bytes)),
            Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(Some(0)),
            Err(error) if error.kind() == StoreErrorKind::PermissionDenied => Ok(None),
            Err(error) => Err(error.into()),
        }
    });
    for result in deleted {
        match result? {
            Some(bytes) => {
                report.objects_deleted += 1;
                report.bytes_deleted += bytes;
            }
            None => report.objects_waiting += 1,
        }
    }
    Ok(())
}
