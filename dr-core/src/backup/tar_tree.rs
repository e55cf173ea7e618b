//! The tree that an archive makes: members come in any order, and a later one takes the place of an earlier one.

use std::collections::{BTreeMap, HashSet, btree_map};

use super::scan::Tally;
use super::storer::Storer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Problem, ProblemKind};
use crate::format::tree::{check_entry, is_name};
use crate::limits::{DEPTH_MAX, PATH_BYTES_MAX};
use crate::time::Timestamp;
use crate::tree::{DirectoryWriter, Entry, EntryKind, Metadata, Stream};

/// Names from the top of the tree down.
pub(super) type Names<'n> = [&'n [u8]];

/// A tree as far as the archive was read. Nodes that were replaced stay where they are; nothing names them any more.
#[derive(Debug)]
pub(super) struct ArchiveTree {
    nodes: Vec<Node>,
    leaves: Vec<Leaf>,
    /// Members so far, and directories that no member had spoken of when they were needed.
    members: u64,
    implied: u64,
    /// Where it belongs in the snapshot: `/NAME`, or nothing for the top.
    place: Vec<u8>,
}

#[derive(Debug)]
enum Node {
    /// Boxed: there are many more names than directories.
    Directory(Box<Directory>),
    /// A name of the leaf of this number.
    Name(usize),
}

#[derive(Debug, Default)]
struct Directory {
    metadata: Metadata,
    entries: BTreeMap<Vec<u8>, usize>,
}

/// Whatever is no directory. It may have several names.
#[derive(Debug)]
struct Leaf {
    kind: EntryKind,
    metadata: Metadata,
    /// A number made of its first path: the same in every archive that holds it.
    number: u64,
    names: u64,
}

/// Directories that an archive needs and does not hold: so many for each member, beside what any archive may have, and no more
/// than this at all.
const IMPLIED_PER_MEMBER: u64 = 64;
const IMPLIED_MIN: u64 = 1 << 16;
const IMPLIED_MAX: u64 = 1_000_000;

/// The topmost node.
const ROOT: usize = 0;

impl ArchiveTree {
    /// An empty tree, which was made at `time`, for the place that these names lead to.
    pub(super) fn new(place: &[&str], time: Timestamp) -> ArchiveTree {
        let root = Directory { metadata: made(time), entries: BTreeMap::new() };
        let place = place.iter().flat_map(|name| ["/", name]).collect::<String>().into_bytes();
        let nodes = vec![Node::Directory(Box::new(root))];
        ArchiveTree { nodes, leaves: Vec::new(), members: 0, implied: 0, place }
    }

    /// The path in the snapshot of what stands in the archive under a name.
    pub(super) fn path_of(&self, names: &Names<'_>) -> Vec<u8> {
        let mut path = self.place.clone();
        for name in names {
            path.push(b'/');
            path.extend_from_slice(name);
        }
        if path.is_empty() { b"/".to_vec() } else { path }
    }

    /// Puts a directory in its place. One that is there keeps what it holds.
    pub(super) fn put_directory(&mut self, names: &Names<'_>, mut metadata: Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        let kind = EntryKind::Directory(Stream::default());
        if let Err(problem) = self.fit(names, &kind, &mut metadata) {
            problems.push(problem);
        }
        let Some((name, above)) = names.split_last() else {
            if let Node::Directory(root) = &mut self.nodes[ROOT] {
                root.metadata = metadata;
            }
            return problems;
        };
        let above = self.directory(above, metadata.modified, &mut problems);
        match self.child(above, name) {
            Some(found) if let Node::Directory(directory) = &mut self.nodes[found] => {
                directory.metadata = metadata;
            }
            _ => {
                _ = self.name(
                    above,
                    name,
                    Node::Directory(Box::new(Directory { metadata, entries: BTreeMap::new() })),
                )
            }
        }
        problems
    }

