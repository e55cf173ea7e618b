//! What the kernel is told of a file.

use std::time::{Duration, SystemTime};

use dr_core::{Entry, EntryKind, Metadata, Timestamp};
use fuser::{FileAttr, FileType, INodeNo};

/// The file system's unit of allocation, as `stat` says it.
const BLOCK_BYTES: u32 = 4096;
/// The unit that allocated space is counted in.
const SECTOR_BYTES: u64 = 512;

/// Who owns what belongs to no snapshot.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    pub(super) user: u32,
    pub(super) group: u32,
}

/// The attributes of an entry of a snapshot.
pub(super) fn of_entry(number: u64, entry: &Entry) -> FileAttr {
    let metadata = &entry.metadata;
    let (bytes, allocated) = match &entry.kind {
        EntryKind::File(content) => (content.bytes, content.stream.bytes),
        EntryKind::Directory(stream) => (stream.bytes, stream.bytes),
        EntryKind::Symlink(target) => (target.len() as u64, 0),
        _ => (0, 0),
    };
    let changed = time(metadata.changed);
    FileAttr {
        ino: INodeNo(number),
        size: bytes,
        blocks: allocated.div_ceil(SECTOR_BYTES),
        atime: time(metadata.accessed.unwrap_or(metadata.modified)),
        mtime: time(metadata.modified),
        ctime: changed,
        crtime: changed,
        kind: kind(&entry.kind),
        perm: (metadata.mode & 0o7777) as u16,
        nlink: u32::try_from(metadata.links.max(1)).unwrap_or(u32::MAX),
        uid: metadata.uid,
        gid: metadata.gid,
        rdev: device(&entry.kind),
        blksize: BLOCK_BYTES,
        flags: 0,
    }
}

/// The attributes of a folder above the snapshots.
pub(super) fn of_folder(number: u64, modified: Timestamp, owner: Owner) -> FileAttr {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links) = (0o755, 2);
    (metadata.uid, metadata.gid) = (owner.user, owner.group);
    (metadata.modified, metadata.changed) = (modified, modified);
    of_entry(number, &Entry::new("", EntryKind::Directory(Default::default()), metadata))
}

/// The attributes of a link in such a folder.
pub(super) fn of_link(number: u64, target: &[u8], modified: Timestamp, owner: Owner) -> FileAttr {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links) = (0o777, 1);
    (metadata.uid, metadata.gid) = (owner.user, owner.group);
    (metadata.modified, metadata.changed) = (modified, modified);
    of_entry(number, &Entry::new("", EntryKind::Symlink(target.to_vec()), metadata))
}

/// What an entry is.
pub(super) fn kind(kind: &EntryKind) -> FileType {
    match kind {
        EntryKind::Directory(_) => FileType::Directory,
        EntryKind::Symlink(_) => FileType::Symlink,
        EntryKind::CharacterDevice(_) => FileType::CharDevice,
        EntryKind::BlockDevice(_) => FileType::BlockDevice,
        EntryKind::Fifo => FileType::NamedPipe,
        EntryKind::Socket => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

/// A device's number as the kernel's protocol has it: 12 bits of major between 20 of minor.
/// Source: Linux, `include/linux/kdev_t.h`, `new_encode_dev`.
fn device(kind: &EntryKind) -> u32 {
    let (EntryKind::CharacterDevice(number) | EntryKind::BlockDevice(number)) = kind else { return 0 };
    let (major, minor) = (rustix::fs::major(*number), rustix::fs::minor(*number));
    (minor & 0xff) | (major & 0xfff) << 8 | (minor & 0xf_ff00) << 12
}

/// A time; one that the system cannot hold is the beginning of 1970.
fn time(time: Timestamp) -> SystemTime {
    let seconds = Duration::from_secs(time.seconds.unsigned_abs());
    let whole = if time.seconds < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    let nanoseconds = Duration::from_nanos(time.nanoseconds.into());
    whole.and_then(|whole| whole.checked_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_keep_their_nanoseconds_on_both_sides_of_1970() {
        let at = |seconds, nanoseconds| time(Timestamp { seconds, nanoseconds });
        let since = |nanoseconds| Duration::from_nanos(nanoseconds);
        assert_eq!(at(1, 5), SystemTime::UNIX_EPOCH + since(1_000_000_005));
        assert_eq!(at(-1, 999_999_999), SystemTime::UNIX_EPOCH - since(1));
        for seconds in [i64::MIN, i64::MAX] {
            at(seconds, 999_999_999);
        }
    }

    #[test]
    fn devices_have_the_numbers_that_the_kernel_knows() {
        let null = rustix::fs::makedev(1, 3);
        assert_eq!(device(&EntryKind::CharacterDevice(null)), 0x103);
        let large = rustix::fs::makedev(0xabc, 0x12345);
        assert_eq!(device(&EntryKind::BlockDevice(large)), 0x123a_bc45);
        assert_eq!(device(&EntryKind::Fifo), 0);
    }
}
