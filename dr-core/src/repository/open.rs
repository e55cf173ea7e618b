//! Opens a repository: config, key slots, key ring, log.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, OnceLock};

use dr_store::{Bytes, Name, Store, StoreErrorKind};
use zeroize::Zeroizing;

use super::bounded::{check_bytes, get_bounded};
use super::checkpoints::read_log;
use super::create::{ring_kek, wrap_key};
use super::{Cache, Inner, Repository, RepositoryOptions, SeenHead};
use crate::crypto::{Credentials, KeyRing, Secret, open_object, open_slot};
use crate::entropy::random;
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{CONFIG_BYTES, Config};
use crate::format::envelope::{Header, ObjectType};
use crate::format::key_slot::KeySlot;
use crate::format::names;
use crate::format::ring::Wraps;
use crate::id::ObjectHash;
use crate::limits::RING_BYTES_MAX;
use crate::log::Log;

impl Repository {
    /// Opens a repository.
    ///
    /// # Errors
    /// `NotFound` where there is none, `WrongCredentials`, `RolledBack`, `Corrupt`, `UnsupportedFormat`, and what the
    /// store answers.
    pub fn open(
        store: Arc<dyn Store>,
        credentials: &Credentials,
        options: RepositoryOptions,
    ) -> Result<Repository> {
        let config = read_config(&*store)?;
        let seen = options.state_dir.as_deref().map(|directory| {
            SeenHead::new(directory, &config.repository, &store.endpoint(), options.accept_rollback)
        });
        let before = seen.as_ref().map(SeenHead::read).transpose()?.flatten();
        let cache = options.cache_dir.as_deref();
        let cache = cache.map(|directory| Cache::new(directory, &config.id(), options.clock.now()));
        let (in_force, log) = open_ring_in_force(&*store, &config, credentials, cache.as_ref())?;
        let mut ring = in_force.ring.clone();
        ring.seal_with(options.cipher.suite());
        let domain = ring.domain()?;
        if let Some(seen) = &seen {
            seen.check(before, &log, &*store)?;
            seen.remember(&log)?;
        }
        let writer = random(&*options.entropy)?;
        let read_from = log.first_hashed().map_or(0, |first| if first == 0 { 0 } else { first + 1 });
        let own_directories = options.cache_dir.into_iter().chain(options.state_dir).collect();
        let inner = Inner {
            store,
            config,
            ring,
            in_force: Mutex::new(in_force),
            domain,
            clock: options.clock,
            entropy: options.entropy,
            cache,
            seen,
            own_directories,
            writer,
            probed: OnceLock::new(),
            log: Mutex::new(log.clone()),
            parts: Mutex::default(),
            pages: Arc::default(),
            limits: OnceLock::new(),
        };
        inner.cache_checkpoint(&log, read_from);
        Ok(Repository(Arc::new(inner)))
    }
}

fn read_config(store: &dyn Store) -> Result<Config> {
    let bytes = match get_bounded(store, &names::config(), CONFIG_BYTES as u64) {
        Ok(bytes) => bytes,
        Err(error) => match store.stat(&names::config()) {
            Err(none) if none.kind() == StoreErrorKind::NotFound => {
                // A store that knows more, for example that there is no such bucket, says it here.
                let known = std::error::Error::source(&none).map(ToString::to_string);
                let remedy =
                    none.remedy().unwrap_or("check the location, or make a repository with 'dr init'");
                return Err(Error::new(ErrorKind::NotFound, "there is no repository")
                    .with_object(store.endpoint())
                    .with_source(known.unwrap_or_else(|| error.to_string()))
                    .with_remedy(remedy));
            }
            Ok(found) if found.bytes > CONFIG_BYTES as u64 => {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "what is there is no repository of dr: its 'config' is too long",
                )
                .with_object(store.endpoint())
                .with_remedy("check the location: another program's repository may be there"));
            }
            _ => return Err(error),
        },
    };
    Config::decode(&bytes).map_err(|error| {
        Error::from(error)
            .with_object(names::config())
            .with_remedy("restore the object 'config' (64 bytes) from another copy of the repository")
    })
}

/// A key ring that the credentials opened.
#[derive(Debug, Clone)]
pub(crate) struct OpenedRing {
    pub(crate) ring: KeyRing,
    /// The name of the ring.
    pub(crate) hash: ObjectHash,
    /// The hash of the `config` that it belongs to.
    config: ObjectHash,
    /// The key slot that it was opened with.
    pub(crate) slot: ObjectHash,
}

/// How often a repository is opened anew because its keys are changed meanwhile.
const REOPENED_MAX: usize = 5;

