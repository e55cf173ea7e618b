//! Small trees in memory, edited between backups. Contents come from a small pool, so that hosts share chunks.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dr_core::{
    Entry, EntryKind, Extent, FileContent, Metadata, Source, SourceDirectory, SourceFile, SourceItem, Stream,
};

use crate::steps::Dice;

/// A directory: names and what they are.
pub(super) type Tree = BTreeMap<String, Node>;
/// Paths and contents; directories have none.
pub(super) type Flat = BTreeMap<String, Option<Vec<u8>>>;

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
            Node::File { bytes, .. } => _ = flat.insert(name.clone(), Some(bytes.clone())),
            Node::Directory(below) => {
                flat.insert(name.clone(), None);
                for (path, bytes) in flatten(below) {
                    flat.insert(format!("{name}/{path}"), bytes);
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
            for (path, bytes) in read_folder(&found.path()) {
                flat.insert(format!("{name}/{path}"), bytes);
            }
            flat.insert(name, None);
        } else {
            flat.insert(name, Some(std::fs::read(found.path()).unwrap()));
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
    (metadata.modified.seconds, metadata.changed.nanoseconds) = (1_000_000_000, 5);
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
