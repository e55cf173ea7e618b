//! `dr init`

use std::env;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use dr_core::{CreateOptions, Credentials, Error, ErrorKind, Repository, RepositoryOptions};
use dr_store::{OpenMode, Store};
use serde::Serialize;

use crate::credentials::{self, Place, Purpose};
use crate::error::Result;
use crate::from_args::FromArgs;
use crate::key_args::{KeySlotArgs, make_key_file};
use crate::quantity;
use crate::render::{json, text};
use crate::session::Session;

/// Makes a new repository. With --key-file (or DR_KEY_FILE) a file that does not exist is made, with a new random key
/// that only its owner may read: keep a copy of it, for without it nobody opens the repository.
#[derive(Debug, Args)]
#[command(
    after_help = "With --key-file or DR_KEY_FILE, a file that does not exist is made, with a new random \
key that only its owner may read.\nKeep a copy of it elsewhere: without it nobody opens the repository.\n\
With --from-repo the new repository gets the chunker and the keys of ids of another one: 'dr copy' between them then copies only \
what is missing. Everything is sealed under keys of its own; but whoever can open both can tell which chunks they share."
)]
pub(crate) struct InitArgs {
    #[command(flatten)]
    slot: KeySlotArgs,
    /// Hold forgotten snapshots so long before 'dr prune' may take them, as in 14d; 'dr hold' changes it
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    hold: Option<Duration>,
    /// For a store that cannot decide between several writers (sftp, WebDAV, some servers): prune it only while nobody
    /// writes, with --exclusive
    #[arg(long)]
    siblings: bool,
    /// The repository whose chunker and keys of ids the new one gets, so that 'dr copy' between them copies only what is missing
    #[command(flatten)]
    from: FromArgs,
}

#[derive(Debug, Serialize)]
struct Initialized<'a> {
    message_type: &'static str,
    schema: u32,
    id: String,
    repository: &'a str,
}

/// Runs the command.
pub(crate) fn run(args: &InitArgs, session: &Session) -> Result<()> {
    let mut options = CreateOptions::new();
    if let Some(location) = &args.from.from_repo {
        options = options.sharing_ids_with(&args.from.open(location, session)?);
    }
    let store = session.open_store(OpenMode::Create)?;
    let place = credentials::place(&session.global, |name| env::var_os(name))?;
    let new_key_file = make_key_file(&place)?;
    let new_key_file = new_key_file.as_deref();
    let credentials = credentials::read(&place, Purpose::Create, &session.signals, &session.output)?;
    options.kdf = args.slot.kdf();
    options.label.clone_from(&args.slot.label);
    options.siblings = args.siblings;
    options.hold = args.hold.unwrap_or_default();
    let created = Repository::create(store.clone(), &credentials, &options, session.repository_options());
    let repository = created.inspect_err(|error| withdraw(new_key_file, &store, &credentials, error))?;
    let endpoint = store.endpoint();
    let value = Initialized {
        message_type: "initialized",
        schema: json::SCHEMA,
        id: repository.id(),
        repository: &endpoint,
    };
    session.output.summary(&value, |to| {
        writeln!(to, "made repository {} at {}", json::short(&value.id), text::printable(&endpoint))?;
        match new_key_file {
            Some(path) => writeln!(
                to,
                "made key file {}: keep a copy elsewhere, without it nothing can be restored",
                text::printable(&path.to_string_lossy())
            ),
            None if matches!(place, Place::KeyFile(_)) => Ok(()),
            None => writeln!(to, "keep the password: without it nothing can be restored"),
        }
    })
}

/// Takes a new key file back where a repository was there before, which the new key provably does not open. Otherwise
/// it stays: something that was written may need it.
fn withdraw(new_key_file: Option<&Path>, store: &Arc<dyn Store>, credentials: &Credentials, error: &Error) {
    let Some(path) = new_key_file.filter(|_| error.kind() == ErrorKind::AlreadyExists) else { return };
    let opened = Repository::open(store.clone(), credentials, RepositoryOptions::new());
    if opened.is_err_and(|error| error.kind() == ErrorKind::WrongCredentials) {
        let _ = std::fs::remove_file(path);
    }
}
