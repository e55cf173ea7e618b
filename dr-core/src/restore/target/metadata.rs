//! Owner, mode, extended attributes and times: given last, in the order in which none undoes another.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use rustix::fs::{
    FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, openat, readlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::restore::target::handle::Handle;
use crate::restore::target::{Present, Shared, TargetDir, TargetOptions, validate};
use crate::time::Timestamp;
use crate::tree::{Entry, EntryKind, Metadata, Xattr};

const ACL_PREFIX: &[u8] = b"system.posix_acl_";

/// Something that could not be given back to an entry.
#[derive(Debug)]
pub(crate) struct MetadataProblem {
    /// What is missing.
    pub(crate) what: MetadataPart,
    /// Why; `None` where it was not attempted.
    pub(crate) error: Option<io::Error>,
}

/// A part of an entry's metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MetadataPart {
    /// All of it: the entry is not there any more, or another is.
    All,
    /// User and group, and with them the set-user-id and set-group-id bits.
    Owner,
    /// The mode.
    Mode,
    /// The extended attribute of this name.
    Xattr(Vec<u8>),
    /// The times.
    Times,
}

impl fmt::Display for MetadataPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MetadataPart::All => f.write_str("metadata"),
            MetadataPart::Owner => f.write_str("owner"),
            MetadataPart::Mode => f.write_str("mode"),
            MetadataPart::Xattr(name) => write!(f, "extended attribute {}", name.escape_ascii()),
            MetadataPart::Times => f.write_str("times"),
        }
    }
}

impl TargetDir {
    /// Gives an open file of this target its metadata, after its last byte was written.
    pub(crate) fn finish_file(&self, file: &File, entry: &Entry) -> Vec<MetadataProblem> {
        Finish::new(&self.shared, Handle::Open(file.as_fd()), entry).run()
    }

    /// Gives a file that was there before its metadata, where it lacks any. Nothing where another one has to take its
    /// place: it has names that may lie elsewhere, or somebody else may still be able to write to it.
    pub(crate) fn finish_present(&self, file: &File, entry: &Entry) -> Option<Vec<MetadataProblem>> {
        let finish = Finish::new(&self.shared, Handle::Open(file.as_fd()), entry);
        let stat = finish.handle.stat().ok()?;
        if finish.is_done(&stat) {
            return Some(Vec::new());
        }
        let owner = if self.shared.options.owners { finish.owner().0 } else { geteuid().as_raw() };
        (stat.st_nlink == 1 && stat.st_uid == owner).then(|| finish.run())
    }

    /// Whether the symbolic link, device, pipe or socket `name` is what `entry` says, with all its metadata.
    pub(crate) fn is_finished_path(&self, name: &[u8], entry: &Entry) -> bool {
        if validate(name, self.path()).is_err() {
            return false;
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let Ok(pinned) = openat(self, name, flags, Mode::empty()) else { return false };
        let finish = Finish::new(&self.shared, Handle::Pinned(pinned.as_fd()), entry);
        let is_right = match &entry.kind {
            EntryKind::Symlink(target) => {
                readlinkat(&pinned, "", Vec::new()).is_ok_and(|found| found.as_bytes() == target.as_slice())
            }
            _ => true,
        };
        is_right && finish.handle.stat().is_ok_and(|stat| is_of(entry, &stat) && finish.is_done(&stat))
    }

    /// Gives this directory its metadata, after everything in it is finished.
    pub(crate) fn finish_dir(&self, entry: &Entry) -> Vec<MetadataProblem> {
        let finish = Finish::new(&self.shared, Handle::Open(self.as_fd()), entry);
        // One that was there and is right keeps its time of change too.
        let is_done = finish.handle.stat().is_ok_and(|stat| finish.is_done(&stat));
        if is_done { Vec::new() } else { finish.run() }
    }

    /// Gives the symbolic link, device, pipe or socket `name` its metadata.
    pub(crate) fn finish_path(&self, name: &[u8], entry: &Entry) -> Vec<MetadataProblem> {
        let all = |error: io::Error| vec![MetadataProblem { what: MetadataPart::All, error: Some(error) }];
        if validate(name, self.path()).is_err() {
            return all(io::ErrorKind::InvalidFilename.into());
        }
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let pinned = match openat(self, name, flags, Mode::empty()) {
            Ok(pinned) => pinned,
            Err(error) => return all(error.into()),
        };
        let handle = Handle::Pinned(pinned.as_fd());
        match handle.stat() {
            Ok(stat) if is_of(entry, &stat) => Finish::new(&self.shared, handle, entry).run(),
            Ok(_) => all(io::Error::other("something else took its place")),
            Err(error) => all(error.into()),
        }
    }
}

/// Whether the inode is what `create_special` made for `entry`: of its kind, and without another name unless the entry
/// has several, so that nobody has put a link to an inode from elsewhere in its place.
fn is_of(entry: &Entry, stat: &Stat) -> bool {
    let is_kind = match (&entry.kind, FileType::from_raw_mode(stat.st_mode)) {
        (EntryKind::Symlink(_), FileType::Symlink)
        | (EntryKind::Fifo, FileType::Fifo)
        | (EntryKind::Socket, FileType::Socket) => true,
        (EntryKind::CharacterDevice(number), FileType::CharacterDevice)
        | (EntryKind::BlockDevice(number), FileType::BlockDevice) => *number == stat.st_rdev,
        _ => false,
    };
    is_kind && (stat.st_nlink == 1 || entry.metadata.links > 1)
}

/// The steps of giving one inode its metadata.
struct Finish<'a> {
    shared: &'a Shared,
    handle: Handle<'a>,
    entry: &'a Entry,
    problems: Vec<MetadataProblem>,
}

