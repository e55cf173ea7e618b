//! Answers what the kernel asks. Nothing in a snapshot ever changes, so the kernel may keep all of it for as long as it likes;
//! only the folders above the snapshots are asked for again.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dr_core::{Entry, EntryKind, Error, ErrorKind, SnapshotPlace, Stream};
use fuser::{
    Errno, FileAttr, FileHandle, Filesystem, FopenFlags, Generation, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyStatfs, ReplyXattr, Request,
};

use super::attributes::{self, Owner};
use super::inodes::{Inodes, Inside, Node, What};
use super::listing::{Child, ChildKind, Handle, Item, Sink};
use crate::shelf::{Shelf, lock};

/// How long the kernel may believe what is in a snapshot: as good as for ever.
const ALWAYS: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How long it may believe what is in the folders above.
const BRIEFLY: Duration = Duration::from_secs(1);
/// So many requests that nobody waits for, reads ahead for example, may be under way.
const BACKGROUND_MAX: u16 = 64;
/// What the kernel is asked for where it can do it: many entries in one answer with their attributes, several readers of one
/// directory, links that it remembers.
const CAPABILITIES: [InitFlags; 4] = [
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_CACHE_SYMLINKS,
];
/// The longest name, in bytes.
const NAME_BYTES_MAX: u32 = 255;
const BLOCK_BYTES: u32 = 4096;

/// Whether the kernel decides by owners, modes and access control lists who may read what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Permissions {
    Checked,
    Ignored,
}

/// The snapshots as a file system.
#[derive(Debug)]
pub(super) struct SnapshotFiles {
    pub(super) shelf: Shelf,
    pub(super) inodes: Inodes,
    permissions: Permissions,
    owner: Owner,
    handles: Mutex<HashMap<u64, Arc<Handle>>>,
    next_handle: AtomicU64,
}

impl SnapshotFiles {
    pub(super) fn new(shelf: Shelf, permissions: Permissions) -> SnapshotFiles {
        let owner =
            Owner { user: rustix::process::geteuid().as_raw(), group: rustix::process::getegid().as_raw() };
        SnapshotFiles {
            shelf,
            inodes: Inodes::new(),
            permissions,
            owner,
            handles: Mutex::default(),
            next_handle: AtomicU64::new(1),
        }
    }

    pub(super) fn node(&self, number: u64) -> Result<Node, Errno> {
        self.inodes.get(number).ok_or(Errno::ESTALE)
    }

    fn inside(&self, number: u64) -> Result<Arc<Inside>, Errno> {
        match self.node(number)?.what {
            What::Inside(inside) => Ok(inside),
            What::Folder(_) => Err(Errno::EISDIR),
            What::Link(..) => Err(Errno::EINVAL),
        }
    }

