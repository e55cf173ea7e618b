//! Says what snapshots take, and what of it nothing else needs.

use crate::error::{Error, Result};
use crate::format::envelope::PackClass;
use crate::id::SnapshotId;
use crate::index::{Index, Place, RecordSet};
use crate::observer::Context;
use crate::repository::{ChunkReader, Repository, missing_chunk};
use crate::snapshot::{Snapshot, SnapshotFilter};
use crate::tree::{ChunkRef, KeepChunks, TreeKeeper};

/// What a snapshot takes, or several together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SnapshotUsage {
    /// The snapshot; nothing for several together.
    pub snapshot: Option<SnapshotId>,
    /// Files, directories and everything else in it.
    pub entries: u64,
    /// The lengths of its files together: what a restore writes, but for holes and further names of one file.
    pub restored_bytes: u64,
    /// Different chunks that it needs, directories and lists among them.
    pub chunks: u64,
    /// Their lengths before compression.
    pub chunk_bytes: u64,
    /// What they take in the store. Chunks are compressed together in frames: each counts by its share of one.
    pub stored_bytes: u64,
    /// Of those chunks, the ones that no other snapshot needs.
    pub own_chunks: u64,
    /// Their lengths before compression.
    pub own_chunk_bytes: u64,
    /// What they take in the store: about what a prune frees once it is forgotten.
    pub own_stored_bytes: u64,
}

/// What some snapshots take.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct UsageReport {
    /// Each by itself.
    pub snapshots: Vec<SnapshotUsage>,
    /// All of them: what several need counts once, and is their own where no other snapshot needs it.
    pub together: SnapshotUsage,
}

/// Who needs a record.
type Owner = u32;
const NOBODY: Owner = 0;
/// Several of the snapshots that were asked for, and no other.
const SEVERAL: Owner = u32::MAX - 1;
/// Some other snapshot.
const OTHERS: Owner = u32::MAX;

impl Repository {
    /// Says what `snapshots` take, and what of it no other snapshot needs that is not forgotten. Memory is bounded by the
    /// index: five bytes for each chunk that it lists.
    ///
    /// # Errors
    /// `Corrupt` where a directory of any snapshot cannot be read: nobody knows then what needs what. `Cancelled`, and what
    /// the store answers.
    pub fn usage(&self, snapshots: &[Snapshot], ctx: &Context<'_>) -> Result<UsageReport> {
        let others = self.snapshots(&SnapshotFilter::new())?;
        let (log, index) = self.0.current_whole()?;
        let reader = ChunkReader::new(&self.0, &log, index).without_condemned();
        let mut owners = Owners::new(&reader.index);
        let named = |snapshot: &Snapshot| {
            let id = snapshot.id;
            move |error: Error| error.with_object(format!("snapshot {id}"))
        };
        owners.owner = OTHERS;
        for other in others.iter().filter(|other| snapshots.iter().all(|chosen| chosen.id != other.id)) {
            owners = keep(&reader, owners, other, ctx).map_err(named(other))?;
        }
        for (number, snapshot) in snapshots.iter().enumerate() {
            owners.owner = number as Owner + 1;
            owners = keep(&reader, owners, snapshot, ctx).map_err(named(snapshot))?;
        }
        let mut report = UsageReport::default();
        let mut all = Needed::new(&reader.index);
        for (number, snapshot) in snapshots.iter().enumerate() {
            let needed = Needed::new(&reader.index);
            let needed = keep(&reader, needed, snapshot, ctx).map_err(named(snapshot))?;
            all = keep(&reader, all, snapshot, ctx).map_err(named(snapshot))?;
            let owner = number as Owner + 1;
            let mut usage = sum(&reader.index, &needed.records, |place| owners.of(place) == owner, ctx)?;
            let totals = &snapshot.totals;
            usage.snapshot = Some(snapshot.id);
            usage.entries = totals.files + totals.directories + totals.others;
            usage.restored_bytes = totals.bytes;
            report.snapshots.push(usage);
        }
        report.together = sum(&reader.index, &all.records, |place| owners.of(place) != OTHERS, ctx)?;
        for usage in &report.snapshots {
            report.together.entries += usage.entries;
            report.together.restored_bytes += usage.restored_bytes;
        }
        Ok(report)
    }
}

/// Goes through all that a snapshot needs.
fn keep<K: KeepChunks>(
    reader: &ChunkReader<'_>,
    keeper: K,
    snapshot: &Snapshot,
    ctx: &Context<'_>,
) -> Result<K> {
    let mut keeper = TreeKeeper::new(reader, keeper, ctx.cancel);
    keeper.keep_stream(PackClass::Tree, &snapshot.problem_list)?;
    keeper.keep_tree(&snapshot.root)?;
    Ok(keeper.keeper)
}

