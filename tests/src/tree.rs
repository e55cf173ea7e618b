//! Trees of files as values: made by hand or by proptest, written to disk, edited.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use proptest::prelude::*;

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A file of so many bytes, drawn from a seed.
    File {
        /// The seed.
        seed: u64,
        /// The length.
        bytes: usize,
    },
    /// A directory.
    Directory(TreeSpec),
    /// A symbolic link.
    Symlink(Vec<u8>),
    /// A named pipe.
    Fifo,
}

/// A directory: names and what they are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TreeSpec(pub BTreeMap<Vec<u8>, Node>);

impl TreeSpec {
    /// A tree of files with the given paths and lengths; the contents are drawn from the paths.
    pub fn files(files: &[(&str, usize)]) -> TreeSpec {
        let mut tree = TreeSpec::default();
        for (seed, (path, bytes)) in files.iter().enumerate() {
            tree.put(path, Node::File { seed: seed as u64, bytes: *bytes });
        }
        tree
    }

    /// Puts a node at a path, and makes the directories above it.
    pub fn put(&mut self, path: &str, node: Node) {
        match path.split_once('/') {
            None => {
                self.0.insert(path.as_bytes().to_vec(), node);
            }
            Some((first, rest)) => {
                let below = self
                    .0
                    .entry(first.as_bytes().to_vec())
                    .or_insert_with(|| Node::Directory(TreeSpec::default()));
                if let Node::Directory(tree) = below {
                    tree.put(rest, node);
                }
            }
        }
    }

    /// Makes the directory `path` hold exactly this tree. What is right already is left alone.
    pub fn write(&self, path: &Path) {
        fs::create_dir_all(path).unwrap();
        for present in fs::read_dir(path).unwrap().map(Result::unwrap) {
            if !self.0.contains_key(present.file_name().as_bytes()) {
                remove(&present.path());
            }
        }
        for (name, node) in &self.0 {
            let below = path.join(OsStr::from_bytes(name));
            let present = fs::symlink_metadata(&below).ok();
            match node {
                Node::Directory(tree) => {
                    if present.is_some_and(|present| !present.is_dir()) {
                        remove(&below);
                    }
                    tree.write(&below);
                }
                Node::File { seed, bytes } => {
                    let content = crate::noise(*seed, *bytes);
                    if present.as_ref().is_some_and(fs::Metadata::is_file)
                        && fs::read(&below).unwrap() == content
                    {
                        continue;
                    }
                    if present.is_some() {
                        remove(&below);
                    }
                    fs::write(&below, content).unwrap();
                    fs::set_permissions(&below, fs::Permissions::from_mode(0o600 | (*seed as u32 & 0o077)))
                        .unwrap();
                }
                Node::Symlink(target) => {
                    if present.is_some() {
                        remove(&below);
                    }
                    symlink(OsStr::from_bytes(target), &below).unwrap();
                }
                Node::Fifo => {
                    if present.is_some() {
                        remove(&below);
                    }
                    let mode = rustix::fs::Mode::from_raw_mode(0o640);
                    rustix::fs::mknodat(rustix::fs::CWD, &below, rustix::fs::FileType::Fifo, mode, 0)
                        .unwrap();
                }
            }
        }
    }
}

fn remove(path: &Path) {
    if fs::symlink_metadata(path).unwrap().is_dir() {
        fs::remove_dir_all(path).unwrap()
    } else {
        fs::remove_file(path).unwrap()
    }
}

/// Lengths around every boundary of the engine: empty, the chunker's minimum, a frame, the chunker's maximum, a segment.
pub fn file_bytes() -> impl Strategy<Value = usize> {
    const BOUNDARIES: [usize; 7] = [0, 1, 4096, 128 << 10, 1 << 20, 2 << 20, 4 << 20];
    prop_oneof![
        8 => 0usize..3000,
        2 => (prop::sample::select(&BOUNDARIES[..5]), 0usize..3).prop_map(|(at, off)| (at + off).saturating_sub(1)),
        1 => (prop::sample::select(&BOUNDARIES[5..]), 0usize..3).prop_map(|(at, off)| at + off - 1),
    ]
}

fn names() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[a-d]{1,2}(\\.txt)?".prop_map(String::into_bytes),
        1 => prop::collection::vec(prop_oneof![Just(0xffu8), Just(b'\n'), Just(b' '), Just(b'\\')], 1..4),
        1 => Just(vec![b'n'; 255]),
    ]
}

/// Trees of up to a few dozen entries, three deep.
pub fn trees() -> impl Strategy<Value = TreeSpec> {
    let leaf = prop_oneof![
        8 => (any::<u64>(), file_bytes()).prop_map(|(seed, bytes)| Node::File { seed: seed % 16, bytes }),
        1 => prop::collection::vec(1u8..=255, 1..40).prop_map(Node::Symlink),
        1 => Just(Node::Fifo),
    ];
    let node = leaf.prop_recursive(3, 24, 6, |below| {
        prop::collection::btree_map(names(), below, 0..6).prop_map(|tree| Node::Directory(TreeSpec(tree)))
    });
    prop::collection::btree_map(names(), node, 0..8).prop_map(TreeSpec)
}
