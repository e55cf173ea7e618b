//! A profile: its tables, and those of the profiles that it inherits from, checked against the options that there are.

use std::collections::BTreeMap;

use clap::Command;
use zeroize::Zeroizing;

use super::file::{Node, Place, SettingsFile, Table, Value};
use super::options::{self, Known, nearest};
use crate::credentials;
use crate::error::{CliError, Result};
use crate::hooks::{self, Hook};

/// How many profiles one may inherit from, one after the other.
const ANCESTORS_MAX: usize = 16;
/// What stands in a profile beside options and commands.
const SPECIAL: &[&str] = &["inherits", "env", "hooks"];
/// Options of all commands that say something about one run: in a profile they stand in a command's table only. A
/// listing must not look like a backup to whoever watches.
const PER_COMMAND: &[&str] = &["ping"];

/// What one profile comes to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Profile {
    /// Its name.
    pub(crate) name: String,
    /// Its options, the nearest first.
    pub(crate) settings: Vec<Setting>,
    /// Variables of the store.
    pub(crate) variables: BTreeMap<String, Variable>,
    /// What runs before and after commands.
    pub(crate) hooks: Vec<Hook>,
    /// What its owner should know.
    pub(crate) warnings: Vec<String>,
}

/// An option that is set.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    /// The commands whose table it stands in.
    pub(crate) commands: Vec<String>,
    /// The option.
    pub(crate) option: Known,
    /// Its value.
    pub(crate) node: Node,
    /// How far away its profile is: 0 for the one that was asked for.
    pub(crate) distance: usize,
}

/// A variable of the store.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    /// Where it is set.
    pub(crate) place: Place,
    /// Where its value comes from.
    pub(crate) source: Source,
}

impl Variable {
    /// Its value.
    pub(crate) fn read(&self) -> Result<Zeroizing<String>> {
        match &self.source {
            Source::Text(text) => {
                let known = |name: &str| std::env::var(name).ok();
                super::expand(text, &known).map(Zeroizing::new).map_err(|why| self.place.error(why))
            }
            Source::Program(words) => {
                let secret = credentials::from_program(&format!("{}: the program", self.place), words)?;
                let text =
                    std::str::from_utf8(&secret).map_err(|_| self.place.error("the secret is not UTF-8"))?;
                Ok(Zeroizing::new(text.to_owned()))
            }
        }
    }
}

/// Where a variable's value comes from.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// It stands in the file.
    Text(String),
    /// A program writes it.
    Program(Vec<String>),
}

/// The names of the profiles in files, each once.
pub(crate) fn names(files: &[SettingsFile]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in files {
        for (key, node) in &file.root {
            if key != "profiles" {
                let hint = "settings stand in tables such as [profiles.default]";
                return Err(node.place.error(format!("unknown key '{key}'")).with_remedy(hint));
            }
            names.extend(node.table("'profiles'")?.keys().cloned());
        }
    }
    names.sort();
    names.dedup();
    Ok(names)
}

/// Reads a profile and what it inherits.
pub(crate) fn read(name: &str, files: &[SettingsFile], built: &Command) -> Result<Profile> {
    let known = names(files)?;
    let mut profile = Profile { name: name.to_owned(), ..Profile::default() };
    let mut passed: Vec<String> = Vec::new();
    let mut next = Some((name.to_owned(), None::<Place>));
    while let Some((name, place)) = next.take() {
        let Some((file, node)) = find(files, &name) else { return Err(unknown(&name, place, &known)) };
        if passed.contains(&name) || passed.len() > ANCESTORS_MAX {
            return Err(node.place.error(format!("the profile '{name}' inherits from itself")));
        }
        let table = node.table(&format!("profile '{name}'"))?;
        let distance = passed.len();
        let mut reader = Reader { built, profile: &mut profile, distance };
        reader.tables(table, &mut Vec::new(), built)?;
        reader.special(table)?;
        if file.is_public && holds_secret(table) {
            profile.warnings.push(format!(
                "others may read {}, and profile '{name}' holds secrets: 'chmod 600' it, or let a program give them",
                file.path.display()
            ));
        }
        if let Some(parent) = table.get("inherits") {
            next = Some((parent.text("'inherits'")?.to_owned(), Some(parent.place.clone())));
        }
        passed.push(name);
    }
    Ok(profile)
}

fn find<'f>(files: &'f [SettingsFile], name: &str) -> Option<(&'f SettingsFile, &'f Node)> {
    files.iter().find_map(|file| match &file.root.get("profiles")?.value {
        Value::Table(profiles) => Some((file, profiles.get(name)?)),
        _ => None,
    })
}

fn unknown(name: &str, place: Option<Place>, known: &[String]) -> CliError {
    let why = format!("there is no profile '{name}'");
    let error = match place {
        Some(place) => place.error(why),
        None => CliError::config(why),
    };
    let meant = nearest(name, known.iter().map(String::as_str));
    error.with_remedy(match (meant, known.is_empty()) {
        (Some(meant), _) => format!("did you mean '{meant}'?"),
        (None, true) => "no file of settings has any: 'dr config show' names the files".to_owned(),
        (None, false) => format!("there are: {}", known.join(", ")),
    })
}

