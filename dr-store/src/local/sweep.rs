//! Files beside the objects: removing those that dead processes left, and probing what the file system can do.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::{LocalStore, folders, walk};
use crate::{Result, StoreError, StoreErrorKind};

/// A file that is removed when it is done with.
struct Scratch {
    path: PathBuf,
    file: File,
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A failure leaves it for the next sweep.
        let _ = fs::remove_file(&self.path);
    }
}

impl LocalStore {
    /// Removes the staging files, of objects whose names `is_name` takes for its own, that were not written to for
    /// `older_than`, and says how many. Ages are measured by the file system's own clock. Nothing else is touched: the
    /// folder may hold other people's files.
    ///
    /// # Errors
    /// `PermissionDenied` on a read-only file system where there is something to remove; `StorageFull`; `Other`.
    pub fn sweep_staging(&self, older_than: Duration, is_name: &dyn Fn(&str) -> bool) -> Result<u64> {
        self.sweep_old(older_than, is_name)
            .map_err(|error| StoreError::from_io("sweep", self.driver_endpoint(), error))
    }

    /// Tells whether create-if-absent works here: it needs hard links, which some file systems (exFAT) lack.
    ///
    /// # Errors
    /// `Unsupported` where it does not work; `PermissionDenied`, `StorageFull`.
    pub fn probe_hard_links(&self) -> Result<()> {
        let failed = |kind, error: io::Error| {
            StoreError::new(kind, "probe", self.driver_endpoint()).with_source(error)
        };
        let scratch =
            self.scratch().map_err(|error| StoreError::from_io("probe", self.driver_endpoint(), error))?;
        let link = scratch.path.with_extension("link#2");
        // What a dead process of the same number left would look like a failure.
        let _ = fs::remove_file(&link);
        let first = fs::hard_link(&scratch.path, &link);
        let second = fs::hard_link(&scratch.path, &link);
        let _ = fs::remove_file(&link);
        use io::ErrorKind::{AlreadyExists, PermissionDenied, TooManyLinks, Unsupported};
        match (first, second) {
            (Ok(()), Err(error)) if error.kind() == AlreadyExists => Ok(()),
            (Ok(()), _) => Err(failed(
                StoreErrorKind::Unsupported,
                io::Error::new(Unsupported, "a link to a name that was taken did not fail with that error"),
            )),
            // The file itself could be made, so what is not permitted is the link.
            (Err(error), _) if matches!(error.kind(), PermissionDenied | TooManyLinks | Unsupported) => {
                Err(failed(StoreErrorKind::Unsupported, error))
            }
            (Err(error), _) => Err(StoreError::from_io("probe", self.driver_endpoint(), error)),
        }
    }

    fn sweep_old(&self, older_than: Duration, is_name: &dyn Fn(&str) -> bool) -> io::Result<u64> {
        let mut leftovers = Vec::new();
        walk::files(&self.root, &mut |entry| {
            let path = entry.path();
            let relative = path.strip_prefix(&self.root).ok().and_then(|path| path.to_str());
            if relative.and_then(staged_name).is_some_and(|name| is_scratch(name) || is_name(name)) {
                leftovers.push(path);
            }
        })?;
        if folders::without_links(&self.root, folders::STAGING)?.is_some() {
            walk::files(&self.root.join(folders::STAGING), &mut |entry| {
                if entry.file_name().to_str().is_some_and(is_scratch) {
                    leftovers.push(entry.path());
                }
            })?;
        }
        if leftovers.is_empty() {
            return Ok(0);
        }
        let now = self.scratch()?.file.metadata()?.modified()?;
        let mut removed = 0;
        for path in leftovers {
            // Its owner may have published or removed it by now. One from the future is not old.
            let Ok(modified) = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()) else {
                continue;
            };
            if now.duration_since(modified).is_ok_and(|age| age >= older_than) {
                match fs::remove_file(&path) {
                    Ok(()) => removed += 1,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(removed)
    }

    /// Makes an empty file that listings skip and a later sweep would remove.
    fn scratch(&self) -> io::Result<Scratch> {
        loop {
            let path = self.path_of(&format!("{}.file#1", self.scratch_name()));
            match OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
                Ok(file) => return Ok(Scratch { path, file }),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn driver_endpoint(&self) -> String {
        crate::Store::endpoint(self)
    }
}

/// The object's name in the name of one of `object_store`'s staging files.
fn staged_name(name: &str) -> Option<&str> {
    let (object, number) = name.rsplit_once('#')?;
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(object)
}

/// Whether this is the name of a file that this module makes for itself.
fn is_scratch(name: &str) -> bool {
    name.starts_with("scratch-")
}
