//! The real program where something is in its way: a full disk, a lack of rights, a wrong password, a signal.

mod disk;
mod interrupt;
mod password;
mod pipe;
mod user;
