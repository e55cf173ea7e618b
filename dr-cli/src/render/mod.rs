//! Everything that is written: JSON for programs, text for people, progress for whoever waits.

pub(crate) mod entry;
pub(crate) mod json;
mod meter;
pub(crate) mod ncdu;
mod operation;
mod progress;
mod status;
pub(crate) mod text;

use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

pub(crate) use operation::{Operation, Skipping};
pub(crate) use progress::Progress;

use serde::Serialize;

use crate::error::{CliError, Result};
use crate::exit_code::ExitCode;
use crate::run_log::RunLog;

/// For whom is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// People.
    Text,
    /// Programs.
    Json,
}

/// How much is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Verbosity {
    /// What was asked for, and errors.
    Quiet,
    /// Summaries and progress as well.
    Normal,
    /// Every file that changes, and stages as well.
    Verbose,
    /// What is unchanged or left out, and where settings come from, as well.
    Everything,
}

/// How this run writes. Data goes to standard output, everything else to standard error.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    format: Format,
    verbosity: Verbosity,
    shared: Arc<Shared>,
}

/// What all clones of an output have in common.
#[derive(Debug, Default)]
struct Shared {
    log: Option<RunLog>,
    /// How often progress is shown, where somebody said.
    interval: Option<Duration>,
    keeps_summary: AtomicBool,
    /// What the command says at its end.
    summary: Mutex<Option<serde_json::Value>>,
    /// The long call that is going on.
    live: Mutex<Weak<progress::State>>,
}

impl Output {
    /// Writes in a format, so much.
    pub(crate) fn new(format: Format, verbosity: Verbosity) -> Output {
        Output { format, verbosity, shared: Arc::default() }
    }

    /// Logs what happens, and shows progress so often. To be called before there are clones.
    pub(crate) fn with(mut self, log: Option<RunLog>, interval: Option<Duration>) -> Output {
        self.shared = Arc::new(Shared { log, interval, ..Shared::default() });
        self
    }

