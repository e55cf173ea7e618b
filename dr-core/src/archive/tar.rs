//! The tar format of POSIX.1-2001: a header of 512 bytes, and before it records for what has no place there.
//!
//! Sources: POSIX.1-2017 `pax`; the manual of GNU tar, "Storing Sparse Files" (PAX format, version 1.0); libarchive's
//! `tar(5)` for the names of attributes.

use std::io::{BufWriter, Write};

use tar::{EntryType, Header};

use super::{Added, Archive, Counted, Item, put};
use crate::error::Result;
use crate::observer::Context;
use crate::time::Timestamp;
use crate::tree::{EntryKind, Extent, FileContent, Metadata, read_extents};
use crate::view::{SnapshotView, unwritten};

const BLOCK_BYTES: u64 = 512;
/// The largest number that eleven octal digits hold.
const ELEVEN_DIGITS_MAX: u64 = 0o777_7777_7777;
/// The largest number that seven octal digits hold.
const SEVEN_DIGITS_MAX: u64 = 0o777_7777;

/// A tar archive that is being written.
pub(super) struct TarArchive<'w> {
    to: Counted<BufWriter<&'w mut dyn Write>>,
    /// Where the data of the newest member ends.
    data_end: u64,
}

impl<'w> TarArchive<'w> {
    pub(super) fn new(to: BufWriter<&'w mut dyn Write>) -> TarArchive<'w> {
        TarArchive { to: Counted { inner: to, bytes: 0 }, data_end: 0 }
    }

    fn write_entry(&mut self, name: &[u8], mut head: Head, kind: EntryType, bytes: u64) -> Result<()> {
        head.header.set_entry_type(kind);
        head.size(bytes);
        let Head { mut header, records } = head;
        if !records.is_empty() {
            self.write_records(name, &records)?;
        }
        header.set_cksum();
        put(&mut self.to, header.as_bytes())?;
        self.data_end = self.to.bytes.saturating_add(bytes);
        Ok(())
    }

    /// Writes a header with records of what has no place in the header behind it.
    fn write_records(&mut self, name: &[u8], records: &[u8]) -> Result<()> {
        let mut before = Header::new_ustar();
        before.set_entry_type(EntryType::XHeader);
        before.set_mode(0o644);
        before.set_size(records.len() as u64);
        fill(&mut before.as_old_mut().name, &[b"PaxHeaders/", name].concat());
        before.set_cksum();
        put(&mut self.to, before.as_bytes())?;
        put(&mut self.to, records)?;
        self.pad(records.len() as u64)
    }

    /// Fills the last block.
    fn pad(&mut self, bytes: u64) -> Result<()> {
        let rest = (bytes.next_multiple_of(BLOCK_BYTES) - bytes) as usize;
        put(&mut self.to, &[0; BLOCK_BYTES as usize][..rest])
    }

    fn add_file(
        &mut self,
        name: &[u8],
        mut head: Head,
        content: &FileContent,
        (view, ctx): (&SnapshotView, &Context<'_>),
    ) -> Result<()> {
        let Some(extents) = read_extents(content, view.reader())? else {
            self.write_entry(name, head, EntryType::Regular, content.bytes)?;
            view.copy_file(content, &mut self.to, ctx)?;
            return self.pad(content.bytes);
        };
        let map = SparseText::new(&extents, content.bytes);
        head.record(b"GNU.sparse.major", b"1");
        head.record(b"GNU.sparse.minor", b"0");
        head.record(b"GNU.sparse.name", name);
        head.record(b"GNU.sparse.realsize", content.bytes.to_string().as_bytes());
        let map_bytes = map.bytes().next_multiple_of(BLOCK_BYTES);
        self.write_entry(name, head, EntryType::Regular, map_bytes.saturating_add(content.stream.bytes))?;
        map.write(&mut self.to)?;
        self.pad(map.bytes())?;
        // The data alone, one extent after the other.
        let data = FileContent::new(content.stream.bytes, content.stream.clone(), None);
        view.copy_file(&data, &mut self.to, ctx)?;
        self.pad(data.bytes)
    }
}

impl Archive for TarArchive<'_> {
    fn add(&mut self, item: &Item<'_>, view: &SnapshotView, ctx: &Context<'_>) -> Result<Added> {
        let metadata = &item.entry.metadata;
        if let Some(first) = item.first_name {
            let mut head = Head::new(item.name, metadata);
            head.target(first);
            self.write_entry(item.name, head, EntryType::Link, 0)?;
            return Ok(Added::Whole);
        }
        let mut head = match &item.entry.kind {
            EntryKind::Directory(_) => Head::new(&[item.name, b"/"].concat(), metadata),
            // Programs that know nothing of holes make a file of this name.
            EntryKind::File(content) if content.sparse.is_some() => {
                let mut head = Head::of(metadata);
                fill(&mut head.header.as_old_mut().name, &[b"GNUSparseFile.0/", item.name].concat());
                head
            }
            _ => Head::new(item.name, metadata),
        };
        let kind = match &item.entry.kind {
            EntryKind::File(content) => {
                self.add_file(item.name, head, content, (view, ctx))?;
                return Ok(Added::Whole);
            }
            EntryKind::Directory(_) => EntryType::Directory,
            EntryKind::Symlink(target) => {
                head.target(target);
                EntryType::Symlink
            }
            EntryKind::CharacterDevice(number) => {
                head.device(*number);
                EntryType::Char
            }
            EntryKind::BlockDevice(number) => {
                head.device(*number);
                EntryType::Block
            }
            EntryKind::Fifo => EntryType::Fifo,
            EntryKind::Socket => return Ok(Added::Skipped("a tar archive has no place for sockets")),
        };
        self.write_entry(item.name, head, kind, 0)?;
        Ok(Added::Whole)
    }

    fn finish(&mut self) -> Result<()> {
        put(&mut self.to, &[0; 2 * BLOCK_BYTES as usize])?;
        self.to.flush().map_err(unwritten)
    }

    fn break_off(&mut self) -> Result<()> {
        // Where data is missing every reader notices. Between members most take the end of the file for the archive's end, and
        // some also a block that is no header; but none does so behind records for what follows.
        if self.to.bytes >= self.data_end {
            self.pad(self.to.bytes)?;
            let mut head = Head { header: Header::new_ustar(), records: Vec::new() };
            head.record(b"comment", b"the archive breaks off here");
            self.write_records(b"incomplete", &head.records)?;
            put(&mut self.to, &[0xff; BLOCK_BYTES as usize])?;
        }
        self.to.flush().map_err(unwritten)
    }
}

/// A header, and the records that stand before it.
struct Head {
    header: Header,
    records: Vec<u8>,
}

impl Head {
    fn new(name: &[u8], metadata: &Metadata) -> Head {
        let mut head = Head::of(metadata);
        head.text(b"path", name, Field::Name);
        head
    }

