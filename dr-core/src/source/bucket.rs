//! A bucket of objects as a source: what stands between slashes of the keys are directories.
//!
//! An object has no owner, mode or change time. What the server calls its version, the entity tag, is kept as the attribute
//! `user.dr.etag`; a number made of it stands in the place of the inode's, by which an unchanged object is known without being
//! read. Every read asks for that version, so no file is a mixture of two.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use dr_store::{Bucket, BucketObject, Bytes, StoreError, StoreErrorKind};

use super::{Source, SourceDirectory, SourceFile, SourceItem};
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::is_name;
use crate::observer::lock;
use crate::time::Timestamp;
use crate::tree::{Entry, EntryKind, Extent, FileContent, Metadata, Stream, Xattr};

/// The attribute that holds the entity tag.
const ETAG: &[u8] = b"user.dr.etag";
/// Bytes asked for at once. Each file that is being read holds as many.
const READ_BYTES: u64 = 8 << 20;

/// A bucket, or what is below a prefix in it, as a tree below `/SCHEME/BUCKET/PREFIX`.
#[derive(Debug)]
pub struct BucketTree {
    bucket: Arc<dyn Bucket>,
    names: Vec<Vec<u8>>,
}

impl BucketTree {
    /// Looks at a bucket that [`dr_store::open_bucket`] opened.
    ///
    /// # Errors
    /// `Source` where it cannot be listed, or there is nothing below the prefix; `InvalidInput` where its place cannot be
    /// the name of directories.
    pub fn open(bucket: Arc<dyn Bucket>) -> Result<BucketTree> {
        let endpoint = bucket.endpoint();
        let place = endpoint.split('?').next().unwrap_or_default().to_owned();
        let (scheme, rest) = place.split_once("://").unwrap_or(("bucket", &place));
        let parts = std::iter::once(scheme).chain(rest.split('/').filter(|part| !part.is_empty()));
        let names: Vec<Vec<u8>> = parts.map(|part| part.as_bytes().to_vec()).collect();
        if !names.iter().all(|name| is_name(name)) {
            let why = format!("'{place}' cannot be a path of a snapshot");
            return Err(Error::new(ErrorKind::InvalidInput, why)
                .with_remedy("name a bucket or a prefix without '..'"));
        }
        let listed = bucket.list_folder("").map_err(|error| {
            let remedy = error.remedy();
            let failed = Error::new(ErrorKind::Source, format!("{place} cannot be listed"));
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            let failed = failed.with_source(format!("{error}: {cause}").trim_end_matches(": ").to_owned());
            failed.with_remedy(remedy.unwrap_or("check the location, its options and the credentials"))
        })?;
        // A prefix that nothing begins with is no different from a slip.
        let is_empty = listed.folders.is_empty() && listed.objects.is_empty() && listed.unusable.is_empty();
        if is_empty && names.len() > 2 {
            return Err(Error::new(ErrorKind::Source, format!("there is nothing below {place}"))
                .with_remedy("check the prefix"));
        }
        Ok(BucketTree { bucket, names })
    }
}

