//! `dr cache`

use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use clap::Args;
use dr_core::{CacheCleanup, CacheInfo, SystemClock, clean_caches, list_caches};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::render::{json, text};
use crate::session::Session;
use crate::{instant, quantity};

/// Caches that were not used for this time are removed by --cleanup.
const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Lists what is kept of repositories on this machine, and cleans it up. That costs time at the next run, never data.
#[derive(Debug, Args)]
#[command(
    after_help = "What another process uses is never removed, nor any file that dr would not have made. --cache-limit, with \
any command, keeps all caches together below a size."
)]
pub(crate) struct CacheArgs {
    /// Remove caches that were not used for 30 days
    #[arg(long)]
    cleanup: bool,
    /// Remove caches that were not used for this time, as in 7d
    #[arg(long, value_name = "TIME", value_parser = quantity::duration)]
    max_age: Option<Duration>,
    /// Remove those that were used least recently, until the rest takes no more than SIZE, as in 2G
    #[arg(long, value_name = "SIZE", value_parser = quantity::bytes)]
    max_size: Option<u64>,
    /// Only say what would be removed
    #[arg(short = 'n', long)]
    dry_run: bool,
}

#[derive(Debug, Serialize)]
struct CacheDocument {
    message_type: &'static str,
    schema: u32,
    dry_run: bool,
    directory: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    directory_b64: Option<String>,
    caches: Vec<CacheRecord>,
}

#[derive(Debug, Serialize)]
struct CacheRecord {
    repository: String,
    bytes: u64,
    files: u64,
    last_used: String,
    removed: bool,
    in_use: bool,
}

/// What becomes of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Kept,
    Removed,
    /// Only not in a dry run.
    WouldGo,
    InUse,
}

/// Runs the command.
pub(crate) fn run(args: &CacheArgs, session: &Session) -> Result<()> {
    let directory = session.cache_directory().ok_or_else(|| {
        CliError::usage("there is no cache directory").with_remedy("leave out --no-cache, or use --cache-dir")
    })?;
    let mut cleanup = CacheCleanup::new();
    cleanup.max_age = args.max_age.or_else(|| args.cleanup.then_some(MAX_AGE));
    cleanup.max_bytes = args.max_size;
    cleanup.dry_run = args.dry_run;
    let mut caches: Vec<(CacheInfo, Fate)> = Vec::new();
    if cleanup.max_age.is_none() && cleanup.max_bytes.is_none() {
        caches.extend(list_caches(&directory)?.into_iter().map(|cache| (cache, Fate::Kept)));
    } else {
        let report = clean_caches(&directory, &cleanup, &SystemClock)?;
        let removed = if args.dry_run { Fate::WouldGo } else { Fate::Removed };
        let fates = [(report.kept, Fate::Kept), (report.removed, removed), (report.in_use, Fate::InUse)];
        for (some, fate) in fates {
            caches.extend(some.into_iter().map(|cache| (cache, fate)));
        }
        caches.sort_by_key(|(cache, _)| cache.last_used);
    }
    let raw = directory.as_os_str().as_bytes();
    let document = CacheDocument {
        message_type: "cache",
        schema: json::SCHEMA,
        dry_run: args.dry_run,
        directory: directory.to_string_lossy().into_owned(),
        directory_b64: json::unless_text(raw),
        caches: caches.iter().map(|(cache, fate)| record(cache, *fate)).collect(),
    };
    if session.output.is_json() {
        return session.output.document(&document);
    }
    let mut data = session.output.data();
    let written = write_table(&mut data, &text::printable_path(raw), &caches);
    written.and_then(|()| data.flush()).map_err(CliError::output)
}

fn record(cache: &CacheInfo, fate: Fate) -> CacheRecord {
    CacheRecord {
        repository: cache.repository.clone(),
        bytes: cache.bytes,
        files: cache.files,
        last_used: instant::rfc3339(cache.last_used),
        removed: fate == Fate::Removed,
        in_use: fate == Fate::InUse,
    }
}

fn write_table(to: &mut dyn Write, directory: &str, caches: &[(CacheInfo, Fate)]) -> io::Result<()> {
    let zone = TimeZone::system();
    let rows: Vec<Vec<String>> = caches
        .iter()
        .map(|(cache, fate)| {
            let fate = match fate {
                Fate::Kept => "",
                Fate::WouldGo => "would be removed",
                Fate::Removed => "removed",
                Fate::InUse => "in use",
            };
            vec![
                cache.repository.clone(),
                instant::local(cache.last_used, &zone),
                text::bytes(cache.bytes),
                fate.to_owned(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text::table(to, &["Repository", "Last used", "Size", ""], &rows)?;
    }
    let left = caches.iter().filter(|(_, fate)| *fate != Fate::Removed);
    let bytes = left.clone().map(|(cache, _)| cache.bytes).sum();
    let count = text::count(left.count() as u64, "cache", "caches");
    writeln!(to, "{count} in {directory}, {}", text::bytes(bytes))
}
