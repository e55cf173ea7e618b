//! Small trees in memory, edited between backups. Contents come from a small pool, so that hosts share chunks.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::{
    Entry, EntryKind, Extent, FileContent, MergeBy, Metadata, Source, SourceDirectory, SourceFile,
    SourceItem, Stream,
};

use crate::steps::Dice;

/// A directory: names and what they are.
pub(super) type Tree = BTreeMap<String, Node>;
/// Paths and files; directories are none.
pub(super) type Flat = BTreeMap<String, Option<File>>;

/// What is compared of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) bytes: Vec<u8>,
    /// In seconds; 0 for a stream that was put, which may keep the time of the one before.
    pub(super) modified: i64,
}

/// When files were modified that never were changed.
const LONG_AGO: i64 = 1_000_000_000;
/// Streams that are put have such names.
pub(super) const PUT_NAMES: [&str; 2] = ["log0", "log1"];

/// What is left of paths where those with a component that `is_left_out` are.
pub(super) fn without(flat: &Flat, is_left_out: &dyn Fn(&str) -> bool) -> Flat {
    let stays = |path: &str| !path.split('/').any(is_left_out);
    flat.iter().filter(|(path, _)| stays(path)).map(|(path, file)| (path.clone(), file.clone())).collect()
}

/// All that any of several hold; of files that differ the last, or the one that was modified last.
pub(super) fn merged(flats: &[Flat], by: MergeBy) -> Flat {
    let mut all = Flat::new();
    for (path, file) in flats.iter().flatten() {
        let newer = |known: &Option<File>| match (known, file) {
            (Some(known), Some(file)) => by == MergeBy::Last || file.modified >= known.modified,
            _ => false,
        };
        if all.get(path).is_none_or(newer) {
            all.insert(path.clone(), file.clone());
        }
    }
    all
}

/// An entry of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    File {
        bytes: Vec<u8>,
        /// When it was changed, in seconds.
        changed: i64,
    },
    Directory(Tree),
}

/// Bytes of the pool.
pub(super) fn content(dice: &mut Dice) -> Vec<u8> {
    let length = match dice.below(60) {
        0 => 140_000 + 70_000 * dice.below(2) as usize,
        1..=6 => 0,
        _ => [40, 700, 2500, 9000][dice.below(4) as usize],
    };
    let mut bytes = crate::noise(dice.below(6), length);
    if dice.below(3) == 0 {
        bytes.iter_mut().for_each(|byte| *byte = b'a' + *byte % 8);
    }
    bytes
}

fn name(dice: &mut Dice) -> String {
    ["a", "b", "c.txt", "d.txt"][dice.below(4) as usize].to_owned()
}

/// Makes a few changes to a tree.
pub(super) fn edit(tree: &mut Tree, dice: &mut Dice, now: i64) {
    if dice.below(60) == 0 {
        // So many chunks that their index does not fit into an entry of the log.
        let file = |number: u64| Node::File { bytes: format!("{now} {number}").into_bytes(), changed: now };
        let files = (0..400).map(|number| (number.to_string(), file(number)));
        tree.insert("wide".to_owned(), Node::Directory(files.collect()));
    } else if dice.below(6) == 0 {
        tree.remove("wide");
    }
    for _ in 0..=dice.below(3) {
        let below = ["x", "y", "z"][dice.below(3) as usize];
        let place = if dice.below(2) == 0 {
            &mut *tree
        } else {
            let inner = tree.entry(below.to_owned()).or_insert_with(|| Node::Directory(Tree::new()));
            match inner {
                Node::Directory(inner) => inner,
                Node::File { .. } => continue,
            }
        };
        match dice.below(5) {
            0 => _ = place.remove(&name(dice)),
            1 if dice.below(4) == 0 => _ = tree.remove(below),
            _ => _ = place.insert(name(dice), Node::File { bytes: content(dice), changed: now }),
        }
    }
}

