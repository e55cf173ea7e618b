//! Collecting garbage without a lock: mark -> plan -> condemn -> delete -> repack -> commit -> mark -> condemn -> delete ->
//! merge segments. It may be killed at any point and run beside writers and other collectors: only what an entry of the log
//! condemned is deleted, and that entry holds on exactly the state it follows.

mod collect;
mod compact;
mod marks;
mod options;
mod packs;
mod plan;
mod repack;
mod snapshots;
mod survey;
mod walk;

use std::collections::HashSet;

pub(crate) use compact::merge_small;
pub use options::{MaxUnused, PruneOptions, PruneReport, Shard};
#[cfg(feature = "internals")]
pub(crate) use walk::mark_all;

use plan::Plan;
use survey::{Survey, survey};

use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;
use crate::observer::{Context, Event, Stage};
use crate::repository::{Inner, Repository};

impl Repository {
    /// Collects forgotten snapshots, deletes what nothing needs, and rewrites packs of which little is needed.
    ///
    /// # Errors
    /// `Corrupt` where something that snapshots need cannot be found: nothing is deleted then. `Cancelled`, and what the
    /// store answers.
    pub fn prune(&self, options: &PruneOptions, ctx: &Context<'_>) -> Result<PruneReport> {
        let mut report = PruneReport::default();
        match self.prune_into(&mut report, options, *ctx) {
            Ok(()) => Ok(report),
            Err(error) if error.kind() == ErrorKind::StorageFull => Err(no_room(error, &report)),
            Err(error) => Err(error),
        }
    }

    fn prune_into(&self, report: &mut PruneReport, options: &PruneOptions, ctx: Context<'_>) -> Result<()> {
        let repository = &self.0;
        prepare(repository, options)?;
        let chosen = |uses: &marks::PackUses| uses.plan(options).repack.into_iter().collect();
        let now_ms = repository.store_time(options.dry_run)?;
        if !options.dry_run && options.shard.is_none() {
            snapshots::sweep_probes(repository, now_ms, options);
            snapshots::collect(repository, now_ms, options, report, ctx)?;
        }
        let begin = |stage| ctx.observer.event(&Event::Stage(stage));
        begin(Stage::Trees);
        let mut found = survey(repository, now_ms, options, ctx, &chosen)?;
        let planned = found.uses.plan(options);
        if options.dry_run {
            foretell(&found, &planned, options, report);
            return Ok(());
        }
        // A newer survey may take the place of this one; what it finds needed of the packs that are rewritten and is not here
        // keeps them from being condemned.
        let source = repack::Source::of(&mut found, &planned.repack);
        if options.shard.is_none() {
            begin(Stage::Delete);
            // First what makes room: what follows needs some.
            found = collect::condemn(repository, found, now_ms, options, &HashSet::new(), report, ctx)?;
            collect::delete(repository, &found.log, now_ms, &found.stored, options, report, ctx)?;
        }
        if !planned.repack.is_empty() {
            begin(Stage::Repack);
            let mut repacked = repack::repack(repository, source, report, ctx)?;
            if options.shard.is_none() {
                begin(Stage::Trees);
                found = survey(repository, now_ms, options, ctx, &|_| HashSet::new())?;
                begin(Stage::Delete);
                let dead = (report.packs_dead, report.bytes_dead);
                found =
                    collect::condemn(repository, found, now_ms, options, &repacked.verified, report, ctx)?;
                // Those were counted as rewritten already.
                (report.packs_dead, report.bytes_dead) = dead;
                collect::delete(repository, &found.log, now_ms, &found.stored, options, report, ctx)?;
            }
            if let Some(full) = repacked.stopped.take() {
                repacked.name_the_rest()?;
                return Err(full);
            }
        }
        if options.shard.is_none() {
            begin(Stage::Index);
            let log = compact::compact(repository, report, ctx)?;
            // Packs were dealt with above.
            let waiting = report.objects_waiting;
            found.stored.keep_segments(|hash| !found.log.fold.condemned().contains_key(hash));
            collect::delete(repository, &log, now_ms, &found.stored, options, report, ctx)?;
            report.objects_waiting += waiting;
        }
        repository.sweep_checkpoints(&found.log)?;
        report.held = snapshots::count_forgotten(&found.log, options) as u64;
        let after = found.uses.plan(options);
        (report.bytes_live, report.bytes_unused) = (after.live_bytes, planned.unused_bytes);
        Ok(())
    }
}

/// Says what to do about a store that is too full for a collection.
fn no_room(error: Error, report: &PruneReport) -> Error {
    let remedy = if report.objects_deleted > 0 {
        "run it again: what was deleted has made room"
    } else {
        "free 16 KiB: a collection must write so much before it deletes anything"
    };
    Error::new(ErrorKind::StorageFull, "the store has no room for what a collection writes")
        .with_remedy(remedy)
        .with_source(error)
}

/// What a collection would do.
fn foretell(found: &Survey, planned: &Plan, options: &PruneOptions, report: &mut PruneReport) {
    report.collected.clone_from(&found.collected);
    report.held = (snapshots::count_forgotten(&found.log, options) - found.collected.len()) as u64;
    (report.packs_dead, report.bytes_dead) = (planned.dead.len() as u64, planned.dead_bytes);
    (report.packs_repacked, report.bytes_repacked) = (planned.repack.len() as u64, planned.repack_bytes);
    let size = |hash| found.stored.get(hash).map_or(0, |it| it.bytes);
    report.leftovers = found.leftovers.len() as u64;
    report.bytes_leftover = found.leftovers.iter().map(size).sum();
    (report.bytes_live, report.bytes_unused) = (planned.live_bytes, planned.unused_bytes);
}

/// Checks that a collection may begin.
fn prepare(repository: &Inner, options: &PruneOptions) -> Result<()> {
    if repository.config.mode == LogMode::Siblings && !options.exclusive && !options.dry_run {
        return Err(Error::new(
            ErrorKind::InvalidInput,
            "on this store a collection cannot tell who else is writing",
        )
        .with_object(repository.store.endpoint())
        .with_remedy("stop all backups to this repository, and promise it with --exclusive"));
    }
    repository.fold_from_genesis()?;
    let log = repository.synchronise()?;
    if options.dry_run { Ok(()) } else { repository.prepare_to_write(&log) }
}
