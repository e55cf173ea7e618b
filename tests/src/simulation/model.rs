//! What must hold, kept beside the repository: what each backup saw, what is made of what, and which marks were set when.

use std::collections::{BTreeMap, BTreeSet};

use dr_core::{Snapshot, SnapshotId};

use super::source::{File, Flat};

/// Tags that name a rewrite or a merge begin so; each has one of its own.
pub(super) const PLAN: &str = "plan";
const HEARTBEAT: &str = "heartbeat";

/// What a run of that time saw.
#[derive(Debug, Clone)]
pub(super) enum Saw {
    /// All of it.
    Whole(Flat),
    /// Bytes that go on where the stream of that name ended.
    Appended(String, Vec<u8>),
}

/// What a snapshot is to hold that is made of others.
#[derive(Debug, Clone)]
pub(super) enum Plan {
    /// Each of several is rewritten.
    Rewrite(BTreeMap<SnapshotId, Flat>),
    /// All of them are one.
    Merge(Flat),
}

/// A stream: its host and its name.
type Stream = (String, String);

/// What is known of a snapshot that was seen once.
#[derive(Debug, Clone)]
struct Known {
    /// What it holds, or why that cannot be.
    holds: Result<Flat, String>,
    partial: bool,
    parent: Option<SnapshotId>,
    /// The snapshots that it is made of, and the plan that it was made by.
    made_of: Vec<SnapshotId>,
    plan: Option<String>,
    /// The stream of which it says that it was the same again.
    beat: Option<Stream>,
    /// The stream that it goes on with.
    appended: Option<Stream>,
}

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
    /// The plan whose snapshot takes the place of this one; nothing where somebody wanted it gone.
    plan: Option<String>,
}

/// A mark that is being set: of which snapshots, and which of theirs.
#[derive(Debug)]
pub(super) struct Marking(Vec<(SnapshotId, usize)>);

/// What must hold.
#[derive(Debug, Default)]
pub(super) struct Model {
    now: u64,
    /// What each backup saw, by the time that it gave its snapshot.
    saw: BTreeMap<i128, Saw>,
    plans: BTreeMap<String, Plan>,
    known: BTreeMap<SnapshotId, Known>,
    /// Streams of which somebody said that they were the same again, or tried to.
    beaten: BTreeSet<Stream>,
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
    pub(super) fn begin_backup(&mut self, time: i128, saw: Saw) {
        self.saw.insert(time, saw);
    }

    /// Notes that a stream may be said to be the same again.
    pub(super) fn begin_heartbeat(&mut self, host: &str, name: &str) {
        self.beaten.insert((host.to_owned(), name.to_owned()));
    }

    /// Notes what is to be made of others.
    pub(super) fn begin_plan(&mut self, tag: &str, plan: Plan) {
        self.plans.insert(tag.to_owned(), plan);
    }

    /// Takes notice of a snapshot, once what it goes on from was seen.
    pub(super) fn learn(&mut self, snapshot: &Snapshot) {
        if self.known.contains_key(&snapshot.id) {
            return;
        }
        let plan = snapshot.tags.iter().rev().find(|tag| tag.starts_with(PLAN)).cloned();
        let made_of: Vec<SnapshotId> = snapshot.origins.iter().map(|origin| origin.snapshot).collect();
        let holds = match &plan {
            Some(tag) => self.planned(tag, &made_of),
            None => self.seen(snapshot),
        };
        let stream = || {
            let name = snapshot.paths.first().and_then(|path| path.to_str()).unwrap_or_default();
            (snapshot.host.clone(), name.trim_start_matches('/').to_owned())
        };
        let saw = self.saw.get(&snapshot.time.as_nanoseconds());
        let is_beat = snapshot.tags.iter().any(|tag| tag == HEARTBEAT);
        let is_appended = matches!(saw, Some(Saw::Appended(..))) && plan.is_none() && !is_beat;
        let known = Known {
            holds,
            partial: snapshot.partial,
            parent: snapshot.parent,
            made_of,
            plan,
            beat: is_beat.then(stream),
            appended: is_appended.then(stream),
        };
        self.known.insert(snapshot.id, known);
    }

