//! Compares two trees on disk with everything that a backup must keep.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// What is compared of an entry: kind, mode, owner, modification time, content and extended attributes.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    kind: &'static str,
    mode: u32,
    owner: (u32, u32),
    modified: (i64, i64),
    device: u64,
    content: Vec<u8>,
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The first path, in order, that is the same file.
    first_name: PathBuf,
}

/// Stops the test where two trees differ. Times of directories are compared too.
pub fn assert_same_tree(expected: &Path, found: &Path) {
    let (expected_entries, found_entries) = (look(expected), look(found));
    for (path, entry) in &expected_entries {
        match found_entries.get(path) {
            None => panic!("{} is missing", path.display()),
            Some(other) => assert_eq!(entry, other, "{}", path.display()),
        }
    }
    let surplus: Vec<_> = found_entries.keys().filter(|path| !expected_entries.contains_key(*path)).collect();
    assert!(surplus.is_empty(), "not in the original: {surplus:?}");
}

fn look(root: &Path) -> BTreeMap<PathBuf, Seen> {
    let mut entries = BTreeMap::new();
    let mut first_names = HashMap::new();
    let mut stack = vec![root.to_path_buf()];
    let mut paths = Vec::new();
    while let Some(path) = stack.pop() {
        if fs::symlink_metadata(&path).unwrap().is_dir() {
            stack.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        paths.push(path);
    }
    paths.sort();
    for path in paths {
        let relative = path.strip_prefix(root).unwrap().to_path_buf();
        let seen = see(&path, &relative, &mut first_names);
        entries.insert(relative, seen);
    }
    entries
}

fn see(path: &Path, relative: &Path, first_names: &mut HashMap<(u64, u64), PathBuf>) -> Seen {
    let metadata = fs::symlink_metadata(path).unwrap();
    let file_type = metadata.file_type();
    let (kind, content) = if file_type.is_dir() {
        ("directory", Vec::new())
    } else if file_type.is_symlink() {
        ("symlink", fs::read_link(path).unwrap().into_os_string().into_encoded_bytes())
    } else if file_type.is_fifo() {
        ("fifo", Vec::new())
    } else if file_type.is_socket() {
        ("socket", Vec::new())
    } else if file_type.is_file() {
        ("file", blake3::hash(&fs::read(path).unwrap()).as_bytes().to_vec())
    } else {
        ("device", Vec::new())
    };
    let first_name = if file_type.is_dir() {
        relative.to_path_buf()
    } else {
        first_names.entry((metadata.dev(), metadata.ino())).or_insert_with(|| relative.to_path_buf()).clone()
    };
    Seen {
        kind,
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (metadata.mtime(), metadata.mtime_nsec()),
        device: metadata.rdev(),
        content,
        xattrs: xattrs(path),
        first_name,
    }
}

fn xattrs(path: &Path) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut buffer = vec![0; 64 << 10];
    let Ok(length) = rustix::fs::llistxattr(path, &mut buffer) else { return Vec::new() };
    let mut xattrs: Vec<_> = buffer[..length]
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .map(|name| {
            let mut value = vec![0; 64 << 10];
            let length = rustix::fs::lgetxattr(path, name, &mut value).unwrap();
            (name.to_vec(), value[..length].to_vec())
        })
        .collect();
    xattrs.sort();
    xattrs
}
