//! `dr forget`

use std::ffi::OsString;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use dr_core::{
    ForgetGroup, ForgetOptions, GroupBy, KeepPolicy, Period, RetentionTimes, Snapshot, SnapshotId,
};
use jiff::tz::TimeZone;
use serde::Serialize;

use super::prune::{self, PruneArgs};
use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::instant;
use crate::render::json::{self, SnapshotRecord};
use crate::render::text;
use crate::selector::find_all;
use crate::session::Session;

/// Forgets snapshots: those named, or those that a policy does not keep.
#[derive(Debug, Args)]
#[command(
    after_help = "Each group of snapshots (by default those of the same host and paths) is looked at by itself. \
Times are UTC and are those that the store vouches for: a snapshot counts at the time its host claimed where that lies \
between the store's times just before and just after it was written, else at the nearer of these. Partial snapshots \
take nobody's place. Forgotten snapshots come back with 'dr unforget' until 'dr prune' collects them."
)]
pub(crate) struct ForgetArgs {
    /// The snapshots to forget; without any, the policy decides
    #[arg(value_name = "SNAP", conflicts_with = "KeepArgs")]
    snapshots: Vec<OsString>,
    #[command(flatten)]
    keep: KeepArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// Look at each group by itself: host, paths, tags joined by commas, or '' for one group of all
    #[arg(long, value_name = "GROUP", default_value = "host,paths")]
    group_by: GroupBy,
    /// By whose times: those that the store vouches for, or what the hosts claimed, for snapshots that were copied or
    /// rewritten, which the store only knows as new
    #[arg(long, value_enum, default_value_t = Times::Vouched, value_name = "WHOSE")]
    times: Times,
    /// Only say what would be forgotten
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Forget even all snapshots of a group
    #[arg(long)]
    unsafe_allow_remove_all: bool,
    /// Collect what was forgotten right away, as 'dr prune' does
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    pruning: PruneArgs,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Times {
    Vouched,
    Claimed,
}

/// What to keep.
#[derive(Debug, Args)]
#[command(next_help_heading = "What to keep")]
struct KeepArgs {
    /// The N newest ('unlimited': all)
    #[arg(short = 'l', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count)]
    keep_last: u32,
    /// The newest of each of the last N hours that have one
    #[arg(long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count)]
    keep_hourly: u32,
    /// … days
    #[arg(short = 'd', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count)]
    keep_daily: u32,
    /// … weeks
    #[arg(short = 'w', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count)]
    keep_weekly: u32,
    /// … months
    #[arg(short = 'm', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count)]
    keep_monthly: u32,
    /// … years
    #[arg(short = 'y', long, value_name = "N", default_value = "0", hide_default_value = true, value_parser = count)]
    keep_yearly: u32,
    /// All within this time before the newest, as in 1y5m7d2h
    #[arg(long, value_name = "PERIOD")]
    keep_within: Option<Period>,
    /// The newest of each hour within this time
    #[arg(long, value_name = "PERIOD")]
    keep_within_hourly: Option<Period>,
    /// … day
    #[arg(long, value_name = "PERIOD")]
    keep_within_daily: Option<Period>,
    /// … week
    #[arg(long, value_name = "PERIOD")]
    keep_within_weekly: Option<Period>,
    /// … month
    #[arg(long, value_name = "PERIOD")]
    keep_within_monthly: Option<Period>,
    /// … year
    #[arg(long, value_name = "PERIOD")]
    keep_within_yearly: Option<Period>,
    /// Those with this tag, or with all of TAG,TAG (may be repeated: any of them)
    #[arg(long, value_name = "TAG")]
    keep_tag: Vec<String>,
    /// Those whose ids begin so (may be repeated)
    #[arg(long, value_name = "ID")]
    keep_id: Vec<String>,
}

fn count(text: &str) -> std::result::Result<u32, String> {
    if text == "unlimited" || text == "-1" {
        return Ok(u32::MAX);
    }
    text.parse().map_err(|_| "give a number, or 'unlimited'".to_owned())
}

impl KeepArgs {
    fn to_policy(&self) -> KeepPolicy {
        let mut policy = KeepPolicy::new();
        (policy.last, policy.hourly, policy.daily) = (self.keep_last, self.keep_hourly, self.keep_daily);
        (policy.weekly, policy.monthly, policy.yearly) =
            (self.keep_weekly, self.keep_monthly, self.keep_yearly);
        policy.within = self.keep_within;
        policy.within_hourly = self.keep_within_hourly;
        policy.within_daily = self.keep_within_daily;
        policy.within_weekly = self.keep_within_weekly;
        policy.within_monthly = self.keep_within_monthly;
        policy.within_yearly = self.keep_within_yearly;
        policy.tags.clone_from(&self.keep_tag);
        policy.ids = self.keep_id.iter().map(|id| id.to_lowercase()).collect();
        policy
    }
}

/// The columns of what is forgotten and kept.
const TITLES: &[&str] = &["ID", "Time", "Tags", ""];

#[derive(Debug, Serialize)]
struct ForgetDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    groups: Vec<GroupRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prune: Option<prune::PruneDocument>,
}

