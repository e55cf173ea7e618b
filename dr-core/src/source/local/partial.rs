//! A directory that only leads to named paths: listed without its other entries.

use std::io;
use std::ops::Range;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, openat};

use crate::source::local::directory::{self, RealDirectory};
use crate::source::local::file::LocalFile;
use crate::source::local::owners::Recent;
use crate::source::local::stat::{self, Links};
use crate::source::local::{Names, Shared};
use crate::source::{SourceDirectory, SourceFile, SourceItem};
use crate::tree::Entry;

/// How a directory on the way is opened: for passing through only, so it need not be readable, and through a link,
/// because the operator named the path so.
pub(super) const PASSAGE: OFlags = OFlags::PATH.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// An open directory above one or more named paths.
#[derive(Debug)]
pub(super) struct PartialDirectory {
    fd: OwnedFd,
    whole: Arc<[Names]>,
    /// Those of `whole` that lie below this directory; all have the same first `depth` components, and more.
    range: Range<usize>,
    depth: usize,
    shared: Arc<Shared>,
}

/// An entry of a partial directory.
#[derive(Debug)]
struct Child {
    /// The named paths at or below it.
    range: Range<usize>,
    /// Whether it is a named path itself.
    is_whole: bool,
}

impl Child {
    fn links(&self) -> Links {
        if self.is_whole { Links::Kept } else { Links::Followed }
    }
}

impl PartialDirectory {
    /// Wraps `/` above the paths `whole`, which are sorted, and none of which is below another.
    pub(super) fn root(fd: OwnedFd, whole: &Arc<[Names]>, shared: &Arc<Shared>) -> PartialDirectory {
        let (whole, shared) = (Arc::clone(whole), Arc::clone(shared));
        PartialDirectory { fd, range: 0..whole.len(), whole, depth: 0, shared }
    }

    fn name(&self, path: &Names) -> Vec<u8> {
        path.get(self.depth).cloned().unwrap_or_default()
    }

    fn child(&self, name: &[u8]) -> io::Result<Child> {
        let below = &self.whole[self.range.clone()];
        let name_of = |path: &Names| path.get(self.depth).map(Vec::as_slice).unwrap_or_default().cmp(name);
        let start = below.partition_point(|path| name_of(path).is_lt());
        let end = below.partition_point(|path| name_of(path).is_le());
        let is_whole = match below[start..end].first() {
            Some(first) => first.len() == self.depth + 1,
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Child { range: self.range.start + start..self.range.start + end, is_whole })
    }

    fn look_at(&self, name: &[u8], recent: &mut Recent) -> io::Result<Entry> {
        let child = self.child(name)?;
        let stat = stat::of_name(&self.fd, name, child.links())?;
        let entry = stat::entry(&self.shared, name.to_vec(), &stat, recent)?;
        if !child.is_whole && !entry.is_directory() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        Ok(entry)
    }
}

impl SourceDirectory for PartialDirectory {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let mut recent = Recent::default();
        let below = &self.whole[self.range.clone()];
        let children = below.chunk_by(|a, b| a.get(self.depth) == b.get(self.depth));
        let names = children.filter_map(|paths| paths.first()).map(|path| self.name(path));
        Ok(names.map(|name| SourceItem { entry: self.look_at(&name, &mut recent), name }).collect())
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        let links = self.child(&entry.name)?.links();
        directory::complete(self.fd.as_fd(), entry, links)
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        let child = self.child(name)?;
        if child.is_whole {
            return Ok(Arc::new(RealDirectory::open(&self.fd, name, &self.shared)?));
        }
        Ok(Arc::new(PartialDirectory {
            fd: openat(&self.fd, name, PASSAGE, Mode::empty())?,
            whole: Arc::clone(&self.whole),
            range: child.range,
            depth: self.depth + 1,
            shared: Arc::clone(&self.shared),
        }))
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        self.child(name)?;
        Ok(Box::new(LocalFile::open(self.fd.as_fd(), name, &self.shared)?))
    }
}
