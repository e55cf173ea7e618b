//! Checking: the structure (log, index, snapshots, trees and every reference), and every byte where that is asked for.

mod data;
mod findings;
mod report;
mod scrub;
mod structure;

pub use report::{CheckOptions, CheckReport, Finding};
pub use scrub::scrub;

use std::collections::BTreeMap;

use findings::Findings;

use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::id::ObjectHash;
use crate::observer::Context;
use crate::repository::Repository;

/// How often a check that found something is made again because a collection ran beside it.
const ATTEMPTS_MAX: usize = 4;

/// The packs that are in the store: class and length by name.
type StoredPacks = BTreeMap<ObjectHash, (PackClass, u64)>;

impl Repository {
    /// Checks that every snapshot can be restored: that everything the log, the index, the snapshots and their trees
    /// refer to is there; and, where the options say so, that every byte decrypts and hashes as it should. Nothing is
    /// taken from the cache, and nothing is changed in the store.
    ///
    /// # Errors
    /// `Cancelled`, and what the store answers. Damage is no error: the report names it.
    pub fn check(&self, options: &CheckOptions, ctx: &Context<'_>) -> Result<CheckReport> {
        for _ in 1..ATTEMPTS_MAX {
            let (report, changed) = self.check_once(options, ctx)?;
            // What a collector condemned since may be gone without anything being wrong.
            if report.is_intact() || self.0.synchronise()?.fold.changed == changed {
                return Ok(report);
            }
        }
        Ok(self.check_once(options, ctx)?.0)
    }

    /// One check, and the state of the log that it was made on.
    fn check_once(&self, options: &CheckOptions, ctx: &Context<'_>) -> Result<(CheckReport, u64)> {
        let repository = &self.0;
        let findings = Findings::default();
        let log = structure::check_log(repository, &findings)?;
        let index = structure::check_index(repository, &log, &findings, *ctx)?;
        let stored = structure::check_packs(repository, &index, &log, &findings)?;
        structure::check_objects(repository, &log, &findings)?;
        let snapshots = structure::check_snapshots(repository, &log, &index, &stored, &findings, *ctx)?;
        let mut bytes_read = 0;
        if options.read_data {
            bytes_read = data::check_data(repository, &index, &stored, &findings, *ctx)?;
        }
        let mut report = findings.into_report();
        report.snapshots = snapshots;
        report.packs = index.packs().len() as u64;
        report.chunks = index.chunks();
        report.bytes_read = bytes_read;
        Ok((report, log.fold.changed))
    }
}
