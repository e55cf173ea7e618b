//! Looks many chunks up at a time. A lookup waits for memory several times, at places that no cache foresees; where many are
//! taken through the same step together, they wait together.

use std::ops::Range;

use super::concordance::Concordance;
use super::filter::key;
use super::record_set::Place;
use super::table::Table;
use crate::id::ChunkId;

/// What lookups go through, kept for the next ones.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    /// Of the chunks asked for, those that the filter lets pass.
    passed: Vec<u32>,
    /// Where their records would be, and the first bytes of the id in the middle.
    candidates: Vec<(Range<usize>, u64)>,
    found: Vec<(u32, Range<usize>)>,
    /// Of the chunks asked for, the slots of a concordance that may be theirs, the records that these name, and those chunks
    /// of which it cannot say where they are.
    slots: Vec<(u32, u32)>,
    records: Vec<(u32, Place)>,
    unknown: Vec<u32>,
}

impl Lookups {
    /// Of the chunks of these numbers, those that the table lists, and the numbers of their records.
    pub(crate) fn find<'c>(
        &mut self,
        table: &Table,
        id: impl Fn(u32) -> &'c ChunkId,
        wanted: &[u32],
    ) -> &[(u32, Range<usize>)] {
        self.filter(table, &id, wanted);
        self.candidates.clear();
        self.candidates.extend(self.passed.iter().map(|number| (table.candidates(id(*number)), 0)));
        for (range, middle) in &mut self.candidates {
            *middle = table.key_of(usize::midpoint(range.start, range.end));
        }
        self.found.clear();
        for (number, (range, middle)) in self.passed.iter().zip(&self.candidates) {
            let id = id(*number);
            let split = usize::midpoint(range.start, range.end);
            // Records of the same key lie on both sides of it.
            let range = match key(id).cmp(middle) {
                std::cmp::Ordering::Less => range.start..split,
                std::cmp::Ordering::Equal => range.clone(),
                std::cmp::Ordering::Greater => split..range.end,
            };
            let ordinals = table.ordinals_in(range, id);
            if !ordinals.is_empty() {
                self.found.push((*number, ordinals));
            }
        }
        &self.found
    }

    /// Of the chunks of these numbers, the records that may be theirs in the tables of a concordance, in order of the chunks
    /// and of the tables: their first eight bytes are the same. And the chunks for which it has no room.
    pub(crate) fn find_together<'c>(
        &mut self,
        concordance: &Concordance,
        id: impl Fn(u32) -> &'c ChunkId,
        wanted: &[u32],
    ) -> (&[(u32, Place)], &[u32]) {
        self.slots.clear();
        self.unknown.clear();
        for &number in wanted {
            let before = self.slots.len();
            let is_complete = concordance.slots(id(number), |place| {
                self.slots.push((number, place));
                true
            });
            if !is_complete {
                self.slots.truncate(before);
                self.unknown.push(number);
            }
        }
        self.records.clear();
        self.records.extend(self.slots.iter().filter_map(|(number, place)| {
            let (part, table, ordinal) = concordance.record_at(*place)?;
            (table.key_of(ordinal) == key(id(*number))).then_some((*number, (part, ordinal)))
        }));
        (&self.records, &self.unknown)
    }

    fn filter<'c>(&mut self, table: &Table, id: &impl Fn(u32) -> &'c ChunkId, wanted: &[u32]) {
        let Some((filter, fingerprints)) = table.filter() else {
            self.passed.clear();
            return self.passed.extend_from_slice(wanted);
        };
        self.passed.resize(wanted.len(), 0);
        let mut count = 0;
        for number in wanted {
            // No branch: which chunks pass cannot be foreseen.
            self.passed[count] = *number;
            count += usize::from(filter.passes(fingerprints, key(id(*number))));
        }
        self.passed.truncate(count);
    }
}
