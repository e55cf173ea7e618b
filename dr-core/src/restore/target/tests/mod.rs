mod metadata;
mod placement;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::process::{getegid, geteuid};
use tempfile::TempDir;

use super::{MetadataPart, MetadataProblem, Target, TargetOptions};
use crate::time::Timestamp;
use crate::tree::{Entry, EntryKind, Metadata};

/// A directory with a target `root` and whatever else a test puts beside it.
struct Area(TempDir);

impl Area {
    fn new() -> Area {
        let area = Area(TempDir::new().unwrap());
        fs::create_dir(area.path("root")).unwrap();
        area
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn target(&self) -> Target {
        Target::create(&self.path("root"), TargetOptions::default()).unwrap()
    }

    fn plant(&self, name: &str, content: &str) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    /// Everything that must not change in the directory `name`.
    fn picture(&self, name: &str) -> BTreeMap<PathBuf, (u32, i64, i64, i64, Vec<u8>)> {
        let dir = fs::read_dir(self.path(name)).unwrap().map(|item| item.unwrap().path());
        dir.map(|path| {
            let stat = fs::symlink_metadata(&path).unwrap();
            let content = fs::read(&path).unwrap_or_default();
            (path, (stat.mode(), stat.mtime_nsec(), stat.ctime(), stat.ctime_nsec(), content))
        })
        .collect()
    }
}

fn entry(name: &str, kind: EntryKind) -> Entry {
    let metadata = Metadata {
        mode: 0o644,
        uid: geteuid().as_raw(),
        gid: getegid().as_raw(),
        modified: Timestamp { seconds: 1_600_000_000, nanoseconds: 42 },
        links: 1,
        ..Metadata::default()
    };
    Entry::new(name, kind, metadata)
}

fn assert_problems(problems: Vec<MetadataProblem>, expected: &[MetadataPart]) {
    let parts: Vec<_> = problems.iter().map(|problem| problem.what.clone()).collect();
    assert_eq!(parts, expected, "{problems:?}");
}
