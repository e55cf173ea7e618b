//! A backup engine.

mod chunker;
mod crypto;
mod entropy;
mod error;
mod format;
mod frame;
mod id;
mod index;
mod limits;
mod log;
mod pack;
mod source;
mod time;
mod tree;

pub use crypto::{Credentials, KdfStrength};
pub use entropy::{Entropy, SystemEntropy};
pub use error::{Error, ErrorKind, Result};
pub use id::{ChunkId, ObjectHash, SnapshotId};
