//! The caches of all repositories on this machine: what they take, when they were used last, and how they are cleaned up.
//! Nothing is touched that the engine would not have put there, and no link is followed.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::error::{Error, ErrorKind, Result};
use crate::format::names;
use crate::id::ObjectHash;
use crate::time::{Clock, Timestamp};

/// The file whose time says when a cache was used last. It is locked as long as a process uses the cache.
const USED: &str = "used";
/// The deepest that a file of a cache lies.
const DEPTH_MAX: usize = 3;

/// A repository's cache on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheInfo {
    /// The repository's id.
    pub repository: String,
    /// Where the cache is.
    pub path: PathBuf,
    /// The length of its files.
    pub bytes: u64,
    /// How many files there are.
    pub files: u64,
    /// When it was used last.
    pub last_used: Timestamp,
}

/// Which caches are removed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct CacheCleanup {
    /// Those that were not used for this time.
    pub max_age: Option<Duration>,
    /// Of the rest those that were used least recently, until what is left takes no more than this.
    pub max_bytes: Option<u64>,
    /// Keeps the one that was used last, however large it is.
    pub spare_newest: bool,
    /// Only says what would be removed.
    pub dry_run: bool,
}

impl CacheCleanup {
    /// Removes nothing.
    pub fn new() -> CacheCleanup {
        CacheCleanup::default()
    }
}

/// What a clean-up did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CacheReport {
    /// What was removed.
    pub removed: Vec<CacheInfo>,
    /// What would have been, but is in use.
    pub in_use: Vec<CacheInfo>,
    /// What is left.
    pub kept: Vec<CacheInfo>,
}

/// The caches below a cache directory, the one that was used least recently first.
///
/// # Errors
/// `PermissionDenied` where the directory cannot be read. That there is none is no error.
pub fn list_caches(directory: &Path) -> Result<Vec<CacheInfo>> {
    let failed = |error| failed("the cache directory cannot be read", directory, error);
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(failed)?,
    };
    let mut caches = Vec::new();
    for entry in entries {
        let entry = entry.map_err(failed)?;
        let Some(repository) =
            entry.file_name().to_str().filter(|name| is_repository(name)).map(str::to_owned)
        else {
            continue;
        };
        if !entry.file_type().map_err(failed)?.is_dir() {
            continue;
        }
        caches.push(look_at(entry.path(), repository)?);
    }
    caches.sort_by(|a, b| (a.last_used, &a.repository).cmp(&(b.last_used, &b.repository)));
    Ok(caches)
}

/// Removes caches. One that a process uses is kept, and so is every file that the engine would not have made.
///
/// # Errors
/// `PermissionDenied` where something cannot be read or removed.
pub fn clean_caches(directory: &Path, cleanup: &CacheCleanup, clock: &dyn Clock) -> Result<CacheReport> {
    let caches = list_caches(directory)?;
    let now = clock.now().as_nanoseconds();
    let mut left: u64 = caches.iter().map(|cache| cache.bytes).sum();
    let mut report = CacheReport::default();
    let last = caches.len().saturating_sub(1);
    for (number, cache) in caches.into_iter().enumerate() {
        let age = now - cache.last_used.as_nanoseconds();
        let is_old = cleanup.max_age.is_some_and(|max| age > max.as_nanos() as i128);
        let is_too_much = cleanup.max_bytes.is_some_and(|max| left > max);
        if !(is_old || is_too_much) || (cleanup.spare_newest && number == last) {
            report.kept.push(cache);
            continue;
        }
        // Held until everything is gone: whoever begins to use it meanwhile makes it anew.
        let Some(_guard) = unused(&cache.path)? else {
            report.in_use.push(cache);
            continue;
        };
        if !cleanup.dry_run {
            remove(&cache.path)?;
        }
        left -= cache.bytes;
        report.removed.push(cache);
    }
    Ok(report)
}

/// Marks a cache as used now, and for as long as what is given lives. A cache that cannot be marked is used all the same.
pub(super) fn mark_used(cache: &Path, now: Timestamp) -> Option<File> {
    use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
    fs::DirBuilder::new().recursive(true).mode(0o700).create(cache).ok()?;
    let mut options = fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(false).mode(0o600).open(cache.join(USED)).ok()?;
    let since = Duration::from_nanos(u64::try_from(now.as_nanoseconds()).unwrap_or(0));
    let _ = file.set_modified(UNIX_EPOCH + since);
    file.try_lock_shared().ok().map(|()| file)
}

/// The right to remove a cache; none where a process uses it.
fn unused(cache: &Path) -> Result<Option<Option<File>>> {
    match File::open(cache.join(USED)) {
        Ok(file) => Ok(file.try_lock().is_ok().then_some(Some(file))),
        // One of before caches were marked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Some(None)),
        Err(error) => Err(failed("the cache cannot be read", cache, error)),
    }
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::PermissionDenied, what).with_path(path).with_source(error)
}

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn is_repository(name: &str) -> bool {
    is_hex(name, 32)
}

