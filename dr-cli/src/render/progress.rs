//! Progress of a long call: a bar on a terminal, lines for programs that read JSON, nothing otherwise. Problems are
//! told as they happen.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dr_core::{Change, Event, Exclusion, Observer, Problem, ProblemKind};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{Output, Verbosity, json, text};

/// How many minor problems are named before the rest is counted.
const MINOR_NAMED_MAX: u64 = 10;
const BAR_EVERY_MS: u64 = 80;
const LINE_EVERY_MS: u64 = 1000;
const SPINNER: &str = "{spinner} [{elapsed_precise}] {bytes} {binary_bytes_per_sec} {wide_msg}";
const BAR: &str = "{spinner} [{elapsed_precise}] {bar:16} {bytes}/{total_bytes} {binary_bytes_per_sec} eta {eta} {wide_msg}";
/// How many characters of the current path are shown.
const PATH_CHARACTERS: usize = 40;

/// What is going on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation {
    /// A backup.
    Backup,
    /// A restore.
    Restore(Skipping),
    /// A restore that only says what it would do.
    DryRestore,
    /// A check; its report names what it found.
    Check,
    /// An archive that is written.
    Dump,
    /// A collection of garbage.
    Prune,
    /// A repair.
    Repair,
    /// A copy from another repository.
    Copy,
    /// A rewrite, or a merge.
    Rewrite,
}

/// Whether a restore leaves something out because it was told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Skipping {
    /// It was: what is left out is no problem.
    Wanted,
    /// It was not.
    Unwanted,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Operation::Backup => "backup",
            Operation::Restore(_) | Operation::DryRestore => "restore",
            Operation::Check => "check",
            Operation::Dump => "dump",
            Operation::Prune => "prune",
            Operation::Repair => "repair",
            Operation::Copy => "copy",
            Operation::Rewrite => "rewrite",
        }
    }

    /// What a problem means here, in words.
    fn meaning(self, kind: ProblemKind) -> &'static str {
        match (self, kind) {
            (Operation::Restore(_) | Operation::DryRestore, ProblemKind::Attributes) => {
                "not all attributes restored"
            }
            (Operation::Restore(_) | Operation::DryRestore, ProblemKind::Damaged) => "damaged, not restored",
            (Operation::Restore(_) | Operation::DryRestore, ProblemKind::Skipped) => "left out",
            (Operation::Restore(_) | Operation::DryRestore, _) => "not restored",
            (Operation::Dump, _) => "left out",
            (Operation::Copy, ProblemKind::Damaged) => "damaged, not copied",
            (_, ProblemKind::Missing) => "not there",
            (_, ProblemKind::Unreadable) => "not saved",
            (_, ProblemKind::Vanished) => "not saved: vanished while it was read",
            (_, ProblemKind::Changed) => "changed while it was read",
            (_, ProblemKind::Attributes) => "not all attributes saved",
            _ => "problem",
        }
    }

    fn expects(self, kind: ProblemKind) -> bool {
        self == Operation::Restore(Skipping::Wanted) && kind == ProblemKind::Skipped
    }
}

/// Whether all contents are there in spite of a problem.
fn is_minor(kind: ProblemKind) -> bool {
    matches!(kind, ProblemKind::Attributes | ProblemKind::Skipped)
}

/// Counts what happens and shows it.
#[derive(Debug)]
pub(crate) struct Progress {
    operation: Operation,
    output: Output,
    bar: ProgressBar,
    started: Instant,
    /// When the next line or redraw is due, in milliseconds after `started`.
    due_ms: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    entries_total: AtomicU64,
    bytes_total: AtomicU64,
    problems: AtomicU64,
    minor_problems: AtomicU64,
    current: Mutex<Vec<u8>>,
}

