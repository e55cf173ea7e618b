//! Programs that a profile has run before and after commands.
//!
//! A list of words is a program and its arguments, run without a shell; a string is given to `sh -c`; a list that holds
//! anything but strings is several of them. What they write goes to standard error.

use std::io;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::child::without_secrets;
use crate::error::{CliError, Result};
use crate::quantity;
use crate::settings::file::{Node, Table, Value};
use crate::settings::options::nearest;
use crate::signals::Signals;

/// How long a hook may take that says nothing else.
const TIMEOUT: Duration = Duration::from_secs(3600);
/// How long a hook that was asked to end is given before it is killed.
const GRACE: Duration = Duration::from_millis(500);
/// Set for every hook: the program started by one runs none itself.
pub(crate) const IN_HOOK: &str = "DR_HOOK";

/// When a hook runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Before the command. If it fails, there is no command.
    Before,
    /// After a command that succeeded.
    After,
    /// After one that did not.
    Failed,
    /// After both, last.
    Finally,
}

const PHASES: &[(&str, Phase)] = &[
    ("before", Phase::Before),
    ("after", Phase::After),
    ("failed", Phase::Failed),
    ("finally", Phase::Finally),
];

impl Phase {
    /// Its name in profiles.
    pub(crate) fn name(self) -> &'static str {
        PHASES.iter().find(|(_, phase)| *phase == self).map_or("", |(name, _)| name)
    }
}

/// What runs at one point of one command, or of all.
#[derive(Debug, Clone)]
pub(crate) struct Hook {
    /// The command; `None` for all.
    pub(crate) command: Option<String>,
    /// When.
    pub(crate) phase: Phase,
    /// What.
    pub(crate) programs: Vec<Program>,
    /// `None` for ever.
    timeout: Option<Duration>,
}

/// A program.
#[derive(Debug, Clone)]
pub(crate) enum Program {
    Shell(String),
    Words(Vec<String>),
}

impl Program {
    /// What to call it: the rest of the words may hold secrets.
    fn name(&self) -> &str {
        match self {
            Program::Shell(line) => line.split_whitespace().next().unwrap_or("sh"),
            Program::Words(words) => words.first().map_or("", String::as_str),
        }
    }

    fn command(&self) -> Command {
        match self {
            Program::Shell(line) => {
                let mut command = Command::new("sh");
                command.arg("-c").arg(line);
                command
            }
            Program::Words(words) => {
                let mut command = Command::new(words.first().map_or("", String::as_str));
                command.args(words.iter().skip(1));
                command
            }
        }
    }
}

/// Reads a profile's hooks.
pub(crate) fn read(node: &Node, built: &clap::Command) -> Result<Vec<Hook>> {
    let table = node.table("'hooks'")?;
    let mut hooks = Vec::new();
    read_table(table, None, &mut hooks)?;
    for (key, node) in table.iter().filter(|(key, _)| !is_known(key)) {
        let names: Vec<&str> = built.get_subcommands().map(clap::Command::get_name).collect();
        if !names.contains(&key.as_str()) {
            let phases = PHASES.iter().map(|(name, _)| *name).chain(["timeout"]);
            return Err(unknown(key, node, nearest(key, phases.chain(names))));
        }
        let table = node.table(&format!("'hooks.{key}'"))?;
        if let Some((key, node)) = table.iter().find(|(key, _)| !is_known(key)) {
            let phases = PHASES.iter().map(|(name, _)| *name).chain(["timeout"]);
            return Err(unknown(key, node, nearest(key, phases)));
        }
        read_table(table, Some(key), &mut hooks)?;
    }
    Ok(hooks)
}

fn is_known(key: &str) -> bool {
    key == "timeout" || PHASES.iter().any(|(name, _)| *name == key)
}

fn unknown(key: &str, node: &Node, meant: Option<&str>) -> CliError {
    let error = node.place.error(format!("unknown key '{key}' for hooks"));
    match meant {
        Some(meant) => error.with_remedy(format!("did you mean '{meant}'?")),
        None => error
            .with_remedy("there are before, after, failed, finally, timeout, and a table for each command"),
    }
}

fn read_table(table: &Table, command: Option<&str>, hooks: &mut Vec<Hook>) -> Result<()> {
    let timeout = match table.get("timeout") {
        None => Some(TIMEOUT),
        Some(node) => {
            let time = quantity::duration(node.text("'timeout'")?).map_err(|why| node.place.error(why))?;
            (!time.is_zero()).then_some(time)
        }
    };
    for (name, phase) in PHASES {
        if let Some(node) = table.get(*name) {
            let programs = programs(node, name)?;
            hooks.push(Hook { command: command.map(str::to_owned), phase: *phase, programs, timeout });
        }
    }
    Ok(())
}

