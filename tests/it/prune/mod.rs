//! Collecting garbage: whatever happens to it or beside it, nothing that is needed is lost.

mod crash;
mod damage;
mod hold;
mod marks;
mod options;
mod race;
mod rescue;
