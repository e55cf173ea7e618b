//! `dr config`

use std::env;
use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::help;
use crate::render::{json, text};
use crate::session::Session;
use crate::settings::file::{self, Node, SettingsFile, Value};
use crate::settings::profile::{self, Profile, Source};
use crate::settings::{DEFAULT_PROFILE, masked_url, options};

/// Says which settings are in force, and checks files of settings.
#[derive(Debug, Args)]
#[command(
    after_help = "A profile is a table in dr.toml, with a table in it for each command; keys are the long names of options:\n\n\
  [profiles.home]\n\
  repo = \"s3://backups/desk\"\n\
  password-command = \"pass show backup\"\n\
  [profiles.home.env]\n\
  AWS_ACCESS_KEY_ID = \"AKIA…\"\n\
  AWS_SECRET_ACCESS_KEY = { command = [\"pass\", \"show\", \"aws\"] }\n\
  [profiles.home.backup]\n\
  sources = [\"~/documents\", \"/etc\"]\n\
  tag = [\"daily\"]\n\
  ping = \"https://hc.example.com/uuid\"\n\
  [profiles.home.forget]\n\
  keep-daily = 30\n\
  [profiles.home.hooks.backup]\n\
  before = [\"/usr/local/bin/dump-database\", \"--all\"]\n\n\
The command line comes before the environment, that before a profile, and that before what is built in. A list replaces \
another, it does not add to it. 'inherits = \"NAME\"' takes what is not set from another profile. ${NAME} and ${NAME:-otherwise} \
are variables of the environment, and ~/ the home directory. The real environment comes before [env], too.\n\n\
Hooks are before, after (exit code 0), failed (any other) and finally, for all commands or under the command's name. A list \
of words is run as it is, a string by 'sh -c', several stand in a list of lists. 'timeout = \"10m\"' stands beside \
them, and is 1h otherwise. A 'before' that fails prevents the run (exit code 25); others are warnings. They are told DR_COMMAND, \
DR_PROFILE, DR_DRY_RUN, DR_EXIT_CODE, DR_ERROR_CODE and DR_SNAPSHOT_ID. A dr that a hook starts runs no hooks."
)]
pub(crate) struct ConfigArgs {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say what the profile sets, and where; secrets are not shown
    Show,
    /// Check every profile in the files of settings
    Check,
    /// List every option with its variable
    Variables,
}

#[derive(Debug, Serialize)]
struct ShowDocument {
    message_type: &'static str,
    schema: u32,
    files: Vec<String>,
    profile: Option<String>,
    settings: Vec<SettingRecord>,
    env: Vec<EnvRecord>,
    hooks: Vec<HookRecord>,
}

#[derive(Debug, Serialize)]
struct SettingRecord {
    command: Option<String>,
    key: String,
    value: String,
    origin: String,
}

#[derive(Debug, Serialize)]
struct EnvRecord {
    name: String,
    from: String,
    origin: String,
}

#[derive(Debug, Serialize)]
struct HookRecord {
    command: Option<String>,
    phase: &'static str,
    programs: u64,
}

