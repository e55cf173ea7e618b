//! A store in a folder of a local or mounted file system.
//!
//! Reads and listings use the file system directly. Puts go through `object_store`: a staging file `<object>#<n>` is
//! written and synced, linked or renamed to its name, and the folder is synced.
//!
//! # Who can read the files
//! Folders made here have mode 0700 and files end with mode 0600. A staging file has the mode of the process's umask
//! until it is published, so a put below folders that others may enter is staged in [`folders::STAGING`], a private
//! folder: nobody else can read an object at any time.

mod folders;
mod sweep;
mod walk;

use std::collections::HashMap;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::local::LocalFileSystem;
use rustix::fs::OFlags;

use self::folders::Access;
use crate::file_url;
use crate::name::check_folder;
use crate::object::ObjectStoreDriver;
use crate::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};

/// Staging files older than this were left by a process that died.
const STAGING_AGE_MAX: Duration = Duration::from_secs(24 * 60 * 60);

/// A store in a folder. Symbolic links inside the folder are not objects and are not followed by listings.
#[derive(Debug)]
pub struct LocalStore {
    root: PathBuf,
    /// The device and inode of the root, to notice that it is no longer mounted.
    root_id: (u64, u64),
    driver: ObjectStoreDriver,
    /// The folders known to exist durably. Each is made and synced before the first put into it in this process.
    folders: Mutex<HashMap<String, Access>>,
    /// Numbers the files that this process makes beside the objects.
    scratch_count: AtomicU64,
}

impl LocalStore {
    /// Opens the store in the folder `path`, and removes what puts of dead processes left there, for which
    /// it reads the names of all files once.
    ///
    /// # Errors
    /// `NotFound` where there is nothing, `InvalidInput` where there is no folder, `PermissionDenied`.
    pub fn open(path: impl AsRef<Path>) -> Result<LocalStore> {
        let path = path.as_ref();
        let root = fs::canonicalize(path).map_err(|error| open_error(path, error))?;
        let metadata = fs::metadata(&root).map_err(|error| open_error(path, error))?;
        if !metadata.is_dir() {
            return Err(open_error(path, io::Error::from(io::ErrorKind::NotADirectory)));
        }
        let files = LocalFileSystem::new_with_prefix(&root)
            .map_err(|error| {
                StoreError::new(StoreErrorKind::Other, "open", path.to_string_lossy()).with_source(error)
            })?
            .with_fsync(true);
        Ok(LocalStore {
            driver: ObjectStoreDriver::new(Arc::new(files), file_url::from_path(&root)),
            root_id: (metadata.dev(), metadata.ino()),
            root,
            folders: Mutex::default(),
            scratch_count: AtomicU64::new(0),
        })
    }

    /// Opens the store in the folder `path`, which is made, with mode 0700, where it does not exist. A folder that
    /// exists keeps its mode.
    ///
    /// # Errors
    /// As [`LocalStore::open`] and [`LocalStore::probe_hard_links`].
    pub fn create(path: impl AsRef<Path>) -> Result<LocalStore> {
        let path = path.as_ref();
        folders::make_root(path).map_err(|error| open_error(path, error))?;
        let store = LocalStore::open(path)?;
        store.probe_hard_links()?;
        Ok(store)
    }

    fn path_of(&self, name: &str) -> PathBuf {
        self.root.join(name)
    }

    /// Opens the file of an object, and says how long it is.
    fn open_object(&self, operation: &'static str, name: &Name) -> Result<(File, u64)> {
        // Links are no objects. Without NONBLOCK, opening a pipe would wait for its writer.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(flags.cast_signed())
            .open(self.path_of(name.as_str()))
            .and_then(|file| file.metadata().map(|metadata| (file, metadata)));
        let (file, metadata) = opened.map_err(|error| read_error(operation, name, error))?;
        if metadata.is_file() { Ok((file, metadata.len())) } else { Err(not_found(operation, name)) }
    }

    fn stat_object(&self, operation: &'static str, name: &Name) -> Result<Metadata> {
        let metadata = fs::symlink_metadata(self.path_of(name.as_str()))
            .map_err(|error| read_error(operation, name, error))?;
        if metadata.is_file() { Ok(metadata) } else { Err(not_found(operation, name)) }
    }

    /// Refuses a put where the root is not the folder that was opened, because a file system was unmounted or
    /// mounted over it: the put would go to another disk.
    fn check_root(&self, name: &Name) -> Result<()> {
        let metadata =
            fs::metadata(&self.root).map_err(|error| StoreError::from_io("put", name.as_str(), error))?;
        if (metadata.dev(), metadata.ino()) == self.root_id {
            return Ok(());
        }
        let why = format!("{} is no longer the folder that was opened", self.root.display());
        Err(StoreError::new(StoreErrorKind::Other, "put", name.as_str()).with_source(why))
    }

