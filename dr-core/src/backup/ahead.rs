//! Lists directories before the walk comes to them, on threads that have nothing else to do.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::limits::{DEPTH_MAX, PATH_BYTES_MAX};
use crate::observer::lock;
use crate::source::{Remark, SourceDirectory, SourceItem};
use crate::time::{Clock, Timestamp};
use crate::tree::Entry;

/// What a directory that is listed weighs beside its entries: it is held open, and a process may not hold many.
const DIRECTORY_WEIGHT: usize = 32;
/// Of the directories in one that is listed, so many at a time may be listed ahead, and as many as have keys of so many bytes.
const BELOW_MAX: usize = 256;
const KEYS_BYTES_MAX: usize = 32 << 10;
/// A listing that waited longer for the walk is made again.
const STALE_NANOSECONDS: i128 = 60_000_000_000;

/// A directory that the walk will come to. Whoever is first lists it: a thread that has nothing else to do, or the walk.
#[derive(Debug)]
pub(crate) struct Ahead {
    above: Arc<dyn SourceDirectory>,
    name: Vec<u8>,
    place: Place,
    stage: Mutex<Stage>,
    ended: Condvar,
}

/// Where a directory stands.
#[derive(Debug, Clone, Default)]
pub(crate) struct Place {
    /// How many directories are above it.
    depth: usize,
    /// Its path with zeros for slashes: in the order of these bytes, the walk comes to directories.
    key: Arc<[u8]>,
}

#[derive(Debug)]
enum Stage {
    Waiting,
    Begun,
    Listed(Listing, Weight),
    Taken,
}

/// What is listed and waits for the walk counts until this is dropped.
#[derive(Debug)]
struct Weight {
    all: Arc<AtomicUsize>,
    own: usize,
}

impl Weight {
    fn add(all: &Arc<AtomicUsize>, own: usize) -> Weight {
        all.fetch_add(own, Ordering::Relaxed);
        Weight { all: Arc::clone(all), own }
    }
}

impl Drop for Weight {
    fn drop(&mut self) {
        self.all.fetch_sub(self.own, Ordering::Relaxed);
    }
}

/// What came of listing a directory.
#[derive(Debug)]
pub(crate) struct Listing {
    /// When it was opened, at the latest.
    pub(crate) looked: Timestamp,
    pub(crate) opened: io::Result<Opened>,
}

/// A directory that is listed.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) directory: Arc<dyn SourceDirectory>,
    pub(crate) place: Place,
    /// What it holds, in ascending order of name.
    pub(crate) items: Vec<SourceItem>,
    /// What was listed twice, or out of order.
    pub(crate) unordered: Vec<SourceItem>,
    /// What the source says of the listing.
    pub(crate) remarks: Vec<Remark>,
    /// The first directories among its items, but those that are nested too deep.
    pub(crate) below: VecDeque<Arc<Ahead>>,
}

/// A directory that a thread is to list.
#[derive(Debug)]
pub(crate) struct ListJob {
    pub(crate) directory: Arc<Ahead>,
    /// What is listed ahead adds itself to this.
    pub(crate) listed: Arc<AtomicUsize>,
}

/// What a thread found that listed a directory ahead.
#[derive(Debug)]
pub(crate) struct Found {
    /// What waits for the walk by that.
    pub(crate) weight: usize,
    /// How many entries were looked at.
    pub(crate) entries: usize,
    /// The first directories below.
    pub(crate) below: VecDeque<Arc<Ahead>>,
}

/// Who made a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ListedBy {
    /// Another thread, before the walk came to the directory.
    Other,
    Walk,
}

impl Listing {
    /// Lists the topmost directory.
    pub(crate) fn of_root(root: Arc<dyn SourceDirectory>, clock: &dyn Clock) -> Listing {
        Listing { looked: clock.now(), opened: Opened::read(root, Place::default()) }
    }

    /// What is said of a directory that is nested too deep.
    pub(crate) fn too_deep(clock: &dyn Clock) -> Listing {
        let why = "directories are nested too deep (4,096 levels, or 32 KiB of path)";
        Listing { looked: clock.now(), opened: Err(io::Error::other(why)) }
    }
}

impl Opened {
    fn read(directory: Arc<dyn SourceDirectory>, place: Place) -> io::Result<Opened> {
        let (items, unordered) = in_order(directory.entries()?);
        let remarks = directory.remarks();
        let below = Ahead::among(&items, &directory, &place);
        Ok(Opened { directory, place, items, unordered, remarks, below })
    }

    fn weight(&self) -> usize {
        DIRECTORY_WEIGHT + self.items.len() + self.unordered.len() + self.remarks.len()
    }
}