/// Opens the key ring that the log puts in force, and reads the log with it. Where another one is put in force meanwhile, the
/// rings that were listed before may be gone, or no longer in force.
fn open_ring_in_force(
    store: &dyn Store,
    config: &Config,
    credentials: &Credentials,
    cache: Option<&Cache>,
) -> Result<(OpenedRing, Log)> {
    let mut listed = list_rings(store)?;
    let mut left = REOPENED_MAX;
    loop {
        let opened = open_rings(store, config, credentials, &listed);
        match opened.and_then(|rings| choose_ring(store, config, rings, cache)) {
            Err(error) if left > 0 && !error.is_retryable() => {
                let newer = list_rings(store)?;
                if newer == listed {
                    return Err(error);
                }
                listed = newer;
                left -= 1;
            }
            chosen => return chosen,
        }
    }
}

/// The names and lengths of all key rings.
pub(super) fn list_rings(store: &dyn Store) -> Result<Vec<(Name, u64)>> {
    let objects = store.list_folder(names::RING)?.objects;
    let mut rings: Vec<_> = objects.into_iter().map(|meta| (meta.name, meta.bytes)).collect();
    rings.sort_unstable();
    Ok(rings)
}

/// Opens every key ring that the credentials open.
fn open_rings(
    store: &dyn Store,
    config: &Config,
    credentials: &Credentials,
    listed: &[(Name, u64)],
) -> Result<Vec<OpenedRing>> {
    let mut damaged = None;
    let stored = read_rings(store, config, listed, &mut damaged)?;
    if stored.is_empty() && damaged.is_none() {
        return Err(if is_log_empty(store)? {
            interrupted(store)
        } else {
            Error::corrupt("the key ring is missing").with_object(names::RING).with_remedy(OTHER_COPY)
        });
    }
    let known: HashSet<ObjectHash> =
        stored.iter().flat_map(|ring| ring.wraps.wraps.iter().map(|wrap| wrap.slot)).collect();
    let keys = open_slots(store, config, credentials, &known, &mut damaged)?;
    let mut rings = Vec::new();
    for stored in stored {
        match stored.open(config, &keys) {
            Ok(opened) => rings.extend(opened),
            Err(error) => damaged = Some(error.with_object(&stored.name)),
        }
    }
    if rings.is_empty() {
        if is_log_empty(store)? {
            return Err(interrupted(store));
        }
        return Err(damaged.map(|error| error.with_remedy(OTHER_COPY)).unwrap_or_else(|| {
            Error::new(ErrorKind::WrongCredentials, "the password or key does not open the repository")
                .with_object(store.endpoint())
                .with_remedy("check the password, the key file, and that this is the right repository")
        }));
    }
    Ok(rings)
}

const OTHER_COPY: &str = "restore the object from another copy of the repository";

fn is_log_empty(store: &dyn Store) -> Result<bool> {
    Ok(store.list_folder(names::LOG)?.folders.is_empty())
}

/// A key ring as it is stored.
pub(super) struct StoredRing {
    name: Name,
    pub(super) hash: ObjectHash,
    bytes: Bytes,
    /// The wraps in the ring's plain header, which say for which key slots it is.
    pub(super) wraps: Wraps,
}

impl StoredRing {
    /// Reads a key ring of so many bytes.
    pub(super) fn read(store: &dyn Store, config: &Config, name: Name, bytes: u64) -> Result<StoredRing> {
        check_bytes(&name, bytes, RING_BYTES_MAX as u64)?;
        let bytes = store.get(&name)?;
        let hash = ObjectHash::of_parts([&bytes[..]]);
        if names::parse_hash(&name) != Some(hash) {
            return Err(Error::corrupt("the key ring is damaged"));
        }
        let (header, _) = Header::decode(&bytes)?;
        if header.object != ObjectType::Ring || header.repository != config.repository {
            return Err(Error::corrupt("the object is no key ring of this repository"));
        }
        Ok(StoredRing { name, hash, wraps: Wraps::decode(&header.aux)?, bytes })
    }

    /// Opens the ring with the key of one of its slots; `None` where it is wrapped for none of them.
    pub(super) fn open(&self, config: &Config, keys: &[(ObjectHash, Secret)]) -> Result<Option<OpenedRing>> {
        let mut found = None;
        for wrap in &self.wraps.wraps {
            let Some((slot, key)) = keys.iter().find(|(slot, _)| *slot == wrap.slot) else { continue };
            let key = wrap_key(key, &self.wraps.salt, slot);
            let mut sealed = Zeroizing::new(wrap.sealed_key);
            let opened = key.open(0, key.header_hash(), &mut sealed[..]);
            found =
                opened.and_then(|key| <[u8; 32]>::try_from(key).ok()).map(|key| (*slot, Secret::new(key)));
            if found.is_some() {
                break;
            }
        }
        let Some((slot, ring_key)) = found else { return Ok(None) };
        let kek = ring_kek(&ring_key, &config.repository);
        let body = Zeroizing::new(open_object(|_| Ok(kek), ObjectType::Ring, 0, &self.bytes)?);
        let (ring, config) = KeyRing::decode(config.repository, &body)?;
        Ok(Some(OpenedRing { ring, hash: self.hash, config, slot }))
    }
}

