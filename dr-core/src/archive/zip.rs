//! The ZIP format, written from front to back: sizes stand behind what was compressed, and all names again at the end.
//!
//! Sources: PKWARE's APPNOTE 6.3.10; Info-ZIP's `proginfo/extrafld.txt` for the fields of Unix. Names are bytes, as they
//! are in a snapshot; those that are UTF-8 say so.

use std::io::{BufWriter, Write};

use flate2::write::DeflateEncoder;
use flate2::{Compression, Crc};

use super::{Added, Archive, Counted, Item, put};
use crate::error::{Error, ErrorKind, Result};
use crate::observer::Context;
use crate::time::Timestamp;
use crate::tree::{Entry, EntryKind, FileContent, Metadata};
use crate::view::{SnapshotView, unwritten};

const LOCAL_HEADER: u32 = 0x0403_4b50;
const DATA_DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL_HEADER: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const ZIP64_END: u32 = 0x0606_4b50;
const ZIP64_LOCATOR: u32 = 0x0706_4b50;

const ZIP64_FIELD: u16 = 0x0001;
const TIMES_FIELD: u16 = 0x5455;
const OWNER_FIELD: u16 = 0x7875;

/// What a reader must understand: directories and deflate; lengths of 64 bits.
const VERSION: u16 = 20;
const VERSION_ZIP64: u16 = 45;
/// Written on Unix: the upper half of the attributes is the mode.
const MADE_BY: u16 = 3 << 8 | 63;

const STORED: u16 = 0;
const DEFLATED: u16 = 8;
const HAS_DESCRIPTOR: u16 = 1 << 3;
const IS_UTF8: u16 = 1 << 11;

/// From this length on a file is written with lengths of 64 bits: what does not compress grows a little.
const ZIP64_BYTES: u64 = 0xf000_0000;
const U32_FULL: u64 = u32::MAX as u64;
const U16_FULL: u64 = u16::MAX as u64;

/// A ZIP archive that is being written.
pub(super) struct ZipArchive<'w> {
    to: Counted<BufWriter<&'w mut dyn Write>>,
    /// The headers that stand at the end.
    central: Vec<u8>,
    entries: u64,
}

/// What the headers of an entry say.
struct Member<'e> {
    name: Vec<u8>,
    metadata: &'e Metadata,
    /// The kind and the permissions, as Unix has them.
    mode: u32,
    method: u16,
    is_zip64: bool,
    offset: u64,
    sizes: Sizes,
}

#[derive(Clone, Copy, Default)]
struct Sizes {
    crc: u32,
    raw: u64,
    stored: u64,
}

