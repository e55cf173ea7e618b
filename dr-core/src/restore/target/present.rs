//! What stands in the target already.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, Stat, fstat, openat, renameat, renameat_with, statat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Error, ErrorKind, Result};
use crate::restore::target::{Target, TargetDir, below, failed, validate};
use crate::time::Timestamp;

/// The mode of a file that is not whole yet: nobody else may read it, and the sticky bit, which means nothing on a file,
/// tells it from one that is.
pub(crate) const UNFINISHED_FILE: u32 = 0o1600;
/// The mode of a directory that has no metadata yet.
pub(super) const UNFINISHED_DIRECTORY: u32 = 0o1700;

/// New directories take this bit over from the one they are in.
const SET_GROUP_ID: u32 = 0o2000;

/// What stands at a name of the target, as it was when somebody looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) file_type: FileType,
    pub(crate) bytes: u64,
    pub(crate) modified: Timestamp,
    /// When anything of the inode was changed last.
    pub(crate) changed: Timestamp,
    /// Device and inode.
    pub(crate) inode: (u64, u64),
    /// Permission bits, set-user-id, set-group-id and sticky bit.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    /// It has no other name.
    pub(crate) is_only_name: bool,
}

impl Present {
    pub(super) fn of(stat: &Stat) -> Present {
        Present {
            file_type: FileType::from_raw_mode(stat.st_mode),
            bytes: u64::try_from(stat.st_size).unwrap_or(0),
            modified: Timestamp {
                seconds: stat.st_mtime,
                nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or(0),
            },
            changed: Timestamp {
                seconds: stat.st_ctime,
                nanoseconds: u32::try_from(stat.st_ctime_nsec).unwrap_or(0),
            },
            inode: (stat.st_dev, stat.st_ino),
            mode: stat.st_mode & 0o7777,
            uid: stat.st_uid,
            is_only_name: stat.st_nlink == 1,
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        self.file_type == FileType::RegularFile
    }

    pub(crate) fn is_directory(&self) -> bool {
        self.file_type == FileType::Directory
    }

    /// Whether a restore that ended early left it so.
    pub(crate) fn is_unfinished(&self) -> bool {
        (self.is_file() && self.mode == UNFINISHED_FILE)
            || (self.is_directory() && self.mode & !SET_GROUP_ID == UNFINISHED_DIRECTORY)
    }

    /// Whether it is the same file with the same content, as far as that can be seen.
    pub(crate) fn is_unchanged(&self, now: &Present) -> bool {
        (self.inode, self.bytes, self.modified) == (now.inode, now.bytes, now.modified)
    }

    /// Whether nothing of it was changed. Another name that was taken away from it is no change.
    fn is_untouched(&self, now: &Present) -> bool {
        self.is_unchanged(now) && (!self.is_only_name || self.changed == now.changed)
    }
}

impl Target {
    /// Looks at what stands at `place`, given by its components. Nothing does where a directory on the way is missing or
    /// is none.
    ///
    /// # Errors
    /// `Destination` where it cannot be looked at.
    pub(crate) fn look<P: AsRef<[u8]>>(&self, parent: &[P], name: &[u8]) -> Result<Option<Present>> {
        match self.open_dir(parent) {
            Ok(directory) => directory.look(name),
            Err(error) if is_absence(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

fn is_absence(error: &Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<std::io::Error>());
    let errno = cause.and_then(std::io::Error::raw_os_error).map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP))
}

impl TargetDir {
    /// Looks at what stands at `name`; a symbolic link is looked at itself.
    ///
    /// # Errors
    /// `Destination` where `name` is no name, or cannot be looked at.
    pub(crate) fn look(&self, name: &[u8]) -> Result<Option<Present>> {
        validate(name, self.path())?;
        match statat(self, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(Present::of(&stat))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => {
                Err(failed("cannot look at an entry of the target", &below(self.path(), name), error))
            }
        }
    }

    /// Opens the regular file `name` for reading, whatever stands there; its time of access stays where that is allowed.
    ///
    /// # Errors
    /// `Destination` where that fails, or where it is no regular file.
    pub(crate) fn open_present(&self, name: &[u8]) -> Result<(File, Present)> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        self.open_existing(name, flags | OFlags::NOATIME)
            .or_else(|error| match error {
                // Only the owner may ask for that.
                OpenFailure::System(Errno::PERM) => self.open_existing(name, flags),
                error => Err(error),
            })
            .map_err(|error| error.at(self, name))
    }

    /// Opens the regular file `name` for writing in place. It must have no other name, which could lie outside the
    /// target.
    ///
    /// # Errors
    /// `Destination` where that fails.
    pub(crate) fn open_in_place(&self, name: &[u8]) -> Result<(File, Present)> {
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let opened = self.open_existing(name, flags).and_then(|(file, present)| match present.is_only_name {
            true => Ok((file, present)),
            false => Err(OpenFailure::Other("it has several names")),
        });
        opened.map_err(|error| error.at(self, name))
    }

