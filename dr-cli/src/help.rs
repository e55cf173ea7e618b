//! The command line as people see it: commands in the order of daily tasks, other names, and examples.

use std::fmt::Write as _;

use clap::{Command, CommandFactory};

use crate::args::Cli;

/// The commands by what they are for. A command that stands nowhere here comes at the end.
const GROUPS: &[(&str, &[&str])] = &[
    (
        "Every day",
        &[
            "backup",
            "put",
            "snapshots",
            "ls",
            "find",
            "versions",
            "diff",
            "restore",
            "dump",
            "cat",
            "mount",
            "serve",
        ],
    ),
    ("What is kept", &["forget", "unforget", "protect", "tag", "hold", "prune", "rewrite", "merge"]),
    ("Trust", &["check", "repair", "stats"]),
    ("Repositories", &["init", "key", "copy", "cache"]),
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
            ("Without what matches patterns", "dr backup --exclude '*.tmp' --exclude-file ~/not.txt ~"),
            ("A database", "dr backup --stdin-filename all.sql --stdin-from-command -- pg_dumpall"),
        ],
    ),
    (
        "put",
        &[
            ("What a pipe gives", "pg_dump db | dr put db.sql"),
            (
                "Only where it differs from the last one",
                "dr put --if-changed db.sql -- pg_dump --restrict-key=same db",
            ),
            ("Behind what is there", "dr put --append wal < 000000010000000000000042"),
        ],
    ),
    (
        "snapshots",
        &[
            ("Those of one host", "dr snapshots --host desk"),
            ("Two of them", "dr snapshots latest 1a2b3c4d"),
            ("What could be brought back", "dr snapshots --forgotten"),
        ],
    ),
    (
        "ls",
        &[
            ("What is in the newest", "dr ls -l latest"),
            ("Below a path", "dr ls latest:/etc"),
            ("The largest first", "dr ls latest --sort size"),
            ("Browse by size", "dr ls latest --ncdu | ncdu -f -"),
        ],
    ),
    (
        "find",
        &[
            ("By name, in all snapshots", "dr find '*.odt'"),
            ("Large files of last week", "dr find --type file --size +1G --newer 7d"),
            ("In one snapshot, below a path", "dr find 'invoice*' --snapshot latest --below /home"),
        ],
    ),
    ("versions", &[("Every version of a file", "dr versions ~/documents/letter.odt")]),
    (
        "diff",
        &[
            ("What the last backup changed", "dr diff latest~1 latest"),
            ("One directory", "dr diff latest~7:/etc latest:/etc"),
            ("With what is on the disk now", "dr diff latest --local ~/documents"),
        ],
    ),
    (
        "restore",
        &[
            ("Everything, below a directory", "dr restore latest --target /tmp/restored"),
            ("One file, into a directory", "dr restore latest:/home/me/letter.odt --target ~/restored"),
            ("To where it was", "dr restore latest --target /"),
            ("Only some files; first see which", "dr restore latest -t /tmp/r --include '*.odt' --dry-run"),
            (
                "One directory, as it was a week ago",
                "dr restore @2026-11-14:/home/me/documents -t /tmp/documents",
            ),
        ],
    ),
    (
        "dump",
        &[
            ("A file", "dr dump latest:/etc/fstab > fstab"),
            ("A directory as an archive", "dr dump latest:/home/me --archive tar | gzip > me.tar.gz"),
        ],
    ),
    (
        "cat",
        &[
            ("What a file held", "dr cat latest:/etc/fstab"),
            ("What is recorded of a snapshot", "dr cat snapshot latest"),
        ],
    ),
    ("mount", &[("Until Ctrl-C or umount", "dr mount /mnt/snapshots")]),
    ("serve", &[("For file managers of this machine", "dr serve webdav --listen 127.0.0.1:8080")]),
    (
        "forget",
        &[
            ("See first what a policy does", "dr forget --keep-daily 30 --keep-monthly 12 --dry-run"),
            ("Do it, and free the space", "dr forget --keep-daily 30 --keep-monthly 12 --prune"),
            ("By name", "dr forget 1a2b3c4d"),
        ],
    ),
    ("unforget", &[("All that prune has not taken", "dr unforget --all")]),
    ("protect", &[("Keep the newest for good", "dr protect latest")]),
    ("tag", &[("Tag one", "dr tag --add before-upgrade latest")]),
    (
        "key",
        &[
            ("A second one, for the safe", "dr key add --new-key-file /mnt/usb/dr.key --label safe"),
            ("Change the password", "dr key passwd"),
        ],
    ),
    ("hold", &[("Hold what is forgotten for two weeks", "dr hold 14d")]),
    ("prune", &[("See first", "dr prune --dry-run"), ("Rewrite little", "dr prune --max-repack-size 10G")]),
    (
        "rewrite",
        &[
            ("Take out of all what never was to be saved", "dr rewrite --exclude '/home/*/secret' --forget"),
            ("File under another host", "dr rewrite 1a2b3c4d --new-host desk"),
        ],
    ),
    ("merge", &[("One of two", "dr merge 1a2b3c4d 5e6f7a8b --by last")]),
    (
        "copy",
        &[(
            "Everything that is new there",
            "dr -r /mnt/second copy --from-repo /mnt/first --from-key-file ~/first.key",
        )],
    ),
    (
        "cache",
        &[("What is kept on this machine", "dr cache"), ("Remove what is old", "dr cache --max-age 7d")],
    ),
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

