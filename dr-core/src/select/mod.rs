//! What of a tree is meant: patterns over the paths of a snapshot.
//!
//! Nothing here touches a file system. Paths and patterns are bytes.

mod glob;
mod patterns;

#[cfg(test)]
mod tests;

pub use patterns::{Case, Match, PathKind, Patterns};
