//! A listing in the export format of ncdu, version 1.2, which `ncdu -f` browses.
//!
//! Source: <https://dev.yorhel.nl/ncdu/jsonfmt>. A directory is an array: what is known of it, then its entries.

use std::io::{self, Write};

use dr_core::{Entry, EntryKind, Timestamp};
use serde::Serialize;

use super::entry::mode_bits;

#[derive(Debug, Serialize)]
struct Head {
    progname: &'static str,
    progver: &'static str,
    timestamp: i64,
}

#[derive(Debug, Default, Serialize)]
struct Item {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    asize: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dsize: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dev: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ino: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    hlnkc: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    nlink: Option<u64>,
    #[serde(skip_serializing_if = "is_false")]
    notreg: bool,
    #[serde(skip_serializing_if = "is_false")]
    read_error: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    gid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mode: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<i64>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Writes entries as they come from a listing: parents before what they hold.
#[derive(Debug, Default)]
pub(crate) struct Export {
    /// The paths of the directories whose arrays are open, and their devices.
    open: Vec<(Vec<u8>, Option<u64>)>,
}

impl Export {
    /// Begins with the directory that is listed.
    pub(crate) fn begin(&mut self, to: &mut dyn Write, path: &[u8], time: Timestamp) -> io::Result<()> {
        let head = Head { progname: "dr", progver: env!("CARGO_PKG_VERSION"), timestamp: time.seconds };
        to.write_all(b"[1,2,")?;
        serde_json::to_writer(&mut *to, &head)?;
        let name = if path.is_empty() { "/".to_owned() } else { String::from_utf8_lossy(path).into_owned() };
        to.write_all(b",\n[")?;
        serde_json::to_writer(&mut *to, &Item { name, ..Item::default() })?;
        self.open.push((path.to_vec(), None));
        Ok(())
    }

    /// Adds an entry; the listed directory itself is there already.
    pub(crate) fn add(&mut self, to: &mut dyn Write, path: &[u8], entry: &Entry) -> io::Result<()> {
        if self.open.first().is_some_and(|(first, _)| first == path) {
            return Ok(());
        }
        self.close_beside(to, path)?;
        to.write_all(b",\n")?;
        let item = self.item(entry);
        if entry.is_directory() {
            to.write_all(b"[")?;
            self.open.push((path.to_vec(), Some(entry.metadata.device)));
        }
        serde_json::to_writer(&mut *to, &item)?;
        Ok(())
    }

    /// Notes that something of a directory could not be read.
    pub(crate) fn unread(&mut self, to: &mut dyn Write, path: &[u8]) -> io::Result<()> {
        self.close_beside(to, &[path, b"/?"].concat())?;
        to.write_all(b",\n")?;
        let name = "(unreadable)".to_owned();
        serde_json::to_writer(&mut *to, &Item { name, read_error: true, ..Item::default() })?;
        Ok(())
    }

    /// Ends everything.
    pub(crate) fn finish(&mut self, to: &mut dyn Write) -> io::Result<()> {
        for _ in self.open.drain(..) {
            to.write_all(b"]")?;
        }
        to.write_all(b"]\n")
    }

    /// Ends the directories that a path is not in.
    fn close_beside(&mut self, to: &mut dyn Write, path: &[u8]) -> io::Result<()> {
        let holds =
            |directory: &[u8]| path.strip_prefix(directory).is_some_and(|rest| rest.first() == Some(&b'/'));
        while self.open.len() > 1 && self.open.last().is_some_and(|(directory, _)| !holds(directory)) {
            self.open.pop();
            to.write_all(b"]")?;
        }
        Ok(())
    }

    fn item(&self, entry: &Entry) -> Item {
        let metadata = &entry.metadata;
        let (asize, data) = match &entry.kind {
            EntryKind::File(content) => (content.bytes, content.stream.bytes),
            EntryKind::Symlink(target) => (target.len() as u64, 0),
            _ => (0, 0),
        };
        let above = self.open.last().and_then(|(_, device)| *device);
        let is_linked = entry.hard_link_key().is_some();
        Item {
            name: String::from_utf8_lossy(&entry.name).into_owned(),
            asize: (asize > 0).then_some(asize),
            dsize: (data > 0).then(|| data.next_multiple_of(512)),
            // It is that of the directory above unless it is said.
            dev: (above != Some(metadata.device)).then_some(metadata.device),
            ino: is_linked.then_some(metadata.inode),
            hlnkc: is_linked,
            nlink: is_linked.then_some(metadata.links),
            notreg: !matches!(entry.kind, EntryKind::File(_) | EntryKind::Directory(_)),
            read_error: false,
            uid: Some(metadata.uid),
            gid: Some(metadata.gid),
            mode: Some(mode_bits(&entry.kind) | metadata.mode),
            mtime: Some(metadata.modified.seconds),
        }
    }
}