    /// Puts anything but a directory in its place.
    pub(super) fn put(&mut self, names: &Names<'_>, kind: EntryKind, mut metadata: Metadata) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(problem) = self.fit(names, &kind, &mut metadata) {
            let is_lost = problem.kind != ProblemKind::Attributes;
            problems.push(problem);
            if is_lost {
                return problems;
            }
        }
        let hash = blake3::hash(&self.path_of(names));
        let number = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let modified = metadata.modified;
        self.leaves.push(Leaf { kind, metadata, number, names: 0 });
        self.put_name(names, self.leaves.len() - 1, modified, &mut problems);
        problems
    }

    /// Puts another name of what stands under `target` in its place.
    pub(super) fn link(&mut self, names: &Names<'_>, target: &Names<'_>) -> Vec<Problem> {
        let mut problems = Vec::new();
        let leaf = self.find(target).and_then(|found| match self.nodes[found] {
            Node::Name(leaf) => Some(leaf),
            Node::Directory(_) => None,
        });
        match leaf {
            Some(leaf) => self.put_name(names, leaf, self.leaves[leaf].metadata.modified, &mut problems),
            None => {
                let target = String::from_utf8_lossy(&self.path_of(target)).into_owned();
                let why =
                    format!("it is another name of {target}, which is no file of the archive before it");
                problems.push(Problem::new(self.path_of(names), ProblemKind::Unreadable, why));
            }
        }
        problems
    }

    fn put_name(&mut self, names: &Names<'_>, leaf: usize, time: Timestamp, problems: &mut Vec<Problem>) {
        let Some((name, above)) = names.split_last() else {
            let why = "it would take the place of the whole archive";
            problems.push(Problem::new(self.path_of(names), ProblemKind::Unreadable, why));
            return;
        };
        let above = self.directory(above, time, problems);
        let replaced = self.child(above, name);
        if let Some(found) = replaced
            && let Node::Directory(directory) = &self.nodes[found]
            && !directory.entries.is_empty()
        {
            let why = "a later member took the place of a directory and of what was in it";
            problems.push(Problem::new(self.path_of(names), ProblemKind::Unreadable, why));
        }
        self.name(above, name, Node::Name(leaf));
    }

    /// The directory that these names lead to; what is missing is made.
    fn directory(&mut self, names: &Names<'_>, time: Timestamp, problems: &mut Vec<Problem>) -> usize {
        let mut at = ROOT;
        for (depth, name) in names.iter().enumerate() {
            let found = self.child(at, name);
            if let Some(found) = found.filter(|found| matches!(self.nodes[*found], Node::Directory(_))) {
                at = found;
                continue;
            }
            if found.is_some() {
                let why = "a later member needs a directory in its place";
                problems.push(Problem::new(self.path_of(&names[..=depth]), ProblemKind::Unreadable, why));
            }
            self.implied += 1;
            let directory = Directory { metadata: made(time), entries: BTreeMap::new() };
            at = self.name(at, name, Node::Directory(Box::new(directory)));
        }
        at
    }

    /// Counts a member, and refuses an archive whose members are few and lead through ever new directories: each of them takes
    /// memory, and hardly a byte of the archive.
    pub(super) fn refuse_too_many_implied(&mut self) -> Result<()> {
        self.members += 1;
        let allowed = self.members.saturating_mul(IMPLIED_PER_MEMBER).saturating_add(IMPLIED_MIN);
        if self.implied <= allowed.min(IMPLIED_MAX) {
            return Ok(());
        }
        let why = "the members of the archive lead through too many directories that are not in it";
        Err(Error::new(ErrorKind::Source, why)
            .with_path(crate::observer::as_path(&self.place))
            .with_remedy("unpack the archive and back up what is there, or save it as one file"))
    }

    fn name(&mut self, above: usize, name: &[u8], node: Node) -> usize {
        self.nodes.push(node);
        let number = self.nodes.len() - 1;
        if let Node::Directory(directory) = &mut self.nodes[above] {
            directory.entries.insert(name.to_vec(), number);
        }
        number
    }

    fn child(&self, above: usize, name: &[u8]) -> Option<usize> {
        match &self.nodes[above] {
            Node::Directory(directory) => directory.entries.get(name).copied(),
            Node::Name(_) => None,
        }
    }

    fn find(&self, names: &Names<'_>) -> Option<usize> {
        names.iter().try_fold(ROOT, |at, name| self.child(at, name))
    }

    /// Holds an entry to the limits that readers enforce: takes its attributes away where that helps.
    fn fit(
        &self,
        names: &Names<'_>,
        kind: &EntryKind,
        metadata: &mut Metadata,
    ) -> std::result::Result<(), Problem> {
        let name = names.last().copied().unwrap_or(b"/");
        let name = if name == b"/" { b"top".to_vec() } else { name.to_vec() };
        let Err(error) = check_entry(&Entry::new(name.clone(), kind.clone(), metadata.clone())) else {
            return Ok(());
        };
        metadata.xattrs.clear();
        let fits = check_entry(&Entry::new(name, kind.clone(), metadata.clone())).is_ok();
        let problem = if fits { ProblemKind::Attributes } else { ProblemKind::Unreadable };
        Err(Problem::new(self.path_of(names), problem, error))
    }

    /// Counts the names of every leaf, and gives those of several a number that no other has.
    fn number(&mut self) {
        let mut stack = vec![ROOT];
        while let Some(at) = stack.pop() {
            match &self.nodes[at] {
                Node::Directory(directory) => stack.extend(directory.entries.values()),
                Node::Name(leaf) => self.leaves[*leaf].names += 1,
            }
        }
        let mut taken = HashSet::new();
        for leaf in &mut self.leaves {
            leaf.metadata.links = leaf.names.max(1);
            if leaf.names > 1 {
                while !taken.insert(leaf.number) {
                    leaf.number = leaf.number.wrapping_add(1);
                }
                leaf.metadata.inode = leaf.number;
            }
        }
    }

    /// Writes the tree, directories after what they hold, and gives the top of the snapshot. The stack is explicit: no tree
    /// is too deep.
    pub(super) fn write(mut self, place: &[&str], storer: &Storer<'_>, tally: &mut Tally) -> Result<Stream> {
        self.number();
        let (top, entries) = self.take(ROOT);
        let time = top.modified;
        let mut stack = vec![OpenDirectory::new(None, entries)];
        let mut root = Stream::default();
        while let Some(open) = stack.last_mut() {
            let Some((name, node)) = open.entries.next() else {
                let Some(done) = stack.pop() else { break };
                let stream = done.writer.finish(storer)?;
                match (done.own, stack.last_mut()) {
                    (Some((name, metadata)), Some(above)) => {
                        let entry = Entry::new(name, EntryKind::Directory(stream), metadata);
                        above.writer.push(entry, storer)?;
                        tally.totals.directories += 1;
                    }
                    _ => root = stream,
                }
                continue;
            };
            storer.ctx.cancel.check()?;
            if let Node::Name(leaf) = self.nodes[node] {
                let leaf = &self.leaves[leaf];
                count(&leaf.kind, tally);
                open.writer.push(Entry::new(name, leaf.kind.clone(), leaf.metadata.clone()), storer)?;
            } else {
                let (metadata, entries) = self.take(node);
                stack.push(OpenDirectory::new(Some((name, metadata)), entries));
            }
        }
        // The directories that lead to the archive's own.
        let mut metadata = Some(top);
        for name in place.iter().rev() {
            let mut writer = DirectoryWriter::default();
            let own = metadata.take().unwrap_or_else(|| made(time));
            writer.push(Entry::new(*name, EntryKind::Directory(root), own), storer)?;
            root = writer.finish(storer)?;
            tally.totals.directories += 1;
        }
        Ok(root)
    }

    fn take(&mut self, node: usize) -> (Metadata, BTreeMap<Vec<u8>, usize>) {
        match &mut self.nodes[node] {
            Node::Directory(directory) => {
                let taken = std::mem::take(&mut **directory);
                (taken.metadata, taken.entries)
            }
            Node::Name(_) => Default::default(),
        }
    }
}

