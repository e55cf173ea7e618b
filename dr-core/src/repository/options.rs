//! How a repository is opened.

use std::path::PathBuf;
use std::sync::Arc;

use crate::crypto::Cipher;
use crate::entropy::{Entropy, SystemEntropy};
use crate::time::{Clock, SystemClock};

/// How a repository is opened: where copies and state are kept on this machine, and what is injected.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RepositoryOptions {
    /// Where copies of the index are kept. Deleting it costs time, never data. `None`: in memory.
    pub cache_dir: Option<PathBuf>,
    /// Where the newest slot of the log that this client has seen is kept, so that a store that goes back in time is
    /// noticed. `None`: not kept.
    pub state_dir: Option<PathBuf>,
    /// Takes a log that is shorter than, or different from, what this client has seen before for the truth from now on.
    pub accept_rollback: bool,
    /// What new objects are sealed with.
    pub cipher: Cipher,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Gives randomness. Whoever replaces it in production loses the secrecy of everything written.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for RepositoryOptions {
    fn default() -> Self {
        RepositoryOptions {
            cache_dir: None,
            state_dir: None,
            accept_rollback: false,
            cipher: Cipher::Auto,
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

impl RepositoryOptions {
    /// No cache and no state on this machine, the faster cipher, the system's clock and randomness.
    pub fn new() -> RepositoryOptions {
        RepositoryOptions::default()
    }

    /// Keeps copies of the index in a directory.
    #[must_use]
    pub fn cache_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.cache_dir = Some(directory.into());
        self
    }

    /// Keeps what was seen of each log in a directory.
    #[must_use]
    pub fn state_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.state_dir = Some(directory.into());
        self
    }

    /// Accepts a log that went back in time.
    #[must_use]
    pub fn accept_rollback(mut self) -> Self {
        self.accept_rollback = true;
        self
    }

    /// Seals new objects with `cipher`. What is there is read whatever it was sealed with.
    #[must_use]
    pub fn cipher(mut self, cipher: Cipher) -> Self {
        self.cipher = cipher;
        self
    }

    /// Takes the time from `clock`.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Takes randomness from `entropy`.
    #[must_use]
    pub fn with_entropy(mut self, entropy: Arc<dyn Entropy>) -> Self {
        self.entropy = entropy;
        self
    }
}
