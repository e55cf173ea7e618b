//! Decides what becomes of a name that the snapshot has, by what stands there already. Pure.

use super::options::Overwrite;
use super::target::{Present, UNFINISHED_FILE};
use crate::tree::{Entry, EntryKind};

/// What becomes of a name that the snapshot has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing stands there.
    Make,
    /// What stands there becomes what the snapshot holds, and is compared with it first where that is possible.
    Replace(Present),
    /// What stands there is taken to hold the right bytes.
    Unchanged(Present),
    /// What stands there stays.
    Keep,
}

/// Decides for anything but a directory. What a restore left half done is never kept, and never taken to be right.
pub(super) fn decide(overwrite: Overwrite, entry: &Entry, present: Option<Present>) -> Decision {
    let Some(present) = present else { return Decision::Make };
    let is_marked = present.is_unfinished() && !has_mark(entry);
    if is_marked && !present.is_directory() {
        return Decision::Replace(present);
    }
    match overwrite {
        Overwrite::Never => Decision::Keep,
        Overwrite::IfNewer if present.modified >= entry.metadata.modified => Decision::Keep,
        Overwrite::IfChanged if is_alike(entry, &present) => Decision::Unchanged(present),
        Overwrite::Always | Overwrite::IfChanged | Overwrite::IfNewer => Decision::Replace(present),
    }
}

/// Whether the mode that tells unfinished files from others is the entry's own, so that it tells nothing.
pub(super) fn has_mark(entry: &Entry) -> bool {
    entry.metadata.mode & 0o7777 == UNFINISHED_FILE
}

/// Whether a directory that is there gets the snapshot's metadata.
pub(super) fn takes_metadata(overwrite: Overwrite, entry: &Entry, present: &Present) -> bool {
    present.is_unfinished()
        || match overwrite {
            Overwrite::Always | Overwrite::IfChanged => true,
            Overwrite::IfNewer => entry.metadata.modified > present.modified,
            Overwrite::Never => false,
        }
}

fn is_alike(entry: &Entry, present: &Present) -> bool {
    match &entry.kind {
        EntryKind::File(content) => {
            present.is_file() && (present.bytes, present.modified) == (content.bytes, entry.metadata.modified)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::FileType;

    use super::*;
    use crate::time::Timestamp;
    use crate::tree::{FileContent, Metadata, Stream};

    fn time(seconds: i64) -> Timestamp {
        Timestamp { seconds, nanoseconds: 5 }
    }

    fn present(bytes: u64, seconds: i64) -> Present {
        Present {
            file_type: FileType::RegularFile,
            bytes,
            modified: time(seconds),
            changed: time(seconds),
            inode: (1, 2),
            mode: 0o644,
            uid: 0,
            is_only_name: true,
        }
    }

    #[test]
    fn every_policy_meets_every_file() {
        let content = FileContent { bytes: 7, stream: Stream::default(), sparse: None };
        let metadata = Metadata { modified: time(100), ..Metadata::default() };
        let entry = Entry::new("f", EntryKind::File(content), metadata);
        let (same, other) = (present(7, 100), present(8, 100));
        let (older, newer) = (present(7, 99), present(7, 101));
        let link = Present { file_type: FileType::Symlink, ..same };
        let unfinished = Present { mode: 0o1600, ..newer };
        use Decision::{Keep, Make, Replace, Unchanged};
        let all = [None, Some(same), Some(other), Some(older), Some(newer), Some(link), Some(unfinished)];
        let replaced = |present: Present| Replace(present);
        let rest = [other, older, newer, link, unfinished].map(replaced);
        let cases = [
            (Overwrite::Always, [&[Make, Replace(same)][..], &rest].concat()),
            (Overwrite::IfChanged, [&[Make, Unchanged(same)][..], &rest].concat()),
            (Overwrite::IfNewer, vec![Make, Keep, Keep, Replace(older), Keep, Keep, Replace(unfinished)]),
            (Overwrite::Never, vec![Make, Keep, Keep, Keep, Keep, Keep, Replace(unfinished)]),
        ];
        for (overwrite, expected) in cases {
            let decided: Vec<_> = all.iter().map(|present| decide(overwrite, &entry, *present)).collect();
            assert_eq!(decided, expected, "{overwrite:?}");
        }
    }
}
