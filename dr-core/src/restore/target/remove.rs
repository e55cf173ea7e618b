//! Deleting what is in the target and not in a snapshot.

use std::os::fd::AsFd;

use rustix::fs::{AtFlags, StatxAttributes, StatxFlags, fstat, statx, unlinkat};
use rustix::io::Errno;

use crate::error::Result;
use crate::restore::target::{Present, TargetDir, below, failed, validate};

impl TargetDir {
    /// Whether another file system begins at the directory `name`, or a part of this one is mounted there.
    ///
    /// # Errors
    /// `Destination` where it cannot be looked at.
    pub(crate) fn is_mount_point(&self, name: &[u8], present: &Present) -> Result<bool> {
        validate(name, self.path())?;
        let failure =
            |error| failed("cannot look at an entry of the target", &below(self.path(), name), error);
        if present.inode.0 != fstat(self.as_fd()).map_err(failure)?.st_dev {
            return Ok(true);
        }
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        match statx(self, name, flags, StatxFlags::empty()) {
            Ok(found) => Ok(found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)),
            // An old kernel: then the device's number is all that tells.
            Err(Errno::NOSYS | Errno::PERM) => Ok(false),
            Err(error) => Err(failure(error)),
        }
    }

    /// Makes a directory that is to be emptied accessible, where it is ours. Gives what it was like before.
    ///
    /// # Errors
    /// `Destination` where it is no directory, or cannot be made so.
    pub(crate) fn unlock_dir(&self, name: &[u8]) -> Result<Present> {
        validate(name, self.path())?;
        self.keep_dir(name).map_err(|error| {
            failed("cannot open a directory that is to be deleted", &below(self.path(), name), error)
        })
    }

    /// Removes the directory `name`. Whether it was empty, and is gone.
    ///
    /// # Errors
    /// `Destination` where that fails for another reason.
    pub(crate) fn remove_dir(&self, name: &[u8]) -> Result<bool> {
        validate(name, self.path())?;
        match unlinkat(self, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => Ok(true),
            Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
            Err(error) => Err(failed("cannot delete a directory", &below(self.path(), name), error)),
        }
    }
}