/// Adds up what is in a set.
fn sum(
    index: &Index,
    records: &RecordSet,
    is_own: impl Fn(Place) -> bool,
    ctx: &Context<'_>,
) -> Result<SnapshotUsage> {
    let mut usage = SnapshotUsage::default();
    // Shares are summed up in full before they are rounded: a small chunk's alone may be no byte.
    let (mut stored, mut own_stored) = (0f64, 0f64);
    for (number, table) in index.tables().iter().enumerate() {
        ctx.cancel.check()?;
        for ordinal in (0..table.chunks()).filter(|ordinal| records.contains((number, *ordinal))) {
            let Some(record) = table.record(ordinal) else { continue };
            let Some(frame) = table.frame(record.frame) else { continue };
            let bytes = u64::from(record.bytes);
            let share = f64::from(record.bytes) / f64::from(frame.shape.raw_bytes.max(1));
            let share = share.min(1.0) * f64::from(frame.shape.stored_bytes);
            usage.chunks += 1;
            usage.chunk_bytes += bytes;
            stored += share;
            if is_own((number, ordinal)) {
                usage.own_chunks += 1;
                usage.own_chunk_bytes += bytes;
                own_stored += share;
            }
        }
    }
    (usage.stored_bytes, usage.own_stored_bytes) = (stored.round() as u64, own_stored.round() as u64);
    Ok(usage)
}

/// The record of a chunk that reads would take.
fn place_of(index: &Index, class: PackClass, chunk: &ChunkRef) -> Result<Place> {
    for (number, table) in index.tables().iter().enumerate() {
        for ordinal in table.ordinals(&chunk.id) {
            let Some(record) = table.record(ordinal).filter(|record| record.bytes == chunk.bytes) else {
                continue;
            };
            let pack = table.frame(record.frame).and_then(|frame| table.pack(frame.pack));
            if pack.is_some_and(|pack| pack.class == class && !index.condemned().contains_key(&pack.hash)) {
                return Ok((number, ordinal));
            }
        }
    }
    Err(missing_chunk(index, &chunk.id))
}

/// Who needs each record of an index.
struct Owners<'i> {
    index: &'i Index,
    owners: Vec<Vec<Owner>>,
    /// Who is being walked.
    owner: Owner,
    /// Runs of entries that were gone through for `owner`: somebody may have named one as something else before.
    entered: RecordSet,
    entered_for: Owner,
}

impl<'i> Owners<'i> {
    fn new(index: &'i Index) -> Owners<'i> {
        let owners = index.tables().iter().map(|table| vec![NOBODY; table.chunks()]).collect();
        Owners { index, owners, owner: NOBODY, entered: RecordSet::new(index), entered_for: NOBODY }
    }

    fn of(&self, (table, ordinal): Place) -> Owner {
        self.owners.get(table).and_then(|owners| owners.get(ordinal)).copied().unwrap_or(NOBODY)
    }

    /// Notes that a record is needed. Whether that is news, also for what it refers to.
    fn claim(&mut self, (table, ordinal): Place) -> bool {
        let owner = self.owner;
        let Some(known) = self.owners.get_mut(table).and_then(|owners| owners.get_mut(ordinal)) else {
            return false;
        };
        let now = match *known {
            NOBODY => owner,
            OTHERS => OTHERS,
            _ if owner == OTHERS => OTHERS,
            known if known == owner => owner,
            _ => SEVERAL,
        };
        std::mem::replace(known, now) != now
    }
}

impl KeepChunks for Owners<'_> {
    fn keep(&mut self, class: PackClass, chunks: &[ChunkRef]) -> Result<()> {
        for chunk in chunks {
            let place = place_of(self.index, class, chunk)?;
            self.claim(place);
        }
        Ok(())
    }

    fn enter(&mut self, runs: &[ChunkRef], new: &mut Vec<ChunkRef>) -> Result<()> {
        if self.entered_for != self.owner && self.owner != OTHERS {
            // What one of the others needs is known to the end; of the rest each begins anew.
            self.entered_for = self.owner;
            self.entered = RecordSet::new(self.index);
        }
        for run in runs {
            let place = place_of(self.index, PackClass::Tree, run)?;
            let is_news = self.claim(place);
            let is_first = self.entered.insert(place);
            if is_first && (is_news || self.of(place) == self.owner) {
                new.push(*run);
            }
        }
        Ok(())
    }
}

/// What one snapshot needs.
struct Needed<'i> {
    index: &'i Index,
    records: RecordSet,
    entered: RecordSet,
}

impl<'i> Needed<'i> {
    fn new(index: &'i Index) -> Needed<'i> {
        Needed { index, records: RecordSet::new(index), entered: RecordSet::new(index) }
    }
}

impl KeepChunks for Needed<'_> {
    fn keep(&mut self, class: PackClass, chunks: &[ChunkRef]) -> Result<()> {
        for chunk in chunks {
            self.records.insert(place_of(self.index, class, chunk)?);
        }
        Ok(())
    }

    fn enter(&mut self, runs: &[ChunkRef], new: &mut Vec<ChunkRef>) -> Result<()> {
        for run in runs {
            let place = place_of(self.index, PackClass::Tree, run)?;
            self.records.insert(place);
            if self.entered.insert(place) {
                new.push(*run);
            }
        }
        Ok(())
    }
}
