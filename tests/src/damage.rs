//! Damages a repository and judges how the engine takes it: errors that name the object, and never a wrong byte.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::{
    Error, ErrorKind, Problem, Repository, RepositoryOptions, Result, Snapshot, SnapshotFilter, SnapshotId,
};
use dr_store::Name;
use dr_store::sim::SimStore;

use crate::key;
use crate::steps::{Workshop, backup, check, restore, restored};

/// What is done to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Harm {
    /// The object is gone.
    Delete,
    /// So many bytes are left.
    Truncate(u64),
    /// A bit is another.
    Flip {
        /// The byte.
        offset: u64,
        /// The bit, from 0 to 7.
        bit: u8,
    },
}

impl Harm {
    /// Does it.
    pub fn inflict(self, store: &SimStore, name: &Name) {
        match self {
            Harm::Delete => store.remove(name).unwrap(),
            Harm::Truncate(bytes) => store.truncate(name, bytes).unwrap(),
            Harm::Flip { offset, bit } => store.corrupt(name, offset, 1 << bit).unwrap(),
        }
    }
}

/// A repository with what its snapshots hold.
#[derive(Debug)]
pub struct Patient {
    /// The undamaged store.
    pub store: SimStore,
    /// What was backed up.
    pub source: PathBuf,
    /// The snapshots and copies of the source as it was then, oldest first.
    pub copies: Vec<(SnapshotId, PathBuf)>,
}

/// How a snapshot came back.
#[derive(Debug, PartialEq, Eq)]
pub enum Restored {
    /// All of it.
    Whole,
    /// All but what the report names; so many files.
    Named(usize),
    /// The restore failed as a whole, with this kind and object.
    Refused(ErrorKind, Option<String>),
}

impl Patient {
    /// A repository in which nothing has been backed up.
    pub fn new(workshop: &Workshop) -> Patient {
        let store = SimStore::new();
        Repository::create(Arc::new(store.clone()), &key(), &Default::default(), RepositoryOptions::new())
            .unwrap();
        Patient { store, source: workshop.source(), copies: Vec::new() }
    }

    /// Backs the source up, and keeps a copy of it.
    pub fn backup(&mut self, workshop: &Workshop) {
        let report = backup(&open(&self.store).unwrap(), &self.source).unwrap();
        assert!(report.is_complete(), "{:?}", report.problems);
        self.copies.push((report.snapshot.unwrap(), workshop.copy_of(&self.source)));
    }

    /// The names of all objects in a folder.
    pub fn names_in(&self, folder: &str) -> Vec<Name> {
        let objects = self.store.objects().into_iter();
        objects.map(|(name, _)| name).filter(|name| name.as_str().split('/').next() == Some(folder)).collect()
    }

    /// A copy with damage.
    pub fn harmed(&self, name: &Name, harm: Harm) -> SimStore {
        let store = self.store.crash_image();
        harm.inflict(&store, name);
        store
    }

    /// Restores everything that the damaged repository still lists, and stops the test at a wrong byte or at a file that
    /// is neither there nor named. A snapshot that is not listed any more has no outcome.
    pub fn restore_all(
        &self,
        repository: &Repository,
        workshop: &Workshop,
    ) -> Result<Vec<(SnapshotId, Restored)>> {
        let mut outcomes = Vec::new();
        for snapshot in repository.snapshots(&SnapshotFilter::new())? {
            let known = self.copies.iter().find(|(id, _)| *id == snapshot.id);
            let (id, copy) = known.unwrap_or_else(|| panic!("a snapshot out of nowhere: {}", snapshot.id));
            outcomes.push((*id, self.restore_one(repository, &snapshot, copy, workshop)));
        }
        Ok(outcomes)
    }

    /// Restores a snapshot, and stops the test at a byte that `copy` does not hold or at a file that is neither there nor
    /// named.
    pub fn restore_one(
        &self,
        repository: &Repository,
        snapshot: &Snapshot,
        copy: &Path,
        workshop: &Workshop,
    ) -> Restored {
        let target = workshop.room();
        let found = restored(&target, &self.source);
        let outcome = match restore(repository, snapshot, &target) {
            Ok(report) => judge(copy, &found, &self.source, &report.problems),
            Err(error) => {
                judge_bytes(copy, &found);
                Restored::Refused(error.kind(), error.object().map(str::to_owned))
            }
        };
        let _ = fs::remove_dir_all(&target);
        outcome
    }
}

/// Opens a repository with the test key.
pub fn open(store: &SimStore) -> Result<Repository> {
    Repository::open(Arc::new(store.clone()), &key(), RepositoryOptions::new())
}

/// Whether an error speaks of an object.
pub fn names(error: &Error, object: &Name) -> bool {
    error.object() == Some(object.as_str())
}

/// Stops the test unless a check of the whole repository finds damage and names the object.
pub fn assert_found(repository: &Repository, object: &Name, harm: Harm) {
    match check(repository) {
        Ok(report) => {
            let names_it = |text: &str| text.contains(object.as_str());
            let is_named =
                report.errors.iter().any(|found| names_it(&found.object) || names_it(&found.detail));
            assert!(is_named, "{object}, {harm:?}: not named in {:#?}", report.errors);
        }
        Err(error) => assert!(names(&error, object), "{object}, {harm:?}: {error:?}"),
    }
}

fn judge(copy: &Path, found: &Path, source: &Path, problems: &[Problem]) -> Restored {
    judge_bytes(copy, found);
    let at_or_above = |problem: &Problem, path: &Path| path.starts_with(OsStr::from_bytes(&problem.path));
    let named = |path: &Path| problems.iter().any(|problem| at_or_above(problem, path));
    let mut lost = 0;
    for file in files_below(copy) {
        let relative = file.strip_prefix(copy).unwrap();
        if fs::symlink_metadata(found.join(relative)).is_err() {
            let path = source.join(relative);
            assert!(named(&path), "{} is missing and not named in {problems:?}", path.display());
            lost += 1;
        }
    }
    match (lost, problems.len()) {
        (0, 0) => Restored::Whole,
        _ => Restored::Named(lost),
    }
}

/// Stops the test at a file that is there and holds anything but what it should.
fn judge_bytes(copy: &Path, found: &Path) {
    for file in files_below(found) {
        let original = copy.join(file.strip_prefix(found).unwrap());
        assert_eq!(
            fs::read(&file).unwrap(),
            fs::read(&original).unwrap(),
            "wrong bytes in {}",
            file.display()
        );
    }
}

/// All regular files below a folder; none where there is no folder.
fn files_below(folder: &Path) -> Vec<PathBuf> {
    let (mut files, mut stack) = (Vec::new(), vec![folder.to_path_buf()]);
    while let Some(path) = stack.pop() {
        let Ok(metadata) = fs::symlink_metadata(&path) else { continue };
        if metadata.is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if metadata.is_file() {
            files.push(path);
        }
    }
    files
}
