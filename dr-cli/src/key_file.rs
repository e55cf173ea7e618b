//! Key files: 32 random bytes as 64 hexadecimal digits, in a file that only its owner may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

use dr_core::{Credentials, Entropy, SystemEntropy};
use zeroize::Zeroizing;

use crate::credentials::read_bounded;
use crate::error::{CliError, Result};
use crate::render::Output;

/// How much of a key file is looked at, in bytes; a right one has 65.
const KEY_FILE_BYTES_MAX: usize = 256;

/// Whether [`create`] made a key file or met one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// There was none.
    Created,
    /// There was one.
    Existing,
}

/// Reads a key file; warns where others can read it too.
pub(crate) fn read(path: &Path, output: &Output) -> Result<Credentials> {
    let failed = |error: io::Error| {
        CliError::credentials("the key file cannot be read").with_path(path).with_cause(&error)
    };
    let file = File::open(path).map_err(failed)?;
    if let Some(mode) = mode_for_others(&file) {
        output.warn(&format!(
            "the key file {} is open to others than its owner (mode {mode:03o}): 'chmod 600' it, and think of \
             who may have read it",
            path.display()
        ));
    }
    let text = read_bounded(file, KEY_FILE_BYTES_MAX).map_err(failed)?;
    Ok(Credentials::key_file_text(&text).map_err(|error| error.with_path(path))?)
}

/// The mode of a file that group or others may read or write. A pipe has a mode that says nothing.
fn mode_for_others(file: &File) -> Option<u32> {
    let metadata = file.metadata().ok().filter(fs::Metadata::is_file)?;
    let mode = metadata.permissions().mode() & 0o777;
    (mode & 0o066 != 0).then_some(mode)
}

/// Makes a key file with a new key where there is none, on the disk before it is used; otherwise leaves it alone.
pub(crate) fn create(path: &Path) -> Result<Origin> {
    let mut options = OpenOptions::new();
    let file = match options.write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(Origin::Existing),
        Err(error) => return Err(failed(path, error)),
    };
    let mut key = Zeroizing::new([0; 32]);
    SystemEntropy.fill(key.as_mut())?;
    let text = Zeroizing::new(Credentials::key_file_for(&key));
    if let Err(error) = write(file, path, text.as_bytes()) {
        let _ = fs::remove_file(path);
        return Err(failed(path, error));
    }
    Ok(Origin::Created)
}

fn write(mut file: File, path: &Path, text: &[u8]) -> io::Result<()> {
    file.write_all(text)?;
    file.sync_all()?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, error: io::Error) -> CliError {
    CliError::credentials("the key file cannot be made").with_path(path).with_cause(&error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::{Format, Verbosity};

    #[test]
    fn a_key_file_is_made_once_and_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        assert_eq!(create(&path).unwrap(), Origin::Created);
        let text = fs::read(&path).unwrap();
        assert_eq!((text.len(), fs::metadata(&path).unwrap().permissions().mode() & 0o7777), (65, 0o600));
        assert_eq!(create(&path).unwrap(), Origin::Existing);
        assert_eq!(fs::read(&path).unwrap(), text);
        let output = Output::new(Format::Text, Verbosity::Normal);
        read(&path, &output).unwrap();
        fs::write(&path, "no key").unwrap();
        assert!(read(&path, &output).is_err());
        assert!(create(&folder.path().join("none/key")).is_err());
    }

    #[test]
    fn a_key_file_that_others_can_read_is_noticed() {
        let file = tempfile::tempfile().unwrap();
        for (mode, noticed) in [
            (0o600, None),
            (0o400, None),
            (0o711, None),
            (0o640, Some(0o640)),
            (0o604, Some(0o604)),
            (0o622, Some(0o622)),
        ] {
            file.set_permissions(fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(mode_for_others(&file), noticed, "{mode:o}");
        }
        let pipe: File = std::os::fd::OwnedFd::from(io::pipe().unwrap().0).into();
        assert_eq!(mode_for_others(&pipe), None);
    }
}
