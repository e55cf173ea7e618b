//! The commands: each parses its arguments, calls the engine once, and renders what it answers.

pub(crate) mod backup;
pub(crate) mod cache;
pub(crate) mod cat;
pub(crate) mod check;
mod check_reduce;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod copy;
pub(crate) mod diff;
pub(crate) mod dump;
pub(crate) mod find;
pub(crate) mod forget;
pub(crate) mod hold;
pub(crate) mod init;
pub(crate) mod key;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod mark;
pub(crate) mod merge;
#[cfg(feature = "mount")]
pub(crate) mod mount;
pub(crate) mod prune;
pub(crate) mod put;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod rewrite;
#[cfg(feature = "serve")]
pub(crate) mod serve;
pub(crate) mod snapshots;
pub(crate) mod stats;
pub(crate) mod version;
pub(crate) mod versions;
