use super::*;
use crate::format::log::{Genesis, SnapshotPlace, SnapshotRecord, Snapshots};

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
            heads: Vec::new(),
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
    let forget = Event::Forget(Snapshots { snapshots: vec![id(1)] });
    let fold = fold(vec![commit(1, &[1]), forget, condemn(&[7], &[1], &[1])]);
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
        heads: Vec::new(),
        read_only: false,
    };
    fold.apply(&repeated, &mut |_| unreachable!()).unwrap();
    assert_eq!((fold.next, segments(&fold)), (3, vec![hash(1)]));
}

#[test]
fn an_output_that_was_condemned_voids_a_compaction() {
    let log = || vec![commit(1, &[1]), commit(2, &[2]), condemn(&[7], &[4], &[])];
    let Event::Reindex(orphan) = reindex(&[1, 2], &[4]) else { unreachable!() };
    assert_eq!(fold(log()).check_reindex(&orphan, &[]), Err(Refusal::OwnCondemned(vec![hash(4)])));
    let after = fold(log().into_iter().chain([reindex(&[1, 2], &[4])]).collect());
    assert_eq!(segments(&after), [hash(1), hash(2)], "the inputs still count");
    let Event::Reindex(mut moved) = reindex(&[1, 2], &[5]) else { unreachable!() };
    assert_eq!(fold(log()).check_reindex(&moved, &[]), Ok(()));
    assert_eq!(fold(log()).check_reindex(&moved, &[hash(7)]), Err(Refusal::OwnCondemned(vec![hash(7)])));
    moved.own_packs = HashList::Inline(vec![hash(7)]);
    let after = fold(log().into_iter().chain([Event::Reindex(moved)]).collect());
    assert_eq!(segments(&after), [hash(1), hash(2)], "a pack of its own was condemned");
}

fn ids(numbers: &[u8]) -> Vec<SnapshotId> {
    numbers.iter().map(|number| id(*number)).collect()
}

fn named(number: u8) -> Snapshots {
    Snapshots { snapshots: vec![id(number)] }
}

#[test]
fn a_plan_of_deletion_is_refused_for_each_of_its_reasons() {
    let none = HashSet::new();
    let log = || vec![commit(1, &[1]), commit(2, &[2]), Event::Forget(named(1)), reindex(&[1], &[3])];
    let state = fold(log());
    let check = |changed, snapshots: &[u8], segments: &[u8], dead: &HashSet<ObjectHash>| {
        let segments: Vec<ObjectHash> = segments.iter().map(|number| hash(*number)).collect();
        state.check_condemn(changed, &ids(snapshots), &segments, dead)
    };
    assert_eq!(state.changed, 5);
    assert_eq!(check(5, &[1], &[1], &none), Ok(()), "a forgotten snapshot, a replaced segment");
    assert_eq!(check(4, &[], &[], &none), Err(Refusal::PlanOutdated));
    assert_eq!(check(6, &[], &[], &none), Err(Refusal::PlanOutdated));
    assert_eq!(check(5, &[1, 2], &[], &none), Err(Refusal::NotForgotten(ids(&[2]))));
    assert_eq!(check(5, &[9], &[], &none), Ok(()), "what is not there can be collected again");
    assert_eq!(check(5, &[], &[2, 3], &none), Err(Refusal::SegmentLive(vec![hash(2), hash(3)])));
    let dead = HashSet::from([hash(2)]);
    assert_eq!(check(5, &[], &[2], &dead), Ok(()), "it lists nothing but condemned packs");
    assert_eq!(check(5, &[], &[2, 3], &dead), Err(Refusal::SegmentLive(vec![hash(3)])));
    assert_eq!(check(5, &[], &[8], &none), Ok(()), "an orphan");
}

#[test]
fn a_plan_outlives_what_needs_nothing_that_it_deletes() {
    let log = || vec![commit(1, &[1]), commit(2, &[2]), Event::Forget(named(1))];
    let after = |event: Event| fold(log().into_iter().chain([event]).collect()).changed;
    let planned_at = fold(log()).changed;
    let tag = Event::Tag(Tag { snapshots: ids(&[1]), tags: vec![] });
    for event in [
        Event::Forget(named(2)),
        Event::Protect(named(2)),
        Event::Unprotect(named(2)),
        tag,
        Event::Unknown { kind: 99 },
    ] {
        assert_eq!(after(event.clone()), planned_at, "{event:?}");
    }
    for event in [Event::Unforget(named(1)), commit(3, &[]), condemn(&[7], &[], &[]), reindex(&[1], &[3])] {
        assert_eq!(after(event.clone()), 5, "{event:?}");
    }
    assert_eq!(after(reindex(&[9], &[3])), 5, "a void entry is no reason to trust a plan less carefully");
}

