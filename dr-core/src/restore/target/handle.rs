//! Changing the metadata of exactly one inode.

use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Stat, Timestamps, Uid, XattrFlags, chmod, chownat, fchmod, fgetxattr,
    flistxattr, fremovexattr, fsetxattr, fstat, futimens, getxattr, listxattr, removexattr, setxattr,
    utimensat,
};
use rustix::io::Errno;

/// The kernel's limit for a list of names and for a value alike (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 << 10;

/// A descriptor that holds on to the inode, so that no other can take its place between two changes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Handle<'a> {
    /// Of an open file or directory.
    Open(BorrowedFd<'a>),
    /// Opened with `O_PATH`, because opening would follow, block or have effects. Such a descriptor is changed through
    /// its name in `/proc`, which leads to this very inode, even where that is a symbolic link.
    Pinned(BorrowedFd<'a>),
}

impl Handle<'_> {
    pub(super) fn stat(self) -> Result<Stat, Errno> {
        match self {
            Handle::Open(fd) | Handle::Pinned(fd) => fstat(fd),
        }
    }

    pub(super) fn set_owner(self, uid: Uid, gid: Gid) -> Result<(), Errno> {
        let (Handle::Open(fd) | Handle::Pinned(fd)) = self;
        chownat(fd, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)
    }

    pub(super) fn set_mode(self, mode: Mode) -> Result<(), Errno> {
        match self {
            Handle::Open(fd) => fchmod(fd, mode),
            Handle::Pinned(fd) => chmod(in_proc(fd), mode),
        }
    }

    pub(super) fn set_times(self, times: &Timestamps) -> Result<(), Errno> {
        match self {
            Handle::Open(fd) => futimens(fd, times),
            Handle::Pinned(fd) => utimensat(CWD, in_proc(fd), times, AtFlags::empty()),
        }
    }

    /// The names of all extended attributes; none where the file system has none.
    pub(super) fn xattr_names(self) -> Result<Vec<Vec<u8>>, Errno> {
        let list = with_buffer(|buffer| match self {
            Handle::Open(fd) => flistxattr(fd, buffer),
            Handle::Pinned(fd) => listxattr(in_proc(fd), buffer),
        });
        let list = match list {
            Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
            list => list?,
        };
        Ok(list.split(|&byte| byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
    }

    pub(super) fn xattr(self, name: &[u8]) -> Result<Vec<u8>, Errno> {
        with_buffer(|buffer| match self {
            Handle::Open(fd) => fgetxattr(fd, name, buffer),
            Handle::Pinned(fd) => getxattr(in_proc(fd), name, buffer),
        })
    }

    pub(super) fn set_xattr(self, name: &[u8], value: &[u8]) -> Result<(), Errno> {
        match self {
            Handle::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Handle::Pinned(fd) => setxattr(in_proc(fd), name, value, XattrFlags::empty()),
        }
    }

    pub(super) fn remove_xattr(self, name: &[u8]) -> Result<(), Errno> {
        match self {
            Handle::Open(fd) => fremovexattr(fd, name),
            Handle::Pinned(fd) => removexattr(in_proc(fd), name),
        }
    }
}

fn in_proc(fd: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", fd.as_raw_fd())
}

fn with_buffer(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(bytes) => Ok(small[..bytes.min(small.len())].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_BYTES_MAX];
            let bytes = read(&mut large)?;
            large.truncate(bytes);
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
