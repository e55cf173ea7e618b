//! `dr merge`

use std::ffi::OsString;

use clap::{Args, ValueEnum};
use dr_core::{MergeBy, MergeOptions, SnapshotFilter};
use serde::Serialize;

use crate::error::Result;
use crate::render::json::{self, TotalsRecord};
use crate::render::{Operation, text};
use crate::selector::find_whole;
use crate::session::Session;

/// Makes one snapshot of all that several hold, without reading file contents.
#[derive(Debug, Args)]
pub(crate) struct MergeArgs {
    /// The snapshots, two or more
    #[arg(value_name = "SNAP", required = true, num_args = 2..)]
    snapshots: Vec<OsString>,
    /// Which entry stays where several differ: the one modified last, or that of the snapshot named last
    #[arg(long, value_enum, default_value_t = By::Modified, value_name = "WHAT")]
    by: By,
    /// The host that the snapshot is filed under; needed where those of the snapshots differ
    #[arg(short = 'H', long)]
    host: Option<String>,
    /// The tags of the snapshot instead of all that any of them bears (may be repeated, or joined by commas)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Forget the snapshots once the new one is there
    #[arg(long)]
    forget: bool,
    /// Only say what the snapshot would hold
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum By {
    Modified,
    Last,
}

#[derive(Debug, Serialize)]
struct MergeDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    snapshot_id: Option<String>,
    conflicts: u64,
    totals: TotalsRecord,
}

/// Runs the command.
pub(crate) fn run(args: &MergeArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let snapshots = find_whole(&args.snapshots, &SnapshotFilter::new(), &repository)?;
    let mut options = MergeOptions::new();
    options.by = match args.by {
        By::Modified => MergeBy::Modified,
        By::Last => MergeBy::Last,
    };
    options.host.clone_from(&args.host);
    let tags: Vec<String> = args.tag.iter().filter(|tag| !tag.is_empty()).cloned().collect();
    options.tags = (!args.tag.is_empty()).then_some(tags);
    (options.forget, options.dry_run) = (args.forget, args.dry_run);
    let (report, _) = session
        .call(Operation::Rewrite, |context| repository.merge_snapshots(&snapshots, &options, context))?;
    let document = MergeDocument {
        message_type: "merge",
        schema: json::SCHEMA,
        dry_run: args.dry_run,
        snapshot_id: report.snapshot.map(|id| id.to_string()),
        conflicts: report.conflicts,
        totals: TotalsRecord::new(&report.totals),
    };
    session.output.summary(&document, |to| {
        let totals = &report.totals;
        let entries = totals.files + totals.directories + totals.others;
        let (entries, bytes) = (text::count(entries, "entry", "entries"), text::bytes(totals.bytes));
        if report.conflicts > 0 {
            let paths = text::count(report.conflicts, "path differs", "paths differ");
            writeln!(to, "{paths} between the snapshots: one entry of each stays (-v names them)")?;
        }
        match &document.snapshot_id {
            Some(id) => writeln!(to, "snapshot {} saved: {entries}, {bytes}", json::short(id)),
            None => writeln!(to, "dry run: the snapshot would hold {entries}, {bytes}"),
        }
    })
}
