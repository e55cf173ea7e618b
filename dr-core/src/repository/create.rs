//! Makes a new repository: config, key slot, key ring, then slot 0 of the log. Only the last makes it one, so whatever
//! an interrupted run left behind is taken up or ignored by the next.

use std::sync::Arc;
use std::time::Duration;

use dr_store::{Name, Payload, PutMode, Store, StoreError, StoreErrorKind};

use super::hold::hold_of;
use super::probe::check_create;
use super::{Repository, RepositoryOptions, get_bounded};
use crate::chunker::DEFAULT_PARAMS;
use crate::crypto::{
    Credentials, KdfStrength, Kek, KeyRing, ObjectKey, Secret, SharedDomain, new_slot, seal_object,
};
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::{CONFIG_BYTES, Config, LogMode};
use crate::format::envelope::ObjectType;
use crate::format::log::{Event, Genesis};
use crate::format::names;
use crate::format::ring::{Wrap, Wraps};
use crate::id::ObjectHash;
use crate::log::{Appender, Behind, Log, append};

/// How a repository is made.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CreateOptions {
    /// Makes a repository for a store that cannot decide who creates a name. Garbage is then collected only on the promise
    /// that nobody else is writing.
    pub siblings: bool,
    /// What a guess at the password costs.
    pub kdf: KdfStrength,
    /// A label for the first key slot; not secret.
    pub label: String,
    /// How long forgotten snapshots are held before a collection may take them. It can be changed later.
    pub hold: Duration,
    /// The keys of ids and the chunker, where another repository's are taken.
    domain: Option<SharedDomain>,
}

impl CreateOptions {
    /// The defaults.
    pub fn new() -> CreateOptions {
        CreateOptions::default()
    }

    /// Gives the new repository the chunker of another one and its keys of ids, so that a copy between them need not read what
    /// is there. Everything else is sealed under fresh keys. Whoever has the keys of both can tell which chunks they share.
    #[must_use]
    pub fn sharing_ids_with(mut self, repository: &Repository) -> Self {
        self.domain = repository.0.ring.shared_domain();
        self
    }
}

impl Repository {
    /// Makes a new repository in a store, and opens it.
    ///
    /// # Errors
    /// `AlreadyExists` where there is one; what the store answers.
    pub fn create(
        store: Arc<dyn Store>,
        credentials: &Credentials,
        create: &CreateOptions,
        options: RepositoryOptions,
    ) -> Result<Repository> {
        let entropy = options.entropy.clone();
        hold_of(create.hold)?;
        refuse_existing(&*store)?;
        let mode = if create.siblings {
            LogMode::Siblings
        } else {
            check_create(&*store, &*entropy)?;
            LogMode::CreateIfAbsent
        };
        let config = settle_config(&*store, mode, &*entropy)?;
        let mut ring = KeyRing::new(config.repository, DEFAULT_PARAMS, &*entropy)?;
        ring.seal_with(options.cipher.suite());
        if let Some(domain) = &create.domain {
            ring.share_domain(domain);
        }
        let (slot, slot_key) =
            new_slot(config.repository, credentials, create.kdf, &create.label, &*entropy)?;
        let slot_hash = put_hashed(&*store, names::KEYS, slot.encode())?;
        ring.add_slot(slot_hash, slot_key);
        let ring_hash = put_hashed(&*store, names::RING, seal_ring(&ring, config.hash(), &*entropy)?)?;
        let genesis = Genesis { config: config.hash(), ring: ring_hash };
        let writer = random(&*entropy)?;
        let mut log = Log::of_mode(config.mode);
        // A slot 0 that these keys do not open is that of somebody who was faster: nothing is put behind it either.
        let appender =
            Appender { store: &*store, ring: &ring, entropy: &*entropy, writer, behind: Behind::BadSlot };
        append(&mut log, appender, &mut |log| {
            if log.fold.next > 0 { Err(exists()) } else { Ok(Event::Genesis(genesis.clone())) }
        })
        .map_err(|error| if error.kind() == ErrorKind::AlreadyExists { exists() } else { error })?;
        let repository = Repository::open(store, credentials, options)?;
        if !create.hold.is_zero() {
            repository.set_hold(create.hold).map_err(|error| {
                error.with_remedy(
                    "the repository is there, but holds nothing yet: set its hold with 'dr hold'",
                )
            })?;
        }
        Ok(repository)
    }
}