    /// How often progress is shown, where somebody said.
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.shared.interval
    }

    /// Appends a line to the log, where there is one.
    pub(crate) fn log(&self, level: &str, message: &str) {
        if let Some(log) = &self.shared.log {
            log.write(level, message);
        }
    }

    /// Keeps what the command says at its end from now on.
    pub(crate) fn keep_summary(&self) {
        self.shared.keeps_summary.store(true, Ordering::Relaxed);
    }

    /// What the command said at its end.
    pub(crate) fn kept_summary(&self) -> Option<serde_json::Value> {
        lock(&self.shared.summary).clone()
    }

    fn keep(&self, value: &impl Serialize) {
        if !self.shared.keeps_summary.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(value @ serde_json::Value::Object(_)) = serde_json::to_value(value) {
            *lock(&self.shared.summary) = Some(value);
        }
    }

    /// Says on standard error how far the long call is that is going on.
    pub(crate) fn tell_state(&self) {
        let state = lock(&self.shared.live).upgrade();
        match state {
            Some(state) => state.tell(),
            None => self.note("no long call is going on"),
        }
    }

    /// Whether a line of progress is on the terminal.
    pub(crate) fn is_drawing(&self) -> bool {
        lock(&self.shared.live).upgrade().is_some_and(|state| state.is_drawing())
    }

    fn set_live(&self, state: &Arc<progress::State>) {
        *lock(&self.shared.live) = Arc::downgrade(state);
    }

    fn end_live(&self) {
        *lock(&self.shared.live) = Weak::new();
    }

    /// Says something that was not asked for, on standard error.
    pub(crate) fn note(&self, message: &str) {
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told where standard error is closed.
        let _ = match self.format {
            Format::Json => json::write_line(&mut stderr, &json::Note::new(message)),
            Format::Text => writeln!(stderr, "{}", text::printable(message)),
        };
    }

    /// Whether programs read this.
    pub(crate) fn is_json(&self) -> bool {
        self.format == Format::Json
    }

    /// How much is written.
    pub(crate) fn verbosity(&self) -> Verbosity {
        self.verbosity
    }

    /// Standard output, with a buffer. Nothing else may write there while this lives.
    pub(crate) fn data(&self) -> BufWriter<StdoutLock<'static>> {
        BufWriter::with_capacity(64 << 10, io::stdout().lock())
    }

    /// Writes one JSON value as the whole of a command's data.
    pub(crate) fn document(&self, value: &impl Serialize) -> Result<()> {
        self.keep(value);
        let mut data = self.data();
        json::write_line(&mut data, value).and_then(|()| data.flush()).map_err(CliError::output)
    }

    /// Writes a summary: JSON, or what `text` writes for people who did not ask for quiet.
    pub(crate) fn summary(
        &self,
        value: &impl Serialize,
        text: impl FnOnce(&mut dyn Write) -> io::Result<()>,
    ) -> Result<()> {
        if self.is_json() {
            return self.document(value);
        }
        self.keep(value);
        if self.verbosity == Verbosity::Quiet {
            return Ok(());
        }
        let mut data = self.data();
        text(&mut data).and_then(|()| data.flush()).map_err(CliError::output)
    }

    /// Warns of something that is no failure.
    pub(crate) fn warn(&self, message: &str) {
        self.log("warning", message);
        let mut stderr = io::stderr().lock();
        // Nobody is left to be told where standard error is closed.
        let _ = match self.format {
            Format::Json => json::write_line(&mut stderr, &json::Warning::new(message)),
            Format::Text => writeln!(stderr, "warning: {}", text::printable(message)),
        };
    }

    /// Writes what ended a run, unless nobody is to be told.
    pub(crate) fn write_error(&self, to: &mut dyn Write, error: &CliError) -> io::Result<()> {
        let details = error.details();
        if details.is_silent {
            return Ok(());
        }
        if self.is_json() {
            return json::write_line(to, &json::ExitError::new(details));
        }
        let title = if details.code == ExitCode::Partial { "warning" } else { "error" };
        writeln!(to, "{title}: {}", text::printable(&details.message))?;
        for cause in &details.causes {
            writeln!(to, "  because: {}", text::printable(cause))?;
        }
        match &details.remedy {
            Some(remedy) => writeln!(to, "  hint: {}", text::printable(remedy)),
            None => Ok(()),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The outcome of a call decides how a run ends, not whether somebody still read its summary. A summary that could not
/// be written for another reason is a failure where there is no other.
pub(crate) fn outcome(summary: Result<()>, outcome: Result<()>) -> Result<()> {
    outcome.and(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(format: Format, error: &CliError) -> String {
        let mut bytes = Vec::new();
        Output::new(format, Verbosity::Normal).write_error(&mut bytes, error).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn errors_say_what_why_and_what_to_do() {
        let error = dr_core::Error::new(dr_core::ErrorKind::WrongCredentials, "it does not open\x1b[1m")
            .with_object("file:///r")
            .with_source("tag differs")
            .with_remedy("check the password");
        let error = CliError::from(error);
        let text = "error: it does not open\\x1b[1m: file:///r\n  because: tag differs\n  hint: check the password\n";
        assert_eq!(written(Format::Text, &error), text);
        let json: serde_json::Value = serde_json::from_str(&written(Format::Json, &error)).unwrap();
        assert_eq!(json["message_type"], "exit_error");
        assert_eq!((json["schema"].as_u64(), json["code"].as_u64()), (Some(1), Some(12)));
        assert_eq!(json["error_code"], "wrong_credentials");
        assert_eq!(json["causes"][0], "tag differs");
        assert_eq!(json["remedy"], "check the password");
        assert!(json["path"].is_null());
    }

    #[test]
    fn a_closed_pipe_is_silent() {
        let closed = CliError::output(io::ErrorKind::BrokenPipe.into());
        assert_eq!(written(Format::Text, &closed), "");
        let partial = || Err(CliError::partial("3 problems"));
        let ended = outcome(Err(closed), partial()).unwrap_err();
        assert_eq!(ended.details().code, ExitCode::Partial);
        assert!(written(Format::Text, &ended).starts_with("warning: "));
    }
}
