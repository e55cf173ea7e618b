//! `dr restore`

use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use clap::{Args, ValueEnum};
use dr_core::{Delete, Overwrite, Owner, RestoreOptions, RestoreReport, RestoreSelection, Writing};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::pattern_lists::{ORDER, PatternLists, warn_of_unreaching, warn_of_unused};
use crate::render::{self, Operation, Progress, Skipping, json, text};
use crate::selector::Selector;
use crate::session::Session;

/// Writes what is in a snapshot to a directory. SNAP makes DIR/absolute/path; SNAP:sub/path leaves out the directories
/// above: what is in sub/path lands in DIR itself.
#[derive(Debug, Args)]
#[command(
    after_help = format!("SNAP makes DIR/absolute/path. SNAP:sub/path leaves out the directories above: what is \
in sub/path lands in DIR itself.\nA file that is there is compared, only what differs is fetched, and the new file takes \
the place of the old one when it is whole. A restore that was interrupted is run again: it goes on where it was. What it \
was writing has a name that begins with '.dr-restore-', or the mode -rw------T, and the next one with this target goes on \
with it or removes it.\n--delete only deletes below the paths that were backed up, and nothing that could not be read then, that \
is left out by --include or --exclude, or that lies on another file system.\nWhat cannot be restored is named, the rest is \
restored, and the exit code is 1 (also where --verify finds a difference); or 3 where only attributes or special files are \
missing.\nA restore that finds the target full ends there with exit code 1: make room and run it again.\n{ORDER}")
)]
pub(crate) struct RestoreArgs {
    /// The snapshot, also as SNAP:path
    #[arg(value_name = "SNAP")]
    snapshot: OsString,
    /// Where to write; made if it is not there
    #[arg(short, long, value_name = "DIR")]
    target: PathBuf,
    /// Touch nothing: only say what would be restored, replaced and deleted
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// What becomes of files that are there: always (compare, and replace what differs), if-changed (the same, but take files
    /// of the same length and time to be right), if-newer (only where the snapshot's is the newer one), never
    #[arg(long, value_name = "WHEN", default_value = "always", hide_possible_values = true)]
    overwrite: OverwriteArg,
    /// Write differences into the files that are there, instead of new files that take their place: needs no room for a
    /// second one, but until the end such a file is a mixture
    #[arg(long)]
    in_place: bool,
    /// Delete what is in the target and not in the snapshot
    #[arg(long)]
    delete: bool,
    /// Delete even where that looks like a mistake
    #[arg(long)]
    delete_anyway: bool,
    /// Make holes of zeros
    #[arg(long)]
    sparse: bool,
    /// Read everything back at the end, and compare it with the snapshot
    #[arg(long)]
    verify: bool,
    /// Restore what is at the absolute path FROM of the snapshot to DIR/TO instead (may be repeated)
    #[arg(long, value_name = "FROM=TO")]
    map_path: Vec<OsString>,
    /// Give what belongs to user FROM to user TO; names or numbers (may be repeated: the first that fits)
    #[arg(long, value_name = "FROM:TO", value_parser = parse_owners)]
    map_user: Vec<(Owner, Owner)>,
    /// The same for groups
    #[arg(long, value_name = "FROM:TO", value_parser = parse_owners)]
    map_group: Vec<(Owner, Owner)>,
    /// Leave owners alone (only root can set them, and does so otherwise)
    #[arg(long)]
    no_owner: bool,
    /// Take owners by number even where their names are known here
    #[arg(long)]
    numeric_ids: bool,
    /// Leave permissions alone: only whoever restores may use what is made
    #[arg(long)]
    no_permissions: bool,
    /// Leave times alone
    #[arg(long)]
    no_times: bool,
    /// Leave extended attributes alone
    #[arg(long)]
    no_xattrs: bool,
    /// Make no devices, pipes and sockets
    #[arg(long)]
    no_special: bool,
    /// Wait until everything is on the disk
    #[arg(long)]
    fsync: bool,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    paths: PathsArgs,
}

/// Which paths are restored.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which paths (as in gitignore files, compared with paths of the snapshot)")]
struct PathsArgs {
    /// Only what PATTERN means, with what is below it (may be repeated: any of them)
    #[arg(short, long, value_name = "PATTERN")]
    include: Vec<OsString>,
    /// The same without regard to case
    #[arg(long, value_name = "PATTERN")]
    iinclude: Vec<OsString>,
    /// The same with each line of FILE
    #[arg(long, value_name = "FILE")]
    include_file: Vec<PathBuf>,
    /// The same without regard to case
    #[arg(long, value_name = "FILE")]
    iinclude_file: Vec<PathBuf>,
    /// Not what PATTERN means, nor what is below it (may be repeated)
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// The same without regard to case
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<OsString>,
    /// The same with each line of FILE
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// The same without regard to case
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
}

