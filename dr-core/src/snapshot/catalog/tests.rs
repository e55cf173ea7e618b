use proptest::prelude::*;

use super::*;
use crate::format::snapshot::{SnapshotBody, Totals};
use crate::id::SnapshotId;
use crate::snapshot::Standing;
use crate::tree::Stream;

/// 2026-11-20T10:00:00Z.
const TEN: i64 = 1_795_168_800;

fn snapshot(slot: u64, seconds: i64, host: &str, tags: &[&str]) -> Snapshot {
    let body = SnapshotBody {
        nonce: [0; 16],
        time: Timestamp { seconds, nanoseconds: 0 },
        finished: Timestamp::default(),
        host: host.to_owned(),
        paths: vec![],
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        program: String::new(),
        parent: None,
        partial: false,
        root: Stream::default(),
        totals: Totals::default(),
        problems: 0,
        problem_list: Stream::default(),
    };
    let standing = Standing {
        id: SnapshotId::from_bytes([slot as u8; 32]),
        slot,
        store_ms: 0,
        forgotten: false,
        protected: false,
        newer: false,
        tags: None,
        origins: Vec::new(),
        place: 0,
    };
    Snapshot::new(standing, body)
}

/// Every path of a tree, and the slot of the snapshot there or the target of the link.
fn listed(tree: &SnapshotTree) -> Vec<String> {
    fn list(folder: &SnapshotFolder, path: &str, lines: &mut Vec<String>) {
        for (name, item) in &folder.items {
            let path = format!("{path}{}", String::from_utf8_lossy(name));
            match item {
                SnapshotItem::Folder(below) => list(below, &format!("{path}/"), lines),
                SnapshotItem::Snapshot(snapshot) => lines.push(format!("{path} = {}", snapshot.slot)),
                SnapshotItem::Link(target) => {
                    lines.push(format!("{path} -> {}", String::from_utf8_lossy(target)));
                }
            }
        }
    }
    let mut lines = Vec::new();
    list(tree.root(), "", &mut lines);
    lines
}

fn follow(tree: &SnapshotTree, path: &str) -> Option<(u64, String)> {
    match tree.resolve(path.as_bytes())? {
        SnapshotPlace::Folder(_) => Some((0, String::new())),
        SnapshotPlace::Inside(snapshot, rest) => Some((snapshot.slot, String::from_utf8(rest).unwrap())),
    }
}

#[test]
fn snapshots_stand_under_time_host_tag_and_id() {
    let mut partial = snapshot(4, TEN + 7200, "desk", &[]);
    partial.partial = true;
    let tree = SnapshotTree::new([
        snapshot(3, TEN + 3600, "lap/top", &["daily", "daily"]),
        snapshot(1, TEN, "desk", &["daily", ".."]),
        partial,
    ]);
    let expected = [
        "hosts/desk/2026-11-20T10-00-00Z = 1",
        "hosts/desk/2026-11-20T12-00-00Z-partial = 4",
        "hosts/desk/latest -> 2026-11-20T10-00-00Z",
        "hosts/lap%2ftop/2026-11-20T11-00-00Z = 3",
        "hosts/lap%2ftop/latest -> 2026-11-20T11-00-00Z",
        "ids/01010101 = 1",
        "ids/03030303 = 3",
        "ids/04040404 = 4",
        "ids/latest -> 03030303",
        "snapshots/2026-11-20T10-00-00Z = 1",
        "snapshots/2026-11-20T11-00-00Z = 3",
        "snapshots/2026-11-20T12-00-00Z-partial = 4",
        "snapshots/latest -> 2026-11-20T11-00-00Z",
        "tags/%2e./2026-11-20T10-00-00Z = 1",
        "tags/%2e./latest -> 2026-11-20T10-00-00Z",
        "tags/daily/2026-11-20T10-00-00Z = 1",
        "tags/daily/2026-11-20T11-00-00Z = 3",
        "tags/daily/latest -> 2026-11-20T11-00-00Z",
    ];
    assert_eq!(listed(&tree), expected);
    assert_eq!(tree.root().modified.seconds, TEN + 7200);
    assert_eq!(listed(&SnapshotTree::new([])), [""; 0]);
}

