//! Follows one path through the snapshots.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::EntryType;
use super::diff::is_same_metadata;
use crate::error::{Error, ErrorKind, Result};
use crate::id::SnapshotId;
use crate::observer::Context;
use crate::repository::{ChunkReader, Repository, find_path};
use crate::snapshot::Snapshot;
use crate::tree::{Entry, EntryKind};

/// What was at a path in consecutive snapshots.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PathVersion {
    /// The first snapshot that has it.
    pub first: Snapshot,
    /// The last one of those that follow.
    pub last: Snapshot,
    /// How many they are.
    pub snapshots: u64,
    /// What is there; nothing for `/`, and where there is nothing.
    pub entry: Option<Entry>,
    /// Versions that hold the same (file contents, targets of links, all of a directory) bear the same number, from 1 in the
    /// order in which they came; 0 where there is nothing.
    pub content: u64,
}

/// What is known of a path.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct VersionsReport {
    /// Its versions, in the order of the snapshots. What comes after a snapshot without the path, and has been there before,
    /// is a version anew.
    pub versions: Vec<PathVersion>,
    /// Snapshots in which it could not be looked for, and why.
    pub unread: Vec<(SnapshotId, Error)>,
}

impl Repository {
    /// All versions of a path in `snapshots`, which are looked at in the order of their times.
    ///
    /// # Errors
    /// `Cancelled`, and what the store answers. A snapshot whose directories cannot be read is no error: it is listed.
    pub fn versions(&self, snapshots: &[Snapshot], path: &[u8], ctx: &Context<'_>) -> Result<VersionsReport> {
        let (log, index) = self.0.current()?;
        let reader = ChunkReader::new(&self.0, &log, index);
        let mut ordered: Vec<&Snapshot> = snapshots.iter().collect();
        ordered.sort_by_key(|snapshot| (snapshot.time, snapshot.slot));
        let mut report = VersionsReport::default();
        let mut contents: Vec<EntryKind> = Vec::new();
        for snapshot in ordered {
            ctx.cancel.check()?;
            let found = match find_path(snapshot, path, &reader) {
                Ok(found) => found.entry.or_else(|| Some(topmost(snapshot))),
                Err(error) if error.kind() == ErrorKind::NotFound && !is_covered(snapshot, path) => continue,
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                Err(error) if error.is_damage() => {
                    report.unread.push((snapshot.id, error));
                    continue;
                }
                Err(error) => return Err(error),
            };
            note(&mut report.versions, &mut contents, snapshot, found);
        }
        // That it was not there yet is no version, and neither is that it is not there any more.
        if report.versions.first().is_some_and(|version| version.content == 0) {
            report.versions.remove(0);
        }
        Ok(report)
    }
}

/// Whether a snapshot that lacks a path says that it was not there: it holds what was to be saved above it, or below.
fn is_covered(snapshot: &Snapshot, path: &[u8]) -> bool {
    let path = Path::new(OsStr::from_bytes(path));
    snapshot.paths.iter().any(|saved| path.starts_with(saved) || saved.starts_with(path))
}

/// The topmost directory has no entry of its own.
fn topmost(snapshot: &Snapshot) -> Entry {
    Entry::new("", EntryKind::Directory(snapshot.root.clone()), crate::tree::Metadata::default())
}

fn note(
    versions: &mut Vec<PathVersion>,
    contents: &mut Vec<EntryKind>,
    snapshot: &Snapshot,
    entry: Option<Entry>,
) {
    let content = match &entry {
        None => 0,
        Some(entry) => match contents.iter().position(|known| *known == entry.kind) {
            Some(place) => place as u64 + 1,
            None => {
                contents.push(entry.kind.clone());
                contents.len() as u64
            }
        },
    };
    if let Some(last) = versions.last_mut()
        && last.content == content
        && is_same(last.entry.as_ref(), entry.as_ref())
    {
        last.last = snapshot.clone();
        last.snapshots += 1;
        return;
    }
    versions.push(PathVersion {
        first: snapshot.clone(),
        last: snapshot.clone(),
        snapshots: 1,
        entry,
        content,
    });
}

fn is_same(old: Option<&Entry>, new: Option<&Entry>) -> bool {
    match (old, new) {
        (None, None) => true,
        (Some(old), Some(new)) => {
            EntryType::of(&old.kind) == EntryType::of(&new.kind)
                && is_same_metadata(&old.metadata, &new.metadata)
        }
        _ => false,
    }
}
