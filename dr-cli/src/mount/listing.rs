//! Lists directories from any place on: a place is where a run of entries begins, and how many of it were given out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use dr_core::{Entry, Snapshot, SnapshotFolder, SnapshotItem, SnapshotPlace, SnapshotTree, Timestamp};
use fuser::{Errno, FileType};

use super::attributes;
use super::filesystem::{SnapshotFiles, directory};
use super::inodes::{Inside, Key, Node, What};

/// A run of entries has fewer than this.
const RUN_ENTRIES_END: u64 = 1 << 13;
/// The places of `.` and `..`.
const OWN_PLACES: u64 = 2;

/// Takes what a directory holds, and the place behind it; says whether it had no more room for it.
pub(super) type Sink<'s> = dyn FnMut(Item<'_>, u64) -> Result<bool, Errno> + 's;

/// What is listed.
pub(super) enum Item<'a> {
    /// The directory itself, or the one above: its number and its name here.
    Own(u64, &'a [u8]),
    /// Something in it.
    Child(&'a Child<'a>),
}

/// Something in a directory.
#[derive(Debug)]
pub(super) struct Child<'a> {
    pub(super) key: Key,
    pub(super) name: &'a [u8],
    pub(super) kind: ChildKind<'a>,
}

/// What it is.
#[derive(Debug, Clone, Copy)]
pub(super) enum ChildKind<'a> {
    /// A folder in the folder of this path.
    Folder(&'a [u8]),
    /// A link, its target and its time.
    Link(&'a [u8], Timestamp),
    Snapshot(&'a Arc<Snapshot>),
    /// An entry of the directory.
    Entry(&'a Entry, &'a Inside),
}

impl<'a> Child<'a> {
    /// What a folder of this key and path holds under a name; none where it is nothing that this program knows.
    pub(super) fn of_item(
        above: &Key,
        path: &'a [u8],
        folder: &'a SnapshotFolder,
        name: &'a [u8],
    ) -> Option<Child<'a>> {
        let (key, kind) = match folder.items.get(name)? {
            SnapshotItem::Folder(_) => (above.child(name), ChildKind::Folder(path)),
            SnapshotItem::Link(target) => (above.child(name), ChildKind::Link(target, folder.modified)),
            SnapshotItem::Snapshot(snapshot) => (above.snapshot(&snapshot.id), ChildKind::Snapshot(snapshot)),
            _ => return None,
        };
        Some(Child { key, name, kind })
    }

    /// An entry of the directory of this key.
    pub(super) fn of_entry(above: &Key, entry: &'a Entry, inside: &'a Inside) -> Child<'a> {
        let key = above.entry(&inside.snapshot, entry);
        Child { key, name: &entry.name, kind: ChildKind::Entry(entry, inside) }
    }

    pub(super) fn file_type(&self) -> FileType {
        match self.kind {
            ChildKind::Folder(_) | ChildKind::Snapshot(_) => FileType::Directory,
            ChildKind::Link(..) => FileType::Symlink,
            ChildKind::Entry(entry, _) => attributes::kind(&entry.kind),
        }
    }
}

/// A directory that is open.
#[derive(Debug, Default)]
pub(super) struct Handle {
    /// The folders as they were when it was opened, for one of them.
    tree: Option<Arc<SnapshotTree>>,
    /// Some of it cannot be read.
    is_damaged: AtomicBool,
}

impl Handle {
    pub(super) fn of_tree(tree: Arc<SnapshotTree>) -> Handle {
        Handle { tree: Some(tree), is_damaged: AtomicBool::new(false) }
    }
}

impl SnapshotFiles {
    /// Lists what is from a place on in a directory. What cannot be read is passed over; at the end it is an error.
    pub(super) fn list_from(
        &self,
        number: u64,
        handle: &Handle,
        offset: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), Errno> {
        let node = self.node(number)?;
        let own: [(u64, &[u8]); 2] = [(number, b"."), (node.parent, b"..")];
        for (place, (number, name)) in (1..).zip(own).skip(usize::try_from(offset).unwrap_or(usize::MAX)) {
            if sink(Item::Own(number, name), place)? {
                return Ok(());
            }
        }
        let offset = offset.saturating_sub(OWN_PLACES);
        match &node.what {
            What::Link(..) => Err(Errno::ENOTDIR),
            What::Folder(path) => list_folder(&node, path, handle, offset, sink),
            What::Inside(inside) => {
                if self.list_entries(number, &node, inside, handle, offset, sink)? == Listed::Full
                    || !handle.is_damaged.load(Ordering::Relaxed)
                {
                    return Ok(());
                }
                Err(Errno::EIO)
            }
        }
    }

    fn list_entries(
        &self,
        number: u64,
        node: &Node,
        inside: &Inside,
        handle: &Handle,
        offset: u64,
        sink: &mut Sink<'_>,
    ) -> Result<Listed, Errno> {
        let stream = directory(inside)?;
        let (mut place, mut skipped) = (offset / RUN_ENTRIES_END, (offset % RUN_ENTRIES_END) as usize);
        let damaged = |error: &dr_core::Error| {
            handle.is_damaged.store(true, Ordering::Relaxed);
            self.failed(number, b"", error)
        };
        while let Some(run) = inside.view.entries_at(stream, place).map_err(|error| damaged(&error))? {
            match &run.entries {
                Err(error) => drop(damaged(error)),
                Ok(entries) => {
                    for (at, entry) in entries.iter().enumerate().skip(skipped) {
                        let next = if at + 1 < entries.len() {
                            cookie(place, at as u64 + 1)?
                        } else {
                            cookie(run.next, 0)?
                        };
                        if sink(Item::Child(&Child::of_entry(&node.key, entry, inside)), next)? {
                            return Ok(Listed::Full);
                        }
                    }
                }
            }
            (place, skipped) = (run.next, 0);
        }
        Ok(Listed::Everything)
    }
}

/// How a listing ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Listed {
    Everything,
    Full,
}

/// A place as the kernel gives it back.
fn cookie(place: u64, number: u64) -> Result<u64, Errno> {
    let place =
        place.checked_mul(RUN_ENTRIES_END).filter(|place| *place < 1 << 62).ok_or(Errno::EOVERFLOW)?;
    Ok(place + number + OWN_PLACES)
}

fn list_folder(
    node: &Node,
    path: &[u8],
    handle: &Handle,
    offset: u64,
    sink: &mut Sink<'_>,
) -> Result<(), Errno> {
    let place = handle.tree.as_ref().and_then(|tree| tree.resolve(path));
    let Some(SnapshotPlace::Folder(folder)) = place else { return Ok(()) };
    let skipped = usize::try_from(offset).unwrap_or(usize::MAX);
    for (at, name) in folder.items.keys().enumerate().skip(skipped) {
        let Some(child) = Child::of_item(&node.key, path, folder, name) else { continue };
        if sink(Item::Child(&child), at as u64 + 1 + OWN_PLACES)? {
            return Ok(());
        }
    }
    Ok(())
}