fn exists() -> Error {
    Error::new(ErrorKind::AlreadyExists, "there is a repository already")
        .with_remedy("use it, or choose another place")
}

fn refuse_existing(store: &dyn Store) -> Result<()> {
    match store.stat(&names::slot(0)) {
        Ok(_) => return Err(exists().with_object(store.endpoint())),
        Err(error) if error.kind() == StoreErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    // In a log whose slots may hold several entries, the first has a name that nobody can guess.
    let folders = store.list_folder(names::LOG)?.folders;
    if folders.is_empty() { Ok(()) } else { Err(exists().with_object(store.endpoint())) }
}

/// Writes `config`, or takes up the one that an interrupted run, or a run at the same time, wrote.
fn settle_config(store: &dyn Store, mode: LogMode, entropy: &dyn Entropy) -> Result<Config> {
    let config = Config { repository: random(entropy)?, mode };
    let put = match store.put(&names::config(), config.encode().into(), PutMode::Create) {
        Err(error) if error.kind() == StoreErrorKind::Unsupported && mode == LogMode::Siblings => {
            match store.stat(&names::config()) {
                Ok(_) => Err(StoreError::new(StoreErrorKind::AlreadyExists, "put", names::CONFIG)),
                Err(_) => store.put(&names::config(), config.encode().into(), PutMode::Replace),
            }
        }
        put => put,
    };
    match put {
        Ok(()) => Ok(config),
        Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {
            let bytes = get_bounded(store, &names::config(), CONFIG_BYTES as u64)?;
            Ok(Config::decode(&bytes).map_err(|error| {
                Error::from(error)
                    .with_object(names::config())
                    .with_remedy("choose an empty place: something else, or a damaged repository, is there")
            })?)
        }
        Err(error) => Err(error.into()),
    }
}

/// Puts an object under the hash of its bytes. That it is there already is as good.
pub(crate) fn put_hashed(store: &dyn Store, folder: &str, bytes: Vec<u8>) -> Result<ObjectHash> {
    let hash = ObjectHash::of_parts([bytes.as_slice()]);
    put_once(store, &names::hashed(folder, &hash), bytes.into()).map(|()| hash)
}

/// Puts an object whose name stands for its bytes: that it is there already is as good, and a store that cannot create
/// without replacing may replace it.
pub(crate) fn put_once(store: &dyn Store, name: &Name, payload: Payload) -> Result<()> {
    let put = match store.put(name, payload.clone(), PutMode::Create) {
        Err(error) if error.kind() == StoreErrorKind::Unsupported => {
            store.put(name, payload, PutMode::Replace)
        }
        put => put,
    };
    match put {
        Err(error) if error.kind() != StoreErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

/// Seals a key ring under a random key, and wraps that for each key slot.
pub(super) fn seal_ring(ring: &KeyRing, config: ObjectHash, entropy: &dyn Entropy) -> Result<Vec<u8>> {
    let ring_key = Secret::new(random(entropy)?);
    let salt = random(entropy)?;
    let wraps = ring.slots().iter().map(|(slot, key)| wrap(&ring_key, &salt, slot, key)).collect();
    let mut header = ring.header(ObjectType::Ring);
    header.aux = Wraps { salt, wraps }.encode();
    let body = zeroize::Zeroizing::new(ring.encode(config));
    seal_object(&ring_kek(&ring_key, &ring.repository), header, 0, &body, entropy)
}

fn wrap(ring_key: &Secret, salt: &[u8; 32], slot: &ObjectHash, slot_key: &Secret) -> Wrap {
    let key = wrap_key(slot_key, salt, slot);
    let mut sealed_key = [0; 48];
    sealed_key[..32].copy_from_slice(ring_key.bytes());
    let tag = key.seal(0, key.header_hash(), &mut sealed_key[..32]);
    sealed_key[32..].copy_from_slice(&tag);
    Wrap { slot: *slot, sealed_key }
}

/// The key that wraps one ring's key for one key slot: the ring's salt is part of it, so that it is used once.
pub(crate) fn wrap_key(slot_key: &Secret, salt: &[u8; 32], slot: &ObjectHash) -> ObjectKey {
    ObjectKey::wrapping(&slot_key.derive("dr 2026 v1 ring wrap", &[salt]), slot.as_bytes())
}

pub(crate) fn ring_kek(ring_key: &Secret, repository: &[u8; 16]) -> Kek {
    Kek::from_secret(ring_key.derive("dr 2026 v1 kek ring", &[repository]))
}