    /// Says what failed, and what the caller of the kernel is told.
    pub(super) fn failed(&self, number: u64, name: &[u8], error: &Error) -> Errno {
        let mut path = self.inodes.path(number);
        if !name.is_empty() {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        self.shelf.complain(&path, error);
        match error.kind() {
            ErrorKind::NotFound => Errno::ENOENT,
            ErrorKind::PermissionDenied => Errno::EACCES,
            _ => Errno::EIO,
        }
    }

    fn attributes(&self, number: u64, what: &What) -> FileAttr {
        match what {
            What::Folder(path) => {
                let tree = self.shelf.tree();
                let modified = match tree.resolve(path) {
                    Some(SnapshotPlace::Folder(folder)) => folder.modified,
                    _ => Default::default(),
                };
                attributes::of_folder(number, modified, self.owner)
            }
            What::Link(target, modified) => attributes::of_link(number, target, *modified, self.owner),
            What::Inside(inside) => attributes::of_entry(number, &inside.entry),
        }
    }

    /// Gives the kernel the number of something in a directory.
    pub(super) fn take(&self, parent: u64, child: &Child<'_>) -> Result<FileAttr, Errno> {
        let what = match child.kind {
            ChildKind::Folder(above) => What::Folder(Arc::new([above, b"/", child.name].concat())),
            ChildKind::Link(target, modified) => What::Link(Arc::new(target.to_vec()), modified),
            ChildKind::Snapshot(snapshot) => {
                let view = self.shelf.view(snapshot);
                let view = view.map_err(|error| self.failed(parent, child.name, &error))?;
                let mut entry = Shelf::root(&view, snapshot);
                (entry.metadata.uid, entry.metadata.gid) = (self.owner.user, self.owner.group);
                What::Inside(Arc::new(Inside { entry, view, snapshot: child.key }))
            }
            ChildKind::Entry(entry, inside) => {
                let mut entry = entry.clone();
                // The table has the name already, and for the owners' names nobody asks.
                (entry.name, entry.metadata.user, entry.metadata.group) = (Vec::new(), None, None);
                let (view, snapshot) = (inside.view.clone(), inside.snapshot);
                What::Inside(Arc::new(Inside { entry, view, snapshot }))
            }
        };
        let number = self.inodes.take(child.key, parent, child.name, || what.clone());
        Ok(self.attributes(number, &what))
    }

    /// Looks a name up in a directory, and says for how long the answer is good.
    fn find(&self, parent: u64, name: &[u8]) -> Result<(Duration, Option<FileAttr>), Errno> {
        let node = self.node(parent)?;
        match &node.what {
            What::Link(..) => Err(Errno::ENOTDIR),
            What::Folder(path) => {
                let tree = self.shelf.tree();
                let Some(SnapshotPlace::Folder(folder)) = tree.resolve(path) else {
                    return Ok((Duration::ZERO, None));
                };
                let Some(child) = Child::of_item(&node.key, path, folder, name) else {
                    return Ok((Duration::ZERO, None));
                };
                self.take(parent, &child).map(|attributes| (BRIEFLY, Some(attributes)))
            }
            What::Inside(inside) => {
                let entry = inside.view.child(directory(inside)?, name);
                match entry.map_err(|error| self.failed(parent, name, &error))? {
                    None => Ok((ALWAYS, None)),
                    Some(entry) => {
                        let child = Child::of_entry(&node.key, &entry, inside);
                        self.take(parent, &child).map(|attributes| (ALWAYS, Some(attributes)))
                    }
                }
            }
        }
    }

    fn read_file(&self, number: u64, offset: u64, buffer: &mut [u8]) -> Result<usize, Errno> {
        let inside = self.inside(number)?;
        let EntryKind::File(content) = &inside.entry.kind else { return Err(Errno::EINVAL) };
        inside.view.read_at(content, offset, buffer).map_err(|error| self.failed(number, b"", &error))
    }

    fn open_directory(&self, number: u64) -> Result<(FileHandle, FopenFlags), Errno> {
        let node = self.node(number)?;
        let (handle, flags) = match &node.what {
            What::Link(..) => return Err(Errno::ENOTDIR),
            What::Folder(_) => (Handle::of_tree(self.shelf.tree()), FopenFlags::empty()),
            What::Inside(inside) => {
                directory(inside)?;
                (Handle::default(), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_CACHE_DIR)
            }
        };
        let name = self.next_handle.fetch_add(1, Ordering::Relaxed);
        lock(&self.handles).insert(name, Arc::new(handle));
        Ok((FileHandle(name), flags))
    }

    fn handle(&self, name: FileHandle) -> Result<Arc<Handle>, Errno> {
        lock(&self.handles).get(&name.0).cloned().ok_or(Errno::EBADF)
    }

    /// Lists a directory from a place on until `sink` has enough, and says whether any of it was given out: what cannot be
    /// read is an error at the end, after all that can.
    fn list(
        &self,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        sink: &mut Sink<'_>,
    ) -> Result<(), Errno> {
        let handle = self.handle(handle)?;
        let mut is_empty = true;
        let end = self.list_from(number.0, &handle, offset, &mut |item, next| {
            let is_full = sink(item, next)?;
            is_empty &= is_full;
            Ok(is_full)
        });
        match end {
            Err(error) if is_empty => Err(error),
            _ => Ok(()),
        }
    }

    fn attribute(&self, number: u64, name: &[u8]) -> Result<Vec<u8>, Errno> {
        let What::Inside(inside) = self.node(number)?.what else { return Err(Errno::NO_XATTR) };
        let xattrs = &inside.entry.metadata.xattrs;
        let found = xattrs.iter().find(|xattr| xattr.name == name);
        found.map(|xattr| xattr.value.clone()).ok_or(Errno::NO_XATTR)
    }

    fn attribute_names(&self, number: u64) -> Result<Vec<u8>, Errno> {
        let What::Inside(inside) = self.node(number)?.what else { return Ok(Vec::new()) };
        let names =
            inside.entry.metadata.xattrs.iter().flat_map(|xattr| [xattr.name.as_slice(), b"\0"].concat());
        Ok(names.collect())
    }
}

/// The entries of something that should be a directory.
pub(super) fn directory(inside: &Inside) -> Result<&Stream, Errno> {
    match &inside.entry.kind {
        EntryKind::Directory(stream) => Ok(stream),
        _ => Err(Errno::ENOTDIR),
    }
}

/// Says that a name is not there, which the kernel remembers for so long.
fn absent() -> FileAttr {
    attributes::of_entry(0, &Entry::new("", EntryKind::Fifo, Default::default()))
}

/// Answers with a value, or its length to who asks for that.
fn answer_attribute(value: Result<Vec<u8>, Errno>, size: u32, reply: ReplyXattr) {
    match value {
        Err(error) => reply.error(error),
        Ok(value) if size == 0 => reply.size(u32::try_from(value.len()).unwrap_or(u32::MAX)),
        Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
        Ok(value) => reply.data(&value),
    }
}

thread_local! {
    /// What a file's bytes are read into: each thread answers one request at a time.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Filesystem for SnapshotFiles {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let acl = (self.permissions == Permissions::Checked).then_some(InitFlags::FUSE_POSIX_ACL);
        for capability in CAPABILITIES.into_iter().chain(acl) {
            // A kernel that cannot do one of them does without.
            let _ = config.add_capabilities(capability);
        }
        let _ = config.set_max_background(BACKGROUND_MAX);
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.find(parent.0, name.as_bytes()) {
            Ok((ttl, Some(attributes))) => reply.entry(&ttl, &attributes, Generation(0)),
            Ok((Duration::ZERO, None)) => reply.error(Errno::ENOENT),
            Ok((ttl, None)) => reply.entry(&ttl, &absent(), Generation(0)),
            Err(error) => reply.error(error),
        }
    }

