//! The key ring: the secrets of epochs (encryption) and domains (ids, chunker), and the keys derived from them.

use super::secret::Secret;
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::body;
use crate::format::envelope::{Header, ObjectType, PackClass, Suite};
use crate::format::ring::{ChunkerParams, RingBody, RingKey};
use crate::id::ObjectHash;

/// A key-encryption key: the key of one purpose in one epoch.
#[derive(Debug, Clone)]
pub(crate) struct Kek(Secret);

impl Kek {
    pub(crate) fn secret(&self) -> &Secret {
        &self.0
    }

    pub(crate) fn from_secret(secret: Secret) -> Kek {
        Kek(secret)
    }

    #[cfg(test)]
    pub(crate) fn for_tests(byte: u8) -> Kek {
        Kek(Secret::new([byte; 32]))
    }
}

/// The keys of a deduplication domain.
#[derive(Debug, Clone)]
pub(crate) struct Domain {
    pub(crate) data_ids: Secret,
    pub(crate) tree_ids: Secret,
    pub(crate) chunker: Secret,
    pub(crate) params: ChunkerParams,
}

impl Domain {
    pub(crate) fn id_key(&self, class: PackClass) -> &[u8; 32] {
        match class {
            PackClass::Data => self.data_ids.bytes(),
            PackClass::Tree => self.tree_ids.bytes(),
        }
    }
}

/// The secret of a deduplication domain and its chunker's parameters, for another repository.
#[derive(Debug, Clone)]
pub(crate) struct SharedDomain {
    secret: Secret,
    params: ChunkerParams,
}

/// The opened key ring.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct KeyRing {
    pub(crate) repository: [u8; 16],
    pub(crate) generation: u64,
    epochs: Vec<(u32, Secret)>,
    domains: Vec<(u32, Secret, ChunkerParams)>,
    slots: Vec<(ObjectHash, Secret)>,
    /// What new objects are made with. It is no part of the ring as it is stored.
    suite: Suite,
}

impl KeyRing {
    /// Draws the keys of a new repository.
    pub(crate) fn new(repository: [u8; 16], params: ChunkerParams, entropy: &dyn Entropy) -> Result<KeyRing> {
        Ok(KeyRing {
            repository,
            generation: 0,
            epochs: vec![(0, Secret::new(random(entropy)?))],
            domains: vec![(0, Secret::new(random(entropy)?), params)],
            slots: Vec::new(),
            suite: Suite::ChaCha20Poly1305,
        })
    }

    /// Makes new objects with another suite from now on. Objects of every suite are opened.
    pub(crate) fn seal_with(&mut self, suite: Suite) {
        self.suite = suite;
    }

    /// The domain that new chunks belong to, for another repository.
    pub(crate) fn shared_domain(&self) -> Option<SharedDomain> {
        let newest = self.domains.iter().max_by_key(|(domain, ..)| *domain);
        newest.map(|(_, secret, params)| SharedDomain { secret: secret.clone(), params: *params })
    }

    /// Puts the domain of another repository in the place of this one's, which nothing was written in yet.
    pub(crate) fn share_domain(&mut self, domain: &SharedDomain) {
        self.domains = vec![(0, domain.secret.clone(), domain.params)];
    }

    pub(crate) fn add_slot(&mut self, slot: ObjectHash, key: Secret) {
        self.slots.push((slot, key));
    }

    /// Takes a key slot out; false where there is no such slot.
    pub(crate) fn remove_slot(&mut self, slot: &ObjectHash) -> bool {
        let before = self.slots.len();
        self.slots.retain(|(other, _)| other != slot);
        self.slots.len() < before
    }

    pub(crate) fn slots(&self) -> &[(ObjectHash, Secret)] {
        &self.slots
    }

    /// The epoch that new objects are sealed in.
    pub(crate) fn newest_epoch(&self) -> u32 {
        self.epochs.iter().map(|(epoch, _)| *epoch).max().unwrap_or(0)
    }

