//! Forgetting snapshots and bringing them back, protecting them, and changing their tags. All of it is one entry of the log
//! each; nothing is deleted before a collection.

use std::collections::HashMap;

use crate::error::{Error, ErrorKind, Result};
use crate::format::log::{Event, Snapshots, Tag};
use crate::id::SnapshotId;
use crate::log::{Log, slot_times};
use crate::repository::Repository;
use crate::snapshot::{
    Decision, Group, GroupBy, KeepPolicy, Snapshot, SnapshotFilter, Timed, decide, dropped,
};

/// How many snapshots one entry names: 32 bytes each must fit into a slot.
const SNAPSHOTS_PER_ENTRY: usize = 1024;
/// How often a policy decides anew because others forget meanwhile.
const ATTEMPTS_MAX: usize = 10;

/// What to forget by a policy.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ForgetOptions {
    /// What to keep.
    pub policy: KeepPolicy,
    /// What the policy is applied to: nothing else is forgotten.
    pub filter: SnapshotFilter,
    /// The policy is applied to each group by itself.
    pub group_by: GroupBy,
    /// Only say what would be forgotten.
    pub dry_run: bool,
    /// Allows that nothing of a group is left.
    pub allow_empty: bool,
    /// By whose times the policy goes.
    pub times: RetentionTimes,
}

/// By whose times a policy goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum RetentionTimes {
    /// What the hosts said, held between times of the store: nobody's forged clock changes what is kept. What was copied or
    /// rewritten counts as made then.
    #[default]
    Vouched,
    /// What the hosts said, but nothing in the future: for repositories whose snapshots were copied or rewritten, and whose
    /// writers are trusted.
    Claimed,
}

impl ForgetOptions {
    /// Forgets what `policy` does not keep.
    pub fn new(policy: KeepPolicy) -> ForgetOptions {
        ForgetOptions { policy, ..ForgetOptions::default() }
    }
}

/// What was decided over the snapshots of a group, in the order they were committed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ForgetGroup {
    /// What they have in common.
    pub group: Group,
    /// The snapshots; those without a reason are forgotten.
    pub decisions: Vec<Decision>,
}

/// A change of tags.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TagChange {
    /// These and no others.
    Set(Vec<String>),
    /// These too.
    Add(Vec<String>),
    /// These no more.
    Remove(Vec<String>),
}

impl TagChange {
    pub(crate) fn apply(&self, tags: &[String]) -> Vec<String> {
        let mut changed = tags.to_vec();
        match self {
            TagChange::Set(all) => changed.clone_from(all),
            TagChange::Add(more) => changed.extend(more.iter().cloned()),
            TagChange::Remove(fewer) => changed.retain(|tag| !fewer.contains(tag)),
        }
        let mut seen = std::collections::HashSet::new();
        changed.retain(|tag| seen.insert(tag.clone()));
        changed
    }
}

impl Repository {
    /// Forgets the snapshots that a policy does not keep. Their data stays until it is collected, and until then they can
    /// be brought back.
    ///
    /// # Errors
    /// `InvalidInput` where the policy has no rule, or would leave nothing of a group and that is not allowed; what the
    /// store answers.
    pub fn forget_by_policy(&self, options: &ForgetOptions) -> Result<Vec<ForgetGroup>> {
        if options.policy.is_empty() && !options.allow_empty {
            return Err(Error::new(ErrorKind::InvalidInput, "the policy has no rule: it would keep nothing")
                .with_remedy("say what to keep, for example with --keep-last 10 --keep-daily 30"));
        }
        for _ in 1..ATTEMPTS_MAX {
            if let Some(groups) = self.forget_once(options)? {
                return Ok(groups);
            }
        }
        Err(Error::new(
            ErrorKind::StoreUnavailable,
            "others forget what the policy keeps, faster than it decides",
        )
        .with_remedy("run it again"))
    }

    /// One attempt; `None` where others forgot meanwhile what was to stand for what the policy does not keep.
    fn forget_once(&self, options: &ForgetOptions) -> Result<Option<Vec<ForgetGroup>>> {
        let snapshots = self.snapshots_as_kept(options)?;
        let groups: Vec<ForgetGroup> = decide(snapshots, &options.policy, options.group_by)
            .into_iter()
            .map(|(group, decisions)| ForgetGroup { group, decisions })
            .collect();
        let is_emptied =
            |group: &&ForgetGroup| group.decisions.iter().all(|decision| decision.reasons.is_empty());
        if let Some(group) = groups.iter().find(is_emptied).filter(|_| !options.allow_empty) {
            let host = group.group.host.as_deref().unwrap_or("all hosts");
            return Err(Error::new(
                ErrorKind::InvalidInput,
                format!(
                    "the policy would forget all {} snapshots of a group ({host})",
                    group.decisions.len()
                ),
            )
            .with_remedy("give a rule that keeps some of them, or allow it with --unsafe-allow-remove-all"));
        }
        if !options.dry_run {
            let ids: Vec<SnapshotId> = groups.iter().flat_map(|group| dropped(&group.decisions)).collect();
            let decisions = groups.iter().flat_map(|group| &group.decisions);
            let kept: Vec<SnapshotId> =
                decisions.filter(|it| !it.reasons.is_empty()).map(|it| it.snapshot.id).collect();
            let stand = |log: &Log| kept.iter().all(|id| is_live(log, id));
            if !self.forget_while(&ids, &stand)? {
                return Ok(None);
            }
        }
        Ok(Some(groups))
    }