impl Source for BucketTree {
    fn paths(&self) -> Vec<PathBuf> {
        let mut path = PathBuf::from("/");
        path.extend(self.names.iter().map(|name| OsStr::from_bytes(name)));
        vec![path]
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(open_below(&self.bucket, &self.names))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

fn open_below(bucket: &Arc<dyn Bucket>, names: &[Vec<u8>]) -> Arc<dyn SourceDirectory> {
    match names {
        [] => Arc::new(Folder::new(bucket, String::new())),
        names => Arc::new(Above { bucket: Arc::clone(bucket), names: names.to_vec() }),
    }
}

/// A directory that only leads to the bucket.
#[derive(Debug)]
struct Above {
    bucket: Arc<dyn Bucket>,
    names: Vec<Vec<u8>>,
}

impl SourceDirectory for Above {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        Ok(self.names.first().map(|name| directory(name)).into_iter().collect())
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        match self.names.split_first() {
            Some((first, below)) if first == name => Ok(open_below(&self.bucket, below)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn open_file(&self, _name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        Err(io::ErrorKind::NotFound.into())
    }
}

/// What a listing said of the objects of a folder, by name.
type Listed = Arc<Mutex<HashMap<Vec<u8>, BucketObject>>>;

/// A folder of the bucket.
#[derive(Debug)]
struct Folder {
    bucket: Arc<dyn Bucket>,
    /// The beginning of its keys, without the slash behind it; empty for the top.
    prefix: String,
    listed: Listed,
}

impl Folder {
    fn new(bucket: &Arc<dyn Bucket>, prefix: String) -> Folder {
        Folder { bucket: Arc::clone(bucket), prefix, listed: Listed::default() }
    }

    fn key(&self, name: &[u8]) -> io::Result<String> {
        let name = std::str::from_utf8(name).map_err(io::Error::other)?;
        Ok(if self.prefix.is_empty() { name.to_owned() } else { format!("{}/{name}", self.prefix) })
    }
}

impl SourceDirectory for Folder {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let found = self.bucket.list_folder(&self.prefix).map_err(into_io)?;
        let mut items: Vec<SourceItem> = Vec::new();
        for name in &found.folders {
            items.push(if is_name(name.as_bytes()) { directory(name.as_bytes()) } else { too_long(name) });
        }
        let mut listed = lock(&self.listed);
        for object in found.objects {
            if found.folders.binary_search(&object.name).is_ok() {
                let why = "an object has the name of a folder: it is not in the snapshot, what is below is";
                items.push(lost(&object.name, why));
            } else if is_name(object.name.as_bytes()) {
                let name = object.name.as_bytes().to_vec();
                items.push(SourceItem { name: name.clone(), entry: Ok(entry_of(&object)) });
                listed.insert(name, object);
            } else {
                items.push(too_long(&object.name));
            }
        }
        items.extend(found.unusable.iter().map(|(key, why)| lost(key, why)));
        // Of two of a name, the folder stays before the object.
        items.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(items)
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Folder::new(&self.bucket, self.key(name)?)))
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        let key = self.key(name)?;
        let known = lock(&self.listed).remove(name);
        let object = match known {
            Some(object) => object,
            None => self.bucket.stat(&key).map_err(into_io)?,
        };
        Ok(Box::new(Object { bucket: Arc::clone(&self.bucket), key, object, ahead: Mutex::default() }))
    }
}

/// An object being read.
#[derive(Debug)]
struct Object {
    bucket: Arc<dyn Bucket>,
    key: String,
    object: BucketObject,
    /// The last bytes that came, and their offset.
    ahead: Mutex<(u64, Bytes)>,
}

impl SourceFile for Object {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut ahead = lock(&self.ahead);
        let end = ahead.0 + ahead.1.len() as u64;
        if offset < ahead.0 || offset >= end {
            let wanted = READ_BYTES.max(buffer.len() as u64);
            let end = offset.saturating_add(wanted).min(self.object.bytes);
            if offset >= end {
                return Ok(0);
            }
            // What came before is given up first: no more than one such piece is held.
            *ahead = (0, Bytes::new());
            let bytes = self.bucket.read(&self.key, self.object.etag.as_deref(), offset..end);
            *ahead = (offset, bytes.map_err(into_io)?);
        }
        let rest = ahead.1.get((offset - ahead.0) as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn entry(&self) -> io::Result<Entry> {
        Ok(entry_of(&self.object))
    }

    fn complete(&self, entry: &mut Entry) -> io::Result<()> {
        let etag = self.object.etag.iter();
        entry.metadata.xattrs =
            etag.map(|etag| Xattr { name: ETAG.to_vec(), value: etag.as_bytes().to_vec() }).collect();
        Ok(())
    }

    fn is_unchanged_since(&self, entry: &Entry) -> io::Result<bool> {
        if self.is_versioned() {
            // Each read has asked for this very version.
            return Ok(true);
        }
        let now = self.bucket.stat(&self.key).map_err(into_io)?;
        Ok(super::same_content(&entry_of(&now), entry))
    }

    fn is_versioned(&self) -> bool {
        self.object.etag.as_deref().is_some_and(|etag| !etag.starts_with("W/"))
    }

    fn extents(&self, _bytes: u64) -> io::Result<Option<Vec<Extent>>> {
        Ok(None)
    }
}

fn directory(name: &[u8]) -> SourceItem {
    let entry = Entry::new(name, EntryKind::Directory(Stream::default()), metadata(0o755));
    SourceItem { name: name.to_vec(), entry: Ok(entry) }
}

fn entry_of(object: &BucketObject) -> Entry {
    let mut metadata = metadata(0o644);
    metadata.modified = Timestamp { seconds: object.modified_s, nanoseconds: 0 };
    metadata.changed = metadata.modified;
    if let Some(etag) = &object.etag {
        let hash = blake3::hash(etag.as_bytes());
        metadata.inode = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    }
    let content = FileContent::new(object.bytes, Stream::default(), None);
    Entry::new(object.name.as_str(), EntryKind::File(content), metadata)
}

fn metadata(mode: u32) -> Metadata {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links) = (mode, 1);
    metadata.uid = rustix::process::geteuid().as_raw();
    metadata.gid = rustix::process::getegid().as_raw();
    metadata
}

fn too_long(name: &str) -> SourceItem {
    lost(name, "a part of its name is longer than 255 bytes")
}

fn lost(name: &str, why: &'static str) -> SourceItem {
    SourceItem { name: name.as_bytes().to_vec(), entry: Err(io::Error::other(why)) }
}

fn into_io(error: StoreError) -> io::Error {
    let kind = match error.kind() {
        StoreErrorKind::NotFound => io::ErrorKind::NotFound,
        StoreErrorKind::PermissionDenied => io::ErrorKind::PermissionDenied,
        // Another version is to be opened.
        StoreErrorKind::Changed => io::ErrorKind::StaleNetworkFileHandle,
        _ => io::ErrorKind::Other,
    };
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    io::Error::new(kind, format!("{error}{cause}"))
}
