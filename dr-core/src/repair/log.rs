//! Makes a newest slot of the log void that was written bad, so that writers can go on.

use std::collections::HashSet;

use dr_store::StoreErrorKind;

use super::{IndexRepair, is_of_others, stored_packs};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;
use crate::format::log::{Condemn, Event};
use crate::format::names;
use crate::id::ObjectHash;
use crate::limits::SEALED_SLOT_BYTES_MAX;
use crate::log::{Behind, Log, SegmentPlace, is_written_bad};
use crate::observer::Context;
use crate::repository::{Inner, Repository, check_bytes, read_segment};

/// How often the slot is read, once whole and once as a range each time: an answer that changes is the store's failing.
const READS: usize = 3;

/// What a repair of the log may do.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LogRepairOptions {
    /// Only say what is wrong and what would be done.
    pub dry_run: bool,
    /// Promises that nobody else backs up, prunes or repairs meanwhile: a collection whose entry is made void must not go on
    /// deleting.
    pub exclusive: bool,
    /// Gives up packs that the index lists and the store does not have. The entry that was lost may have been the one that let
    /// a collection delete them.
    pub give_up_missing: bool,
}

impl LogRepairOptions {
    /// Nothing is promised, and nothing given up.
    pub fn new() -> LogRepairOptions {
        LogRepairOptions::default()
    }
}

/// What is wrong with the log, and what a repair did.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct LogRepair {
    /// The newest slot, where it was written bad, and why it does not open. Whatever it was to say did not happen.
    pub bad: Option<(u64, String)>,
    /// Packs that the index lists and that are not there: given up, where the repair was made.
    pub packs_missing: Vec<ObjectHash>,
    /// Live segments of the index that are not there: replaced, where the repair was made.
    pub segments_missing: Vec<ObjectHash>,
    /// The slot is void now.
    pub is_repaired: bool,
    /// What was done about the missing segments.
    pub index: IndexRepair,
}

impl Repository {
    /// Makes the newest slot void, where it was written bad, with an entry behind it that confirms its bytes. Any other damage to
    /// the log is an error: only another copy of the slot mends that.
    ///
    /// # Errors
    /// `Corrupt` where the log is damaged in another way, or the store does not answer the same twice; `UnsupportedFormat` where a
    /// newer program has written; `InvalidInput` where a promise is missing; what the store answers.
    pub fn repair_log(&self, options: &LogRepairOptions, ctx: &Context<'_>) -> Result<LogRepair> {
        let repository = &self.0;
        if repository.config.mode == LogMode::Siblings {
            return Err(Error::new(ErrorKind::InvalidInput, "a log of siblings cannot be repaired")
                .with_object(repository.store.endpoint())
                .with_remedy("copy the damaged entry from another copy of the repository"));
        }
        // Nothing is made void by what another machine says of the log.
        repository.fold_from_genesis()?;
        let log = repository.synchronise()?;
        let mut report = LogRepair::default();
        let Some(bad) = log.bad_head().cloned() else {
            log.check_writable().map_err(|error| {
                if error.kind() == ErrorKind::UnsupportedFormat {
                    error
                } else {
                    error.with_remedy(OTHER_COPY)
                }
            })?;
            // A repair that was cut short is ended.
            report.segments_missing = missing_segments(repository, &log, ctx)?;
            if !options.dry_run {
                self.replace_segments(&mut report, ctx)?;
            }
            return Ok(report);
        };
        confirm_bad(repository, &log, bad.slot)?;
        (report.packs_missing, report.segments_missing) = missing(repository, &log, ctx)?;
        report.bad = Some((bad.slot, bad.why));
        if options.dry_run {
            return Ok(report);
        }
        check_promises(&report, bad.slot, options)?;
        let packs = repository.put_list(&report.packs_missing)?;
        let is_lossy = !report.packs_missing.is_empty();
        let appended = repository.append_behind(Behind::BadSlot, &mut |log| {
            if log.bad_head().is_none_or(|head| head.slot != bad.slot) {
                return Ok(None);
            }
            confirm_bad(repository, log, bad.slot)?;
            // Whatever was planned on the state before is worth nothing: an entry may have been lost.
            Ok(Some(Event::Condemn(Condemn {
                packs: packs.clone(),
                segments: Default::default(),
                snapshots: Vec::new(),
                lossy: is_lossy,
            })))
        })?;
        if appended.is_none() {
            return Err(Error::new(ErrorKind::StoreUnavailable, "somebody else wrote to the log meanwhile")
                .with_remedy("run the repair again, to see what is left to be done"));
        }
        report.is_repaired = true;
        self.replace_segments(&mut report, ctx)?;
        Ok(report)
    }

