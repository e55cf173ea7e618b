//! Reading extended attributes.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{Access, access, fgetxattr, flistxattr, getxattr, lgetxattr, listxattr, llistxattr};
use rustix::io::Errno;

use crate::source::local::stat::Links;
use crate::tree::Xattr;

/// The kernel's limit for a list of names and for a value alike (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_BYTES_MAX: usize = 64 << 10;

/// Whose attributes are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum Holder<'a> {
    /// An open file's.
    Open(BorrowedFd<'a>),
    /// Those of an entry of a directory, which is not opened: that may be impossible or have effects.
    Named { dir: BorrowedFd<'a>, name: &'a [u8], links: Links },
}

/// Reads all attributes, in ascending order of name; none where the file system has none.
pub(super) fn read(holder: Holder<'_>) -> io::Result<Vec<Xattr>> {
    match holder {
        Holder::Open(file) => {
            read_with(|list| flistxattr(file, list), |name, value| fgetxattr(file, name, value))
        }
        Holder::Named { dir, name, links } => {
            let path = descriptor_path(dir, Some(name));
            let path = path.as_slice();
            let read = match links {
                Links::Kept => {
                    read_with(|list| llistxattr(path, list), |name, value| lgetxattr(path, name, value))
                }
                Links::Followed => {
                    read_with(|list| listxattr(path, list), |name, value| getxattr(path, name, value))
                }
            };
            if matches!(read, Err(Errno::NOENT)) && access(c"/proc/self/fd", Access::EXISTS).is_err() {
                return Err(io::Error::other("extended attributes cannot be read: /proc is not mounted"));
            }
            return Ok(read?);
        }
    }
    .map_err(io::Error::from)
}

/// The path of an open descriptor, or of an entry of an open directory.
pub(super) fn descriptor_path(fd: BorrowedFd<'_>, name: Option<&[u8]>) -> Vec<u8> {
    let mut path = format!("/proc/self/fd/{}", fd.as_raw_fd()).into_bytes();
    if let Some(name) = name {
        path.push(b'/');
        path.extend_from_slice(name);
    }
    path
}

fn read_with(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<Vec<Xattr>, Errno> {
    let names = match with_buffer(list) {
        Err(Errno::OPNOTSUPP) => return Ok(Vec::new()),
        names => names?,
    };
    let mut xattrs = Vec::new();
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match with_buffer(|value| get(name, value)) {
            Ok(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
            // Removed since it was listed, or listed by a file system that does not serve it.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    xattrs.dedup_by(|a, b| a.name == b.name);
    Ok(xattrs)
}

/// Calls `read` with a small buffer, and where that is too small with one that is large enough for anything, so that
/// an attribute that grows meanwhile makes no difference.
fn with_buffer(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(bytes) => Ok(small[..bytes.min(small.len())].to_vec()),
        Err(Errno::RANGE) => {
            let mut large = vec![0; XATTR_BYTES_MAX];
            let bytes = read(&mut large)?;
            large.truncate(bytes);
            large.shrink_to_fit();
            Ok(large)
        }
        Err(error) => Err(error),
    }
}
