//! Lists directories before the walk comes to them, on threads that have nothing else to do.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};

use crate::limits::{DEPTH_MAX, PATH_BYTES_MAX};
use crate::observer::lock;
use crate::source::{SourceDirectory, SourceItem};
use crate::time::{Clock, Timestamp};
use crate::tree::Entry;

/// A directory that the walk will come to. Whoever is first lists it: a thread that has nothing else to do, or the walk.
#[derive(Debug)]
pub(crate) struct Ahead {
    name: Vec<u8>,
    place: Place,
    stage: Mutex<Stage>,
    ended: Condvar,
}

/// Where a directory stands.
#[derive(Debug, Clone, Copy, Default)]
struct Place {
    /// How many directories are above it.
    depth: usize,
    path_bytes: usize,
}

#[derive(Debug)]
enum Stage {
    /// In this directory.
    Waiting(Arc<dyn SourceDirectory>),
    Begun,
    Listed(Listing),
    Taken,
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
    /// What it holds, in ascending order of name.
    pub(crate) items: Vec<SourceItem>,
    /// What was listed twice, or out of order.
    pub(crate) unordered: Vec<SourceItem>,
    /// The directories among its items, but those that are nested too deep.
    pub(crate) below: VecDeque<Arc<Ahead>>,
}

impl Listing {
    /// Lists the topmost directory.
    pub(crate) fn of_root(root: Arc<dyn SourceDirectory>, clock: &dyn Clock) -> Listing {
        Listing { looked: clock.now(), opened: Opened::read(root, Place::default()) }
    }

    fn read(above: &dyn SourceDirectory, name: &[u8], place: Place, clock: &dyn Clock) -> Listing {
        let looked = clock.now();
        let opened = above.open_directory(name).and_then(|directory| Opened::read(directory, place));
        Listing { looked, opened }
    }

    /// Its entries and itself: a directory without any is held open too.
    fn weight(&self) -> usize {
        1 + self.opened.as_ref().map_or(0, |opened| opened.items.len())
    }
}

impl Opened {
    fn read(directory: Arc<dyn SourceDirectory>, place: Place) -> io::Result<Opened> {
        let (items, unordered) = in_order(directory.entries()?);
        let below =
            items.iter().filter_map(|item| Ahead::of(item, &directory, place)).map(Arc::new).collect();
        Ok(Opened { directory, items, unordered, below })
    }
}

impl Ahead {
    /// The directory that an item of `above` is; none where it is something else, or nested too deep.
    fn of(item: &SourceItem, above: &Arc<dyn SourceDirectory>, place: Place) -> Option<Ahead> {
        let is_directory = |entry: &Entry| entry.is_directory() && entry.name == item.name;
        let place = Place { depth: place.depth + 1, path_bytes: place.path_bytes + 1 + item.name.len() };
        let is_too_deep = place.depth >= DEPTH_MAX || place.path_bytes > PATH_BYTES_MAX;
        (!is_too_deep && item.entry.as_ref().is_ok_and(is_directory)).then(|| Ahead {
            name: item.name.clone(),
            place,
            stage: Mutex::new(Stage::Waiting(Arc::clone(above))),
            ended: Condvar::new(),
        })
    }

    pub(crate) fn name(&self) -> &[u8] {
        &self.name
    }

    /// Whether nobody has begun to list it.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(*lock(&self.stage), Stage::Waiting(_))
    }

    /// Lists the directory unless somebody has begun to. Gives what waits for the walk then, the directory and its entries, and
    /// the directories below.
    pub(crate) fn list(&self, clock: &dyn Clock) -> Option<(usize, Vec<Arc<Ahead>>)> {
        let above = {
            let mut stage = lock(&self.stage);
            let Stage::Waiting(above) = &*stage else { return None };
            let above = Arc::clone(above);
            *stage = Stage::Begun;
            above
        };
        let mut begun = Begun { ahead: self, left: Stage::Waiting(Arc::clone(&above)) };
        let listing = Listing::read(&*above, &self.name, self.place, clock);
        let weight = listing.weight();
        let below =
            listing.opened.as_ref().map_or_else(|_| Vec::new(), |it| it.below.iter().cloned().collect());
        begun.left = Stage::Listed(listing);
        Some((weight, below))
    }

    /// Gives the listing to the walk, and how much waited for it. What nobody has begun is listed now.
    pub(crate) fn take(&self, clock: &dyn Clock) -> (Listing, usize) {
        let mut stage = lock(&self.stage);
        while matches!(*stage, Stage::Begun) {
            stage = self.ended.wait(stage).unwrap_or_else(PoisonError::into_inner);
        }
        let left = std::mem::replace(&mut *stage, Stage::Taken);
        drop(stage);
        match left {
            Stage::Listed(listing) => {
                let weight = listing.weight();
                (listing, weight)
            }
            Stage::Waiting(above) => (Listing::read(&*above, &self.name, self.place, clock), 0),
            Stage::Begun | Stage::Taken => {
                let error = io::Error::other("was walked twice, which is a fault of this program");
                (Listing { looked: clock.now(), opened: Err(error) }, 0)
            }
        }
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
