//! Which snapshots a policy keeps. Pure: it sees snapshots in the order they were committed and the times that the store
//! vouches for, so that no forged clock changes what is kept.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::civil::ISOWeekDate;
use jiff::tz::TimeZone;
use jiff::{Span, Zoned};

use super::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;

/// A length of time by the calendar, as in `1y5m7d2h`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Period {
    /// Years.
    pub years: u16,
    /// Months.
    pub months: u16,
    /// Days.
    pub days: u32,
    /// Hours.
    pub hours: u32,
}

impl FromStr for Period {
    type Err = Error;

    fn from_str(text: &str) -> Result<Period> {
        let wrong = || {
            Error::new(ErrorKind::InvalidInput, format!("'{text}' is no length of time"))
                .with_remedy("write years, months, days and hours as in 1y5m7d2h")
        };
        let mut period = Period::default();
        let mut digits = String::new();
        for letter in text.chars() {
            if letter.is_ascii_digit() {
                digits.push(letter);
                continue;
            }
            let number: u16 = std::mem::take(&mut digits).parse().map_err(|_| wrong())?;
            match letter {
                'y' => period.years = number.min(9000),
                'm' => period.months = number,
                'w' => period.days += u32::from(number) * 7,
                'd' => period.days += u32::from(number),
                'h' => period.hours = u32::from(number),
                _ => return Err(wrong()),
            }
        }
        if digits.is_empty() && !text.is_empty() { Ok(period) } else { Err(wrong()) }
    }
}

impl Period {
    /// The instant so long before `end`; the beginning of time where the calendar does not reach that far.
    fn before(self, end: &Zoned) -> Option<Zoned> {
        let span = Span::new()
            .try_years(self.years)
            .and_then(|span| span.try_months(self.months))
            .and_then(|span| span.try_days(self.days))
            .and_then(|span| span.try_hours(self.hours))
            .ok()?;
        end.checked_sub(span).ok()
    }
}

/// What to keep. A snapshot that any rule keeps is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct KeepPolicy {
    /// So many of the newest.
    pub last: u32,
    /// The newest of each of so many hours (UTC) that have one.
    pub hourly: u32,
    /// … days.
    pub daily: u32,
    /// … ISO weeks.
    pub weekly: u32,
    /// … months.
    pub monthly: u32,
    /// … years.
    pub yearly: u32,
    /// All that are no older than this, seen from the newest.
    pub within: Option<Period>,
    /// The newest of each hour within this time.
    pub within_hourly: Option<Period>,
    /// … day.
    pub within_daily: Option<Period>,
    /// … week.
    pub within_weekly: Option<Period>,
    /// … month.
    pub within_monthly: Option<Period>,
    /// … year.
    pub within_yearly: Option<Period>,
    /// Those that bear any of these tags; several joined by commas must all be there.
    pub tags: Vec<String>,
    /// Those whose ids begin with any of these.
    pub ids: Vec<String>,
}

impl KeepPolicy {
    /// A policy without any rule.
    pub fn new() -> KeepPolicy {
        KeepPolicy::default()
    }

    /// Whether it has no rule, and so would keep nothing.
    pub fn is_empty(&self) -> bool {
        *self == KeepPolicy::default()
    }
}

/// Why a snapshot is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeepReason {
    /// It is among the newest.
    Last,
    /// It is the newest of its hour, day, week, month or year.
    Newest(Unit),
    /// It is younger than the policy's limit.
    Within,
    /// It is the newest of its hour, day, week, month or year, and younger than the policy's limit.
    NewestWithin(Unit),
    /// It bears a tag of the policy.
    Tag(String),
    /// The policy names it.
    Id,
    /// It is protected.
    Protected,
    /// It is partial, and there is no newer one of its group: the next backup goes on from it.
    Unfinished,
}

/// What a calendar is cut into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// An hour.
    Hour,
    /// A day.
    Day,
    /// An ISO week.
    Week,
    /// A month.
    Month,
    /// A year.
    Year,
}

