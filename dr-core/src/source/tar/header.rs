//! The block that every member begins with.

use rustix::fs::makedev;

use super::pax::Records;
use super::seconds;
use crate::error::{Error, ErrorKind, Result};
use crate::tree::Metadata;

pub(super) const BLOCK_BYTES: usize = 512;

pub(super) type Block = [u8; BLOCK_BYTES];

/// The owner of what belongs to a number that no system has.
const NOBODY: u32 = 65_534;

/// What compressed streams and other archives begin with, what they are, and what to do.
const OTHERS: [(&[u8], &str, &str); 11] = [
    (b"\x1f\x8b", "gzip", "decompress it on the way: pipe it through 'zcat'"),
    (b"\x1f\x9d", "compress", "decompress it on the way: pipe it through 'zcat'"),
    (b"\x28\xb5\x2f\xfd", "zstd", "decompress it on the way: pipe it through 'zstdcat'"),
    (b"\xfd7zXZ\0", "xz", "decompress it on the way: pipe it through 'xzcat'"),
    (b"]\0\0", "lzma", "decompress it on the way: pipe it through 'xzcat'"),
    (b"BZh", "bzip2", "decompress it on the way: pipe it through 'bzcat'"),
    (b"LZIP", "lzip", "decompress it on the way: pipe it through 'lzip -dc'"),
    (b"\x04\x22\x4d\x18", "lz4", "decompress it on the way: pipe it through 'lz4cat'"),
    (b"\x89LZO\0", "lzop", "decompress it on the way: pipe it through 'lzop -dc'"),
    (b"PK\x03\x04", "zip", "unpack it, and back up the directory"),
    (b"0707", "cpio", "make a tar archive of it, for example with 'bsdtar -cf - @FILE'"),
];

/// Refuses what is no tar archive by its first block, and says what it is.
pub(super) fn refuse_others(first: &[u8]) -> Result<()> {
    if first.is_empty() {
        return Err(Error::new(ErrorKind::Source, "there is no archive: the stream is empty")
            .with_remedy("no snapshot was made: see whether whatever writes the archive failed"));
    }
    let is_tar = first.first_chunk().is_some_and(|block: &Block| is_zero(block) || has_valid_sum(block));
    if is_tar {
        return Ok(());
    }
    match OTHERS.iter().find(|(magic, ..)| first.starts_with(magic)) {
        Some((_, name, remedy)) => {
            Err(Error::new(ErrorKind::Source, format!("this is no tar archive, but {name}"))
                .with_remedy(remedy))
        }
        None => Err(Error::new(ErrorKind::Source, "this is no tar archive")
            .with_remedy("no snapshot was made: what is no archive is saved with --stdin")),
    }
}

fn is_zero(block: &Block) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// Whether the sum of the header's bytes is the one it holds; old programs took bytes as signed.
fn has_valid_sum(block: &Block) -> bool {
    let Some(stored) = number(&block[148..156]) else { return false };
    let blank = |at: usize, byte: u8| if (148..156).contains(&at) { b' ' } else { byte };
    let bytes = || block.iter().enumerate().map(|(at, byte)| blank(at, *byte));
    let unsigned: i64 = bytes().map(i64::from).sum();
    let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
    stored == unsigned || stored == signed
}

/// A number in octal digits, between blanks; or, where the first bit is set, in binary. `None` for what is neither.
pub(super) fn number(field: &[u8]) -> Option<i64> {
    let first = *field.first()?;
    if first & 0x80 != 0 {
        let is_negative = first & 0x40 != 0;
        // The first bit only says that the rest is binary; the second is the sign.
        let head = if is_negative { first } else { first & 0x7f };
        let start = if is_negative { -1i128 } else { 0 };
        let mut value = start << 8 | i128::from(head);
        for byte in &field[1..] {
            value = value.checked_mul(256)? | i128::from(*byte);
        }
        return i64::try_from(value).ok();
    }
    let is_blank = |byte: &u8| matches!(byte, b' ' | 0);
    let digits = field.iter().skip_while(|byte| is_blank(byte));
    let mut value = 0i64;
    let mut has_ended = false;
    for byte in digits {
        match byte {
            b'0'..=b'7' if !has_ended => value = value.checked_mul(8)? | i64::from(byte - b'0'),
            byte if is_blank(byte) => has_ended = true,
            // What stands behind the blank is not part of the number.
            _ if has_ended => break,
            _ => return None,
        }
    }
    Some(value)
}

