//! Makes a backup's work count: index segments, then lists, then one entry of the log.

use std::time::Duration;

use super::rescue::rescue;
use super::scan::Tally;
use super::storer::Storer;
use crate::crypto::seal_object;
use crate::entropy::random;
use crate::error::{Error, ErrorKind, Result};
use crate::format::body;
use crate::format::envelope::{ObjectType, PackClass};
use crate::format::log::{Commit, Event, SnapshotPlace, SnapshotRecord};
use crate::format::snapshot::{Origin, SnapshotBody};
use crate::id::{ObjectHash, SnapshotId};
use crate::index::segment_of_packs;
use crate::limits::SNAPSHOT_BYTES_MAX;
use crate::log::Log;
use crate::repository::NewSegment;
use crate::snapshot::Problem;
use crate::time::Timestamp;
use crate::tree::{Stream, store_bytes};

/// Snapshots' bodies up to this length stand in the log's entry itself.
const INLINE_BODY_BYTES_MAX: usize = 8 << 10;
/// How often what is being collected is stored again before the backup is made anew.
const RESCUES_MAX: usize = 5;
/// A tree chunk of a snapshot's body, or of its problems.
const BODY_CHUNK_BYTES: usize = 256 << 10;
const PROBLEMS_BYTES_MAX: usize = 256 << 10;
/// Segments are written when they list this many chunks, so that memory follows neither the data nor the repository.
const SEGMENT_CHUNKS: usize = 1 << 20;

/// How often a run names its packs in the log while no snapshot can be committed.
const KEEP_PACKS_EVERY: Duration = Duration::from_secs(15 * 60);

/// How often it names them again where no pack is new: a collector spares them for a day.
const NAME_AGAIN_EVERY: Duration = Duration::from_secs(6 * 3600);

/// How a commit ended.
#[derive(Debug)]
pub(crate) enum Committed {
    /// The snapshot is in the log.
    Snapshot(SnapshotId),
    /// Packs that it needs were condemned meanwhile: the backup must be made again, and stores again what is missing.
    Refused,
}

/// The segments of this backup: what was written, and what a commit still has to name.
#[derive(Debug, Default)]
pub(crate) struct Segments {
    pub(super) objects: Vec<ObjectHash>,
    pub(super) inline: Vec<Vec<u8>>,
    /// Objects named by an entry already.
    pub(super) named: usize,
    /// The packs are to be named again though none is new.
    again: bool,
    /// Entries that were appended.
    entries: usize,
}

impl Segments {
    /// Writes segments for the packs that none lists yet.
    pub(super) fn write(&mut self, storer: &Storer<'_>) -> Result<()> {
        let packs = storer.take_unlisted();
        let mut batch = Vec::new();
        let mut chunks = 0;
        for pack in packs {
            chunks += pack.frames.iter().map(|frame| frame.chunks.len()).sum::<usize>();
            batch.push(pack);
            if chunks >= SEGMENT_CHUNKS {
                self.write_one(storer, &std::mem::take(&mut batch))?;
                chunks = 0;
            }
        }
        if batch.is_empty() { Ok(()) } else { self.write_one(storer, &batch) }
    }

    fn write_one(&mut self, storer: &Storer<'_>, packs: &[crate::pack::PackEntry]) -> Result<()> {
        let segment = segment_of_packs(packs);
        if !self.inline.is_empty() {
            // One in an entry is enough: its length is bounded.
            self.objects.push(storer.repository.put_segment(&segment)?);
            return Ok(());
        }
        match storer.repository.put_segment_unless_small(&segment)? {
            NewSegment::Inline(sealed) => self.inline.push(sealed),
            NewSegment::Object(hash) => self.objects.push(hash),
        }
        Ok(())
    }
}

/// What the log was told of a backup's packs.
#[derive(Debug)]
pub(crate) struct Kept {
    pub(crate) segments: Segments,
    /// When it was told last, or nothing was to be told.
    pub(super) at: Timestamp,
    /// When packs were named last.
    named_at: Timestamp,
}

