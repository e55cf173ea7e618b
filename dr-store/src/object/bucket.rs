//! Reads objects that somebody else wrote, whose keys need not be names of a store.

use std::ops::Range;

use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStoreExt};

use super::{DEADLINE_BASE, LIST_DEADLINE, ObjectStoreDriver, deadline_of, from_object_store};
use crate::bucket::{BucketFolder, BucketObject};
use crate::{Bytes, Result, StoreError, StoreErrorKind, runtime};

impl ObjectStoreDriver {
    pub(crate) fn list_objects(&self, folder: &str) -> Result<BucketFolder> {
        let prefix = if folder.is_empty() { None } else { Some(path_of("list_folder", folder)?) };
        let own = prefix.clone();
        let listed = self.call("list_folder", folder, LIST_DEADLINE, |store| async move {
            store.list_with_delimiter(prefix.as_ref()).await
        })?;
        let name = |path: &Path| path.filename().map(str::to_owned);
        let mut found = BucketFolder {
            folders: listed.common_prefixes.iter().filter_map(name).collect(),
            // Some servers list the folder itself as well.
            objects: (listed.objects.into_iter())
                .filter(|object| Some(&object.location) != own.as_ref())
                .filter_map(|object| Some(meta(name(&object.location)?, object)))
                .collect(),
            unusable: Vec::new(),
        };
        found.folders.sort_unstable();
        found.folders.dedup();
        found.objects.sort_by(|a, b| a.name.cmp(&b.name));
        // Pages of a listing overlap where keys come and go meanwhile.
        found.objects.dedup_by(|again, first| again.name == first.name);
        Ok(found)
    }

    /// Makes keys of the whole bucket those below a folder.
    pub(crate) fn below(
        &self,
        folder: &str,
        keys: Vec<(String, &'static str)>,
    ) -> Vec<(String, &'static str)> {
        let own = self.remote.as_ref().map_or("", |remote| remote.prefix.as_str());
        let parts = [own, folder].into_iter().filter(|part| !part.is_empty());
        let above: String = parts.flat_map(|part| [part, "/"]).collect();
        let below = |key: String| key.strip_prefix(&above).map(str::to_owned).unwrap_or(key);
        let mut keys: Vec<_> = keys.into_iter().map(|(key, why)| (below(key), why)).collect();
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    pub(crate) fn stat_object(&self, key: &str) -> Result<BucketObject> {
        let path = path_of("stat", key)?;
        let name = path.filename().unwrap_or_default().to_owned();
        let object = self.call("stat", key, DEADLINE_BASE, |store| async move { store.head(&path).await })?;
        Ok(meta(name, object))
    }

    pub(crate) fn read_object(&self, key: &str, etag: Option<&str>, range: Range<u64>) -> Result<Bytes> {
        if range.is_empty() {
            return Ok(Bytes::new());
        }
        let path = path_of("read", key)?;
        let wanted = range.end - range.start;
        // A weak one never matches: it does not vouch for bytes.
        let if_match = etag.filter(|etag| !etag.starts_with("W/")).map(str::to_owned);
        let range = Some(GetRange::Bounded(range));
        let options = GetOptions { range, if_match, ..GetOptions::default() };
        let answer = self
            .call("read", key, DEADLINE_BASE, |store| async move { store.get_opts(&path, options).await });
        let answer = answer.map_err(|error| match error.kind() {
            // The condition is that the object is still the one that was asked for.
            StoreErrorKind::AlreadyExists => StoreError::new(StoreErrorKind::Changed, "read", key),
            _ => error,
        })?;
        // Some servers do not look at the condition.
        let given = answer.meta.e_tag.clone().filter(|given| !given.is_empty()).map(quoted);
        if is_other(etag, given.as_deref()) {
            let why = "its entity tag is another one";
            return Err(StoreError::new(StoreErrorKind::Changed, "read", key).with_source(why));
        }
        let bytes = runtime::wait("read", key, self.deadline(deadline_of(wanted)), answer.bytes())?
            .map_err(|error| from_object_store("read", key, error))?;
        if bytes.len() as u64 == wanted {
            return Ok(bytes);
        }
        let why = format!("{} bytes came, of {wanted}", bytes.len());
        Err(StoreError::new(StoreErrorKind::Changed, "read", key).with_source(why))
    }
}

fn path_of(operation: &'static str, key: &str) -> Result<Path> {
    let path = Path::parse(key)
        .map_err(|error| StoreError::new(StoreErrorKind::InvalidInput, operation, key).with_source(error))?;
    Ok(path)
}

/// An entity tag as it stands in a request: some servers leave the quotes out of their listings.
fn quoted(etag: String) -> String {
    if etag.starts_with('"') || etag.starts_with("W/") { etag } else { format!("\"{etag}\"") }
}

/// Whether two entity tags say that the bytes differ. Weak ones say nothing of bytes.
fn is_other(expected: Option<&str>, given: Option<&str>) -> bool {
    let strong = |etag: &&str| !etag.starts_with("W/");
    match (expected.filter(strong), given.filter(strong)) {
        (Some(expected), Some(given)) => expected != given,
        _ => false,
    }
}

fn meta(name: String, object: object_store::ObjectMeta) -> BucketObject {
    let modified_s = object.last_modified.timestamp();
    let etag = object.e_tag.filter(|etag| !etag.is_empty()).map(quoted);
    BucketObject { name, bytes: object.size, modified_s, etag }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_strong_tags_that_differ_say_that_an_object_changed() {
        for (expected, given, differs) in [
            (Some("\"a\""), Some("\"a\""), false),
            (Some("\"a\""), Some("\"b\""), true),
            (Some("\"a\""), Some("W/\"b\""), false),
            (Some("W/\"a\""), Some("\"b\""), false),
            (None, Some("\"b\""), false),
            (Some("\"a\""), None, false),
        ] {
            assert_eq!(is_other(expected, given), differs, "{expected:?} {given:?}");
        }
    }
}
