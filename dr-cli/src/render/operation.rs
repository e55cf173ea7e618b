//! What long calls are called, and what their problems and stages mean, in words.

use dr_core::{ProblemKind, Stage};

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A backup.
    Backup,
    /// A restore.
    Restore(Skipping),
    /// A restore that only says what it would do.
    DryRestore,
    /// A check; its report names what it found.
    Check,
    /// An archive that is written.
    Dump,
    /// A collection of garbage.
    Prune,
    /// A repair.
    Repair,
    /// A copy from another repository.
    Copy,
    /// A rewrite, or a merge.
    Rewrite,
}

/// Whether a restore leaves something out because it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skipping {
    /// It was: what is left out is no problem.
    Wanted,
    /// It was not.
    Unwanted,
}

impl Operation {
    /// What programs and people are told it is.
    pub(super) fn name(self) -> &'static str {
        match self {
            Operation::Backup => "backup",
            Operation::Restore(_) | Operation::DryRestore => "restore",
            Operation::Check => "check",
            Operation::Dump => "dump",
            Operation::Prune => "prune",
            Operation::Repair => "repair",
            Operation::Copy => "copy",
            Operation::Rewrite => "rewrite",
        }
    }

    /// What a problem means here, in words.
    pub(super) fn meaning(self, kind: ProblemKind) -> &'static str {
        match (self, kind) {
            (Operation::Restore(_) | Operation::DryRestore, ProblemKind::Attributes) => {
                "not all attributes restored"
            }
            (Operation::Restore(_) | Operation::DryRestore, ProblemKind::Damaged) => "damaged, not restored",
            (Operation::Restore(_) | Operation::DryRestore, ProblemKind::Skipped) => "left out",
            (Operation::Restore(_) | Operation::DryRestore, _) => "not restored",
            (Operation::Dump, _) => "left out",
            (Operation::Copy, ProblemKind::Damaged) => "damaged, not copied",
            (_, ProblemKind::Missing) => "not there",
            (_, ProblemKind::Unreadable) => "not saved",
            (_, ProblemKind::Vanished) => "not saved: vanished while it was read",
            (_, ProblemKind::Changed) => "changed while it was read",
            (_, ProblemKind::Attributes) => "not all attributes saved",
            _ => "problem",
        }
    }

    /// Whether a problem of this kind was asked for.
    pub(super) fn expects(self, kind: ProblemKind) -> bool {
        self == Operation::Restore(Skipping::Wanted) && kind == ProblemKind::Skipped
    }
}

/// Whether all contents are there in spite of a problem.
pub(super) fn is_minor(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::Attributes | ProblemKind::Skipped)
}

/// What goes on in a stage, in words.
pub(super) fn stage_name(stage: Stage) -> &'static str {
    match stage {
        Stage::Index => "reading the index",
        Stage::Packs => "listing packs",
        Stage::Trees => "following trees",
        Stage::Contents => "reading contents",
        Stage::Repack => "rewriting packs",
        Stage::Delete => "deleting",
        _ => "working",
    }
}