fn programs(node: &Node, name: &str) -> Result<Vec<Program>> {
    let Value::List(list) = &node.value else { return Ok(vec![program(node, name)?]) };
    if list.is_empty() {
        return Ok(Vec::new());
    }
    if list.iter().all(|item| matches!(item.value, Value::Text(_))) {
        return Ok(vec![program(node, name)?]);
    }
    list.iter().map(|item| program(item, name)).collect()
}

fn program(node: &Node, name: &str) -> Result<Program> {
    match &node.value {
        Value::Text(line) => Ok(Program::Shell(line.clone())),
        _ => node.words(&format!("'{name}'")).map(Program::Words),
    }
}

/// What hooks are told of a run.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) command: String,
    pub(crate) profile: String,
    pub(crate) is_dry_run: bool,
    pub(crate) exit_code: Option<u8>,
    pub(crate) error_code: Option<String>,
    pub(crate) snapshot_id: Option<String>,
}

/// Runs the hooks of one point, and ends with the first that fails. Those of all commands are around those of the one.
pub(crate) fn run(hooks: &[Hook], phase: Phase, told: &Told, signals: &Signals) -> Result<()> {
    let command = told.command.split(' ').next().unwrap_or_default();
    let is_due =
        |hook: &&Hook| hook.phase == phase && hook.command.as_deref().is_none_or(|name| name == command);
    let mut due: Vec<&Hook> = hooks.iter().filter(is_due).collect();
    due.sort_by_key(|hook| hook.command.is_some() == (phase == Phase::Before));
    for hook in due {
        for program in &hook.programs {
            run_one(program, hook, told, signals)?;
        }
    }
    Ok(())
}

fn run_one(program: &Program, hook: &Hook, told: &Told, signals: &Signals) -> Result<()> {
    let what = format!("the hook '{}' ({})", program.name(), hook.phase.name());
    let failed = |why: &str| {
        CliError::hook_failed(format!("{what} {why}"))
            .with_remedy("mend the hook, or take it out of the profile")
    };
    let mut command = program.command();
    without_secrets(&mut command).stdin(Stdio::null()).env(IN_HOOK, hook.phase.name());
    command.env("DR_COMMAND", &told.command).env("DR_PROFILE", &told.profile);
    command.env("DR_DRY_RUN", if told.is_dry_run { "1" } else { "0" });
    command.env("DR_EXIT_CODE", told.exit_code.map(|code| code.to_string()).unwrap_or_default());
    command.env("DR_ERROR_CODE", told.error_code.as_deref().unwrap_or_default());
    command.env("DR_SNAPSHOT_ID", told.snapshot_id.as_deref().unwrap_or_default());
    // Standard output is for what the command itself says.
    let output = io::stderr().as_fd().try_clone_to_owned();
    command.stdout(output.map_or_else(|_| Stdio::null(), Stdio::from));
    // A group of its own: what the hook starts ends with it.
    let child =
        command.process_group(0).spawn().map_err(|error| failed("cannot be run").with_cause(&error))?;
    wait(child, hook.timeout, signals, &failed)
}

fn wait(
    mut child: Child,
    timeout: Option<Duration>,
    signals: &Signals,
    failed: &dyn Fn(&str) -> CliError,
) -> Result<()> {
    // A run that was cancelled still runs what cleans up after it.
    let was_cancelled = signals.cancel().is_cancelled();
    let _graceful = (!was_cancelled).then(|| signals.graceful());
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(()),
            Ok(Some(status)) => return Err(failed(&format!("failed: {status}"))),
            Ok(None) => {}
            Err(error) => return Err(failed("was lost").with_cause(&error)),
        }
        if !was_cancelled && signals.cancel().is_cancelled() {
            end(&mut child);
            return Err(CliError::interrupted());
        }
        if let Some(timeout) = timeout.filter(|timeout| begun.elapsed() > *timeout) {
            end(&mut child);
            return Err(failed(&format!("did not end within {}", quantity::render_duration(timeout))));
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

/// Ends a hook and what it started: asks, waits a little, and ends them.
fn end(child: &mut Child) {
    let group = Pid::from_child(child);
    let _ = kill_process_group(group, Signal::TERM);
    let begun = Instant::now();
    while begun.elapsed() < GRACE && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(10));
    }
    let _ = kill_process_group(group, Signal::KILL);
    let _ = child.wait();
}