#[test]
fn snapshots_of_one_second_keep_apart_and_the_first_keeps_its_name() {
    let (first, second) = (snapshot(5, TEN, "a", &[]), snapshot(6, TEN, "b", &[]));
    let alone = SnapshotTree::new([first.clone()]);
    assert_eq!(follow(&alone, "snapshots/2026-11-20T10-00-00Z"), Some((5, String::new())));
    let both = SnapshotTree::new([second, first]);
    assert_eq!(follow(&both, "snapshots/2026-11-20T10-00-00Z"), Some((5, String::new())));
    assert_eq!(follow(&both, "snapshots/2026-11-20T10-00-00Z-06060606"), Some((6, String::new())));
    assert_eq!(follow(&both, "hosts/b/2026-11-20T10-00-00Z"), Some((6, String::new())));
    // The newest is the one that was committed last, whatever its host's clock said.
    let clocks = SnapshotTree::new([snapshot(7, TEN + 60, "a", &[]), snapshot(8, TEN, "a", &[])]);
    assert_eq!(follow(&clocks, "snapshots/latest"), Some((8, String::new())));
}

#[test]
fn short_ids_are_as_long_as_they_must_be() {
    let mut one = snapshot(1, TEN, "a", &[]);
    let mut other = snapshot(2, TEN, "a", &[]);
    let mut bytes = [7; 32];
    one.id = SnapshotId::from_bytes(bytes);
    bytes[6] = 8;
    other.id = SnapshotId::from_bytes(bytes);
    let names = short_ids(&[Arc::new(one), Arc::new(other), Arc::new(snapshot(3, TEN, "a", &[]))]);
    assert_eq!(names, ["07070707070707", "07070707070708", "03030303"]);
}

#[test]
fn paths_lead_to_folders_and_into_snapshots_and_nowhere_else() {
    let tree = SnapshotTree::new([snapshot(1, TEN, "desk", &[])]);
    for path in ["", "/", "snapshots", "/hosts//desk/"] {
        assert_eq!(follow(&tree, path), Some((0, String::new())), "{path}");
    }
    for path in ["/snapshots/latest/etc//fstab", "hosts/desk/2026-11-20T10-00-00Z/etc/fstab/"] {
        assert_eq!(follow(&tree, path), Some((1, "/etc/fstab".to_owned())), "{path}");
    }
    for path in ["..", "snapshots/..", "./snapshots", "hosts/nobody", "snapshots/2026", "latest"] {
        assert_eq!(follow(&tree, path), None, "{path}");
    }
}

#[test]
fn times_without_a_name_have_one() {
    assert_eq!(time_name(Timestamp { seconds: i64::MAX, nanoseconds: 0 }), "@9223372036854775807");
    assert_eq!(time_name(Timestamp { seconds: -1, nanoseconds: 5 }), "1969-12-31T23-59-59Z");
}

/// Reads an escaped name back; `None` for one that was cut, or is none.
fn unescaped(name: &[u8]) -> Option<String> {
    if name == b"%" {
        return Some(String::new());
    }
    let mut bytes = Vec::new();
    let mut rest = name;
    while let Some((first, after)) = rest.split_first() {
        if *first != b'%' {
            bytes.push(*first);
            rest = after;
            continue;
        }
        let digits = std::str::from_utf8(after.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = &after[2..];
    }
    String::from_utf8(bytes).ok()
}

proptest! {
    #[test]
    fn escaped_names_are_names_and_can_be_read_back(
        name in prop_oneof!["[a./%\n]{0,4}", "\\PC{0,20}", "(\\PC|[/%]){80,300}"],
    ) {
        let folder = escaped(&name);
        prop_assert!((1..=NAME_BYTES_MAX).contains(&folder.len()));
        prop_assert!(folder != b"." && folder != b"..");
        prop_assert!(!folder.iter().any(|byte| *byte == b'/' || byte.is_ascii_control()));
        prop_assert!(std::str::from_utf8(&folder).is_ok());
        if unescaped(&folder).as_ref() != Some(&name) {
            prop_assert!(name.len() > NAME_BYTES_KEPT && folder[folder.len() - 34..].starts_with(b"%~"));
        }
    }

    #[test]
    fn names_are_unique_and_in_the_order_of_time(
        times in prop::collection::vec((0i64..5, any::<bool>()), 1..40),
    ) {
        let snapshots: Vec<Snapshot> = times.iter().enumerate().map(|(slot, (second, partial))| {
            let mut made = snapshot(slot as u64, TEN + second, "a", &[]);
            made.partial = *partial;
            made
        }).collect();
        let tree = SnapshotTree::new(snapshots);
        let Some(SnapshotPlace::Folder(folder)) = tree.resolve(b"snapshots") else { panic!("no folder") };
        let listed: Vec<&Arc<Snapshot>> = folder.items.values().filter_map(|item| match item {
            SnapshotItem::Snapshot(snapshot) => Some(snapshot),
            _ => None,
        }).collect();
        prop_assert_eq!(listed.len(), times.len());
        prop_assert!(listed.is_sorted_by_key(|snapshot| snapshot.time));
    }
}
