//! `dr snapshots`

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::io::{self, Write};

use clap::Args;
use dr_core::{Group, GroupBy, Repository, Snapshot, SnapshotFilter, SnapshotId};
use jiff::tz::TimeZone;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::help;
use crate::instant;
use crate::render::json::{self, SnapshotLine};
use crate::render::text;
use crate::selector::find_whole;
use crate::session::Session;

/// Lists the snapshots, oldest first.
#[derive(Debug, Args)]
#[command(
    after_help = "Size is what a restore would write, all files together; 'dr stats SNAP' says what a snapshot takes in the repository."
)]
pub(crate) struct SnapshotsArgs {
    /// Only these; all that pass the filter where none is named
    #[arg(value_name = "SNAP", conflicts_with = "forgotten")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Those that are forgotten and can be brought back with 'dr unforget'
    #[arg(long)]
    forgotten: bool,
    /// Show them in groups: any of host,path,tag
    #[arg(short, long, value_name = "BY")]
    group_by: Option<GroupBy>,
    /// Only the newest N, of each group where there are groups
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    latest: Option<u32>,
}

/// Runs the command.
pub(crate) fn run(args: &SnapshotsArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let filter = args.filter.to_filter();
    let snapshots = match (args.forgotten, args.snapshots.is_empty()) {
        (true, _) => repository.forgotten_snapshots(&filter)?,
        (false, true) => repository.snapshots(&filter)?,
        (false, false) => named(args, &filter, &repository)?,
    };
    if args.snapshots.is_empty() {
        session.warn_of_unreadable(&repository)?;
    }
    let groups = groups(snapshots, args);
    if session.output.is_json() {
        // Grouped or not, they are one list: each says itself what it would be grouped by.
        let records: Vec<SnapshotLine> = groups.values().flatten().map(SnapshotLine::new).collect();
        return session.output.document(&records);
    }
    let mut data = session.output.data();
    let written = if args.group_by.is_some() {
        write_groups(&mut data, &groups)
    } else {
        write_table(&mut data, &groups.into_values().flatten().collect::<Vec<_>>())
    };
    written.and_then(|()| data.flush()).map_err(CliError::output)
}

/// Those that were named, in the order they were committed.
fn named(args: &SnapshotsArgs, filter: &SnapshotFilter, repository: &Repository) -> Result<Vec<Snapshot>> {
    let mut kinds = args.snapshots.iter().filter_map(|name| name.to_str());
    if let Some((kind, instead)) = kinds.find_map(|kind| Some((kind, help::instead_of_list(kind)?))) {
        return Err(CliError::usage(format!("'{kind}' is no snapshot")).with_remedy(instead));
    }
    let named = find_whole(&args.snapshots, filter, repository)?;
    let ids: HashSet<SnapshotId> = named.iter().map(|snapshot| snapshot.id).collect();
    let mut snapshots = repository.snapshots(filter)?;
    snapshots.retain(|snapshot| ids.contains(&snapshot.id));
    Ok(snapshots)
}

/// Sorts snapshots into groups, and leaves out what is not asked for; each group is in the order they were committed.
fn groups(snapshots: Vec<Snapshot>, args: &SnapshotsArgs) -> BTreeMap<Group, Vec<Snapshot>> {
    let mut groups: BTreeMap<Group, Vec<Snapshot>> = BTreeMap::new();
    for snapshot in snapshots {
        let group = args.group_by.map_or_else(Group::default, |by| Group::of(&snapshot, by));
        groups.entry(group).or_default().push(snapshot);
    }
    if let Some(latest) = args.latest {
        for group in groups.values_mut() {
            group.drain(..group.len().saturating_sub(latest as usize));
        }
    }
    groups
}

fn write_groups(to: &mut dyn Write, groups: &BTreeMap<Group, Vec<Snapshot>>) -> io::Result<()> {
    for (number, (group, snapshots)) in groups.iter().enumerate() {
        if number > 0 {
            writeln!(to)?;
        }
        let paths = group.paths.iter().flatten().map(|path| path.to_string_lossy().into_owned());
        let paths = group.paths.is_some().then(|| format!("paths {}", paths.collect::<Vec<_>>().join(", ")));
        let host = group.host.as_ref().map(|host| format!("host {host}"));
        let tags = group.tags.as_ref().map(|tags| format!("tags {}", tags.join(",")));
        let title: Vec<String> = [host, paths, tags].into_iter().flatten().collect();
        writeln!(to, "{}", text::printable(&title.join("; ")))?;
        write_table(to, snapshots)?;
    }
    Ok(())
}

fn write_table(to: &mut dyn Write, snapshots: &[Snapshot]) -> io::Result<()> {
    let zone = TimeZone::system();
    let rows: Vec<Vec<String>> = snapshots.iter().flat_map(|snapshot| rows(snapshot, &zone)).collect();
    if !rows.is_empty() {
        text::table(to, &["ID", "Time", "Host", "Tags", "Size", "Paths", ""], &rows)?;
    }
    writeln!(to, "{}", text::count(snapshots.len() as u64, "snapshot", "snapshots"))
}

/// A row for the snapshot, and one for each path after the first.
fn rows(snapshot: &Snapshot, zone: &TimeZone) -> Vec<Vec<String>> {
    let id = snapshot.id.to_string();
    let mut paths = snapshot.paths.iter().map(|path| text::printable(&path.to_string_lossy()).into_owned());
    let first = vec![
        json::short(&id).to_owned(),
        instant::local(snapshot.time, zone),
        text::printable(&snapshot.host).into_owned(),
        text::printable(&snapshot.tags.join(",")).into_owned(),
        text::bytes(snapshot.totals.bytes),
        paths.next().unwrap_or_default(),
        flag(snapshot),
    ];
    let blank = || vec![String::new(); 5];
    let further = paths.map(|path| [blank(), vec![path]].concat());
    [first].into_iter().chain(further).collect()
}

fn flag(snapshot: &Snapshot) -> String {
    let problems = text::count(snapshot.problems, "problem", "problems");
    let mut flags = match (snapshot.partial, snapshot.problems) {
        (false, 0) => Vec::new(),
        (false, _) => vec![format!("incomplete ({problems})")],
        (true, 0) => vec!["partial".to_owned()],
        (true, _) => vec![format!("partial ({problems})")],
    };
    if snapshot.protected {
        flags.push("protected".to_owned());
    }
    flags.join(", ")
}