    /// The key that an object of this header is sealed under.
    pub(crate) fn kek(&self, header: &Header) -> Result<Kek> {
        if header.repository != self.repository {
            return Err(Error::corrupt("the object belongs to another repository"));
        }
        let secret = self.epochs.iter().find(|(epoch, _)| *epoch == header.epoch).ok_or_else(|| {
            Error::new(
                ErrorKind::WrongCredentials,
                "the object is sealed with a key that this key slot does not give",
            )
        })?;
        let context = match header.object {
            ObjectType::DataPack => "dr 2026 v1 kek data",
            ObjectType::TreePack | ObjectType::Snapshot => "dr 2026 v1 kek tree",
            ObjectType::Segment => "dr 2026 v1 kek index",
            ObjectType::Slot | ObjectType::List | ObjectType::Checkpoint => "dr 2026 v1 kek log",
            ObjectType::Ring => {
                return Err(Error::corrupt("a key ring stands where another object should be"));
            }
        };
        Ok(Kek(secret.1.derive(context, &[&self.repository, &header.epoch.to_le_bytes()])))
    }

    /// A header for a new object of the newest epoch; its salt is still to be drawn. A ring is made with the suite of the
    /// key slots that it is wrapped for, which every reader knows.
    pub(crate) fn header(&self, object: ObjectType) -> Header {
        let suite = if object == ObjectType::Ring { Suite::ChaCha20Poly1305 } else { self.suite };
        Header {
            object,
            suite,
            key_mode: 0,
            epoch: self.newest_epoch(),
            repository: self.repository,
            salt: [0; 32],
            aux: Vec::new(),
        }
    }

    /// The keys of the domain that new chunks belong to. The repository's id is no part of them, so that repositories may
    /// share a domain and copies between them keep their ids.
    pub(crate) fn domain(&self) -> Result<Domain> {
        let (_, secret, params) = self
            .domains
            .iter()
            .max_by_key(|(domain, ..)| *domain)
            .ok_or_else(|| Error::corrupt("the key ring has no domain"))?;
        Ok(Domain {
            data_ids: secret.derive("dr 2026 v1 id data", &[]),
            tree_ids: secret.derive("dr 2026 v1 id tree", &[]),
            chunker: secret.derive("dr 2026 v1 chunker", &[]),
            params: *params,
        })
    }

    pub(crate) fn encode(&self, config: ObjectHash) -> Vec<u8> {
        let mut keys = Vec::new();
        keys.extend(
            self.epochs
                .iter()
                .map(|(epoch, secret)| RingKey::Epoch { epoch: *epoch, secret: *secret.bytes() }),
        );
        keys.extend(self.domains.iter().map(|(domain, secret, chunker)| RingKey::Domain {
            domain: *domain,
            secret: *secret.bytes(),
            chunker: *chunker,
        }));
        keys.extend(self.slots.iter().map(|(slot, key)| RingKey::Slot { slot: *slot, key: *key.bytes() }));
        body::encode(&RingBody { generation: self.generation, config, keys })
    }

    /// Decodes a ring's body; also gives the hash of the `config` it belongs to.
    pub(crate) fn decode(repository: [u8; 16], bytes: &[u8]) -> Result<(KeyRing, ObjectHash)> {
        let body = body::decode::<RingBody>("a key ring", bytes)?.value;
        let mut ring = KeyRing {
            repository,
            generation: body.generation,
            epochs: vec![],
            domains: vec![],
            slots: vec![],
            suite: Suite::ChaCha20Poly1305,
        };
        for key in &body.keys {
            match key {
                RingKey::Epoch { epoch, secret } => ring.epochs.push((*epoch, Secret::new(*secret))),
                RingKey::Domain { domain, secret, chunker } => {
                    crate::chunker::check_params(chunker)?;
                    ring.domains.push((*domain, Secret::new(*secret), *chunker));
                }
                RingKey::Slot { slot, key } => ring.slots.push((*slot, Secret::new(*key))),
            }
        }
        Ok((ring, body.config))
    }
}
