//! Changing what was saved: snapshots that are made of others, without reading a source. Nothing is overwritten: each is a new
//! snapshot, committed as that of a backup is.

mod copy;
mod merge;
mod rewrite;

pub use copy::{Copied, CopyOptions, CopyReport, Damaged};
pub use merge::{MergeBy, MergeOptions, MergeReport};
pub use rewrite::{RewriteOptions, Rewritten};

use crate::backup::{ATTEMPTS_MAX, BackupOptions, Parent, Parents, Storer, condemned, with_workers};
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::Problem;
use crate::id::SnapshotId;
use crate::observer::{Change, Context, Event};
use crate::repository::{ChunkReader, Inner, Repository};
use crate::snapshot::{Origin, Relation, Snapshot, Totals};
use crate::tree::{Entry, EntryKind};

/// Whether something is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Run {
    Dry,
    Real,
}

impl Run {
    fn of(dry_run: bool) -> Run {
        if dry_run { Run::Dry } else { Run::Real }
    }
}

/// Does work that writes a tree of parts of these snapshots, and again where packs that it needs are collected meanwhile.
fn with_storer<T>(
    repository: &Inner,
    of: &[&Snapshot],
    run: Run,
    ctx: Context<'_>,
    work: &mut dyn FnMut(&Storer<'_>, &Parents<'_>) -> Result<Option<T>>,
) -> Result<T> {
    for _ in 0..ATTEMPTS_MAX {
        if let Some(done) = attempt(repository, of, run, ctx, work)? {
            return Ok(done);
        }
    }
    Err(condemned())
}

fn attempt<T>(
    repository: &Inner,
    of: &[&Snapshot],
    run: Run,
    ctx: Context<'_>,
    work: &mut dyn FnMut(&Storer<'_>, &Parents<'_>) -> Result<Option<T>>,
) -> Result<Option<T>> {
    let (log, index) = repository.current()?;
    if run == Run::Real {
        repository.prepare_to_write(&log)?;
    }
    for snapshot in of {
        snapshot.refuse_newer()?;
        if log.fold.snapshot(&snapshot.id).is_none() {
            return Err(Error::new(ErrorKind::NotFound, "the snapshot was collected meanwhile")
                .with_object(format!("snapshot {}", snapshot.id)));
        }
    }
    let options = BackupOptions { dry_run: run == Run::Dry, parent: Parent::Nothing, ..BackupOptions::new() };
    let distrusted = repository.distrusted();
    // What was lost since, or is damaged, is not taken over unseen.
    let is_lossy = |snapshot: &&Snapshot| log.fold.lossy.is_some_and(|slot| slot > snapshot.slot);
    let must_look = !distrusted.is_empty() || of.iter().any(is_lossy);
    let reader = ChunkReader::new(repository, &log, index.clone());
    let parents = Parents::find(repository, &log, reader, &options, &[], must_look)?;
    let storer = Storer::new(repository, index.with_distrusted(distrusted), &options, ctx)?;
    with_workers(&storer, || work(&storer, &parents))
}

/// Looks a file's content up, where that is in doubt: a snapshot of what is lost is not made.
fn refuse_lost(path: &[u8], entry: &Entry, storer: &Storer<'_>, parents: &Parents<'_>) -> Result<()> {
    if parents.has_content(entry, storer)? {
        return Ok(());
    }
    Err(unreadable(path, Error::corrupt("a part of its content is lost")))
}

/// Says that entries cannot be read which a new snapshot is to hold.
fn unreadable(path: &[u8], error: Error) -> Error {
    if !error.is_damage() {
        return error;
    }
    Error::new(error.kind(), "something that the new snapshot is to hold cannot be read")
        .with_path(crate::observer::as_path(if path.is_empty() { b"/" } else { path }))
        .with_source(error)
        .with_remedy("leave it out, or make snapshots of what is left first: dr repair snapshots")
}

/// Counts an entry as a backup does.
fn count(totals: &mut Totals, entry: &Entry) {
    match &entry.kind {
        EntryKind::Directory(_) => totals.directories += 1,
        EntryKind::File(content) => {
            totals.files += 1;
            totals.bytes += content.bytes;
        }
        _ => totals.others += 1,
    }
}

/// The totals of a snapshot that is made of others: nothing was read for it, and what it holds is still to be counted.
fn no_totals() -> Totals {
    Totals::default()
}

/// Tells of an entry.
fn tell(ctx: &Context<'_>, path: &[u8], change: Change) {
    ctx.observer.event(&Event::EntryDone { path: path.to_vec(), change, bytes: 0 });
}

/// The snapshots that one is made of which is `relation` to `snapshot`: that one, and those that say the same of it.
fn origins_through(repository: &Inner, snapshot: &Snapshot, relation: Relation) -> Vec<Origin> {
    let own = Origin::new(relation, repository.config.repository, snapshot.id, snapshot.place);
    let further = snapshot.origins.iter().filter_map(|origin| {
        Some(match (origin.relation()?, relation) {
            (Relation::Copy, relation) => origin.related(relation),
            (Relation::Rewritten, Relation::Copy | Relation::Rewritten) => {
                origin.related(Relation::Rewritten)
            }
            _ => return None,
        })
    });
    std::iter::once(own).chain(further).collect()
}

/// Forgets what a new snapshot holds, where that is still there. Gives how many it forgot. An error names the new snapshot.
fn forget_replaced(
    repository: &Repository,
    replaced: &[SnapshotId],
    replacement: &SnapshotId,
) -> Result<usize> {
    repository.forget_replaced(replaced, replacement).map_err(|error| {
        if error.kind() == ErrorKind::NotFound {
            return error;
        }
        let what = format!("snapshot {replacement} was made, but what it holds could not be forgotten");
        Error::new(error.kind(), what)
            .with_source(error)
            .with_remedy("forget the old snapshots with 'dr forget': the new one is there")
    })
}

/// Sorts problems by path, each once.
fn each_once(mut problems: Vec<Problem>) -> Vec<Problem> {
    problems.sort_by(|a, b| (&a.path, a.kind as u8, &a.detail).cmp(&(&b.path, b.kind as u8, &b.detail)));
    problems.dedup();
    problems
}
