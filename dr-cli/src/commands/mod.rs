//! The commands: each parses its arguments, calls the engine once, and renders what it answers.

pub(crate) mod backup;
pub(crate) mod check;
mod check_reduce;
pub(crate) mod completions;
pub(crate) mod config;
pub(crate) mod forget;
pub(crate) mod hold;
pub(crate) mod init;
pub(crate) mod ls;
pub(crate) mod man;
pub(crate) mod mark;
pub(crate) mod prune;
pub(crate) mod repair;
pub(crate) mod restore;
pub(crate) mod snapshots;
pub(crate) mod stats;
pub(crate) mod version;
