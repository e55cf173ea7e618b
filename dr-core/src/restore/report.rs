//! Gathers what could not be restored.

use std::collections::HashSet;
use std::fmt::Display;

use super::options::RestoreReport;
use super::problem;
use super::target::{MetadataPart, MetadataProblem};
use crate::error::Error;
use crate::format::snapshot::{Problem, ProblemKind};
use crate::limits::REPORTED_PROBLEMS_MAX;
use crate::observer::Context;

/// Gathers what could not be restored.
pub(super) struct Reporter<'a> {
    ctx: Context<'a>,
    pub(super) report: RestoreReport,
    /// What is not in the target though the snapshot has it, so that no other name is linked to what stands in its place.
    absent: HashSet<Vec<u8>>,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(ctx: Context<'a>) -> Reporter<'a> {
        Reporter { ctx, report: RestoreReport::default(), absent: HashSet::new() }
    }

    pub(super) fn note(&mut self, problem: Problem) {
        self.ctx.problem(&problem);
        if problem.kind != ProblemKind::Attributes {
            self.absent.insert(problem.path.clone());
        }
        self.report.problem_count += 1;
        if self.report.problems.len() < REPORTED_PROBLEMS_MAX {
            self.report.problems.push(problem);
        }
    }

    /// Whether a path of the snapshot was not restored.
    pub(super) fn is_absent(&self, path: &[u8]) -> bool {
        self.absent.contains(path)
    }

    /// Stored bytes are damaged or missing.
    pub(super) fn damaged(&mut self, path: &[u8], error: &Error) {
        self.note(problem(path, ProblemKind::Damaged, &WithCauses(error)));
    }

    /// The target could not be written.
    pub(super) fn failed(&mut self, path: &[u8], error: &Error) {
        self.note(problem(path, ProblemKind::NotRestored, &WithCauses(error)));
    }

    /// A file that was read back is not what the snapshot says.
    pub(super) fn differs(&mut self, path: &[u8], why: &str) {
        self.report.mismatches += 1;
        self.note(problem(
            path,
            ProblemKind::NotRestored,
            &format!("read back, it is not what the snapshot holds: {why}"),
        ));
    }

    /// Something that the snapshot does not have could not be deleted.
    pub(super) fn not_deleted(&mut self, path: &[u8], error: &Error) {
        let detail = format!("it is not in the snapshot, and could not be deleted: {}", WithCauses(error));
        self.note(problem(path, ProblemKind::NotRestored, &detail));
    }

    pub(super) fn not_restored(&mut self, path: &[u8], detail: &dyn Display) {
        self.note(problem(path, ProblemKind::NotRestored, detail));
    }

    /// An entry that is left out on purpose, or that only root can make.
    pub(super) fn skipped(&mut self, path: &[u8], reason: &dyn Display) {
        self.note(problem(path, ProblemKind::Skipped, reason));
    }

    /// The entry is there, but not all of its metadata.
    pub(super) fn metadata(&mut self, path: &[u8], problems: Vec<MetadataProblem>) {
        for MetadataProblem { what, error } in problems {
            let is_lost = matches!(what, MetadataPart::All);
            let detail = match error {
                Some(error) => format!("{what}: {error}"),
                None => format!("{what}: not restored, since this is not run as root"),
            };
            let kind = if is_lost { ProblemKind::NotRestored } else { ProblemKind::Attributes };
            self.note(problem(path, kind, &detail));
        }
    }

    pub(super) fn finish(self) -> RestoreReport {
        self.report
    }
}

/// An error with its causes, on one line.
struct WithCauses<'e>(&'e Error);

impl Display for WithCauses<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = std::error::Error::source(self.0);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}
