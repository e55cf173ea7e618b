//! The arguments that say how a password or key is made that is to open a repository.

use std::env;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dr_core::{Credentials, KdfStrength};

use crate::credentials::{self, Place, Purpose};
use crate::error::{CliError, Result};
use crate::key_file::{self, Origin};
use crate::session::Session;

/// The longest label, in bytes.
const LABEL_BYTES_MAX: usize = 128;

/// What is written of a password or key.
#[derive(Debug, Args)]
pub(crate) struct KeySlotArgs {
    /// What a guess at the password costs: 64 MiB of memory, or 2 GiB
    #[arg(long, value_enum, default_value_t = Kdf::Standard)]
    kdf: Kdf,
    /// A label for the password or key; anybody who reads the store can read it
    #[arg(long, default_value = "")]
    pub(crate) label: String,
}

impl KeySlotArgs {
    /// What a guess costs.
    pub(crate) fn kdf(&self) -> KdfStrength {
        match self.kdf {
            Kdf::Standard => KdfStrength::Standard,
            Kdf::Strong => KdfStrength::Strong,
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kdf {
    Standard,
    Strong,
}

/// The password or key that is to open the repository.
#[derive(Debug, Args)]
pub(crate) struct NewKeyArgs {
    /// Take the first line of FILE as the new password [env: DR_NEW_PASSWORD_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) new_password_file: Option<PathBuf>,
    /// Run a program and take its output as the new password [env: DR_NEW_PASSWORD_COMMAND]
    #[arg(long, value_name = "COMMAND")]
    pub(crate) new_password_command: Option<String>,
    /// Take the key in FILE, which is made where it does not exist [env: DR_NEW_KEY_FILE]
    #[arg(long, value_name = "FILE")]
    pub(crate) new_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) slot: KeySlotArgs,
}

impl NewKeyArgs {
    /// Reads or asks for the new secret. Gives the key file that was made for it, too.
    pub(crate) fn read(&self, session: &Session) -> Result<(Credentials, Option<PathBuf>)> {
        if self.slot.label.len() > LABEL_BYTES_MAX {
            return Err(CliError::usage("the label is longer than 128 bytes"));
        }
        let place = credentials::place_new(self, |name| env::var_os(name))?;
        let made = make_key_file(&place)?;
        let read = credentials::read(&place, Purpose::Change, &session.signals, &session.output)?;
        Ok((read, made))
    }
}

/// Makes the key file that is named where there is none.
pub(crate) fn make_key_file(place: &Place) -> Result<Option<PathBuf>> {
    Ok(match place {
        Place::KeyFile(path) if key_file::create(path)? == Origin::Created => Some(path.clone()),
        _ => None,
    })
}