/// Whether secrets stand in a table themselves.
fn holds_secret(profile: &Table) -> bool {
    let is_secret_name = |name: &str| {
        let name = name.to_ascii_uppercase();
        ["KEY", "SECRET", "TOKEN", "PASS", "CREDENTIAL", "SAS"].iter().any(|part| name.contains(part))
    };
    let is_plain = |node: &Node| matches!(&node.value, Value::Text(text) if !text.contains("${"));
    let variables = match profile.get("env").map(|node| &node.value) {
        Some(Value::Table(table)) => table
            .iter()
            .any(|(name, node)| is_secret_name(name) && !name.ends_with("_FILE") && is_plain(node)),
        _ => false,
    };
    let location = |key: &str| match profile.get(key).map(|node| &node.value) {
        Some(Value::Text(text)) => super::masked_url(text) != *text,
        _ => false,
    };
    variables || location("repo") || location("repository")
}

/// Puts the tables of one profile into what all come to.
struct Reader<'r> {
    built: &'r Command,
    profile: &'r mut Profile,
    distance: usize,
}

impl Reader<'_> {
    /// Reads the options in a table, and the tables of commands below it.
    fn tables(&mut self, table: &Table, chain: &mut Vec<String>, command: &Command) -> Result<()> {
        let known = options::of_command(self.built, chain);
        for (key, node) in table {
            if chain.is_empty() && SPECIAL.contains(&key.as_str()) {
                continue;
            }
            let below = command.find_subcommand(key).filter(|_| matches!(node.value, Value::Table(_)));
            if let Some(next) = below {
                chain.push(next.get_name().to_owned());
                self.tables(node.table(key)?, chain, next)?;
                chain.pop();
                continue;
            }
            let option = known.iter().find(|option| option.is_for_profiles() && option.is_called(key));
            let Some(option) = option else { return Err(unknown_key(key, node, chain, &known, command)) };
            if chain.is_empty() && PER_COMMAND.contains(&option.key.as_str()) {
                let hint = format!("for example under [profiles.{}.backup]", self.profile.name);
                return Err(node
                    .place
                    .error(format!("'{key}' must stand in a command's table"))
                    .with_remedy(hint));
            }
            self.profile.settings.push(Setting {
                commands: chain.clone(),
                option: option.clone(),
                node: node.clone(),
                distance: self.distance,
            });
        }
        Ok(())
    }

    fn special(&mut self, table: &Table) -> Result<()> {
        if let Some(node) = table.get("env") {
            for (name, node) in node.table("'env'")? {
                let variable = self.variable(name, node)?;
                self.profile.variables.entry(name.clone()).or_insert(variable);
            }
        }
        if let Some(node) = table.get("hooks") {
            let hooks = hooks::read(node, self.built)?;
            for hook in hooks {
                let is_same = |known: &Hook| known.command == hook.command && known.phase == hook.phase;
                if !self.profile.hooks.iter().any(is_same) {
                    self.profile.hooks.push(hook);
                }
            }
        }
        Ok(())
    }

    fn variable(&self, name: &str, node: &Node) -> Result<Variable> {
        let all = options::of_all(self.built);
        let is_option = all.iter().find(|option| option.variables().iter().any(|variable| variable == name));
        if let Some(option) = is_option {
            let why = format!("{name} stands for an option: set '{}' in the profile itself", option.key);
            return Err(node.place.error(why));
        }
        if name == "DR_PASSWORD" {
            let why = "the password is not taken from here: use password-command or password-file";
            return Err(node.place.error(why));
        }
        let source = match &node.value {
            Value::Text(text) => Source::Text(text.clone()),
            Value::Table(table) => match (table.get("command"), table.len()) {
                (Some(command), 1) => Source::Program(command.words("'command'")?),
                _ => return Err(node.place.error(format!("{name} takes one key, 'command'"))),
            },
            _ => {
                let why = format!("{name} takes a string, or {{ command = [\"program\", \"argument\"] }}");
                return Err(node.place.error(why));
            }
        };
        Ok(Variable { place: node.place.clone(), source })
    }
}

fn unknown_key(key: &str, node: &Node, chain: &[String], known: &[Known], command: &Command) -> CliError {
    let table = if chain.is_empty() { String::new() } else { format!(" for 'dr {}'", chain.join(" ")) };
    let options = known.iter().filter(|option| option.is_for_profiles()).map(|option| option.key.as_str());
    let commands = command.get_subcommands().map(Command::get_name);
    let special = SPECIAL.iter().copied().filter(|_| chain.is_empty());
    let meant = nearest(key, options.chain(commands).chain(special));
    let error = node.place.error(format!("unknown key '{key}'{table}"));
    match meant {
        Some(meant) => error.with_remedy(format!("did you mean '{meant}'?")),
        None => error.with_remedy("keys are the long names of options: see 'dr config variables'"),
    }
}
