//! The directories of a restore: those on the way to where the walk is, and those that were made.

use super::options::Overwrite;
use super::policy::takes_metadata;
use super::target::Present;
use crate::tree::{Entry, EntryKind, Stream};

/// How a directory stands in the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It was made, so nothing is in it that is not of this restore.
    Fresh,
    /// It was there before.
    Existing,
    /// It could not be made; nothing below it can be either.
    Lost,
}

/// A directory that is in the target.
#[derive(Debug)]
pub(super) struct MadeDirectory {
    /// Its path in the snapshot.
    pub(super) path: Vec<u8>,
    pub(super) entry: Entry,
    /// What it was like, where it was there before.
    pub(super) before: Option<Present>,
}

impl MadeDirectory {
    /// Whether it gets the snapshot's metadata.
    pub(super) fn takes_metadata(&self, overwrite: Overwrite) -> bool {
        self.before.is_none_or(|before| takes_metadata(overwrite, &self.entry, &before))
    }
}

/// The directories of a restore.
#[derive(Debug)]
pub(super) struct Directories {
    /// How the target itself stands.
    base: Standing,
    /// The length of the path of each directory on the way, and how it stands.
    way: Vec<(usize, Standing)>,
    /// Directories on the way that are made only where something in them is restored.
    held_back: Vec<(Vec<u8>, Entry)>,
    /// Those that are in the target, in the order they were made; they get their metadata at the end, deepest first.
    pub(super) made: Vec<MadeDirectory>,
    /// Those that are not selected themselves, but something in them may be, and the streams of their entries.
    pub(super) passed: Vec<(Vec<u8>, Stream)>,
}

impl Default for Directories {
    fn default() -> Self {
        Directories::new(Standing::Existing)
    }
}

impl Directories {
    pub(super) fn new(base: Standing) -> Directories {
        Directories { base, way: Vec::new(), held_back: Vec::new(), made: Vec::new(), passed: Vec::new() }
    }

    /// Goes back up to the directory that `path` is in. Paths come parents first.
    pub(super) fn leave(&mut self, path: &[u8]) {
        let parent = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        while self.way.last().is_some_and(|(bytes, _)| *bytes > parent) {
            self.way.pop();
        }
        while self.held_back.last().is_some_and(|(above, _)| above.len() > parent) {
            self.held_back.pop();
        }
    }

    /// How the directory stands that the walk is in.
    pub(super) fn standing(&self) -> Standing {
        self.way.last().map_or(self.base, |(_, standing)| *standing)
    }

    /// Goes into a directory.
    pub(super) fn enter(&mut self, path: &[u8], standing: Standing) {
        self.way.push((path.len(), standing));
    }

    /// Notes a directory that is in the target.
    pub(super) fn note(&mut self, path: &[u8], entry: &Entry, before: Option<Present>) {
        self.made.push(MadeDirectory { path: path.to_vec(), entry: entry.clone(), before });
    }

    /// Goes into a directory that is not made yet.
    pub(super) fn hold_back(&mut self, path: &[u8], entry: &Entry) {
        if let EntryKind::Directory(stream) = &entry.kind {
            self.passed.push((path.to_vec(), stream.clone()));
        }
        self.held_back.push((path.to_vec(), entry.clone()));
    }

    /// The directories on the way that are to be made now, outermost first.
    pub(super) fn take_held_back(&mut self) -> Vec<(Vec<u8>, Entry)> {
        std::mem::take(&mut self.held_back)
    }
}
