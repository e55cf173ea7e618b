//! What this client has seen of a repository's log, so that a store that was put back in time, or forked, is noticed.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use dr_store::Store;

use super::bounded::get_bounded;
use crate::error::{Error, ErrorKind, Result};
use crate::id::ObjectHash;
use crate::limits::SEALED_SLOT_BYTES_MAX;
use crate::log::Log;

/// The newest slot seen, in a file of its own per repository and endpoint.
#[derive(Debug)]
pub(crate) struct SeenHead {
    path: PathBuf,
    accept: bool,
}

impl SeenHead {
    pub(crate) fn new(directory: &Path, repository: &[u8; 16], endpoint: &str, accept: bool) -> SeenHead {
        let place = blake3::Hasher::new().update(repository).update(endpoint.as_bytes()).finalize();
        SeenHead { path: directory.join("seen").join(&place.to_hex()[..32]), accept }
    }

    /// Where packs that a check found damaged are remembered.
    pub(super) fn damaged_path(&self) -> PathBuf {
        self.beside("damaged")
    }

    /// Where it is remembered when the store was probed.
    pub(super) fn probed_path(&self) -> PathBuf {
        self.beside("probed")
    }

    fn beside(&self, folder: &str) -> PathBuf {
        let name = self.path.file_name().unwrap_or_default();
        self.path.parent().and_then(Path::parent).unwrap_or(Path::new("")).join(folder).join(name)
    }

    /// Compares the log with what was seen before, which was read before the log was: another run of this program may
    /// have seen more meanwhile.
    pub(crate) fn check(
        &self,
        before: Option<(u64, ObjectHash)>,
        log: &Log,
        store: &dyn Store,
    ) -> Result<()> {
        let Some((slot, hash)) = before else { return Ok(()) };
        if self.accept || log.has(slot, &hash) {
            return Ok(());
        }
        if slot < log.first_hashed().unwrap_or(0) {
            // Older than what is remembered of the log: the slot itself says.
            let bytes = get_bounded(store, &crate::format::names::slot(slot), SEALED_SLOT_BYTES_MAX)?;
            if ObjectHash::of_parts([&bytes[..]]) == hash {
                return Ok(());
            }
        }
        let what = if slot >= log.fold.next { "is shorter than" } else { "differs from" };
        Err(Error::new(
            ErrorKind::RolledBack,
            format!("the repository's log {what} what this machine saw before (slot {slot})"),
        )
        .with_object(crate::format::names::slot(slot))
        .with_remedy(
            "the store was put back in time, or somebody replaced it: find out who; \
             to go on from what is there now, use --accept-rollback once",
        ))
    }

    /// Remembers the log's newest slot.
    pub(crate) fn remember(&self, log: &Log) -> Result<()> {
        let Some(slot) = log.fold.next.checked_sub(1) else { return Ok(()) };
        let hash = log.head;
        if !log.has(slot, &hash) {
            return Ok(());
        }
        if !self.accept && self.read()?.is_some_and(|(seen, _)| seen >= slot) {
            return Ok(());
        }
        write_private(&self.path, format!("{slot} {hash}\n").as_bytes())
            .map_err(|error| self.failed("could not be written", error))
    }

    pub(crate) fn read(&self) -> Result<Option<(u64, ObjectHash)>> {
        let text = match fs::read_to_string(&self.path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed("could not be read", error)),
        };
        let parsed = text
            .trim_end()
            .split_once(' ')
            .and_then(|(slot, hash)| Some((slot.parse().ok()?, ObjectHash::from_hex(hash)?)));
        match parsed {
            Some(seen) => Ok(Some(seen)),
            None if self.accept => Ok(None),
            None => Err(Error::new(
                ErrorKind::Corrupt,
                "what this machine saw of the repository before is unreadable",
            )
            .with_path(&self.path)
            .with_remedy("use --accept-rollback once, if you trust the store")),
        }
    }

    fn failed(&self, what: &str, error: std::io::Error) -> Error {
        Error::new(ErrorKind::PermissionDenied, format!("the state of the repository on this machine {what}"))
            .with_path(&self.path)
            .with_source(error)
            .with_remedy("set DR_STATE_DIR to a directory that you can write")
    }
}

/// Writes a file of mode 0600 in a directory of mode 0700, whole or not at all, whatever crashes.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_private_with(path, |file| file.write_all(bytes))
}

/// The same, of what is written piece by piece.
pub(crate) fn write_private_with(
    path: &Path,
    write: impl FnOnce(&mut fs::File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    write_and(path, write, fs::File::sync_all)
}

/// The same for what may be torn by a crash of the machine, as its reader sees that.
pub(crate) fn write_private_copy(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    write_and(path, |file| file.write_all(bytes), |_| Ok(()))
}

fn write_and(
    path: &Path,
    write: impl FnOnce(&mut fs::File) -> std::io::Result<()>,
    settle: fn(&fs::File) -> std::io::Result<()>,
) -> std::io::Result<()> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    use std::sync::atomic::{AtomicU64, Ordering};
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let (staged, mut file) = loop {
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let staged = path.with_extension(format!("{}-{number}.tmp", std::process::id()));
        // Processes in containers that share the directory may have the same number: none writes what another one began.
        match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged) {
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            opened => break (staged, opened?),
        }
    };
    let written = write(&mut file).and_then(|()| settle(&file)).and_then(|()| fs::rename(&staged, path));
    if written.is_err() {
        let _ = fs::remove_file(&staged);
    }
    written
}
