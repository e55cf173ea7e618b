//! Extended headers: records of a key and a value that stand before a member, or hold for all that follow.

use std::sync::Arc;

use super::acl;
use super::header::{name, owner};
use super::sparse::{SparseRecords, decimal};
use crate::limits::{NAME_BYTES_MAX, XATTR_BYTES_MAX, XATTRS_BYTES_MAX};
use crate::time::Timestamp;
use crate::tree::{Metadata, Xattr};

const WRONG: &str = "an extended header is not made of records";

type Result<T> = std::result::Result<T, &'static str>;

/// What extended headers say of a member.
#[derive(Debug, Clone, Default)]
pub(super) struct Records {
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) device_major: Option<u64>,
    pub(super) device_minor: Option<u64>,
    pub(super) sparse: Option<Box<SparseRecords>>,
    uid: Option<i64>,
    gid: Option<i64>,
    user: Option<Arc<str>>,
    group: Option<Arc<str>>,
    modified: Option<Timestamp>,
    changed: Option<Timestamp>,
    created: Option<Timestamp>,
    xattrs: Vec<Xattr>,
    acl_access: Option<Vec<u8>>,
    acl_default: Option<Vec<u8>>,
    /// Attributes of a kind that is not kept.
    notes: Vec<&'static str>,
}

impl Records {
    /// Takes all records of a header; a later one holds. Each is `LENGTH KEY=VALUE\n`, the length in decimal digits and of
    /// all of it.
    pub(super) fn apply(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            // Some programs fill up with zeros what they say is part of it.
            if rest.iter().all(|byte| *byte == 0) {
                return Ok(());
            }
            let space = rest.iter().take(21).position(|byte| *byte == b' ').ok_or(WRONG)?;
            let length = usize::try_from(decimal(&rest[..space])?).map_err(|_| WRONG)?;
            let record = rest.get(..length).and_then(|record| record.get(space + 1..)).ok_or(WRONG)?;
            let record = record.strip_suffix(b"\n").ok_or(WRONG)?;
            let equals = record.iter().position(|byte| *byte == b'=').ok_or(WRONG)?;
            self.take(&record[..equals], &record[equals + 1..])?;
            rest = &rest[length..];
        }
        Ok(())
    }

    fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let given = !value.is_empty();
        match key {
            b"path" => self.path = given.then(|| value.to_vec()),
            b"linkpath" => self.link = given.then(|| value.to_vec()),
            b"size" => self.size = given.then(|| decimal(value)).transpose()?,
            b"uid" => self.uid = given.then(|| integer(value)).transpose()?,
            b"gid" => self.gid = given.then(|| integer(value)).transpose()?,
            b"uname" => self.user = name(value),
            b"gname" => self.group = name(value),
            b"mtime" => self.modified = given.then(|| time(value)).transpose()?,
            b"ctime" => self.changed = given.then(|| time(value)).transpose()?,
            b"LIBARCHIVE.creationtime" => self.created = given.then(|| time(value)).transpose()?,
            b"SCHILY.devmajor" => self.device_major = given.then(|| decimal(value)).transpose()?,
            b"SCHILY.devminor" => self.device_minor = given.then(|| decimal(value)).transpose()?,
            b"SCHILY.acl.access" => self.acl_access = given.then(|| value.to_vec()),
            b"SCHILY.acl.default" => self.acl_default = given.then(|| value.to_vec()),
            b"SCHILY.acl.ace" => self.note("it has an access control list of NFS 4, which is not kept"),
            b"RHT.security.selinux" => {
                // As the kernel keeps it: with the byte that ends it.
                let ended = [value.strip_suffix(b"\0").unwrap_or(value), b"\0"].concat();
                self.xattr(b"security.selinux", &ended);
            }
            b"hdrcharset" if !matches!(value, b"" | b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {
                return Err("an extended header is of a character set that is not known");
            }
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(&unescaped(name), value);
                } else if let Some(key) = key.strip_prefix(b"GNU.sparse.") {
                    self.sparse.get_or_insert_default().take(key, value)?;
                } else if key.starts_with(b"LIBARCHIVE.xattr.") {
                    self.note("an attribute is written in libarchive's way only");
                }
            }
        }
        Ok(())
    }

    fn note(&mut self, note: &'static str) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn xattr(&mut self, name: &[u8], value: &[u8]) {
        if name.is_empty() || name.len() > NAME_BYTES_MAX || name.contains(&0) {
            return self.note("an attribute's name is none");
        }
        if value.len() > XATTR_BYTES_MAX {
            return self.note("an attribute is longer than 64 KiB");
        }
        self.xattrs.push(Xattr { name: name.to_vec(), value: value.to_vec() });
    }

    /// Refuses, in a header for all further members, what can be true of one only.
    pub(super) fn check_global(&self) -> Result<()> {
        let is_of_one = self.path.is_some()
            || self.link.is_some()
            || self.size.is_some()
            || self.sparse.is_some()
            || self.acl_access.is_some()
            || self.acl_default.is_some()
            || !self.xattrs.is_empty();
        if is_of_one { Err("a header for all members holds what can be true of one only") } else { Ok(()) }
    }

    /// The name of a sparse file, which has another one for programs that do not know the format.
    pub(super) fn sparse_name(&self) -> Option<Vec<u8>> {
        self.sparse.as_ref()?.name.clone()
    }

    /// Adds what was said to what the header says, and notes what cannot be kept.
    pub(super) fn add_to(self, metadata: &mut Metadata, notes: &mut Vec<&'static str>) {
        if let Some(uid) = self.uid {
            notes.retain(|note| !note.contains("owner"));
            metadata.uid = owner(uid, notes);
        }
        if let Some(gid) = self.gid {
            notes.retain(|note| !note.contains("group"));
            metadata.gid = owner(gid, notes);
        }
        metadata.user = self.user.or(metadata.user.take());
        metadata.group = self.group.or(metadata.group.take());
        if let Some(modified) = self.modified {
            notes.retain(|note| !note.contains("time"));
            metadata.modified = modified;
        }
        metadata.changed = self.changed.unwrap_or(metadata.modified);
        metadata.created = self.created;
        let mut xattrs = self.xattrs;
        for (name, text) in
            [(acl::ACCESS, self.acl_access.as_deref()), (acl::DEFAULT, self.acl_default.as_deref())]
        {
            let Some(text) = text.filter(|_| !xattrs.iter().any(|known| known.name == name)) else {
                continue;
            };
            match acl::to_xattr(text) {
                Some(value) => xattrs.push(Xattr { name: name.to_vec(), value }),
                None => notes.push("its access control list names somebody whom this system does not know"),
            }
        }
        // The later one of two holds.
        xattrs.reverse();
        xattrs.sort_by(|a, b| a.name.cmp(&b.name));
        xattrs.dedup_by(|later, first| later.name == first.name);
        let bytes = |xattrs: &[Xattr]| -> usize {
            xattrs.iter().map(|xattr| xattr.name.len() + xattr.value.len()).sum()
        };
        if bytes(&xattrs) > XATTRS_BYTES_MAX {
            notes.push("its attributes are longer than 1 MiB together");
            xattrs.clear();
        }
        // libarchive writes attributes twice: in its own way, and in the one that is read here.
        let is_double = |note: &&'static str| note.contains("libarchive") && !xattrs.is_empty();
        notes.extend(self.notes.into_iter().filter(|note| !is_double(note)));
        metadata.xattrs = xattrs;
    }
}

