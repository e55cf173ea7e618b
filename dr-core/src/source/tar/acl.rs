//! Access control lists as archives hold them, in words, and as the kernel does.

use nix::unistd::{Group, User};

pub(super) const ACCESS: &[u8] = b"system.posix_acl_access";
pub(super) const DEFAULT: &[u8] = b"system.posix_acl_default";

/// The version of the kernel's layout.
const VERSION: u32 = 2;
/// The number in an entry that is nobody's in particular.
const NO_ID: u32 = u32::MAX;
/// The most entries: as many as fit an attribute.
const ENTRIES_MAX: usize = 8191;

/// Makes the kernel's layout of a list like `user::rw-,user:anna:r--:1001,group::r--,mask::r--,other::---`: entries between
/// commas or lines, with a number behind or in the place of a name. `None` where it is none, or names somebody unknown.
pub(super) fn to_xattr(text: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(text).ok()?;
    let mut entries: Vec<(u16, u32, u16)> = Vec::new();
    for entry in text.split([',', '\n', '\0']) {
        // What is behind a number sign is a remark.
        let entry = entry.split('#').next().unwrap_or_default().trim();
        if !entry.is_empty() {
            entries.push(parse(entry)?);
        }
        if entries.len() > ENTRIES_MAX {
            return None;
        }
    }
    if entries.is_empty() {
        return None;
    }
    // The kernel wants them in this order.
    entries.sort_unstable();
    let mut value = VERSION.to_le_bytes().to_vec();
    for (tag, id, rights) in entries {
        value.extend_from_slice(&tag.to_le_bytes());
        value.extend_from_slice(&rights.to_le_bytes());
        value.extend_from_slice(&id.to_le_bytes());
    }
    Some(value)
}

fn parse(entry: &str) -> Option<(u16, u32, u16)> {
    let mut parts = entry.split(':');
    let (kind, second) = (parts.next()?, parts.next()?);
    let rest: Vec<&str> = parts.collect();
    let (who, rights) = match (kind, rest.as_slice()) {
        // A mask and the others may be written without the empty part between.
        ("mask" | "m" | "other" | "o", []) => ("", second),
        (_, [rights, ..]) => (second, *rights),
        _ => return None,
    };
    let number = rest.get(1).and_then(|number| number.parse().ok());
    let user = |name: &str| User::from_name(name).ok().flatten().map(|user| user.uid.as_raw());
    let group = |name: &str| Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw());
    let id = |look_up: &dyn Fn(&str) -> Option<u32>| {
        look_up(who).or(number).or_else(|| who.parse().ok()).filter(|id| *id != NO_ID)
    };
    let (tag, id) = match (kind, who.is_empty()) {
        ("user" | "u", true) => (0x01, NO_ID),
        ("user" | "u", false) => (0x02, id(&user)?),
        ("group" | "g", true) => (0x04, NO_ID),
        ("group" | "g", false) => (0x08, id(&group)?),
        ("mask" | "m", true) => (0x10, NO_ID),
        ("other" | "o", true) => (0x20, NO_ID),
        _ => return None,
    };
    Some((tag, id, rights_of(rights.trim())?))
}

fn rights_of(text: &str) -> Option<u16> {
    text.chars().try_fold(0, |rights, letter| match letter {
        'r' => Some(rights | 4),
        'w' => Some(rights | 2),
        'x' => Some(rights | 1),
        '-' => Some(rights),
        _ => None,
    })
}
