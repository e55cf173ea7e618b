//! Names one snapshot, and maybe a path in it: `latest`, `latest~2`, `1a2b3c4d`, `@2026-11-20T10:00`, and each with
//! `:sub/path` behind it.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use dr_core::{Repository, Snapshot, SnapshotFilter, Timestamp};

use crate::error::{CliError, Result};
use crate::instant::{self, DayMeans};

/// What a user wrote to name a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selector {
    which: Which,
    /// The path behind the colon, in bytes.
    pub(crate) path: Option<Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Which {
    /// What the engine understands: `latest`, `latest~N`, an id or its beginning.
    Name(String),
    /// The newest whole snapshot that is not newer than this.
    At(Timestamp),
}

impl Selector {
    /// Reads a selector. A time reaches as far as it can: in `@2026-11-20T10:00:30` the last part is seconds, not a path;
    /// a path of that name is written `:/30`.
    pub(crate) fn parse(text: &OsStr) -> Result<Selector> {
        let bytes = text.as_bytes();
        let wrong = || {
            CliError::usage(format!("'{}' names no snapshot", text.display())).with_remedy(
                "use latest, latest~N, an id or its beginning, or @2026-11-20T10:00, and :sub/path behind it",
            )
        };
        if let Some(time) = bytes.strip_prefix(b"@") {
            return parse_time(time).ok_or_else(wrong);
        }
        let (name, path) = match bytes.iter().position(|byte| *byte == b':') {
            Some(colon) => (&bytes[..colon], Some(bytes[colon + 1..].to_vec())),
            None => (bytes, None),
        };
        let name = std::str::from_utf8(name).map_err(|_| wrong())?;
        if name.is_empty() {
            return Err(wrong());
        }
        Ok(Selector { which: Which::Name(name.to_owned()), path })
    }

    /// Finds the snapshot among those that pass the filter.
    pub(crate) fn find(&self, repository: &Repository, filter: &SnapshotFilter) -> Result<Snapshot> {
        Ok(match &self.which {
            Which::Name(name) => repository.find_snapshot(name, filter)?,
            Which::At(time) => repository.snapshot_at(*time, filter)?,
        })
    }
}

/// Finds the snapshots that users named, each once.
pub(crate) fn find_all(
    names: &[OsString],
    filter: &SnapshotFilter,
    repository: &Repository,
) -> Result<Vec<Snapshot>> {
    let mut found: Vec<Snapshot> = Vec::new();
    for name in names {
        let snapshot = Selector::parse(name)?.find(repository, filter)?;
        if !found.iter().any(|known| known.id == snapshot.id) {
            found.push(snapshot);
        }
    }
    Ok(found)
}

/// Finds the snapshots that users named, each once and as a whole; without any, those that pass the filter.
pub(crate) fn find_whole(
    names: &[OsString],
    filter: &SnapshotFilter,
    repository: &Repository,
) -> Result<Vec<Snapshot>> {
    if names.is_empty() {
        return Ok(repository.snapshots(filter)?);
    }
    for name in names {
        if Selector::parse(name)?.path.is_some() {
            return Err(CliError::usage(format!("'{}' names a path in a snapshot", name.display()))
                .with_remedy("give snapshots as a whole, without a colon and a path"));
        }
    }
    find_all(names, filter, repository)
}

fn parse_time(bytes: &[u8]) -> Option<Selector> {
    let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b':').map(|(at, _)| at);
    let ends: Vec<usize> = ends.chain([bytes.len()]).collect();
    ends.into_iter().rev().find_map(|end| {
        let time = instant::parse(std::str::from_utf8(&bytes[..end]).ok()?, DayMeans::End)?;
        let path = bytes.get(end + 1..).map(<[u8]>::to_vec);
        Some(Selector { which: Which::At(time), path: path.filter(|_| end < bytes.len()) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Selector {
        Selector::parse(OsStr::new(text)).unwrap()
    }

    fn at(text: &str) -> Which {
        Which::At(instant::parse(text, DayMeans::End).unwrap())
    }

    #[test]
    fn names_and_paths_are_told_apart() {
        let cases = [
            ("latest", "latest", None),
            ("latest~2", "latest~2", None),
            ("1a2b3c4d:etc/x:y", "1a2b3c4d", Some("etc/x:y")),
            ("latest:", "latest", Some("")),
            ("latest~1:/usr", "latest~1", Some("/usr")),
        ];
        for (text, name, path) in cases {
            let selector = parse(text);
            assert_eq!(selector.which, Which::Name(name.to_owned()), "{text}");
            assert_eq!(selector.path.as_deref(), path.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn a_time_reaches_as_far_as_it_can() {
        let cases = [
            ("@2026-11-20T10:00", "2026-11-20T10:00", None),
            ("@2026-11-20T10:00:30", "2026-11-20T10:00:30", None),
            ("@2026-11-20T10:00:/30", "2026-11-20T10:00", Some("/30")),
            ("@2026-11-20T10:00:etc/a:b", "2026-11-20T10:00", Some("etc/a:b")),
            ("@2026-11-20T10:00+01:00:etc", "2026-11-20T10:00+01:00", Some("etc")),
            ("@2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z", None),
            ("@2026-11-20", "2026-11-20", None),
            ("@2026-11-20:", "2026-11-20", Some("")),
        ];
        for (text, time, path) in cases {
            let selector = parse(text);
            assert_eq!(selector.which, at(time), "{text}");
            assert_eq!(selector.path.as_deref(), path.map(str::as_bytes), "{text}");
        }
    }

    #[test]
    fn paths_need_not_be_utf8_and_names_must() {
        let selector = Selector::parse(OsStr::from_bytes(b"latest:a\xffb")).unwrap();
        assert_eq!(selector.path.as_deref(), Some(b"a\xffb".as_slice()));
        for bytes in [b"\xff".as_slice(), b"", b":etc", b"@", b"@yesterday", b"@2026-13-01"] {
            assert!(Selector::parse(OsStr::from_bytes(bytes)).is_err(), "{bytes:?}");
        }
    }
}
