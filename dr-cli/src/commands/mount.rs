//! `dr mount`

use std::fmt::Write as _;
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::Args;
use rustix::io::Errno;
use serde::Serialize;

use crate::args::FilterArgs;
use crate::error::{CliError, Result};
use crate::mount::{self, MountOptions};
use crate::render::{json, text};
use crate::session::Session;
use crate::shelf::Shelf;

/// Shows the snapshots as a file system, read-only, until it is unmounted or a signal ends it.
#[derive(Debug, Args)]
#[command(
    after_help = "The directory then holds snapshots/TIME, hosts/HOST/TIME, tags/TAG/TIME and ids/ID, with times in \
UTC, and in each of these a link 'latest' to the newest whole snapshot. New snapshots appear after some seconds.\nEnds \
with code 0 when it is unmounted ('umount DIR', 'fusermount3 -u DIR'), also after it unmounted itself \
on a signal.\nWhat is damaged cannot be read and is named on standard error; all else can. Who is not root needs the \
program fusermount3."
)]
pub(crate) struct MountArgs {
    /// Where to mount: a directory
    #[arg(value_name = "DIR")]
    place: PathBuf,
    /// Let other users see it too
    #[arg(long)]
    allow_other: bool,
    /// Let whoever sees it read everything, whatever owners and modes the files have
    #[arg(long)]
    no_default_permissions: bool,
    #[command(flatten)]
    filter: FilterArgs,
}

#[derive(Debug, Serialize)]
struct Mounted {
    message_type: &'static str,
    schema: u32,
    mountpoint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mountpoint_b64: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &MountArgs, session: &Session) -> Result<()> {
    let place = check_place(&args.place)?;
    let repository = session.open_repository()?;
    let options = session.repository_options();
    check_apart(&place, &repository.store().endpoint(), options.cache_dir.iter().chain(&options.state_dir))?;
    let shelf = Shelf::open(repository, args.filter.to_filter(), "mount", &session.output)?;
    let options =
        MountOptions { allow_other: args.allow_other, ignore_permissions: args.no_default_permissions };
    let shown = place.as_os_str().as_bytes();
    let document = Mounted {
        message_type: "mounted",
        schema: json::SCHEMA,
        mountpoint: String::from_utf8_lossy(shown).into_owned(),
        mountpoint_b64: json::unless_text(shown),
    };
    mount::run(shelf, &place, options, session, || {
        session.output.summary(&document, |to| announce(to, shown))
    })
}

fn announce(to: &mut dyn Write, place: &[u8]) -> io::Result<()> {
    writeln!(to, "the snapshots are at {}; unmount it or press Ctrl-C to end", text::printable_path(place))
}

/// The directory without links on the way.
fn check_place(place: &Path) -> Result<PathBuf> {
    let found = place.canonicalize().and_then(|path| path.metadata().map(|metadata| (path, metadata)));
    match found {
        Ok((path, metadata)) if metadata.is_dir() => Ok(path),
        Ok(_) => Err(CliError::usage("only a directory can be mounted on").with_path(place)),
        Err(error) => {
            let remedy = if error.raw_os_error() == Some(Errno::NOTCONN.raw_os_error()) {
                "a file system whose program died is still mounted there: run 'umount --lazy' on it"
            } else {
                "name a directory that is there"
            };
            Err(CliError::usage("the directory cannot be mounted on")
                .with_path(place)
                .with_cause(&error)
                .with_remedy(remedy))
        }
    }
}

/// Refuses to hide what the file system is read from, which would then wait for itself.
fn check_apart<'p>(place: &Path, store: &str, own: impl Iterator<Item = &'p PathBuf>) -> Result<()> {
    let hides = |path: &Path| path.canonicalize().is_ok_and(|path| path.starts_with(place));
    let url = file_url(place);
    let hides_store = store
        .strip_prefix(&url)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || url.ends_with('/'));
    if !hides_store && !own.into_iter().any(|path| hides(path)) {
        return Ok(());
    }
    Err(CliError::usage("the repository, or its cache or state on this machine, lies in the directory")
        .with_path(place)
        .with_remedy("mount on an empty directory elsewhere"))
}

/// An absolute path as stores name theirs.
fn file_url(path: &Path) -> String {
    let mut url = String::from("file://");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~+=,@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
    url
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_never_hides_what_it_is_read_from() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap();
        let check =
            |place: &Path, store: &str, own: &[PathBuf]| check_apart(place, store, own.iter()).is_ok();
        assert!(!check("/a b".as_ref(), "file:///a%20b", &[]));
        assert!(!check("/a b".as_ref(), "file:///a%20b/repository", &[]));
        assert!(!check("/".as_ref(), "file:///a%20b", &[]));
        assert!(check("/a b".as_ref(), "file:///a%20bc", &[]));
        assert!(check("/a".as_ref(), "s3://a/b", &[]));
        assert!(check("/a/b/c".as_ref(), "file:///a/b", &[]));
        std::fs::create_dir(path.join("cache")).unwrap();
        assert!(!check(&path, "memory:", &[path.join("cache")]));
        assert!(check(&path.join("cache"), "memory:", std::slice::from_ref(&path)));
    }

    #[test]
    fn only_directories_are_mounted_on() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert!(check_place(folder.path()).is_ok());
        assert!(check_place(&file).is_err() && check_place(&folder.path().join("missing")).is_err());
    }
}