impl PathsArgs {
    /// Whether only some paths are wanted.
    fn names_some(&self) -> bool {
        let has_patterns = [&self.include, &self.iinclude].into_iter().any(|list| !list.is_empty());
        has_patterns || [&self.include_file, &self.iinclude_file].into_iter().any(|list| !list.is_empty())
    }

    fn to_selection(&self) -> Result<RestoreSelection> {
        let mut selection = RestoreSelection::default();
        selection.include = PatternLists {
            files: &self.include_file,
            ifiles: &self.iinclude_file,
            patterns: &self.include,
            ipatterns: &self.iinclude,
        }
        .gather()?;
        selection.exclude = PatternLists {
            files: &self.exclude_file,
            ifiles: &self.iexclude_file,
            patterns: &self.exclude,
            ipatterns: &self.iexclude,
        }
        .gather()?;
        Ok(selection)
    }
}

/// The names of the policies on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OverwriteArg {
    Always,
    IfChanged,
    IfNewer,
    Never,
}

fn parse_owners(text: &str) -> std::result::Result<(Owner, Owner), String> {
    let owner = |text: &str| match text.parse() {
        Ok(number) => Owner::Number(number),
        Err(_) => Owner::Name(text.to_owned()),
    };
    match text.split_once(':') {
        Some((from, to)) if !from.is_empty() && !to.is_empty() => Ok((owner(from), owner(to))),
        _ => Err("write FROM:TO, each a name or a number".to_owned()),
    }
}

fn parse_moved(text: &OsStr) -> Result<(Vec<u8>, Vec<u8>)> {
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| *byte == b'=') {
        Some(at) if at > 0 => Ok((bytes[..at].to_vec(), bytes[at + 1..].to_vec())),
        _ => Err(CliError::usage(format!("'{}' does not say what goes where", text.display()))
            .with_remedy("write --map-path FROM=TO")),
    }
}

#[derive(Debug, Serialize)]
struct Summary {
    message_type: &'static str,
    schema: u32,
    snapshot_id: String,
    target: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    target_b64: Option<String>,
    dry_run: bool,
    complete: bool,
    problem_count: u64,
    files: u64,
    directories: u64,
    others: u64,
    replaced: u64,
    unchanged: u64,
    kept: u64,
    deleted: u64,
    bytes: u64,
    bytes_reused: u64,
    /// Only where everything was read back.
    #[serde(skip_serializing_if = "Option::is_none")]
    verified: Option<Verified>,
    seconds: f64,
}

#[derive(Debug, Serialize)]
struct Verified {
    files: u64,
    bytes: u64,
    mismatches: u64,
}

/// Runs the command.
pub(crate) fn run(args: &RestoreArgs, session: &Session) -> Result<()> {
    let selector = Selector::parse(&args.snapshot)?;
    let options = options(args, selector.path.clone())?;
    let RestoreSelection { include, exclude, .. } = &options.selection;
    [include, exclude].into_iter().for_each(|patterns| warn_of_unreaching(patterns, &session.output));
    let repository = session.open_repository()?;
    let snapshot = selector.find(&repository, &args.filter.to_filter())?;
    let operation = match (args.dry_run, args.no_special) {
        (true, _) => Operation::DryRestore,
        (false, true) => Operation::Restore(Skipping::Wanted),
        (false, false) => Operation::Restore(Skipping::Unwanted),
    };
    let progress = Progress::begin(operation, &session.output);
    let graceful = session.signals.graceful();
    let report = repository.restore(&snapshot, &args.target, &options, &session.context(&progress));
    drop(graceful);
    progress.finish(report.as_ref().map_or(&[], |report| report.problems.as_slice()));
    let report = session.answer(report)?;
    warn_of_unused([&args.paths.iinclude, &args.paths.include], include, &session.output);
    warn_of_unused([&args.paths.iexclude, &args.paths.exclude], exclude, &session.output);
    finish(&report, snapshot.id.to_string(), args, &progress, session)
}