#[test]
fn a_protected_snapshot_is_not_forgotten_and_a_forgotten_one_is_not_protected() {
    let log = |events: Vec<Event>| fold(std::iter::once(commit(1, &[])).chain(events).collect());
    let (forget, protect) = (|| Event::Forget(named(1)), || Event::Protect(named(1)));
    let unprotect = || Event::Unprotect(named(1));
    let is = |fold: &Fold| {
        let state = fold.snapshot(&id(1)).unwrap();
        (state.protected, state.forgotten.is_some())
    };
    assert_eq!(is(&log(vec![protect()])), (true, false));
    assert_eq!(is(&log(vec![protect(), forget()])), (true, false));
    assert_eq!(is(&log(vec![forget(), protect()])), (false, true));
    assert_eq!(is(&log(vec![protect(), unprotect(), forget()])), (false, true));
    assert_eq!(is(&log(vec![forget(), Event::Unforget(named(1)), protect()])), (true, false));
    let kept = log(vec![protect(), forget()]);
    let refused = kept.check_condemn(kept.changed, &ids(&[1]), &[], &HashSet::new());
    assert_eq!(refused, Err(Refusal::NotForgotten(ids(&[1]))));
    // Of several, each goes by itself; and none of them need be there.
    let both = Event::Forget(Snapshots { snapshots: ids(&[1, 2, 9]) });
    let mixed = fold(vec![commit(1, &[]), commit(2, &[]), protect(), both]);
    assert_eq!(live(&mixed), [id(1)]);
}

#[test]
fn a_snapshot_is_forgotten_since_the_first_time_that_it_was() {
    let forget = || Event::Forget(named(1));
    let since = |events: Vec<Event>| fold(events).snapshot(&id(1)).unwrap().forgotten;
    assert_eq!(since(vec![commit(1, &[]), forget(), forget()]), Some(2));
    let again = vec![commit(1, &[]), forget(), Event::Unforget(named(1)), forget()];
    assert_eq!(since(again), Some(4));
}

#[test]
fn the_last_tags_count_also_where_they_are_none() {
    let tag = |tags: &[&str]| {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        Event::Tag(Tag { snapshots: ids(&[1, 9]), tags })
    };
    let tags = |events: Vec<Event>| {
        let log = fold(std::iter::once(commit(1, &[])).chain(events).collect());
        log.snapshot(&id(1)).unwrap().tags.clone()
    };
    assert_eq!(tags(vec![]), None, "those that the snapshot was made with");
    assert_eq!(tags(vec![tag(&["a", "b"]), tag(&["c"])]), Some(vec!["c".to_owned()]));
    assert_eq!(tags(vec![tag(&["a"]), tag(&[])]), Some(vec![]));
}

#[test]
fn a_replaced_segment_waits_to_be_condemned_and_never_counts_again() {
    let replaced = |events: Vec<Event>| -> (Vec<ObjectHash>, Vec<ObjectHash>) {
        let log = fold([commit(1, &[1]), commit(2, &[2])].into_iter().chain(events).collect());
        let mut superseded: Vec<ObjectHash> = log.superseded().copied().collect();
        superseded.sort_unstable();
        (superseded, segments(&log))
    };
    let merge = || reindex(&[1, 2], &[3]);
    assert_eq!(replaced(vec![merge()]), (vec![hash(1), hash(2)], vec![hash(3)]));
    assert_eq!(replaced(vec![merge(), commit(3, &[1])]), (vec![hash(1), hash(2)], vec![hash(3)]));
    assert_eq!(replaced(vec![merge(), reindex(&[3], &[1, 4])]).1, [hash(3)]);
    assert_eq!(replaced(vec![merge(), condemn(&[], &[1], &[])]), (vec![hash(2)], vec![hash(3)]));
    // What stood inside a commit is no object, and need not be deleted.
    let mut inline = commit(3, &[]);
    let Event::Commit(small) = &mut inline else { unreachable!() };
    small.inline_segments = vec![vec![5]];
    let name = ObjectHash::of_parts([&[5][..]]);
    let Event::Reindex(mut merge) = reindex(&[1], &[3]) else { unreachable!() };
    merge.inputs.push(name);
    let after = replaced(vec![inline, Event::Reindex(merge)]);
    assert_eq!(after, (vec![hash(1)], vec![hash(3), hash(2)]));
}

#[test]
fn the_entry_behind_a_commit_tells_when_it_was_stored() {
    let log = fold(vec![commit(1, &[]), commit(2, &[])]);
    let times = |number| log.snapshot(&id(number)).map(|state| (state.store_ms, state.next_ms));
    assert_eq!(times(1), Some((1, Some(2))));
    assert_eq!(times(2), Some((2, None)), "nothing stands behind it");
}

#[test]
fn an_attempt_is_remembered_for_as_many_slots_as_are_kept() {
    let mut log = fold(vec![]);
    let mut append = |attempt: u64, event: Event| {
        let mut nonce = [0xff; 16];
        nonce[..8].copy_from_slice(&attempt.to_le_bytes());
        let entry = LogEntry {
            slot: log.next,
            previous: hash(0),
            previous_ms: 0,
            writer: [1; 16],
            nonce,
            event,
            heads: Vec::new(),
            read_only: false,
        };
        log.apply(&entry, &mut |_| unreachable!()).unwrap();
        (log.attempts.len(), log.attempts_by_slot.len(), log.has_attempt([1; 16], nonce))
    };
    let nothing = || Event::Unknown { kind: 99 };
    append(1, commit(1, &[]));
    for attempt in 2..=ATTEMPTS_KEPT {
        append(attempt, nothing());
    }
    let kept = ATTEMPTS_KEPT as usize;
    // The first attempt is just known still: what it says again is passed over.
    assert_eq!(append(1, commit(2, &[])), (kept, kept, true));
    assert_eq!(append(ATTEMPTS_KEPT + 1, nothing()), (kept, kept, true));
    assert_eq!(append(1, commit(3, &[])), (kept, kept, true));
    assert_eq!(live(&log), [id(1), id(3)]);
}
