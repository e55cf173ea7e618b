//! What a path leads to: a folder above the snapshots, or a directory or file in one. Links, devices, pipes and sockets are
//! not shown: WebDAV knows no such things.

use std::io;
use std::sync::Arc;

use dr_core::{
    Entry, EntryKind, Error, ErrorKind, FileContent, ObjectHash, SnapshotFolder, SnapshotItem, SnapshotPlace,
    SnapshotView, Stream, Timestamp,
};

use crate::shelf::{self, Shelf};

/// What a path leads to.
#[derive(Debug)]
pub(super) enum Resource {
    /// A folder above the snapshots, and what it holds.
    Folder(Properties, Vec<Member>),
    /// A directory of a snapshot.
    Directory(Properties, Stream, SnapshotView),
    /// A file of a snapshot.
    File(Properties, FileContent, SnapshotView),
}

/// Something in a folder.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: Vec<u8>,
    pub(super) properties: Properties,
}

/// What is told of a resource.
#[derive(Debug, Clone)]
pub(super) struct Properties {
    pub(super) kind: Kind,
    pub(super) modified: Timestamp,
    pub(super) created: Option<Timestamp>,
}

/// What a resource is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    Folder,
    /// A file, its length, and a tag that says whether it is the same as another.
    File {
        bytes: u64,
        tag: String,
    },
}

impl Resource {
    /// Finds what a path leads to; none where there is nothing that is shown.
    pub(super) fn find(shelf: &Shelf, path: &[u8]) -> Result<Option<Resource>, Error> {
        let tree = shelf.tree();
        let (snapshot, rest) = match tree.resolve(path) {
            None => return Ok(None),
            Some(SnapshotPlace::Folder(folder)) => return Ok(Some(Resource::of_folder(folder))),
            Some(SnapshotPlace::Inside(snapshot, rest)) => (snapshot, rest),
            Some(_) => return Ok(None),
        };
        let view = shelf.view(snapshot)?;
        let mut entry = Shelf::root(&view, snapshot);
        for name in rest.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
            let EntryKind::Directory(stream) = &entry.kind else { return Ok(None) };
            let Some(found) = view.child(stream, name)? else { return Ok(None) };
            entry = found;
        }
        let Some(properties) = Properties::of_entry(&entry) else { return Ok(None) };
        Ok(match entry.kind {
            EntryKind::Directory(stream) => Some(Resource::Directory(properties, stream, view)),
            EntryKind::File(content) => Some(Resource::File(properties, content, view)),
            _ => None,
        })
    }

    fn of_folder(folder: &SnapshotFolder) -> Resource {
        let member = |(name, item): (&Vec<u8>, &SnapshotItem)| {
            let modified = match item {
                SnapshotItem::Snapshot(snapshot) => snapshot.time,
                SnapshotItem::Folder(below) => below.modified,
                _ => folder.modified,
            };
            Member { name: name.clone(), properties: Properties::of_folder(modified) }
        };
        Resource::Folder(Properties::of_folder(folder.modified), folder.items.iter().map(member).collect())
    }

    pub(super) fn properties(&self) -> &Properties {
        match self {
            Resource::Folder(properties, _)
            | Resource::Directory(properties, ..)
            | Resource::File(properties, ..) => properties,
        }
    }

    /// What it holds, some at a time. What cannot be read is complained of, and is an error after all that can.
    pub(super) fn members(self, shelf: Arc<Shelf>, path: Vec<u8>) -> Members {
        let source = match self {
            Resource::Folder(_, members) => Source::Folder(members),
            Resource::Directory(_, stream, view) => Source::Directory { stream, view, place: 0 },
            Resource::File(..) => Source::Nothing,
        };
        Members { shelf, path, source, is_damaged: false }
    }
}

impl Properties {
    fn of_folder(modified: Timestamp) -> Properties {
        Properties { kind: Kind::Folder, modified, created: None }
    }

    /// Those of an entry; none for what is not shown.
    fn of_entry(entry: &Entry) -> Option<Properties> {
        let kind = match &entry.kind {
            EntryKind::Directory(_) => Kind::Folder,
            EntryKind::File(content) => Kind::File { bytes: content.bytes, tag: tag(content) },
            _ => return None,
        };
        Some(Properties { kind, modified: entry.metadata.modified, created: entry.metadata.created })
    }
}

/// A tag that two files share only where they hold the same.
fn tag(content: &FileContent) -> String {
    let hash = ObjectHash::of_parts([shelf::content(content).as_slice()]).to_string();
    format!("\"{}\"", hash.get(..32).unwrap_or(&hash))
}

/// What a folder holds, some at a time.
#[derive(Debug)]
pub(super) struct Members {
    shelf: Arc<Shelf>,
    path: Vec<u8>,
    source: Source,
    is_damaged: bool,
}

#[derive(Debug)]
enum Source {
    Folder(Vec<Member>),
    Directory { stream: Stream, view: SnapshotView, place: u64 },
    Nothing,
}

impl Iterator for Members {
    type Item = io::Result<Vec<Member>>;

    fn next(&mut self) -> Option<io::Result<Vec<Member>>> {
        match std::mem::replace(&mut self.source, Source::Nothing) {
            Source::Folder(members) => Some(Ok(members)),
            Source::Directory { stream, view, place } => match view.entries_at(&stream, place) {
                Ok(Some(run)) => {
                    self.source = Source::Directory { stream, view, place: run.next };
                    let entries = match run.entries {
                        Ok(entries) => entries,
                        Err(error) => {
                            self.damaged(&error);
                            return Some(Ok(Vec::new()));
                        }
                    };
                    let member = |entry: &Entry| {
                        let properties = Properties::of_entry(entry)?;
                        Some(Member { name: entry.name.clone(), properties })
                    };
                    Some(Ok(entries.iter().filter_map(member).collect()))
                }
                Ok(None) => {
                    let lost = || Err(io::Error::other("some of the folder cannot be read"));
                    std::mem::take(&mut self.is_damaged).then(lost)
                }
                Err(error) => {
                    self.damaged(&error);
                    Some(Err(io::Error::other(error)))
                }
            },
            Source::Nothing => None,
        }
    }
}

impl Members {
    fn damaged(&mut self, error: &Error) {
        self.is_damaged = true;
        self.shelf.complain(&self.path, error);
    }
}

/// Whether an error only says that nothing is there.
pub(super) fn is_absent(error: &Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