    /// The header of an entry without its name.
    fn of(metadata: &Metadata) -> Head {
        let mut head = Head { header: Header::new_ustar(), records: Vec::new() };
        head.header.set_mode(metadata.mode);
        head.number(b"uid", u64::from(metadata.uid), Header::set_uid);
        head.number(b"gid", u64::from(metadata.gid), Header::set_gid);
        if let Some(user) = &metadata.user {
            head.text(b"uname", user.as_bytes(), Field::User);
        }
        if let Some(group) = &metadata.group {
            head.text(b"gname", group.as_bytes(), Field::Group);
        }
        let modified = metadata.modified;
        let seconds = u64::try_from(modified.seconds).unwrap_or(0).min(ELEVEN_DIGITS_MAX);
        head.header.set_mtime(seconds);
        if modified.nanoseconds != 0 || i64::try_from(seconds) != Ok(modified.seconds) {
            head.record(b"mtime", decimal(modified).as_bytes());
        }
        if let Some(accessed) = metadata.accessed {
            head.record(b"atime", decimal(accessed).as_bytes());
        }
        head.record(b"ctime", decimal(metadata.changed).as_bytes());
        for xattr in &metadata.xattrs {
            head.record(&[b"SCHILY.xattr.", escaped(&xattr.name).as_slice()].concat(), &xattr.value);
        }
        head
    }

    /// A text: in its field, and in a record as well where it does not fit or is not plain.
    fn text(&mut self, key: &[u8], value: &[u8], field: Field) {
        let Some(place) = field.of(&mut self.header) else { return };
        let fits = value.len() <= place.len();
        fill(place, value);
        if std::str::from_utf8(value).is_err() {
            // What is no text is taken as it stands in the field; in a record it has to be said.
            if !fits {
                self.record(b"hdrcharset", b"BINARY");
                self.record(key, value);
            }
        } else if !fits || !value.is_ascii() {
            self.record(key, value);
        }
    }

    fn target(&mut self, target: &[u8]) {
        self.text(b"linkpath", target, Field::Target);
    }

    fn number(&mut self, key: &[u8], value: u64, set: fn(&mut Header, u64)) {
        if value > SEVEN_DIGITS_MAX {
            self.record(key, value.to_string().as_bytes());
        }
        set(&mut self.header, value.min(SEVEN_DIGITS_MAX));
    }

    fn size(&mut self, bytes: u64) {
        if bytes > ELEVEN_DIGITS_MAX {
            self.record(b"size", bytes.to_string().as_bytes());
        }
        self.header.set_size(bytes.min(ELEVEN_DIGITS_MAX));
    }

    fn device(&mut self, number: u64) {
        let (major, minor) = (rustix::fs::major(number), rustix::fs::minor(number));
        let parts = [(&b"SCHILY.devmajor"[..], major), (b"SCHILY.devminor", minor)];
        for (key, part) in parts.into_iter().filter(|(_, part)| u64::from(*part) > SEVEN_DIGITS_MAX) {
            self.record(key, part.to_string().as_bytes());
        }
        let fitting = |part: u32| part.min(SEVEN_DIGITS_MAX as u32);
        if let Some(header) = self.header.as_ustar_mut() {
            header.set_device_major(fitting(major));
            header.set_device_minor(fitting(minor));
        }
    }

