//! Puts layers of settings below the command line.

use std::ffi::OsString;

use clap::builder::Resettable;
use clap::error::ErrorKind;
use clap::{Arg, ArgMatches, Command};

use super::file::{Node, Value};
use super::options::{self, Known, Takes};
use super::profile::{Profile, Setting};
use super::{Variables, expand, given, lines_of};
use crate::error::{CliError, Result};

/// The options that say where the secret is: of them, those in the highest place count and no others.
const SECRETS: &[&str] = &["key_file", "password_file", "password_command"];
/// The variables that do.
pub(super) const SECRET_VARIABLES: &[&str] =
    &["DR_KEY_FILE", "DR_PASSWORD_FILE", "DR_PASSWORD_COMMAND", "DR_PASSWORD"];

/// An option with values from below the command line.
#[derive(Debug)]
struct Candidate {
    option: Known,
    values: Vec<OsString>,
    /// Where they come from, in words.
    origin: String,
    /// Those with the same rank were written beside each other.
    rank: usize,
}

impl Candidate {
    /// Whether it says that a flag is not there.
    fn is_off(&self) -> bool {
        self.option.takes == Takes::Nothing && self.values == ["false"]
    }
}

/// One place that settings come from.
#[derive(Debug, Default)]
pub(super) struct Layer(Vec<Candidate>);

/// What is settled so far for one command.
pub(super) struct Level<'c> {
    leaf: &'c Command,
    relaxed: &'c Command,
    chain: &'c [String],
    first: &'c ArgMatches,
    known: Vec<Known>,
    given: Vec<String>,
    settled: Vec<Candidate>,
}

impl<'c> Level<'c> {
    pub(super) fn new(
        built: &'c Command,
        relaxed: &'c Command,
        chain: &'c [String],
        first: &'c ArgMatches,
    ) -> Level<'c> {
        let mut leaf = built;
        for name in chain {
            leaf = leaf.find_subcommand(name).unwrap_or(leaf);
        }
        let known = options::of_command(built, chain);
        let (given, settled) = (given(first), Vec::new());
        Level { leaf, relaxed, chain, first, known, given, settled }
    }

    /// A single value of an option of all commands, as it is settled so far.
    pub(super) fn value(&self, id: &str) -> Option<OsString> {
        let given = self.first.get_raw(id).and_then(|mut values| values.next()).map(OsString::from);
        let below = || self.settled.iter().find(|candidate| candidate.option.id == id);
        given.or_else(|| below()?.values.first().cloned())
    }

    /// Takes the options of a layer that nothing higher sets or excludes.
    pub(super) fn admit(&mut self, layer: Layer) -> Result<()> {
        let higher = self.settled.len();
        for candidate in layer.0 {
            let id = candidate.option.id.as_str();
            let is_set = |other: &Candidate| {
                other.option.id == id && other.option.commands == candidate.option.commands
            };
            if self.given.iter().any(|given| given == id) || self.settled.iter().any(is_set) {
                continue;
            }
            if self.given.iter().any(|given| self.excludes(id, given)) {
                continue;
            }
            let excluding = self.settled.iter().position(|other| {
                !candidate.is_off() && !other.is_off() && self.excludes(id, &other.option.id)
            });
            if let Some(at) = excluding {
                let other = &self.settled[at];
                if at >= higher && other.rank == candidate.rank {
                    let (one, two) = (&candidate.option.key, &other.option.key);
                    let why = format!("{}: '{one}' and '{two}' exclude each other", candidate.origin);
                    return Err(CliError::config(why));
                }
                continue;
            }
            self.check(&candidate)?;
            self.settled.push(candidate);
        }
        Ok(())
    }

    /// Whether two options cannot be used together.
    fn excludes(&self, one: &str, other: &str) -> bool {
        if SECRETS.contains(&one) && SECRETS.contains(&other) {
            return one != other;
        }
        let names = |one: &str, other: &str| {
            let arg = self.leaf.get_arguments().find(|arg| arg.get_id() == one);
            let conflicts = arg.map(|arg| self.leaf.get_arg_conflicts_with(arg)).unwrap_or_default();
            conflicts.iter().any(|arg| arg.get_id() == other)
        };
        names(one, other) || names(other, one)
    }

    /// Has the parser look at values as if they stood on the command line.
    fn check(&self, candidate: &Candidate) -> Result<()> {
        let option = &candidate.option;
        if !matches!(option.takes, Takes::Value | Takes::Values) || !option.is_named {
            return Ok(());
        }
        for value in &candidate.values {
            let mut argument = OsString::from(format!("--{}=", option.key));
            argument.push(value);
            let mut line = vec![OsString::from("dr")];
            line.extend(self.chain.iter().map(OsString::from));
            line.push(argument);
            let Err(error) = self.relaxed.clone().try_get_matches_from(line) else { continue };
            if matches!(
                error.kind(),
                ErrorKind::InvalidValue | ErrorKind::ValueValidation | ErrorKind::InvalidUtf8
            ) {
                let text = error.to_string();
                let text = text.trim_start_matches("error: ").lines().next().unwrap_or_default();
                return Err(CliError::config(format!("{}: {text}", candidate.origin)));
            }
        }
        Ok(())
    }

    /// The command with everything that was settled as its defaults.
    pub(super) fn applied(&self, command: Command) -> Command {
        self.settled.iter().fold(command, |command, candidate| {
            let id = candidate.option.id.clone();
            let values = candidate.values.clone();
            at(command, &candidate.option.commands, &|command| {
                command.mut_arg(&id, |arg| {
                    let arg = if values.is_empty() { arg } else { unrequired(arg) };
                    arg.default_values(values.clone())
                })
            })
        })
    }

    /// Where each option that was settled comes from, for people.
    pub(super) fn origins(&self) -> Vec<String> {
        let line = |candidate: &Candidate| format!("{}: {}", candidate.option.written(), candidate.origin);
        self.settled.iter().map(line).collect()
    }
}