impl Progress {
    /// Begins to show an operation.
    pub(crate) fn begin(operation: Operation, output: &Output) -> Progress {
        let is_shown =
            !output.is_json() && output.verbosity() != Verbosity::Quiet && io::stderr().is_terminal();
        let target = if is_shown { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if is_shown {
            bar.set_style(style(SPINNER));
            bar.enable_steady_tick(Duration::from_millis(100));
        }
        Progress {
            operation,
            output: output.clone(),
            bar,
            started: Instant::now(),
            due_ms: AtomicU64::new(if output.is_json() { LINE_EVERY_MS } else { 0 }),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            entries_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            problems: AtomicU64::new(0),
            minor_problems: AtomicU64::new(0),
            current: Mutex::new(Vec::new()),
        }
    }

    /// Takes the bar away, names problems of the report that were not told on the way, and sums up those that were
    /// only counted.
    pub(crate) fn finish(&self, reported: &[Problem]) {
        self.bar.finish_and_clear();
        if self.problems.load(Ordering::Relaxed) == 0 {
            reported.iter().for_each(|problem| self.problem(problem));
        }
        let counted = self.minor_problems.load(Ordering::Relaxed);
        if self.counts_minor() && counted > MINOR_NAMED_MAX {
            let rest = text::count(counted - MINOR_NAMED_MAX, "more problem", "more problems");
            let _ = writeln!(io::stderr().lock(), "warning: {rest} of this kind (-v names them)");
        }
    }

    /// How many problems there are that nobody asked for.
    pub(crate) fn problems(&self) -> u64 {
        self.problems.load(Ordering::Relaxed)
    }

    /// Whether anything but attributes and special files is missing.
    pub(crate) fn lacks_content(&self) -> bool {
        self.problems() > self.minor_problems.load(Ordering::Relaxed)
    }

    /// How long it has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Whether programs get lines; a check gives them one document.
    fn writes_lines(&self) -> bool {
        self.operation != Operation::Check && self.output.verbosity() != Verbosity::Quiet
    }

    fn counts_minor(&self) -> bool {
        !self.output.is_json() && self.output.verbosity() < Verbosity::Verbose
    }

    fn problem(&self, problem: &Problem) {
        if self.operation == Operation::Check || self.operation.expects(problem.kind) {
            return;
        }
        self.problems.fetch_add(1, Ordering::Relaxed);
        if is_minor(problem.kind) {
            let number = self.minor_problems.fetch_add(1, Ordering::Relaxed);
            if self.counts_minor() && number >= MINOR_NAMED_MAX {
                return;
            }
        }
        self.bar.suspend(|| {
            let mut stderr = io::stderr().lock();
            // Nobody is left to be told where standard error is closed; the report still holds it.
            let _ = if self.output.is_json() {
                json::write_line(&mut stderr, &json::ItemError::new(self.operation.name(), problem))
            } else {
                let path = text::printable_path(&problem.path);
                let meaning = self.operation.meaning(problem.kind);
                let detail = text::printable(&problem.detail);
                match detail.is_empty() {
                    true => writeln!(stderr, "warning: {path}: {meaning}"),
                    false => writeln!(stderr, "warning: {path}: {meaning}: {detail}"),
                }
            };
        });
    }

    fn entry_done(&self, path: &[u8], change: Change, bytes: u64) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        if change == Change::Unchanged && self.operation == Operation::Backup {
            self.bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        if self.names(change) {
            self.name_entry(path, change);
        }
        // Whoever holds the lock is showing another path, which is as good.
        if let Ok(mut current) = self.current.try_lock() {
            current.clear();
            current.extend_from_slice(path);
        }
        self.tick();
    }

    /// Whether an entry is named: where nothing else is done, that is what was asked for.
    fn names(&self, change: Change) -> bool {
        let is_idle = matches!(change, Change::Unchanged | Change::Kept);
        match self.output.verbosity() {
            Verbosity::Quiet => false,
            Verbosity::Normal => self.operation == Operation::DryRestore && !is_idle,
            Verbosity::Verbose => self.operation == Operation::DryRestore || change != Change::Unchanged,
            Verbosity::Everything => true,
        }
    }

    fn name_entry(&self, path: &[u8], change: Change) {
        let action = match change {
            Change::New => "new",
            Change::Changed => "changed",
            Change::Restored => "restored",
            Change::Replaced => "replaced",
            Change::Deleted => "deleted",
            Change::Kept => "kept",
            Change::Unchanged => "unchanged",
            Change::LeftOut => "left out",
            _ => "done",
        };
        self.write_entry(&VerboseLine::new(action, path), || {
            format!("{action:<8} {}", text::printable_path(path))
        });
    }

    fn name_excluded(&self, path: &[u8], reason: &Exclusion) {
        if self.output.verbosity() < Verbosity::Everything {
            return;
        }
        let (name, rule, words) = reason_in_words(reason);
        let line = VerboseLine { reason: Some(name), rule: Some(rule), ..VerboseLine::new("excluded", path) };
        self.write_entry(&line, || {
            format!("excluded {} ({})", text::printable_path(path), text::printable(&words))
        });
    }

    fn write_entry(&self, line: &VerboseLine, text: impl FnOnce() -> String) {
        self.bar.suspend(|| {
            let mut stdout = io::stdout().lock();
            // Nobody reads it any more where standard output is closed, which is no reason to stop.
            let _ = if self.output.is_json() {
                json::write_line(&mut stdout, line)
            } else {
                writeln!(stdout, "{}", text())
            };
        });
    }

    fn warn(&self, path: &[u8], detail: &str) {
        self.bar.suspend(|| {
            let mut stderr = io::stderr().lock();
            // Nobody is left to be told where standard error is closed; the report still counts it.
            let _ = if self.output.is_json() {
                json::write_line(&mut stderr, &json::Warning::of_path(path, detail))
            } else {
                writeln!(stderr, "warning: {}: {}", text::printable_path(path), text::printable(detail))
            };
        });
    }

    /// Shows where things are, if it is time to.
    fn tick(&self) {
        let is_json = self.output.is_json();
        let is_shown = if is_json { self.writes_lines() } else { !self.bar.is_hidden() };
        if !is_shown {
            return;
        }
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        let next_ms = now_ms.saturating_add(if is_json { LINE_EVERY_MS } else { BAR_EVERY_MS });
        let is_mine =
            || self.due_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if now_ms < due_ms || !is_mine() {
            return;
        }
        if is_json { self.write_status() } else { self.redraw() }
    }

    fn redraw(&self) {
        let total = self.bytes_total.load(Ordering::Relaxed);
        if total > 0 && self.bar.length() != Some(total) {
            if self.bar.length().is_none() {
                self.bar.set_style(style(BAR));
            }
            self.bar.set_length(total);
        }
        self.bar.set_position(self.bytes.load(Ordering::Relaxed));
        let entries = self.entries.load(Ordering::Relaxed);
        let path = text::printable_path(&lock(&self.current));
        let hidden = path.chars().count().saturating_sub(PATH_CHARACTERS);
        let end: String = path.chars().skip(hidden).collect();
        let cut = if hidden > 0 { "…" } else { "" };
        self.bar.set_message(format!("{entries} entries {cut}{end}"));
    }

    fn write_status(&self) {
        let entries_total = self.entries_total.load(Ordering::Relaxed);
        let bytes_total = self.bytes_total.load(Ordering::Relaxed);
        let bytes = self.bytes.load(Ordering::Relaxed);
        let current = lock(&self.current).clone();
        let status = StatusLine {
            message_type: "status",
            schema: json::SCHEMA,
            operation: self.operation.name(),
            seconds_elapsed: self.elapsed().as_secs(),
            entries_done: self.entries.load(Ordering::Relaxed),
            entries_total: (entries_total > 0).then_some(entries_total),
            bytes_done: bytes,
            bytes_total: (bytes_total > 0).then_some(bytes_total),
            part_done: (bytes_total > 0).then(|| (bytes as f64 / bytes_total as f64).min(1.0)),
            problem_count: self.problems.load(Ordering::Relaxed),
            current_item: String::from_utf8_lossy(&current).into_owned(),
        };
        // Nobody reads it any more where standard output is closed, which is no reason to stop.
        let _ = json::write_line(&mut io::stdout().lock(), &status);
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        match event {
            Event::EntryDone { path, change, bytes } => self.entry_done(path, *change, *bytes),
            Event::Progress { bytes } => {
                self.bytes.fetch_add(*bytes, Ordering::Relaxed);
                self.tick();
            }
            Event::Total { entries, bytes } => {
                if self.operation == Operation::Check {
                    // A check says this where it begins to read everything; what it followed before is not part of it.
                    self.bytes.store(0, Ordering::Relaxed);
                }
                self.entries_total.store(*entries, Ordering::Relaxed);
                self.bytes_total.store(*bytes, Ordering::Relaxed);
            }
            Event::Problem(problem) => self.problem(problem),
            Event::Excluded { path, reason } => self.name_excluded(path, reason),
            Event::Warning { path, detail } => self.warn(path, detail),
            _ => {}
        }
    }
}

/// How far things are, once a second.
#[derive(Debug, Serialize)]
struct StatusLine {
    message_type: &'static str,
    schema: u32,
    operation: &'static str,
    seconds_elapsed: u64,
    entries_done: u64,
    entries_total: Option<u64>,
    bytes_done: u64,
    bytes_total: Option<u64>,
    /// Between 0 and 1.
    part_done: Option<f64>,
    problem_count: u64,
    current_item: String,
}

/// What was done with one entry.
#[derive(Debug, Serialize)]
struct VerboseLine {
    message_type: &'static str,
    schema: u32,
    action: &'static str,
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_b64: Option<String>,
    /// Why it was left out, as a name for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// The pattern, file or number that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
}

impl VerboseLine {
    fn new(action: &'static str, path: &[u8]) -> VerboseLine {
        VerboseLine {
            message_type: "verbose_status",
            schema: json::SCHEMA,
            action,
            item: String::from_utf8_lossy(path).into_owned(),
            item_b64: json::unless_text(path),
            reason: None,
            rule: None,
        }
    }
}

/// Why something was left out: as a name, as the rule that says so, and in words.
fn reason_in_words(reason: &Exclusion) -> (&'static str, String, String) {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match reason {
        Exclusion::Pattern(pattern) => {
            ("pattern", shown(pattern), format!("pattern '{}'", text::printable_path(pattern)))
        }
        Exclusion::IgnoreFile { file, pattern } => (
            "ignore_file",
            format!("{}: {}", shown(file), shown(pattern)),
            format!("'{}' in {}", text::printable_path(pattern), text::printable_path(file)),
        ),
        Exclusion::TagFile(name) => {
            ("tag_file", shown(name), format!("beside {}", text::printable_path(name)))
        }
        Exclusion::Larger(bytes) => {
            ("larger_than", bytes.to_string(), format!("more than {}", text::bytes(*bytes)))
        }
        Exclusion::NoDump => ("nodump", "nodump".to_owned(), "marked nodump".to_owned()),
        _ => ("other", String::new(), "left out".to_owned()),
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
