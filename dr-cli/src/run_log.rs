//! The file that a run is logged in, for whoever looks for what happened weeks ago.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use dr_core::{Clock, SystemClock};

use crate::instant;
use crate::render::text;

/// A file that lines are appended to.
#[derive(Debug)]
pub(crate) struct RunLog(File);

impl RunLog {
    /// Opens a log, or makes one that only its owner may read: paths say much.
    pub(crate) fn open(path: &Path) -> io::Result<RunLog> {
        OpenOptions::new().append(true).create(true).mode(0o600).open(path).map(RunLog)
    }

    /// Appends a line in one piece, so that runs at the same time do not mix theirs.
    pub(crate) fn write(&self, level: &str, message: &str) {
        let time = instant::rfc3339(SystemClock.now());
        let time = time.split_once('.').map_or(time.as_str(), |(seconds, _)| seconds);
        let line = format!("{time}Z {} {level:<7} {}\n", std::process::id(), text::printable(message));
        // A full disk must not end a backup.
        let _ = (&self.0).write_all(line.as_bytes());
    }
}