    /// Adds `LENGTH KEY=VALUE\n`; the length counts its own digits.
    fn record(&mut self, key: &[u8], value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.records.extend_from_slice(length.to_string().as_bytes());
        for part in [b" ", key, b"=", value, b"\n"] {
            self.records.extend_from_slice(part);
        }
    }
}

/// A field of the header that holds text.
#[derive(Clone, Copy)]
enum Field {
    Name,
    Target,
    User,
    Group,
}

impl Field {
    fn of(self, header: &mut Header) -> Option<&mut [u8]> {
        let header = header.as_ustar_mut()?;
        Some(match self {
            Field::Name => &mut header.name,
            Field::Target => &mut header.linkname,
            Field::User => &mut header.uname,
            Field::Group => &mut header.gname,
        })
    }
}

/// Puts as much of a value into a field as it holds.
fn fill(field: &mut [u8], value: &[u8]) {
    let count = value.len().min(field.len());
    field.fill(0);
    field[..count].copy_from_slice(&value[..count]);
}

/// A time as a decimal number of seconds.
fn decimal(time: Timestamp) -> String {
    let nanoseconds = time.as_nanoseconds();
    let sign = if nanoseconds < 0 { "-" } else { "" };
    let whole = nanoseconds.unsigned_abs();
    format!("{sign}{}.{:09}", whole / 1_000_000_000, whole % 1_000_000_000)
}

/// The name of an attribute as GNU tar writes it: an equals sign would end it.
fn escaped(name: &[u8]) -> Vec<u8> {
    let mut escaped = Vec::with_capacity(name.len());
    for byte in name {
        match byte {
            b'%' => escaped.extend_from_slice(b"%25"),
            b'=' => escaped.extend_from_slice(b"%3D"),
            byte => escaped.push(*byte),
        }
    }
    escaped
}

/// Where the data of a file with holes lies, as text: the number of extents, then offset and length of each, a line a number.
struct SparseText<'e> {
    extents: &'e [Extent],
    /// The file's length where it ends in a hole: an extent of no bytes stands there.
    end: Option<u64>,
}

impl SparseText<'_> {
    fn new(extents: &[Extent], file_bytes: u64) -> SparseText<'_> {
        let data_end = extents.last().map_or(0, |extent| extent.offset + extent.bytes);
        let end = (extents.is_empty() || data_end < file_bytes).then_some(file_bytes);
        SparseText { extents, end }
    }

    fn numbers(&self) -> impl Iterator<Item = u64> + '_ {
        let count = self.extents.len() + usize::from(self.end.is_some());
        let extents = self.extents.iter().flat_map(|extent| [extent.offset, extent.bytes]);
        std::iter::once(count as u64).chain(extents).chain(self.end.into_iter().flat_map(|end| [end, 0]))
    }

    fn bytes(&self) -> u64 {
        self.numbers().map(|number| u64::from(number.checked_ilog10().unwrap_or(0)) + 2).sum()
    }

    fn write(&self, to: &mut dyn Write) -> Result<()> {
        self.numbers().try_for_each(|number| put(to, format!("{number}\n").as_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_counts_its_own_digits() {
        for bytes in 0..1200 {
            let mut head = Head { header: Header::new_ustar(), records: Vec::new() };
            head.record(b"key", &vec![b'v'; bytes]);
            let length: usize =
                String::from_utf8(head.records.clone()).unwrap().split(' ').next().unwrap().parse().unwrap();
            assert_eq!(length, head.records.len());
        }
    }

    #[test]
    fn times_are_decimal_also_before_1970() {
        let cases = [
            (0, 0, "0.000000000"),
            (5, 7, "5.000000007"),
            (-2, 500_000_000, "-1.500000000"),
            (-1, 0, "-1.000000000"),
        ];
        for (seconds, nanoseconds, text) in cases {
            assert_eq!(decimal(Timestamp { seconds, nanoseconds }), text);
        }
    }

    #[test]
    fn maps_are_as_long_as_they_say() {
        let extents = [Extent { offset: 0, bytes: 10 }, Extent { offset: 4096, bytes: 99_999 }];
        for (extents, bytes, text) in [
            (&extents[..], 4096 + 99_999, "2\n0\n10\n4096\n99999\n"),
            (&extents[..], 1 << 40, "3\n0\n10\n4096\n99999\n1099511627776\n0\n"),
            (&[], 7, "1\n7\n0\n"),
            (&[], 0, "1\n0\n0\n"),
        ] {
            let map = SparseText::new(extents, bytes);
            let mut written = Vec::new();
            map.write(&mut written).unwrap();
            assert_eq!(String::from_utf8(written).unwrap(), text);
            assert_eq!(map.bytes(), text.len() as u64);
        }
    }
}