/// Whether the engine makes files of this name in a cache, by what stands below the cache's folder.
fn is_own(relative: &str) -> bool {
    let name = settled(relative);
    let is_hash = |text: &str| ObjectHash::from_hex(text).is_some();
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [USED | super::cache::CHECKPOINT | super::cache::CONCORDANCE] => true,
        ["index", table] => is_hash(table),
        ["blocks", segment, block] => is_hash(segment) && block.parse::<u64>().is_ok(),
        ["log", ..] => names::is_own(name),
        _ => false,
    }
}

/// The name that a file is to get which is being written: without the process and number behind it.
fn settled(name: &str) -> &str {
    let parts = name.strip_suffix(".tmp").and_then(|staged| staged.rsplit_once('.'));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match parts {
        Some((name, by))
            if by
                .split_once('-')
                .is_some_and(|(process, number)| is_number(process) && is_number(number)) =>
        {
            name
        }
        _ => name,
    }
}

/// What the walk of a cache finds.
enum Found<'f> {
    /// A file that the engine makes.
    File(&'f Path, &'f Metadata),
    /// A directory, once everything in it was found.
    Directory(&'f Path),
}

/// Visits the engine's files in a cache, and the directories behind what is in them.
fn walk(
    directory: &Path,
    below: &str,
    depth: usize,
    visit: &mut dyn FnMut(Found<'_>) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{below}{name}")) else { continue };
        // Of a link itself, not of what it leads to.
        let metadata = match entry.metadata() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            metadata => metadata?,
        };
        if metadata.is_dir() && depth < DEPTH_MAX {
            walk(&entry.path(), &format!("{name}/"), depth + 1, visit)?;
        } else if metadata.is_file() && is_own(&name) {
            visit(Found::File(&entry.path(), &metadata))?;
        }
    }
    visit(Found::Directory(directory))
}

fn look_at(path: PathBuf, repository: String) -> Result<CacheInfo> {
    let (mut bytes, mut files) = (0, 0);
    let (mut newest, mut used) = (None, None);
    let walked = walk(&path, "", 1, &mut |found| {
        if let Found::File(file, metadata) = found {
            bytes += metadata.len();
            files += 1;
            let modified = metadata.modified().ok();
            newest = newest.max(modified);
            if file.file_name().is_some_and(|name| name == USED) {
                used = modified;
            }
        }
        Ok(())
    });
    walked.map_err(|error| failed("the cache cannot be read", &path, error))?;
    let last_used = used.or(newest).map_or_else(Timestamp::default, to_timestamp);
    Ok(CacheInfo { repository, path, bytes, files, last_used })
}

fn to_timestamp(time: SystemTime) -> Timestamp {
    let nanoseconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as i128);
    Timestamp::from_nanoseconds(nanoseconds)
}

/// Removes the engine's files, and then the directories that are empty.
fn remove(cache: &Path) -> Result<()> {
    let walked = walk(cache, "", 1, &mut |found| match found {
        Found::File(file, _) => match fs::remove_file(file) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        },
        Found::Directory(directory) => match fs::remove_dir(directory) {
            Err(error)
                if !matches!(error.kind(), io::ErrorKind::DirectoryNotEmpty | io::ErrorKind::NotFound) =>
            {
                Err(error)
            }
            _ => Ok(()),
        },
    });
    walked.map_err(|error| failed("the cache cannot be removed", cache, error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_the_engine_gives_are_its_own() {
        let hash = "ab".repeat(32);
        let own = [
            "used".to_owned(),
            "checkpoint".to_owned(),
            "checkpoint.12-0.tmp".to_owned(),
            "concordance".to_owned(),
            "concordance.12-0.tmp".to_owned(),
            format!("index/{hash}"),
            format!("index/{hash}.4711-12.tmp"),
            format!("blocks/{hash}/7"),
            format!("log/fffffffffffff/fff-{}", "ab".repeat(16)),
        ];
        let others = [
            "notes.txt".to_owned(),
            "checkpoint.bak".to_owned(),
            "checkpoint.12-.tmp".to_owned(),
            "concordance.1".to_owned(),
            "index/notes".to_owned(),
            hash.to_string(),
            format!("blocks/{hash}/x"),
            format!("data/{hash}"),
            "log/notes".to_owned(),
        ];
        assert!(own.iter().all(|name| is_own(name)), "{own:?}");
        for name in others {
            assert!(!is_own(&name), "{name}");
        }
        assert!(is_repository(&"0f".repeat(16)) && !is_repository(&"0F".repeat(16)) && !is_repository("dr"));
    }
}
