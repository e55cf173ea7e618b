//! An open regular file.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use rustix::fs::{Advice, CWD, FileType, Mode, OFlags, SeekFrom, Statx, fadvise, openat, seek};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::source::local::owners::Recent;
use crate::source::local::xattrs::{self, Holder};
use crate::source::local::{Shared, open_quietly, stat};
use crate::source::{Fetched, SourceFile, same_content};
use crate::tree::{Entry, Extent};

/// A file is opened without following a link or waiting for a pipe that took its place.
const READ_FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);
/// How much of a file is read ahead. From there on the kernel sees that it is read in order.
const FETCHED_BYTES: Option<NonZeroU64> = NonZeroU64::new(2 << 20);

/// An open regular file of the tree.
#[derive(Debug)]
pub(super) struct LocalFile {
    file: File,
    /// What the file was when it was opened.
    opened: Statx,
    name: Vec<u8>,
    shared: Arc<Shared>,
}

impl LocalFile {
    pub(super) fn open(dir: BorrowedFd<'_>, name: &[u8], shared: &Arc<Shared>) -> io::Result<LocalFile> {
        let fd = match open_quietly(dir, name, READ_FLAGS) {
            // A symbolic link, or a socket or a device without driver: none of them was listed as a file.
            Err(Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Err(not_regular()),
            Err(Errno::AGAIN) => open_leased(dir, name)?,
            opened => opened?,
        };
        let opened = check_regular(&fd)?;
        Ok(LocalFile { file: fd.into(), opened, name: name.to_vec(), shared: Arc::clone(shared) })
    }
}

impl SourceFile for LocalFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    fn entry(&self) -> io::Result<Entry> {
        stat::entry(&self.shared, self.name.clone(), &self.opened, &mut Recent::default())
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        xattrs::read(Holder::Open(self.file.as_fd()), &mut entry.metadata.xattrs)
    }

    fn is_unchanged_since(&self, entry: &Entry) -> io::Result<bool> {
        // Without the extended attributes: their changes show in the change time.
        let stat = stat::of_open(&self.file)?;
        let now = stat::entry(&self.shared, Vec::new(), &stat, &mut Recent::default())?;
        Ok(same_content(&now, entry))
    }

    fn extents(&self, bytes: u64) -> io::Result<Option<Vec<Extent>>> {
        if bytes == 0 || self.opened.stx_blocks.saturating_mul(512) >= self.opened.stx_size {
            return Ok(None);
        }
        match data_extents(self.file.as_fd(), bytes) {
            // The file system does not tell.
            Err(Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS | Errno::NOTTY) => Ok(None),
            Err(error) => Err(error.into()),
            // Smaller than its length by compression, not by holes.
            Ok(extents) if extents == [Extent { offset: 0, bytes }] => Ok(None),
            Ok(extents) => Ok(Some(extents)),
        }
    }
}

/// Asks the kernel to read the beginning of a file that it does not hold in memory, and does not wait for that. Leaves alone
/// what it could only read by changing when it was last read.
pub(super) fn fetch(dir: BorrowedFd<'_>, name: &[u8]) -> Fetched {
    let Ok(fd) = openat(dir, name, READ_FLAGS | OFlags::NOATIME, Mode::empty()) else {
        return Fetched::Unknown;
    };
    let mut byte = [0];
    let looked = preadv2(&fd, &mut [IoSliceMut::new(&mut byte)], 0, ReadWriteFlags::NOWAIT);
    let fetched = match looked {
        Ok(_) => return Fetched::Nothing,
        Err(Errno::AGAIN) => Fetched::Begun,
        // The file system does not tell.
        Err(_) => Fetched::Unknown,
    };
    if fadvise(&fd, 0, FETCHED_BYTES, Advice::WillNeed).is_ok() { fetched } else { Fetched::Unknown }
}

/// The data extents within the first `bytes` bytes. Moves the descriptor's position, which nobody uses.
fn data_extents(file: BorrowedFd<'_>, bytes: u64) -> Result<Vec<Extent>, Errno> {
    let mut extents: Vec<Extent> = Vec::new();
    let mut position = 0;
    while position < bytes {
        let start = match seek(file, SeekFrom::Data(position)) {
            Err(Errno::NXIO) => break,
            start => start?,
        };
        if start >= bytes {
            break;
        }
        // A hole punched meanwhile may make the answer `start`; that data is then read as what it is now, zeros.
        let end = match seek(file, SeekFrom::Hole(start)) {
            Err(Errno::NXIO) => break,
            end => end?.clamp(start.saturating_add(1), bytes),
        };
        match extents.last_mut() {
            Some(last) if last.offset + last.bytes == start => last.bytes += end - start,
            _ => extents.push(Extent { offset: start, bytes: end - start }),
        }
        position = end;
    }
    Ok(extents)
}

/// Opens a file on which another program holds a lease, waiting until it is given back. The file is pinned and checked
/// first, so this cannot wait for a pipe.
pub(super) fn open_leased(dir: BorrowedFd<'_>, name: &[u8]) -> io::Result<OwnedFd> {
    let pinned = openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
    check_regular(&pinned)?;
    let path = xattrs::descriptor_path(pinned.as_fd(), None);
    Ok(open_quietly(CWD, path.as_slice(), OFlags::RDONLY | OFlags::CLOEXEC)?)
}

fn check_regular(fd: &OwnedFd) -> io::Result<Statx> {
    let stat = stat::of_open(fd)?;
    match stat::file_type(&stat) {
        FileType::RegularFile => Ok(stat),
        _ => Err(not_regular()),
    }
}

fn not_regular() -> io::Error {
    io::Error::other("is no longer a regular file")
}
