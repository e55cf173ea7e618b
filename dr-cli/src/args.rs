//! The arguments that all commands share, and the list of commands.

use std::path::{Component, PathBuf};
use std::time::Duration;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use dr_core::{Cipher, SnapshotFilter};

#[cfg(feature = "mount")]
use crate::commands::mount;
#[cfg(feature = "serve")]
use crate::commands::serve;
use crate::commands::{
    backup, cache, cat, check, completions, config, copy, diff, dump, find, forget, hold, init, key, ls, man,
    mark, merge, prune, put, repair, restore, rewrite, snapshots, stats, version, versions,
};
use crate::exit_code;
use crate::quantity;
use crate::store_args::StoreArgs;

const SELECTORS: &str = "\
Snapshots:
  latest            the newest whole one of those that --host, --tag and --path let pass
  latest~N          the one N before it
  1a2b3c4d          the one whose id begins so, also a partial one
  @2026-11-20T10:00 the newest whole one not made after that time (local time, or with
                    Z or an offset); a day alone means its end
  SNAP:sub/path     only that path in it

Environment:
  Every option has a variable: DR_THREADS for --threads, DR_BACKUP_TAG for --tag of 'dr
  backup' ('dr config variables' lists them). Flags take 1, 0, true or false; what may be
  repeated takes one value a line. DR_REPOSITORY is --repo, DR_PASSWORD the password
  itself; DR_FROM_REPOSITORY and so on are about the repository that 'dr copy' copies from.
  Where several of DR_KEY_FILE, DR_PASSWORD_FILE, DR_PASSWORD_COMMAND and
  DR_PASSWORD are set, the first of them counts. DR_S3_ENDPOINT stands for '-o
  s3.endpoint=', and so on; DR_STATE_DIR is where it is kept what the repositories' logs
  were like; DR_PROGRESS_FPS says how often progress is shown. Keys of stores are taken
  from variables only: AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_SESSION_TOKEN;
  AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN;
  GOOGLE_APPLICATION_CREDENTIALS; DR_WEBDAV_USER and DR_WEBDAV_PASSWORD. A bucket that is
  backed up is read with the same, or where one of its kind is set (DR_SOURCE_AWS_…) with
  DR_SOURCE_AWS_ACCESS_KEY_ID and so on only; DR_SOURCE_S3_ENDPOINT stands in for
  '-O s3.endpoint='.

Locks:
  There are none, and nothing to unlock: backups and 'dr prune' go on beside one another,
  and a run that died leaves nothing that stops the next. (Only where a repository was
  made with 'dr init --siblings', nobody may write during 'dr prune --exclusive'.) After
  damage see 'dr check', then 'dr repair --help'; what was forgotten comes back with 'dr
  unforget' until 'dr prune' ran.";

/// Backups you can trust with your last copy: deduplicated, compressed, encrypted.
#[derive(Debug, Parser)]
#[command(name = "dr", version, disable_help_subcommand = false, after_help = after_help())]
#[command(subcommand_required = true, arg_required_else_help = true, max_term_width = 110)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: GlobalArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

fn after_help() -> String {
    format!("{SELECTORS}\n\n{}", exit_code::help())
}

/// What `dr` can do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Make a new repository
    Init(init::InitArgs),
    /// Save files and directories, or a stream, as a new snapshot
    Backup(backup::BackupArgs),
    /// Save standard input, or what a command writes, under a name
    Put(put::PutArgs),
    /// List the snapshots
    Snapshots(snapshots::SnapshotsArgs),
    /// List what is in a snapshot
    Ls(ls::LsArgs),
    /// Find files and directories in all snapshots
    Find(find::FindArgs),
    /// Show every version of a file or directory
    Versions(versions::VersionsArgs),
    /// Compare two snapshots, or one with the disk
    Diff(diff::DiffArgs),
    /// Write a file, or a directory as an archive, to standard output
    Dump(dump::DumpArgs),
    /// Write a file to standard output, or show a stored object
    Cat(cat::CatArgs),
    /// Restore a snapshot, or a path in it (SNAP:path), to a directory
    Restore(restore::RestoreArgs),
    /// Show the snapshots as a file system (FUSE)
    #[cfg(feature = "mount")]
    Mount(mount::MountArgs),
    /// Show the snapshots to other programs, over the network (WebDAV)
    #[cfg(feature = "serve")]
    Serve(serve::ServeCommand),
    /// Forget snapshots, by name or by a policy (--keep-daily and so on)
    Forget(forget::ForgetArgs),
    /// Bring forgotten snapshots back
    Unforget(mark::UnforgetArgs),
    /// Keep snapshots from being forgotten
    Protect(mark::ProtectArgs),
    /// Change the tags of snapshots
    Tag(mark::TagArgs),
    /// Make new snapshots of old ones that leave something out, or are filed otherwise
    Rewrite(rewrite::RewriteArgs),
    /// Make one snapshot of all that several hold
    Merge(merge::MergeArgs),
    /// Copy snapshots from another repository (--from-repo)
    Copy(copy::CopyArgs),
    /// List, add, remove or change the passwords and keys of the repository
    Key(key::KeyArgs),
    /// Say or change how long forgotten snapshots are held
    Hold(hold::HoldArgs),
    /// Free the space of forgotten snapshots: delete what nothing needs
    Prune(prune::PruneCommand),
    /// Look for damage in the repository; with --read-data, in every byte
    Check(check::CheckArgs),
    /// Repair a damaged log, index, packs or snapshots, or save what is left
    Repair(repair::RepairArgs),
    /// Say how large the repository is, and what snapshots take of it
    Stats(stats::StatsArgs),
    /// List and clean up what is kept of repositories on this machine
    Cache(cache::CacheArgs),
    /// Say which settings are in force, and check files of settings
    Config(config::ConfigArgs),
    /// Write the completions for a shell
    Completions(completions::CompletionsArgs),
    /// Write the manual's pages
    Man(man::ManArgs),
    /// Say which program this is
    Version(version::VersionArgs),
}

