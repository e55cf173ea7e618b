//! `dr snapshots`

use std::io::{self, Write};

use clap::Args;
use dr_core::Snapshot;
use jiff::tz::TimeZone;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::instant;
use crate::render::json::{self, SnapshotLine};
use crate::render::text;
use crate::session::Session;

/// Lists the snapshots, oldest first.
#[derive(Debug, Args)]
pub(crate) struct SnapshotsArgs {
    #[command(flatten)]
    filter: FilterArgs,
    /// Those that are forgotten and can be brought back with 'dr unforget'
    #[arg(long)]
    forgotten: bool,
}

/// Runs the command.
pub(crate) fn run(args: &SnapshotsArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let filter = args.filter.to_filter();
    let snapshots = if args.forgotten {
        repository.forgotten_snapshots(&filter)?
    } else {
        repository.snapshots(&filter)?
    };
    for (id, error) in repository.unreadable_snapshots()? {
        session
            .output
            .warn(&format!("snapshot {id} cannot be read: {error}; 'dr check' says what is damaged"));
    }
    if session.output.is_json() {
        return session.output.document(&snapshots.iter().map(SnapshotLine::new).collect::<Vec<_>>());
    }
    let mut data = session.output.data();
    write_table(&mut data, &snapshots).and_then(|()| data.flush()).map_err(CliError::output)
}

fn write_table(to: &mut dyn Write, snapshots: &[Snapshot]) -> io::Result<()> {
    let zone = TimeZone::system();
    let rows: Vec<Vec<String>> = snapshots.iter().flat_map(|snapshot| rows(snapshot, &zone)).collect();
    if !rows.is_empty() {
        text::table(to, &["ID", "Time", "Host", "Tags", "Paths", ""], &rows)?;
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
        paths.next().unwrap_or_default(),
        flag(snapshot),
    ];
    let blank = || vec![String::new(); 4];
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