    fn planned(&self, tag: &str, made_of: &[SnapshotId]) -> Result<Flat, String> {
        let holds = match self.plans.get(tag) {
            Some(Plan::Merge(holds)) => Some(holds),
            Some(Plan::Rewrite(each)) => made_of.first().and_then(|origin| each.get(origin)),
            None => None,
        };
        holds.cloned().ok_or_else(|| format!("nobody planned {tag} of {made_of:?}"))
    }

    fn seen(&self, snapshot: &Snapshot) -> Result<Flat, String> {
        match self.saw.get(&snapshot.time.as_nanoseconds()) {
            Some(Saw::Whole(flat)) => Ok(flat.clone()),
            Some(Saw::Appended(name, bytes)) => {
                let before = match &snapshot.parent {
                    Some(parent) => self.stream(parent, name)?,
                    None => &[],
                };
                let bytes = [before, bytes].concat();
                Ok(Flat::from([(name.clone(), Some(File { bytes, modified: 0 }))]))
            }
            None => Err(format!("no backup made snapshot {} of {:?}", snapshot.id, snapshot.time)),
        }
    }

    fn stream(&self, id: &SnapshotId, name: &str) -> Result<&[u8], String> {
        let known = self.known.get(id).ok_or_else(|| format!("{id} was never seen"))?;
        match known.holds.as_ref()?.get(name) {
            Some(Some(file)) => Ok(&file.bytes),
            _ => Err(format!("{id} holds no stream {name}")),
        }
    }

    /// Compares what a stream was said to be still with what it was to be.
    pub(super) fn compare_stream(
        &self,
        id: &SnapshotId,
        name: &str,
        whole: Option<&[u8]>,
    ) -> Result<(), String> {
        let held = self.stream(id, name)?;
        match whole {
            Some(bytes) if bytes != held => {
                Err(format!("{id} holds another {name} than is said to be there"))
            }
            _ => Ok(()),
        }
    }

    /// Whether one that was made by a plan may be forgotten again.
    pub(super) fn may_lose_plan(&self, tag: &str) -> bool {
        let is_made = |(_, known): &(&SnapshotId, &Known)| known.plan.as_deref() == Some(tag);
        self.known.iter().filter(is_made).any(|(id, _)| self.may_be_forgotten(id))
    }

    /// Whether anybody tried to protect it.
    pub(super) fn may_be_protected(&self, id: &SnapshotId) -> bool {
        let protects = |mark: &Mark| mark.kind == MarkKind::Protect;
        self.marks.get(id).is_some_and(|marks| marks.iter().any(protects))
            // What is made of a protected one is protected.
            || self.known.get(id).is_some_and(|known| known.made_of.iter().any(|id| self.may_be_protected(id)))
    }

    /// Whether a snapshot of a stream may be collected while somebody goes on with it.
    pub(super) fn may_lose_stream(&self, name: &str) -> bool {
        let holds = |known: &Known| known.holds.as_ref().is_ok_and(|flat| flat.contains_key(name));
        self.known.iter().any(|(id, known)| holds(known) && self.may_be_forgotten(id))
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
        self.mark(kind, snapshots, None)
    }

    /// Notes that snapshots are to be forgotten once what a plan makes of them is there.
    pub(super) fn begin_replacing(&mut self, plan: &str, snapshots: &[SnapshotId]) -> Marking {
        self.mark(MarkKind::Forget, snapshots, Some(plan))
    }

