//! Checkpoints of the log, in the store and on this machine. Only ever copies: a client that has none reads every slot.

use dr_store::{Store, StoreErrorKind};

use super::{Cache, Inner, put_hashed};
use crate::crypto::{KeyRing, seal_object};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;
use crate::format::envelope::ObjectType;
use crate::format::log::{Checkpoint, Event};
use crate::format::names;
use crate::id::ObjectHash;
use crate::limits::LIST_BYTES_MAX;
use crate::log::{Log, Sync, append, open_checkpoint};
use crate::observer::lock;

/// A checkpoint is written to the store when there are so many slots behind the last.
const STORED_EVERY: u64 = 512;
/// … and on this machine.
const CACHED_EVERY: u64 = 32;
/// So many of the newest checkpoints in the store are tried.
const TRIED_MAX: usize = 3;
/// So many of the newest checkpoints stay when old ones are swept.
const KEPT: usize = 2;

/// Reads the log: from the checkpoint on this machine, else from one in the store, else from its beginning.
pub(super) fn read_log(
    store: &dyn Store,
    ring: &KeyRing,
    mode: LogMode,
    cache: Option<&Cache>,
) -> Result<Log> {
    let sync = Sync { store, ring };
    if mode != LogMode::CreateIfAbsent {
        let mut log = Log::of_mode(mode);
        log.synchronise(&sync)?;
        return Ok(log);
    }
    if let Some(bytes) = cache.and_then(Cache::checkpoint)
        && let Some(mut log) = usable(open_checkpoint(&sync, &bytes))?
    {
        log.synchronise(&sync)?;
        return Ok(log);
    }
    let mut stored = store.list_folder(names::CHECKPOINT)?.objects;
    stored.sort_by_key(|meta| std::cmp::Reverse(meta.modified_ms));
    for meta in stored.iter().filter(|meta| meta.bytes <= LIST_BYTES_MAX as u64).take(TRIED_MAX) {
        let bytes = match store.get(&meta.name) {
            Ok(bytes) => bytes,
            Err(error) if error.is_retryable() => return Err(error.into()),
            Err(_) => continue,
        };
        if let Some(mut log) = usable(open_checkpoint(&sync, &bytes))? {
            log.synchronise(&sync)?;
            log.is_own = false;
            return Ok(log);
        }
    }
    let mut log = Log::default();
    log.synchronise(&sync)?;
    Ok(log)
}

/// A checkpoint that cannot be used is no failure; a store that does not answer is one.
fn usable(opened: Result<Log>) -> Result<Option<Log>> {
    match opened {
        Ok(log) => Ok(Some(log)),
        Err(error) if error.is_retryable() || error.kind() == ErrorKind::PermissionDenied => Err(error),
        Err(_) => Ok(None),
    }
}

impl Inner {
    /// Keeps a checkpoint on this machine, where there is much behind the last. `read_from` is where reading began.
    pub(super) fn cache_checkpoint(&self, log: &Log, read_from: u64) {
        let is_due = log.is_own && log.fold.next >= read_from.saturating_add(CACHED_EVERY);
        if let (Some(cache), true) = (&self.cache, is_due)
            && let Some(body) = log.to_checkpoint()
            && let Ok(sealed) = self.seal_checkpoint(&body.encode())
        {
            cache.keep_checkpoint(&sealed);
        }
    }

    /// Writes a checkpoint to the store, where there is much behind the last. Housekeeping: what goes wrong is told to nobody.
    pub(super) fn store_checkpoint(&self, log: &mut Log) {
        let last = log.fold.checkpoints.iter().map(|(through, _)| *through).max().unwrap_or(0);
        let behind = log.fold.next.saturating_sub(last);
        if !log.is_own && behind >= 2 * STORED_EVERY {
            // Whoever wrote the last one is gone: this machine reads everything once, and goes on in its place.
            let _ = self.refold(log);
        }
        if log.is_own && behind >= STORED_EVERY {
            let _ = self.try_store_checkpoint(log);
        }
    }

    /// Writes a checkpoint to the store, and names it in the log.
    pub(crate) fn try_store_checkpoint(&self, log: &mut Log) -> Result<()> {
        let Some(body) = log.to_checkpoint() else { return Ok(()) };
        let through = body.through;
        let encoded = body.encode();
        if encoded.len() > LIST_BYTES_MAX / 2 {
            return Ok(());
        }
        let object = put_hashed(&*self.store, names::CHECKPOINT, self.seal_checkpoint(&encoded)?)?;
        let event = Event::Checkpoint(Checkpoint { through, object });
        append(log, &*self.store, &self.ring, &*self.entropy, self.writer, &mut |log| {
            log.check_writable()?;
            Ok(event.clone())
        })
    }

    fn seal_checkpoint(&self, body: &[u8]) -> Result<Vec<u8>> {
        let header = self.ring.header(ObjectType::Checkpoint);
        let kek = self.ring.kek(&header)?;
        seal_object(&kek, header, 0, body, &*self.entropy)
    }

    /// Reads the log from its beginning, where what is known of it rests on another machine's checkpoint: nobody deletes by
    /// what another one says the log says.
    pub(crate) fn fold_from_genesis(&self) -> Result<()> {
        let mut log = lock(&self.log);
        if log.is_own { Ok(()) } else { self.refold(&mut log) }
    }

    fn refold(&self, log: &mut Log) -> Result<()> {
        let mut whole = Log::of_mode(self.config.mode);
        whole.synchronise(&self.sync())?;
        if log.first_difference(&whole).is_some() || whole.fold.next < log.fold.next {
            return Err(Error::new(
                ErrorKind::RolledBack,
                "the log is not the one that its checkpoint was made of",
            )
            .with_remedy("run 'dr check'; nothing was deleted"));
        }
        *log = whole;
        Ok(())
    }

    /// Deletes checkpoints in the store but the newest, which is never wrong: they are copies.
    pub(crate) fn sweep_checkpoints(&self, log: &Log) -> Result<()> {
        let mut known = log.fold.checkpoints.clone();
        known.sort_unstable();
        let kept: Vec<ObjectHash> = known.iter().rev().take(KEPT).map(|(_, object)| *object).collect();
        if kept.is_empty() {
            return Ok(());
        }
        for meta in self.store.list_folder(names::CHECKPOINT)?.objects {
            let Some(hash) = names::parse_hash(&meta.name) else { continue };
            // One that is not named yet may be on its way into the log.
            let is_known = known.iter().any(|(_, object)| *object == hash);
            if is_known && !kept.contains(&hash) {
                match self.store.delete(&meta.name) {
                    Err(error) if error.kind() != StoreErrorKind::NotFound => return Err(error.into()),
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
