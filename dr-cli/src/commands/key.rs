//! `dr key`

use std::io::Write;
use std::path::Path;

use clap::{Args, Subcommand};
use dr_core::{KdfCost, KeySlotChange, KeySlotInfo, KeySlotOptions, ObjectHash, Repository};
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::key_args::NewKeyArgs;
use crate::render::{json, text};
use crate::session::Session;

/// Lists, adds, removes and changes the passwords and keys that open the repository.
#[derive(Debug, Args)]
#[command(
    after_help = "Any of them opens everything. A new one is read back and tried before an old one is removed. Removing or changing one \
makes its objects go from the store: it then opens nothing. But nothing is sealed anew: whoever had a password, and kept \
copies of the objects that it opened or of the keys, reads what he gets hold of, old and new. Where that is to be feared, copy \
the snapshots to a new repository ('dr copy') and delete the old one."
)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List the passwords and keys
    List,
    /// Add a password or key
    Add(NewKeyArgs),
    /// Remove a password or key, though not the one that the repository is opened with
    Remove(RemoveArgs),
    /// Put a new password or key in the place of the one that the repository is opened with
    Passwd(NewKeyArgs),
}

#[derive(Debug, Args)]
struct RemoveArgs {
    /// The first digits of its id, as 'dr key list' shows it
    #[arg(value_name = "ID")]
    id: String,
}

#[derive(Debug, Serialize)]
struct KeysDocument {
    message_type: &'static str,
    schema: u32,
    keys: Vec<KeyRecord>,
}

#[derive(Debug, Serialize)]
struct KeyRecord {
    id: String,
    kind: &'static str,
    label: String,
    current: bool,
    kdf: Option<KdfRecord>,
    problem: Option<String>,
}

#[derive(Debug, Serialize)]
struct KdfRecord {
    memory_kib: u32,
    passes: u32,
    lanes: u32,
}

#[derive(Debug, Serialize)]
struct ChangeDocument<'a> {
    message_type: &'static str,
    schema: u32,
    added: Option<String>,
    removed: Option<String>,
    left_behind: &'a [String],
}

/// Runs the command.
pub(crate) fn run(args: &KeyArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    match &args.what {
        What::List => list(&repository, session),
        What::Add(new) => {
            set(new, session, |credentials, options| repository.add_key_slot(credentials, options))
        }
        What::Passwd(new) => {
            set(new, session, |credentials, options| repository.change_key_slot(credentials, options))
        }
        What::Remove(args) => {
            let id = find(&repository.key_slots()?, &args.id)?;
            say(&repository.remove_key_slot(&id)?, None, session)
        }
    }
}

/// Adds what the arguments say. A key file that was made for it stays, whatever happens: something may need it.
fn set(
    new: &NewKeyArgs,
    session: &Session,
    change: impl FnOnce(&dr_core::Credentials, &KeySlotOptions) -> dr_core::Result<KeySlotChange>,
) -> Result<()> {
    let (credentials, made) = new.read(session)?;
    let mut options = KeySlotOptions::new();
    options.kdf = new.slot.kdf();
    options.label.clone_from(&new.slot.label);
    let change = change(&credentials, &options)?;
    say(&change, made.as_deref(), session)
}

/// The key slot whose id begins so.
fn find(slots: &[KeySlotInfo], prefix: &str) -> Result<ObjectHash> {
    let prefix = prefix.to_ascii_lowercase();
    let mut found = slots.iter().filter(|slot| slot.id.to_string().starts_with(&prefix));
    match (found.next(), found.next()) {
        (Some(slot), None) if !prefix.is_empty() => Ok(slot.id),
        (None, _) => Err(CliError::usage(format!("there is no key '{prefix}'"))
            .with_remedy("'dr key list' shows those that there are")),
        _ => {
            Err(CliError::usage(format!("several keys begin with '{prefix}'"))
                .with_remedy("give more digits"))
        }
    }
}

fn list(repository: &Repository, session: &Session) -> Result<()> {
    let slots = repository.key_slots()?;
    let document =
        KeysDocument { message_type: "keys", schema: json::SCHEMA, keys: slots.iter().map(record).collect() };
    if session.output.is_json() {
        return session.output.document(&document);
    }
    let rows: Vec<Vec<String>> = slots.iter().map(row).collect();
    let mut data = session.output.data();
    let written = text::table(&mut data, &["ID", "Kind", "Cost of a guess", "Label", ""], &rows);
    written.and_then(|()| data.flush()).map_err(CliError::output)
}

fn kind(slot: &KeySlotInfo) -> &'static str {
    match (&slot.problem, slot.cost) {
        (Some(_), _) => "unknown",
        (None, Some(_)) => "password",
        (None, None) => "key",
    }
}

fn record(slot: &KeySlotInfo) -> KeyRecord {
    let kdf =
        |cost: KdfCost| KdfRecord { memory_kib: cost.memory_kib, passes: cost.passes, lanes: cost.lanes };
    KeyRecord {
        id: slot.id.to_string(),
        kind: kind(slot),
        label: slot.label.clone(),
        current: slot.is_current,
        kdf: slot.cost.map(kdf),
        problem: slot.problem.clone(),
    }
}

fn row(slot: &KeySlotInfo) -> Vec<String> {
    let cost =
        |cost: KdfCost| format!("{}, {} passes", text::bytes(u64::from(cost.memory_kib) << 10), cost.passes);
    let label = slot.problem.as_ref().unwrap_or(&slot.label);
    vec![
        json::short(&slot.id.to_string()).to_owned(),
        kind(slot).to_owned(),
        slot.cost.map_or_else(|| "-".to_owned(), cost),
        text::printable(label).into_owned(),
        if slot.is_current { "this one" } else { "" }.to_owned(),
    ]
}

/// Says what was changed.
fn say(change: &KeySlotChange, made: Option<&Path>, session: &Session) -> Result<()> {
    let id = |hash: &Option<ObjectHash>| hash.as_ref().map(ToString::to_string);
    let document = ChangeDocument {
        message_type: "key_change",
        schema: json::SCHEMA,
        added: id(&change.added),
        removed: id(&change.removed),
        left_behind: &change.left_behind,
    };
    for object in &change.left_behind {
        session.output.warn(&format!(
            "{object} could not be deleted: who has a password that was removed can still get at the keys with it; delete it \
             with the rights to do so"
        ));
    }
    session.output.summary(&document, |to| {
        if let Some(path) = made {
            writeln!(
                to,
                "made key file {}: keep a copy elsewhere",
                text::printable(&path.to_string_lossy())
            )?;
        }
        match (&document.added, &document.removed) {
            (Some(added), Some(removed)) => {
                writeln!(to, "{} took the place of {}", json::short(added), json::short(removed))
            }
            (Some(added), None) => writeln!(to, "added {}", json::short(added)),
            (None, Some(removed)) => writeln!(to, "removed {}", json::short(removed)),
            (None, None) => Ok(()),
        }
    })
}
