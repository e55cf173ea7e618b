//! One run: parse, prepare, call the command, say how it ended.

use std::ffi::OsString;
use std::io;
use std::process;

use clap::Parser;

use crate::args::{Cli, Command, GlobalArgs};
#[cfg(feature = "mount")]
use crate::commands::mount;
#[cfg(feature = "serve")]
use crate::commands::serve;
use crate::commands::{
    backup, cache, cat, check, copy, diff, dump, find, forget, hold, init, ls, mark, merge, prune, put,
    repair, restore, rewrite, snapshots, stats, version, versions,
};
use crate::error::{CliError, Result};
use crate::exit_code::ExitCode;
use crate::hardening;
use crate::render::{Format, Output, Verbosity};
use crate::session::Session;

/// Runs the program with the process's arguments.
pub(crate) fn run() -> process::ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let code = match Cli::try_parse_from(&arguments) {
        Ok(cli) => {
            hardening::apply();
            let output = output(&cli.global);
            let ended = Session::begin(cli.global, output.clone()).and_then(|session| {
                let ended = call(cli.command, &session);
                session.limit_caches();
                ended
            });
            ended.map_or_else(|error| report(&output, &error), |()| ExitCode::Success)
        }
        Err(refusal) => refused(&refusal, &arguments),
    };
    process::ExitCode::from(code.number())
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
        Command::Hold(args) => hold::run(&args, session),
        Command::Prune(command) => prune::run(&command, session),
        Command::Put(args) => put::run(&args, session),
        Command::Check(args) => check::run(&args, session),
        Command::Repair(args) => repair::run(&args, session),
        Command::Stats(args) => stats::run(&args, session),
        Command::Cache(args) => cache::run(&args, session),
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
    Output::new(if global.json { Format::Json } else { Format::Text }, verbosity)
}

fn report(output: &Output, error: &CliError) -> ExitCode {
    // Nobody is left to be told where standard error is closed.
    let _ = output.write_error(&mut io::stderr().lock(), error);
    error.details().code
}

/// Renders what the parser says: help and version on standard output, the rest as an error.
fn refused(refusal: &clap::Error, arguments: &[OsString]) -> ExitCode {
    if !refusal.use_stderr() {
        let _ = refusal.print();
        return ExitCode::Success;
    }
    let mut options = arguments.iter().take_while(|argument| *argument != "--");
    if options.any(|argument| argument == "--json") {
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
