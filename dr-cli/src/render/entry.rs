//! One entry of a snapshot, as `ls` shows it.

use std::io::{self, Write};

use dr_core::{Entry, EntryKind, Metadata};
use jiff::tz::TimeZone;
use serde::Serialize;

use crate::instant;
use crate::render::json::{SCHEMA, unless_text};
use crate::render::text;

/// How paths are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paths {
    /// Byte for byte.
    Raw,
    /// Harmless for a terminal.
    Escaped,
}

impl Paths {
    /// Writes a path.
    pub(crate) fn write(self, to: &mut dyn Write, path: &[u8]) -> io::Result<()> {
        match self {
            Paths::Raw => to.write_all(path),
            Paths::Escaped => to.write_all(text::printable_path(path).as_bytes()),
        }
    }
}

/// Writes an entry with everything that `ls -l` of coreutils shows, harmless for a terminal.
pub(crate) fn write_long(to: &mut dyn Write, path: &[u8], entry: &Entry, zone: &TimeZone) -> io::Result<()> {
    let Metadata { mode, uid, gid, user, group, modified, .. } = &entry.metadata;
    let owner = user.as_deref().map_or_else(|| uid.to_string(), |name| text::printable(name).into_owned());
    let group = group.as_deref().map_or_else(|| gid.to_string(), |name| text::printable(name).into_owned());
    let size = match &entry.kind {
        EntryKind::CharacterDevice(number) | EntryKind::BlockDevice(number) => {
            format!("{}, {}", rustix::fs::major(*number), rustix::fs::minor(*number))
        }
        kind => size(kind).to_string(),
    };
    let time = instant::local(*modified, zone);
    write!(to, "{} {owner:<8} {group:<8} {size:>12} {time} ", mode_string(&entry.kind, *mode))?;
    Paths::Escaped.write(to, path)?;
    if let EntryKind::Symlink(target) = &entry.kind {
        to.write_all(b" -> ")?;
        Paths::Escaped.write(to, target)?;
    }
    to.write_all(b"\n")
}

/// Type and permissions as ten characters.
pub(crate) fn mode_string(kind: &EntryKind, mode: u32) -> String {
    let kind = match kind {
        EntryKind::Directory(_) => 'd',
        EntryKind::Symlink(_) => 'l',
        EntryKind::CharacterDevice(_) => 'c',
        EntryKind::BlockDevice(_) => 'b',
        EntryKind::Fifo => 'p',
        EntryKind::Socket => 's',
        _ => '-',
    };
    let mut shown = String::from(kind);
    // Per class: how far its bits are shifted, its special bit, and the letter for that.
    for (shift, special, letter) in [(6, 0o4000, 's'), (3, 0o2000, 's'), (0, 0o1000, 't')] {
        let bits = mode >> shift;
        shown.push(if bits & 4 != 0 { 'r' } else { '-' });
        shown.push(if bits & 2 != 0 { 'w' } else { '-' });
        shown.push(match (mode & special != 0, bits & 1 != 0) {
            (true, true) => letter,
            (true, false) => letter.to_ascii_uppercase(),
            (false, true) => 'x',
            (false, false) => '-',
        });
    }
    shown
}

/// The type as the upper bits of a mode.
pub(crate) fn mode_bits(kind: &EntryKind) -> u32 {
    match kind {
        EntryKind::Directory(_) => 0o040_000,
        EntryKind::Symlink(_) => 0o120_000,
        EntryKind::CharacterDevice(_) => 0o020_000,
        EntryKind::BlockDevice(_) => 0o060_000,
        EntryKind::Fifo => 0o010_000,
        EntryKind::Socket => 0o140_000,
        _ => 0o100_000,
    }
}

/// A file's length, holes included; that of a link's target.
pub(crate) fn size(kind: &EntryKind) -> u64 {
    match kind {
        EntryKind::File(content) => content.bytes,
        EntryKind::Symlink(target) => target.len() as u64,
        _ => 0,
    }
}

fn type_name(kind: &EntryKind) -> &'static str {
    match kind {
        EntryKind::File(_) => "file",
        EntryKind::Directory(_) => "dir",
        EntryKind::Symlink(_) => "symlink",
        EntryKind::CharacterDevice(_) => "chardev",
        EntryKind::BlockDevice(_) => "blockdev",
        EntryKind::Fifo => "fifo",
        EntryKind::Socket => "socket",
        _ => "other",
    }
}

