//! Shows snapshots as a file system, through the kernel's FUSE.

mod attributes;
mod filesystem;
mod inodes;
mod listing;

use std::io;
use std::path::Path;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use fuser::{Config, MountOption, SessionACL, SessionUnmounter};
use rustix::mount::UnmountFlags;

use crate::error::{CliError, Result};
use crate::session::Session;
use crate::shelf::Shelf;
use filesystem::{Permissions, SnapshotFiles};

/// What `mount` shows as the source and kind of the file system.
const NAME: &str = "dr";
/// How often is looked whether a signal came.
const SIGNAL_STEP: Duration = Duration::from_millis(100);
/// How long the last answers may take once it is unmounted.
const FAREWELL: Duration = Duration::from_secs(2);
/// Requests are answered by so many threads: most wait for a store.
const THREADS_MIN: usize = 4;
const THREADS_MAX: usize = 16;

/// Who may see the files.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountOptions {
    /// Users other than the one who mounts.
    pub(crate) allow_other: bool,
    /// Whoever may see them may read all of them, whatever owners and modes they have.
    pub(crate) ignore_permissions: bool,
}

/// Mounts the snapshots at a directory, calls `mounted`, and returns when they are not mounted any more: because somebody
/// unmounted them, or a signal came.
pub(crate) fn run(
    shelf: Shelf,
    place: &Path,
    options: MountOptions,
    session: &Session,
    mounted: impl FnOnce() -> Result<()>,
) -> Result<()> {
    let permissions = if options.ignore_permissions { Permissions::Ignored } else { Permissions::Checked };
    let config = config(options, session.global.threads);
    // From here on a signal unmounts first.
    let graceful = session.signals.graceful();
    let files = SnapshotFiles::new(shelf, permissions);
    let mut mount = fuser::Session::new(files, place, &config).map_err(|error| refused(place, &error))?;
    let unmounter = mount.unmount_callable();
    let (sender, ended) = mpsc::channel();
    thread::Builder::new()
        .name("fuse".to_owned())
        .spawn(move || {
            // Nobody waits any more where the program is about to end.
            let _ = sender.send(mount.run());
        })
        .map_err(|error| CliError::source("no thread can be started").with_cause(&error))?;
    let announced = mounted();
    let outcome = wait(&ended, unmounter, place, session);
    drop(graceful);
    crate::render::outcome(announced, outcome)
}

fn config(options: MountOptions, threads: Option<u16>) -> Config {
    let mut config = Config::default();
    let mut chosen = vec![
        MountOption::RO,
        MountOption::NoDev,
        MountOption::NoSuid,
        MountOption::FSName(NAME.to_owned()),
        MountOption::Subtype(NAME.to_owned()),
    ];
    if !options.ignore_permissions {
        chosen.push(MountOption::DefaultPermissions);
    }
    config.mount_options = chosen;
    config.acl = if options.allow_other { SessionACL::All } else { SessionACL::Owner };
    let processors = || thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.map_or_else(|| (2 * processors()).clamp(THREADS_MIN, THREADS_MAX), usize::from);
    config.n_threads = Some(threads);
    config.clone_fd = true;
    config
}

/// Waits until the file system is not mounted any more, or a signal asks for that.
fn wait(
    ended: &Receiver<io::Result<()>>,
    unmounter: SessionUnmounter,
    place: &Path,
    session: &Session,
) -> Result<()> {
    loop {
        match ended.recv_timeout(SIGNAL_STEP) {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => {
                unmount(unmounter, place, session)?;
                return Err(CliError::source("the kernel's requests cannot be answered any more")
                    .with_path(place)
                    .with_cause(&error));
            }
            // Its thread ended without a word.
            Err(RecvTimeoutError::Disconnected) => {
                unmount(unmounter, place, session)?;
                return Err(CliError::source("the file system ended unexpectedly").with_path(place));
            }
            Err(RecvTimeoutError::Timeout) if session.signals.cancel().is_cancelled() => {
                unmount(unmounter, place, session)?;
                let _ = ended.recv_timeout(FAREWELL);
                return Ok(());
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
    }
}

/// Unmounts. What still has files open loses them: nothing is left mounted that nobody serves.
fn unmount(mut unmounter: SessionUnmounter, place: &Path, session: &Session) -> Result<()> {
    let Err(error) = unmounter.unmount() else { return Ok(()) };
    if rustix::mount::unmount(place, UnmountFlags::DETACH).is_err() {
        return Err(CliError::source("the file system cannot be unmounted")
            .with_path(place)
            .with_cause(&error)
            .with_remedy("run 'umount --lazy' on the directory"));
    }
    session.output.warn("the file system was unmounted while it was in use");
    Ok(())
}

/// Says why nothing is mounted, and what can be done.
fn refused(place: &Path, error: &io::Error) -> CliError {
    // What the helper program says ends a line.
    let said = error.to_string();
    let remedy = if !Path::new("/dev/fuse").exists() {
        "load the kernel's module with 'modprobe fuse', or use 'dr serve webdav', which does without"
    } else if said.contains("user_allow_other") {
        "allow it with a line 'user_allow_other' in /etc/fuse.conf, or leave out --allow-other"
    } else if rustix::process::geteuid().is_root() {
        "a container may have to be allowed to mount and to use /dev/fuse; 'dr serve webdav' does without"
    } else {
        "who is not root needs the program fusermount3 (package fuse3), the right to use /dev/fuse, and a directory of \
         one's own; 'dr serve webdav' does without"
    };
    CliError::source("the snapshots cannot be mounted")
        .with_path(place)
        .with_cause(&io::Error::other(said.trim_end().to_owned()))
        .with_remedy(remedy)
}
