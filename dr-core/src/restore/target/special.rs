//! Symbolic links, devices, pipes and sockets.

use std::fmt;

use rustix::fs::{FileType, Mode, mknodat, symlinkat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::error::{Error, ErrorKind, Result};
use crate::restore::target::{TargetDir, below, validate};
use crate::tree::{Entry, EntryKind};

/// What became of a special entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is there.
    Made,
    /// It is not there, for this reason.
    Skipped(SkipReason),
}

/// Why a special entry was not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipReason {
    /// The caller wants no devices, pipes and sockets.
    NotWanted,
    /// Only root may make devices.
    NeedsRoot,
    /// The system cannot express the device's number.
    DeviceNumber,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SkipReason::NotWanted => "devices, pipes and sockets are not wanted",
            SkipReason::NeedsRoot => "only root may make devices",
            SkipReason::DeviceNumber => "the device number is out of range",
        })
    }
}

impl TargetDir {
    /// Makes a symbolic link, device, pipe or socket of the given name, in place of what has its name unless that is a directory.
    ///
    /// # Errors
    /// `Destination` where that fails; `Internal` for a file or directory.
    pub(crate) fn create_special(&self, name: &[u8], entry: &Entry) -> Result<Outcome> {
        validate(name, self.path())?;
        let (file_type, number) = match &entry.kind {
            EntryKind::Symlink(target) => {
                let target = target.as_slice();
                self.replace(name, "cannot make a symbolic link", || symlinkat(target, self, name))?;
                return Ok(Outcome::Made);
            }
            EntryKind::CharacterDevice(number) => (FileType::CharacterDevice, *number),
            EntryKind::BlockDevice(number) => (FileType::BlockDevice, *number),
            EntryKind::Fifo => (FileType::Fifo, 0),
            EntryKind::Socket => (FileType::Socket, 0),
            EntryKind::File(_) | EntryKind::Directory(_) => {
                return Err(Error::new(
                    ErrorKind::Internal,
                    "a file or directory was taken for a special entry",
                )
                .with_path(below(self.path(), name)));
            }
        };
        if !self.shared.options.specials {
            return Ok(Outcome::Skipped(SkipReason::NotWanted));
        }
        // Asked before anything is removed for it.
        let is_device = matches!(file_type, FileType::CharacterDevice | FileType::BlockDevice);
        if is_device && !geteuid().is_root() {
            return Ok(Outcome::Skipped(SkipReason::NeedsRoot));
        }
        // The kernel takes 32 bits and drops the rest: that would be another device.
        if u32::try_from(number).is_err() {
            return Ok(Outcome::Skipped(SkipReason::DeviceNumber));
        }
        let is_made = self.replace(name, "cannot make a special file", || {
            match mknodat(self, name, file_type, Mode::RUSR | Mode::WUSR, number) {
                // Root of a container without the capability.
                Err(Errno::PERM) if is_device => Ok(false),
                made => made.map(|()| true),
            }
        })?;
        Ok(if is_made { Outcome::Made } else { Outcome::Skipped(SkipReason::NeedsRoot) })
    }
}