    /// The snapshots, each at the time at which retention sees it: the host's claim, held between the times of the slots
    /// just before and of its own. A slot's time is the store's, and where its successor recorded an earlier one, that: so a
    /// copy of the repository in another store, where all slots are young, keeps what the first one keeps. No time lies
    /// before that of an earlier slot, or in the future, whatever an entry says.
    fn snapshots_as_kept(&self, options: &ForgetOptions) -> Result<Vec<Timed>> {
        let repository = &self.0;
        let snapshots = self.snapshots(&options.filter)?;
        let now_ms = repository.store_time(options.dry_run)?;
        let log = repository.synchronise()?;
        let first = log.fold.uncollected_snapshots().next().map_or(0, |state| state.slot.saturating_sub(1));
        let times = slot_times(&*repository.store, first)?;
        let time_of = |slot: u64, recorded: Option<i64>| {
            let listed = times.get(&slot).copied().unwrap_or(now_ms);
            recorded.map_or(listed, |recorded| recorded.min(listed)).min(now_ms)
        };
        let mut bounds = HashMap::new();
        let mut earliest = i64::MIN;
        for state in log.fold.uncollected_snapshots() {
            earliest = earliest.max(time_of(state.slot.saturating_sub(1), Some(state.store_ms)));
            let latest = earliest.max(time_of(state.slot, state.next_ms));
            bounds.insert(state.record.id, (earliest, latest));
            earliest = latest;
        }
        // One that was collected meanwhile is nobody's to decide over.
        let timed = snapshots.into_iter().filter_map(|snapshot| {
            let (earliest, latest) = bounds.get(&snapshot.id)?;
            let claimed = snapshot.time.as_nanoseconds() / 1_000_000;
            let claimed = i64::try_from(claimed).unwrap_or(i64::MAX);
            let kept_ms = match options.times {
                RetentionTimes::Vouched => claimed.clamp(*earliest, *latest),
                RetentionTimes::Claimed => claimed.min(now_ms),
            };
            Some((snapshot, kept_ms))
        });
        let mut timed: Vec<Timed> = timed.collect();
        // The rules look at one after the other: by slot the store's times ascend, whatever place a rewritten one claims.
        timed.sort_by_key(|(snapshot, kept_ms)| match options.times {
            RetentionTimes::Vouched => (0, snapshot.slot),
            RetentionTimes::Claimed => (*kept_ms, snapshot.slot),
        });
        Ok(timed)
    }

