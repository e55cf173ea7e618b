//! A repository: a store, the keys to it, and what its log says. The only modules that hold a store are this one, `log`
//! and the operations.

mod ahead;
mod append;
mod bounded;
mod cache;
mod caches;
mod checkpoints;
mod chunk_writer;
mod chunks;
mod collate;
mod create;
mod distrust;
mod hold;
mod key_slots;
mod open;
mod options;
mod packs;
mod probe;
mod segments;
mod snapshots;
mod state;
mod stats;
mod store_time;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};

use dr_store::Store;

pub(crate) use append::NewSegment;
pub(crate) use bounded::{check_bytes, get_bounded};
pub(crate) use cache::Cache;
pub use caches::{CacheCleanup, CacheInfo, CacheReport, clean_caches, list_caches};
pub(crate) use chunk_writer::ChunkWriter;
pub(crate) use chunks::{
    ChunkBytes, ChunkReader, RANGE_STEP_BYTES, cut_chunk, cut_short, fetch_frame, is_given_up, missing_chunk,
    open_located, pack_name,
};
pub use create::CreateOptions;
pub(crate) use create::{put_hashed, put_once};
pub use hold::HoldState;
pub use key_slots::{KdfCost, KeySlotChange, KeySlotInfo, KeySlotOptions};
use open::OpenedRing;
pub use options::RepositoryOptions;
use segments::load_part;
pub(crate) use segments::{load_table, read_segment, read_table};
pub use snapshots::Visit;
pub(crate) use snapshots::{Found, Onward, find_below, find_path, snapshot_id, walk, walk_some};
pub(crate) use state::SeenHead;
pub use stats::Stats;

use crate::crypto::{Domain, KeyRing};
use crate::entropy::Entropy;
use crate::error::Result;
use crate::format::config::Config;
use crate::id::ObjectHash;
use crate::index::{Index, Limits, Pages, Part};
use crate::log::{Log, Sync};
use crate::observer::lock;
use crate::time::Clock;

/// How often the log and the index are read again because segments were replaced meanwhile.
const RELOADS_MAX: usize = 10;

/// A repository. Clones share everything; all calls may be made from several threads at once.
#[derive(Clone)]
pub struct Repository(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: Config,
    /// What objects are sealed and opened with.
    pub(crate) ring: KeyRing,
    /// The ring that was in force when somebody looked last, and the key slot that opens it here.
    in_force: Mutex<OpenedRing>,
    pub(crate) domain: Domain,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) cache: Option<Cache>,
    pub(crate) seen: Option<SeenHead>,
    /// Where the cache and what was seen are kept on this machine.
    pub(crate) own_directories: Vec<PathBuf>,
    pub(crate) writer: [u8; 16],
    /// Set once the store was found to decide who creates a name.
    probed: OnceLock<()>,
    pub(crate) log: Mutex<Log>,
    parts: Mutex<Vec<(ObjectHash, Part)>>,
    pages: Arc<Pages>,
    /// For which tables a concordance is made, if not for those for which it is worth having.
    pub(crate) limits: OnceLock<Limits>,
}

impl fmt::Debug for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Repository").field("store", &self.0.store.endpoint()).finish_non_exhaustive()
    }
}

impl Repository {
    /// The repository's id, as 32 hexadecimal digits.
    pub fn id(&self) -> String {
        self.0.config.id()
    }

    /// The store that the repository is in.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Reads what was appended to the log since the repository was opened.
    ///
    /// # Errors
    /// `RolledBack`, `Corrupt`, `StoreUnavailable`.
    pub fn refresh(&self) -> Result<()> {
        self.0.synchronise().map(drop)
    }
}

impl Inner {
    /// What the log is read with.
    pub(crate) fn sync(&self) -> Sync<'_> {
        Sync { store: &*self.store, ring: &self.ring, copies: None }
    }

    /// Checks that the repository can be written to, and sweeps up what dead writers left.
    pub(crate) fn prepare_to_write(&self, log: &Log) -> Result<()> {
        log.check_writable()?;
        self.probe_if_due()?;
        // Housekeeping must not keep anybody from backing up.
        let _ = self.store.sweep(&crate::format::names::is_own);
        Ok(())
    }

    /// Reads the log to its end, and remembers how far it went.
    pub(crate) fn synchronise(&self) -> Result<Log> {
        let mut log = lock(&self.log);
        let sync = Sync { copies: self.cache.as_ref().map(Cache::entry_copies), ..self.sync() };
        log.confirm_head(&sync)?;
        let read_from = log.fold.next;
        log.synchronise(&sync)?;
        self.cache_checkpoint(&log, read_from);
        if let Some(seen) = &self.seen {
            seen.remember(&log)?;
        }
        Ok(log.clone())
    }

    /// The newest state of the log, and its index. A compaction may replace segments, and a collection delete them, between
    /// the two: then both are read again.
    pub(crate) fn current(&self) -> Result<(Log, Index)> {
        self.newest(Extent::Lookups)
    }

    /// The same with all of every segment, for whoever looks at every record, or deletes by what the index says.
    pub(crate) fn current_whole(&self) -> Result<(Log, Index)> {
        self.newest(Extent::Everything)
    }

    fn newest(&self, extent: Extent) -> Result<(Log, Index)> {
        let mut log = self.synchronise()?;
        for _ in 0..RELOADS_MAX {
            let index = self.load_index(&log, extent)?;
            if index.is_whole() {
                return Ok((log, index));
            }
            let newer = self.synchronise()?;
            if newer.fold.changed == log.fold.changed {
                return Ok((newer, index));
            }
            log = newer;
        }
        let index = self.load_index(&log, extent)?;
        Ok((log, index))
    }

    /// The index of all live segments of `log`; of what is not in the cache, lookups read from the store what they need. A
    /// damaged segment leaves a gap: what it lists cannot be read, and is stored again by the next backup.
    pub(crate) fn index(&self, log: &Log) -> Result<Index> {
        self.load_index(log, Extent::Lookups)
    }

    fn load_index(&self, log: &Log, extent: Extent) -> Result<Index> {
        let mut parts = lock(&self.parts);
        let live: HashSet<ObjectHash> = log.fold.segments().iter().map(|segment| *segment.hash()).collect();
        parts.retain(|(hash, _)| live.contains(hash));
        let known_parts: HashMap<ObjectHash, Part> = parts.iter().cloned().collect();
        let mut ordered = Vec::with_capacity(live.len());
        let mut has_gaps = false;
        for place in log.fold.segments() {
            let known = known_parts.get(place.hash()).and_then(Part::renewed);
            let part = match (known, extent) {
                (Some(part), Extent::Lookups) => Ok(part),
                (Some(part), Extent::Everything) => part.into_whole(),
                (None, Extent::Lookups) => load_part(self, place),
                (None, Extent::Everything) => load_table(self, place).map(Part::from),
            };
            match part {
                Ok(part) => ordered.push((*place.hash(), part)),
                Err(error) if error.is_damage() => has_gaps = true,
                Err(error) => return Err(error),
            }
        }
        parts.clone_from(&ordered);
        let (names, ordered): (Vec<ObjectHash>, Vec<Part>) = ordered.into_iter().unzip();
        let mut index = Index::new(ordered, log.fold.condemned().clone());
        if self.cache.is_some() {
            index = index.with_concordance(names, self.concordance_limits(), self.concordance(&live));
        }
        Ok(if has_gaps { index.with_gaps() } else { index })
    }
}

/// How much of the segments an index needs at hand.
#[derive(Debug, Clone, Copy)]
enum Extent {
    Lookups,
    Everything,
}
