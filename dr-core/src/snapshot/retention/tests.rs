use super::*;
use crate::format::snapshot::{SnapshotBody, Totals};
use crate::snapshot::Standing;
use crate::time::Timestamp;
use crate::tree::Stream;

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
/// 2026-01-01T00:00:00Z, a Thursday.
const START_MS: i64 = 1_767_225_600_000;

fn snapshot(number: u8, ms: i64) -> Timed {
    let body = SnapshotBody {
        nonce: [number; 16],
        time: Timestamp::from_nanoseconds(i128::from(ms) * 1_000_000),
        finished: Timestamp::default(),
        host: "a".to_owned(),
        paths: vec![b"/x".to_vec()],
        tags: vec![],
        program: String::new(),
        parent: None,
        partial: false,
        root: Stream::default(),
        totals: Totals::default(),
        problems: 0,
        problem_list: Stream::default(),
    };
    let standing = Standing {
        id: SnapshotId::from_bytes([number; 32]),
        slot: u64::from(number),
        store_ms: ms - 1,
        forgotten: false,
        protected: false,
        newer: false,
        tags: None,
        origins: Vec::new(),
        place: u64::from(number),
    };
    (Snapshot::new(standing, body), ms)
}

/// The numbers of the snapshots that a policy keeps.
fn kept(snapshots: Vec<Timed>, policy: &KeepPolicy) -> Vec<u64> {
    let groups = decide(snapshots, policy, GroupBy::default());
    let all = groups.into_values().flatten();
    all.filter(|decision| !decision.reasons.is_empty()).map(|decision| decision.snapshot.slot).collect()
}

/// One snapshot every six hours for so many days.
fn days(count: u8) -> Vec<Timed> {
    (0..count * 4).map(|number| snapshot(number, START_MS + i64::from(number) * 6 * HOUR_MS)).collect()
}

#[test]
fn counts_keep_the_newest_of_each_unit() {
    let policy = |change: fn(&mut KeepPolicy)| {
        let mut policy = KeepPolicy::new();
        change(&mut policy);
        policy
    };
    assert_eq!(kept(days(3), &policy(|p| p.last = 2)), [10, 11]);
    assert_eq!(kept(days(3), &policy(|p| p.daily = 2)), [7, 11]);
    assert_eq!(kept(days(3), &policy(|p| p.daily = 99)), [3, 7, 11]);
    // Weeks end on Sundays: 2026-01-04 and 2026-01-11; the last day is Wednesday the 14th.
    assert_eq!(kept(days(14), &policy(|p| p.weekly = 9)), [15, 43, 55]);
    assert_eq!(kept(days(60), &policy(|p| p.monthly = 9)), [31 * 4 - 1, 59 * 4 - 1, 60 * 4 - 1]);
    assert_eq!(kept(days(3), &policy(|p| p.yearly = 1)), [11]);
    assert_eq!(kept(days(3), &policy(|p| p.hourly = 3)), [9, 10, 11]);
    assert_eq!(kept(days(3), &policy(|p| p.within = "1d".parse().ok())), [7, 8, 9, 10, 11]);
    assert_eq!(kept(days(3), &policy(|p| p.within_daily = "1d7h".parse().ok())), [7, 11]);
    assert_eq!(kept(days(2), &policy(|p| p.ids = vec!["03".to_owned()])), [3]);
}

#[test]
fn tags_protection_and_groups_count() {
    let mut all = days(2);
    all[1].0.tags = vec!["a".to_owned(), "b".to_owned()];
    all[2].0.protected = true;
    all[3].0.host = "other".to_owned();
    let mut policy = KeepPolicy { last: 1, ..KeepPolicy::default() };
    policy.tags = vec!["a,b".to_owned()];
    let mut found = kept(all.clone(), &policy);
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3, 7]);
    policy.tags = vec!["a,c".to_owned()];
    assert!(!kept(all, &policy).contains(&1));
}

#[test]
fn partial_snapshots_take_nobodys_place() {
    let mut all = days(1);
    all[3].0.partial = true;
    let policy = KeepPolicy { last: 1, daily: 1, ..KeepPolicy::default() };
    // The newest whole one, and the partial one that the next run goes on from.
    assert_eq!(kept(all.clone(), &policy), [2, 3]);
    all.push(snapshot(4, START_MS + DAY_MS));
    assert_eq!(kept(all, &KeepPolicy { last: 1, ..KeepPolicy::default() }), [4]);
}

#[test]
fn a_forged_clock_pushes_nothing_out() {
    let mut all = days(7);
    // Ten snapshots that claim to be of ten years to come, and of ten years past, committed within a minute.
    for number in 0..10 {
        for (place, sign) in [(100, 1), (150, -1)] {
            let (mut forged, _) = snapshot(place + number, START_MS + 7 * DAY_MS);
            let claimed = START_MS + sign * i64::from(number + 1) * 365 * DAY_MS;
            forged.time = Timestamp::from_nanoseconds(i128::from(claimed) * 1_000_000);
            let committed = START_MS + 7 * DAY_MS;
            all.push((forged, claimed.clamp(committed, committed + 60_000)));
        }
    }
    let policy = KeepPolicy { daily: 8, ..KeepPolicy::default() };
    let found = kept(all, &policy);
    for day in 0..7 {
        assert!(found.contains(&(day * 4 + 3)), "day {day} was pushed out: {found:?}");
    }
}

#[test]
fn periods_are_read_and_nonsense_is_refused() {
    let period: Period = "1y5m2w7d2h".parse().unwrap();
    assert_eq!(period, Period { years: 1, months: 5, days: 21, hours: 2 });
    for wrong in ["", "7", "d", "1x", "99999999y", "-1d"] {
        assert!(wrong.parse::<Period>().is_err(), "{wrong}");
    }
    assert!("host,paths".parse::<GroupBy>().is_ok() && "nothing".parse::<GroupBy>().is_err());
}
