//! Reads every pack whole: it hashes to its name, every frame opens, every chunk hashes to its id, and the index says the
//! same as the pack.

use std::sync::atomic::{AtomicU64, Ordering};

use dr_store::StoreErrorKind;

use super::StoredPacks;
use super::findings::Findings;
use crate::error::{Error, ErrorKind, Result};
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::id::ObjectHash;
use crate::index::Index;
use crate::limits::PACK_BYTES_MAX;
use crate::observer::{Context, Event};
use crate::pack::{open_pack, split_frame};
use crate::repository::{Inner, check_bytes};
use crate::threads::Threads;

/// Checks the bytes of all packs in the store. Gives how many were read.
pub(super) fn check_data(
    repository: &Inner,
    index: &Index,
    stored: &StoredPacks,
    findings: &Findings,
    ctx: Context<'_>,
) -> Result<u64> {
    ctx.observer.event(&Event::Total {
        entries: stored.len() as u64,
        bytes: stored.values().map(|(_, bytes)| bytes).sum(),
    });
    let threads = Threads::new(ctx.parallelism, "dr-check")?;
    let listed: std::collections::HashSet<ObjectHash> =
        index.packs().into_iter().map(|pack| pack.hash).collect();
    let read = AtomicU64::new(0);
    threads.each(stored.iter().collect(), |(hash, (class, bytes))| {
        ctx.cancel.check()?;
        let name = names::pack(*class, hash);
        let checked = check_bytes(&name, *bytes, PACK_BYTES_MAX)
            .and_then(|()| check_pack(repository, index, listed.contains(hash), (*class, hash), ctx));
        read.fetch_add(*bytes, Ordering::Relaxed);
        match checked {
            Err(error) if error.kind() == ErrorKind::Cancelled || error.is_retryable() => {
                return Err(error);
            }
            Err(error) if listed.contains(hash) => {
                findings.pack(hash);
                findings.failure(&name, &error);
            }
            Err(error) if index.condemned().contains_key(hash) => {
                findings.note(&name, format_args!("{error}; it may be deleted"));
            }
            Err(error) => findings.error(&name, format_args!("{error}; nothing needs the pack")),
            Ok(()) => {}
        }
        Ok(())
    })?;
    Ok(read.into_inner())
}

fn check_pack(
    repository: &Inner,
    index: &Index,
    is_listed: bool,
    (class, hash): (PackClass, &ObjectHash),
    ctx: Context<'_>,
) -> Result<()> {
    let bytes = match repository.store.get(&names::pack(class, hash)) {
        // A collector deletes what nothing needs, also while it is looked at.
        Err(gone) if !is_listed && gone.kind() == StoreErrorKind::NotFound => return Ok(()),
        read => read?,
    };
    if ObjectHash::of_parts([&bytes[..]]) != *hash {
        return Err(Error::corrupt("the pack does not hash to its name"));
    }
    let pack = open_pack(&repository.ring, class, &bytes)?;
    let ids = repository.domain.id_key(class);
    for (number, frame) in pack.entry.frames.iter().enumerate() {
        ctx.cancel.check()?;
        let raw = pack.frame(&bytes, number)?;
        let mut end = 0;
        for (id, chunk) in split_frame(&raw, &frame.chunks) {
            if blake3::keyed_hash(ids, chunk) != *id.as_bytes() {
                return Err(Error::corrupt(format!("chunk {id} does not hash to its id")));
            }
            let offset = end;
            end += chunk.len() as u32;
            let in_index = |location: &crate::index::Location| {
                location.pack.hash == *hash
                    && location.frame_offset == frame.offset
                    && location.shape == frame.shape
                    && (location.offset, location.bytes as usize) == (offset, chunk.len())
            };
            if is_listed && index.find(id, in_index)?.is_none() {
                return Err(Error::corrupt(format!(
                    "the index does not know where chunk {id} lies in the pack"
                )));
            }
        }
    }
    ctx.observer.event(&Event::Progress { bytes: bytes.len() as u64 });
    Ok(())
}
