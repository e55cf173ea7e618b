//! Snapshots: what one is, and how one is chosen.

mod catalog;
mod record;
mod retention;
mod select;

pub use crate::format::snapshot::{Origin, Problem, ProblemKind, Relation, Totals};
pub use catalog::{SnapshotFolder, SnapshotItem, SnapshotPlace, SnapshotTree};
pub use record::Snapshot;
pub(crate) use record::Standing;
pub use retention::{Decision, Group, GroupBy, KeepPolicy, KeepReason, Period, Unit};
pub(crate) use retention::{Timed, decide, dropped};
pub(crate) use select::Selector;
pub use select::SnapshotFilter;
