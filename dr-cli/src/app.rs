//! One run: settle what is asked for, prepare, call the command, say how it ended.

use std::env;
use std::ffi::OsString;
use std::io;
use std::process;
use std::time::Duration;

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::args::{Command, GlobalArgs};
#[cfg(feature = "mount")]
use crate::commands::mount;
#[cfg(feature = "serve")]
use crate::commands::serve;
use crate::commands::{
    backup, cache, cat, check, completions, config, copy, diff, dump, find, forget, hold, init, key, ls, man,
    mark, merge, prune, put, repair, restore, rewrite, snapshots, stats, version, versions,
};
use crate::error::{CliError, Result};
use crate::exit_code::ExitCode;
use crate::hardening;
use crate::help;
use crate::render::{Format, Output, Verbosity};
use crate::run_log::RunLog;
use crate::session::Session;
use crate::settings::{self, Refusal, Settings};
use crate::surroundings::Surroundings;

/// Runs the program with the process's arguments.
pub(crate) fn run() -> process::ExitCode {
    let arguments: Vec<OsString> = env::args_os().collect();
    let code = match settings::read(&arguments, &|name| env::var_os(name)) {
        Ok(settings) => run_settled(settings),
        Err(Refusal::Parser(refusal)) => refused(&refusal, &arguments),
        Err(Refusal::Error(error)) => report(&Output::new(format_of(&arguments), Verbosity::Normal), &error),
    };
    process::ExitCode::from(code.number())
}

fn run_settled(settings: Settings) -> ExitCode {
    hardening::apply();
    let Settings { cli, profile, command, is_dry_run, origins } = settings;
    let output = output(&cli.global);
    let profile = profile.unwrap_or_default();
    profile.warnings.iter().for_each(|warning| output.warn(warning));
    if output.verbosity() == Verbosity::Everything {
        origins.iter().for_each(|origin| output.note(&format!("setting {origin}")));
    }
    let surroundings = Surroundings { command, profile: profile.name, hooks: profile.hooks, is_dry_run };
    let begun = Session::begin(cli.global, profile.variables, output.clone());
    let ended = begun.and_then(|session| match cli.command {
        // These have nothing to do with a repository, and nobody waits for their end.
        Command::Completions(_) | Command::Config(_) | Command::Man(_) | Command::Version(_) => {
            call(cli.command, &session)
        }
        command => surroundings.run(&session, || {
            let ended = call(command, &session);
            session.limit_caches();
            ended
        }),
    });
    ended.map_or_else(|error| report(&output, &error), |()| ExitCode::Success)
}

fn call(command: Command, session: &Session) -> Result<()> {
    match command {
        Command::Init(args) => init::run(&args, session),
        Command::Backup(args) => backup::run(args, session),
        Command::Snapshots(args) => snapshots::run(&args, session),
        Command::Ls(args) => ls::run(&args, session),
        Command::Find(args) => find::run(&args, session),
        Command::Versions(args) => versions::run(&args, session),
        Command::Diff(args) => diff::run(&args, session),
        Command::Dump(args) => dump::run(&args, session),
        Command::Cat(args) => cat::run(&args, session),
        Command::Restore(args) => restore::run(&args, session),
        #[cfg(feature = "mount")]
        Command::Mount(args) => mount::run(&args, session),
        #[cfg(feature = "serve")]
        Command::Serve(command) => serve::run(&command, session),
        Command::Forget(args) => forget::run(&args, session),
        Command::Unforget(args) => mark::unforget(&args, session),
        Command::Protect(args) => mark::protect(&args, session),
        Command::Tag(args) => mark::tag(&args, session),
        Command::Rewrite(args) => rewrite::run(&args, session),
        Command::Merge(args) => merge::run(&args, session),
        Command::Copy(args) => copy::run(&args, session),
        Command::Key(args) => key::run(&args, session),
        Command::Hold(args) => hold::run(&args, session),
        Command::Prune(command) => prune::run(&command, session),
        Command::Put(args) => put::run(&args, session),
        Command::Check(args) => check::run(&args, session),
        Command::Repair(args) => repair::run(&args, session),
        Command::Stats(args) => stats::run(&args, session),
        Command::Cache(args) => cache::run(&args, session),
        Command::Config(args) => config::run(&args, session),
        Command::Completions(args) => completions::run(&args, session),
        Command::Man(args) => man::run(&args, session),
        Command::Version(args) => version::run(&args, session),
    }
}

fn output(global: &GlobalArgs) -> Output {
    let verbosity = match (global.quiet, global.verbose) {
        (true, _) => Verbosity::Quiet,
        (false, 0) => Verbosity::Normal,
        (false, 1) => Verbosity::Verbose,
        (false, _) => Verbosity::Everything,
    };
    let format = if global.json { Format::Json } else { Format::Text };
    let interval = global.progress_interval.or_else(interval_of_frames);
    let log = global.reporting.log_file.as_ref().map(|path| (path, RunLog::open(path)));
    match log {
        None => Output::new(format, verbosity).with(None, interval),
        Some((_, Ok(log))) => Output::new(format, verbosity).with(Some(log), interval),
        Some((path, Err(error))) => {
            let output = Output::new(format, verbosity).with(None, interval);
            output.warn(&format!("the log {} cannot be written: {error}", path.display()));
            output
        }
    }
}

/// What `DR_PROGRESS_FPS` says: how often a second progress is shown.
fn interval_of_frames() -> Option<Duration> {
    let frames: f64 = env::var("DR_PROGRESS_FPS").ok()?.trim().parse().ok()?;
    (frames > 0.0).then(|| Duration::from_secs_f64((1.0 / frames).clamp(0.01, 86_400.0)))
}

fn report(output: &Output, error: &CliError) -> ExitCode {
    // Nobody is left to be told where standard error is closed.
    let _ = output.write_error(&mut io::stderr().lock(), error);
    error.details().code
}

/// For whom what goes wrong before the arguments are understood is written.
fn format_of(arguments: &[OsString]) -> Format {
    let mut options = arguments.iter().take_while(|argument| *argument != "--");
    let is_set = |value: OsString| matches!(value.to_str(), Some("1" | "true" | "yes" | "on"));
    let is_json = options.any(|argument| argument == "--json") || env::var_os("DR_JSON").is_some_and(is_set);
    if is_json { Format::Json } else { Format::Text }
}

/// Renders what the parser says: help and version on standard output, the rest as an error.
fn refused(refusal: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !refusal.use_stderr() {
        let _ = refusal.print();
        return ExitCode::Success;
    }
    let format = format_of(arguments);
    if let Some(ContextValue::String(name)) = refusal.get(ContextKind::InvalidSubcommand)
        && let Some(instead) = help::instead_of(name)
    {
        let error = CliError::usage(format!("there is no command '{name}'")).with_remedy(instead);
        return report(&Output::new(format, Verbosity::Normal), &error);
    }
    if refusal.kind() == ErrorKind::UnknownArgument
        && let Some(ContextValue::String(argument)) = refusal.get(ContextKind::InvalidArg)
        && let Some(instead) = help::instead_of_option(argument)
    {
        let error = CliError::usage(format!("'{argument}' is not known here")).with_remedy(instead);
        return report(&Output::new(format, Verbosity::Normal), &error);
    }
    if format == Format::Json {
        let text = refusal.render().to_string();
        let text = text.trim();
        return report(
            &Output::new(Format::Json, Verbosity::Normal),
            &CliError::usage(text.strip_prefix("error: ").unwrap_or(text)),
        );
    }
    let _ = refusal.print();
    ExitCode::Usage
}
