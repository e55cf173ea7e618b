//! Where settings come from: the command line, else the environment, else a profile, else what is built in.
//!
//! The environment and a profile are put below the command line as defaults, one option at a time, so that the parser
//! checks every value in the one place. An option that excludes one from a higher place is left out.

mod apply;
mod expand;
pub(crate) mod file;
pub(crate) mod options;
pub(crate) mod profile;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, FromArgMatches};

use crate::args::Cli;
use crate::error::{CliError, Result};
use crate::help;

use apply::{Layer, Level};
pub(crate) use expand::expand;
use profile::Profile;

/// The profile that is taken where none is named.
pub(crate) const DEFAULT_PROFILE: &str = "default";
/// Commands that no profile says anything about.
const WITHOUT_PROFILE: &[&str] = &["completions", "config", "help", "man", "version"];

/// Looks a variable of the environment up.
pub(crate) type Variables<'v> = &'v dyn Fn(&str) -> Option<OsString>;

/// What a run was told, from everywhere.
#[derive(Debug)]
pub(crate) struct Settings {
    /// The arguments and what stands in for those that are not there.
    pub(crate) cli: Cli,
    /// The profile, where one is in use.
    pub(crate) profile: Option<Profile>,
    /// What the run is to do, in words of the command line.
    pub(crate) command: Vec<String>,
    /// Whether nothing is to be changed.
    pub(crate) is_dry_run: bool,
    /// The options that were not given on the command line, and where they come from.
    pub(crate) origins: Vec<String>,
}

/// Why there are no settings.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// The parser's words: help, too.
    Parser(clap::Error),
    /// Something else is wrong.
    Error(CliError),
}

impl From<clap::Error> for Refusal {
    fn from(error: clap::Error) -> Refusal {
        Refusal::Parser(error)
    }
}

impl From<CliError> for Refusal {
    fn from(error: CliError) -> Refusal {
        Refusal::Error(error)
    }
}

/// Reads the command line, and what stands in for what it does not say.
pub(crate) fn read(
    arguments: &[OsString],
    variable: Variables<'_>,
) -> std::result::Result<Settings, Refusal> {
    let relaxed = apply::relaxed(help::command());
    let first = match relaxed.clone().try_get_matches_from(arguments) {
        Ok(first) => first,
        // The command as it is has the better words, with what is required in them.
        Err(error) => {
            return Err(help::command().try_get_matches_from(arguments).err().unwrap_or(error).into());
        }
    };
    let chain = chain_of(&first);
    let mut built = help::command();
    built.build();
    let mut level = Level::new(&built, &relaxed, &chain, &first);
    level.admit(Layer::environment(&level, variable)?)?;
    let profile = match chain.first() {
        Some(command) if !WITHOUT_PROFILE.contains(&command.as_str()) => choose(&level, variable, &built)?,
        _ => None,
    };
    if let Some(profile) = &profile {
        level.admit(Layer::profile(&level, profile, variable)?)?;
    }
    let (command, origins) = (level.applied(help::command()), level.origins());
    let matches = command.try_get_matches_from(arguments)?;
    let is_dry_run = is_dry_run(&matches);
    let cli = Cli::from_arg_matches(&matches)?;
    Ok(Settings { cli, profile, command: chain, is_dry_run, origins })
}

/// Finds the profile of a run: the one that is named must be there, the default one may.
fn choose(level: &Level<'_>, variable: Variables<'_>, built: &clap::Command) -> Result<Option<Profile>> {
    let named = level.value("profile");
    let files = file::find(level.value("config").map(PathBuf::from).as_deref(), variable)?;
    let name = match named {
        Some(name) => name.into_string().map_err(|_| CliError::usage("the profile's name is not UTF-8"))?,
        None if profile::names(&files)?.iter().any(|name| name == DEFAULT_PROFILE) => {
            DEFAULT_PROFILE.to_owned()
        }
        None => return Ok(None),
    };
    profile::read(&name, &files, built).map(Some)
}

/// Has the parser look at everything that a profile says.
pub(crate) fn check(profile: &Profile, built: &clap::Command, variable: Variables<'_>) -> Result<()> {
    let relaxed = apply::relaxed(help::command());
    let nothing = ArgMatches::default();
    let mut chains: Vec<&[String]> =
        profile.settings.iter().map(|setting| setting.commands.as_slice()).collect();
    chains.sort();
    chains.dedup();
    for chain in chains {
        // Options of all commands are looked at through one that has a table, or through any.
        let any = ["stats".to_owned()];
        let chain = if chain.is_empty() { &any[..] } else { chain };
        let mut level = Level::new(built, &relaxed, chain, &nothing);
        level.admit(Layer::profile(&level, profile, &|name| {
            // What the environment says about secrets is another matter.
            variable(name).filter(|_| !apply::SECRET_VARIABLES.contains(&name))
        })?)?;
    }
    Ok(())
}

/// The commands on the command line, from the outermost.
fn chain_of(matches: &ArgMatches) -> Vec<String> {
    let mut chain = Vec::new();
    let mut level = matches;
    while let Some((name, below)) = level.subcommand() {
        chain.push(name.to_owned());
        level = below;
    }
    chain
}

fn is_dry_run(matches: &ArgMatches) -> bool {
    let mut level = matches;
    while let Some((_, below)) = level.subcommand() {
        level = below;
    }
    matches!(level.try_get_one::<bool>("dry_run"), Ok(Some(true)))
}

/// The options that the command line itself gives, at every level.
fn given(matches: &ArgMatches) -> Vec<String> {
    let mut found = Vec::new();
    let mut level = Some(matches);
    while let Some(matches) = level {
        let is_given = |id: &&clap::Id| matches.value_source(id.as_str()) == Some(ValueSource::CommandLine);
        found.extend(matches.ids().filter(is_given).map(|id| id.as_str().to_owned()));
        level = matches.subcommand().map(|(_, below)| below);
    }
    found
}

/// A location without what may be secret in it: a name and password before the host, and what stands behind a '?'.
pub(crate) fn masked_url(location: &str) -> String {
    let Some((scheme, rest)) = location.split_once("://") else { return location.to_owned() };
    let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let hidden = if host.len() < authority.len() { "…@" } else { "" };
    let (path, query) = path.split_at(path.find(['?', '#']).unwrap_or(path.len()));
    let query = if query.is_empty() { "" } else { "?…" };
    format!("{scheme}://{hidden}{host}{path}{query}")
}

/// The bytes of a text of the operating system, cut at every line's end.
fn lines_of(text: &OsStr) -> Vec<OsString> {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let lines = text.as_bytes().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines.map(|line| OsString::from_vec(line.to_vec())).collect()
}

#[cfg(test)]
mod tests;