/// The bytes of a field, up to a NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

/// A header that was read.
#[derive(Debug, Clone)]
pub(super) struct Header {
    pub(super) kind: u8,
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) size: u64,
    /// GNU's own kind of header, or one from before any standard.
    pub(super) is_gnu: bool,
    mode: Option<i64>,
    uid: Option<i64>,
    gid: Option<i64>,
    modified: Option<i64>,
    user: Vec<u8>,
    group: Vec<u8>,
    device: [Option<i64>; 2],
}

impl Header {
    pub(super) fn read(block: &Block) -> std::result::Result<Header, &'static str> {
        if !has_valid_sum(block) {
            return Err("a header's sum is wrong");
        }
        let size = number(&block[124..136]).and_then(|size| u64::try_from(size).ok());
        let size = size.ok_or("a member's size is no number")?;
        let (is_ustar, is_gnu) = (&block[257..263] == b"ustar\0", &block[257..265] == b"ustar  \0");
        let is_star = &block[508..512] == b"tar\0";
        let prefix = match (is_ustar, is_star) {
            (true, false) => text(&block[345..500]),
            (true, true) => text(&block[345..476]),
            (false, _) => b"",
        };
        let mut path = prefix.to_vec();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(text(&block[..100]));
        let has_owners = is_ustar || is_gnu;
        let owner = |field: &[u8]| if has_owners { text(field).to_vec() } else { Vec::new() };
        let part = |field: &[u8]| if has_owners { number(field) } else { Some(0) };
        Ok(Header {
            kind: block[156],
            path,
            link: text(&block[157..257]).to_vec(),
            size,
            is_gnu: !is_ustar,
            mode: number(&block[100..108]),
            uid: number(&block[108..116]),
            gid: number(&block[116..124]),
            modified: number(&block[136..148]),
            user: owner(&block[265..297]),
            group: owner(&block[297..329]),
            device: [part(&block[329..337]), part(&block[337..345])],
        })
    }

    /// What the header says of the member. Fields that are no numbers are noted.
    pub(super) fn metadata(&self, notes: &mut Vec<&'static str>) -> Metadata {
        let mut metadata = Metadata::default();
        let mut number = |field: Option<i64>, note: &'static str| {
            field.unwrap_or_else(|| {
                notes.push(note);
                0
            })
        };
        metadata.mode = number(self.mode, "its mode is no number") as u32 & 0o7777;
        metadata.modified = seconds(number(self.modified, "its time is no number"));
        metadata.changed = metadata.modified;
        metadata.uid = owner(number(self.uid, "its owner is no number"), notes);
        let gid = self.gid.unwrap_or_else(|| {
            notes.push("its group is no number");
            0
        });
        metadata.gid = owner(gid, notes);
        metadata.user = name(&self.user);
        metadata.group = name(&self.group);
        metadata.links = 1;
        metadata
    }

    /// The number of a device.
    pub(super) fn device(&self, records: &Records) -> std::result::Result<u64, &'static str> {
        let [major, minor] = self.device;
        let part = |own: Option<u64>, field: Option<i64>| {
            let wide = own.or(field.and_then(|field| u64::try_from(field).ok()));
            wide.and_then(|wide| u32::try_from(wide).ok()).ok_or("the number of a device is none")
        };
        Ok(makedev(part(records.device_major, major)?, part(records.device_minor, minor)?))
    }
}

/// An owner's number; nobody's where no system has such a number.
pub(super) fn owner(number: i64, notes: &mut Vec<&'static str>) -> u32 {
    // The highest number stands for "none" in calls of the system.
    u32::try_from(number).ok().filter(|number| *number != u32::MAX).unwrap_or_else(|| {
        notes.push("its owner's number is larger than any can be");
        NOBODY
    })
}

/// An owner's name, where it is one.
pub(super) fn name(bytes: &[u8]) -> Option<std::sync::Arc<str>> {
    std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty()).map(Into::into)
}
