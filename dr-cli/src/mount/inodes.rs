//! The numbers that the kernel knows files by, and what they mean for as long as it does.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use dr_core::{Entry, EntryKind, ObjectHash, SnapshotId, SnapshotView, Timestamp};

use crate::shelf::{self, lock};

/// The number of the topmost directory.
pub(super) const ROOT: u64 = 1;
/// The topmost directory's own parent is itself; paths in messages are no longer than this many names.
const NAMES_MAX: usize = 4096;

/// What a file is, wherever numbers come from: a hash of its place in the mount, or of what all names of one file share. The
/// same place always has the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key([u8; 16]);

impl Key {
    /// The topmost directory's.
    pub(super) fn root() -> Key {
        Key::of(&[b"root"])
    }

    /// That of a name in a directory.
    pub(super) fn child(&self, name: &[u8]) -> Key {
        Key::of(&[b"name", &self.0, name])
    }

    /// That of a snapshot in a folder: its name may become another's.
    pub(super) fn snapshot(&self, id: &SnapshotId) -> Key {
        Key::of(&[b"snapshot", &self.0, id.as_bytes()])
    }

    /// That of an entry in a directory of a snapshot. All names of a file have one, but only where they hold the same: one may
    /// have been saved before the file changed, and another later.
    pub(super) fn entry(&self, snapshot: &Key, entry: &Entry) -> Key {
        let Some((device, inode)) = entry.hard_link_key() else { return self.child(&entry.name) };
        let content = content(&entry.kind);
        Key::of(&[b"link", &snapshot.0, &device.to_le_bytes(), &inode.to_le_bytes(), &content])
    }

    fn of(parts: &[&[u8]]) -> Key {
        let hash = ObjectHash::of_parts(parts.iter().copied());
        let mut key = [0; 16];
        key.copy_from_slice(&hash.as_bytes()[..16]);
        Key(key)
    }

    /// The number that it would like to have: neither 0 nor the topmost directory's, and positive for who takes it for signed.
    fn number(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        (u64::from_le_bytes(bytes) >> 1).max(ROOT + 1)
    }
}

/// What an entry holds, in bytes: a kind, and its data.
fn content(kind: &EntryKind) -> Vec<u8> {
    match kind {
        EntryKind::File(content) => [&[1], shelf::content(content).as_slice()].concat(),
        EntryKind::Symlink(target) => [&[2], target.as_slice()].concat(),
        EntryKind::CharacterDevice(number) => [&[3], number.to_le_bytes().as_slice()].concat(),
        EntryKind::BlockDevice(number) => [&[4], number.to_le_bytes().as_slice()].concat(),
        EntryKind::Fifo => vec![5],
        EntryKind::Socket => vec![6],
        _ => vec![0],
    }
}

/// What is behind a number.
#[derive(Debug, Clone)]
pub(super) enum What {
    /// A folder above the snapshots: its path.
    Folder(Arc<Vec<u8>>),
    /// A link to another name in such a folder, and when the newest snapshot there was made.
    Link(Arc<Vec<u8>>, Timestamp),
    /// Something in a snapshot.
    Inside(Arc<Inside>),
}

/// Something in a snapshot.
#[derive(Debug)]
pub(super) struct Inside {
    pub(super) entry: Entry,
    pub(super) view: SnapshotView,
    /// The snapshot's own key.
    pub(super) snapshot: Key,
}

/// A number's meaning, and whose name it is.
#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) key: Key,
    pub(super) parent: u64,
    pub(super) what: What,
    name: Arc<[u8]>,
    /// How often the kernel was given the number; it says how many of these it forgets.
    lookups: u64,
}

/// All numbers that the kernel knows.
#[derive(Debug)]
pub(super) struct Inodes(Mutex<Table>);

#[derive(Debug)]
struct Table {
    nodes: HashMap<u64, Node>,
    /// Those that could not have the number that they would like, because another has it.
    displaced: HashMap<Key, u64>,
}

impl Inodes {
    /// Only the topmost directory.
    pub(super) fn new() -> Inodes {
        let root = Node {
            key: Key::root(),
            parent: ROOT,
            what: What::Folder(Arc::default()),
            name: Arc::default(),
            lookups: 1,
        };
        Inodes(Mutex::new(Table { nodes: HashMap::from([(ROOT, root)]), displaced: HashMap::new() }))
    }

    /// What is behind a number.
    pub(super) fn get(&self, number: u64) -> Option<Node> {
        lock(&self.0).nodes.get(&number).cloned()
    }

    /// The number that a key has, or would get.
    pub(super) fn number(&self, key: &Key) -> u64 {
        lock(&self.0).place(key)
    }

    /// Gives the kernel the number of a file once more.
    pub(super) fn take(&self, key: Key, parent: u64, name: &[u8], what: impl FnOnce() -> What) -> u64 {
        let mut table = lock(&self.0);
        let number = table.place(&key);
        if number != key.number() {
            table.displaced.insert(key, number);
        }
        let new = || Node { key, parent, what: what(), name: name.into(), lookups: 0 };
        table.nodes.entry(number).or_insert_with(new).lookups += 1;
        number
    }

    /// Notes that the kernel forgot a number so many times.
    pub(super) fn forget(&self, number: u64, times: u64) {
        let mut table = lock(&self.0);
        let Some(node) = table.nodes.get_mut(&number).filter(|_| number != ROOT) else { return };
        node.lookups = node.lookups.saturating_sub(times);
        if node.lookups == 0 {
            let key = node.key;
            table.nodes.remove(&number);
            table.displaced.remove(&key);
        }
    }