    fn forget(&self, _req: &Request, ino: INodeNo, nlookup: u64) {
        self.inodes.forget(ino.0, nlookup);
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.node(ino.0) {
            Ok(node) => {
                let ttl = if matches!(node.what, What::Inside(_)) { ALWAYS } else { BRIEFLY };
                reply.attr(&ttl, &self.attributes(ino.0, &node.what));
            }
            Err(error) => reply.error(error),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.node(ino.0).map(|node| node.what) {
            Ok(What::Link(target, _)) => reply.data(&target),
            Ok(What::Inside(inside)) => match &inside.entry.kind {
                EntryKind::Symlink(target) => reply.data(target),
                _ => reply.error(Errno::EINVAL),
            },
            Ok(What::Folder(_)) => reply.error(Errno::EINVAL),
            Err(error) => reply.error(error),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        match self.inside(ino.0) {
            Ok(_) if flags.acc_mode() != OpenAccMode::O_RDONLY => reply.error(Errno::EROFS),
            Ok(_) => reply.opened(FileHandle(0), FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH),
            Err(error) => reply.error(error),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        BUFFER.with_borrow_mut(|buffer| {
            let size = size as usize;
            if buffer.len() < size {
                buffer.resize(size, 0);
            }
            match self.read_file(ino.0, offset, &mut buffer[..size]) {
                Ok(count) => reply.data(&buffer[..count]),
                Err(error) => reply.error(error),
            }
        });
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        match self.open_directory(ino.0) {
            Ok((handle, flags)) => reply.opened(handle, flags),
            Err(error) => reply.error(error),
        }
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listed = self.list(ino, fh, offset, &mut |item, next| {
            let (number, kind, name) = match item {
                Item::Own(number, name) => (number, fuser::FileType::Directory, name),
                Item::Child(child) => (self.inodes.number(&child.key), child.file_type(), child.name),
            };
            Ok(reply.add(INodeNo(number), next, kind, OsStr::from_bytes(name)))
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listed = self.list(ino, fh, offset, &mut |item, next| match item {
            // The kernel takes no notice of the attributes of these two.
            Item::Own(number, name) => {
                let attributes = attributes::of_folder(number, Default::default(), self.owner);
                let name = OsStr::from_bytes(name);
                Ok(reply.add(INodeNo(number), next, name, &Duration::ZERO, &attributes, Generation(0)))
            }
            Item::Child(child) => {
                let attributes = self.take(ino.0, child)?;
                let ttl = if matches!(child.kind, ChildKind::Entry(..)) { ALWAYS } else { BRIEFLY };
                let (number, name) = (attributes.ino, OsStr::from_bytes(child.name));
                let is_full = reply.add(number, next, name, &ttl, &attributes, Generation(0));
                if is_full {
                    self.inodes.forget(number.0, 1);
                }
                Ok(is_full)
            }
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(error),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        lock(&self.handles).remove(&fh.0);
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, BLOCK_BYTES, NAME_BYTES_MAX, BLOCK_BYTES);
    }

    fn getxattr(&self, _req: &Request, ino: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        answer_attribute(self.attribute(ino.0, name.as_bytes()), size, reply);
    }

    fn listxattr(&self, _req: &Request, ino: INodeNo, size: u32, reply: ReplyXattr) {
        answer_attribute(self.attribute_names(ino.0), size, reply);
    }
}
