//! What must hold, kept beside the repository: what each backup saw, and which marks were set when.

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{Snapshot, SnapshotId};

use super::source::Flat;

/// What a mark says of a snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MarkKind {
    Forget,
    Unforget,
    Protect,
    Unprotect,
}

/// A mark that somebody set, or tried to set.
#[derive(Debug, Clone)]
struct Mark {
    kind: MarkKind,
    begin: u64,
    /// When the caller was told; never where it was not: then it may still happen.
    end: Option<u64>,
}

/// A mark that is being set: of which snapshots, and which of theirs.
#[derive(Debug)]
pub(super) struct Marking(Vec<(SnapshotId, usize)>);

/// What must hold.
#[derive(Debug, Default)]
pub(super) struct Model {
    now: u64,
    /// What each backup saw, by the time that it gave its snapshot.
    saw: BTreeMap<i128, Flat>,
    acknowledged: BTreeSet<SnapshotId>,
    collected: BTreeSet<SnapshotId>,
    marks: BTreeMap<SnapshotId, Vec<Mark>>,
    /// Tags that were added, and must be there.
    tags: BTreeMap<SnapshotId, Vec<String>>,
}

impl Model {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }

    /// Notes what a backup of that time sees.
    pub(super) fn begin_backup(&mut self, time: i128, saw: Flat) {
        self.saw.insert(time, saw);
    }

    /// Notes that a caller was told of a snapshot.
    pub(super) fn acknowledge(&mut self, snapshot: SnapshotId) {
        self.acknowledged.insert(snapshot);
    }

    /// Notes that a caller was told of a tag.
    pub(super) fn tagged(&mut self, snapshot: SnapshotId, tag: String) {
        self.tags.entry(snapshot).or_default().push(tag);
    }

    /// Notes that marks are being set.
    pub(super) fn begin_marks(&mut self, kind: MarkKind, snapshots: &[SnapshotId]) -> Marking {
        let begin = self.tick();
        let add = |id: &SnapshotId| {
            let marks = self.marks.entry(*id).or_default();
            marks.push(Mark { kind, begin, end: None });
            (*id, marks.len() - 1)
        };
        Marking(snapshots.iter().map(add).collect())
    }

    /// Notes that marks are set. Says what cannot be.
    pub(super) fn end_marks(&mut self, marking: &Marking) -> Result<(), String> {
        let end = self.tick();
        for (id, number) in &marking.0 {
            let Some(mark) = self.marks.get_mut(id).and_then(|marks| marks.get_mut(*number)) else {
                continue;
            };
            mark.end = Some(end);
            let mark = mark.clone();
            if mark.kind == MarkKind::Forget && self.is_protected_before(id, mark.begin) {
                return Err(format!("{id} was forgotten though it is protected"));
            }
            // It may have been forgotten again, and then collected, before this client heard of its own success.
            let again = |later: &Mark| later.kind == MarkKind::Forget && later.begin > mark.begin;
            let was_forgotten_again = self.marks.get(id).is_some_and(|marks| marks.iter().any(again));
            if mark.kind == MarkKind::Unforget && self.collected.contains(id) && !was_forgotten_again {
                return Err(format!("{id} was brought back though it was collected"));
            }
        }
        Ok(())
    }

    /// Notes that marks were refused: they never happen.
    pub(super) fn refuse_marks(&mut self, marking: &Marking) {
        for (id, number) in &marking.0 {
            if let Some(marks) = self.marks.get_mut(id) {
                // It keeps its place, so that the numbers of others stay.
                marks[*number].kind = MarkKind::Unprotect;
                marks[*number].end = Some(0);
            }
        }
    }

    fn is_protected_before(&self, id: &SnapshotId, time: u64) -> bool {
        let marks = self.marks.get(id).map(Vec::as_slice).unwrap_or_default();
        let is_protected =
            |mark: &Mark| mark.kind == MarkKind::Protect && mark.end.is_some_and(|end| end < time);
        let may_end = |mark: &Mark| mark.kind == MarkKind::Unprotect && mark.end != Some(0);
        // A snapshot that was forgotten when it was protected is not protected.
        let may_be_void = |mark: &Mark| mark.kind == MarkKind::Forget && mark.begin < time;
        marks.iter().any(is_protected) && !marks.iter().any(may_end) && !marks.iter().any(may_be_void)
    }

    /// Notes what a collection collected. Says what cannot be.
    pub(super) fn collect(&mut self, collected: &[SnapshotId]) -> Result<(), String> {
        for id in collected {
            if !self.may_be_forgotten(id) {
                return Err(format!("{id} was collected though nobody forgot it"));
            }
            self.collected.insert(*id);
        }
        Ok(())
    }

    /// Whether anybody tried to forget it.
    pub(super) fn may_be_forgotten(&self, id: &SnapshotId) -> bool {
        self.marks.get(id).is_some_and(|marks| marks.iter().any(|mark| mark.kind == MarkKind::Forget))
    }

    /// Whether a snapshot must be forgotten, or must not; nothing where both may be.
    fn must_be_forgotten(&self, id: &SnapshotId) -> Option<bool> {
        let marks: Vec<&Mark> = self.marks.get(id).map(|marks| marks.iter().collect()).unwrap_or_default();
        let is_one = |mark: &&&Mark| matches!(mark.kind, MarkKind::Forget | MarkKind::Unforget);
        let Some(last) =
            marks.iter().filter(is_one).filter(|mark| mark.end.is_some()).max_by_key(|mark| mark.begin)
        else {
            let is_tried = marks.iter().any(|mark| mark.kind == MarkKind::Forget);
            return (!is_tried).then_some(false);
        };
        // Another mark that may have come after it, or whose outcome nobody knows, leaves it open.
        let overlaps = |mark: &&&Mark| {
            is_one(mark) && mark.kind != last.kind && mark.end.is_none_or(|end| end > last.begin)
        };
        if marks.iter().any(|mark| overlaps(&mark)) {
            return None;
        }
        Some(last.kind == MarkKind::Forget)
    }

    /// What a snapshot must hold. Says why where it cannot be.
    pub(super) fn expected(&self, snapshot: &Snapshot) -> Result<&Flat, String> {
        self.saw
            .get(&snapshot.time.as_nanoseconds())
            .ok_or_else(|| format!("no backup made snapshot {} of {:?}", snapshot.id, snapshot.time))
    }

    /// Compares what was restored with what was backed up.
    pub(super) fn compare(&self, snapshot: &Snapshot, restored: &Flat) -> Result<(), String> {
        let expected = self.expected(snapshot)?;
        let is_right = if snapshot.partial {
            restored.iter().all(|(path, bytes)| expected.get(path) == Some(bytes))
        } else {
            restored == expected
        };
        if is_right { Ok(()) } else { Err(format!("snapshot {} is not what was backed up", snapshot.id)) }
    }

    /// Compares what the repository lists at the end with what must be there.
    pub(super) fn verify(&self, live: &[Snapshot], forgotten: &[Snapshot]) -> Result<(), String> {
        let live: BTreeMap<SnapshotId, &Snapshot> =
            live.iter().map(|snapshot| (snapshot.id, snapshot)).collect();
        let forgotten: BTreeSet<SnapshotId> = forgotten.iter().map(|snapshot| snapshot.id).collect();
        for id in &self.acknowledged {
            let is_live = live.contains_key(id);
            if self.collected.contains(id) && (is_live || forgotten.contains(id)) {
                return Err(format!("{id} is back though it was collected"));
            }
            match self.must_be_forgotten(id) {
                Some(true) if is_live => return Err(format!("{id} was forgotten and is there")),
                Some(false) if !is_live && !self.collected.contains(id) => {
                    return Err(format!("{id} was acknowledged, not forgotten, and is not there"));
                }
                _ => {}
            }
            if !is_live && !self.may_be_forgotten(id) {
                return Err(format!("{id} is gone though nobody forgot it"));
            }
        }
        for (id, tags) in &self.tags {
            let Some(snapshot) = live.get(id) else { continue };
            if let Some(tag) = tags.iter().find(|tag| !snapshot.tags.contains(tag)) {
                return Err(format!("{id} lacks the tag {tag}"));
            }
        }
        for (id, marks) in &self.marks {
            let protects =
                |mark: &&Mark| mark.kind == MarkKind::Protect && mark.end.is_some_and(|end| end > 0);
            let ends = marks.iter().any(|mark| mark.kind == MarkKind::Unprotect && mark.end != Some(0));
            let Some(mark) = marks.iter().find(protects) else { continue };
            let is_void = marks
                .iter()
                .any(|other| other.kind == MarkKind::Forget && mark.end.is_none_or(|end| other.begin < end));
            if !ends && !is_void && self.acknowledged.contains(id) && !live.contains_key(id) {
                return Err(format!("{id} is protected and is not there"));
            }
        }
        Ok(())
    }

    /// How many backups were acknowledged.
    pub(super) fn acknowledged(&self) -> u64 {
        self.acknowledged.len() as u64
    }

    /// How many snapshots were collected, as far as a caller was told.
    pub(super) fn collected(&self) -> u64 {
        self.collected.len() as u64
    }
}