    /// The path of a number in the mount, for messages; a part of it where the kernel forgot a directory above.
    pub(super) fn path(&self, number: u64) -> Vec<u8> {
        let table = lock(&self.0);
        let mut names = Vec::new();
        let mut number = number;
        while number != ROOT && names.len() < NAMES_MAX {
            let Some(node) = table.nodes.get(&number) else {
                names.push(&b"..."[..]);
                break;
            };
            names.push(&node.name);
            number = node.parent;
        }
        names.iter().rev().flat_map(|name| [b"/", *name].concat()).collect()
    }
}

impl Table {
    /// The number that a key has, else the first that is free from the one on that it would like.
    fn place(&self, key: &Key) -> u64 {
        if let Some(number) = self.displaced.get(key) {
            return *number;
        }
        let mut number = key.number();
        while self.nodes.get(&number).is_some_and(|node| node.key != *key) {
            number = if number == u64::MAX >> 1 { ROOT + 1 } else { number + 1 };
        }
        number
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use dr_core::{Extent, FileContent, Metadata, SparseMap, Stream};

    use super::*;

    /// A key that would like the number `number`.
    fn key(number: u64, other: u8) -> Key {
        let mut bytes = [other; 16];
        bytes[..8].copy_from_slice(&(number << 1).to_le_bytes());
        Key(bytes)
    }

    fn take(inodes: &Inodes, key: Key) -> u64 {
        inodes.take(key, ROOT, b"x", || What::Link(Arc::default(), Timestamp::default()))
    }

    fn known(inodes: &Inodes) -> usize {
        let table = lock(&inodes.0);
        table.nodes.len() + table.displaced.len()
    }

    #[test]
    fn a_number_stays_while_the_kernel_knows_it_and_comes_back_later() {
        let inodes = Inodes::new();
        let key = Key::root().child(b"a");
        let number = take(&inodes, key);
        assert_eq!(take(&inodes, key), number);
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_some());
        inodes.forget(number, 1);
        assert!(inodes.get(number).is_none());
        assert_eq!(known(&inodes), 1);
        assert_eq!(inodes.number(&key), number);
        inodes.forget(ROOT, 100);
        assert!(inodes.get(ROOT).is_some());
    }

    #[test]
    fn numbers_never_mean_two_files() {
        let inodes = Inodes::new();
        let last = u64::MAX >> 1;
        let numbers = [(7, 1), (7, 2), (8, 1), (7, 3), (last, 1), (last, 2), (0, 1), (1, 1), (2, 1)];
        let given: Vec<u64> = numbers.iter().map(|(like, other)| take(&inodes, key(*like, *other))).collect();
        let mut unique = given.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(unique.len(), given.len(), "{given:?}");
        assert!(!unique.contains(&0) && !unique.contains(&ROOT));
        // One that had to go elsewhere stays there when its place becomes free, and so do all others.
        inodes.forget(given[0], 1);
        for (number, (like, other)) in given.iter().zip(numbers).skip(1) {
            assert_eq!(inodes.number(&key(like, other)), *number);
            assert_eq!(take(&inodes, key(like, other)), *number);
        }
        for number in given {
            inodes.forget(number, 2);
        }
        assert_eq!(known(&inodes), 1);
    }

    #[test]
    fn names_of_one_file_share_a_key_where_they_hold_the_same() {
        let sparse_entry = |name: &str, links: u64, bytes: u64, sparse: Option<SparseMap>| {
            let mut metadata = Metadata::default();
            (metadata.device, metadata.inode, metadata.links) = (1, 2, links);
            Entry::new(name, EntryKind::File(FileContent::new(bytes, Stream::default(), sparse)), metadata)
        };
        let entry = |name: &str, links: u64, bytes: u64| sparse_entry(name, links, bytes, None);
        let (here, there) = (Key::root().child(b"here"), Key::root().child(b"there"));
        let snapshot = Key::root();
        let key = here.entry(&snapshot, &entry("a", 2, 5));
        assert_eq!(there.entry(&snapshot, &entry("b", 2, 5)), key);
        assert_ne!(there.entry(&snapshot, &entry("b", 2, 6)), key);
        assert_ne!(there.entry(&here, &entry("b", 2, 5)), key);
        // The same data elsewhere in a file of the same length, in a map of either kind.
        let at = |offset| Some(SparseMap::Inline(vec![Extent { offset, bytes: 1 }]));
        let map = |level| {
            let mut stream = Stream::default();
            stream.level = level;
            Some(SparseMap::Stream(stream))
        };
        let sparse = [None, at(0), at(4), map(0), map(1)];
        let keys = sparse.map(|sparse| there.entry(&snapshot, &sparse_entry("b", 2, 5, sparse)));
        let unique: HashSet<Key> = keys.into_iter().collect();
        assert_eq!((keys[0], unique.len()), (key, keys.len()));
        assert_eq!(here.entry(&snapshot, &sparse_entry("a", 2, 5, at(4))), keys[2]);
        assert_ne!(here.entry(&snapshot, &entry("a", 1, 5)), there.entry(&snapshot, &entry("a", 1, 5)));
    }

    #[test]
    fn paths_are_those_of_the_mount() {
        let inodes = Inodes::new();
        let above = inodes.take(Key::root().child(b"a"), ROOT, b"a", || What::Folder(Arc::default()));
        let below = inodes.take(key(9, 9), above, b"b", || What::Folder(Arc::default()));
        assert_eq!(inodes.path(below), b"/a/b");
        inodes.forget(above, 1);
        assert_eq!(inodes.path(below), b"/.../b");
        assert_eq!(inodes.path(ROOT), b"");
    }
}
