//! The command line as people see it: commands in the order of daily tasks, other names, and examples.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// The commands by what they are for. A command that stands nowhere here comes at the end.
const GROUPS: &[(&str, &[&str])] = &[
    ("Every day", &["backup", "snapshots", "ls", "find", "diff", "cat", "dump", "restore", "mount"]),
    ("What is kept", &["forget", "unforget", "protect", "tag", "hold", "prune", "rewrite", "undo"]),
    ("Trust", &["check", "verify", "repair", "history", "stats"]),
    ("Repositories", &["init", "copy", "key", "migrate", "cache", "serve"]),
    ("This program", &["config", "completions", "man", "version", "help"]),
];

/// Further names of commands, shown beside the first.
const OTHER_NAMES: &[(&str, &str)] = &[("snapshots", "list")];

/// What people type, by command.
const EXAMPLES: &[(&str, &[(&str, &str)])] = &[
    (
        "init",
        &[
            ("A repository on a disk, with a key file", "dr -r /mnt/disk/backup --key-file ~/dr.key init"),
            ("On S3, with a password", "dr -r s3://bucket/backup init --hold 14d"),
        ],
    ),
    (
        "backup",
        &[
            ("Two directories, tagged", "dr backup --tag daily ~/documents /etc"),
            (
                "What the profile 'home' names, with metrics",
                "dr -P home backup --metrics-file /tmp/dr.prom ~",
            ),
            ("A database", "dr backup --stdin-filename all.sql --stdin-from-command -- pg_dumpall"),
        ],
    ),
    (
        "snapshots",
        &[
            ("Those of one host", "dr snapshots --host desk"),
            ("What could be brought back", "dr snapshots --forgotten"),
        ],
    ),
    ("ls", &[("What is in the newest", "dr ls -l latest"), ("Below a path", "dr ls latest:/etc")]),
    (
        "restore",
        &[
            ("Everything, below a directory", "dr restore latest --target /tmp/restored"),
            (
                "One directory, as it was a week ago",
                "dr restore @2026-11-14:/home/me/documents -t /tmp/documents",
            ),
        ],
    ),
    (
        "forget",
        &[
            ("See first what a policy does", "dr forget --keep-daily 30 --keep-monthly 12 --dry-run"),
            ("By name", "dr forget 1a2b3c4d"),
        ],
    ),
    ("unforget", &[("All that prune has not taken", "dr unforget --all")]),
    ("protect", &[("Keep the newest for good", "dr protect latest")]),
    ("tag", &[("Tag one", "dr tag --add before-upgrade latest")]),
    ("hold", &[("Hold what is forgotten for two weeks", "dr hold 14d")]),
    ("prune", &[("See first", "dr prune --dry-run"), ("Rewrite little", "dr prune --max-repack-size 10G")]),
    (
        "check",
        &[
            ("The structure", "dr check"),
            ("Every byte", "dr check --read-data"),
            ("A tenth of it by chance", "dr check --read-data-subset 10%"),
        ],
    ),
    (
        "repair",
        &[
            ("What is lost", "dr repair snapshots --dry-run"),
            ("Damaged parts of the index", "dr repair index"),
        ],
    ),
    ("stats", &[("How large it is", "dr stats")]),
    (
        "config",
        &[("What a profile sets", "dr -P home config show"), ("Before relying on it", "dr config check")],
    ),
    ("completions", &[("For bash", "dr completions bash > ~/.local/share/bash-completion/completions/dr")]),
    ("man", &[("All pages", "dr man ~/.local/share/man/man1")]),
    ("version", &[("With what this processor is used for", "dr version -v")]),
];

/// The command line as people see it.
pub(crate) fn command() -> Command {
    let mut command = Cli::command();
    for (name, other) in OTHER_NAMES {
        command = command.mut_subcommand(name, |command| command.visible_alias(*other));
    }
    for (name, examples) in EXAMPLES {
        if command.find_subcommand(name).is_some() {
            command = command.mut_subcommand(name, |command| with_examples(command, examples));
        }
    }
    let template = format!(
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{{options}}{{after-help}}",
        list(&command)
    );
    command.help_template(template)
}

fn with_examples(command: Command, examples: &[(&str, &str)]) -> Command {
    let mut text = command.get_after_help().map(|text| format!("{text}\n\n")).unwrap_or_default();
    text.push_str("Examples:");
    for (what, line) in examples {
        let _ = write!(text, "\n  {what}:\n    {line}");
    }
    command.after_long_help(text)
}

/// The commands under headings.
fn list(command: &Command) -> String {
    let named = |name: &&str| command.find_subcommand(name).filter(|command| command.get_name() == *name);
    let is_listed = |command: &&Command| GROUPS.iter().any(|(_, names)| names.contains(&command.get_name()));
    let others = command.get_subcommands().filter(|command| !is_listed(command) && !command.is_hide_set());
    let groups =
        GROUPS.iter().map(|(title, names)| (*title, names.iter().filter_map(named).collect::<Vec<_>>()));
    let mut text = String::new();
    for (title, commands) in groups.chain([("Others", others.collect())]).filter(|(_, list)| !list.is_empty())
    {
        let _ = writeln!(text, "{title}:");
        for command in commands {
            let names: Vec<&str> =
                [command.get_name()].into_iter().chain(command.get_visible_aliases()).collect();
            let about = command.get_about().map(ToString::to_string).unwrap_or_default();
            let _ = writeln!(text, "  {:<17} {}", names.join(", "), about.lines().next().unwrap_or_default());
        }
        text.push('\n');
    }
    // The template has braces of its own.
    text.replace(['{', '}'], "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_stands_in_a_group_and_has_examples_that_parse() {
        let command = command();
        for own in command.get_subcommands() {
            let name = own.get_name();
            assert!(GROUPS.iter().any(|(_, names)| names.contains(&name)), "{name} stands in no group");
            assert!(EXAMPLES.iter().any(|(of, _)| *of == name), "{name} has no example");
        }
        for (name, examples) in EXAMPLES {
            for (_, line) in *examples {
                let line = line.split(" > ").next().unwrap_or_default();
                let words = crate::words::split(line).unwrap();
                let matches =
                    command.clone().try_get_matches_from(words).unwrap_or_else(|why| panic!("{line}: {why}"));
                assert_eq!(matches.subcommand_name(), Some(*name), "{line}");
            }
        }
    }

    #[test]
    fn names_stand_under_headings() {
        let help = command().render_help().to_string();
        let at = |text: &str| help.find(text).unwrap_or_else(|| panic!("{text} is not in {help}"));
        assert!(
            at("Every day:\n  backup ") < at("  snapshots, list ")
                && at("  restore ") < at("Trust:\n  check")
        );
        assert!(at("This program:") < at("--json") && at("--json") < at("Exit codes:"));
    }
}
