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

/// Reads all attributes into `xattrs`, in ascending order of name; none where the file system has none.
///
/// # Errors
/// That of the first attribute that could not be read, or of the list. The others are in `xattrs` even so.
pub(super) fn read(holder: Holder<'_>, xattrs: &mut Vec<Xattr>) -> io::Result<()> {
    let (dir, name, links) = match holder {
        Holder::Open(file) => {
            let list = |list: &mut [u8]| flistxattr(file, list);
            return read_with(xattrs, list, |name, value| fgetxattr(file, name, value));
        }
        Holder::Named { dir, name, links } => (dir, name, links),
    };
    let path = descriptor_path(dir, Some(name));
    let path = path.as_slice();
    let read = match links {
        Links::Kept => {
            read_with(xattrs, |list| llistxattr(path, list), |name, value| lgetxattr(path, name, value))
        }
        Links::Followed => {
            read_with(xattrs, |list| listxattr(path, list), |name, value| getxattr(path, name, value))
        }
    };
    let is_lost = matches!(&read, Err(error) if error.kind() == io::ErrorKind::NotFound);
    if is_lost && access(c"/proc/self/fd", Access::EXISTS).is_err() {
        return Err(io::Error::other("extended attributes cannot be read: /proc is not mounted"));
    }
    read
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
    xattrs: &mut Vec<Xattr>,
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> io::Result<()> {
    xattrs.clear();
    let names = match with_buffer(list) {
        Err(Errno::OPNOTSUPP) => return Ok(()),
        names => names?,
    };
    let mut unread: Option<(&[u8], Errno)> = None;
    for name in names.split(|&byte| byte == 0).filter(|name| !name.is_empty()) {
        match with_buffer(|value| get(name, value)) {
            Ok(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
            // Removed since it was listed, or listed by a file system that does not serve it.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => {
                unread.get_or_insert((name, error));
            }
        }
    }
    xattrs.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    xattrs.dedup_by(|a, b| a.name == b.name);
    match unread {
        None => Ok(()),
        // Not the attribute: what holds it has vanished.
        Some((_, Errno::NOENT)) => Err(Errno::NOENT.into()),
        Some((name, error)) => {
            let error = io::Error::from(error);
            let name = name.escape_ascii();
            Err(io::Error::new(error.kind(), format!("extended attribute {name} cannot be read: {error}")))
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Three attributes, of which the one in the middle answers with an error.
    fn read_three(middle: Errno) -> (Vec<Xattr>, io::Result<()>) {
        let mut xattrs = vec![Xattr { name: b"user.old".to_vec(), value: Vec::new() }];
        let list = |buffer: &mut [u8]| {
            let names = b"user.c\0user.b\0user.a\0";
            buffer[..names.len()].copy_from_slice(names);
            Ok(names.len())
        };
        let get = |name: &[u8], buffer: &mut [u8]| match name {
            b"user.b" => Err(middle),
            _ => {
                buffer[0] = name[5];
                Ok(1)
            }
        };
        let read = read_with(&mut xattrs, list, get);
        (xattrs, read)
    }

    #[test]
    fn an_attribute_that_cannot_be_read_costs_only_itself() {
        for errno in [Errno::ACCESS, Errno::IO, Errno::TOOBIG] {
            let (xattrs, read) = read_three(errno);
            let names: Vec<&[u8]> = xattrs.iter().map(|xattr| xattr.name.as_slice()).collect();
            assert_eq!(names, [b"user.a", b"user.c"], "{errno}");
            let error = read.unwrap_err();
            assert_eq!(error.kind(), io::Error::from(errno).kind());
            assert!(error.to_string().starts_with("extended attribute user.b cannot be read: "), "{error}");
        }
    }

    #[test]
    fn an_attribute_that_is_gone_is_none() {
        for errno in [Errno::NODATA, Errno::OPNOTSUPP] {
            let (xattrs, read) = read_three(errno);
            assert_eq!((xattrs.len(), read.is_ok()), (2, true), "{errno}");
        }
        assert_eq!(read_three(Errno::NOENT).1.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_an_error_without_attributes() {
        let mut xattrs = Vec::new();
        let read = read_with(&mut xattrs, |_| Err(Errno::ACCESS), |_, _| Ok(0));
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::PermissionDenied);
        assert!(read_with(&mut xattrs, |_| Err(Errno::OPNOTSUPP), |_, _| Ok(0)).is_ok());
        assert_eq!(xattrs, []);
    }
}