/// A directory being written.
struct OpenDirectory {
    own: Option<(Vec<u8>, Metadata)>,
    entries: btree_map::IntoIter<Vec<u8>, usize>,
    writer: DirectoryWriter,
}

impl OpenDirectory {
    fn new(own: Option<(Vec<u8>, Metadata)>, entries: BTreeMap<Vec<u8>, usize>) -> OpenDirectory {
        OpenDirectory { own, entries: entries.into_iter(), writer: DirectoryWriter::default() }
    }
}

fn count(kind: &EntryKind, tally: &mut Tally) {
    match kind {
        EntryKind::File(content) => {
            tally.totals.files += 1;
            tally.totals.bytes += content.bytes;
        }
        _ => tally.totals.others += 1,
    }
}

/// What is said of a directory that the archive does not speak of.
fn made(time: Timestamp) -> Metadata {
    let mut metadata = Metadata::default();
    (metadata.mode, metadata.links) = (0o755, 1);
    (metadata.modified, metadata.changed) = (time, time);
    metadata.uid = rustix::process::geteuid().as_raw();
    metadata.gid = rustix::process::getegid().as_raw();
    metadata
}

/// The names that a path of the archive leads through: from the top, without empty ones and dots. An error says why it cannot
/// be one of the snapshot.
pub(super) fn names_of(path: &[u8]) -> std::result::Result<Vec<&[u8]>, &'static str> {
    let parts = path.split(|byte| *byte == b'/');
    let names: Vec<&[u8]> = parts.filter(|name| !name.is_empty() && *name != b".").collect();
    if names.iter().any(|name| *name == b"..") {
        return Err("its name leads out of a directory ('..')");
    }
    if !names.iter().all(|name| is_name(name)) {
        return Err("a part of its name is longer than 255 bytes, or holds a NUL");
    }
    // The directories that lead to the archive's own are levels too.
    if names.len() >= DEPTH_MAX / 2 || path.len() > PATH_BYTES_MAX / 2 {
        return Err("its name leads through more than 2,000 directories, or is longer than 16 KiB");
    }
    Ok(names)
}
