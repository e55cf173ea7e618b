use proptest::prelude::*;

use super::*;
use crate::format::FormatError;
use crate::format::log::{
    Checkpoint, Commit, Condemn, Event, Genesis, HashList, Hold, Keys, LogEntry, Reindex, SnapshotPlace,
    SnapshotRecord, Snapshots, Tag,
};
use crate::id::SnapshotId;
use crate::log::fold::ATTEMPTS_KEPT;
use crate::tree::Stream;

fn hash(number: u8) -> ObjectHash {
    ObjectHash::from_bytes([number; 32])
}

fn ids(numbers: &[u8]) -> Vec<SnapshotId> {
    numbers.iter().map(|number| SnapshotId::from_bytes([number % 6; 32])).collect()
}

fn hashes(numbers: &[u8]) -> Vec<ObjectHash> {
    numbers.iter().map(|number| hash(number % 12)).collect()
}

/// Here, or in a list object that holds what its name says.
fn list(numbers: &[u8]) -> HashList {
    match numbers {
        [first, ..] if first % 3 == 0 => HashList::List(hash(200 + first % 12)),
        _ => HashList::Inline(hashes(numbers)),
    }
}

fn read_list(list: &ObjectHash) -> Result<Vec<ObjectHash>, crate::Error> {
    Ok(vec![hash(list.as_bytes()[0] - 200), hash(11)])
}

/// An event of every kind, all of whose names are drawn from so few that they meet one another.
fn event(kind: u8, numbers: &[u8]) -> Event {
    let first = numbers.first().copied().unwrap_or(0);
    let snapshots = Snapshots { snapshots: ids(numbers) };
    match kind {
        0..=4 => Event::Commit(Commit {
            snapshot: (kind > 0).then(|| SnapshotRecord {
                id: ids(&[first])[0],
                partial: first % 2 == 0,
                body: match kind {
                    1 => SnapshotPlace::Stream(Stream::default()),
                    _ => SnapshotPlace::Inline(vec![first]),
                },
            }),
            segments: hashes(numbers),
            inline_segments: if kind == 2 { vec![vec![first % 4]] } else { Vec::new() },
            own_packs: list(numbers),
            dedup_packs: HashList::default(),
            reused: Vec::new(),
        }),
        5 | 6 => Event::Forget(snapshots),
        7 => Event::Unforget(snapshots),
        8 => Event::Condemn(Condemn {
            packs: list(numbers),
            segments: HashList::Inline(hashes(&numbers[..numbers.len() / 2])),
            snapshots: ids(&numbers[..numbers.len() / 2]),
            lossy: first % 4 == 0,
        }),
        9 => Event::Reindex(Reindex {
            inputs: hashes(&numbers[..numbers.len().min(1)]),
            outputs: hashes(&numbers[numbers.len().min(1)..]),
            own_packs: HashList::default(),
        }),
        10 => Event::Checkpoint(Checkpoint { through: u64::from(first), object: hash(first) }),
        11 => Event::Keys(Keys { generation: u64::from(first % 4), ring: hash(first) }),
        12 => Event::Protect(snapshots),
        13 => Event::Unprotect(snapshots),
        14 => Event::Tag(Tag { snapshots: ids(numbers), tags: vec![format!("tag {first}")] }),
        15 => Event::Hold(Hold { seconds: u64::from(first) * 3600 }),
        _ => Event::Unknown { kind: 99 },
    }
}

/// Appends an entry as if it had been read from its slot.
fn append(log: &mut Log, event: Event, nonce: u8) {
    let slot = log.fold.next;
    let entry = LogEntry {
        slot,
        previous: log.head,
        previous_ms: log.head_ms,
        writer: [1; 16],
        // A low number repeats an earlier attempt.
        nonce: if nonce < 16 { [nonce; 16] } else { u128::from(slot).to_be_bytes() },
        event,
        heads: Vec::new(),
        read_only: false,
    };
    log.fold.apply(&entry, &mut read_list).unwrap();
    let head = ObjectHash::of_parts([&slot.to_le_bytes()[..]]);
    let (fold, damaged) = (std::mem::take(&mut log.fold), std::mem::take(&mut log.damaged));
    *log = Log::at(fold, head, 1000 + slot as i64, damaged);
}

fn genesis() -> Log {
    let mut log = Log::default();
    append(&mut log, Event::Genesis(Genesis { config: hash(1), ring: hash(2) }), 255);
    log
}

/// All that a fold holds, in an order that does not depend on how it came to be.
fn canonical(log: &Log) -> String {
    let fold = &log.fold;
    let Fold { next, changed, lossy, genesis, ring, newer, .. } = fold;
    let mut snapshots: Vec<_> = fold.snapshots.values().collect();
    snapshots.sort_by_key(|state| state.slot);
    let sorted = |names: &std::collections::HashSet<ObjectHash>| {
        let mut names: Vec<_> = names.iter().copied().collect();
        names.sort_unstable();
        names
    };
    let mut condemned: Vec<_> = fold.condemned.iter().collect();
    condemned.sort_unstable();
    let mut attempts: Vec<_> = fold.attempts.iter().collect();
    attempts.sort_unstable();
    let numbers = (next, changed, lossy, genesis, ring, newer, log.head, log.head_ms);
    let names = (&fold.segments, sorted(&fold.live), sorted(&fold.superseded), condemned);
    let rest = (&fold.by_slot, attempts, &fold.attempts_by_slot, &fold.checkpoints, &fold.lists, &fold.holds);
    format!("{numbers:?} {snapshots:?} {names:?} {rest:?} {:?}", log.damaged)
}

