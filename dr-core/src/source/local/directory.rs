//! A directory taken whole.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{OFlags, readlinkat};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::source::local::file::{self, LocalFile};
use crate::source::local::names::NameList;
use crate::source::local::owners::Recent;
use crate::source::local::stat::{self, Links};
use crate::source::local::xattrs::{self, Holder};
use crate::source::local::{Shared, open_quietly};
use crate::source::{Fetched, SourceDirectory, SourceFile, SourceItem};
use crate::tree::{Entry, EntryKind};

const NAME_BYTES_MAX: usize = 255;

/// An open directory of which every entry belongs to the tree.
#[derive(Debug)]
pub(super) struct RealDirectory {
    fd: OwnedFd,
    /// Held while the directory is read, because reading moves the descriptor's position.
    reading: Mutex<()>,
    shared: Arc<Shared>,
}

/// A mount point that is not entered.
#[derive(Debug)]
struct MountPoint;

impl RealDirectory {
    pub(super) fn open(
        parent: impl AsFd,
        name: impl Arg + Copy,
        shared: &Arc<Shared>,
    ) -> Result<RealDirectory, Errno> {
        let flags =
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open_quietly(parent, name, flags)?;
        Ok(RealDirectory { fd, reading: Mutex::new(()), shared: Arc::clone(shared) })
    }

    fn item(&self, name: &CStr, recent: &mut Recent) -> SourceItem {
        let bytes = name.to_bytes();
        let entry = if bytes.len() > NAME_BYTES_MAX {
            Err(io::Error::new(io::ErrorKind::InvalidFilename, "has a name of more than 255 bytes"))
        } else {
            stat::of_name(&self.fd, name, Links::Kept)
                .map_err(io::Error::from)
                .and_then(|stat| stat::entry(&self.shared, bytes.to_vec(), &stat, recent))
        };
        SourceItem { name: bytes.to_vec(), entry }
    }
}

impl SourceDirectory for RealDirectory {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let names = {
            let _reading = self.reading.lock().unwrap_or_else(PoisonError::into_inner);
            NameList::read(self.fd.as_fd())?
        };
        let mut recent = Recent::default();
        let mut items: Vec<Option<SourceItem>> = Vec::new();
        items.resize_with(names.len(), || None);
        for index in names.by_inode() {
            items[index] = Some(self.item(names.get(index), &mut recent));
        }
        Ok(items.into_iter().flatten().collect())
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        complete(self.fd.as_fd(), entry, Links::Kept)
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        // Asked before it is opened: opening would mount what mounts itself on demand.
        if self.shared.options.one_file_system
            && !self.shared.may_enter(&stat::of_name(&self.fd, name, Links::Kept)?)
        {
            return Ok(Arc::new(MountPoint));
        }
        Ok(Arc::new(RealDirectory::open(&self.fd, name, &self.shared)?))
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        Ok(Box::new(LocalFile::open(self.fd.as_fd(), name, &self.shared)?))
    }

    fn fetch(&self, name: &[u8]) -> Fetched {
        file::fetch(self.fd.as_fd(), name)
    }

    fn is_marked_nodump(&self, name: &[u8]) -> io::Result<bool> {
        Ok(stat::is_marked_nodump(&self.fd, name)?)
    }
}

impl SourceDirectory for MountPoint {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        Ok(Vec::new())
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_directory(&self, _name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn open_file(&self, _name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// Adds link target and extended attributes to an entry of `dir`; the target first, as a link is nothing without it.
pub(super) fn complete(dir: BorrowedFd<'_>, entry: &mut Entry, links: Links) -> io::Result<()> {
    if let EntryKind::Symlink(target) = &mut entry.kind {
        *target = match readlinkat(dir, entry.name.as_slice(), Vec::new()) {
            Ok(read) => read.into_bytes(),
            Err(Errno::INVAL) => return Err(io::Error::other("is no longer a symbolic link")),
            Err(error) => return Err(error.into()),
        };
    }
    xattrs::read(Holder::Named { dir, name: &entry.name, links }, &mut entry.metadata.xattrs)
}