/// The arguments that all commands share.
#[derive(Debug, Args)]
#[command(next_help_heading = "Options of all commands")]
pub(crate) struct GlobalArgs {
    /// Take what is not given here from the profile NAME [default: 'default', where there is one]
    #[arg(short = 'P', long, global = true, value_name = "NAME")]
    pub(crate) profile: Option<String>,
    /// Read profiles from FILE only [default: ~/.config/dr/dr.toml, then /etc/dr/dr.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Where the repository is: a path or a URL [env: DR_REPOSITORY]
    #[arg(short = 'r', long, global = true, value_name = "LOCATION")]
    pub(crate) repo: Option<String>,
    /// Take the first line of FILE as the password [env: DR_PASSWORD_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
    /// Run a program (without a shell) and take its output as the password [env: DR_PASSWORD_COMMAND]
    #[arg(long, global = true, value_name = "COMMAND")]
    pub(crate) password_command: Option<String>,
    /// Open the repository with the key in FILE instead of a password [env: DR_KEY_FILE]
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) key_file: Option<PathBuf>,
    /// Keep copies of the index in DIR [env: DR_CACHE_DIR; default: ~/.cache/dr]
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Keep no copies of the index on this machine
    #[arg(long, global = true, conflicts_with = "cache_dir")]
    pub(crate) no_cache: bool,
    /// At the end, remove caches that were used least recently while all take more than SIZE, as in 2G [env: DR_CACHE_LIMIT]
    #[arg(long, global = true, value_name = "SIZE", value_parser = quantity::bytes)]
    pub(crate) cache_limit: Option<u64>,
    /// Go on with a repository that went back in time, from what is there now
    #[arg(long, global = true)]
    pub(crate) accept_rollback: bool,
    /// Seal new objects with CIPHER; 'auto' takes AES where the processor has instructions for it. What is there is read
    /// whatever it was sealed with [default: auto]
    #[arg(long, global = true, value_enum, value_name = "CIPHER")]
    pub(crate) cipher: Option<CipherName>,
    /// Write results and errors as JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Write only what was asked for, and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub(crate) quiet: bool,
    /// Write more: each file that is new or changed, or was restored, and stages; twice: also what is unchanged or left
    /// out, and where settings come from
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub(crate) verbose: u8,
    /// Use N threads [default: one per processor]
    #[arg(long, global = true, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub(crate) threads: Option<u16>,
    /// Show how far things are every TIME, as in 5s or 500ms; also where standard error is no terminal
    #[arg(long, global = true, value_name = "TIME", value_parser = quantity::interval)]
    pub(crate) progress_interval: Option<Duration>,
    #[command(flatten)]
    pub(crate) reporting: ReportingArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
}

/// What new objects are sealed with, as the user names it.
#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum CipherName {
    Auto,
    Chacha20,
    Aes256,
}

impl From<CipherName> for Cipher {
    fn from(name: CipherName) -> Cipher {
        match name {
            CipherName::Auto => Cipher::Auto,
            CipherName::Chacha20 => Cipher::ChaCha20Poly1305,
            CipherName::Aes256 => Cipher::Aes256Gcm,
        }
    }
}

/// Who else is told of a run. None of it makes a run fail.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Who else is told")]
pub(crate) struct ReportingArgs {
    /// Append start, end, warnings, errors and problems to FILE, with the time in UTC
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) log_file: Option<PathBuf>,
    /// Write the outcome to FILE for node_exporter's textfile collector; a dry run writes nothing
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) metrics_file: Option<PathBuf>,
    /// Post to URL/start, and to URL at success or URL/fail; a dry run does not
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) ping: Option<String>,
}

/// Which snapshots are looked at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Which snapshots")]
pub(crate) struct FilterArgs {
    /// Only those of this host (may be repeated: any of them)
    #[arg(short = 'H', long, value_name = "HOST")]
    host: Vec<String>,
    /// Only those with this tag, or with all of TAG,TAG (may be repeated: any of them)
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Only those for which this path was asked (may be repeated: all of them)
    #[arg(long, value_name = "PATH")]
    path: Vec<PathBuf>,
}

impl FilterArgs {
    /// The engine's filter.
    pub(crate) fn to_filter(&self) -> SnapshotFilter {
        let mut filter = SnapshotFilter::new();
        filter.hosts.clone_from(&self.host);
        filter.tags.clone_from(&self.tag);
        filter.paths = self.path.iter().map(|path| absolute(path)).collect();
        filter
    }
}

/// Makes a path absolute by name alone, as a backup does with the paths it is given.
pub(crate) fn absolute(path: &std::path::Path) -> PathBuf {
    let from = if path.is_absolute() { PathBuf::new() } else { std::env::current_dir().unwrap_or_default() };
    let mut whole = PathBuf::from("/");
    for component in from.join(path).components() {
        match component {
            Component::Normal(name) => whole.push(name),
            Component::ParentDir => {
                whole.pop();
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    whole
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn shared_options_stand_before_or_after_the_command() {
        for line in [["dr", "--json", "-r", "x", "stats"], ["dr", "stats", "--json", "-r", "x"]] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert!(cli.global.json);
            assert_eq!(cli.global.repo.as_deref(), Some("x"));
        }
    }

    #[test]
    fn paths_are_made_absolute_by_name() {
        assert_eq!(absolute("/a/../b/./c/".as_ref()), PathBuf::from("/b/c"));
        assert_eq!(absolute("x".as_ref()), std::env::current_dir().unwrap().join("x"));
    }
}
