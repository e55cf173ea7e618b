//! Snapshots as a tree of folders: by time, by host, by tag and by id. Whatever shows a repository as files shares it.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::tz::TimeZone;

use super::Snapshot;
use crate::id::ObjectHash;
use crate::time::Timestamp;

/// The name of the link to the newest whole snapshot of a folder.
const LATEST: &[u8] = b"latest";
/// So many digits of an id are a name, or more where they are those of several snapshots.
const ID_DIGITS_MIN: usize = 8;
/// The longest name of a folder, in bytes: what file systems take.
const NAME_BYTES_MAX: usize = 255;
/// What is left of a longer name, in bytes; a hash of all of it follows.
const NAME_BYTES_KEPT: usize = 200;

/// Snapshots as a tree of folders:
///
/// - `snapshots/2026-11-20T10-00-00Z`, in UTC, so that the order of names is the order of time;
/// - `hosts/<host>/<time>` and `tags/<tag>/<time>`;
/// - `ids/1a2b3c4d`;
/// - and in each of these folders `latest`, a link to the newest whole snapshot that it holds.
///
/// Of snapshots of the same second the first has the plain name, the others end in `-` and the beginning of their id. A
/// partial snapshot's name ends in `-partial`. In names of hosts and tags `/`, `%` and control characters are written as
/// `%` and two digits, and so is the first character of `.` and `..`; an empty name is `%`. Only a name of more than 255
/// bytes cannot be read back: it is cut, and ends in `%~` and a hash.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SnapshotTree {
    root: SnapshotFolder,
}

/// A folder of a [`SnapshotTree`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct SnapshotFolder {
    /// What it holds, by name.
    pub items: BTreeMap<Vec<u8>, SnapshotItem>,
    /// When the newest snapshot in it was made; 1970-01-01 where there is none.
    pub modified: Timestamp,
}

/// What a [`SnapshotFolder`] holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotItem {
    /// Another folder.
    Folder(SnapshotFolder),
    /// A snapshot: a folder that holds its root's entries.
    Snapshot(Arc<Snapshot>),
    /// A link to another name in the same folder.
    Link(Vec<u8>),
}

/// Where a path in a [`SnapshotTree`] leads.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SnapshotPlace<'t> {
    /// To a folder above the snapshots.
    Folder(&'t SnapshotFolder),
    /// Into a snapshot, to this path; it is empty for the snapshot itself.
    Inside(&'t Arc<Snapshot>, Vec<u8>),
}

impl SnapshotTree {
    /// Puts snapshots in order. The tree depends on nothing else: the same snapshots always have the same names.
    pub fn new(snapshots: impl IntoIterator<Item = Snapshot>) -> SnapshotTree {
        let mut all: Vec<Arc<Snapshot>> = snapshots.into_iter().map(Arc::new).collect();
        all.sort_by_key(|snapshot| (snapshot.time, snapshot.slot));
        let mut hosts = BTreeMap::<&str, Vec<Arc<Snapshot>>>::new();
        let mut tags = BTreeMap::<&str, Vec<Arc<Snapshot>>>::new();
        for snapshot in &all {
            hosts.entry(&snapshot.host).or_default().push(snapshot.clone());
            for tag in &snapshot.tags {
                let tagged = tags.entry(tag).or_default();
                // A tag may stand there twice.
                if tagged.last().is_none_or(|last| last.id != snapshot.id) {
                    tagged.push(snapshot.clone());
                }
            }
        }
        let folders = [
            (b"hosts".to_vec(), by_name(hosts)),
            (b"ids".to_vec(), by_id(&all)),
            (b"snapshots".to_vec(), by_time(&all)),
            (b"tags".to_vec(), by_name(tags)),
        ];
        let items = folders.map(|(name, folder)| (name, SnapshotItem::Folder(folder)));
        SnapshotTree { root: SnapshotFolder { items: items.into(), modified: newest(&all) } }
    }

    /// The folder that holds the others.
    pub fn root(&self) -> &SnapshotFolder {
        &self.root
    }

    /// Where a path leads, `latest` followed; `None` where the tree has no such path. Whether the snapshot has the rest of
    /// the path is not looked at. Neither `.` nor `..` means anything here.
    pub fn resolve(&self, path: &[u8]) -> Option<SnapshotPlace<'_>> {
        let mut components = path.split(|byte| *byte == b'/').filter(|component| !component.is_empty());
        let mut folder = &self.root;
        while let Some(component) = components.next() {
            match folder.follow(component)? {
                SnapshotItem::Folder(below) => folder = below,
                SnapshotItem::Snapshot(snapshot) => {
                    let rest = components.flat_map(|component| [b"/", component].concat()).collect();
                    return Some(SnapshotPlace::Inside(snapshot, rest));
                }
                // A link leads to what is no link.
                SnapshotItem::Link(_) => return None,
            }
        }
        Some(SnapshotPlace::Folder(folder))
    }
}

impl SnapshotFolder {
    /// What is there under a name, or behind the link of that name.
    fn follow(&self, name: &[u8]) -> Option<&SnapshotItem> {
        match self.items.get(name)? {
            SnapshotItem::Link(target) => self.items.get(target),
            item => Some(item),
        }
    }
}