/// All paths of a tree.
pub(super) fn flatten(tree: &Tree) -> Flat {
    let mut flat = Flat::new();
    for (name, node) in tree {
        match node {
            Node::File { bytes, changed } => {
                let file = File { bytes: bytes.clone(), modified: LONG_AGO + changed };
                flat.insert(name.clone(), Some(file));
            }
            Node::Directory(below) => {
                flat.insert(name.clone(), None);
                for (path, file) in flatten(below) {
                    flat.insert(format!("{name}/{path}"), file);
                }
            }
        }
    }
    flat
}

/// What a folder on the disk holds.
pub(super) fn read_folder(folder: &Path) -> Flat {
    let mut flat = Flat::new();
    for found in std::fs::read_dir(folder).unwrap().map(io::Result::unwrap) {
        let name = found.file_name().into_string().unwrap();
        if found.file_type().unwrap().is_dir() {
            for (path, file) in read_folder(&found.path()) {
                flat.insert(format!("{name}/{path}"), file);
            }
            flat.insert(name, None);
        } else {
            let is_put = PUT_NAMES.contains(&name.as_str());
            let modified = if is_put { 0 } else { found.metadata().unwrap().mtime() };
            let bytes = std::fs::read(found.path()).unwrap();
            flat.insert(name, Some(File { bytes, modified }));
        }
    }
    flat
}

/// A tree as the engine takes it.
#[derive(Debug)]
pub(super) struct TreeSource {
    pub(super) host: String,
    pub(super) tree: Arc<Tree>,
}

#[derive(Debug)]
struct Folder(Tree);

#[derive(Debug)]
struct OpenFile(Entry, Vec<u8>);

impl Source for TreeSource {
    fn paths(&self) -> Vec<PathBuf> {
        vec![PathBuf::from(format!("/{}", self.host))]
    }

    fn open_root(&self) -> io::Result<Arc<dyn SourceDirectory>> {
        Ok(Arc::new(Folder((*self.tree).clone())))
    }

    fn missing(&self) -> Vec<(PathBuf, io::Error)> {
        Vec::new()
    }
}

fn entry(name: &str, node: &Node) -> Entry {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links) = (0o755, 1);
    (metadata.modified.seconds, metadata.changed.nanoseconds) = (LONG_AGO, 5);
    let kind = match node {
        Node::File { bytes, changed } => {
            metadata.modified.seconds += changed;
            EntryKind::File(FileContent::new(bytes.len() as u64, Stream::default(), None))
        }
        Node::Directory(_) => EntryKind::Directory(Stream::default()),
    };
    Entry::new(name, kind, metadata)
}

impl Folder {
    fn find(&self, name: &[u8]) -> io::Result<(&str, &Node)> {
        let name = std::str::from_utf8(name).map_err(io::Error::other)?;
        self.0
            .get_key_value(name)
            .map(|(name, node)| (name.as_str(), node))
            .ok_or(io::ErrorKind::NotFound.into())
    }
}

impl SourceDirectory for Folder {
    fn entries(&self) -> io::Result<Vec<SourceItem>> {
        let item = |(name, node): (&String, &Node)| SourceItem {
            name: name.as_bytes().to_vec(),
            entry: Ok(entry(name, node)),
        };
        Ok(self.0.iter().map(item).collect())
    }

    fn complete(&self, _entry: &mut Entry) -> io::Result<()> {
        Ok(())
    }

    fn open_directory(&self, name: &[u8]) -> io::Result<Arc<dyn SourceDirectory>> {
        match self.find(name)? {
            (_, Node::Directory(tree)) => Ok(Arc::new(Folder(tree.clone()))),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn open_file(&self, name: &[u8]) -> io::Result<Box<dyn SourceFile>> {
        match self.find(name)? {
            (name, node @ Node::File { bytes, .. }) => {
                Ok(Box::new(OpenFile(entry(name, node), bytes.clone())))
            }
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl SourceFile for OpenFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let rest = self.1.get(offset as usize..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        buffer[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn entry(&self) -> io::Result<Entry> {
        Ok(self.0.clone())
    }

    fn extents(&self, _bytes: u64) -> io::Result<Option<Vec<Extent>>> {
        Ok(None)
    }
}
