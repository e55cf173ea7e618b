//! Cache files mapped into memory: one of the two modules that hold `unsafe`.
#![expect(unsafe_code, reason = "mapping a file is unsafe, because somebody could change it underneath")]

use std::fs::File;
use std::io;
use std::ops::Deref;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// A cache file of this user's, mapped read-only.
#[derive(Debug)]
pub(crate) struct MappedFile(memmap2::Mmap);

impl MappedFile {
    /// Maps a regular file that belongs to this user and that nobody else can write.
    pub(crate) fn open(path: &Path) -> io::Result<MappedFile> {
        use std::os::unix::fs::MetadataExt;
        let descriptor =
            rustix::fs::open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let file = File::from(descriptor);
        let metadata = file.metadata()?;
        let is_private =
            metadata.uid() == rustix::process::geteuid().as_raw() && metadata.mode() & 0o022 == 0;
        if !metadata.is_file() || !is_private {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "a cache file that others can write",
            ));
        }
        // SAFETY: the bytes behind the map must not change while it lives. Cache files are written under another name,
        // renamed into place and never written again, by this program; nobody but this user (and root) can write them, as
        // checked above on the open file. A reader treats every byte as untrusted all the same: records are bounds-checked
        // on each access, and no reference into the map is handed out as anything but `[u8]`.
        let map = unsafe { memmap2::Mmap::map(&file)? };
        Ok(MappedFile(map))
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn only_private_regular_files_are_mapped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("table");
        std::fs::write(&path, b"bytes").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(&MappedFile::open(&path).unwrap()[..], b"bytes");
        symlink(&path, folder.path().join("link")).unwrap();
        assert!(MappedFile::open(&folder.path().join("link")).is_err());
        assert!(MappedFile::open(folder.path()).is_err());
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        assert!(MappedFile::open(&path).is_err());
        let empty = folder.path().join("empty");
        std::fs::write(&empty, b"").unwrap();
        std::fs::set_permissions(&empty, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(MappedFile::open(&empty).unwrap().is_empty());
    }
}
