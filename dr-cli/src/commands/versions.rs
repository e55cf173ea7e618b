//! `dr versions`

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use clap::Args;
use dr_core::{EntryKind, PathVersion};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::ls;
use crate::args::{FilterArgs, absolute};
use crate::error::{CliError, Result};
use crate::instant;
use crate::render::entry::{Node, mode_string};
use crate::render::{json, text};
use crate::session::Session;

/// Shows every version of a file or directory that the snapshots have, oldest first.
#[derive(Debug, Args)]
#[command(
    after_help = "Versions with the same number in the column 'Content' hold the same. A version is told from the one before \
by content, mode, owners, modification time and attributes."
)]
pub(crate) struct VersionsArgs {
    /// The path, as it is in the snapshots
    #[arg(value_name = "PATH")]
    file: OsString,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct VersionRecord<'a> {
    first: String,
    first_time: String,
    last: String,
    last_time: String,
    snapshots: u64,
    /// 0 where there is nothing.
    content: u64,
    node: Option<Node<'a>>,
}

#[derive(Debug, Serialize)]
struct UnreadRecord {
    snapshot_id: String,
    message: String,
}

#[derive(Debug, Serialize)]
struct VersionsDocument<'a> {
    message_type: &'static str,
    schema: u32,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    versions: Vec<VersionRecord<'a>>,
    unread: Vec<UnreadRecord>,
}

/// Runs the command.
pub(crate) fn run(args: &VersionsArgs, session: &Session) -> Result<()> {
    let path = absolute(&PathBuf::from(&args.file)).into_os_string().into_vec();
    let repository = session.open_repository()?;
    session.warn_of_unreadable(&repository)?;
    let snapshots = repository.snapshots(&args.filter.to_filter())?;
    let report = session.answer(repository.versions(&snapshots, &path, &session.context(&())))?;
    for (id, error) in &report.unread {
        session.output.warn(&format!("snapshot {id} could not be looked through: {error}"));
    }
    if report.versions.is_empty() && report.unread.is_empty() {
        return Err(CliError::from(
            dr_core::Error::new(dr_core::ErrorKind::NotFound, "no snapshot has this path")
                .with_path(PathBuf::from(OsString::from_vec(path)))
                .with_remedy("find it with 'dr find NAME'"),
        ));
    }
    if session.output.is_json() {
        session.output.document(&VersionsDocument {
            message_type: "versions",
            schema: json::SCHEMA,
            path: String::from_utf8_lossy(&path).into_owned(),
            path_b64: json::unless_text(&path),
            versions: report.versions.iter().map(|version| record(&path, version)).collect(),
            unread: report
                .unread
                .iter()
                .map(|(id, error)| UnreadRecord { snapshot_id: id.to_string(), message: error.to_string() })
                .collect(),
        })?;
    } else {
        let mut data = session.output.data();
        write_table(&mut data, &report.versions).and_then(|()| data.flush()).map_err(CliError::output)?;
    }
    ls::unless_unread(report.unread.len() as u64, "the list of versions")
}

fn record<'a>(path: &[u8], version: &'a PathVersion) -> VersionRecord<'a> {
    VersionRecord {
        first: version.first.id.to_string(),
        first_time: instant::rfc3339(version.first.time),
        last: version.last.id.to_string(),
        last_time: instant::rfc3339(version.last.time),
        snapshots: version.snapshots,
        content: version.content,
        node: version.entry.as_ref().map(|entry| Node::new(path, entry)),
    }
}

fn write_table(to: &mut dyn Write, versions: &[PathVersion]) -> io::Result<()> {
    let zone = TimeZone::system();
    let rows: Vec<Vec<String>> = versions.iter().map(|version| row(version, &zone)).collect();
    let titles = ["First", "Time", "Last", "Time", "Snapshots", "Content", "Size", "Modified", "Mode"];
    text::table(to, &titles, &rows)
}

fn row(version: &PathVersion, zone: &TimeZone) -> Vec<String> {
    let mut row = Vec::new();
    for snapshot in [&version.first, &version.last] {
        row.push(json::short(&snapshot.id.to_string()).to_owned());
        row.push(instant::local(snapshot.time, zone));
    }
    row.push(version.snapshots.to_string());
    match &version.entry {
        None => row.push("not there".to_owned()),
        Some(entry) => {
            let size = match &entry.kind {
                EntryKind::File(content) => text::bytes(content.bytes),
                _ => "-".to_owned(),
            };
            let modified = instant::local(entry.metadata.modified, zone);
            let mode = mode_string(&entry.kind, entry.metadata.mode);
            row.extend([version.content.to_string(), size, modified, mode]);
        }
    }
    row
}
