use super::*;
use crate::format::log::{Genesis, SnapshotPlace, Snapshots};

fn hash(number: u8) -> ObjectHash {
    ObjectHash::from_bytes([number; 32])
}

fn id(number: u8) -> SnapshotId {
    SnapshotId::from_bytes([number; 32])
}

fn commit(snapshot: u8, segments: &[u8]) -> Event {
    Event::Commit(Commit {
        snapshot: Some(SnapshotRecord {
            id: id(snapshot),
            partial: false,
            body: SnapshotPlace::Inline(vec![]),
        }),
        segments: segments.iter().map(|number| hash(*number)).collect(),
        inline_segments: vec![],
        own_packs: HashList::default(),
        dedup_packs: HashList::default(),
        reused: vec![],
    })
}

fn condemn(packs: &[u8], segments: &[u8], snapshots: &[u8]) -> Event {
    let list = |numbers: &[u8]| HashList::Inline(numbers.iter().map(|number| hash(*number)).collect());
    Event::Condemn(Condemn {
        packs: list(packs),
        segments: list(segments),
        snapshots: snapshots.iter().map(|number| id(*number)).collect(),
        lossy: false,
    })
}

fn reindex(inputs: &[u8], outputs: &[u8]) -> Event {
    let hashes = |numbers: &[u8]| numbers.iter().map(|number| hash(*number)).collect();
    Event::Reindex(Reindex {
        inputs: hashes(inputs),
        outputs: hashes(outputs),
        own_packs: HashList::default(),
    })
}

fn fold(events: Vec<Event>) -> Fold {
    let mut fold = Fold::default();
    let genesis = Event::Genesis(Genesis { config: hash(0), ring: hash(0) });
    for (slot, event) in std::iter::once(genesis).chain(events).enumerate() {
        let entry = LogEntry {
            slot: slot as u64,
            previous: hash(0),
            previous_ms: slot as i64,
            writer: [0; 16],
            nonce: [slot as u8; 16],
            event,
            read_only: false,
        };
        fold.apply(&entry, &mut |_| unreachable!("the lists of these tests are inline")).unwrap();
    }
    fold
}

fn live(fold: &Fold) -> Vec<SnapshotId> {
    fold.live_snapshots().map(|state| state.record.id).collect()
}

fn segments(fold: &Fold) -> Vec<ObjectHash> {
    fold.segments().iter().map(|segment| *segment.hash()).collect()
}

#[test]
fn forgotten_snapshots_come_back_until_they_are_collected() {
    let forget = |number| Event::Forget(Snapshots { snapshots: vec![id(number)] });
    let unforget = |number| Event::Unforget(Snapshots { snapshots: vec![id(number)] });
    assert_eq!(live(&fold(vec![commit(1, &[]), commit(2, &[]), forget(1)])), [id(2)]);
    assert_eq!(live(&fold(vec![commit(1, &[]), forget(1), unforget(1)])), [id(1)]);
    let collected = fold(vec![commit(1, &[]), forget(1), condemn(&[], &[], &[1]), unforget(1)]);
    assert!(live(&collected).is_empty());
    assert!(collected.is_collected(&id(1)) && collected.is_collected(&id(9)));
}

#[test]
fn each_rule_refuses_what_it_is_there_for() {
    let fold = fold(vec![commit(1, &[1]), condemn(&[7], &[1], &[1])]);
    assert_eq!(fold.check_commit(&[hash(8)], &[hash(9)], &[]), Ok(()));
    assert_eq!(fold.check_commit(&[hash(7)], &[], &[]), Err(Refusal::OwnCondemned(vec![hash(7)])));
    assert_eq!(fold.check_commit(&[hash(1)], &[], &[]), Err(Refusal::OwnCondemned(vec![hash(1)])));
    assert_eq!(fold.check_commit(&[], &[hash(7)], &[]), Err(Refusal::DedupCondemned(vec![hash(7)])));
    assert_eq!(fold.check_commit(&[], &[], &[id(1)]), Err(Refusal::ReusedCollected(vec![id(1)])));
}

#[test]
fn a_compaction_counts_only_where_all_its_inputs_are_live() {
    let base = || vec![commit(1, &[1]), commit(2, &[2]), commit(3, &[3])];
    let with = |event: Event| fold(base().into_iter().chain([event]).collect());
    assert_eq!(segments(&with(reindex(&[1, 2], &[4]))), [hash(4), hash(3)]);
    assert_eq!(segments(&with(reindex(&[1, 9], &[4]))), [hash(1), hash(2), hash(3)]);
    let late = fold(base().into_iter().chain([condemn(&[], &[1], &[]), reindex(&[1, 2], &[4])]).collect());
    assert_eq!(segments(&late), [hash(2), hash(3)]);
}

#[test]
fn a_compaction_whose_output_was_condemned_or_counted_changes_nothing() {
    let events = |before: Event| vec![commit(1, &[1]), commit(2, &[2]), before, reindex(&[1, 2], &[4])];
    let condemned = fold(events(condemn(&[], &[4], &[])));
    assert_eq!(segments(&condemned), [hash(1), hash(2)]);
    let counted = fold(events(commit(3, &[4])));
    assert_eq!(segments(&counted), [hash(1), hash(2), hash(4)]);
}

#[test]
fn a_condemned_segment_never_comes_back_and_a_repeated_put_counts_once() {
    assert!(segments(&fold(vec![commit(1, &[1]), condemn(&[], &[1], &[]), commit(2, &[1])])).is_empty());
    let mut fold = fold(vec![commit(1, &[1])]);
    let repeated = LogEntry {
        slot: 2,
        previous: hash(0),
        previous_ms: 0,
        writer: [0; 16],
        nonce: [1; 16],
        event: condemn(&[], &[1], &[1]),
        read_only: false,
    };
    fold.apply(&repeated, &mut |_| unreachable!()).unwrap();
    assert_eq!((fold.next, segments(&fold)), (3, vec![hash(1)]));
}