fn through_checkpoint(log: &Log) -> Log {
    let body = log.to_checkpoint().unwrap();
    let decoded = CheckpointBody::decode(&body.encode()).unwrap();
    assert_eq!(decoded, body);
    Log::from_checkpoint(decoded)
}

type Step = (u8, Vec<u8>, u8);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec((0u8..17, prop::collection::vec(any::<u8>(), 0..4), any::<u8>()), 0..60)
}

proptest! {
    #[test]
    fn a_log_that_goes_on_from_a_checkpoint_is_the_log(before in steps(), after in steps()) {
        let mut log = genesis();
        for (kind, numbers, nonce) in &before {
            append(&mut log, event(*kind, numbers), *nonce);
        }
        let mut again = through_checkpoint(&log);
        prop_assert_eq!(canonical(&again), canonical(&log));
        for (kind, numbers, nonce) in &after {
            append(&mut log, event(*kind, numbers), *nonce);
            append(&mut again, event(*kind, numbers), *nonce);
            prop_assert_eq!(canonical(&again), canonical(&log));
            prop_assert_eq!(again.to_checkpoint(), log.to_checkpoint());
        }
    }
}

/// What is bounded is bounded alike: attempts leave the fold and the checkpoint at the same slot.
#[test]
fn attempts_are_known_for_exactly_so_many_slots() {
    let mut log = genesis();
    append(&mut log, event(0, &[1]), 7);
    while log.fold.next <= ATTEMPTS_KEPT {
        append(&mut log, event(10, &[0]), 255);
    }
    let commit = event(0, &[2]);
    let mut again = through_checkpoint(&log);
    for log in [&mut log, &mut again] {
        // Slot 1 repeated in slot 4097 counts once; one slot on, it is not known any more.
        let mut late = log.clone();
        append(log, commit.clone(), 7);
        assert!(!log.fold.live.contains(&hash(2)));
        append(&mut late, event(10, &[0]), 255);
        append(&mut late, commit.clone(), 7);
        assert!(late.fold.live.contains(&hash(2)));
    }
    assert_eq!(canonical(&again), canonical(&log));
    assert!(log.fold.attempts.len() as u64 <= ATTEMPTS_KEPT + 1);
}

#[test]
fn void_slots_are_kept_and_damaged_logs_have_no_checkpoint() {
    let mut log = genesis();
    let slot = |void| DamagedSlot { slot: 3, why: "it was written bad".to_owned(), void };
    log.damaged.push(slot(true));
    assert_eq!(canonical(&through_checkpoint(&log)), canonical(&log));
    log.damaged.push(slot(false));
    assert_eq!(log.to_checkpoint(), None);
    let mut newer = genesis();
    newer.fold.newer = true;
    assert_eq!(newer.to_checkpoint(), None);
    assert_eq!(Log::default().to_checkpoint(), None);
}

#[test]
fn checkpoints_out_of_order_or_of_the_future_are_refused() {
    let mut log = genesis();
    for number in 0..3 {
        append(&mut log, event(4, &[number, number + 3]), 255);
    }
    append(&mut log, event(8, &[7, 8]), 255);
    append(&mut log, event(9, &[1, 10]), 255);
    append(&mut log, event(9, &[4, 11]), 255);
    append(&mut log, event(15, &[1]), 255);
    append(&mut log, event(15, &[2]), 255);
    let sound = log.to_checkpoint().unwrap();
    assert!(sound.snapshots.len() > 1 && sound.condemned.len() > 1 && sound.superseded.len() > 1);
    assert!(sound.attempts.len() > 1);
    let changes: [fn(&mut CheckpointBody); 16] = [
        |body| body.snapshots.reverse(),
        |body| body.attempts.reverse(),
        |body| body.superseded.reverse(),
        |body| body.condemned.reverse(),
        |body| body.superseded.push(body.superseded[body.superseded.len() - 1]),
        |body| body.condemned.push(body.condemned[body.condemned.len() - 1]),
        |body| body.changed = body.through + 2,
        |body| body.through = body.snapshots[body.snapshots.len() - 1].slot - 1,
        |body| body.attempts.push((body.through + 1, [0; 16], [0; 16])),
        |body| body.attempts[0].2 = body.attempts[1].2,
        |body| body.snapshots[0].record.id = body.snapshots[1].record.id,
        |body| body.through = u64::MAX,
        |body| body.holds.reverse(),
        |body| body.holds[1].1 = body.holds[0].1,
        |body| body.holds[1].0 = body.through + 1,
        |body| body.holds[1].1 = u64::MAX,
    ];
    for (number, change) in changes.into_iter().enumerate() {
        let mut body = sound.clone();
        change(&mut body);
        let refused = CheckpointBody::decode(&body.encode());
        assert!(matches!(refused, Err(FormatError::Invalid { .. })), "change {number}: {refused:?}");
    }
}