fn newest(snapshots: &[Arc<Snapshot>]) -> Timestamp {
    snapshots.iter().map(|snapshot| snapshot.time).max().unwrap_or_default()
}

/// A folder of folders.
fn by_name(named: BTreeMap<&str, Vec<Arc<Snapshot>>>) -> SnapshotFolder {
    let modified = named.values().map(|snapshots| newest(snapshots)).max().unwrap_or_default();
    let folder =
        |(name, snapshots): (&str, Vec<_>)| (escaped(name), SnapshotItem::Folder(by_time(&snapshots)));
    SnapshotFolder { items: named.into_iter().map(folder).collect(), modified }
}

/// A folder of snapshots by time; they come in the order of time.
fn by_time(snapshots: &[Arc<Snapshot>]) -> SnapshotFolder {
    let mut items = BTreeMap::new();
    let ids = short_ids(snapshots);
    let mut names = Vec::with_capacity(snapshots.len());
    for (snapshot, id) in snapshots.iter().zip(ids) {
        let mut name = time_name(snapshot.time);
        if snapshot.partial {
            name.push_str("-partial");
        }
        if items.contains_key(name.as_bytes()) {
            name = format!("{name}-{id}");
        }
        names.push(name.clone().into_bytes());
        items.insert(name.into_bytes(), SnapshotItem::Snapshot(snapshot.clone()));
    }
    with_latest(items, snapshots, &names)
}

/// A folder of snapshots by id.
fn by_id(snapshots: &[Arc<Snapshot>]) -> SnapshotFolder {
    let names: Vec<Vec<u8>> = short_ids(snapshots).into_iter().map(String::into_bytes).collect();
    let snapshot = |(name, snapshot): (&Vec<u8>, &Arc<Snapshot>)| {
        (name.clone(), SnapshotItem::Snapshot(snapshot.clone()))
    };
    with_latest(names.iter().zip(snapshots).map(snapshot).collect(), snapshots, &names)
}

/// Adds the link to the newest whole snapshot: the one that was committed last, as everywhere.
fn with_latest(
    mut items: BTreeMap<Vec<u8>, SnapshotItem>,
    snapshots: &[Arc<Snapshot>],
    names: &[Vec<u8>],
) -> SnapshotFolder {
    let whole = snapshots.iter().zip(names).filter(|(snapshot, _)| !snapshot.partial);
    if let Some((_, name)) = whole.max_by_key(|(snapshot, _)| snapshot.slot) {
        items.insert(LATEST.to_vec(), SnapshotItem::Link(name.clone()));
    }
    SnapshotFolder { items, modified: newest(snapshots) }
}

/// The beginnings of ids, in the order of `snapshots`, each as long as it must be to mean one.
fn short_ids(snapshots: &[Arc<Snapshot>]) -> Vec<String> {
    let ids: Vec<String> = snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect();
    let mut sorted: Vec<&str> = ids.iter().map(String::as_str).collect();
    sorted.sort_unstable();
    let shared = |one: &str, other: &str| one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let short = |id: &String| {
        let at = sorted.binary_search(&id.as_str()).unwrap_or_default();
        let before = at.checked_sub(1).and_then(|before| sorted.get(before));
        let neighbours = before.into_iter().chain(sorted.get(at + 1));
        let digits = neighbours.map(|other| shared(id, other) + 1).max().unwrap_or(0);
        id[..digits.clamp(ID_DIGITS_MIN, id.len())].to_owned()
    };
    ids.iter().map(short).collect()
}

/// A time to the second, in UTC; seconds since 1970 after an `@` for a year that has no name.
fn time_name(time: Timestamp) -> String {
    match jiff::Timestamp::from_second(time.seconds) {
        Ok(instant) => instant.to_zoned(TimeZone::UTC).strftime("%Y-%m-%dT%H-%M-%SZ").to_string(),
        Err(_) => format!("@{}", time.seconds),
    }
}

/// The name of a host or a tag as the name of a folder.
fn escaped(name: &str) -> Vec<u8> {
    if name.is_empty() {
        return b"%".to_vec();
    }
    let is_reserved = matches!(name, "." | "..");
    let mut escaped = Vec::with_capacity(name.len());
    for (at, byte) in name.bytes().enumerate() {
        if matches!(byte, b'/' | b'%') || byte.is_ascii_control() || (is_reserved && at == 0) {
            escaped.extend_from_slice(format!("%{byte:02x}").as_bytes());
        } else {
            escaped.push(byte);
        }
    }
    if escaped.len() > NAME_BYTES_MAX {
        let hash = ObjectHash::of_parts([name.as_bytes()]).to_string();
        let whole = |end: &usize| escaped.get(*end).is_none_or(|byte| byte & 0xc0 != 0x80);
        let kept = (0..=NAME_BYTES_KEPT).rev().find(whole).unwrap_or(0);
        escaped.truncate(kept);
        escaped.extend_from_slice(b"%~");
        escaped.extend_from_slice(&hash.as_bytes()[..32]);
    }
    escaped
}

#[cfg(test)]
mod tests;