    /// Makes the folder durable, once per process, and says who can enter it.
    fn prepare_folder(&self, folder: &str, object: &str) -> Result<Access> {
        let lock = || self.folders.lock().unwrap_or_else(PoisonError::into_inner);
        let known = lock().get(folder).copied();
        if let Some(access) = known {
            return Ok(access);
        }
        let above = match folder.rsplit_once('/') {
            Some((above, _)) => self.prepare_folder(above, object)?,
            None if folder.is_empty() => Access::Open,
            None => self.prepare_folder("", object)?,
        };
        // The lock is not held meanwhile. Each of several threads syncs for itself, because none may rely on a
        // folder that another has made and not yet synced.
        let access = folders::make(&self.root, folder, above)
            .map_err(|error| StoreError::from_io("put", object, error))?;
        lock().insert(folder.to_owned(), access);
        Ok(access)
    }

    /// Puts through a private folder, so that nobody can open the file before its mode is right.
    fn put_privately(&self, name: &Name, payload: &Payload, mode: PutMode) -> Result<()> {
        let failed = |error| StoreError::from_io("put", name.as_str(), error);
        folders::make_staging(&self.root).map_err(failed)?;
        let staged = loop {
            let staged = format!("{}/{}", folders::STAGING, self.scratch_name());
            match self.driver.put_at(&staged, payload, PutMode::Create) {
                Ok(()) => break self.path_of(&staged),
                // A dead process of the same number left it; the next name is free.
                Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        folders::make_file_private(&staged);
        let published = folders::publish(&staged, &self.path_of(name.as_str()), mode).map_err(failed);
        // After a rename there is nothing to remove; otherwise a failure leaves it for the next sweep.
        let _ = fs::remove_file(&staged);
        published
    }

    /// A name that no other live process of this host uses.
    fn scratch_name(&self) -> String {
        let count = self.scratch_count.fetch_add(1, Ordering::Relaxed);
        format!("scratch-{}-{count}", std::process::id())
    }

    /// The folder of that name, or `None` where there is none or a link in its place.
    fn real_folder(&self, operation: &'static str, folder: &str) -> Result<Option<PathBuf>> {
        check_folder(operation, folder)?;
        folders::without_links(&self.root, folder)
            .map_err(|error| StoreError::from_io(operation, folder, error))
    }
}

impl Store for LocalStore {
    fn sweep(&self, is_name: &dyn Fn(&str) -> bool) -> Result<u64> {
        self.sweep_staging(STAGING_AGE_MAX, is_name)
    }

    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        self.check_root(name)?;
        let folder = name.as_str().rsplit_once('/').map_or("", |(folder, _)| folder);
        match self.prepare_folder(folder, name.as_str())? {
            Access::Private => {
                self.driver.put_at(name.as_str(), &payload, mode)?;
                folders::make_file_private(&self.path_of(name.as_str()));
                Ok(())
            }
            Access::Open => self.put_privately(name, &payload, mode),
        }
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        let (mut file, _) = self.open_object("get", name)?;
        // This takes the size of the buffer from the file's length.
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(|error| read_error("get", name, error))?;
        Ok(bytes.into())
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let (file, file_bytes) = self.open_object("get_range", name)?;
        let length = range.end.checked_sub(range.start).and_then(|length| usize::try_from(length).ok());
        let (Some(length), true) = (length, range.end <= file_bytes) else {
            let why = format!("the bytes {range:?} are not inside the object's {file_bytes}");
            return Err(
                StoreError::new(StoreErrorKind::InvalidInput, "get_range", name.as_str()).with_source(why)
            );
        };
        let mut bytes = vec![0; length];
        file.read_exact_at(&mut bytes, range.start).map_err(|error| read_error("get_range", name, error))?;
        Ok(bytes.into())
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        match self.real_folder("list", folder)? {
            Some(path) => walk::list(&path, folder, after, visit),
            None => Ok(()),
        }
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        match self.real_folder("list_folder", folder)? {
            Some(path) => walk::list_folder(&path, folder),
            None => Ok(FolderListing::default()),
        }
    }

    /// The deletion is not synced: a crash may bring the object back, whole.
    fn delete(&self, name: &Name) -> Result<()> {
        self.stat_object("delete", name)?;
        fs::remove_file(self.path_of(name.as_str())).map_err(|error| read_error("delete", name, error))
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        let metadata = self.stat_object("stat", name)?;
        Ok(walk::object_meta(name.clone(), &metadata))
    }

    fn create_is_proven(&self) -> bool {
        true
    }

    fn local_root(&self) -> Option<PathBuf> {
        Some(self.root.clone())
    }

    fn endpoint(&self) -> String {
        self.driver.endpoint()
    }
}

fn open_error(path: &Path, error: io::Error) -> StoreError {
    StoreError::from_io("open", path.to_string_lossy(), error)
}

fn not_found(operation: &'static str, name: &Name) -> StoreError {
    StoreError::new(StoreErrorKind::NotFound, operation, name.as_str())
}

/// An object's name that leads to a folder, through a file or to a link names no object.
fn read_error(operation: &'static str, name: &Name, error: io::Error) -> StoreError {
    use io::ErrorKind::{IsADirectory, NotADirectory};
    let is_link = error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error());
    if is_link || matches!(error.kind(), IsADirectory | NotADirectory) {
        return not_found(operation, name).with_source(error);
    }
    StoreError::from_io(operation, name.as_str(), error)
}
