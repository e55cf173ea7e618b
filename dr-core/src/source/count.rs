//! Counts what a source holds, for whoever wants to know beforehand how much there is.

use std::sync::Arc;

use super::{Source, SourceDirectory};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::{Context, Event};
use crate::tree::EntryKind;

/// What is nested deeper is not counted: each directory on the way is held open, and a backup beside needs descriptors too.
const DEPTH_MAX: usize = 64;

/// How much a source holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceTotals {
    /// Files, directories and everything else.
    pub entries: u64,
    /// The lengths of all files.
    pub bytes: u64,
}

/// An open directory, and the names of those in it that were not looked into yet.
struct Level {
    directory: Arc<dyn SourceDirectory>,
    below: Vec<Vec<u8>>,
}

/// Counts what a source holds, by listing it on the calling thread, and tells the observer that as much is expected. Meant to
/// run beside a backup of the same source. What cannot be listed is not counted, nor what is nested more than 64 directories
/// deep: the backup says what is wrong with it.
///
/// # Errors
/// `Cancelled`, and `Source` where the topmost directory cannot be opened.
pub fn count_source(source: &dyn Source, ctx: &Context<'_>) -> Result<SourceTotals> {
    ctx.cancel.check()?;
    let root = source
        .open_root()
        .map_err(|error| Error::new(ErrorKind::Source, "the source cannot be opened").with_source(error))?;
    let mut totals = SourceTotals::default();
    let mut open = vec![Level::list(root, &mut totals)];
    while let Some(level) = open.last_mut() {
        ctx.cancel.check()?;
        let Some(name) = level.below.pop() else {
            open.pop();
            continue;
        };
        let Ok(directory) = level.directory.open_directory(&name) else { continue };
        let next = Level::list(directory, &mut totals);
        if open.len() < DEPTH_MAX && !next.below.is_empty() {
            open.push(next);
        }
    }
    ctx.observer.event(&Event::Expected { entries: totals.entries, bytes: totals.bytes });
    Ok(totals)
}

impl Level {
    /// Lists a directory and counts what is in it.
    fn list(directory: Arc<dyn SourceDirectory>, totals: &mut SourceTotals) -> Level {
        let mut below = Vec::new();
        for entry in directory.entries().into_iter().flatten().filter_map(|item| item.entry.ok()) {
            totals.entries += 1;
            match entry.kind {
                EntryKind::File(content) => totals.bytes = totals.bytes.saturating_add(content.bytes),
                EntryKind::Directory(_) => below.push(entry.name),
                _ => {}
            }
        }
        Level { directory, below }
    }
}
