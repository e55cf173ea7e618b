//! Making the entries of one directory of the target.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, linkat, mkdirat, openat, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Error, ErrorKind, Result};
use crate::restore::target::handle::Handle;
use crate::restore::target::present::{UNFINISHED_DIRECTORY, UNFINISHED_FILE, appeared};
use crate::restore::target::{DIRECTORY, Present, Shared, below, failed, validate};

/// How often an entry is removed again that somebody keeps putting in the way.
const ATTEMPTS_MAX: u32 = 16;

/// How a directory came to be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DirectoryMade {
    /// It was made.
    New,
    /// It was there, and was like this.
    Kept(Present),
}

/// What becomes of what has the name of a directory and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Obstacle {
    /// It is removed.
    Replaced,
    /// It stays.
    Kept,
}

/// An open directory of the target. Clones are the same directory.
#[derive(Debug, Clone)]
pub(crate) struct TargetDir {
    fd: Arc<OwnedFd>,
    /// For messages only.
    path: PathBuf,
    pub(super) shared: Arc<Shared>,
}

impl TargetDir {
    pub(super) fn new(fd: OwnedFd, path: PathBuf, shared: Arc<Shared>) -> TargetDir {
        TargetDir { fd: Arc::new(fd), path, shared }
    }

    /// The directory's path, for messages.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Opens the directory `name` in this one.
    ///
    /// # Errors
    /// `Destination` where `name` is no name, is missing, or is no real directory.
    #[cfg(test)]
    pub(crate) fn open_dir(&self, name: &[u8]) -> Result<TargetDir> {
        self.open_below(&[name])
    }

    pub(super) fn open_below<P: AsRef<[u8]>>(&self, components: &[P]) -> Result<TargetDir> {
        let mut path = self.path.clone();
        for component in components {
            validate(component.as_ref(), &path)?;
            path.push(OsStr::from_bytes(component.as_ref()));
        }
        match self.shared.open_beneath(self.as_fd(), components) {
            Ok(fd) => Ok(TargetDir::new(fd, path, Arc::clone(&self.shared))),
            Err(error @ (Errno::LOOP | Errno::NOTDIR)) => Err(failed(
                "something other than a directory, perhaps a symbolic link, is in the way",
                &path,
                error,
            )),
            Err(error) => Err(failed("cannot open a directory of the target", &path, error)),
        }
    }

    /// Makes the directory `name`. A real directory of that name is kept, anything else is replaced.
    ///
    /// # Errors
    /// `Destination` where that fails.
    #[cfg(test)]
    pub(crate) fn make_dir(&self, name: &[u8]) -> Result<DirectoryMade> {
        self.make_dir_over(name, Obstacle::Replaced)
    }

    /// Makes the directory `name`. A real directory of that name is kept; so is anything else, where it is to be.
    ///
    /// # Errors
    /// `Destination` where that fails, or where something is kept that is no directory.
    pub(crate) fn make_dir_over(&self, name: &[u8], obstacle: Obstacle) -> Result<DirectoryMade> {
        validate(name, &self.path)?;
        let failure = |error| failed("cannot make a directory", &below(&self.path, name), error);
        for _ in 0..ATTEMPTS_MAX {
            match marked(UNFINISHED_DIRECTORY, |mode| mkdirat(self, name, mode)) {
                Err(Errno::EXIST) => {}
                Ok(()) => return Ok(DirectoryMade::New),
                Err(error) => return Err(failure(error)),
            }
            match self.keep_dir(name) {
                Err(Errno::LOOP | Errno::NOTDIR) if obstacle == Obstacle::Kept => {
                    return Err(appeared(&below(&self.path, name)));
                }
                Err(Errno::LOOP | Errno::NOTDIR) => self.remove(name)?,
                Err(Errno::NOENT) => {}
                kept => return kept.map(DirectoryMade::Kept).map_err(failure),
            }
        }
        Err(failure(Errno::EXIST))
    }

