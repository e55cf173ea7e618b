//! Where in the target the paths of a snapshot belong.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::select::PathKind;

/// The paths of a snapshot, and where they belong below the target.
#[derive(Debug)]
pub(super) struct Places {
    /// How much of a path is left out: the length of what stands above the restored part.
    pub(super) stripped: usize,
    /// Paths of the snapshot that go elsewhere, and where; both without a slash at the end.
    moved: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Places {
    /// Takes the paths that go elsewhere.
    pub(super) fn new(moved: &[(Vec<u8>, Vec<u8>)]) -> Result<Places> {
        let mut places = Places { stripped: 0, moved: Vec::new() };
        for (from, to) in moved {
            let from = [b"/", &components(from).join(&b'/')[..]].concat();
            if components(to).iter().any(|name| matches!(*name, b"." | b"..")) || from == b"/" {
                let message = "a path can only be moved to a place below the target, and '/' not at all";
                return Err(Error::new(ErrorKind::InvalidInput, message)
                    .with_path(crate::observer::as_path(to))
                    .with_remedy("write FROM=TO without '.' and '..'; TO begins at the target"));
            }
            let to = components(to).join(&b'/');
            // Everything is below the target itself.
            let is_inside = |to: &[u8], other: &[u8]| other.is_empty() || is_at_or_below(to, other);
            let is_taken = |other: &[u8]| is_inside(&to, other) || is_inside(other, &to);
            if places.moved.iter().any(|(_, other)| is_taken(other)) {
                return Err(clash(&to, "two paths are moved to one place, or one into the other"));
            }
            places.moved.push((from, to));
        }
        Ok(places)
    }

    /// Where a path belongs, relative to the target.
    pub(super) fn place<'p>(&self, path: &'p [u8]) -> Cow<'p, [u8]> {
        let fits = |from: &[u8]| is_at_or_below(path, from);
        let longest = self.moved.iter().filter(|(from, _)| fits(from)).max_by_key(|(from, _)| from.len());
        match longest {
            Some((from, to)) => Cow::Owned([to, &path[from.len()..]].concat()),
            None => Cow::Borrowed(path.get(self.stripped..).unwrap_or_default()),
        }
    }

    /// Whether a path goes elsewhere than beside its neighbours.
    pub(super) fn is_moved(&self, path: &[u8]) -> bool {
        self.moved.iter().any(|(from, _)| from == path)
    }

    /// Refuses to move a path to where another is restored, or below what is no directory. `is_there` says whether the
    /// snapshot has a path, and whether that is a directory; `restored` is the part that is restored.
    pub(super) fn refuse_clashes(
        &self,
        restored: &[u8],
        is_there: &dyn Fn(&[u8]) -> Option<PathKind>,
    ) -> Result<()> {
        for (_, to) in &self.moved {
            let mut path = restored[..self.stripped.min(restored.len())].to_vec();
            let names = components(to);
            for (depth, name) in names.iter().enumerate() {
                path.push(b'/');
                path.extend_from_slice(name);
                let is_restored = is_at_or_below(&path, restored) || is_at_or_below(restored, &path);
                if !is_restored || self.moved.iter().any(|(from, _)| is_at_or_below(&path, from)) {
                    break;
                }
                match is_there(&path) {
                    Some(PathKind::Directory) if depth + 1 < names.len() => {}
                    Some(_) => return Err(clash(to, "a path is moved to where another one is restored")),
                    None => break,
                }
            }
        }
        Ok(())
    }

    /// The paths that go elsewhere, and where.
    pub(super) fn moved(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.moved.iter().map(|(from, to)| (from.as_slice(), to.as_slice()))
    }
}

/// Paths are moved to where others are.
fn clash(place: &[u8], why: &str) -> Error {
    Error::new(ErrorKind::InvalidInput, why)
        .with_path(crate::observer::as_path(place))
        .with_remedy("choose a place with '--map-path' that nothing else of the snapshot has")
}

/// Whether `path` is `above` or lies below it. Everything lies below `/`, which is also written as nothing.
pub(super) fn is_at_or_below(path: &[u8], above: &[u8]) -> bool {
    let above = above.strip_suffix(b"/").unwrap_or(above);
    path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

pub(super) fn components(path: &[u8]) -> Vec<&[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty()).collect()
}

/// The names on the way from the target to what belongs at a place, and its own.
pub(super) fn split(place: &[u8]) -> (Vec<&[u8]>, &[u8]) {
    let mut parent = components(place);
    let name = parent.pop().unwrap_or_default();
    (parent, name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_stripped_or_moved() {
        let moved = [(b"home/a/".to_vec(), b"/b".to_vec()), (b"/home/a/deep".to_vec(), b"x/y".to_vec())];
        let mut places = Places::new(&moved).unwrap();
        let place = |places: &Places, path: &str| String::from_utf8(places.place(path.as_bytes()).to_vec());
        for (path, expected) in [
            ("/home", "/home"),
            ("/home/ab", "/home/ab"),
            ("/home/a", "b"),
            ("/home/a/f", "b/f"),
            ("/home/a/deep/f", "x/y/f"),
        ] {
            assert_eq!(place(&places, path).unwrap(), expected);
        }
        places.stripped = 5;
        assert_eq!(place(&places, "/home/c").unwrap(), "/c");
        assert!(places.is_moved(b"/home/a") && !places.is_moved(b"/home"));
        for wrong in [("/a", "../b"), ("/a", "b/./c"), ("/", "b"), ("", "b")] {
            let moved = (wrong.0.as_bytes().to_vec(), wrong.1.as_bytes().to_vec());
            assert_eq!(Places::new(&[moved]).unwrap_err().kind(), ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn paths_are_not_moved_onto_one_another() {
        let moved = |to: &[&str]| {
            let from = (0..).map(|number: u32| format!("/from{number}").into_bytes());
            let moved: Vec<_> = from.zip(to.iter().map(|to| to.as_bytes().to_vec())).collect();
            Places::new(&moved)
        };
        for wrong in [["x", "x/"], ["x/y", "x"], ["x", "/x/y/z"], ["", "x"]] {
            assert_eq!(moved(&wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong:?}");
        }
        assert!(moved(&["x/y", "x/z"]).is_ok());
        let is_there = |path: &[u8]| match path {
            b"/d" | b"/d/e" | b"/from0" => Some(PathKind::Directory),
            b"/d/f" => Some(PathKind::Other),
            _ => None,
        };
        for (to, stripped, is_right) in [
            ("d", 0, false),
            ("d/f/new", 0, false),
            ("d/new", 0, true),
            ("d/new/e", 0, true),
            ("from0/x", 0, true),
            ("e", 0, true),
            ("e", 2, false),
        ] {
            let mut places = moved(&[to]).unwrap();
            places.stripped = stripped;
            let restored: &[u8] = if stripped > 0 { b"/d" } else { b"" };
            assert_eq!(places.refuse_clashes(restored, &is_there).is_ok(), is_right, "{to} {stripped}");
        }
    }

    #[test]
    fn what_lies_below_is_told_by_whole_names() {
        for (path, above, is) in [
            ("/a/b", "/a", true),
            ("/a", "/a", true),
            ("/ab", "/a", false),
            ("/a", "/", true),
            ("/a", "", true),
        ] {
            assert_eq!(is_at_or_below(path.as_bytes(), above.as_bytes()), is, "{path} {above}");
        }
    }
}
