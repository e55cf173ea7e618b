//! The real program: forgetting and collecting; and where something is in its way: a full disk, a lack of rights, a wrong
//! password, a signal.

mod disk;
mod forget;
mod interrupt;
mod password;
mod pipe;
mod prune;
mod streams;
mod user;
