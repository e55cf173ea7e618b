//! `dr rewrite`

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use dr_core::{RewriteOptions, Rewritten, TagChange};
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::instant::{self, DayMeans};
use crate::pattern_lists::{ORDER, PatternLists, warn_of_unreaching, warn_of_unused};
use crate::render::json::{self, TotalsRecord};
use crate::render::{self, Operation, text};
use crate::selector::find_whole;
use crate::session::Session;

/// Makes new snapshots of old ones that leave something out, or are filed under something else.
#[derive(Debug, Args)]
#[command(
    after_help = format!("File contents are not read: what stays is referred to. The old snapshots stay unless --forget is given, and \
what they hold until they are forgotten and collected with 'dr prune'. A snapshot in which nothing changes is passed over. One \
that takes the place of a protected one is protected too. Patterns are those of gitignore files; one that begins with a slash \
begins at the root of the snapshot. 'dr backup --help' says more of them.\n{ORDER}")
)]
pub(crate) struct RewriteArgs {
    /// The snapshots; without any, all that pass the filter
    #[arg(value_name = "SNAP")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    filter: FilterArgs,
    /// Leave out what matches PATTERN (may be repeated)
    #[arg(short, long, value_name = "PATTERN")]
    exclude: Vec<OsString>,
    /// The same, whatever the case of its letters
    #[arg(long, value_name = "PATTERN")]
    iexclude: Vec<OsString>,
    /// Leave out what matches a pattern in FILE, one a line
    #[arg(long, value_name = "FILE")]
    exclude_file: Vec<PathBuf>,
    /// The same, whatever the case of its letters
    #[arg(long, value_name = "FILE")]
    iexclude_file: Vec<PathBuf>,
    /// File the snapshots under this host
    #[arg(long, value_name = "HOST")]
    new_host: Option<String>,
    /// Give the snapshots this time
    #[arg(long, value_name = "TIME")]
    new_time: Option<String>,
    /// Add tags (may be repeated, or several joined by commas)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    add_tag: Vec<String>,
    /// Take tags away
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    remove_tag: Vec<String>,
    /// Put these in the place of all tags; '' for none
    #[arg(long, value_name = "TAG", value_delimiter = ',', conflicts_with_all = ["add_tag", "remove_tag"])]
    set_tags: Vec<String>,
    /// Forget each snapshot once the one in its place is there
    #[arg(long)]
    forget: bool,
    /// Only say what would be left out
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct RewriteDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    /// Snapshots that could not be looked at.
    unreadable: Vec<String>,
    snapshots: Vec<RewrittenRecord>,
}

#[derive(Debug, Serialize)]
struct RewrittenRecord {
    snapshot: String,
    replacement: Option<String>,
    changed: bool,
    forgotten: bool,
    entries_left_out: u64,
    bytes_left_out: u64,
    totals: TotalsRecord,
}

/// Runs the command.
pub(crate) fn run(args: &RewriteArgs, session: &Session) -> Result<()> {
    let options = options(args)?;
    warn_of_unreaching(&options.exclude, &session.output);
    let repository = session.open_repository()?;
    let snapshots = find_whole(&args.snapshots, &args.filter.to_filter(), &repository)?;
    let unreadable = match args.snapshots.is_empty() {
        true => session.warn_of_unreadable(&repository)?,
        false => Vec::new(),
    };
    let (rewritten, _) =
        session.call(Operation::Rewrite, |context| repository.rewrite(&snapshots, &options, context))?;
    warn_of_unused([&args.iexclude, &args.exclude], &options.exclude, &session.output);
    let document = RewriteDocument {
        message_type: "rewrite",
        schema: json::SCHEMA,
        dry_run: args.dry_run,
        unreadable,
        snapshots: rewritten.iter().map(record).collect(),
    };
    let written = session.output.summary(&document, |to| write_report(to, &rewritten, args));
    let outcome = match document.unreadable.len() as u64 {
        0 => Ok(()),
        count => {
            let snapshots = text::count(count, "snapshot", "snapshots");
            Err(CliError::partial(format!(
                "{snapshots} cannot be read, and may hold what was to be left out"
            )))
        }
    };
    render::outcome(written, outcome)
}

fn options(args: &RewriteArgs) -> Result<RewriteOptions> {
    let mut options = RewriteOptions::new();
    options.exclude = PatternLists {
        files: &args.exclude_file,
        ifiles: &args.iexclude_file,
        patterns: &args.exclude,
        ipatterns: &args.iexclude,
    }
    .gather()?;
    options.host.clone_from(&args.new_host);
    if let Some(text) = &args.new_time {
        let time = instant::parse(text, DayMeans::Start).ok_or_else(|| {
            CliError::usage(format!("'{text}' is no time"))
                .with_remedy("write it as 2026-11-20T10:00 (local time), or with Z or an offset behind it")
        })?;
        options.time = Some(time);
    }
    let named = |tags: &[String]| tags.iter().filter(|tag| !tag.is_empty()).cloned().collect::<Vec<_>>();
    if !args.set_tags.is_empty() {
        options.tags.push(TagChange::Set(named(&args.set_tags)));
    }
    if !args.add_tag.is_empty() {
        options.tags.push(TagChange::Add(named(&args.add_tag)));
    }
    if !args.remove_tag.is_empty() {
        options.tags.push(TagChange::Remove(named(&args.remove_tag)));
    }
    (options.forget, options.dry_run) = (args.forget, args.dry_run);
    Ok(options)
}

fn record(rewritten: &Rewritten) -> RewrittenRecord {
    RewrittenRecord {
        snapshot: rewritten.snapshot.to_string(),
        replacement: rewritten.replacement.map(|id| id.to_string()),
        changed: rewritten.changed,
        forgotten: rewritten.forgotten,
        entries_left_out: rewritten.entries_left_out,
        bytes_left_out: bytes_left_out(rewritten),
        totals: TotalsRecord::new(&rewritten.totals),
    }
}

fn bytes_left_out(rewritten: &Rewritten) -> u64 {
    rewritten.totals_before.bytes.saturating_sub(rewritten.totals.bytes)
}

fn write_report(to: &mut dyn Write, all: &[Rewritten], args: &RewriteArgs) -> io::Result<()> {
    let mut unchanged = 0;
    for rewritten in all {
        let id = rewritten.snapshot.to_string();
        let id = json::short(&id);
        if !rewritten.changed {
            unchanged += 1;
            continue;
        }
        let left_out = match rewritten.entries_left_out {
            0 => String::new(),
            entries => {
                let entries = text::count(entries, "entry", "entries");
                format!(": {entries} left out, {}", text::bytes(bytes_left_out(rewritten)))
            }
        };
        match rewritten.replacement.map(|id| id.to_string()) {
            Some(replacement) => {
                let verb = if rewritten.forgotten { "replaced by" } else { "rewritten as" };
                writeln!(to, "snapshot {id} {verb} {}{left_out}", json::short(&replacement))?;
            }
            None => writeln!(to, "snapshot {id} would change{left_out}")?,
        }
    }
    if unchanged > 0 {
        let verb = if args.dry_run { "would not change" } else { "unchanged" };
        writeln!(to, "{} {verb}", text::count(unchanged, "snapshot", "snapshots"))?;
    }
    Ok(())
}
