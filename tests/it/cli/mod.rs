//! The real program: forgetting and collecting; profiles, hooks and who else is told of a run; and where something is in its way: a full disk, a lack of rights, a wrong
//! password, a signal.

mod cipher;
mod completions;
mod disk;
mod env;
mod forget;
mod history;
mod hooks;
mod inspect;
mod interrupt;
mod json;
mod keys;
mod memory;
mod metrics;
mod mount;
mod password;
mod pipe;
mod profile;
mod progress;
mod prune;
mod reference;
mod restore;
mod select;
mod serve;
mod shard;
mod streams;
mod tasks;
mod terminal;
mod user;
