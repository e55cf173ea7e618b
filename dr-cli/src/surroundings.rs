//! What surrounds a run: hooks, the log, metrics, and whoever is told. None but a hook before it can make a run fail.

use std::path::PathBuf;
use std::time::Instant;

use dr_core::{Clock, SystemClock};

use crate::error::Result;
use crate::hooks::{self, Hook, Phase, Told};
use crate::metrics::{self, Outcome};
use crate::ping::{self, Message, Moment};
use crate::render::Output;
use crate::session::Session;
use crate::settings::masked_url;

/// What a run is and who is told of it.
#[derive(Debug)]
pub(crate) struct Surroundings {
    pub(crate) command: Vec<String>,
    pub(crate) profile: String,
    pub(crate) hooks: Vec<Hook>,
    pub(crate) is_dry_run: bool,
}

/// Those who are told, and what they are told always.
struct Listeners<'s> {
    output: &'s Output,
    metrics_file: Option<PathBuf>,
    ping: Option<String>,
    command: String,
    profile: String,
    host: String,
    repository: String,
    started: Instant,
}

impl Surroundings {
    /// Makes a run.
    pub(crate) fn run(self, session: &Session, call: impl FnOnce() -> Result<()>) -> Result<()> {
        let output = &session.output;
        let listeners = self.listeners(session);
        output.keep_summary();
        listeners.begin();
        let mut told = Told {
            command: listeners.command.clone(),
            profile: self.profile.clone(),
            is_dry_run: self.is_dry_run,
            ..Told::default()
        };
        // What a hook runs runs none: a hook of all commands would never end.
        let hooks = if std::env::var_os(hooks::IN_HOOK).is_some() { Vec::new() } else { self.hooks };
        let outcome = hooks::run(&hooks, Phase::Before, &told, &session.signals).and_then(|()| call());
        told.exit_code = Some(outcome.as_ref().err().map_or(0, |error| error.details().code.number()));
        told.error_code = outcome.as_ref().err().map(|error| error.details().error_code.to_owned());
        told.error_code = told.error_code.filter(|_| told.exit_code != Some(0));
        told.snapshot_id = snapshot_of(output.kept_summary().as_ref());
        let ended = if told.exit_code == Some(0) { Phase::After } else { Phase::Failed };
        for phase in [ended, Phase::Finally] {
            if let Err(error) = hooks::run(&hooks, phase, &told, &session.signals) {
                let causes = error.details().causes.join(": ");
                let because = if causes.is_empty() { "" } else { ": " };
                output.warn(&format!("{}{because}{causes}", error.details().message));
            }
        }
        let message = outcome.as_ref().err().map(|error| error.details().message.clone());
        listeners.end(&told, message.as_deref());
        outcome
    }

    fn listeners<'s>(&self, session: &'s Session) -> Listeners<'s> {
        let reporting = &session.global.reporting;
        let is_real = !self.is_dry_run;
        let repository = session.location().unwrap_or_default();
        Listeners {
            output: &session.output,
            metrics_file: reporting.metrics_file.clone().filter(|_| is_real),
            ping: reporting.ping.clone().filter(|_| is_real),
            command: self.command.join(" "),
            profile: self.profile.clone(),
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            repository: masked_url(&repository),
            started: Instant::now(),
        }
    }
}

impl Listeners<'_> {
    fn begin(&self) {
        let of =
            if self.profile.is_empty() { String::new() } else { format!(" of profile {}", self.profile) };
        self.output.log("start", &format!("dr {}{of} on {}", self.command, self.repository));
        if let Some(url) = &self.ping {
            self.send(url, &Message::new(Moment::Start, &self.command, &self.profile, &self.host));
        }
    }

    fn end(&self, told: &Told, error: Option<&str>) {
        let seconds = self.started.elapsed().as_secs_f64();
        let code = told.exit_code.unwrap_or_default();
        let summary = self.output.kept_summary();
        if let Some(path) = &self.metrics_file {
            let outcome = Outcome {
                command: &self.command,
                profile: &self.profile,
                host: &self.host,
                repository: &self.repository,
                exit_code: code,
                seconds,
                ended: SystemClock.now().seconds,
                summary: summary.as_ref(),
            };
            if let Err(error) = metrics::update(path, &outcome) {
                self.output.warn(&format!("the metrics cannot be written to {}: {error}", path.display()));
            }
        }
        if let Some(url) = &self.ping {
            let moment = if code == 0 { Moment::Success } else { Moment::Fail };
            let message = Message {
                exit_code: Some(code),
                error_code: told.error_code.as_deref(),
                error: error.filter(|_| code != 0),
                seconds,
                summary: summary.as_ref(),
                ..Message::new(moment, &self.command, &self.profile, &self.host)
            };
            self.send(url, &message);
        }
        let snapshot = told.snapshot_id.as_ref().map(|id| format!(", snapshot {id}")).unwrap_or_default();
        let error = error.filter(|_| code != 0).map(|error| format!(": {error}")).unwrap_or_default();
        self.output.log("end", &format!("exit code {code} after {seconds:.1} s{snapshot}{error}"));
    }

    fn send(&self, url: &str, message: &Message<'_>) {
        if let Err(error) = ping::send(url, message) {
            self.output.warn(&format!("the monitor was not told: {error}"));
        }
    }
}

fn snapshot_of(summary: Option<&serde_json::Value>) -> Option<String> {
    summary?.get("snapshot_id")?.as_str().map(str::to_owned)
}