#[derive(Debug, Default, Serialize)]
struct GroupRecord {
    host: Option<String>,
    paths: Option<Vec<String>>,
    /// The bytes of all paths, where one of them is no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_b64: Option<Vec<String>>,
    tags: Option<Vec<String>>,
    keep: Vec<KeptRecord>,
    remove: Vec<SnapshotRecord>,
}

#[derive(Debug, Serialize)]
struct KeptRecord {
    snapshot: SnapshotRecord,
    reasons: Vec<String>,
}

/// Runs the command.
pub(crate) fn run(args: &ForgetArgs, session: &Session) -> Result<()> {
    let repository = session.open_repository()?;
    let filter = args.filter.to_filter();
    let mut document = ForgetDocument {
        message_type: "forget",
        schema: json::SCHEMA,
        dry_run: args.dry_run,
        groups: Vec::new(),
        prune: None,
    };
    let mut forgotten: Vec<SnapshotId> = Vec::new();
    let policy = args.keep.to_policy();
    if args.snapshots.is_empty() {
        if policy.is_empty() && !args.unsafe_allow_remove_all {
            return Err(CliError::usage("say which snapshots to forget, or what to keep")
                .with_remedy("for example: dr forget --keep-last 10 --keep-daily 30"));
        }
        let mut options = ForgetOptions::new(policy);
        options.filter = filter;
        options.group_by = args.group_by;
        options.dry_run = args.dry_run;
        options.times = match args.times {
            Times::Vouched => RetentionTimes::Vouched,
            Times::Claimed => RetentionTimes::Claimed,
        };
        options.allow_empty = args.unsafe_allow_remove_all;
        let groups = repository.forget_by_policy(&options)?;
        if !session.output.is_json() {
            let mut data = session.output.data();
            groups
                .iter()
                .try_for_each(|group| write_group(&mut data, group, args.dry_run))
                .and_then(|()| data.flush())
                .map_err(CliError::output)?;
        }
        document.groups = groups.iter().map(group_record).collect();
        let decisions = groups.iter().flat_map(|group| &group.decisions);
        forgotten.extend(decisions.filter(|it| it.reasons.is_empty()).map(|it| it.snapshot.id));
    } else {
        let named = find_all(&args.snapshots, &filter, &repository)?;
        let ids: Vec<SnapshotId> = named.iter().map(|snapshot| snapshot.id).collect();
        let remove = named.iter().map(SnapshotRecord::new).collect();
        match named.iter().find(|snapshot| args.dry_run && snapshot.protected) {
            Some(snapshot) => return Err(protected(snapshot)),
            None if args.dry_run => {}
            None => repository.forget(&ids)?,
        }
        if !session.output.is_json() {
            session.output.summary(&(), |to| write_named(to, &named, args.dry_run))?;
        }
        document.groups = vec![GroupRecord { remove, ..GroupRecord::default() }];
        forgotten = ids;
    }
    if args.prune {
        let report = prune::collect(&args.pruning, args.dry_run, forgotten, &repository, session)?;
        if session.output.is_json() {
            document.prune = Some(report);
        } else {
            session.output.summary(&report, |to| prune::write_report(to, &report))?;
        }
    }
    if session.output.is_json() { session.output.document(&document) } else { Ok(()) }
}

