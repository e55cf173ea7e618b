//! `dr ls`

use std::ffi::OsString;
use std::io::{self, IsTerminal, Write};
use std::os::unix::ffi::OsStringExt;

use clap::Args;
use dr_core::{Entry, Error, ErrorKind, Snapshot};
use jiff::tz::TimeZone;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::render::entry::{self, Node, Paths};
use crate::render::json::{self, ItemError, SnapshotLine};
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
    #[command(flatten)]
    filter: FilterArgs,
}

/// How entries are written.
enum Style {
    Json,
    Short(Paths),
    Long(TimeZone),
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
    let style = style(args, &session.output);
    begin(&mut data, &style, &snapshot).map_err(CliError::output)?;
    let (mut unwritten, mut unread) = (None, 0);
    let listed = repository.list(&snapshot, &path, &mut |path, entry| {
        let written = match entry {
            Ok(entry) => write_entry(&mut data, &style, path, entry),
            Err(error) => {
                unread += 1;
                tell_unread(&session.output, path, &error);
                Ok(())
            }
        };
        written.map_err(|error| {
            unwritten = Some(error);
            Error::new(ErrorKind::Cancelled, "nobody reads the listing")
        })
    });
    if let Some(error) = unwritten {
        return Err(CliError::output(error));
    }
    // What was listed before a failure is still worth having.
    let flushed = data.flush().map_err(CliError::output);
    listed?;
    flushed?;
    if unread > 0 {
        let places = text::count(unread, "place", "places");
        return Err(CliError::incomplete(format!("the listing is incomplete: {places} could not be read"))
            .with_remedy("run 'dr check'"));
    }
    Ok(())
}

fn style(args: &LsArgs, output: &Output) -> Style {
    if output.is_json() {
        return Style::Json;
    }
    // Long lines are for people, who may see them only after a pipe: a name must not look like further lines.
    if args.long {
        return Style::Long(TimeZone::system());
    }
    Style::Short(if io::stdout().is_terminal() { Paths::Escaped } else { Paths::Raw })
}

fn begin(data: &mut dyn Write, style: &Style, snapshot: &Snapshot) -> io::Result<()> {
    match style {
        Style::Json => json::write_line(data, &SnapshotLine::new(snapshot)),
        Style::Short(_) | Style::Long(_) => Ok(()),
    }
}

fn write_entry(data: &mut dyn Write, style: &Style, path: &[u8], entry: &Entry) -> io::Result<()> {
    match style {
        Style::Json => json::write_line(data, &Node::new(path, entry)),
        Style::Short(paths) => paths.write(data, path).and_then(|()| data.write_all(b"\n")),
        Style::Long(zone) => entry::write_long(data, path, entry, zone),
    }
}

fn tell_unread(output: &Output, path: &[u8], error: &Error) {
    let path = if path.is_empty() { b"/" } else { path };
    output.log("problem", &format!("{}: {error}", text::printable_path(path)));
    let mut stderr = io::stderr().lock();
    let _ = if output.is_json() {
        json::write_line(&mut stderr, &ItemError::of_path("ls", path, "unreadable", &error.to_string()))
    } else {
        let message = error.to_string();
        writeln!(stderr, "error: {}: {}", text::printable_path(path), text::printable(&message))
    };
}
