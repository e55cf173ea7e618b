//! Listing the files of a folder. Nothing is followed: only regular files whose names are valid are objects.

use std::fs::{self, Metadata, ReadDir};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::name::is_valid_part;
use crate::{FolderListing, Name, ObjectMeta, Result, StoreError};

/// A folder to read: where it is, and its name in the store (empty for the top).
struct Folder {
    path: PathBuf,
    name: String,
}

/// What an entry of a folder can be; all else is skipped.
enum Entry {
    Folder(String),
    File(String, fs::DirEntry),
}

/// Visits every object below the folder `name` at `path` that is greater than `after`.
pub(super) fn list(
    path: &Path,
    name: &str,
    after: Option<&Name>,
    visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
) -> Result<()> {
    let failed = |folder: &str, error| StoreError::from_io("list", folder, error);
    let mut pending = vec![Folder { path: path.to_path_buf(), name: name.to_owned() }];
    while let Some(folder) = pending.pop() {
        for entry in entries(&folder.path).map_err(|error| failed(&folder.name, error))? {
            match entry.map_err(|error| failed(&folder.name, error))? {
                Entry::Folder(part) => {
                    let name = join(&folder.name, &part);
                    if after.is_none_or(|after| may_hold_after(&name, after)) {
                        pending.push(Folder { path: folder.path.join(&part), name });
                    }
                }
                Entry::File(part, entry) => {
                    let Ok(name) = Name::new(join(&folder.name, &part)) else { continue };
                    if after.is_some_and(|after| name <= *after) {
                        continue;
                    }
                    if let Some(object) =
                        meta_of(name, &entry).map_err(|error| failed(&folder.name, error))?
                    {
                        visit(object)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// Lists one level of the folder `name` at `path`.
pub(super) fn list_folder(path: &Path, name: &str) -> Result<FolderListing> {
    let failed = |error| StoreError::from_io("list_folder", name, error);
    let mut listing = FolderListing::default();
    for entry in entries(path).map_err(failed)? {
        match entry.map_err(failed)? {
            Entry::Folder(part) => {
                if holds_object(&path.join(&part)).map_err(failed)? {
                    listing.folders.push(part);
                }
            }
            Entry::File(part, entry) => {
                let Ok(name) = Name::new(join(name, &part)) else { continue };
                listing.objects.extend(meta_of(name, &entry).map_err(failed)?);
            }
        }
    }
    listing.folders.sort_unstable();
    listing.objects.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(listing)
}

/// Calls `visit` for every regular file below `path`, whatever its name, in folders of valid names.
pub(super) fn files(path: &Path, visit: &mut dyn FnMut(&fs::DirEntry)) -> io::Result<()> {
    let mut pending = vec![path.to_path_buf()];
    while let Some(folder) = pending.pop() {
        let Some(entries) = read_folder(&folder)? else { continue };
        for entry in entries {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() && entry.file_name().to_str().is_some_and(is_valid_part) {
                pending.push(entry.path());
            } else if kind.is_file() {
                visit(&entry);
            }
        }
    }
    Ok(())
}

/// What the store says of the file of an object.
pub(super) fn object_meta(name: Name, metadata: &Metadata) -> ObjectMeta {
    let modified_ms = metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000);
    ObjectMeta { name, bytes: metadata.len(), modified_ms }
}

/// Whether an object lies anywhere below: on other stores a folder without one does not exist, and a crash between
/// the making of a folder and of its first object leaves such a folder here.
fn holds_object(path: &Path) -> io::Result<bool> {
    let mut pending = vec![path.to_path_buf()];
    while let Some(folder) = pending.pop() {
        for entry in entries(&folder)? {
            match entry? {
                Entry::Folder(part) => pending.push(folder.join(part)),
                Entry::File(..) => return Ok(true),
            }
        }
    }
    Ok(false)
}

/// The entries that may be folders and objects.
fn entries(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Entry>>> {
    Ok(read_folder(path)?.into_iter().flatten().filter_map(|entry| entry.and_then(classify).transpose()))
}

fn classify(entry: fs::DirEntry) -> io::Result<Option<Entry>> {
    let Some(part) = entry.file_name().to_str().filter(|part| is_valid_part(part)).map(String::from) else {
        return Ok(None);
    };
    let kind = entry.file_type()?;
    Ok(if kind.is_dir() {
        Some(Entry::Folder(part))
    } else {
        kind.is_file().then_some(Entry::File(part, entry))
    })
}

/// Reads a folder, unless somebody has removed it in the meantime.
fn read_folder(path: &Path) -> io::Result<Option<ReadDir>> {
    match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        entries => entries.map(Some),
    }
}

/// The metadata of an object, unless somebody has deleted it since its folder was read.
fn meta_of(name: Name, entry: &fs::DirEntry) -> io::Result<Option<ObjectMeta>> {
    match entry.metadata() {
        Ok(metadata) => Ok(Some(object_meta(name, &metadata))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn join(folder: &str, part: &str) -> String {
    if folder.is_empty() { part.to_owned() } else { format!("{folder}/{part}") }
}

/// Whether a name below `folder` can be greater than `after`.
fn may_hold_after(folder: &str, after: &Name) -> bool {
    let prefix = format!("{folder}/");
    after.as_str().starts_with(&prefix) || prefix.as_str() > after.as_str()
}
