//! The directories that the walk will come to, in its order, and how far ahead of it they are listed.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::ahead::{Ahead, ListJob, ListedBy};

/// When so much is listed and waits for the walk, nothing more is listed before half of it is walked. An entry weighs 1; one
/// takes about half a kilobyte.
const LISTED_MAX: usize = 8 << 10;

/// What is to be listed ahead.
#[derive(Debug, Default)]
pub(super) struct Frontier {
    /// By their keys: the one that the walk comes to next is first.
    waiting: BTreeMap<Arc<[u8]>, Arc<Ahead>>,
    /// What is listed and waits for the walk.
    listed: Arc<AtomicUsize>,
    is_far_ahead: bool,
    /// How many threads are listing.
    listing: usize,
    /// How many have listed something.
    ended: usize,
    /// What the largest of the last listings weighed.
    largest: usize,
}

impl Frontier {
    pub(super) fn push(&mut self, directories: impl IntoIterator<Item = Arc<Ahead>>) {
        self.waiting.extend(directories.into_iter().map(|it| (Arc::clone(it.key()), it)));
    }

    /// Whether `next` gives one.
    pub(super) fn has_next(&self) -> bool {
        // How large a directory is shows only when it is listed: threads begin together as far as what they find is
        // likely to fit, judged by the last ones.
        let listed = self.listed.load(Ordering::Relaxed);
        let fits = self.listing == 0
            || self.listing <= self.ended && listed + (self.listing + 1) * self.largest <= LISTED_MAX;
        !self.waiting.is_empty() && !self.is_far_ahead && fits
    }

    /// The directory to be listed next; `ended` must be called after that.
    pub(super) fn next(&mut self) -> Option<ListJob> {
        if !self.has_next() {
            return None;
        }
        let (_, directory) = self.waiting.pop_first()?;
        self.listing += 1;
        Some(ListJob { directory, listed: Arc::clone(&self.listed) })
    }

    /// Says that a thread has listed one, which weighs so much.
    pub(super) fn ended(&mut self, weight: usize) {
        self.listing = self.listing.saturating_sub(1);
        self.ended = self.ended.saturating_add(1);
        self.largest = weight.max(self.largest - self.largest / 8);
        self.is_far_ahead |= self.listed.load(Ordering::Relaxed) >= LISTED_MAX;
    }

    /// Says that the walk came to a directory.
    pub(super) fn came_to(&mut self, directory: &Ahead, listed_by: ListedBy) {
        let key: &[u8] = directory.key();
        self.waiting.remove(key);
        if listed_by == ListedBy::Walk {
            // What an older listing of it named.
            let (from, to) = ([key, &[0]].concat(), [key, &[1]].concat());
            let range = (Bound::Included(from.as_slice()), Bound::Excluded(to.as_slice()));
            let below: Vec<Arc<[u8]>> =
                self.waiting.range::<[u8], _>(range).map(|(key, _)| Arc::clone(key)).collect();
            below.iter().for_each(|key| drop(self.waiting.remove(key)));
        }
        if self.listed.load(Ordering::Relaxed) <= LISTED_MAX / 2 {
            self.is_far_ahead = false;
        }
    }

    pub(super) fn clear(&mut self) {
        self.waiting.clear();
    }
}