fn options(args: &RestoreArgs, path: Option<Vec<u8>>) -> Result<RestoreOptions> {
    let mut options = RestoreOptions::new();
    options.strip_path = path.is_some();
    options.path = path.unwrap_or_default();
    options.selection = args.paths.to_selection()?;
    options.overwrite = match args.overwrite {
        OverwriteArg::Always => Overwrite::Always,
        OverwriteArg::IfChanged => Overwrite::IfChanged,
        OverwriteArg::IfNewer => Overwrite::IfNewer,
        OverwriteArg::Never => Overwrite::Never,
    };
    options.writing = if args.in_place { Writing::InPlace } else { Writing::Replace };
    options.delete = match (args.delete, args.delete_anyway) {
        (_, true) => Delete::SurplusAnyway,
        (true, false) => Delete::Surplus,
        (false, false) => Delete::Nothing,
    };
    options.dry_run = args.dry_run;
    options.sparse = args.sparse;
    options.verify = args.verify;
    options.moved = args.map_path.iter().map(|text| parse_moved(text)).collect::<Result<_>>()?;
    options.users.clone_from(&args.map_user);
    options.groups.clone_from(&args.map_group);
    options.owners = args.no_owner.then_some(false);
    options.numeric_ids = args.numeric_ids;
    options.permissions = !args.no_permissions;
    options.times = !args.no_times;
    options.xattrs = !args.no_xattrs;
    options.specials = !args.no_special;
    options.fsync = args.fsync;
    Ok(options)
}

fn finish(
    report: &RestoreReport,
    snapshot_id: String,
    args: &RestoreArgs,
    progress: &Progress,
    session: &Session,
) -> Result<()> {
    let target = args.target.as_os_str().as_encoded_bytes();
    let verified =
        Verified { files: report.verified, bytes: report.bytes_verified, mismatches: report.mismatches };
    let summary = Summary {
        message_type: "summary",
        schema: json::SCHEMA,
        snapshot_id,
        target: String::from_utf8_lossy(target).into_owned(),
        target_b64: json::unless_text(target),
        dry_run: args.dry_run,
        complete: progress.problems() == 0,
        problem_count: progress.problems(),
        files: report.files,
        directories: report.directories,
        others: report.others,
        replaced: report.replaced,
        unchanged: report.unchanged,
        kept: report.kept,
        deleted: report.deleted,
        bytes: report.bytes,
        bytes_reused: report.bytes_reused,
        verified: (args.verify && !args.dry_run).then_some(verified),
        seconds: progress.elapsed().as_secs_f64(),
    };
    let found = report.files + report.directories + report.others + report.unchanged + report.kept;
    if found == 0 && args.paths.names_some() {
        session.output.warn("nothing in the snapshot is what --include and its like mean");
    }
    let written = session.output.summary(&summary, |to| write_summary(to, &summary, target));
    let problems = text::count(progress.problems(), "problem", "problems");
    let outcome = if progress.problems() == 0 {
        Ok(())
    } else if progress.lacks_content() {
        Err(CliError::incomplete(format!("not everything was restored: {problems}"))
            .with_remedy("what is named above is missing or damaged in the target; the rest is there"))
    } else {
        Err(CliError::partial(format!("all contents were restored, but not everything else: {problems}")))
    };
    render::outcome(written, outcome)
}

fn write_summary(to: &mut dyn Write, summary: &Summary, target: &[u8]) -> io::Result<()> {
    writeln!(
        to,
        "{} {}, {} and {} ({}) from {} to {} in {:.1} s",
        if summary.dry_run { "would restore" } else { "restored" },
        text::count(summary.files, "file", "files"),
        text::count(summary.directories, "directory", "directories"),
        text::count(summary.others, "other entry", "other entries"),
        text::bytes(summary.bytes),
        json::short(&summary.snapshot_id),
        text::printable_path(target),
        summary.seconds,
    )?;
    let counted = [
        (summary.replaced, "replaced"),
        (summary.unchanged, "right already"),
        (summary.kept, "left as they were"),
        (summary.deleted, "deleted"),
    ];
    let mut parts: Vec<String> = counted
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, what)| format!("{count} {what}"))
        .collect();
    if summary.bytes_reused > 0 {
        parts.push(format!("{} not fetched, since the target had them", text::bytes(summary.bytes_reused)));
    }
    if !parts.is_empty() {
        writeln!(to, "{}", parts.join(", "))?;
    }
    match &summary.verified {
        Some(verified) => writeln!(
            to,
            "read back {} ({}): {}",
            text::count(verified.files, "file", "files"),
            text::bytes(verified.bytes),
            match verified.mismatches {
                0 => "all as in the snapshot".to_owned(),
                count => text::count(count, "difference", "differences"),
            },
        ),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_and_places_are_taken_apart() {
        let name = |name: &str| Owner::Name(name.to_owned());
        assert_eq!(parse_owners("alice:1000"), Ok((name("alice"), Owner::Number(1000))));
        assert_eq!(parse_owners("1:bob"), Ok((Owner::Number(1), name("bob"))));
        for wrong in ["alice", ":bob", "alice:", ""] {
            assert!(parse_owners(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_moved(OsStr::new("/a=b=c")).unwrap(), (b"/a".to_vec(), b"b=c".to_vec()));
        assert!(parse_moved(OsStr::new("/a")).is_err() && parse_moved(OsStr::new("=a")).is_err());
    }
}
