//! The arguments that say which repository is copied from, and how it is opened.

use std::env;
use std::path::PathBuf;

use clap::Args;
use dr_core::Repository;
use dr_store::OpenMode;

use crate::credentials::{self, Purpose};
use crate::error::Result;
use crate::session::{Session, text_variable};

/// Which repository is copied from.
#[derive(Debug, Args)]
#[command(next_help_heading = "The repository to copy from")]
pub(crate) struct FromArgs {
    /// Where it is: a path or a URL
    #[arg(long, visible_alias = "from", value_name = "LOCATION")]
    pub(crate) from_repo: Option<String>,
    /// Take the first line of FILE as its password [env: DR_FROM_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) from_password_file: Option<PathBuf>,
    /// Run a program and take its output as its password [env: DR_FROM_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    pub(crate) from_password_command: Option<String>,
    /// Open it with the key in FILE [env: DR_FROM_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) from_key_file: Option<PathBuf>,
    /// Make a setting of its store, as -o does for the other (may be repeated)
    #[arg(long, visible_alias = "from-opt", value_name = "KEY=VALUE")]
    pub(crate) from_option: Vec<String>,
}

impl FromArgs {
    /// The location that was given, or that of the environment.
    pub(crate) fn location(&self) -> Option<String> {
        self.from_repo.clone().or_else(|| text_variable("DR_FROM_REPOSITORY"))
    }

    /// Opens the repository at a location.
    pub(crate) fn open(&self, location: &str, session: &Session) -> Result<Repository> {
        let store_args = session.global.store.with_options(&self.from_option);
        let store = session.open_store_at(location, OpenMode::Existing, &store_args)?;
        let place = credentials::place_from(self, |name| env::var_os(name))?;
        let credentials = credentials::read(&place, Purpose::OpenFrom, &session.signals, &session.output)?;
        session.open_with(store, &credentials)
    }
}
