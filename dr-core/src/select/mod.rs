//! What of a tree is meant: patterns over the paths of a snapshot.
//!
//! Nothing here touches a file system. Paths and patterns are bytes.

mod exclusion;
mod glob;
mod patterns;
mod unreaching;

#[cfg(test)]
mod tests;

pub use exclusion::Exclusion;
pub(crate) use patterns::Verdict;
pub use patterns::{Case, Match, PathKind, Patterns};
pub use unreaching::Unreaching;
