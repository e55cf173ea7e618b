//! Chooses snapshots: `latest`, `latest~N`, an id or its prefix, a time, and filters by host, tag and path.

use std::path::PathBuf;

use super::Snapshot;
use crate::error::{Error, ErrorKind, Result};
use crate::time::Timestamp;

/// Narrows a list of snapshots down. An empty part lets everything pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SnapshotFilter {
    /// One of these hosts.
    pub hosts: Vec<String>,
    /// Any of these tags; several joined by commas must all be there.
    pub tags: Vec<String>,
    /// All of these paths were asked for.
    pub paths: Vec<PathBuf>,
}

impl SnapshotFilter {
    /// A filter that lets everything pass.
    pub fn new() -> SnapshotFilter {
        SnapshotFilter::default()
    }

    /// Whether a snapshot passes.
    pub fn matches(&self, snapshot: &Snapshot) -> bool {
        let has_tags =
            |tags: &String| tags.split(',').all(|tag| snapshot.tags.iter().any(|known| known == tag));
        (self.hosts.is_empty() || self.hosts.contains(&snapshot.host))
            && (self.tags.is_empty() || self.tags.iter().any(has_tags))
            && self.paths.iter().all(|path| snapshot.paths.contains(path))
    }
}

/// Which of several snapshots is meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Selector {
    /// The newest whole one, or the one so many before it.
    Latest(usize),
    /// The newest whole one that was not made after this time.
    At(Timestamp),
    /// The id begins with these hexadecimal digits.
    Prefix(String),
}

impl Selector {
    /// Reads `latest`, `latest~N` or an id or its prefix. (Times are read by the command line, which knows time zones.)
    pub(crate) fn parse(text: &str) -> Result<Selector> {
        let wrong = || {
            Error::new(ErrorKind::InvalidInput, format!("'{text}' is no snapshot")).with_remedy(
                "use latest, latest~N, or at least the first 4 digits of an id as 'dr snapshots' shows it",
            )
        };
        if let Some(rest) = text.strip_prefix("latest") {
            return match rest.strip_prefix('~') {
                Some(number) => number.parse().map(Selector::Latest).map_err(|_| wrong()),
                None if rest.is_empty() => Ok(Selector::Latest(0)),
                None => Err(wrong()),
            };
        }
        let is_hex = text.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_hex && (4..=64).contains(&text.len()) {
            Ok(Selector::Prefix(text.to_lowercase()))
        } else {
            Err(wrong())
        }
    }

    /// Chooses from `snapshots`, which are in the order they were committed. Only an id finds a partial one.
    pub(crate) fn choose<'a>(&self, snapshots: &'a [Snapshot]) -> Result<&'a Snapshot> {
        let none = |message: String| {
            Error::new(ErrorKind::NotFound, message).with_remedy("list what there is with 'dr snapshots'")
        };
        let mut whole = snapshots.iter().rev().filter(|snapshot| !snapshot.partial);
        match self {
            Selector::Latest(back) => {
                whole.nth(*back).ok_or_else(|| none(format!("there is no snapshot latest~{back}")))
            }
            Selector::At(time) => whole
                .find(|snapshot| snapshot.time <= *time)
                .ok_or_else(|| none("there is no snapshot that old".to_owned())),
            Selector::Prefix(prefix) => {
                let matching = |snapshot: &&Snapshot| snapshot.id.to_string().starts_with(prefix);
                let mut found = snapshots.iter().filter(matching);
                match (found.next(), found.next()) {
                    (Some(snapshot), None) => Ok(snapshot),
                    (None, _) => Err(none(format!("there is no snapshot {prefix}"))),
                    (Some(_), Some(_)) => Err(Error::new(
                        ErrorKind::InvalidInput,
                        format!("several snapshots' ids begin with {prefix}"),
                    )
                    .with_remedy("give more digits")),
                }
            }
        }
    }
}
