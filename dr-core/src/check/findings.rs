//! Gathers findings from several threads.

use std::fmt::Display;
use std::sync::Mutex;

use super::report::{CheckReport, Finding};
use crate::error::Error;
use crate::id::ObjectHash;
use crate::observer::lock;

/// At most this many errors, and as many notes, are kept.
const FINDINGS_MAX: usize = 1000;

/// Findings so far.
#[derive(Debug, Default)]
pub(super) struct Findings(Mutex<CheckReport>);

impl Findings {
    /// Something is lost, or would not be noticed if it were.
    pub(super) fn error(&self, object: impl Display, detail: impl Display) {
        let mut report = lock(&self.0);
        report.error_count += 1;
        if report.errors.len() < FINDINGS_MAX {
            report.errors.push(Finding { object: object.to_string(), detail: detail.to_string() });
        }
    }

    /// An error of the engine, on the object it names, or else on `object`.
    pub(super) fn failure(&self, object: impl Display, error: &Error) {
        match error.object() {
            Some(named) => self.error(named, format_args!("{error} (needed by {object})")),
            None => self.error(object, error),
        }
    }

    /// A pack is missing or damaged.
    pub(super) fn pack(&self, pack: &ObjectHash) {
        lock(&self.0).damaged_packs.push(*pack);
    }

    /// Something is there and of no use.
    pub(super) fn note(&self, object: impl Display, detail: impl Display) {
        let mut report = lock(&self.0);
        if report.notes.len() < FINDINGS_MAX {
            report.notes.push(Finding { object: object.to_string(), detail: detail.to_string() });
        }
    }

    pub(super) fn into_report(self) -> CheckReport {
        let mut report = self.0.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
        report.errors.sort_by(|a, b| a.object.cmp(&b.object));
        report.damaged_packs.sort_unstable();
        report.damaged_packs.dedup();
        report
    }
}
