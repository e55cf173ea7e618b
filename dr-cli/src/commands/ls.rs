//! `dr ls`

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;

use clap::{Args, ValueEnum};
use dr_core::{Entry, EntryKind, Error, ErrorKind, Repository, Snapshot};
use jiff::tz::TimeZone;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::entry::{self, Node, Paths};
use crate::render::json::{self, ItemError, SnapshotLine};
use crate::render::ncdu::Export;
use crate::render::{Output, text};
use crate::selector::Selector;
use crate::session::Session;

/// Lists everything in a snapshot, or below one path in it, as absolute paths.
#[derive(Debug, Args)]
#[command(
    after_help = "Paths are written byte for byte, except to a terminal and with --long: there, characters that could deceive a reader become escapes."
)]
pub(crate) struct LsArgs {
    /// The snapshot, also as SNAP:path
    #[arg(value_name = "SNAP")]
    snapshot: OsString,
    /// Only this path and what is below it
    #[arg(value_name = "PATH")]
    below: Option<OsString>,
    /// Show mode, owner, group, size and time as well
    #[arg(short, long)]
    long: bool,
    /// Only what stands in the directory itself, not what is below its directories
    #[arg(long)]
    no_recursive: bool,
    /// Sort by name (the order they are stored in), size or time, the largest or newest first
    #[arg(long, value_name = "BY", default_value = "name")]
    sort: SortArg,
    /// Write what 'ncdu -f' browses
    #[arg(long, conflicts_with_all = ["long", "no_recursive", "sort"])]
    ncdu: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortArg {
    Name,
    Size,
    Time,
}

/// How entries are written.
enum Style {
    Json,
    Short(Paths),
    Long(TimeZone),
    Ncdu(Export),
}

/// Runs the command.
pub(crate) fn run(args: &LsArgs, session: &Session) -> Result<()> {
    let selector = Selector::parse(&args.snapshot)?;
    let path = match (&selector.path, &args.below) {
        (Some(_), Some(_)) => return Err(CliError::usage("the path is given twice: SNAP:path and PATH")),
        (Some(path), None) => path.clone(),
        (None, below) => below.clone().unwrap_or_default().into_vec(),
    };
    let repository = session.open_repository()?;
    let snapshot = selector.find(&repository, &args.filter.to_filter())?;
    let mut data = session.output.data();
    let mut style = style(args, &session.output);
    begin(&mut data, &mut style, &snapshot, &path).map_err(CliError::output)?;
    let (mut unwritten, mut unread) = (None, 0);
    let mut sorted = Vec::new();
    let mut visit = |path: &[u8], entry: dr_core::Result<&Entry>| {
        let written = match entry {
            Ok(entry) if args.sort != SortArg::Name => {
                sorted.push((path.to_vec(), entry.clone()));
                Ok(())
            }
            Ok(entry) => write_entry(&mut data, &mut style, path, entry),
            Err(error) => {
                unread += 1;
                tell_unread(&session.output, "ls", path, &error);
                match &mut style {
                    Style::Ncdu(export) => export.unread(&mut data, path),
                    _ => Ok(()),
                }
            }
        };
        written.map_err(|error| {
            unwritten = Some(error);
            Error::new(ErrorKind::Cancelled, "nobody reads the listing")
        })
    };
    let listed = if args.no_recursive {
        list_directory(&repository, &snapshot, &path, &mut visit)
    } else {
        repository.list(&snapshot, &path, &mut visit)
    };
    if let Some(error) = unwritten {
        return Err(CliError::output(error));
    }
    sort(&mut sorted, args.sort);
    let written = sorted.iter().try_for_each(|(path, entry)| write_entry(&mut data, &mut style, path, entry));
    let ended = written.and_then(|()| match &mut style {
        Style::Ncdu(export) => export.finish(&mut data),
        _ => Ok(()),
    });
    // What was listed before a failure is still worth having.
    let flushed = ended.and_then(|()| data.flush()).map_err(CliError::output);
    listed?;
    flushed?;
    unless_unread(unread, "the listing")
}

/// Lists one directory, or one entry that is none.
fn list_directory(
    repository: &Repository,
    snapshot: &Snapshot,
    path: &[u8],
    visit: &mut dr_core::Visit<'_>,
) -> dr_core::Result<()> {
    let view = repository.view(snapshot)?;
    let mut whole = Vec::new();
    for name in path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()) {
        whole.push(b'/');
        whole.extend_from_slice(name);
    }
    let stream = match view.entry(path)? {
        None => view.root(),
        Some(Entry { kind: EntryKind::Directory(stream), .. }) => stream,
        Some(entry) => return visit(&whole, Ok(&entry)),
    };
    view.entries(&stream, &mut |entry| match entry {
        Ok(entry) => visit(&[whole.as_slice(), b"/", &entry.name].concat(), Ok(&entry)),
        Err(error) => visit(&whole, Err(error)),
    })
}

