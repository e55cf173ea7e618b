//! `dr find`

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::{ArgAction, Args, ValueEnum};
use dr_core::{
    Case, ChunkId, Clock, Entry, EntryType, Error, ErrorKind, FindQuery, ObjectHash, Snapshot, SystemClock,
    Timestamp,
};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::ls;
use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::instant::{self, DayMeans};
use crate::quantity;
use crate::render::entry::{self, Node, Paths};
use crate::render::json;
use crate::selector;
use crate::session::Session;

/// Finds files and directories in all snapshots, by name and by what is known of them.
#[derive(Debug, Args)]
#[command(
    after_help = "A PATTERN is a line of a gitignore file: '*.jpg' and 'notes' are compared with the last part of every path, \
'/home/*/notes' with the whole path from its first slash on, '**/src/*.c' with the end of it; a slash at the end means directories only.\n\
TIME is as in @TIME for snapshots (2026-11-20, 2026-11-20T10:00), or a length of time before now (36h, 14d).\n\
A directory that several snapshots share is looked at once."
)]
pub(crate) struct FindArgs {
    /// Only what one of these matches
    #[arg(value_name = "PATTERN")]
    patterns: Vec<OsString>,
    /// Capitals do not matter in patterns
    #[arg(short, long)]
    ignore_case: bool,
    /// Only entries of this type (may be repeated: any of them)
    #[arg(long = "type", value_name = "TYPE")]
    types: Vec<TypeArg>,
    /// Only what was modified at this time or later
    #[arg(long, value_name = "TIME")]
    newer: Option<String>,
    /// Only what was modified before this time
    #[arg(long, value_name = "TIME")]
    older: Option<String>,
    /// Only files of exactly this size; of at least +SIZE, of at most -SIZE (may be repeated: all of them)
    #[arg(long, value_name = "[+-]SIZE", allow_hyphen_values = true, value_parser = parse_size)]
    size: Vec<SizeArg>,
    /// Only what needs this chunk: a chunk of a file, of a directory, or of a list (may be repeated: any of them)
    #[arg(long, value_name = "ID")]
    chunk: Vec<String>,
    /// Only what needs a chunk of this pack (may be repeated: any of them)
    #[arg(long, value_name = "HASH")]
    pack: Vec<String>,
    /// Only in this snapshot (may be repeated) [default: all]
    #[arg(short, long, value_name = "SNAP", action = ArgAction::Append)]
    snapshot: Vec<OsString>,
    /// Only this path and what is below it
    #[arg(long, value_name = "PATH")]
    below: Option<OsString>,
    /// Show mode, owner, group, size and time as well
    #[arg(short, long)]
    long: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum TypeArg {
    #[value(alias = "f")]
    File,
    #[value(alias = "d")]
    Dir,
    #[value(alias = "l")]
    Symlink,
    #[value(alias = "c")]
    Chardev,
    #[value(alias = "b")]
    Blockdev,
    #[value(alias = "p")]
    Fifo,
    #[value(alias = "s")]
    Socket,
}

impl TypeArg {
    fn entry_type(self) -> EntryType {
        match self {
            TypeArg::File => EntryType::File,
            TypeArg::Dir => EntryType::Directory,
            TypeArg::Symlink => EntryType::Symlink,
            TypeArg::Chardev => EntryType::CharacterDevice,
            TypeArg::Blockdev => EntryType::BlockDevice,
            TypeArg::Fifo => EntryType::Fifo,
            TypeArg::Socket => EntryType::Socket,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum SizeArg {
    AtLeast(u64),
    AtMost(u64),
    Exactly(u64),
}

fn parse_size(text: &str) -> std::result::Result<SizeArg, String> {
    match text.as_bytes().first() {
        Some(b'+') => quantity::bytes(&text[1..]).map(SizeArg::AtLeast),
        Some(b'-') => quantity::bytes(&text[1..]).map(SizeArg::AtMost),
        _ => quantity::bytes(text).map(SizeArg::Exactly),
    }
}

#[derive(Debug, Serialize)]
struct FoundLine<'a> {
    message_type: &'static str,
    schema: u32,
    snapshot_id: &'a str,
    snapshot_time: String,
    node: Node<'a>,
}

#[derive(Debug, Serialize)]
struct Summary {
    message_type: &'static str,
    schema: u32,
    snapshots: u64,
    found: u64,
    directories_read: u64,
    directories_known: u64,
    unread: u64,
}

/// Runs the command.
pub(crate) fn run(args: &FindArgs, session: &Session) -> Result<()> {
    let query = query(args)?;
    let repository = session.open_repository()?;
    let filter = args.filter.to_filter();
    let snapshots = if args.snapshot.is_empty() {
        session.warn_of_unreadable(&repository)?;
        repository.snapshots(&filter)?
    } else {
        selector::find_all(&args.snapshot, &filter, &repository)?
    };
    let mut data = session.output.data();
    let zone = TimeZone::system();
    let paths = if io::stdout().is_terminal() { Paths::Escaped } else { Paths::Raw };
    let mut unwritten = None;
    let context = session.context(&());
    let mut visit = |snapshot: &Snapshot, path: &[u8], entry: dr_core::Result<&Entry>| {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                ls::tell_unread(&session.output, "find", path, &error);
                return Ok(());
            }
        };
        let id = snapshot.id.to_string();
        let written = if session.output.is_json() {
            let line = FoundLine {
                message_type: "found",
                schema: json::SCHEMA,
                snapshot_id: &id,
                snapshot_time: instant::rfc3339(snapshot.time),
                node: Node::new(path, entry),
            };
            json::write_line(&mut data, &line)
        } else {
            write!(data, "{} ", json::short(&id)).and_then(|()| match args.long {
                true => entry::write_long(&mut data, path, entry, &zone),
                false => paths.write(&mut data, path).and_then(|()| data.write_all(b"\n")),
            })
        };
        written.map_err(|error| {
            unwritten = Some(error);
            Error::new(ErrorKind::Cancelled, "nobody reads what is found")
        })
    };
    let report = repository.find(&snapshots, &query, &mut visit, &context);
    if let Some(error) = unwritten {
        return Err(CliError::output(error));
    }
    let report = session.answer(report)?;
    if session.output.is_json() {
        let summary = Summary {
            message_type: "summary",
            schema: json::SCHEMA,
            snapshots: report.snapshots,
            found: report.found,
            directories_read: report.directories_read,
            directories_known: report.directories_known,
            unread: report.unread,
        };
        json::write_line(&mut data, &summary).map_err(CliError::output)?;
    }
    data.flush().map_err(CliError::output)?;
    ls::unless_unread(report.unread, "the search")
}

fn query(args: &FindArgs) -> Result<FindQuery> {
    let mut query = FindQuery::new();
    let case = if args.ignore_case { Case::Insensitive } else { Case::Sensitive };
    for pattern in &args.patterns {
        query.names.add(pattern.as_bytes(), case)?;
    }
    query.types = args.types.iter().map(|kind| kind.entry_type()).collect();
    query.newer = args.newer.as_deref().map(|text| time(text, DayMeans::Start)).transpose()?;
    query.older = args.older.as_deref().map(|text| time(text, DayMeans::Start)).transpose()?;
    for size in &args.size {
        let (least, most) = match *size {
            SizeArg::AtLeast(bytes) => (bytes, u64::MAX),
            SizeArg::AtMost(bytes) => (0, bytes),
            SizeArg::Exactly(bytes) => (bytes, bytes),
        };
        query.bytes_min = Some(query.bytes_min.map_or(least, |known| known.max(least)));
        query.bytes_max = Some(query.bytes_max.map_or(most, |known| known.min(most)));
    }
    for id in &args.chunk {
        query.chunks.push(ChunkId::from_hex(id).ok_or_else(|| no_hash(id))?);
    }
    for hash in &args.pack {
        let digits = hash.rsplit('/').next().unwrap_or(hash);
        query.packs.push(ObjectHash::from_hex(digits).ok_or_else(|| no_hash(hash))?);
    }
    query.below = args.below.clone().unwrap_or_default().into_vec();
    Ok(query)
}

fn no_hash(text: &str) -> CliError {
    CliError::usage(format!("'{text}' is no id")).with_remedy("ids and hashes are 64 digits from 0 to f")
}

fn time(text: &str, day: DayMeans) -> Result<Timestamp> {
    if let Some(time) = instant::parse(text, day) {
        return Ok(time);
    }
    let before = quantity::duration(text).map_err(|_| {
        CliError::usage(format!("'{text}' is no time"))
            .with_remedy("write it as in 2026-11-20, 2026-11-20T10:00, or 14d for two weeks ago")
    })?;
    Ok(Timestamp::from_nanoseconds(SystemClock.now().as_nanoseconds() - before.as_nanos() as i128))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_direction() {
        assert_eq!(parse_size("+1K"), Ok(SizeArg::AtLeast(1024)));
        assert_eq!(parse_size("-10"), Ok(SizeArg::AtMost(10)));
        assert_eq!(parse_size("0"), Ok(SizeArg::Exactly(0)));
        assert!(parse_size("+").is_err() && parse_size("").is_err() && parse_size("ten").is_err());
    }

    #[test]
    fn times_are_instants_or_before_now() {
        assert_eq!(
            time("2026-11-20T10:00Z", DayMeans::Start).ok().map(|time| time.seconds),
            Some(1_795_168_800)
        );
        let now = SystemClock.now().seconds;
        let week = time("7d", DayMeans::Start).unwrap().seconds;
        assert!((now - week - 7 * 24 * 3600).abs() < 100);
        assert!(time("yesterday", DayMeans::Start).is_err());
    }
}