impl<'a> Finish<'a> {
    fn new(shared: &'a Shared, handle: Handle<'a>, entry: &'a Entry) -> Finish<'a> {
        Finish { shared, handle, entry, problems: Vec::new() }
    }

    fn run(mut self) -> Vec<MetadataProblem> {
        let metadata = &self.entry.metadata;
        let options = &self.shared.options;
        let present = if options.xattrs { self.handle.xattr_names().unwrap_or_default() } else { Vec::new() };
        let (acls, others): (Vec<_>, Vec<_>) = self.xattrs().partition(|xattr| is_acl(&xattr.name));
        // A change of owner clears set-user-id bits and capabilities, so it comes first.
        let is_owner_right = self.set_owner();
        // Only who may write a file may set its `user` attributes, so these come before a mode that forbids it.
        self.remove_xattrs(&present);
        others.into_iter().for_each(|xattr| self.set_xattr(xattr, &present));
        if !matches!(self.entry.kind, EntryKind::Symlink(_)) {
            // Bits that give the owner's rights away wait for the right owner.
            let set = self.set_mode(if is_owner_right { 0o7777 } else { 0o1777 });
            self.note(set, || MetadataPart::Mode);
        }
        // A change of mode changes an ACL's mask.
        acls.into_iter().for_each(|xattr| self.set_xattr(xattr, &present));
        if options.times {
            let set = self.handle.set_times(&times(metadata));
            self.note(set, || MetadataPart::Times);
        }
        self.problems
    }

    /// The extended attributes that are wanted.
    fn xattrs(&self) -> impl Iterator<Item = &'a Xattr> + use<'a> {
        let TargetOptions { xattrs, permissions, .. } = self.shared.options;
        let is_wanted = move |xattr: &&Xattr| xattrs && (permissions || !is_acl(&xattr.name));
        self.entry.metadata.xattrs.iter().filter(is_wanted)
    }

    fn mode(&self, mask: u32) -> Mode {
        Mode::from_raw_mode(self.entry.metadata.mode & mask)
    }

    /// Gives the mode, or where it is not wanted takes away what says that the entry is not finished.
    fn set_mode(&self, mask: u32) -> Result<(), Errno> {
        if self.shared.options.permissions {
            return self.handle.set_mode(self.mode(mask));
        }
        let present = Present::of(&self.handle.stat()?);
        match present.is_unfinished() {
            true => self.handle.set_mode(Mode::from_raw_mode(present.mode & !0o1000)),
            false => Ok(()),
        }
    }

    /// Whether nothing of all this is left to be done.
    fn is_done(&self, stat: &Stat) -> bool {
        let options = &self.shared.options;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        let is_mode_right = match self.entry.kind {
            EntryKind::Symlink(_) => true,
            _ if options.permissions => mode == self.mode(0o7777),
            _ => !Present::of(stat).is_unfinished(),
        };
        let modified = self.entry.metadata.modified;
        let is_time_right = !options.times || Present::of(stat).modified == modified;
        is_mode_right
            && is_time_right
            && (stat.st_uid, stat.st_gid) == self.owner()
            && self.are_xattrs_right()
    }

    fn are_xattrs_right(&self) -> bool {
        if !self.shared.options.xattrs {
            return true;
        }
        let Ok(present) = self.handle.xattr_names() else { return false };
        let is_right = |xattr: &Xattr| {
            present.contains(&xattr.name)
                && self.handle.xattr(&xattr.name).is_ok_and(|value| value == xattr.value)
        };
        self.surplus_xattrs(&present).next().is_none() && self.xattrs().all(is_right)
    }

    /// The user and the group that are wanted.
    fn owner(&self) -> (u32, u32) {
        let Shared { options, numbers, .. } = self.shared;
        numbers.owner(&self.entry.metadata, options)
    }

    /// Gives user and group; whether the inode has the right ones now.
    fn set_owner(&mut self) -> bool {
        let options = &self.shared.options;
        let wanted = self.owner();
        let set = match self.handle.stat() {
            Err(error) => Err(error),
            Ok(stat) if (stat.st_uid, stat.st_gid) == wanted => return true,
            Ok(_) if !options.owners => {
                self.problems.push(MetadataProblem { what: MetadataPart::Owner, error: None });
                return false;
            }
            // To the kernel this number means "leave it as it is".
            Ok(_) if wanted.0 == u32::MAX || wanted.1 == u32::MAX => Err(Errno::INVAL),
            Ok(_) => self.handle.set_owner(Uid::from_raw(wanted.0), Gid::from_raw(wanted.1)),
        };
        self.note(set, || MetadataPart::Owner);
        set.is_ok()
    }

    /// What is there of the kinds that a snapshot holds, and is not wanted.
    fn surplus_xattrs<'p>(&self, present: &'p [Vec<u8>]) -> impl Iterator<Item = &'p Vec<u8>> + use<'p, 'a> {
        let wanted: Vec<&'a Xattr> = self.xattrs().collect();
        let permissions = self.shared.options.permissions;
        present.iter().filter(move |name| {
            let is_ours = name.starts_with(b"user.") || (permissions && is_acl(name));
            is_ours && !wanted.iter().any(|xattr| xattr.name == **name)
        })
    }

    /// Removes what a kept directory had, or a new entry got from its directory's default ACL.
    fn remove_xattrs(&mut self, present: &[Vec<u8>]) {
        for name in self.surplus_xattrs(present) {
            match self.handle.remove_xattr(name) {
                Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
                removed => self.note(removed, || MetadataPart::Xattr(name.clone())),
            }
        }
    }

    fn set_xattr(&mut self, xattr: &Xattr, present: &[Vec<u8>]) {
        // A label that the system gave already need not be set, which may be forbidden.
        let is_present = present.contains(&xattr.name)
            && self.handle.xattr(&xattr.name).is_ok_and(|value| value == xattr.value);
        if !is_present {
            let set = self.handle.set_xattr(&xattr.name, &xattr.value);
            self.note(set, || MetadataPart::Xattr(xattr.name.clone()));
        }
    }

    fn note(&mut self, done: Result<(), Errno>, what: impl FnOnce() -> MetadataPart) {
        if let Err(error) = done {
            self.problems.push(MetadataProblem { what: what(), error: Some(error.into()) });
        }
    }
}

fn is_acl(name: &[u8]) -> bool {
    name.starts_with(ACL_PREFIX)
}

fn times(metadata: &Metadata) -> Timestamps {
    let omitted = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
    Timestamps {
        last_access: metadata.accessed.map_or(omitted, timespec),
        last_modification: timespec(metadata.modified),
    }
}

fn timespec(time: Timestamp) -> Timespec {
    // Larger numbers mean "now" or "leave it as it is" to the kernel, and a snapshot may hold any.
    Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.min(999_999_999).into() }
}
