//! Collects forgotten snapshots: from then on they cannot come back, and what only they needed is garbage.

use std::time::Duration;

use super::options::{PruneOptions, PruneReport};
use crate::error::{Error, ErrorKind, Result};
use crate::format::checkpoint::SnapshotState;
use crate::format::log::{Condemn, Event, HashList};
use crate::format::names;
use crate::id::SnapshotId;
use crate::limits::CLOCKS_DIFFER_MS;
use crate::log::Log;
use crate::observer::{Context, lock};
use crate::repository::Inner;

/// How many snapshots one entry collects: 32 bytes each must fit into a slot.
const COLLECTED_MAX: usize = 1024;

/// The forgotten snapshots whose hold is over. Only the store says when a slot was written: what entries say of one another
/// could be forged by whoever forgot.
pub(super) fn collectable(
    repository: &Inner,
    log: &Log,
    now_ms: i64,
    options: &PruneOptions,
) -> Result<Vec<SnapshotId>> {
    let hold = hold_in_force(repository, log, now_ms, options)?;
    let mut due = Vec::new();
    for state in log.fold.uncollected_snapshots() {
        let is_due = match state.forgotten {
            Some(slot) => is_over(repository, slot, hold, now_ms)?,
            None => is_assumed(options, state) && hold.is_zero(),
        };
        if is_due {
            due.push(state.record.id);
        }
    }
    Ok(due)
}

/// How many snapshots are forgotten and not collected yet.
pub(super) fn count_forgotten(log: &Log, options: &PruneOptions) -> usize {
    let is_forgotten = |state: &&SnapshotState| state.forgotten.is_some() || is_assumed(options, state);
    log.fold.uncollected_snapshots().filter(is_forgotten).count()
}

/// Whether a dry run takes a snapshot to be forgotten.
fn is_assumed(options: &PruneOptions, state: &SnapshotState) -> bool {
    options.dry_run && !state.protected && options.assume_forgotten.contains(&state.record.id)
}

/// Collects every forgotten snapshot whose hold is over. No pack goes with the entries, so they hold on any state on which
/// the snapshots are forgotten still.
pub(super) fn collect(
    repository: &Inner,
    now_ms: i64,
    options: &PruneOptions,
    report: &mut PruneReport,
    ctx: Context<'_>,
) -> Result<()> {
    let log = repository.synchronise()?;
    check_hold(repository, &log, now_ms, options)?;
    let due = collectable(repository, &log, now_ms, options)?;
    let hold_changes = log.fold.hold_changes();
    for some in due.chunks(COLLECTED_MAX) {
        ctx.cancel.check()?;
        let mut collected = Vec::new();
        let appended = repository.append_if(&mut |log| {
            // A longer hold counts at once: the next collection goes by it.
            if log.fold.hold_changes() != hold_changes {
                return Ok(None);
            }
            // One that was brought back meanwhile stays.
            let is_forgotten =
                |id: &&SnapshotId| log.fold.snapshot(id).is_some_and(|state| state.forgotten.is_some());
            collected = some.iter().filter(is_forgotten).copied().collect();
            log.fold
                .check_condemn(log.fold.changed, &collected, &[], &Default::default())
                .map_err(|_| Error::new(ErrorKind::Internal, "a snapshot that is not forgotten was to go"))?;
            Ok(Some(Event::Condemn(Condemn {
                packs: HashList::default(),
                segments: HashList::default(),
                snapshots: collected.clone(),
                lossy: false,
            })))
        })?;
        if appended.is_none() {
            break;
        }
        report.collected.append(&mut collected);
    }
    Ok(())
}

/// The hold of a collection: that of the repository, or what this run was asked for if that is longer.
fn hold_in_force(repository: &Inner, log: &Log, now_ms: i64, options: &PruneOptions) -> Result<Duration> {
    let required = log.fold.hold_at(u64::MAX, now_ms, &mut |slot| written_ms(repository, log, slot))?;
    Ok(required.max(options.hold))
}

/// When a slot was written, by the store's clock.
fn written_ms(repository: &Inner, log: &Log, slot: u64) -> Result<i64> {
    Ok(repository.store.stat(&log.name_of(slot))?.modified_ms)
}

/// Refuses to delete anything where somebody collected a snapshot of late before the hold was over: whoever does that does
/// not follow the rules of this repository.
fn check_hold(repository: &Inner, log: &Log, now_ms: i64, options: &PruneOptions) -> Result<()> {
    let longest = options.hold.max(log.fold.longest_hold());
    if longest.is_zero() {
        return Ok(());
    }
    let in_ms = |time: Duration| i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let mut written = |slot: u64| written_ms(repository, log, slot);
    let mut checked = None;
    for (slot, forgotten) in log.fold.collected.iter().rev() {
        if checked == Some((slot, forgotten)) {
            continue;
        }
        checked = Some((slot, forgotten));
        let collected_ms = written(*slot)?;
        if now_ms.saturating_sub(collected_ms) >= in_ms(longest) {
            break;
        }
        // What was required when it was collected; a hold that came later says nothing of it.
        let required = log.fold.hold_at(*slot, collected_ms, &mut written)?;
        let hold_ms = in_ms(required.max(options.hold));
        if now_ms.saturating_sub(collected_ms) < hold_ms
            && collected_ms.saturating_sub(written(*forgotten)?)
                < hold_ms - CLOCKS_DIFFER_MS.min(hold_ms / 20)
        {
            return Err(Error::new(
                ErrorKind::PermissionDenied,
                format!("slot {slot} of the log collected a snapshot before the hold was over; nothing was deleted"),
            )
            .with_object(log.name_of(*slot))
            .with_remedy(
                "find out who did: its data is still there; prune with a shorter hold only if this was meant",
            ));
        }
    }
    Ok(())
}

/// Whether so long a time has passed since a slot was written.
pub(super) fn is_over(repository: &Inner, slot: u64, time: Duration, now_ms: i64) -> Result<bool> {
    if time.is_zero() {
        return Ok(true);
    }
    let time_ms = i64::try_from(time.as_millis()).unwrap_or(i64::MAX);
    let written_ms = repository.store.stat(&lock(&repository.log).name_of(slot))?.modified_ms;
    Ok(now_ms.saturating_sub(written_ms) >= time_ms)
}

/// Probes of who creates a name are let be for so long, whatever the caller says: one that vanished under its writer would
/// look as if the store had lost it.
const PROBES_KEPT_MS: i64 = 3_600_000;

/// Deletes the probes that runs which were cut short left behind. Those of runs that go on are young.
pub(super) fn sweep_probes(repository: &Inner, now_ms: i64, options: &PruneOptions) {
    let age_ms = i64::try_from(options.leftover_age.as_millis()).unwrap_or(i64::MAX);
    let Ok(probes) = repository.store.list_folder(names::PROBE) else { return };
    for probe in &probes.objects {
        let least_ms = if probe.name.as_str().contains('-') { age_ms.max(PROBES_KEPT_MS) } else { age_ms };
        if now_ms.saturating_sub(probe.modified_ms) >= least_ms {
            let _ = repository.store.delete(&probe.name);
        }
    }
}