impl Ahead {
    /// The first directories among items of `above`, but those that are nested too deep.
    pub(crate) fn among(
        items: &[SourceItem],
        above: &Arc<dyn SourceDirectory>,
        place: &Place,
    ) -> VecDeque<Arc<Ahead>> {
        let directories = items.iter().filter_map(|item| Ahead::of(item, above, place));
        let count = BELOW_MAX.min(KEYS_BYTES_MAX / (place.key.len() + 1)).max(1);
        directories.take(count).map(Arc::new).collect()
    }

    fn of(item: &SourceItem, above: &Arc<dyn SourceDirectory>, place: &Place) -> Option<Ahead> {
        let is_directory = |entry: &Entry| entry.is_directory() && entry.name == item.name;
        let is_listed = item.entry.as_ref().is_ok_and(is_directory);
        is_listed.then(|| Ahead::new(&item.name, above, place)).flatten()
    }

    /// The directory `name` in `above`; none where it is nested too deep.
    pub(crate) fn new(name: &[u8], above: &Arc<dyn SourceDirectory>, place: &Place) -> Option<Ahead> {
        let key: Arc<[u8]> = [&place.key, &[0][..], name].concat().into();
        let place = Place { depth: place.depth + 1, key };
        let is_too_deep = place.depth >= DEPTH_MAX || place.key.len() > PATH_BYTES_MAX;
        (!is_too_deep).then(|| Ahead {
            above: Arc::clone(above),
            name: name.to_vec(),
            place,
            stage: Mutex::new(Stage::Waiting),
            ended: Condvar::new(),
        })
    }

    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Directories that the walk comes to earlier have a smaller one; those below begin with it and a zero.
    pub(crate) fn key(&self) -> &Arc<[u8]> {
        &self.place.key
    }

    /// Lists the directory unless somebody has begun to, and adds what waits for the walk then to `all`. What fails is left to
    /// the walk, by whose time it may be well again.
    pub(crate) fn list(&self, clock: &dyn Clock, all: &Arc<AtomicUsize>) -> Option<Found> {
        {
            let mut stage = lock(&self.stage);
            if !matches!(*stage, Stage::Waiting) {
                return None;
            }
            *stage = Stage::Begun;
        }
        let mut begun = Begun { ahead: self, left: Stage::Waiting };
        let listing = self.read(clock);
        let opened = listing.opened.as_ref().ok()?;
        let (weight, entries) = (opened.weight(), opened.items.len() + opened.remarks.len());
        let below = opened.below.clone();
        begun.left = Stage::Listed(listing, Weight::add(all, weight));
        Some(Found { weight, entries, below })
    }

    /// Gives the listing to the walk. What nobody has begun, or what is old, is listed now.
    pub(crate) fn take(&self, clock: &dyn Clock) -> (Listing, ListedBy) {
        let mut stage = lock(&self.stage);
        while matches!(*stage, Stage::Begun) {
            stage = self.ended.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        let left = std::mem::replace(&mut *stage, Stage::Taken);
        drop(stage);
        if let Stage::Listed(listing, weight) = left {
            // It does not wait any more.
            drop(weight);
            let age = clock.now().as_nanoseconds() - listing.looked.as_nanoseconds();
            if (0..STALE_NANOSECONDS).contains(&age) {
                return (listing, ListedBy::Other);
            }
        }
        (self.read(clock), ListedBy::Walk)
    }

    fn read(&self, clock: &dyn Clock) -> Listing {
        let looked = clock.now();
        let opened = self.above.open_directory(&self.name);
        Listing { looked, opened: opened.and_then(|directory| Opened::read(directory, self.place.clone())) }
    }
}

/// Leaves a directory that was begun, however that ends: the walk waits for it.
struct Begun<'a> {
    ahead: &'a Ahead,
    left: Stage,
}

impl Drop for Begun<'_> {
    fn drop(&mut self) {
        *lock(&self.ahead.stage) = std::mem::replace(&mut self.left, Stage::Taken);
        self.ahead.ended.notify_all();
    }
}

/// Takes out of a listing what does not ascend: a directory that held it could not be read.
fn in_order(items: Vec<SourceItem>) -> (Vec<SourceItem>, Vec<SourceItem>) {
    if items.is_sorted_by(|before, item| before.name < item.name) {
        return (items, Vec::new());
    }
    let (mut ordered, mut rest) = (Vec::<SourceItem>::with_capacity(items.len()), Vec::new());
    for item in items {
        let follows = ordered.last().is_none_or(|last| last.name < item.name);
        if follows { ordered.push(item) } else { rest.push(item) }
    }
    (ordered, rest)
}