    fn replace_segments(&self, report: &mut LogRepair, ctx: &Context<'_>) -> Result<()> {
        if !report.segments_missing.is_empty() {
            report.index = self.repair_index(ctx).map_err(|error| {
                error.with_remedy(
                    "the log says nothing wrong, but run 'dr repair index' before anybody backs up",
                )
            })?;
        }
        Ok(())
    }
}

const OTHER_COPY: &str = "only a newest slot that was written bad can be made void: copy this one from another copy of the \
                          repository, from the store's backup or its versions";

/// Reads the slot again and again: it must be the same bytes each time, and never an entry.
fn confirm_bad(repository: &Inner, log: &Log, slot: u64) -> Result<()> {
    let name = names::slot(slot);
    for _ in 0..READS {
        let length = repository.store.stat(&name)?.bytes;
        check_bytes(&name, length, SEALED_SLOT_BYTES_MAX)?;
        let whole = repository.store.get(&name)?;
        let range =
            if length > 0 { repository.store.get_range(&name, 0..length)? } else { Default::default() };
        let is_same = ObjectHash::of_parts([&whole[..]]) == log.head && whole == range;
        if !is_same || !is_written_bad(&repository.ring, slot, &whole) {
            return Err(Error::corrupt("the store does not give the same bytes of the slot every time")
                .with_object(name)
                .with_remedy("nothing was made void: find out what is wrong with the store first"));
        }
    }
    Ok(())
}

/// The packs that the index lists, and the live segments, that are not there.
fn missing(repository: &Inner, log: &Log, ctx: &Context<'_>) -> Result<(Vec<ObjectHash>, Vec<ObjectHash>)> {
    let is_gone = |name: &dr_store::Name| match repository.store.stat(name) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == StoreErrorKind::NotFound => Ok(true),
        Err(error) => Err(Error::from(error)),
    };
    let segments = missing_segments(repository, log, ctx)?;
    // Also from tables in the cache, whose segments are gone.
    let index = repository.index(log)?;
    let stored: HashSet<ObjectHash> =
        stored_packs(repository, &|_| false)?.into_iter().map(|(hash, ..)| hash).collect();
    let mut packs = Vec::new();
    for pack in index.packs().into_iter().filter(|pack| !stored.contains(&pack.hash)) {
        ctx.cancel.check()?;
        if is_gone(&names::pack(pack.class, &pack.hash))? {
            packs.push(pack.hash);
        }
    }
    packs.sort_unstable();
    Ok((packs, segments))
}

/// The live segments that are not there, or cannot be read: what a machine with a copy in its cache still finds in them may
/// be gone.
fn missing_segments(repository: &Inner, log: &Log, ctx: &Context<'_>) -> Result<Vec<ObjectHash>> {
    let mut segments = Vec::new();
    for place in log.fold.segments() {
        ctx.cancel.check()?;
        let SegmentPlace::Object(hash) = place else { continue };
        match read_segment(repository, place) {
            Ok(_) => {}
            Err(error) if is_of_others(&error) => return Err(error),
            Err(error) if error.is_damage() => segments.push(*hash),
            Err(error) => return Err(error),
        }
    }
    Ok(segments)
}

fn check_promises(report: &LogRepair, slot: u64, options: &LogRepairOptions) -> Result<()> {
    let refused =
        |message: String| Err(Error::new(ErrorKind::InvalidInput, message).with_object(names::slot(slot)));
    if !options.exclusive {
        return refused(format!("slot {slot} of the log is bad, and whatever it was to say would be undone"))
            .map_err(|error: Error| {
                error.with_remedy(
                    "copy it from another copy of the repository where there is a good one; else stop all backups and \
                     prunes of this repository, and promise it with --exclusive",
                )
            });
    }
    let count = report.packs_missing.len();
    if count > 0 && !options.give_up_missing {
        return refused(format!("the index lists {count} packs that are not in the store")).map_err(|error: Error| {
            error.with_remedy(
                "the lost entry may be that of a prune, which deleted them; copy them from another copy of the \
                 repository where there is one; else give them up with --give-up-missing",
            )
        });
    }
    Ok(())
}
