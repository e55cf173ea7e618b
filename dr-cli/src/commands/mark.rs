//! `dr unforget`, `dr protect` and `dr tag`: what changes snapshots without touching their data.

use std::collections::HashSet;
use std::ffi::OsString;

use clap::Args;
use dr_core::{Repository, SnapshotId, TagChange};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::{json, text};
use crate::selector::find_all;
use crate::session::Session;

/// Brings forgotten snapshots back.
#[derive(Debug, Args)]
pub(crate) struct UnforgetArgs {
    /// Ids of forgotten snapshots, or their beginnings ('dr snapshots --forgotten' lists them)
    #[arg(value_name = "ID", required_unless_present = "all")]
    snapshots: Vec<String>,
    /// All that are forgotten and pass the filter
    #[arg(long, conflicts_with = "snapshots")]
    all: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Keeps snapshots from ever being forgotten.
#[derive(Debug, Args)]
pub(crate) struct ProtectArgs {
    /// The snapshots
    #[arg(value_name = "SNAP", required = true)]
    snapshots: Vec<OsString>,
    /// End the protection
    #[arg(long)]
    remove: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

/// Changes the tags of snapshots.
#[derive(Debug, Args)]
pub(crate) struct TagArgs {
    /// The snapshots; all that pass the filter where none is named
    #[arg(value_name = "SNAP")]
    snapshots: Vec<OsString>,
    /// Add this tag (may be repeated, or joined by commas)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    add: Vec<String>,
    /// Remove this tag
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    remove: Vec<String>,
    /// Bear these tags and no others; '' for none
    #[arg(long, value_name = "TAG", value_delimiter = ',', conflicts_with_all = ["add", "remove"])]
    set: Vec<String>,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct MarkDocument {
    message_type: &'static str,
    schema: u32,
    snapshots: Vec<String>,
}

/// Runs `dr unforget`.
pub(crate) fn unforget(args: &UnforgetArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let forgotten = repository.forgotten_snapshots(&args.filter.to_filter())?;
    let mut ids = Vec::new();
    if args.all {
        ids.extend(forgotten.iter().map(|snapshot| snapshot.id));
    }
    for wanted in &args.snapshots {
        let wanted = wanted.to_lowercase();
        let mut found = forgotten.iter().filter(|snapshot| snapshot.id.to_string().starts_with(&wanted));
        match (found.next(), found.next()) {
            (Some(snapshot), None) => ids.push(snapshot.id),
            (None, _) => {
                return Err(CliError::usage(format!("no forgotten snapshot's id begins with {wanted}"))
                    .with_remedy("'dr snapshots --forgotten' lists those that can come back"));
            }
            _ => return Err(CliError::usage(format!("several ids begin with {wanted}: give more digits"))),
        }
    }
    repository.unforget(&ids)?;
    report("unforget", "brought back", &ids, session)
}

/// Runs `dr protect`.
pub(crate) fn protect(args: &ProtectArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let ids = find(&args.snapshots, &args.filter, &repository)?;
    if args.remove { repository.unprotect(&ids) } else { repository.protect(&ids) }?;
    report("protect", if args.remove { "no longer protected:" } else { "protected" }, &ids, session)
}

/// Runs `dr tag`.
pub(crate) fn tag(args: &TagArgs, session: &Session) -> Result<()> {
    let changes = [
        (!args.set.is_empty())
            .then(|| TagChange::Set(args.set.iter().filter(|tag| !tag.is_empty()).cloned().collect())),
        (!args.add.is_empty()).then(|| TagChange::Add(args.add.clone())),
        (!args.remove.is_empty()).then(|| TagChange::Remove(args.remove.clone())),
    ];
    if changes.iter().all(Option::is_none) {
        return Err(CliError::usage("say what to change, with --add, --remove or --set"));
    }
    let repository = session.open_repository()?;
    let ids = if args.snapshots.is_empty() {
        repository.snapshots(&args.filter.to_filter())?.iter().map(|snapshot| snapshot.id).collect()
    } else {
        find(&args.snapshots, &args.filter, &repository)?
    };
    let mut changed: HashSet<SnapshotId> = HashSet::new();
    for change in changes.into_iter().flatten() {
        changed.extend(repository.tag(&ids, &change)?);
    }
    let changed: Vec<SnapshotId> = ids.into_iter().filter(|id| changed.remove(id)).collect();
    report("tag", "changed the tags of", &changed, session)
}

fn find(names: &[OsString], filter: &FilterArgs, repository: &Repository) -> Result<Vec<SnapshotId>> {
    let found = find_all(names, &filter.to_filter(), repository)?;
    Ok(found.iter().map(|snapshot| snapshot.id).collect())
}

fn report(message_type: &'static str, verb: &str, ids: &[SnapshotId], session: &Session) -> Result<()> {
    let snapshots = ids.iter().map(ToString::to_string).collect();
    let document = MarkDocument { message_type, schema: json::SCHEMA, snapshots };
    session.output.summary(&document, |to| {
        writeln!(to, "{verb} {}", text::count(ids.len() as u64, "snapshot", "snapshots"))
    })
}