    /// Opens what an earlier restore left of a file under a temporary name. Nothing where there is none that can be gone
    /// on with: nobody else may have been able to write to it.
    pub(crate) fn open_partial(&self, name: &[u8]) -> Option<(File, Present)> {
        let (file, present) = self.open_in_place(name).ok()?;
        let is_ours = present.uid == geteuid().as_raw() && present.mode == UNFINISHED_FILE;
        is_ours.then_some((file, present))
    }

    fn open_existing(&self, name: &[u8], flags: OFlags) -> std::result::Result<(File, Present), OpenFailure> {
        if validate(name, self.path()).is_err() {
            return Err(OpenFailure::Other("it is no name"));
        }
        let fd = openat(self, name, flags, Mode::empty()).map_err(OpenFailure::System)?;
        let present = Present::of(&fstat(&fd).map_err(OpenFailure::System)?);
        if present.is_file() { Ok((fd.into(), present)) } else { Err(OpenFailure::Other("it is no file")) }
    }

    /// Gives the entry `from` the name `to`, in place of what has that name unless that is a directory.
    ///
    /// # Errors
    /// `Destination` where that fails.
    pub(crate) fn rename(&self, from: &[u8], to: &[u8]) -> Result<()> {
        validate(from, self.path())?;
        validate(to, self.path())?;
        renameat(self, from, self, to).map_err(|error| {
            let failure = failed("cannot replace an existing entry", &below(self.path(), to), error);
            match error {
                Errno::ISDIR => failure
                    .with_remedy("move the directory away, or restore with '--delete', or to another target"),
                _ => failure,
            }
        })
    }

    /// Gives the entry `from`, which must be the inode `made`, the name `to`, in place of `before` where that still has it
    /// as it was; where there was nothing, nothing is replaced.
    ///
    /// # Errors
    /// `Destination` where that fails, or where something else has one of the names.
    pub(crate) fn put(
        &self,
        from: &[u8],
        to: &[u8],
        made: (u64, u64),
        before: Option<&Present>,
    ) -> Result<()> {
        if self.look(from)?.is_none_or(|now| now.inode != made) {
            return Err(taken(&below(self.path(), to)));
        }
        match (before, self.look(to)?) {
            (_, None) => self.rename_new(from, to),
            (Some(before), Some(now)) if before.is_untouched(&now) => self.rename(from, to),
            _ => Err(appeared(&below(self.path(), to))),
        }
    }

    /// Gives the entry `from` the name `to`, which nothing has.
    fn rename_new(&self, from: &[u8], to: &[u8]) -> Result<()> {
        match renameat_with(self, from, self, to, RenameFlags::NOREPLACE) {
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => Err(appeared(&below(self.path(), to))),
            // Not every file system can, so there the look before has to do.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => self.rename(from, to),
            Err(error) => Err(failed("cannot name a restored entry", &below(self.path(), to), error)),
        }
    }

    /// Removes the entry `name` where it is the inode `made`.
    pub(crate) fn remove_made(&self, name: &[u8], made: (u64, u64)) {
        if self.look(name).is_ok_and(|now| now.is_some_and(|now| now.inode == made)) {
            // It is listed as not restored whether or not this works.
            let _ = self.remove(name);
        }
    }

    /// The names in this directory, except `.` and `..`.
    ///
    /// # Errors
    /// `Destination` where it cannot be read.
    pub(crate) fn names(&self) -> Result<Vec<Vec<u8>>> {
        let failure = |error: Errno| failed("cannot list a directory of the target", self.path(), error);
        let mut names = Vec::new();
        for entry in Dir::read_from(self.as_fd()).map_err(failure)? {
            let entry = entry.map_err(failure)?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(name.to_vec());
            }
        }
        Ok(names)
    }

    /// The directory's own device and inode.
    ///
    /// # Errors
    /// `Destination` where it cannot be looked at.
    pub(crate) fn inode(&self) -> Result<(u64, u64)> {
        let stat = fstat(self)
            .map_err(|error| failed("cannot look at a directory of the target", self.path(), error))?;
        Ok((stat.st_dev, stat.st_ino))
    }
}

/// What stands at a name is not what stood there when it was decided what becomes of it.
pub(super) fn appeared(path: &Path) -> Error {
    Error::new(ErrorKind::Destination, "something appeared or changed here during the restore, and is kept")
        .with_path(path)
        .with_remedy("look at what it is, and restore again when nobody else writes there")
}

fn taken(path: &Path) -> Error {
    Error::new(ErrorKind::Destination, "another file took the place of a restored one").with_path(path)
}

/// Looks at an open file again.
///
/// # Errors
/// `Destination` where the system cannot.
pub(crate) fn look_at(file: &File) -> Result<Present> {
    fstat(file).map(|stat| Present::of(&stat)).map_err(|error| {
        Error::new(ErrorKind::Destination, "cannot look at an open file")
            .with_source(std::io::Error::from(error))
    })
}

enum OpenFailure {
    System(Errno),
    Other(&'static str),
}

impl OpenFailure {
    fn at(self, directory: &TargetDir, name: &[u8]) -> Error {
        let path = below(directory.path(), name);
        let what = "cannot open a file that is there";
        match self {
            OpenFailure::System(error) => failed(what, &path, error),
            OpenFailure::Other(why) => {
                Error::new(ErrorKind::Destination, format!("{what}: {why}")).with_path(path)
            }
        }
    }
}
