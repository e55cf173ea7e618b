//! Progress of a long call: a bar on a terminal, lines for programs that read JSON or where an interval was asked for,
//! nothing otherwise. Problems are told as they happen.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use dr_core::{Change, Event, Exclusion, Observer, Problem, SnapshotId, Stage};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::meter::{Meter, coarse};
use super::operation::{Operation, is_minor, stage_name};
use super::status::{StatusLine, VerboseLine, reason_in_words};
use super::{Output, Verbosity, json, lock, text};

/// How many minor problems are named before the rest is counted.
const MINOR_NAMED_MAX: u64 = 10;
const BAR_EVERY_MS: u64 = 80;
const LINE_EVERY_MS: u64 = 1000;
const SPINNER: &str = "{spinner} [{elapsed_precise}] {wide_msg}";
const BAR: &str = "{spinner} [{elapsed_precise}] {bar:16} {wide_msg}";

/// Counts what happens and shows it.
#[derive(Debug)]
pub(crate) struct Progress(Arc<State>);

/// What is known of a call that is going on.
#[derive(Debug)]
pub(super) struct State {
    operation: Operation,
    output: Output,
    shown: Shown,
    bar: ProgressBar,
    started: Instant,
    every_ms: u64,
    /// When the next line or redraw is due, in milliseconds after `started`.
    due_ms: AtomicU64,
    entries: AtomicU64,
    bytes: AtomicU64,
    stored_bytes: AtomicU64,
    entries_total: AtomicU64,
    bytes_total: AtomicU64,
    /// The total is what is likely.
    is_estimate: AtomicBool,
    problems: AtomicU64,
    minor_problems: AtomicU64,
    current: Mutex<Vec<u8>>,
    stage: Mutex<Option<Stage>>,
    meter: Mutex<Meter>,
}

/// How well a total is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Certainty {
    /// It is what there is to do.
    Known,
    /// It is what the parent snapshot held, or what was found meanwhile.
    Expected,
}

/// How progress is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shown {
    /// Not at all.
    Nowhere,
    /// As a bar on a terminal.
    Bar,
    /// As lines for programs, on standard output.
    Json,
    /// The same on standard error, where standard output is for one document.
    JsonBeside,
    /// As lines for people, on standard error.
    Lines,
}

impl Shown {
    fn choose(operation: Operation, output: &Output) -> Shown {
        match output {
            _ if output.verbosity() == Verbosity::Quiet => Shown::Nowhere,
            // A check gives programs one document.
            _ if output.is_json() && operation == Operation::Check => match output.interval() {
                Some(_) => Shown::JsonBeside,
                None => Shown::Nowhere,
            },
            _ if output.is_json() => Shown::Json,
            _ if io::stderr().is_terminal() => Shown::Bar,
            _ if output.interval().is_some() => Shown::Lines,
            _ => Shown::Nowhere,
        }
    }
}

impl Progress {
    /// Begins to show an operation.
    pub(crate) fn begin(operation: Operation, output: &Output) -> Progress {
        let shown = Shown::choose(operation, output);
        let target =
            if shown == Shown::Bar { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        let usual_ms = if shown == Shown::Bar { BAR_EVERY_MS } else { LINE_EVERY_MS };
        let asked_ms =
            output.interval().map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1));
        let every_ms = asked_ms.unwrap_or(usual_ms);
        if shown == Shown::Bar {
            bar.set_style(style(SPINNER));
            bar.enable_steady_tick(Duration::from_millis(every_ms.max(100)));
        }
        let state = Arc::new(State {
            operation,
            output: output.clone(),
            shown,
            bar,
            started: Instant::now(),
            every_ms,
            due_ms: AtomicU64::new(if shown == Shown::Bar { 0 } else { every_ms }),
            entries: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(0),
            entries_total: AtomicU64::new(0),
            bytes_total: AtomicU64::new(0),
            is_estimate: AtomicBool::new(false),
            problems: AtomicU64::new(0),
            minor_problems: AtomicU64::new(0),
            current: Mutex::new(Vec::new()),
            stage: Mutex::new(None),
            meter: Mutex::new(Meter::default()),
        });
        output.set_live(&state);
        Progress(state)
    }

    /// Takes the bar away, names problems of the report that were not told on the way, and sums up those that were
    /// only counted.
    pub(crate) fn finish(&self, reported: &[Problem]) {
        let state = &self.0;
        state.bar.finish_and_clear();
        state.output.end_live();
        if self.problems() == 0 {
            reported.iter().for_each(|problem| state.problem(problem));
        }
        let counted = state.minor_problems.load(Ordering::Relaxed);
        if state.counts_minor() && counted > MINOR_NAMED_MAX {
            let rest = text::count(counted - MINOR_NAMED_MAX, "more problem", "more problems");
            let _ = writeln!(io::stderr().lock(), "warning: {rest} of this kind (-v names them)");
        }
    }

    /// Whether anybody is shown how far it is.
    pub(crate) fn is_shown(&self) -> bool {
        self.0.shown != Shown::Nowhere
    }

    /// How many problems there are that nobody asked for.
    pub(crate) fn problems(&self) -> u64 {
        self.0.problems.load(Ordering::Relaxed)
    }

    /// Whether anything but attributes and special files is missing.
    pub(crate) fn lacks_content(&self) -> bool {
        self.problems() > self.0.minor_problems.load(Ordering::Relaxed)
    }

    /// How long it has been going on.
    pub(crate) fn elapsed(&self) -> Duration {
        self.0.started.elapsed()
    }
}

