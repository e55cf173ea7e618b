//! Checking: the structure (log, index, snapshots, trees and every reference), and every byte where that is asked for.

mod data;
mod findings;
mod report;
mod scrub;
mod structure;
mod subset;

pub use report::{CheckOptions, CheckReport, Finding};
pub use scrub::scrub;
pub use subset::Subset;

use std::collections::{BTreeMap, HashSet};

use findings::Findings;

use crate::error::Result;
use crate::format::config::LogMode;
use crate::format::envelope::PackClass;
use crate::id::ObjectHash;
use crate::observer::{Context, Event, Stage};
use crate::repository::Repository;

/// The packs that are in the store: class and length by name.
type StoredPacks = BTreeMap<ObjectHash, (PackClass, u64)>;

/// How often a check is made again because the repository changed under it.
const RERUNS_MAX: usize = 3;

impl Repository {
    /// Checks that every snapshot can be restored: that everything the log, the index, the snapshots and their trees
    /// refer to is there; and, where the options say so, that every byte decrypts and hashes as it should. Nothing is
    /// taken from the cache, and nothing is changed in the store.
    ///
    /// # Errors
    /// `Cancelled`, and what the store answers. Damage is no error: the report names it.
    pub fn check(&self, options: &CheckOptions, ctx: &Context<'_>) -> Result<CheckReport> {
        for _ in 0..RERUNS_MAX {
            let (report, changed) = self.check_once(options, ctx)?;
            // What was looked for may have been moved, or collected, while the check ran.
            if report.is_intact() || self.0.synchronise()?.fold.changed == changed {
                return Ok(self.conclude(options, report));
            }
        }
        let (report, _) = self.check_once(options, ctx)?;
        Ok(self.conclude(options, report))
    }

    /// Remembers on this machine which packs are damaged, so that the next backup stores again what was in them.
    fn conclude(&self, options: &CheckOptions, report: CheckReport) -> CheckReport {
        let mut damaged: HashSet<ObjectHash> = report.damaged_packs.iter().copied().collect();
        if !options.read_data || options.subset.is_some() {
            // What was not read is no better than it was.
            damaged.extend(self.0.distrusted());
        }
        self.0.remember_distrusted(&damaged);
        report
    }

    fn check_once(&self, options: &CheckOptions, ctx: &Context<'_>) -> Result<(CheckReport, u64)> {
        let repository = &self.0;
        let findings = Findings::default();
        let log = structure::check_log(repository, &findings)?;
        let begin = |stage| ctx.observer.event(&Event::Stage(stage));
        begin(Stage::Index);
        let index = structure::check_index(repository, &log, &findings, *ctx)?;
        begin(Stage::Packs);
        let stored = structure::check_packs(repository, &index, &log, &findings)?;
        structure::check_objects(repository, &log, &findings)?;
        begin(Stage::Trees);
        let snapshots = structure::check_snapshots(repository, &log, &index, &stored, &findings, *ctx)?;
        let mut bytes_read = 0;
        if options.read_data {
            begin(Stage::Contents);
            let chosen = subset::choose(&stored, options.subset, &*repository.entropy)?;
            bytes_read = data::check_data(repository, &index, &chosen, &findings, *ctx)?;
        }
        let mut report = findings.into_report();
        report.snapshots = snapshots;
        report.packs = index.packs().len() as u64;
        report.chunks = index.chunks();
        report.bytes_read = bytes_read;
        report.create_if_absent = repository.config.mode == LogMode::CreateIfAbsent;
        report.head = log.fold.next.saturating_sub(1);
        Ok((report, log.fold.changed))
    }
}