impl<'w> ZipArchive<'w> {
    pub(super) fn new(to: BufWriter<&'w mut dyn Write>) -> ZipArchive<'w> {
        ZipArchive { to: Counted { inner: to, bytes: 0 }, central: Vec::new(), entries: 0 }
    }

    /// Adds what is written as it is: a link's target, or nothing.
    fn add_stored(&mut self, mut member: Member<'_>, bytes: &[u8]) -> Result<()> {
        let mut crc = Crc::new();
        crc.update(bytes);
        let length = bytes.len() as u64;
        member.sizes = Sizes { crc: crc.sum(), raw: length, stored: length };
        put(&mut self.to, &member.local_header()?)?;
        put(&mut self.to, bytes)?;
        self.note(&member)
    }

    fn add_file(
        &mut self,
        mut member: Member<'_>,
        content: &FileContent,
        (view, ctx): (&SnapshotView, &Context<'_>),
    ) -> Result<()> {
        if content.bytes == 0 {
            return self.add_stored(member, b"");
        }
        member.method = DEFLATED;
        member.is_zip64 = content.bytes >= ZIP64_BYTES;
        put(&mut self.to, &member.local_header()?)?;
        let begin = self.to.bytes;
        let (raw, crc) = deflate(&mut self.to, &mut |deflated| view.copy_file(content, deflated, ctx))?;
        member.sizes = Sizes { crc, raw, stored: self.to.bytes - begin };
        put(&mut self.to, &member.descriptor())?;
        self.note(&member)
    }

    /// Notes an entry for the end.
    fn note(&mut self, member: &Member<'_>) -> Result<()> {
        self.central.extend_from_slice(&member.central_header()?);
        self.entries += 1;
        Ok(())
    }
}

/// Writes something deflated. Gives its length and its checksum.
fn deflate(to: &mut dyn Write, write: &mut dyn FnMut(&mut dyn Write) -> Result<u64>) -> Result<(u64, u32)> {
    let mut deflated = Summed { inner: DeflateEncoder::new(to, Compression::fast()), crc: Crc::new() };
    let raw = write(&mut deflated)?;
    let Summed { inner, crc } = deflated;
    inner.finish().map_err(unwritten)?;
    Ok((raw, crc.sum()))
}

impl Archive for ZipArchive<'_> {
    fn add(&mut self, item: &Item<'_>, view: &SnapshotView, ctx: &Context<'_>) -> Result<Added> {
        let Some(member) = Member::new(item, self.to.bytes) else {
            return Ok(Added::Skipped("a ZIP archive has no place for devices, pipes and sockets"));
        };
        match &item.entry.kind {
            EntryKind::File(content) => self.add_file(member, content, (view, ctx))?,
            EntryKind::Symlink(target) => self.add_stored(member, target)?,
            _ => self.add_stored(member, b"")?,
        }
        Ok(Added::Whole)
    }

    fn finish(&mut self) -> Result<()> {
        let offset = self.to.bytes;
        let bytes = self.central.len() as u64;
        put(&mut self.to, &std::mem::take(&mut self.central))?;
        let mut end = Vec::new();
        if self.entries >= U16_FULL || bytes >= U32_FULL || offset >= U32_FULL {
            let record = self.to.bytes;
            end.put32(ZIP64_END);
            end.put64(44);
            end.put16(MADE_BY);
            end.put16(VERSION_ZIP64);
            end.put64(0);
            for number in [self.entries, self.entries, bytes, offset] {
                end.put64(number);
            }
            end.put32(ZIP64_LOCATOR);
            end.put32(0);
            end.put64(record);
            end.put32(1);
        }
        end.put32(END);
        end.put32(0);
        end.put16(self.entries.min(U16_FULL) as u16);
        end.put16(self.entries.min(U16_FULL) as u16);
        end.put32(bytes.min(U32_FULL) as u32);
        end.put32(offset.min(U32_FULL) as u32);
        end.put16(0);
        put(&mut self.to, &end)?;
        self.to.flush().map_err(unwritten)
    }
}

impl<'e> Member<'e> {
    /// What is known before anything is written; nothing for what a ZIP archive has no place for.
    fn new(item: &Item<'e>, offset: u64) -> Option<Member<'e>> {
        let Entry { kind, metadata, .. } = item.entry;
        let mut name = item.name.to_vec();
        let kind = match kind {
            EntryKind::File(_) => 0o100_000,
            EntryKind::Symlink(_) => 0o120_000,
            EntryKind::Directory(_) => {
                name.push(b'/');
                0o040_000
            }
            _ => return None,
        };
        let mode = kind | metadata.mode & 0o7777;
        let sizes = Sizes::default();
        Some(Member { name, metadata, mode, method: STORED, is_zip64: false, offset, sizes })
    }

    fn flags(&self) -> u16 {
        let descriptor = if self.method == DEFLATED { HAS_DESCRIPTOR } else { 0 };
        // Plain ASCII is the same either way.
        let is_utf8 = std::str::from_utf8(&self.name).is_ok_and(|name| !name.is_ascii());
        descriptor | if is_utf8 { IS_UTF8 } else { 0 }
    }

    fn version(&self, is_zip64: bool) -> u16 {
        if is_zip64 { VERSION_ZIP64 } else { VERSION }
    }

    fn name_bytes(&self) -> Result<u16> {
        u16::try_from(self.name.len())
            .map_err(|_| Error::new(ErrorKind::LimitExceeded, "a path is too long for a ZIP archive"))
    }

    fn local_header(&self) -> Result<Vec<u8>> {
        let mut header = Vec::with_capacity(64 + self.name.len());
        header.put32(LOCAL_HEADER);
        header.put16(self.version(self.is_zip64));
        header.put16(self.flags());
        header.put16(self.method);
        header.put32(dos_time(self.metadata.modified));
        let mut extra = Vec::new();
        if self.method == STORED {
            header.put32(self.sizes.crc);
            header.put32(self.sizes.stored as u32);
            header.put32(self.sizes.raw as u32);
        } else {
            // They stand behind the bytes.
            header.put32(0);
            let size = if self.is_zip64 { u32::MAX } else { 0 };
            header.put32(size);
            header.put32(size);
            if self.is_zip64 {
                extra.put16(ZIP64_FIELD);
                extra.put16(16);
                extra.put64(0);
                extra.put64(0);
            }
        }
        self.put_unix_fields(&mut extra);
        header.put16(self.name_bytes()?);
        header.put16(extra.len() as u16);
        header.extend_from_slice(&self.name);
        header.extend_from_slice(&extra);
        Ok(header)
    }

    fn put_unix_fields(&self, extra: &mut Vec<u8>) {
        if let Ok(seconds) = i32::try_from(self.metadata.modified.seconds) {
            extra.put16(TIMES_FIELD);
            extra.put16(5);
            extra.push(1);
            extra.put32(seconds as u32);
        }
        extra.put16(OWNER_FIELD);
        extra.put16(11);
        extra.push(1);
        for number in [self.metadata.uid, self.metadata.gid] {
            extra.push(4);
            extra.put32(number);
        }
    }

    fn descriptor(&self) -> Vec<u8> {
        let mut descriptor = Vec::with_capacity(24);
        descriptor.put32(DATA_DESCRIPTOR);
        descriptor.put32(self.sizes.crc);
        for size in [self.sizes.stored, self.sizes.raw] {
            if self.is_zip64 { descriptor.put64(size) } else { descriptor.put32(size as u32) }
        }
        descriptor
    }

    fn central_header(&self) -> Result<Vec<u8>> {
        let mut large = Vec::new();
        let mut field = |number: u64| {
            if number >= U32_FULL || self.is_zip64 {
                large.put64(number);
                return u32::MAX;
            }
            number as u32
        };
        // In the order of the format.
        let (raw, stored, offset) = (field(self.sizes.raw), field(self.sizes.stored), field(self.offset));
        let mut extra = Vec::new();
        if !large.is_empty() {
            extra.put16(ZIP64_FIELD);
            extra.put16(large.len() as u16);
            extra.extend_from_slice(&large);
        }
        self.put_unix_fields(&mut extra);
        let mut header = Vec::with_capacity(96 + self.name.len());
        header.put32(CENTRAL_HEADER);
        header.put16(MADE_BY);
        header.put16(self.version(!large.is_empty()));
        header.put16(self.flags());
        header.put16(self.method);
        header.put32(dos_time(self.metadata.modified));
        header.put32(self.sizes.crc);
        header.put32(stored);
        header.put32(raw);
        header.put16(self.name_bytes()?);
        header.put16(extra.len() as u16);
        // No comment, one volume, no attributes of the content.
        header.extend_from_slice(&[0; 6]);
        let is_directory = self.name.ends_with(b"/");
        header.put32(self.mode << 16 | if is_directory { 0x10 } else { 0 });
        header.put32(offset);
        header.extend_from_slice(&self.name);
        header.extend_from_slice(&extra);
        Ok(header)
    }
}

/// Time and date of MS-DOS in UTC, for programs that do not know the field of Unix: from 1980 to 2107, every other second.
fn dos_time(time: Timestamp) -> u32 {
    const EARLIEST: u32 = 1 << 21 | 1 << 16;
    const LATEST: u32 = 127 << 25 | 12 << 21 | 31 << 16 | 23 << 11 | 59 << 5 | 29;
    let Ok(known) = jiff::Timestamp::from_second(time.seconds) else {
        return if time.seconds < 0 { EARLIEST } else { LATEST };
    };
    let known = known.to_zoned(jiff::tz::TimeZone::UTC);
    let year = match i32::from(known.year()) - 1980 {
        ..0 => return EARLIEST,
        128.. => return LATEST,
        year => year as u32,
    };
    let date = year << 9 | (known.month() as u32) << 5 | known.day() as u32;
    let clock = (known.hour() as u32) << 11 | (known.minute() as u32) << 5 | ((known.second() as u32) / 2);
    date << 16 | clock
}

/// Little-endian numbers.
trait PutNumbers {
    fn put16(&mut self, number: u16);
    fn put32(&mut self, number: u32);
    fn put64(&mut self, number: u64);
}

impl PutNumbers for Vec<u8> {
    fn put16(&mut self, number: u16) {
        self.extend_from_slice(&number.to_le_bytes());
    }

    fn put32(&mut self, number: u32) {
        self.extend_from_slice(&number.to_le_bytes());
    }

    fn put64(&mut self, number: u64) {
        self.extend_from_slice(&number.to_le_bytes());
    }
}

/// Sums up what is written.
struct Summed<W> {
    inner: W,
    crc: Crc,
}

impl<W: Write> Write for Summed<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.crc.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dos_times_are_clamped() {
        let at = |seconds| dos_time(Timestamp { seconds, nanoseconds: 0 });
        assert_eq!(at(0), 1 << 21 | 1 << 16);
        assert_eq!(at(i64::MIN), 1 << 21 | 1 << 16);
        // 2026-11-21 19:46:22
        assert_eq!(at(1_795_290_382), 46 << 25 | 11 << 21 | 21 << 16 | 19 << 11 | 46 << 5 | 11);
        for late in [4_354_819_200, 253_402_300_799, i64::MAX] {
            assert_eq!(at(late), 0xff9f_bf7d, "{late}");
        }
        assert_eq!(at(4_354_819_199) >> 16, 127 << 9 | 12 << 5 | 31);
    }
}