impl Kept {
    /// Nothing yet.
    pub(super) fn since(at: Timestamp) -> Kept {
        Kept { segments: Segments::default(), at, named_at: at }
    }
}

/// What a snapshot will say, beside what is counted.
pub(crate) struct Draft<'d> {
    pub(crate) body: SnapshotBody,
    /// The snapshots that it is made of.
    pub(crate) origins: Vec<Origin>,
    pub(crate) tally: &'d Tally,
    pub(crate) reused: Vec<SnapshotId>,
    /// The next slot of the log when they were read.
    pub(crate) read_at: u64,
    /// Looks at the newest log once more; its error ends the commit.
    pub(crate) guard: Option<&'d Guard<'d>>,
}

/// Refuses a commit by what others have committed meanwhile.
pub(crate) type Guard<'g> = dyn Fn(&Log) -> Result<()> + 'g;

/// What an entry rests on beside packs.
#[derive(Clone, Copy)]
struct Rests<'r> {
    reused: &'r [SnapshotId],
    read_at: u64,
    guard: Option<&'r Guard<'r>>,
}

impl Rests<'_> {
    const ON_NOTHING: Rests<'static> = Rests { reused: &[], read_at: 0, guard: None };
}

/// Stores what is left, and commits a snapshot. No worker may be running.
pub(crate) fn commit(storer: &Storer<'_>, segments: &mut Segments, draft: Draft<'_>) -> Result<Committed> {
    let repository = storer.repository;
    let Draft { mut body, origins, tally, reused, read_at, guard } = draft;
    body.problems = tally.problems.len() as u64;
    body.problem_list = store_bytes(encode_problems(&tally.problems), storer)?;
    storer.flush()?;
    body.totals = totals(storer, tally);
    body.nonce = random(&*repository.entropy)?;
    if origins.is_empty() {
        // What is made of others ended when they did.
        body.finished = repository.clock.now();
    }
    let encoded = body.encode_with(&origins);
    if encoded.len() > SNAPSHOT_BYTES_MAX {
        return Err(Error::new(
            ErrorKind::LimitExceeded,
            "the snapshot's paths and tags are longer than a snapshot may be",
        )
        .with_remedy("back up the directory above the paths, or use several snapshots"));
    }
    let id = crate::repository::snapshot_id(repository, &encoded);
    let place = if encoded.len() <= INLINE_BODY_BYTES_MAX {
        let header = repository.ring.header(ObjectType::Snapshot);
        let kek = repository.ring.kek(&header)?;
        SnapshotPlace::Inline(seal_object(&kek, header, 0, &encoded, &*repository.entropy)?)
    } else {
        let parts = encoded.chunks(BODY_CHUNK_BYTES).map(<[u8]>::to_vec);
        let stream: Stream = store_bytes(parts, storer)?;
        storer.flush()?;
        SnapshotPlace::Stream(stream)
    };
    let mut streams = vec![(PackClass::Tree, body.problem_list.clone())];
    if let SnapshotPlace::Stream(stream) = &place {
        streams.push((PackClass::Tree, stream.clone()));
    }
    let record = SnapshotRecord { id, partial: body.partial, body: place };
    let rests = Rests { reused: &reused, read_at, guard };
    if append_commit(storer, segments, Some(record.clone()), rests)? {
        return Ok(Committed::Snapshot(id));
    }
    for _ in 0..RESCUES_MAX {
        if !rescue(storer, segments, &body.root, &streams)? {
            break;
        }
        if append_commit(storer, segments, Some(record.clone()), Rests { guard, ..Rests::ON_NOTHING })? {
            return Ok(Committed::Snapshot(id));
        }
    }
    Ok(Committed::Refused)
}

/// The list of problems in chunks of bounded length.
fn encode_problems(problems: &[Problem]) -> impl Iterator<Item = Vec<u8>> + '_ {
    let mut rest = problems;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take_while(|problem| {
            bytes += problem.path.len() + problem.detail.len() + 16;
            bytes <= PROBLEMS_BYTES_MAX
        });
        let count = fitting.count().max(1).min(rest.len());
        let (now, later) = rest.split_at(count);
        rest = later;
        (count > 0).then(|| body::encode(&now))
    })
}