/// What a dry run says where the other would fail.
fn protected(snapshot: &Snapshot) -> CliError {
    CliError::usage(format!("the snapshot is protected: snapshot {}", snapshot.id))
        .with_remedy("unprotect it first: dr protect --remove")
}

fn group_record(group: &ForgetGroup) -> GroupRecord {
    let (kept, removed): (Vec<_>, Vec<_>) =
        group.decisions.iter().partition(|decision| !decision.reasons.is_empty());
    let (paths, paths_b64) = group.group.paths.as_deref().map(json::paths_record).unzip();
    GroupRecord {
        host: group.group.host.clone(),
        paths,
        paths_b64: paths_b64.flatten(),
        tags: group.group.tags.clone(),
        keep: kept
            .into_iter()
            .map(|decision| KeptRecord {
                snapshot: SnapshotRecord::new(&decision.snapshot),
                reasons: decision.reasons.iter().map(ToString::to_string).collect(),
            })
            .collect(),
        remove: removed.into_iter().map(|decision| SnapshotRecord::new(&decision.snapshot)).collect(),
    }
}

/// Why each snapshot of a group is kept, or that it is not.
fn write_group(to: &mut dyn Write, group: &ForgetGroup, dry_run: bool) -> io::Result<()> {
    let zone = TimeZone::system();
    let mut what = Vec::new();
    what.extend(group.group.host.as_ref().map(|host| format!("host {}", text::printable(host))));
    let paths = group.group.paths.iter().flatten();
    what.extend(paths.map(|path| text::printable_path(path.as_os_str().as_encoded_bytes())));
    what.extend(group.group.tags.iter().flatten().map(|tag| format!("tag {}", text::printable(tag))));
    writeln!(to, "{}", if what.is_empty() { "all snapshots".to_owned() } else { what.join(", ") })?;
    let verdict = verdict(dry_run);
    let rows: Vec<Vec<String>> = group
        .decisions
        .iter()
        .map(|decision| {
            let reasons: Vec<String> = decision.reasons.iter().map(ToString::to_string).collect();
            let kept = format!("kept: {}", reasons.join(", "));
            row(&decision.snapshot, if reasons.is_empty() { verdict } else { &kept }, &zone)
        })
        .collect();
    text::table(to, TITLES, &rows)?;
    let forgotten = group.decisions.iter().filter(|decision| decision.reasons.is_empty()).count() as u64;
    writeln!(to, "{} of {} {verdict}\n", forgotten, text::count(rows.len() as u64, "snapshot", "snapshots"))
}

/// Which snapshots were named, and how many.
fn write_named(to: &mut dyn Write, named: &[Snapshot], dry_run: bool) -> io::Result<()> {
    let zone = TimeZone::system();
    let rows: Vec<Vec<String>> =
        named.iter().map(|snapshot| row(snapshot, verdict(dry_run), &zone)).collect();
    text::table(to, TITLES, &rows)?;
    let verb = if dry_run { "would forget" } else { "forgot" };
    writeln!(to, "{verb} {}", text::count(named.len() as u64, "snapshot", "snapshots"))
}

fn verdict(dry_run: bool) -> &'static str {
    if dry_run { "would be forgotten" } else { "forgotten" }
}

fn row(snapshot: &Snapshot, verdict: &str, zone: &TimeZone) -> Vec<String> {
    vec![
        json::short(&snapshot.id.to_string()).to_owned(),
        instant::local(snapshot.time, zone),
        text::printable(&snapshot.tags.join(",")).into_owned(),
        verdict.to_owned(),
    ]
}
