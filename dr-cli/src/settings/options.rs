//! The options that can be set elsewhere than on the command line, and what they are called there.

use clap::{Arg, ArgAction, Command};

/// What an option takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Takes {
    /// Nothing: it is there or not.
    Nothing,
    /// Nothing, and may be repeated.
    Repetition,
    /// A value.
    Value,
    /// Any number of values.
    Values,
}

/// An option of the program, or of one of its commands.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    /// The commands that lead to it; none where every command has it.
    pub(crate) commands: Vec<String>,
    /// The parser's name for it.
    pub(crate) id: String,
    /// What it is called in a profile: its long name, or a name for arguments without one.
    pub(crate) key: String,
    /// What it takes.
    pub(crate) takes: Takes,
    /// Whether it is written with two dashes.
    pub(crate) is_named: bool,
}

/// What is read from the command line or the environment only.
const NEVER_IN_PROFILES: &[&str] = &["config", "profile"];
/// Arguments without a name of their own, by command: what profiles call them.
const UNNAMED: &[(&str, &str, &str)] = &[("backup", "paths", "sources")];
/// Further names in profiles.
const OTHER_KEYS: &[(&str, &str)] = &[("repository", "repo")];
/// Names of variables that came before the rule; they count before the rule's.
const OTHER_VARIABLES: &[(&str, &str)] = &[("repo", "DR_REPOSITORY")];

impl Known {
    fn new(commands: &[String], arg: &Arg) -> Option<Known> {
        let takes = match arg.get_action() {
            ArgAction::SetTrue => Takes::Nothing,
            ArgAction::Count => Takes::Repetition,
            ArgAction::Set => Takes::Value,
            ArgAction::Append => Takes::Values,
            _ => return None,
        };
        let id = arg.get_id().as_str();
        let unnamed = || {
            let place = |(command, name, _): &&(&str, &str, &str)| commands == [*command] && id == *name;
            UNNAMED.iter().find(place).map(|(.., key)| *key)
        };
        let key = arg.get_long().or_else(unnamed)?.to_owned();
        let owner = if arg.is_global_set() { Vec::new() } else { commands.to_vec() };
        Some(Known { commands: owner, id: id.to_owned(), key, takes, is_named: arg.get_long().is_some() })
    }

    /// The variables that stand in for it, the first of which counts.
    pub(crate) fn variables(&self) -> Vec<String> {
        let mut words = vec!["dr".to_owned()];
        words.extend(self.commands.iter().cloned());
        words.push(self.key.clone());
        let ruled = words.join("_").to_ascii_uppercase().replace('-', "_");
        let is_global = self.commands.is_empty();
        let other = OTHER_VARIABLES.iter().find(|(key, _)| is_global && *key == self.key);
        other.map(|(_, name)| (*name).to_owned()).into_iter().chain([ruled]).collect()
    }

    /// Whether a profile may set it.
    pub(crate) fn is_for_profiles(&self) -> bool {
        !(self.commands.is_empty() && NEVER_IN_PROFILES.contains(&self.key.as_str()))
    }

    /// Whether a profile calls it so.
    pub(crate) fn is_called(&self, key: &str) -> bool {
        let other = OTHER_KEYS.iter().any(|(name, meant)| *name == key && *meant == self.key);
        self.key == key || (self.commands.is_empty() && other)
    }

    /// How it is written on the command line.
    pub(crate) fn written(&self) -> String {
        if self.is_named { format!("--{}", self.key) } else { self.key.clone() }
    }
}

/// The options of a command that was built, those of all commands among them. `chain` leads to the command.
pub(crate) fn of_command(built: &Command, chain: &[String]) -> Vec<Known> {
    let mut found: Vec<Known> = built.get_arguments().filter_map(|arg| Known::new(&[], arg)).collect();
    let mut command = built;
    for (depth, name) in chain.iter().enumerate() {
        let Some(next) = command.find_subcommand(name) else { break };
        command = next;
        let own = command.get_arguments().filter(|arg| !arg.is_global_set());
        found.extend(own.filter_map(|arg| Known::new(&chain[..=depth], arg)));
    }
    found
}

