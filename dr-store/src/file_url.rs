//! `file:` URLs: percent-encoding of paths, which are bytes and not always text.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// Writes an absolute path as a URL.
pub(crate) fn from_path(path: &Path) -> String {
    let mut url = String::from("file://");
    for &byte in path.as_os_str().as_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~+=,@".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

/// Reads what follows `file:` in a URL; `None` where it names another host, no absolute path, or is ill-encoded.
pub(crate) fn to_path(rest: &str) -> Option<PathBuf> {
    let encoded = match rest.strip_prefix("//") {
        Some(after) => after.strip_prefix("localhost").filter(|path| path.starts_with('/')).unwrap_or(after),
        None => rest,
    };
    if !encoded.starts_with('/') {
        return None;
    }
    let mut path = Vec::with_capacity(encoded.len());
    let mut bytes = encoded.bytes();
    while let Some(byte) = bytes.next() {
        path.push(if byte == b'%' { hex(bytes.next()?)? << 4 | hex(bytes.next()?)? } else { byte });
    }
    // No path of an operating system holds a zero byte.
    (!path.contains(&0)).then(|| PathBuf::from(OsString::from_vec(path)))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_survives_a_round_trip() {
        let bytes: Vec<u8> = (1..=255).collect();
        let path = Path::new("/").join(OsString::from_vec(bytes));
        let url = from_path(&path);
        assert_eq!(url.strip_prefix("file:").and_then(to_path), Some(path));
    }

    #[test]
    fn urls_of_other_hosts_and_relative_ones_are_refused() {
        for bad in ["", "a", "//host/a", "//", "//localhost", "//localhostess/a", "/a%2", "/a%zz", "/a%00"] {
            assert_eq!(to_path(bad), None, "{bad:?}");
        }
        for good in ["/a%20b", "///a%20b", "//localhost/a%20b"] {
            assert_eq!(to_path(good), Some(PathBuf::from("/a b")), "{good:?}");
        }
    }
}
