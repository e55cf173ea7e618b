//! What a collection may do, and what it did.

use std::str::FromStr;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::id::{ObjectHash, SnapshotId};

/// How much of the repository may be bytes that nothing needs.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum MaxUnused {
    /// A share of what the repository takes afterwards.
    Percent(f32),
    /// So many bytes.
    Bytes(u64),
    /// Any amount: no pack is rewritten for it.
    Unlimited,
}

/// One of several machines that share a work by the names of packs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shard {
    number: u32,
    count: u32,
}

impl Shard {
    /// Shard `number` (from 1) of `count`.
    ///
    /// # Errors
    /// `InvalidInput` where there is no such shard.
    pub fn new(number: u32, count: u32) -> Result<Shard> {
        if number == 0 || number > count || count > 65_536 {
            return Err(Error::new(ErrorKind::InvalidInput, format!("there is no shard {number}/{count}"))
                .with_remedy("shards are 1/n to n/n, with at most 65536 of them"));
        }
        Ok(Shard { number, count })
    }

    /// Its number, from 1.
    pub fn number(self) -> u32 {
        self.number
    }

    /// How many there are.
    pub fn count(self) -> u32 {
        self.count
    }

    /// Whether a pack is this shard's: the names' first 16 bits are shared out evenly.
    pub(crate) fn holds(self, pack: &ObjectHash) -> bool {
        let [first, second, ..] = *pack.as_bytes();
        let place = (u64::from(u16::from_be_bytes([first, second])) * u64::from(self.count)) >> 16;
        place + 1 == u64::from(self.number)
    }
}

impl FromStr for Shard {
    type Err = Error;

    /// Reads `number/count`.
    fn from_str(text: &str) -> Result<Shard> {
        let parsed = text.split_once('/').and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match parsed {
            Some((number, count)) => Shard::new(number, count),
            None => Err(Error::new(ErrorKind::InvalidInput, format!("'{text}' is no shard"))
                .with_remedy("write number/count, as in 3/8")),
        }
    }
}

/// What a collection may do.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct PruneOptions {
    /// Only say what would be done.
    pub dry_run: bool,
    /// Snapshots that a dry run takes to be forgotten now: what `forget` and a collection after it would do.
    pub assume_forgotten: Vec<SnapshotId>,
    /// How much may be wasted before packs are rewritten.
    pub max_unused: MaxUnused,
    /// How many bytes of packs are rewritten at most.
    pub max_repack_bytes: Option<u64>,
    /// How long after a forget, by the store's clock, a snapshot is collected at the earliest.
    pub hold: Duration,
    /// How long after they were condemned, by the store's clock, objects are deleted at the earliest.
    pub grace: Duration,
    /// How old, by the store's clock, an object that no entry of the log names must be to be taken for a leftover. A
    /// running backup whose packs are condemned is not broken, but has to store them again.
    pub leftover_age: Duration,
    /// Rewrite only this shard's packs, and condemn nothing: a later run without a shard does that.
    pub shard: Option<Shard>,
    /// Promises that nobody else is writing: without it, nothing is collected on a store without create-if-absent.
    pub exclusive: bool,
}

impl Default for PruneOptions {
    fn default() -> PruneOptions {
        PruneOptions {
            dry_run: false,
            assume_forgotten: Vec::new(),
            max_unused: MaxUnused::Percent(5.0),
            max_repack_bytes: None,
            hold: Duration::ZERO,
            grace: Duration::ZERO,
            leftover_age: Duration::from_secs(24 * 3600),
            shard: None,
            exclusive: false,
        }
    }
}

impl PruneOptions {
    /// The defaults.
    pub fn new() -> PruneOptions {
        PruneOptions::default()
    }
}

/// What a collection did, or would do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct PruneReport {
    /// Forgotten snapshots that cannot come back now.
    pub collected: Vec<SnapshotId>,
    /// Forgotten snapshots that are kept until their hold is over.
    pub held: u64,
    /// Packs of which nothing was needed, and their bytes.
    pub packs_dead: u64,
    /// Their bytes.
    pub bytes_dead: u64,
    /// Packs whose needed chunks went into new packs.
    pub packs_repacked: u64,
    /// Their bytes.
    pub bytes_repacked: u64,
    /// Bytes of the new packs.
    pub bytes_written: u64,
    /// Packs and segments that no entry of the log named: left by runs that were cut short.
    pub leftovers: u64,
    /// Their bytes.
    pub bytes_leftover: u64,
    /// Index segments that were replaced by fewer.
    pub segments_merged: u64,
    /// Objects deleted from the store.
    pub objects_deleted: u64,
    /// Their bytes.
    pub bytes_deleted: u64,
    /// Condemned objects that are still there, because the grace is not over or the store refuses to delete them.
    pub objects_waiting: u64,
    /// Packs that should have been rewritten but are damaged; they stay.
    pub packs_damaged: Vec<ObjectHash>,
    /// Bytes of frames that are needed.
    pub bytes_live: u64,
    /// Bytes of frames that nothing needs and that stay.
    pub bytes_unused: u64,
}
