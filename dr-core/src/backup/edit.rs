//! Writes a tree again without some of its entries. What stays as it is, is not written but referred to.

use super::parent::Parents;
use super::storer::Storer;
use crate::error::{Error, Result};
use crate::limits::DEPTH_MAX;
use crate::tree::{DirectoryReader, DirectoryWriter, Entry, EntryKind, Stream};

/// What an edit does to a tree.
pub(crate) trait Edit {
    /// Whether an entry stays. Below a directory that does not, nothing is looked at.
    fn keeps(&mut self, path: &[u8], entry: &Entry) -> Result<bool>;

    /// Takes notice that entries of the directory at a path cannot be read, or returns the error: then the edit ends.
    fn unreadable(&mut self, path: &[u8], error: Error) -> Result<()>;
}

/// What becomes of directories in which nothing changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unchanged {
    /// They are referred to; whoever commits says so (V3).
    TakenOver,
    /// They are written again, so that every chunk of theirs is looked up, or stored again.
    WrittenAgain,
}

/// What is done where only a newer program understands all of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newer {
    /// It counts as unreadable.
    Refused,
    /// What this program understands of it is kept.
    Kept,
}

/// A tree that is edited.
pub(crate) struct TreeEdit<'s, 'a> {
    pub(crate) storer: &'s Storer<'a>,
    pub(crate) parents: &'s Parents<'s>,
    pub(crate) unchanged: Unchanged,
    pub(crate) newer: Newer,
}

/// A directory being read, and written from the first entry on that differs.
struct OpenDirectory<'r> {
    path: Vec<u8>,
    entry: Option<Entry>,
    stream: Stream,
    entries: DirectoryReader<'r>,
    /// How many entries stayed as they were before the first that did not.
    kept: usize,
    writer: Option<DirectoryWriter>,
}

impl<'s> TreeEdit<'s, '_> {
    /// Writes a tree again, as `edit` says. The stack is explicit: no tree is too deep.
    pub(crate) fn run(&self, root: &Stream, edit: &mut dyn Edit) -> Result<Stream> {
        let mut stack = vec![self.open(Vec::new(), None, root)];
        loop {
            self.storer.ctx.cancel.check()?;
            let depth = stack.len();
            let Some(open) = stack.last_mut() else { return Ok(Stream::default()) };
            match open.entries.next() {
                Some(Ok(entry)) => {
                    let path = [open.path.as_slice(), b"/", &entry.name].concat();
                    if !edit.keeps(&path, &entry)? {
                        self.differs(open)?;
                    } else if let EntryKind::Directory(stream) = entry.kind.clone() {
                        if depth >= DEPTH_MAX {
                            edit.unreadable(&path, Error::corrupt("directories are nested too deep"))?;
                            self.differs(open)?;
                            continue;
                        }
                        let below = self.open(path, Some(entry), &stream);
                        stack.push(below);
                    } else {
                        self.push(open, entry)?;
                    }
                }
                Some(Err(error)) => {
                    let path = if open.path.is_empty() { b"/".to_vec() } else { open.path.clone() };
                    edit.unreadable(&path, error)?;
                    self.differs(open)?;
                }
                None => {
                    let Some(done) = stack.pop() else { return Ok(Stream::default()) };
                    let stream = match done.writer {
                        Some(writer) => writer.finish(self.storer)?,
                        None => done.stream.clone(),
                    };
                    let (Some(mut entry), Some(above)) = (done.entry, stack.last_mut()) else {
                        return Ok(stream);
                    };
                    if stream != done.stream {
                        self.differs(above)?;
                        entry.kind = EntryKind::Directory(stream);
                    }
                    self.push(above, entry)?;
                }
            }
        }
    }

    fn open(&self, path: Vec<u8>, entry: Option<Entry>, stream: &Stream) -> OpenDirectory<'s> {
        OpenDirectory {
            path,
            entry,
            stream: stream.clone(),
            entries: self.read(stream),
            kept: 0,
            writer: (self.unchanged == Unchanged::WrittenAgain).then(DirectoryWriter::default),
        }
    }

    fn read(&self, stream: &Stream) -> DirectoryReader<'s> {
        match self.newer {
            Newer::Refused => self.parents.read_known_directory(stream),
            Newer::Kept => self.parents.read_directory(stream),
        }
    }

    fn push(&self, open: &mut OpenDirectory<'_>, entry: Entry) -> Result<()> {
        match &mut open.writer {
            Some(writer) => writer.push(entry, self.storer),
            None => {
                open.kept += 1;
                Ok(())
            }
        }
    }

    /// Begins to write a directory, with what stayed of it so far.
    fn differs(&self, open: &mut OpenDirectory<'_>) -> Result<()> {
        if open.writer.is_some() {
            return Ok(());
        }
        let mut writer = DirectoryWriter::default();
        for entry in self.read(&open.stream).take(open.kept) {
            writer.push(entry?, self.storer)?;
        }
        open.writer = Some(writer);
        Ok(())
    }
}