/// The name of an attribute as GNU tar writes it, whose keys hold no `=`: with `%3D`, and `%25` for `%`.
fn unescaped(name: &[u8]) -> Vec<u8> {
    let mut unescaped = Vec::with_capacity(name.len());
    let mut rest = name;
    loop {
        let (byte, after) = match rest {
            [b'%', b'2', b'5', after @ ..] => (b'%', after),
            [b'%', b'3', b'D', after @ ..] => (b'=', after),
            [byte, after @ ..] => (*byte, after),
            [] => return unescaped,
        };
        unescaped.push(byte);
        rest = after;
    }
}

fn integer(text: &[u8]) -> Result<i64> {
    let (digits, sign) = text.strip_prefix(b"-").map_or((text, 1), |digits| (digits, -1));
    let value =
        i64::try_from(decimal(digits)?).map_err(|_| "an extended header holds a number that is too large")?;
    Ok(sign * value)
}

/// Seconds since 1970, with a fraction of any length.
fn time(text: &[u8]) -> Result<Timestamp> {
    let (digits, is_negative) = text.strip_prefix(b"-").map_or((text, false), |digits| (digits, true));
    let point = digits.iter().position(|byte| *byte == b'.').unwrap_or(digits.len());
    let whole = decimal(&digits[..point])?;
    let fraction = digits.get(point + 1..).unwrap_or_default();
    if !fraction.iter().all(u8::is_ascii_digit) {
        return Err("an extended header holds a time that is none");
    }
    let digit = |at: usize| fraction.get(at).map_or(0, |digit| i128::from(digit - b'0'));
    let nanoseconds = (0..9).fold(0, |value, at| value * 10 + digit(at));
    let since = i128::from(whole) * 1_000_000_000 + nanoseconds;
    Ok(Timestamp::from_nanoseconds(if is_negative { -since } else { since }))
}