/// What to begin with. No line is as wide as a terminal.
const FIRST_STEPS: &str = "\
First steps (each command has more examples in its --help):
  dr -r /mnt/backup init                          make a repository; -r or DR_REPOSITORY
  dr backup ~ --exclude '*.tmp'                   save files; 'dr put NAME' saves a stream
  dr restore latest:/home/me/a.odt -t ~/restored  one file; without ':path' everything
  dr forget --keep-daily 30 --prune               thin out old snapshots, and free the space
  dr check --read-data                            read every byte; without --read-data, faster";

/// Commands of other programs of this kind, and what there is here.
const ELSEWHERE: &[(&str, &str)] = &[
    ("unlock", "nothing is ever locked: a run that died is in nobody's way"),
    ("break-lock", "nothing is ever locked: a run that died is in nobody's way"),
    ("recover", "see 'dr snapshots --forgotten' and 'dr unforget', or 'dr repair' for damage"),
    ("rebuild-index", "use 'dr repair index'"),
    ("verify", "use 'dr check --read-data', 'dr restore --verify' or 'dr diff SNAP --local DIR'"),
    ("umount", "use the system's 'umount DIR', or end 'dr mount' with Ctrl-C"),
    ("unmount", "use the system's 'umount DIR', or end 'dr mount' with Ctrl-C"),
    ("create", "use 'dr backup'; 'dr init' makes a repository"),
    ("extract", "use 'dr restore'"),
    ("delete", "use 'dr forget', then 'dr prune'"),
    ("compact", "use 'dr prune'"),
    ("export-tar", "use 'dr dump SNAP --archive tar'"),
    ("passwd", "use 'dr key passwd'"),
    ("change-passphrase", "use 'dr key passwd'"),
    ("info", "use 'dr stats', 'dr snapshots' or 'dr version'"),
    ("ncdu", "use 'dr ls SNAP --ncdu | ncdu -f -'"),
    ("options", "see --help and 'dr config variables'"),
    ("migrate", "there is nothing to migrate: one version of the format is in use"),
    ("generate", "use 'dr completions' and 'dr man'"),
    ("repair-index", "use 'dr repair index'"),
    ("self-update", "update dr in the way it was installed"),
    ("recreate", "use 'dr rewrite'"),
    ("import-tar", "use 'dr backup --from-tar FILE'"),
    ("transfer", "use 'dr copy'"),
    ("undelete", "use 'dr unforget'; 'dr snapshots --forgotten' lists what can come back"),
];

/// What other programs of this kind list besides snapshots, and what there is here.
const LISTED_ELSEWHERE: &[(&str, &str)] = &[
    ("snapshots", "leave it away: 'dr snapshots' lists them"),
    ("blobs", "'dr stats' counts chunks, and 'dr find --chunk ID' says what needs one"),
    ("packs", "'dr stats' counts them, and 'dr cat pack HASH' shows one"),
    ("index", "'dr cat index HASH' shows a part of it, and 'dr check' looks through all"),
    ("keys", "use 'dr cat keys'"),
    ("locks", "nothing is ever locked"),
];

/// Options of other programs of this kind, and what there is here.
const OPTIONS_ELSEWHERE: &[(&str, &str)] = &[
    ("-p", "use --password-file FILE"),
    ("--no-lock", "leave it away: nothing is ever locked"),
    ("--recursive", "leave it away: everything below is listed unless --no-recursive is given"),
    ("--compact", "leave it away: the list has one line for each snapshot"),
    ("--hostname", "use --host"),
    ("--newest", "use --older: what was modified before"),
    ("--oldest", "use --newer: what was modified since"),
    ("--copy-chunker-params", "'dr init --from-repo' takes them over"),
    ("--to-repo", "-r is the repository that is copied to, --from-repo the other one"),
    ("--exclude-pattern", "use --exclude"),
    ("--numeric-owner", "use --numeric-ids"),
    (
        "--mode",
        "'dr stats' counts the repository, 'dr stats SNAP' or --each what snapshots take, each in all ways",
    ),
    ("--reverse", "what is listed has one order: pipe it through 'tac'"),
    ("--sort", "only 'dr ls' sorts: pipe what is written through 'sort'"),
    ("--ignore-files", "leave it away: files called .drignore count unless --no-ignore-files is given"),
];