    /// Forgets snapshots.
    ///
    /// # Errors
    /// `NotFound` where there is no such snapshot, `InvalidInput` where one is protected, and what the store answers.
    pub fn forget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.forget_while(snapshots, &|_| true).map(drop)
    }

    /// Forgets snapshots, as far as states of the log that `holds` is true of are followed; says whether all were.
    fn forget_while(&self, snapshots: &[SnapshotId], holds: &dyn Fn(&Log) -> bool) -> Result<bool> {
        for some in snapshots.chunks(SNAPSHOTS_PER_ENTRY) {
            let appended = self.0.append_if(&mut |log| {
                if !holds(log) {
                    return Ok(None);
                }
                for id in some {
                    if !is_live(log, id) {
                        return Err(missing(id));
                    }
                    refuse_protected(log, id)?;
                }
                Ok(Some(Event::Forget(Snapshots { snapshots: some.to_vec() })))
            })?;
            if appended.is_none() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Forgets snapshots that another one stands for, as far as they are there; what others forgot meanwhile is passed over.
    /// The entry follows a state in which that one is there: two calls that each keep what the other forgets leave one. Gives
    /// how many it forgot.
    pub(crate) fn forget_replaced(&self, replaced: &[SnapshotId], replacement: &SnapshotId) -> Result<usize> {
        let mut count = 0;
        self.0.append_if(&mut |log| {
            if !is_live(log, replacement) {
                return Err(Error::new(
                    ErrorKind::NotFound,
                    "the new snapshot was forgotten meanwhile, so the old stay",
                )
                .with_object(format!("snapshot {replacement}"))
                .with_remedy("bring it back with 'dr unforget', or try again"));
            }
            let live: Vec<SnapshotId> = replaced.iter().copied().filter(|id| is_live(log, id)).collect();
            live.iter().try_for_each(|id| refuse_protected(log, id))?;
            count = live.len();
            Ok((count > 0).then_some(Event::Forget(Snapshots { snapshots: live })))
        })?;
        Ok(count)
    }

    /// Brings forgotten snapshots back.
    ///
    /// # Errors
    /// `NotFound` where one is not forgotten, or was collected already; what the store answers.
    pub fn unforget(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.append_marks(snapshots, Event::Unforget, &|log, id| {
            log.fold.snapshot(id).filter(|state| state.forgotten.is_some()).map(drop).ok_or_else(|| {
                Error::new(ErrorKind::NotFound, "there is no such forgotten snapshot")
                    .with_object(format!("snapshot {id}"))
                    .with_remedy(
                        "it was collected already, or is not forgotten: see 'dr snapshots --forgotten'",
                    )
            })
        })
    }

    /// Protects snapshots from being forgotten.
    ///
    /// # Errors
    /// `NotFound` where there is no such snapshot; what the store answers.
    pub fn protect(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.append_protection(snapshots, Event::Protect)
    }

    /// Ends the protection of snapshots.
    ///
    /// # Errors
    /// `NotFound` where there is no such snapshot; what the store answers.
    pub fn unprotect(&self, snapshots: &[SnapshotId]) -> Result<()> {
        self.append_protection(snapshots, Event::Unprotect)
    }

    fn append_protection(&self, snapshots: &[SnapshotId], event: fn(Snapshots) -> Event) -> Result<()> {
        self.append_marks(snapshots, event, &|log, id| {
            log.fold
                .snapshot(id)
                .filter(|state| state.forgotten.is_none())
                .map(drop)
                .ok_or_else(|| missing(id))
        })
    }

    /// Changes the tags of snapshots. Gives those that bore other tags before.
    ///
    /// # Errors
    /// `NotFound` where there is no such snapshot; what the store answers.
    pub fn tag(&self, snapshots: &[SnapshotId], change: &TagChange) -> Result<Vec<SnapshotId>> {
        let all = self.snapshots(&SnapshotFilter::new())?;
        let mut changed = Vec::new();
        for id in snapshots {
            let known = all.iter().find(|snapshot| snapshot.id == *id).ok_or_else(|| missing(id))?;
            if change.apply(&known.tags) == known.tags {
                continue;
            }
            self.0.append(&mut |log| {
                // Others may have changed them since: what they did stays.
                let tags = &log.fold.snapshot(id).ok_or_else(|| missing(id))?.tags;
                let tags = change.apply(tags.as_deref().unwrap_or(&known.tags));
                Ok(Event::Tag(Tag { snapshots: vec![*id], tags }))
            })?;
            changed.push(*id);
        }
        Ok(changed)
    }

    /// The forgotten snapshots that can be brought back, in the order they were committed.
    ///
    /// # Errors
    /// What the store answers.
    pub fn forgotten_snapshots(&self, filter: &SnapshotFilter) -> Result<Vec<Snapshot>> {
        let log = self.0.synchronise()?;
        let mut bodies = None;
        let mut found = Vec::new();
        for state in log.fold.uncollected_snapshots().filter(|state| state.forgotten.is_some()) {
            match self.0.read_snapshot(&log, state, &mut bodies) {
                Ok(snapshot) => found.push(snapshot),
                Err(error) if error.is_damage() => {}
                Err(error) => return Err(error),
            }
        }
        found.retain(|snapshot| filter.matches(snapshot));
        Ok(found)
    }

    /// Appends entries that name snapshots, each of which `check` must accept on the state that the entry follows.
    fn append_marks(
        &self,
        snapshots: &[SnapshotId],
        event: fn(Snapshots) -> Event,
        check: &dyn Fn(&Log, &SnapshotId) -> Result<()>,
    ) -> Result<()> {
        for some in snapshots.chunks(SNAPSHOTS_PER_ENTRY) {
            self.0.append(&mut |log| {
                some.iter().try_for_each(|id| check(log, id))?;
                Ok(event(Snapshots { snapshots: some.to_vec() }))
            })?;
        }
        Ok(())
    }
}

/// Whether a snapshot is there and not forgotten.
fn is_live(log: &Log, id: &SnapshotId) -> bool {
    log.fold.snapshot(id).is_some_and(|state| state.forgotten.is_none())
}

fn refuse_protected(log: &Log, id: &SnapshotId) -> Result<()> {
    if !log.fold.snapshot(id).is_some_and(|state| state.protected) {
        return Ok(());
    }
    Err(Error::new(ErrorKind::InvalidInput, "the snapshot is protected")
        .with_object(format!("snapshot {id}"))
        .with_remedy("unprotect it first: dr protect --remove"))
}

fn missing(id: &SnapshotId) -> Error {
    Error::new(ErrorKind::NotFound, "there is no such snapshot")
        .with_object(format!("snapshot {id}"))
        .with_remedy("list what there is with 'dr snapshots'")
}