impl Layer {
    /// How many options it sets.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// The variables of the options that the command has.
    pub(super) fn environment(level: &Level<'_>, variable: Variables<'_>) -> Result<Layer> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let mut layer = Layer::default();
        for option in &level.known {
            // Where several say where the secret is, there is an order among them: it is kept where secrets are read.
            if SECRETS.contains(&option.id.as_str()) {
                continue;
            }
            let found = option.variables().into_iter().find_map(|name| set(&name).map(|value| (name, value)));
            let Some((name, value)) = found else { continue };
            let values =
                from_variable(option, &value).map_err(|why| CliError::config(format!("{name} {why}")))?;
            let rank = layer.0.len();
            layer.0.push(Candidate { option: option.clone(), values, origin: name, rank });
        }
        Ok(layer)
    }

    /// The options of a profile that the command has, the nearest first.
    pub(super) fn profile(level: &Level<'_>, profile: &Profile, variable: Variables<'_>) -> Result<Layer> {
        let is_secret_known =
            SECRET_VARIABLES.iter().any(|name| variable(name).is_some_and(|value| !value.is_empty()));
        let is_of = |setting: &&Setting| {
            let is_secret = SECRETS.contains(&setting.option.id.as_str());
            level.chain.starts_with(&setting.commands) && !(is_secret && is_secret_known)
        };
        let mut settings: Vec<&Setting> = profile.settings.iter().filter(is_of).collect();
        // Of one profile, the table of the command counts before the profile's own options.
        settings.sort_by_key(|setting| (setting.distance, std::cmp::Reverse(setting.commands.len())));
        let mut layer = Layer::default();
        for setting in settings {
            let (option, place) = (&setting.option, &setting.node.place);
            let values = values_of(option, &setting.node, variable)?;
            let rank = setting.distance * 8 + (7 - setting.commands.len().min(7));
            let origin = place.to_string();
            layer.0.push(Candidate { option: option.clone(), values, origin, rank });
        }
        Ok(layer)
    }
}

fn from_variable(option: &Known, value: &OsString) -> std::result::Result<Vec<OsString>, String> {
    let text = value.to_string_lossy();
    let yes = match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Some("true"),
        "0" | "false" | "no" | "off" => Some("false"),
        _ => None,
    };
    match option.takes {
        Takes::Nothing => match yes {
            Some(yes) => Ok(vec![yes.into()]),
            None => Err(format!("takes 1, 0, true or false, not '{text}'")),
        },
        Takes::Repetition => match (text.parse::<u8>(), yes) {
            (Ok(count), _) => Ok(vec![count.to_string().into()]),
            (_, Some(yes)) => Ok(vec![if yes == "true" { "1" } else { "0" }.into()]),
            _ => Err(format!("takes a number, not '{text}'")),
        },
        Takes::Value => Ok(vec![value.clone()]),
        Takes::Values => Ok(lines_of(value)),
    }
}

/// What a profile says, as the parser takes it.
fn values_of(option: &Known, node: &Node, variable: Variables<'_>) -> Result<Vec<OsString>> {
    let key = &option.key;
    let wrong = |what: &str| Err(node.place.error(format!("'{key}' takes {what}")));
    match (&node.value, option.takes) {
        (Value::Bool(value), Takes::Nothing) => Ok(vec![value.to_string().into()]),
        (_, Takes::Nothing) => wrong("true or false"),
        (Value::Bool(value), Takes::Repetition) => Ok(vec![u8::from(*value).to_string().into()]),
        (Value::Literal(number), Takes::Repetition) if number.parse::<u8>().is_ok() => {
            Ok(vec![number.into()])
        }
        (_, Takes::Repetition) => wrong("a number"),
        (Value::List(list), Takes::Values) => list.iter().map(|item| single(item, key, variable)).collect(),
        (Value::List(_), _) => wrong("one value, not a list"),
        _ => Ok(vec![single(node, key, variable)?]),
    }
}

fn single(node: &Node, key: &str, variable: Variables<'_>) -> Result<OsString> {
    match &node.value {
        Value::Text(text) => {
            let known = |name: &str| variable(name)?.into_string().ok();
            expand(text, &known).map(OsString::from).map_err(|why| node.place.error(why))
        }
        Value::Literal(number) => Ok(number.into()),
        _ => Err(node.place.error(format!("'{key}' takes a string or a number"))),
    }
}

/// The same command with nothing required, to find out what the command line gives.
pub(super) fn relaxed(command: Command) -> Command {
    command.mut_args(unrequired).mut_subcommands(relaxed)
}

fn unrequired(arg: Arg) -> Arg {
    if arg.is_global_set() { arg } else { arg.required(false).required_unless_present(Resettable::Reset) }
}

/// Changes the command that a chain of names leads to.
fn at(command: Command, chain: &[String], change: &dyn Fn(Command) -> Command) -> Command {
    match chain.split_first() {
        None => change(command),
        Some((name, rest)) => command.mut_subcommand(name, |below| at(below, rest, change)),
    }
}
