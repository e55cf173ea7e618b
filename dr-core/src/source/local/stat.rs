//! From `statx` to [`Entry`].

use std::io;
use std::os::fd::AsFd;

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, StatxTimestamp, makedev, statx};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::source::local::Shared;
use crate::source::local::owners::Recent;
use crate::time::Timestamp;
use crate::tree::{Entry, EntryKind, FileContent, Metadata, Stream};

/// What becomes of a symbolic link at the end of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Links {
    /// The link itself is meant.
    Kept,
    /// What it points to is meant.
    Followed,
}

/// Looks at `name` in `dir`. Network file systems are asked anew (no `AT_STATX_DONT_SYNC`): a stale time or length
/// would hide a change.
pub(super) fn of_name(dir: impl AsFd, name: impl Arg, links: Links) -> Result<Statx, Errno> {
    let flags = match links {
        Links::Kept => AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT,
        Links::Followed => AtFlags::NO_AUTOMOUNT,
    };
    statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// Looks at what is open.
pub(super) fn of_open(open: impl AsFd) -> Result<Statx, Errno> {
    statx(open, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS | StatxFlags::BTIME)
}

/// Whether `name` in `dir` carries the flag that `chattr +d` sets. Asking this way opens nothing.
pub(super) fn is_marked_nodump(dir: impl AsFd, name: impl Arg) -> Result<bool, Errno> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let stat = statx(dir, name, flags, StatxFlags::empty())?;
    Ok(stat.stx_attributes.contains(StatxAttributes::NODUMP))
}

pub(super) fn device(stat: &Statx) -> u64 {
    makedev(stat.stx_dev_major, stat.stx_dev_minor)
}

pub(super) fn file_type(stat: &Statx) -> FileType {
    FileType::from_raw_mode(stat.stx_mode.into())
}

/// Builds the entry that `stat` describes, without link target and extended attributes.
pub(super) fn entry(shared: &Shared, name: Vec<u8>, stat: &Statx, recent: &mut Recent) -> io::Result<Entry> {
    let rdev = makedev(stat.stx_rdev_major, stat.stx_rdev_minor);
    let kind = match file_type(stat) {
        FileType::RegularFile => EntryKind::File(FileContent::new(stat.stx_size, Stream::default(), None)),
        FileType::Directory => EntryKind::Directory(Stream::default()),
        FileType::Symlink => EntryKind::Symlink(Vec::new()),
        FileType::CharacterDevice => EntryKind::CharacterDevice(rdev),
        FileType::BlockDevice => EntryKind::BlockDevice(rdev),
        FileType::Fifo => EntryKind::Fifo,
        FileType::Socket => EntryKind::Socket,
        _ => return Err(io::Error::other("is of a file type unknown to this program")),
    };
    let metadata = Metadata {
        mode: u32::from(stat.stx_mode) & 0o7777,
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        user: shared.owners.user(stat.stx_uid, recent),
        group: shared.owners.group(stat.stx_gid, recent),
        modified: timestamp(&stat.stx_mtime),
        changed: timestamp(&stat.stx_ctime),
        created: (stat.stx_mask & StatxFlags::BTIME.bits() != 0).then(|| timestamp(&stat.stx_btime)),
        accessed: shared.options.with_atime.then(|| timestamp(&stat.stx_atime)),
        inode: stat.stx_ino,
        device: device(stat),
        links: stat.stx_nlink.into(),
        racy: false,
        xattrs: Vec::new(),
    };
    Ok(Entry::new(name, kind, metadata))
}

fn timestamp(time: &StatxTimestamp) -> Timestamp {
    // A file system in user space may say anything.
    Timestamp { seconds: time.tv_sec, nanoseconds: time.tv_nsec.min(999_999_999) }
}