impl fmt::Display for KeepReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            KeepReason::Last => f.write_str("last"),
            KeepReason::Newest(unit) => write!(f, "{unit}"),
            KeepReason::Within => f.write_str("within"),
            KeepReason::NewestWithin(unit) => write!(f, "{unit} within"),
            KeepReason::Tag(tag) => write!(f, "tag {tag}"),
            KeepReason::Id => f.write_str("id"),
            KeepReason::Protected => f.write_str("protected"),
            KeepReason::Unfinished => f.write_str("unfinished"),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Hour => "hourly",
            Unit::Day => "daily",
            Unit::Week => "weekly",
            Unit::Month => "monthly",
            Unit::Year => "yearly",
        })
    }
}

/// What snapshots are grouped by before a policy is applied to each group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupBy {
    /// By host.
    pub host: bool,
    /// By the paths asked for.
    pub paths: bool,
    /// By all tags together.
    pub tags: bool,
}

impl Default for GroupBy {
    /// By host and paths.
    fn default() -> GroupBy {
        GroupBy { host: true, paths: true, tags: false }
    }
}

impl FromStr for GroupBy {
    type Err = Error;

    /// Reads `host,paths,tags`, any of them, or nothing for one group of all.
    fn from_str(text: &str) -> Result<GroupBy> {
        let mut group = GroupBy { host: false, paths: false, tags: false };
        for part in text.split(',').filter(|part| !part.is_empty()) {
            match part {
                "host" | "hosts" => group.host = true,
                "path" | "paths" => group.paths = true,
                "tag" | "tags" => group.tags = true,
                _ => {
                    return Err(Error::new(ErrorKind::InvalidInput, format!("cannot group by '{part}'"))
                        .with_remedy("group by host, paths and tags, joined by commas"));
                }
            }
        }
        Ok(group)
    }
}

/// What the snapshots of a group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
#[non_exhaustive]
pub struct Group {
    /// The host, where they are grouped by it.
    pub host: Option<String>,
    /// The paths, where they are grouped by them.
    pub paths: Option<Vec<std::path::PathBuf>>,
    /// The tags, where they are grouped by them.
    pub tags: Option<Vec<String>>,
}

/// A snapshot, and why it is kept; it is not where there is no reason.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Decision {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// Its time as the rules saw it, in milliseconds since 1970-01-01 UTC: what its host says, held between the times of the
    /// store just before and just after it was committed, so that no forged clock changes what is kept.
    pub kept_ms: i64,
    /// Why it is kept.
    pub reasons: Vec<KeepReason>,
}

/// A snapshot, and its time as the rules are to see it, in milliseconds since 1970.
pub(crate) type Timed = (Snapshot, i64);

impl Group {
    /// The group of a snapshot.
    pub fn of(snapshot: &Snapshot, by: GroupBy) -> Group {
        let sorted = |mut tags: Vec<String>| {
            tags.sort();
            tags
        };
        Group {
            host: by.host.then(|| snapshot.host.clone()),
            paths: by.paths.then(|| snapshot.paths.clone()),
            tags: by.tags.then(|| sorted(snapshot.tags.clone())),
        }
    }
}

/// Groups snapshots, and decides over each group. Both orders are those of the input.
pub(crate) fn decide(
    snapshots: Vec<Timed>,
    policy: &KeepPolicy,
    by: GroupBy,
) -> BTreeMap<Group, Vec<Decision>> {
    let mut groups: BTreeMap<Group, Vec<Timed>> = BTreeMap::new();
    for (snapshot, kept_ms) in snapshots {
        let group = Group::of(&snapshot, by);
        groups.entry(group).or_default().push((snapshot, kept_ms));
    }
    groups.into_iter().map(|(group, snapshots)| (group, decide_group(snapshots, policy))).collect()
}

/// A rule that keeps the newest of each unit of the calendar.
struct Rule {
    unit: Option<Unit>,
    left: u32,
    since: Option<Zoned>,
    within: bool,
    last: Option<Bucket>,
}

/// A unit of the calendar, as numbers that differ between units.
type Bucket = (i16, i8, i8, i8);