    /// Makes the directory `name`, which no snapshot says anything of. A real directory of that name is kept.
    ///
    /// # Errors
    /// `Destination` where that fails.
    pub(crate) fn make_plain_dir(&self, name: &[u8]) -> Result<()> {
        validate(name, &self.path)?;
        match mkdirat(self, name, Mode::RWXU) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(error) => Err(failed("cannot make a directory", &below(&self.path, name), error)),
        }
    }

    /// Makes sure that an existing directory can be written, where it is ours. Gives what it was like before.
    pub(super) fn keep_dir(&self, name: &[u8]) -> std::result::Result<Present, Errno> {
        let pinned = openat(self, name, OFlags::PATH | DIRECTORY, Mode::empty())?;
        let stat = fstat(&pinned)?;
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        if stat.st_uid == geteuid().as_raw() && !mode.contains(Mode::RWXU) {
            Handle::Pinned(pinned.as_fd()).set_mode(mode | Mode::RWXU)?;
        }
        Ok(Present::of(&stat))
    }

    /// Gives this directory back the mode it had before it was made writable.
    ///
    /// # Errors
    /// `Destination` where that fails.
    pub(crate) fn restore_mode(&self, before: &Present) -> Result<()> {
        let mode = Mode::from_raw_mode(before.mode);
        if mode.contains(Mode::RWXU) {
            return Ok(());
        }
        Handle::Open(self.as_fd())
            .set_mode(mode)
            .map_err(|error| failed("cannot give a directory its mode back", &self.path, error))
    }

    /// Says in a file's mode that it is not whole.
    ///
    /// # Errors
    /// `Destination` where only its owner may.
    pub(crate) fn mark_unfinished(&self, file: &File) -> Result<()> {
        Handle::Open(file.as_fd())
            .set_mode(Mode::from_raw_mode(UNFINISHED_FILE))
            .map_err(|error| failed("cannot change a file's mode", &self.path, error))
    }

    /// Makes the empty file `name`, in place of what has that name unless that is a directory. It is open for reading
    /// and writing.
    ///
    /// # Errors
    /// `Destination` where that fails, or where a directory has the name.
    pub(crate) fn create_file(&self, name: &[u8]) -> Result<File> {
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        self.replace(name, "cannot make a file", || {
            marked(UNFINISHED_FILE, |mode| openat(self, name, flags, mode))
        })
        .map(File::from)
    }

    /// Makes the empty file `name`, where nothing has that name. It is open for reading and writing.
    ///
    /// # Errors
    /// `Destination` where that fails, or where something has the name.
    pub(crate) fn create_new_file(&self, name: &[u8]) -> Result<File> {
        validate(name, &self.path)?;
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match marked(UNFINISHED_FILE, |mode| openat(self, name, flags, mode)) {
            Ok(file) => Ok(file.into()),
            Err(Errno::EXIST) => Err(appeared(&below(&self.path, name))),
            Err(error) => Err(failed("cannot make a file", &below(&self.path, name), error)),
        }
    }

    /// Opens the file `name`, made by `create_file` before, for reading and writing.
    ///
    /// # Errors
    /// `Destination` where that fails, or where something else took the file's place.
    pub(crate) fn reopen_file(&self, name: &[u8]) -> Result<File> {
        validate(name, &self.path)?;
        let path = below(&self.path, name);
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let fd = openat(self, name, flags, Mode::empty())
            .map_err(|error| failed("cannot open a restored file again", &path, error))?;
        let stat = fstat(&fd).map_err(|error| failed("cannot look at a restored file", &path, error))?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        // Another name of it could lie outside the target.
        let is_ours = stat.st_nlink == 1;
        if !is_file || !is_ours {
            return Err(Error::new(ErrorKind::Destination, "another file took the place of a restored one")
                .with_path(path));
        }
        Ok(fd.into())
    }

    /// Makes `name` another name of `from_name` in `from_dir`, in place of what has that name unless that is a
    /// directory. A symbolic link is linked itself, not what it points to.
    ///
    /// # Errors
    /// `Destination` where that fails.
    pub(crate) fn hard_link(&self, name: &[u8], from_dir: &TargetDir, from_name: &[u8]) -> Result<()> {
        validate(from_name, &from_dir.path)?;
        validate(name, &self.path)?;
        let source = statat(from_dir, from_name, AtFlags::SYMLINK_NOFOLLOW).map_err(|error| {
            failed("cannot find the first name of a hard link", &below(&from_dir.path, from_name), error)
        })?;
        // Replacing a name by itself would lose the file.
        if let Ok(present) = statat(self, name, AtFlags::SYMLINK_NOFOLLOW)
            && (present.st_dev, present.st_ino) == (source.st_dev, source.st_ino)
        {
            return Ok(());
        }
        self.replace(name, "cannot make a hard link", || {
            linkat(from_dir, from_name, self, name, AtFlags::empty())
        })
    }

    /// Calls `make`, which must not replace anything, after removing what stands in its way.
    pub(super) fn replace<T>(
        &self,
        name: &[u8],
        what: &str,
        make: impl Fn() -> std::result::Result<T, Errno>,
    ) -> Result<T> {
        validate(name, &self.path)?;
        for _ in 0..ATTEMPTS_MAX {
            match make() {
                Err(Errno::EXIST) => self.remove(name)?,
                made => return made.map_err(|error| failed(what, &below(&self.path, name), error)),
            }
        }
        Err(failed(what, &below(&self.path, name), Errno::EXIST))
    }

    /// Removes `name`, which is no directory.
    pub(crate) fn remove(&self, name: &[u8]) -> Result<()> {
        match unlinkat(self, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error @ Errno::ISDIR) => {
                let path = below(&self.path, name);
                Err(failed("a directory has the place of a file", &path, error)
                    .with_remedy("move the directory away, or restore to another target"))
            }
            Err(error) => Err(failed("cannot replace an existing file", &below(&self.path, name), error)),
        }
    }
}

/// Makes something with a mode that says it is not finished; or without the sticky bit, where a server does not take that
/// from everybody.
fn marked<T>(
    mode: u32,
    make: impl Fn(Mode) -> std::result::Result<T, Errno>,
) -> std::result::Result<T, Errno> {
    match make(Mode::from_raw_mode(mode)) {
        Err(Errno::PERM | Errno::INVAL) => make(Mode::from_raw_mode(mode & 0o777)),
        made => made,
    }
}

impl AsFd for TargetDir {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
