//! Opened pages of segments, kept for the next lookup: the ones asked for last, of all segments together.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use crate::observer::lock;

/// Pages kept, in bytes.
const KEPT_BYTES_MAX: usize = 64 << 20;

/// An opened page.
pub(crate) type Page = Arc<Vec<u8>>;
/// The segment's number here, and the section's in the segment.
type Place = (u64, u32);

/// The opened pages.
#[derive(Debug, Default)]
pub(crate) struct Pages(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Each with the time it was asked for last.
    pages: HashMap<Place, (Page, u64)>,
    order: BTreeMap<u64, Place>,
    bytes: usize,
    time: u64,
    segments: u64,
}

impl Pages {
    /// A number for a segment, under which its pages are kept.
    pub(super) fn enter(&self) -> u64 {
        let mut kept = lock(&self.0);
        kept.segments += 1;
        kept.segments
    }

    pub(super) fn get(&self, place: Place) -> Option<Page> {
        let mut kept = lock(&self.0);
        let kept = &mut *kept;
        let (page, asked) = kept.pages.get_mut(&place)?;
        kept.order.remove(asked);
        kept.time += 1;
        *asked = kept.time;
        kept.order.insert(kept.time, place);
        Some(page.clone())
    }

    pub(super) fn keep(&self, place: Place, page: Page) {
        let mut kept = lock(&self.0);
        kept.time += 1;
        let time = kept.time;
        kept.bytes += page.len();
        if let Some((before, asked)) = kept.pages.insert(place, (page, time)) {
            kept.bytes -= before.len();
            kept.order.remove(&asked);
        }
        kept.order.insert(time, place);
        while kept.bytes > KEPT_BYTES_MAX {
            let Some((_, oldest)) = kept.order.pop_first() else { return };
            if let Some((page, _)) = kept.pages.remove(&oldest) {
                kept.bytes -= page.len();
            }
        }
    }

    /// Lets go of the pages of a segment.
    pub(super) fn leave(&self, segment: u64) {
        let mut kept = lock(&self.0);
        let kept = &mut *kept;
        kept.pages.retain(|place, (page, asked)| {
            let stays = place.0 != segment;
            if !stays {
                kept.bytes -= page.len();
                kept.order.remove(asked);
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pages_asked_for_last_are_kept() {
        let pages = Pages::default();
        let (first, second) = (pages.enter(), pages.enter());
        let page: Page = Arc::new(vec![0; 1 << 20]);
        for number in 0..100 {
            pages.keep((first, number), page.clone());
            assert!(pages.get((first, 0)).is_some());
        }
        let is_kept = |segment, number| lock(&pages.0).pages.contains_key(&(segment, number));
        assert!((1..=36).all(|number| !is_kept(first, number)));
        assert!((37..100).all(|number| is_kept(first, number)));
        pages.keep((first, 99), page.clone());
        assert_eq!(lock(&pages.0).bytes, KEPT_BYTES_MAX);
        pages.keep((second, 0), page);
        pages.leave(first);
        let kept = lock(&pages.0);
        assert_eq!((kept.bytes, kept.pages.len(), kept.order.len()), (1 << 20, 1, 1));
    }
}