/// An entry as JSON.
#[derive(Debug, Serialize)]
pub(crate) struct Node<'a> {
    message_type: &'static str,
    schema: u32,
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    name: String,
    #[serde(rename = "type")]
    kind: &'static str,
    size: u64,
    /// The permission bits as a number.
    mode: u32,
    /// The same in octal digits.
    mode_octal: String,
    permissions: String,
    uid: u32,
    gid: u32,
    user: Option<&'a str>,
    group: Option<&'a str>,
    mtime: String,
    ctime: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    atime: Option<String>,
    btime: Option<String>,
    inode: u64,
    /// The file system that the entry was on.
    device_id: u64,
    links: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    linktarget: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    linktarget_b64: Option<String>,
    /// What a device file stands for.
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<u64>,
}

impl<'a> Node<'a> {
    /// Describes an entry.
    pub(crate) fn new(path: &[u8], entry: &'a Entry) -> Node<'a> {
        let metadata = &entry.metadata;
        let target = match &entry.kind {
            EntryKind::Symlink(target) => Some(target),
            _ => None,
        };
        Node {
            message_type: "node",
            schema: SCHEMA,
            path: String::from_utf8_lossy(path).into_owned(),
            path_b64: unless_text(path),
            name: String::from_utf8_lossy(&entry.name).into_owned(),
            kind: type_name(&entry.kind),
            size: size(&entry.kind),
            mode: metadata.mode,
            mode_octal: format!("{:04o}", metadata.mode),
            permissions: mode_string(&entry.kind, metadata.mode),
            uid: metadata.uid,
            gid: metadata.gid,
            user: metadata.user.as_deref(),
            group: metadata.group.as_deref(),
            mtime: instant::rfc3339(metadata.modified),
            ctime: instant::rfc3339(metadata.changed),
            atime: metadata.accessed.map(instant::rfc3339),
            btime: metadata.created.map(instant::rfc3339),
            inode: metadata.inode,
            device_id: metadata.device,
            links: metadata.links,
            linktarget: target.map(|target| String::from_utf8_lossy(target).into_owned()),
            linktarget_b64: target.and_then(|target| unless_text(target)),
            device: match &entry.kind {
                EntryKind::CharacterDevice(number) | EntryKind::BlockDevice(number) => Some(*number),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use dr_core::{FileContent, Stream};

    use super::*;

    fn file(mode: u32) -> Entry {
        let content = FileContent::new(12, Stream::default(), None);
        let mut metadata = Metadata::default();
        metadata.mode = mode;
        Entry::new("f", EntryKind::File(content), metadata)
    }

    #[test]
    fn modes_look_as_in_ls() {
        let cases = [
            (0o644, "-rw-r--r--"),
            (0o4755, "-rwsr-xr-x"),
            (0o4644, "-rwSr--r--"),
            (0o2755, "-rwxr-sr-x"),
            (0o2745, "-rwxr-Sr-x"),
            (0o1777, "-rwxrwxrwt"),
            (0o1776, "-rwxrwxrwT"),
            (0, "----------"),
        ];
        for (mode, shown) in cases {
            assert_eq!(mode_string(&file(mode).kind, mode), shown, "{mode:o}");
        }
        assert_eq!(mode_string(&EntryKind::Directory(Stream::default()), 0o755), "drwxr-xr-x");
        assert_eq!(mode_string(&EntryKind::Symlink(Vec::new()), 0o777), "lrwxrwxrwx");
        let letters: String =
            [EntryKind::CharacterDevice(0), EntryKind::BlockDevice(0), EntryKind::Fifo, EntryKind::Socket]
                .iter()
                .map(|kind| mode_string(kind, 0).remove(0))
                .collect();
        assert_eq!(letters, "cbps");
    }

    #[test]
    fn long_lines_hold_everything() {
        let mut bytes = Vec::new();
        write_long(&mut bytes, b"/a\xff", &file(0o640), &TimeZone::UTC).unwrap();
        let expected = b"-rw-r----- 0        0                  12 1970-01-01 00:00:00 /a\\xff\n";
        assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
        let link = Entry::new("l", EntryKind::Symlink(b"to\x1b".to_vec()), Metadata::default());
        let mut bytes = Vec::new();
        write_long(&mut bytes, b"/l", &link, &TimeZone::UTC).unwrap();
        assert!(bytes.ends_with(b" /l -> to\\x1b\n"));
    }

    #[test]
    fn nodes_hold_everything() {
        let json = serde_json::to_value(Node::new(b"/d/f", &file(0o4755))).unwrap();
        assert_eq!((json["message_type"].as_str(), json["schema"].as_u64()), (Some("node"), Some(1)));
        assert_eq!((json["type"].as_str(), json["size"].as_u64()), (Some("file"), Some(12)));
        assert_eq!((json["mode"].as_u64(), json["mode_octal"].as_str()), (Some(0o4755), Some("4755")));
        assert_eq!(json["permissions"], "-rwsr-xr-x");
        assert!(json["user"].is_null() && json.get("linktarget").is_none() && json.get("device").is_none());
    }
}
