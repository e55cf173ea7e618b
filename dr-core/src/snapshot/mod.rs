//! Snapshots: what one is, and how one is chosen.

mod record;
mod select;

pub use crate::format::snapshot::{Problem, ProblemKind, Totals};
pub use record::Snapshot;
pub(crate) use record::Standing;
pub(crate) use select::Selector;
pub use select::SnapshotFilter;