/// Sorts entries; equal ones stay in the order of their paths.
fn sort(entries: &mut [(Vec<u8>, Entry)], by: SortArg) {
    match by {
        SortArg::Name => {}
        SortArg::Size => entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry::size(&entry.kind))),
        SortArg::Time => entries.sort_by_key(|(_, entry)| std::cmp::Reverse(entry.metadata.modified)),
    }
}

/// Says that something is not all there, if so.
pub(crate) fn unless_unread(unread: u64, what: &str) -> Result<()> {
    if unread == 0 {
        return Ok(());
    }
    let places = text::count(unread, "place", "places");
    Err(CliError::incomplete(format!("{what} is incomplete: {places} could not be read"))
        .with_remedy("run 'dr check'"))
}

fn style(args: &LsArgs, output: &Output) -> Style {
    if args.ncdu {
        return Style::Ncdu(Export::default());
    }
    if output.is_json() {
        return Style::Json;
    }
    // Long lines are for people, who may see them only after a pipe: a name must not look like further lines.
    if args.long {
        return Style::Long(TimeZone::system());
    }
    Style::Short(if io::stdout().is_terminal() { Paths::Escaped } else { Paths::Raw })
}

fn begin(data: &mut dyn Write, style: &mut Style, snapshot: &Snapshot, path: &[u8]) -> io::Result<()> {
    match style {
        Style::Json => json::write_line(data, &SnapshotLine::new(snapshot)),
        Style::Ncdu(export) => {
            let names = path.split(|byte| *byte == b'/').filter(|name| !name.is_empty());
            let whole: Vec<u8> = names.flat_map(|name| [b"/", name].concat()).collect();
            export.begin(data, &whole, snapshot.time)
        }
        Style::Short(_) | Style::Long(_) => Ok(()),
    }
}

fn write_entry(data: &mut dyn Write, style: &mut Style, path: &[u8], entry: &Entry) -> io::Result<()> {
    match style {
        Style::Json => json::write_line(data, &Node::new(path, entry)),
        Style::Short(paths) => paths.write(data, path).and_then(|()| data.write_all(b"\n")),
        Style::Long(zone) => entry::write_long(data, path, entry, zone),
        Style::Ncdu(export) => export.add(data, path, entry),
    }
}

/// Says that something in a snapshot cannot be read.
pub(crate) fn tell_unread(output: &Output, during: &str, path: &[u8], error: &Error) {
    let path = if path.is_empty() { b"/" } else { path };
    output.log("problem", &format!("{}: {error}", text::printable_path(path)));
    let mut stderr = io::stderr().lock();
    let _ = if output.is_json() {
        json::write_line(&mut stderr, &ItemError::of_path(during, path, "unreadable", &error.to_string()))
    } else {
        let message = error.to_string();
        writeln!(stderr, "error: {}: {}", text::printable_path(path), text::printable(&message))
    };
}