/// What stands in for an option that there is not, where people know it from elsewhere.
pub(crate) fn instead_of_option(argument: &str) -> Option<&'static str> {
    let name = argument.split('=').next().unwrap_or(argument);
    let known = OPTIONS_ELSEWHERE.iter().find(|(option, _)| *option == name).map(|(_, instead)| *instead);
    known.or_else(|| {
        argument.starts_with('/').then_some("a path in a snapshot stands behind it: latest:/etc/fstab")
    })
}

/// What stands in for a command that there is not, where people know it from elsewhere.
pub(crate) fn instead_of(command: &str) -> Option<&'static str> {
    ELSEWHERE.iter().find(|(name, _)| *name == command).map(|(_, instead)| *instead)
}

/// What stands in for a list of something else than snapshots, where people know it from elsewhere.
pub(crate) fn instead_of_list(kind: &str) -> Option<&'static str> {
    LISTED_ELSEWHERE.iter().find(|(name, _)| *name == kind).map(|(_, instead)| *instead)
}

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
        "{{about-with-newline}}\n{{usage-heading}} {{usage}}\n\n{}{FIRST_STEPS}\n\nOptions of all commands:\n{{options}}{{after-help}}",
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

    /// Commands that a build may lack.
    const OPTIONAL: &[&str] = &["mount", "serve"];

    #[test]
    fn every_command_stands_in_a_group_and_has_examples_that_parse() {
        let command = command();
        for own in command.get_subcommands() {
            let name = own.get_name();
            assert!(GROUPS.iter().any(|(_, names)| names.contains(&name)), "{name} stands in no group");
            assert!(EXAMPLES.iter().any(|(of, _)| *of == name), "{name} has no example");
        }
        let is_there = |name: &str| command.find_subcommand(name).is_some() || !OPTIONAL.contains(&name);
        for (name, examples) in EXAMPLES.iter().filter(|(name, _)| is_there(name)) {
            for (_, line) in *examples {
                assert!(line.len() <= 90, "{line} is wide");
                let line = own_part(line);
                let words = crate::words::split(line).unwrap();
                let matches =
                    command.clone().try_get_matches_from(words).unwrap_or_else(|why| panic!("{line}: {why}"));
                assert_eq!(matches.subcommand_name(), Some(*name), "{line}");
            }
        }
    }

    /// The part of a line for the shell that this program sees.
    fn own_part(line: &str) -> &str {
        let line = line.split(" | ").find(|part| part.starts_with("dr ")).unwrap();
        let end = [" > ", " < "].iter().filter_map(|sign| line.find(sign)).min();
        &line[..end.unwrap_or(line.len())]
    }

    #[test]
    fn groups_and_hints_name_what_there_is() {
        let command = command();
        for (_, names) in GROUPS {
            for name in names.iter().filter(|name| **name != "help" && !OPTIONAL.contains(name)) {
                assert!(command.find_subcommand(name).is_some(), "{name}");
            }
        }
        for (name, _) in ELSEWHERE {
            assert!(command.find_subcommand(name).is_none(), "{name} is a command");
        }
        for (_, instead) in [ELSEWHERE, OPTIONS_ELSEWHERE, LISTED_ELSEWHERE].concat() {
            for (at, _) in instead.match_indices("'dr ") {
                let named = instead[at + 4..].split([' ', '\'']).next().unwrap();
                let is_there = command.find_subcommand(named).is_some();
                assert!(is_there || OPTIONAL.contains(&named), "{instead}");
            }
        }
    }

    #[test]
    fn first_steps_parse() {
        let mut steps = 0;
        for line in FIRST_STEPS.lines().filter_map(|line| line.strip_prefix("  ")) {
            let line = line.split("  ").next().unwrap();
            let words = crate::words::split(line).unwrap();
            command().try_get_matches_from(words).unwrap_or_else(|why| panic!("{line}: {why}"));
            steps += 1;
        }
        assert_eq!(steps, FIRST_STEPS.lines().count() - 1);
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