impl State {
    /// Whether a line is on the terminal.
    pub(super) fn is_drawing(&self) -> bool {
        self.shown == Shown::Bar
    }

    /// Says how far things are, once, on standard error.
    pub(super) fn tell(&self) {
        self.bar.suspend(|| {
            let mut stderr = io::stderr().lock();
            // Nobody is left to be told where standard error is closed.
            let _ = match self.output.is_json() {
                true => json::write_line(&mut stderr, &self.status()),
                false => writeln!(stderr, "{}", self.line()),
            };
        });
    }

    fn counts_minor(&self) -> bool {
        !self.output.is_json() && self.output.verbosity() < Verbosity::Verbose
    }

    fn problem(&self, problem: &Problem) {
        if self.operation == Operation::Check || self.operation.expects(problem.kind) {
            return;
        }
        self.problems.fetch_add(1, Ordering::Relaxed);
        let path = text::printable_path(&problem.path);
        let meaning = self.operation.meaning(problem.kind);
        let detail = text::printable(&problem.detail);
        let line = if detail.is_empty() {
            format!("{path}: {meaning}")
        } else {
            format!("{path}: {meaning}: {detail}")
        };
        self.output.log("problem", &line);
        if is_minor(problem.kind) {
            let number = self.minor_problems.fetch_add(1, Ordering::Relaxed);
            if self.counts_minor() && number >= MINOR_NAMED_MAX {
                return;
            }
        }
        self.bar.suspend(|| {
            let mut stderr = io::stderr().lock();
            // Nobody is left to be told where standard error is closed; the report still holds it.
            let _ = match self.output.is_json() {
                true => json::write_line(&mut stderr, &json::ItemError::new(self.operation.name(), problem)),
                false => writeln!(stderr, "warning: {line}"),
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

    fn snapshot_done(&self, snapshot: &SnapshotId) {
        self.entries.fetch_add(1, Ordering::Relaxed);
        if let Ok(mut current) = self.current.try_lock() {
            *current = format!("snapshot {}", json::short(&snapshot.to_string())).into_bytes();
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
            Change::Unchanged => "unchanged",
            Change::Restored => "restored",
            Change::Replaced => "replaced",
            Change::Deleted => "deleted",
            Change::Kept => "kept",
            Change::LeftOut => "left out",
            _ => "done",
        };
        let name = if change == Change::LeftOut { "left_out" } else { action };
        self.write_entry(&VerboseLine::new(name, path), || {
            format!("{action:<9} {}", text::printable_path(path))
        });
    }

    fn name_excluded(&self, path: &[u8], reason: &Exclusion) {
        if self.output.verbosity() < Verbosity::Everything {
            return;
        }
        let (name, rule, words) = reason_in_words(reason);
        let line = VerboseLine { reason: Some(name), rule: Some(rule), ..VerboseLine::new("excluded", path) };
        self.write_entry(&line, || {
            format!("excluded  {} ({})", text::printable_path(path), text::printable(&words))
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
        self.output.log("warning", &format!("{}: {}", text::printable_path(path), text::printable(detail)));
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

    fn total(&self, entries: u64, bytes: u64, certainty: Certainty) {
        if self.operation == Operation::Check {
            // A check says this where it begins to read everything; what it followed before is not part of it.
            self.bytes.store(0, Ordering::Relaxed);
        }
        self.is_estimate.store(certainty == Certainty::Expected, Ordering::Relaxed);
        self.entries_total.store(entries, Ordering::Relaxed);
        self.bytes_total.store(bytes, Ordering::Relaxed);
    }

    /// A stage begins: its entries and bytes count by themselves.
    fn begin_stage(&self, stage: Stage) {
        *lock(&self.stage) = Some(stage);
        for count in [&self.entries, &self.bytes, &self.entries_total, &self.bytes_total] {
            count.store(0, Ordering::Relaxed);
        }
        lock(&self.current).clear();
        if self.output.verbosity() >= Verbosity::Verbose && !self.output.is_json() {
            let name = stage_name(stage);
            let seconds = self.started.elapsed().as_secs_f64();
            self.bar.suspend(|| {
                let _ = writeln!(io::stderr().lock(), "{}: {name} ({seconds:.1} s)", self.operation.name());
            });
        }
    }

    /// Shows where things are, if it is time to.
    fn tick(&self) {
        if self.shown == Shown::Nowhere {
            return;
        }
        let now_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        let due_ms = self.due_ms.load(Ordering::Relaxed);
        let next_ms = now_ms.saturating_add(self.every_ms);
        let is_mine =
            || self.due_ms.compare_exchange(due_ms, next_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if now_ms < due_ms || !is_mine() {
            return;
        }
        // Nobody reads lines any more where their end is closed, which is no reason to stop.
        let _ = match self.shown {
            Shown::Bar => {
                self.redraw();
                Ok(())
            }
            Shown::Json => json::write_line(&mut io::stdout().lock(), &self.status()),
            Shown::JsonBeside => json::write_line(&mut io::stderr().lock(), &self.status()),
            Shown::Lines => writeln!(io::stderr().lock(), "{}", self.line()),
            Shown::Nowhere => Ok(()),
        };
    }

    fn redraw(&self) {
        let status = self.status();
        match status.bytes_total.filter(|total| status.bytes_done <= *total) {
            Some(total) if self.bar.length() != Some(total) => {
                self.bar.set_style(style(BAR));
                self.bar.set_length(total);
            }
            None if self.bar.length().is_some() => {
                self.bar.unset_length();
                self.bar.set_style(style(SPINNER));
            }
            _ => {}
        }
        self.bar.set_position(status.bytes_done);
        self.bar.set_message(status.text());
    }

    fn line(&self) -> String {
        let status = self.status();
        format!("{}: {} after {}", self.operation.name(), status.text(), coarse(self.started.elapsed()))
    }

    /// Everything that is known at this moment.
    fn status(&self) -> StatusLine {
        let known = |count: &AtomicU64| Some(count.load(Ordering::Relaxed)).filter(|count| *count > 0);
        let (bytes, elapsed) = (self.bytes.load(Ordering::Relaxed), self.started.elapsed());
        let is_estimate = self.is_estimate.load(Ordering::Relaxed);
        // What is more than was expected says that the expectation was wrong.
        let bytes_total = known(&self.bytes_total).filter(|total| !is_estimate || bytes <= *total);
        let (rate, remaining) = {
            let mut meter = lock(&self.meter);
            let now_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
            meter.sample(now_ms, bytes, bytes_total.unwrap_or(0));
            (meter.rate(), meter.remaining())
        };
        let current = lock(&self.current).clone();
        let stage = *lock(&self.stage);
        let counts_snapshots = stage == Some(Stage::Trees);
        StatusLine {
            message_type: "status",
            schema: json::SCHEMA,
            operation: self.operation.name(),
            stage: stage.map(stage_name),
            counts_snapshots,
            seconds_elapsed: elapsed.as_secs(),
            seconds_remaining: remaining.map(|time| time.as_secs()),
            entries_done: self.entries.load(Ordering::Relaxed),
            entries_total: known(&self.entries_total).filter(|_| bytes_total.is_some() || counts_snapshots),
            bytes_done: bytes,
            bytes_total,
            total_is_estimate: is_estimate && bytes_total.is_some(),
            part_done: bytes_total.map(|total| (bytes as f64 / total as f64).min(1.0)),
            bytes_per_second: rate,
            bytes_stored: self.stored_bytes.load(Ordering::Relaxed),
            problem_count: self.problems.load(Ordering::Relaxed),
            current_item: String::from_utf8_lossy(&current).into_owned(),
            current_item_b64: json::unless_text(&current),
            current,
        }
    }
}

impl Observer for Progress {
    fn event(&self, event: &Event) {
        let state = &self.0;
        match event {
            Event::EntryDone { path, change, bytes } => state.entry_done(path, *change, *bytes),
            Event::Reading { path } => lock(&state.current).clone_from(path),
            Event::Progress { bytes } => {
                state.bytes.fetch_add(*bytes, Ordering::Relaxed);
                state.tick();
            }
            Event::Total { entries, bytes } => state.total(*entries, *bytes, Certainty::Known),
            Event::Expected { entries, bytes } => state.total(*entries, *bytes, Certainty::Expected),
            Event::Stage(stage) => state.begin_stage(*stage),
            Event::SnapshotDone { snapshot } => state.snapshot_done(snapshot),
            Event::PackStored { bytes, .. } => {
                state.stored_bytes.fetch_add(*bytes, Ordering::Relaxed);
            }
            Event::Problem(problem) => state.problem(problem),
            Event::Excluded { path, reason } => state.name_excluded(path, reason),
            Event::Warning { path, detail } => state.warn(path, detail),
            _ => {}
        }
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}