/// Reads key rings; those that cannot be read are passed over.
pub(super) fn read_rings(
    store: &dyn Store,
    config: &Config,
    listed: &[(Name, u64)],
    damaged: &mut Option<Error>,
) -> Result<Vec<StoredRing>> {
    let mut rings = Vec::new();
    for (name, bytes) in listed.iter().filter(|(name, _)| names::parse_hash(name).is_some()) {
        match StoredRing::read(store, config, name.clone(), *bytes) {
            Ok(ring) => rings.push(ring),
            Err(error) if error.is_retryable() => return Err(error),
            Err(error) => *damaged = Some(error.with_object(name)),
        }
    }
    Ok(rings)
}

/// Opens every key slot that the credentials open, of those that are known.
pub(super) fn open_slots(
    store: &dyn Store,
    config: &Config,
    credentials: &Credentials,
    known: &HashSet<ObjectHash>,
    damaged: &mut Option<Error>,
) -> Result<Vec<(ObjectHash, Secret)>> {
    let mut opened = Vec::new();
    for meta in store.list_folder(names::KEYS)?.objects {
        // No derivation is spent on a slot that no ring is wrapped for: anybody could have planted it.
        let Some(hash) = names::parse_hash(&meta.name).filter(|hash| known.contains(hash)) else { continue };
        if meta.bytes > crate::limits::KEY_SLOT_BYTES_MAX as u64 {
            continue;
        }
        let bytes = match store.get(&meta.name) {
            // Taken out of the repository meanwhile.
            Err(error) if error.kind() == StoreErrorKind::NotFound => continue,
            bytes => bytes?,
        };
        if ObjectHash::of_parts([&bytes[..]]) != hash {
            // Checked before any derivation, so that a damaged or planted slot costs nothing.
            *damaged = Some(Error::corrupt("a key slot is damaged").with_object(&meta.name));
            continue;
        }
        let slot = match KeySlot::decode(&bytes) {
            Ok(slot) if slot.repository == config.repository => slot,
            Ok(_) => continue,
            Err(error) => {
                *damaged = Some(Error::from(error).with_object(&meta.name));
                continue;
            }
        };
        match open_slot(&slot, credentials) {
            Ok(Some(key)) => opened.push((hash, key)),
            Ok(None) => {}
            Err(error) => *damaged = Some(error.with_object(&meta.name)),
        }
    }
    Ok(opened)
}

/// Chooses the ring that the log confirms, newest first, and reads the log with it. Rings that an interrupted `init` left
/// behind open nothing. Where slot 0 itself is damaged, a ring that opens any other slot is the right one.
fn choose_ring(
    store: &dyn Store,
    config: &Config,
    mut rings: Vec<OpenedRing>,
    cache: Option<&Cache>,
) -> Result<(OpenedRing, Log)> {
    rings.sort_by_key(|opened| std::cmp::Reverse(opened.ring.generation));
    let mut failure = None;
    let mut newest = None;
    for opened in rings {
        let log = read_log(store, &opened.ring, config.mode, cache)?;
        if log.fold.next == 0 {
            failure = Some(interrupted(store));
            continue;
        }
        let in_force = log.fold.ring.is_none_or(|(_, ring)| ring == opened.hash);
        if !log.fold.has_entries() {
            failure = Some(
                Error::corrupt("no slot of the repository's log can be read with this key")
                    .with_object(names::slot(0))
                    .with_remedy(
                        "the log is damaged, or this is the key of a 'dr init' that was interrupted",
                    ),
            );
            continue;
        }
        let is_newer = log.fold.ring.is_some_and(|(generation, _)| opened.ring.generation > generation);
        if !in_force && (!is_newer || newest.is_some()) {
            continue;
        }
        let named = log.fold.genesis.map_or(opened.config, |(hash, _)| hash);
        if named != config.hash() || opened.config != config.hash() {
            failure = Some(
                Error::corrupt("the repository's config is not the one that the key ring belongs to")
                    .with_object(names::config())
                    .with_remedy(
                        "restore the object 'config' (64 bytes) from another copy of the repository",
                    ),
            );
            continue;
        }
        if in_force {
            return Ok((opened, log));
        }
        newest = Some((opened, log));
    }
    // The entry that put a newer ring in force is lost or damaged, or was not copied with it: the ring before is deleted only
    // behind that entry.
    let is_gone = |ring: &ObjectHash| {
        let stat = store.stat(&names::hashed(names::RING, ring));
        stat.is_err_and(|error| error.kind() == StoreErrorKind::NotFound)
    };
    if let Some((opened, log)) = newest
        && log.fold.ring.is_some_and(|(_, ring)| is_gone(&ring))
    {
        return Ok((opened, log));
    }
    Err(failure.unwrap_or_else(|| {
        Error::new(ErrorKind::WrongCredentials, "the key belongs to a key ring that is no longer in force")
            .with_object(store.endpoint())
    }))
}

fn interrupted(store: &dyn Store) -> Error {
    Error::new(ErrorKind::NotFound, "there is no repository: making one was interrupted")
        .with_object(store.endpoint())
        .with_remedy("run 'dr init' again")
}
