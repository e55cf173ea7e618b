//! A repository: a store, the keys to it, and what its log says. The only modules that hold a store are this one, `log`
//! and the operations.

mod append;
mod bounded;
mod cache;
mod checkpoints;
mod chunk_writer;
mod chunks;
mod create;
mod distrust;
mod open;
mod options;
mod snapshots;
mod state;
mod stats;

use std::collections::HashSet;
use std::fmt;
use std::sync::{Arc, Mutex};

use dr_store::Store;

pub(crate) use append::NewSegment;
pub(crate) use bounded::check_bytes;
pub(crate) use cache::Cache;
pub(crate) use cache::{load_table, read_segment, read_table};
pub(crate) use chunk_writer::ChunkWriter;
pub(crate) use chunks::{
    ChunkReader, RANGE_STEP_BYTES, cut_chunk, fetch_frame, missing_chunk, open_located, pack_name,
};
pub use create::CreateOptions;
pub(crate) use create::put_hashed;
pub use options::RepositoryOptions;
pub use snapshots::Visit;
pub(crate) use snapshots::{Found, find_path, snapshot_id, walk};
pub(crate) use state::SeenHead;
pub use stats::Stats;

use crate::crypto::{Domain, KeyRing};
use crate::entropy::Entropy;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{Config, LogMode};
use crate::id::ObjectHash;
use crate::index::{Index, Table};
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
    pub(crate) ring: KeyRing,
    pub(crate) domain: Domain,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) cache: Option<Cache>,
    pub(crate) seen: Option<SeenHead>,
    pub(crate) writer: [u8; 16],
    pub(crate) log: Mutex<Log>,
    tables: Mutex<Vec<(ObjectHash, Arc<Table>)>>,
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
    /// Refuses to write where the log is damaged, or of a kind that this program only reads.
    pub(crate) fn check_writable(&self, log: &Log) -> Result<()> {
        if self.config.mode != LogMode::CreateIfAbsent {
            return Err(Error::new(
                ErrorKind::UnsupportedFormat,
                "the repository's log is of a mode that is only read",
            )
            .with_object(crate::format::names::config()));
        }
        log.check_writable()
    }

    /// Checks that the repository can be written to, and sweeps up what dead writers left.
    pub(crate) fn prepare_to_write(&self, log: &Log) -> Result<()> {
        self.check_writable(log)?;
        // Housekeeping must not keep anybody from backing up.
        let _ = self.store.sweep(&crate::format::names::is_own);
        Ok(())
    }

    /// Checks that a collection may begin.
    pub(crate) fn prepare_to_collect(&self, dry_run: bool) -> Result<()> {
        self.fold_from_genesis()?;
        let log = self.synchronise()?;
        if dry_run { Ok(()) } else { self.prepare_to_write(&log) }
    }

    /// Reads the log to its end, and remembers how far it went.
    pub(crate) fn synchronise(&self) -> Result<Log> {
        let mut log = lock(&self.log);
        let sync = Sync { store: &*self.store, ring: &self.ring };
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
        let mut log = self.synchronise()?;
        for _ in 0..RELOADS_MAX {
            let index = self.index(&log)?;
            if index.is_whole() {
                return Ok((log, index));
            }
            let newer = self.synchronise()?;
            if newer.fold.changed == log.fold.changed {
                return Ok((newer, index));
            }
            log = newer;
        }
        let index = self.index(&log)?;
        Ok((log, index))
    }

    /// The index of all live segments of `log`; what is not in the cache is read from the store. A damaged segment leaves a
    /// gap: what it lists cannot be read, and is stored again by the next backup.
    pub(crate) fn index(&self, log: &Log) -> Result<Index> {
        let mut tables = lock(&self.tables);
        let live: HashSet<ObjectHash> = log.fold.segments().iter().map(|segment| *segment.hash()).collect();
        tables.retain(|(hash, _)| live.contains(hash));
        let mut ordered = Vec::with_capacity(live.len());
        let mut has_gaps = false;
        for place in log.fold.segments() {
            let known = tables.iter().find(|(hash, _)| hash == place.hash()).map(|(_, table)| table.clone());
            let table = match known {
                Some(table) => table,
                None => match load_table(self, place) {
                    Ok(table) => Arc::new(table),
                    Err(error) if is_damage(&error) => {
                        has_gaps = true;
                        continue;
                    }
                    Err(error) => return Err(error),
                },
            };
            ordered.push((*place.hash(), table));
        }
        tables.clone_from(&ordered);
        let tables = ordered.into_iter().map(|(_, table)| table).collect();
        let index = Index::new(tables, log.fold.condemned().clone());
        Ok(if has_gaps { index.with_gaps() } else { index })
    }
}

/// Whether an error speaks of one object's bytes, so that others may still be read.
pub(crate) fn is_damage(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::Corrupt
            | ErrorKind::UnsupportedFormat
            | ErrorKind::WrongCredentials
            | ErrorKind::StoreFailed
    )
}