#[derive(Debug, Serialize)]
struct CheckDocument {
    message_type: &'static str,
    schema: u32,
    files: Vec<String>,
    profiles: Vec<String>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct VariablesDocument {
    message_type: &'static str,
    schema: u32,
    options: Vec<OptionRecord>,
}

#[derive(Debug, Serialize)]
struct OptionRecord {
    command: Option<String>,
    option: String,
    takes: &'static str,
    variables: Vec<String>,
    profile_key: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &ConfigArgs, session: &Session) -> Result<()> {
    let mut built = help::command();
    built.build();
    if let What::Variables = args.what {
        return variables(&built, session);
    }
    let files = file::find(session.global.config.as_deref(), &|name| env::var_os(name))?;
    match args.what {
        What::Check => check(&files, &built, session),
        _ => show(&files, &built, session),
    }
}

fn show(files: &[SettingsFile], built: &clap::Command, session: &Session) -> Result<()> {
    let names = profile::names(files)?;
    let is_default = || names.iter().any(|name| name == DEFAULT_PROFILE).then(|| DEFAULT_PROFILE.to_owned());
    let name = session.global.profile.clone().or_else(is_default);
    let profile =
        name.as_ref().map(|name| profile::read(name, files, built)).transpose()?.unwrap_or_default();
    let document = ShowDocument {
        message_type: "config",
        schema: json::SCHEMA,
        files: paths(files),
        profile: name,
        settings: settings(&profile, built),
        env: profile
            .variables
            .iter()
            .map(|(name, variable)| EnvRecord {
                name: name.clone(),
                from: match (&variable.source, env::var_os(name)) {
                    (_, Some(_)) => "the environment".to_owned(),
                    (Source::Text(_), _) => "the file".to_owned(),
                    (Source::Program(words), _) => {
                        format!("the program {}", words.first().map_or("", |word| word))
                    }
                },
                origin: variable.place.to_string(),
            })
            .collect(),
        hooks: profile
            .hooks
            .iter()
            .map(|hook| HookRecord {
                command: hook.command.clone(),
                phase: hook.phase.name(),
                programs: hook.programs.len() as u64,
            })
            .collect(),
    };
    if session.output.is_json() {
        return session.output.document(&document);
    }
    let mut data = session.output.data();
    write_show(&mut data, &document).and_then(|()| data.flush()).map_err(CliError::output)
}

/// What the profile and the environment set. What a nearer profile, or the environment, sets too is left out.
fn settings(profile: &Profile, built: &clap::Command) -> Vec<SettingRecord> {
    let mut records = Vec::new();
    let set = |name: &String| {
        env::var_os(name).filter(|value| !value.is_empty()).map(|value| (name.clone(), value))
    };
    let mut seen: Vec<(Vec<String>, String)> = Vec::new();
    for option in options::of_all(built) {
        let Some((name, value)) = option.variables().iter().find_map(set) else { continue };
        seen.push((option.commands.clone(), option.id.clone()));
        records.push(SettingRecord {
            command: joined(&option.commands),
            value: masked(&option.key, &value.to_string_lossy()),
            key: option.key,
            origin: name,
        });
    }
    for setting in &profile.settings {
        let place = (setting.commands.clone(), setting.option.id.clone());
        if seen.contains(&place) {
            continue;
        }
        seen.push(place);
        records.push(SettingRecord {
            command: joined(&setting.commands),
            key: setting.option.key.clone(),
            value: masked(&setting.option.key, &shown(&setting.node)),
            origin: setting.node.place.to_string(),
        });
    }
    records
}

fn shown(node: &Node) -> String {
    match &node.value {
        Value::Text(text) | Value::Literal(text) => text.clone(),
        Value::Bool(value) => value.to_string(),
        Value::List(list) => list.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Table(_) => String::new(),
    }
}

/// A value without what may be secret in it.
fn masked(key: &str, value: &str) -> String {
    match key {
        "password-command" => format!("{} …", value.split_whitespace().next().unwrap_or_default()),
        // What stands behind the host is what lets one in.
        "ping" => match value.split_once("://") {
            Some((scheme, rest)) => {
                let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
                format!("{scheme}://{}/…", host.rsplit('@').next().unwrap_or_default())
            }
            None => "…".to_owned(),
        },
        _ => masked_url(value),
    }
}

fn joined(commands: &[String]) -> Option<String> {
    (!commands.is_empty()).then(|| commands.join(" "))
}

fn paths(files: &[SettingsFile]) -> Vec<String> {
    files.iter().map(|file| file.path.display().to_string()).collect()
}

fn write_show(to: &mut dyn Write, document: &ShowDocument) -> io::Result<()> {
    if document.files.is_empty() {
        let places = file::places(&|name| env::var_os(name));
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        writeln!(to, "there is no file of settings: looked for {}", text::printable(&places.join(", ")))?;
    }
    for file in &document.files {
        writeln!(to, "file     {}", text::printable(file))?;
    }
    match &document.profile {
        Some(name) => writeln!(to, "profile  {}\n", text::printable(name))?,
        None => writeln!(to, "profile  none\n")?,
    }
    let mut rows: Vec<Vec<String>> = Vec::new();
    let whose = |command: &Option<String>| command.clone().unwrap_or_else(|| "all".to_owned());
    for record in &document.settings {
        rows.push(vec![
            whose(&record.command),
            record.key.clone(),
            record.value.clone(),
            record.origin.clone(),
        ]);
    }
    for record in &document.env {
        rows.push(vec![
            "env".to_owned(),
            record.name.clone(),
            format!("from {}", record.from),
            record.origin.clone(),
        ]);
    }
    for record in &document.hooks {
        let count = text::count(record.programs, "program", "programs");
        rows.push(vec![whose(&record.command), format!("hook {}", record.phase), count, String::new()]);
    }
    let rows: Vec<Vec<String>> =
        rows.iter().map(|row| row.iter().map(|cell| text::printable(cell).into_owned()).collect()).collect();
    text::table(to, &["Command", "Setting", "Value", "Origin"], &rows)
}

fn check(files: &[SettingsFile], built: &clap::Command, session: &Session) -> Result<()> {
    if files.is_empty() {
        let places = file::places(&|name| env::var_os(name));
        let places: Vec<String> = places.iter().map(|path| path.display().to_string()).collect();
        return Err(CliError::config(format!(
            "there is no file of settings: looked for {}",
            places.join(", ")
        )));
    }
    let profiles = profile::names(files)?;
    let mut warnings = Vec::new();
    for name in &profiles {
        let profile = profile::read(name, files, built)?;
        crate::settings::check(&profile, built, &|name| env::var_os(name))?;
        warnings.extend(profile.warnings);
    }
    warnings.dedup();
    warnings.iter().for_each(|warning| session.output.warn(warning));
    let document = CheckDocument {
        message_type: "config_check",
        schema: json::SCHEMA,
        files: paths(files),
        profiles,
        warnings,
    };
    session.output.summary(&document, |to| {
        let count = text::count(document.profiles.len() as u64, "profile", "profiles");
        writeln!(to, "{count} in {}: nothing is wrong", text::printable(&document.files.join(", ")))
    })
}

fn variables(built: &clap::Command, session: &Session) -> Result<()> {
    let record = |option: options::Known| OptionRecord {
        command: joined(&option.commands),
        option: option.written(),
        takes: match option.takes {
            options::Takes::Nothing => "nothing",
            options::Takes::Repetition => "repetition",
            options::Takes::Value => "value",
            options::Takes::Values => "values",
        },
        variables: option.variables(),
        profile_key: option.is_for_profiles().then_some(option.key),
    };
    let options = options::of_all(built).into_iter().map(record).collect();
    let document = VariablesDocument { message_type: "config_variables", schema: json::SCHEMA, options };
    if session.output.is_json() {
        return session.output.document(&document);
    }
    let rows: Vec<Vec<String>> = document
        .options
        .iter()
        .map(|option| {
            let command = option.command.clone().unwrap_or_else(|| "all".to_owned());
            vec![command, option.option.clone(), option.variables.join(", ")]
        })
        .collect();
    let mut data = session.output.data();
    text::table(&mut data, &["Command", "Option", "Variable"], &rows)
        .and_then(|()| data.flush())
        .map_err(CliError::output)
}
