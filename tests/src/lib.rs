//! The shared test toolkit.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on should stop")]

pub mod api;
pub mod compare;
pub mod damage;
pub mod disk;
pub mod flaky;
pub mod garage;
pub mod garbage;
pub mod history;
pub mod hook;
pub mod inject;
pub mod memory_source;
pub mod mounted;
pub mod repo;
pub mod servers;
pub mod shell;
pub mod simulation;
pub mod steps;
pub mod terminal;
pub mod tidy;
pub mod tree;

pub use compare::assert_same_tree;
pub use inject::{TestClock, TestEntropy};
pub use repo::{TestRepo, key, noise};
pub use tree::{Node, TreeSpec};

fn noise_of(material: &[u8], bytes: usize) -> Vec<u8> {
    let mut output = vec![0; bytes];
    blake3::Hasher::new().update(material).finalize_xof().fill(&mut output);
    output
}