    fn mark(&mut self, kind: MarkKind, snapshots: &[SnapshotId], plan: Option<&str>) -> Marking {
        let begin = self.tick();
        let add = |id: &SnapshotId| {
            let marks = self.marks.entry(*id).or_default();
            marks.push(Mark { kind, begin, end: None, plan: plan.map(str::to_owned) });
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
            || self.may_be_outdated(id)
    }

    /// Whether anybody but a plan tried to forget it.
    pub(super) fn may_be_forgotten_by_others(&self, id: &SnapshotId, plan: &str) -> bool {
        let is_other = |mark: &Mark| mark.kind == MarkKind::Forget && mark.plan.as_deref() != Some(plan);
        self.marks.get(id).is_some_and(|marks| marks.iter().any(is_other)) || self.may_be_outdated(id)
    }

    /// Whether it says that a stream was the same, and another one may say so since.
    fn may_be_outdated(&self, id: &SnapshotId) -> bool {
        let beat = self.known.get(id).and_then(|known| known.beat.as_ref());
        beat.is_some_and(|stream| self.beaten.contains(stream))
    }

    /// Whether a snapshot must be forgotten, or must not; nothing where both may be.
    fn must_be_forgotten(&self, id: &SnapshotId) -> Option<bool> {
        let marks: Vec<&Mark> = self.marks.get(id).map(|marks| marks.iter().collect()).unwrap_or_default();
        let is_one = |mark: &&&Mark| matches!(mark.kind, MarkKind::Forget | MarkKind::Unforget);
        let Some(last) =
            marks.iter().filter(is_one).filter(|mark| mark.end.is_some()).max_by_key(|mark| mark.begin)
        else {
            return (!self.may_be_forgotten(id)).then_some(false);
        };
        // Another mark that may have come after it, or whose outcome nobody knows, leaves it open.
        let overlaps = |mark: &&&Mark| {
            is_one(mark) && mark.kind != last.kind && mark.end.is_none_or(|end| end > last.begin)
        };
        if marks.iter().any(|mark| overlaps(&mark))
            || (last.kind == MarkKind::Unforget && self.may_be_outdated(id))
        {
            return None;
        }
        Some(last.kind == MarkKind::Forget)
    }

    /// What a snapshot must hold. Says why where it cannot be.
    pub(super) fn expected(&self, id: &SnapshotId) -> Result<&Flat, String> {
        let known = self.known.get(id).ok_or_else(|| format!("{id} was never seen"))?;
        known.holds.as_ref().map_err(Clone::clone)
    }

    /// Compares what was restored with what was backed up.
    pub(super) fn compare(&self, snapshot: &Snapshot, restored: &Flat) -> Result<(), String> {
        let expected = self.expected(&snapshot.id)?;
        let is_right = if snapshot.partial {
            restored.iter().all(|(path, file)| expected.get(path) == Some(file))
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
        self.verify_known(&live)?;
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

    /// What was seen once and nobody wanted gone is there, or what stands for it was made.
    fn verify_known(&self, live: &BTreeMap<SnapshotId, &Snapshot>) -> Result<(), String> {
        let mut begun: BTreeMap<(Option<SnapshotId>, &Stream), SnapshotId> = BTreeMap::new();
        for (id, known) in self.known.iter().filter(|(_, known)| !known.partial) {
            if let (Some(stream), false) = (&known.appended, self.may_be_forgotten(id))
                && let Some(other) = begun.insert((known.parent, stream), *id)
            {
                return Err(format!("{id} and {other} both go on from {:?}", known.parent));
            }
            if live.contains_key(id) {
                continue;
            }
            if !self.may_be_forgotten(id) {
                return Err(format!("{id} was seen, and is gone though nobody forgot it"));
            }
            let marks = self.marks.get(id).map(Vec::as_slice).unwrap_or_default();
            let forgets = marks.iter().filter(|mark| mark.kind == MarkKind::Forget);
            let plans: Option<Vec<&String>> = forgets.map(|mark| mark.plan.as_ref()).collect();
            // Where somebody wanted it gone, it may be.
            let Some(plans) = plans else { continue };
            let stands_for = |other: &Known| {
                let is_planned = other.plan.as_ref().is_some_and(|plan| plans.contains(&plan));
                let is_beat = known.beat.is_some() && other.beat.is_some() && other.parent == Some(*id);
                is_beat || (is_planned && other.made_of.contains(id))
            };
            if !self.known.values().any(stands_for) {
                return Err(format!("{id} is forgotten, and nothing stands for it"));
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