/// The options of all commands, each once.
pub(crate) fn of_all(built: &Command) -> Vec<Known> {
    let mut found = of_command(built, &[]);
    collect(built, &mut Vec::new(), &mut found);
    found
}

fn collect(command: &Command, chain: &mut Vec<String>, found: &mut Vec<Known>) {
    for next in command.get_subcommands().filter(|next| next.get_name() != "help") {
        chain.push(next.get_name().to_owned());
        let own = next.get_arguments().filter(|arg| !arg.is_global_set());
        found.extend(own.filter_map(|arg| Known::new(chain, arg)));
        collect(next, chain, found);
        chain.pop();
    }
}

/// The known name that is nearest to one that is not known, where one is near enough to have been meant.
pub(crate) fn nearest<'n>(wanted: &str, known: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
    let scored = known.into_iter().map(|name| (strsim::jaro_winkler(wanted, name), name));
    let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other))?;
    (best.0 > 0.8).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::help;

    #[test]
    fn every_option_has_a_variable_of_its_own() {
        let mut command = help::command();
        command.build();
        let known = of_all(&command);
        // What hooks are told, and what other parts of the program read.
        let reserved = ["DR_COMMAND", "DR_EXIT_CODE", "DR_ERROR_CODE", "DR_SNAPSHOT_ID", "DR_HOOK"];
        let more = ["DR_DRY_RUN", "DR_PASSWORD", "DR_STATE_DIR", "DR_SHARD_COUNT", "DR_PROGRESS_FPS"];
        let mut names: BTreeSet<String> =
            reserved.iter().chain(&more).map(|name| (*name).to_owned()).collect();
        names.extend(dr_store::SETTINGS.iter().map(|setting| crate::store_args::variable_of(setting)));
        let mut options = 0;
        for option in &known {
            for variable in option.variables() {
                assert!(variable.bytes().all(|b| b == b'_' || b.is_ascii_uppercase() || b.is_ascii_digit()));
                assert!(names.insert(variable.clone()), "{variable} stands for two things");
                options += 1;
            }
        }
        assert!(options > 80, "{options}");
        let mut arguments = 0;
        visit(&command, &mut |arg| {
            let is_unnamed = arg.is_positional() || ["help", "version"].contains(&arg.get_id().as_str());
            arguments += usize::from(!is_unnamed && !arg.is_global_set());
        });
        let named = known.iter().filter(|option| option.is_named && !option.commands.is_empty()).count();
        assert_eq!(named, arguments, "an option is not known by its long name");
    }

    fn visit(command: &Command, take: &mut dyn FnMut(&Arg)) {
        for next in command.get_subcommands().filter(|next| next.get_name() != "help") {
            next.get_arguments().for_each(&mut *take);
            visit(next, take);
        }
    }

    #[test]
    fn names_follow_the_rule() {
        let mut command = help::command();
        command.build();
        let named = |chain: &[&str], key: &str| {
            let chain: Vec<String> = chain.iter().map(|name| (*name).to_owned()).collect();
            let known = of_command(&command, &chain);
            known.iter().find(|option| option.is_called(key)).unwrap().variables()
        };
        assert_eq!(named(&["backup"], "tag"), ["DR_BACKUP_TAG"]);
        assert_eq!(named(&["repair", "log"], "give-up-missing"), ["DR_REPAIR_LOG_GIVE_UP_MISSING"]);
        assert_eq!(named(&["backup"], "limit-upload"), ["DR_LIMIT_UPLOAD"]);
        assert_eq!(named(&[], "repository"), ["DR_REPOSITORY", "DR_REPO"]);
    }

    #[test]
    fn near_names_are_found() {
        let known = ["keep-daily", "keep-weekly", "dry-run"];
        assert_eq!(nearest("keep-dayly", known), Some("keep-daily"));
        assert_eq!(nearest("dryrun", known), Some("dry-run"));
        assert_eq!(nearest("colour", known), None);
    }
}
