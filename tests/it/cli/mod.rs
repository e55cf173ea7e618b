//! The real program: forgetting and collecting; and where something is in its way: a full disk, a lack of rights, a wrong
//! password, a signal.

mod disk;
mod forget;
mod history;
mod inspect;
mod interrupt;
mod memory;
mod mount;
mod password;
mod pipe;
mod prune;
mod restore;
mod select;
mod serve;
mod streams;
mod user;