fn decide_group(snapshots: Vec<Timed>, policy: &KeepPolicy) -> Vec<Decision> {
    let newest = snapshots.iter().rev().find(|(snapshot, _)| !snapshot.partial);
    let newest = newest.map(|(_, kept_ms)| time_of(*kept_ms));
    let mut rules = rules(policy, newest.as_ref());
    let last = snapshots.len().saturating_sub(1);
    let mut decisions: Vec<Decision> = snapshots
        .into_iter()
        .enumerate()
        .rev()
        .map(|(number, (snapshot, kept_ms))| {
            let mut reasons = Vec::new();
            if snapshot.protected {
                reasons.push(KeepReason::Protected);
            }
            if policy.ids.iter().any(|id| snapshot.id.to_string().starts_with(id.as_str())) {
                reasons.push(KeepReason::Id);
            }
            let bears =
                |tags: &String| tags.split(',').all(|tag| snapshot.tags.iter().any(|known| known == tag));
            reasons.extend(policy.tags.iter().find(|tags| bears(tags)).cloned().map(KeepReason::Tag));
            if snapshot.partial {
                // It never takes the place of a whole one.
                if number == last {
                    reasons.push(KeepReason::Unfinished);
                }
            } else {
                let time = time_of(kept_ms);
                reasons.extend(rules.iter_mut().filter_map(|rule| rule.keeps(&time)));
            }
            Decision { snapshot, kept_ms, reasons }
        })
        .collect();
    decisions.reverse();
    decisions
}

fn rules(policy: &KeepPolicy, newest: Option<&Zoned>) -> Vec<Rule> {
    let counts = [
        (None, policy.last),
        (Some(Unit::Hour), policy.hourly),
        (Some(Unit::Day), policy.daily),
        (Some(Unit::Week), policy.weekly),
        (Some(Unit::Month), policy.monthly),
        (Some(Unit::Year), policy.yearly),
    ];
    let periods = [
        (None, policy.within),
        (Some(Unit::Hour), policy.within_hourly),
        (Some(Unit::Day), policy.within_daily),
        (Some(Unit::Week), policy.within_weekly),
        (Some(Unit::Month), policy.within_monthly),
        (Some(Unit::Year), policy.within_yearly),
    ];
    let counted = counts.into_iter().filter(|(_, left)| *left > 0).map(|(unit, left)| Rule {
        unit,
        left,
        since: None,
        within: false,
        last: None,
    });
    let timed = periods.into_iter().filter_map(|(unit, period)| {
        let since = newest.and_then(|newest| period?.before(newest));
        period.map(|_| Rule { unit, left: u32::MAX, since, within: true, last: None })
    });
    counted.chain(timed).collect()
}

impl Rule {
    /// Whether the rule keeps a snapshot of that time; they come newest first.
    fn keeps(&mut self, time: &Zoned) -> Option<KeepReason> {
        if self.left == 0 || self.since.as_ref().is_some_and(|since| time < since) {
            return None;
        }
        if let Some(unit) = self.unit {
            let bucket = bucket_of(unit, time);
            if self.last.replace(bucket) == Some(bucket) {
                return None;
            }
        }
        self.left = self.left.saturating_sub(u32::from(!self.within));
        Some(match (self.unit, self.within) {
            (None, false) => KeepReason::Last,
            (None, true) => KeepReason::Within,
            (Some(unit), false) => KeepReason::Newest(unit),
            (Some(unit), true) => KeepReason::NewestWithin(unit),
        })
    }
}

fn time_of(kept_ms: i64) -> Zoned {
    let clamped = kept_ms.clamp(-9_000_000_000_000, 250_000_000_000_000);
    jiff::Timestamp::from_millisecond(clamped).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_zoned(TimeZone::UTC)
}

fn bucket_of(unit: Unit, time: &Zoned) -> Bucket {
    match unit {
        Unit::Hour => (time.year(), time.month(), time.day(), time.hour()),
        Unit::Day => (time.year(), time.month(), time.day(), -1),
        Unit::Week => {
            let week = ISOWeekDate::from(time);
            (week.year(), week.week(), -1, -1)
        }
        Unit::Month => (time.year(), time.month(), -1, -1),
        Unit::Year => (time.year(), -1, -1, -1),
    }
}

/// The ids of those that no rule keeps.
pub(crate) fn dropped(decisions: &[Decision]) -> impl Iterator<Item = SnapshotId> + '_ {
    decisions.iter().filter(|decision| decision.reasons.is_empty()).map(|decision| decision.snapshot.id)
}

#[cfg(test)]
mod tests;