/// Names the packs that are finished in the log, where the last time is long enough ago: a collector then leaves them alone,
/// and a run that is cut short need not store them again. Whoever reads a file calls this, as nobody can tell how long that
/// takes, and until it is done there is nothing that a snapshot could hold.
pub(crate) fn keep_packs_if_due(storer: &Storer<'_>) -> Result<()> {
    let now = storer.repository.clock.now();
    // Where it is held, another thread is telling the log just now.
    let Ok(mut kept) = storer.kept.try_lock() else { return Ok(()) };
    let is_over = |since: Timestamp, time: Duration| {
        now.as_nanoseconds() - since.as_nanoseconds() >= time.as_nanos() as i128
    };
    if storer.options.dry_run || !is_over(kept.at, KEEP_PACKS_EVERY) {
        return Ok(());
    }
    kept.at = now;
    kept.segments.again = is_over(kept.named_at, NAME_AGAIN_EVERY) && !storer.own_packs().is_empty();
    let known = kept.segments.entries;
    // What was condemned meanwhile is dealt with by the commit of the snapshot.
    commit_packs(storer, &mut kept.segments)?;
    if kept.segments.entries > known {
        kept.named_at = now;
    }
    Ok(())
}

/// Names the packs that were finished in the log, without a snapshot, so that the next run finds their chunks.
pub(crate) fn commit_packs(storer: &Storer<'_>, segments: &mut Segments) -> Result<()> {
    append_commit(storer, segments, None, Rests::ON_NOTHING).map(drop)
}

/// The counts of a snapshot.
pub(crate) fn totals(storer: &Storer<'_>, tally: &Tally) -> crate::snapshot::Totals {
    use std::sync::atomic::Ordering;
    let mut totals = tally.totals;
    totals.new_chunks = storer.counts.new_chunks.load(Ordering::Relaxed);
    totals.new_bytes = storer.counts.new_bytes.load(Ordering::Relaxed);
    totals.stored_bytes = storer.counts.stored_bytes.load(Ordering::Relaxed);
    totals
}

/// Appends the entry; false where the rules refuse it.
fn append_commit(
    storer: &Storer<'_>,
    segments: &mut Segments,
    snapshot: Option<SnapshotRecord>,
    rests: Rests<'_>,
) -> Result<bool> {
    let repository = storer.repository;
    segments.write(storer)?;
    let unnamed = segments.objects[segments.named..].to_vec();
    let inline = segments.inline.clone();
    if snapshot.is_none() && unnamed.is_empty() && inline.is_empty() && !segments.again {
        return Ok(true);
    }
    // Packs alone rest on nothing.
    let dedup = if snapshot.is_some() { storer.dedup_packs() } else { Vec::new() };
    let own = storer.own_packs();
    let event = Commit {
        snapshot,
        segments: unnamed,
        inline_segments: inline,
        own_packs: repository.put_list(&own)?,
        dedup_packs: repository.put_list(&dedup)?,
        reused: rests.reused.to_vec(),
    };
    let mut own_objects = own;
    own_objects.extend(&event.segments);
    let appended = repository.append_if(&mut |log| {
        if let Some(guard) = rests.guard {
            guard(log)?;
        }
        // What was taken over may have been lost since with packs that were beyond repair.
        let is_lossy = !event.reused.is_empty() && log.fold.lossy.is_some_and(|slot| slot >= rests.read_at);
        let is_valid = !is_lossy && log.fold.check_commit(&own_objects, &dedup, &event.reused).is_ok();
        Ok(is_valid.then(|| Event::Commit(event.clone())))
    })?;
    if appended.is_none() {
        return Ok(false);
    }
    segments.named = segments.objects.len();
    segments.inline.clear();
    segments.again = false;
    segments.entries += 1;
    Ok(true)
}
