//! The packs that the index lists, and what is in the store, in little memory: there may be a million of both.

use std::sync::Arc;

use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::format::names;
use crate::format::segment::SegmentPack;
use crate::id::ObjectHash;
use crate::index::{Condemned, Index, Table};
use crate::repository::Inner;

/// The packs that the index lists and that are not condemned, once each, in order of their names. Their numbers here go from
/// 0; all else is read from the tables.
#[derive(Debug)]
pub(super) struct ListedPacks {
    tables: Vec<Arc<Table>>,
    /// The table that lists the pack first, and the pack's number there.
    places: Vec<(u32, u32)>,
}

impl ListedPacks {
    pub(super) fn new(index: &Index) -> ListedPacks {
        let mut listed = ListedPacks { tables: index.tables().to_vec(), places: Vec::new() };
        let mut places =
            Vec::with_capacity(listed.tables.iter().map(|table| table.pack_count() as usize).sum());
        for (number, table) in listed.tables.iter().enumerate() {
            let is_live = |pack: &u32| {
                table.pack(*pack).is_some_and(|pack| !index.condemned().contains_key(&pack.hash))
            };
            places.extend((0..table.pack_count()).filter(is_live).map(|pack| (number as u32, pack)));
        }
        places.sort_unstable_by(|a, b| listed.hash_at(*a).cmp(&listed.hash_at(*b)).then(a.cmp(b)));
        places.dedup_by_key(|place| listed.hash_at(*place));
        listed.places = places;
        listed
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, pack: usize) -> Option<SegmentPack> {
        self.at(*self.places.get(pack)?)
    }

    /// The number of the pack of a name.
    pub(super) fn find(&self, hash: &ObjectHash) -> Option<usize> {
        self.places.binary_search_by(|place| self.hash_at(*place).as_ref().cmp(&Some(hash))).ok()
    }

    /// The packs that a table lists and that are not condemned: each one's number there, and here.
    pub(super) fn of_table<'t>(&'t self, table: &'t Table) -> impl Iterator<Item = (u32, usize)> + 't {
        (0..table.pack_count()).filter_map(|place| Some((place, self.find(&table.pack(place)?.hash)?)))
    }

    fn at(&self, (table, pack): (u32, u32)) -> Option<SegmentPack> {
        self.tables.get(table as usize)?.pack(pack)
    }

    fn hash_at(&self, place: (u32, u32)) -> Option<ObjectHash> {
        self.at(place).map(|pack| pack.hash)
    }
}

/// An object of the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stored {
    /// Which folder it lies in; none for an index segment.
    pub(super) class: Option<PackClass>,
    pub(super) bytes: u64,
}

/// Packs and segments in the store.
#[derive(Debug)]
pub(super) struct StoredObjects {
    listed: Arc<ListedPacks>,
    /// Whether the pack of a number is there just as the index says.
    as_listed: Vec<bool>,
    /// All else that is there, in order of name, and when it was written.
    others: Vec<(ObjectHash, Stored, i64)>,
}

impl StoredObjects {
    /// Lists the store.
    pub(super) fn list(repository: &Inner, listed: Arc<ListedPacks>) -> Result<StoredObjects> {
        let mut as_listed = vec![false; listed.len()];
        let mut others = Vec::new();
        repository.list_packs(&mut |class, hash, meta| {
            let pack = listed.find(&hash).filter(|pack| {
                listed.get(*pack).is_some_and(|it| (it.class, it.bytes) == (class, meta.bytes))
            });
            match pack {
                Some(pack) => as_listed[pack] = true,
                None => {
                    others.push((hash, Stored { class: Some(class), bytes: meta.bytes }, meta.modified_ms))
                }
            }
        })?;
        repository.store.list(names::INDEX, None, &mut |meta| {
            if let Some(hash) = names::parse_hash(&meta.name) {
                others.push((hash, Stored { class: None, bytes: meta.bytes }, meta.modified_ms));
            }
            Ok(())
        })?;
        others.sort_by_key(|(hash, ..)| *hash);
        Ok(StoredObjects { listed, as_listed, others })
    }

    pub(super) fn get(&self, hash: &ObjectHash) -> Option<Stored> {
        if let Some(pack) = self.listed.find(hash).filter(|pack| self.as_listed[*pack]) {
            return self.listed.get(pack).map(stored);
        }
        let place = self.others.partition_point(|(other, ..)| other < hash);
        self.others.get(place).filter(|(other, ..)| other == hash).map(|(_, found, _)| *found)
    }

    /// Whether the pack of a number is there, in whatever folder.
    pub(super) fn has_pack(&self, pack: usize) -> bool {
        self.as_listed[pack] || self.listed.get(pack).is_some_and(|pack| self.get(&pack.hash).is_some())
    }

    /// What is there, is no pack that the index lists, and was written before `before_ms`.
    pub(super) fn unlisted(&self, before_ms: i64) -> impl Iterator<Item = ObjectHash> + '_ {
        let is_unlisted = move |(hash, _, modified_ms): &&(ObjectHash, Stored, i64)| {
            *modified_ms <= before_ms && self.listed.find(hash).is_none()
        };
        self.others.iter().filter(is_unlisted).map(|(hash, ..)| *hash)
    }

    /// Keeps only segments that fit.
    pub(super) fn keep_segments(&mut self, fits: impl Fn(&ObjectHash) -> bool) {
        self.as_listed.fill(false);
        self.others.retain(|(hash, found, _)| found.class.is_none() && fits(hash));
    }

    /// What is condemned and there, in order of name, and the slot that condemned it.
    pub(super) fn condemned(&self, condemned: &Condemned) -> Vec<(ObjectHash, Stored, u64)> {
        let others = self.others.iter().map(|(hash, found, _)| (*hash, *found));
        let packs = (0..self.listed.len()).filter(|pack| self.as_listed[*pack]).filter_map(|pack| {
            let pack = self.listed.get(pack)?;
            Some((pack.hash, stored(pack)))
        });
        let mut gone: Vec<(ObjectHash, Stored, u64)> = others
            .chain(packs)
            .filter_map(|(hash, found)| Some((hash, found, *condemned.get(&hash)?)))
            .collect();
        gone.sort_unstable_by_key(|(hash, ..)| *hash);
        gone
    }
}

fn stored(pack: SegmentPack) -> Stored {
    Stored { class: Some(pack.class), bytes: pack.bytes }
}
