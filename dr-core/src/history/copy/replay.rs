//! Writes the tree of a copy: takes the steps that were gathered, in their order, once their chunks are here.

use super::fetch::Fetched;
use super::plan::Step;
use crate::backup::Storer;
use crate::error::{Error, ErrorKind, Result};
use crate::format::snapshot::{Problem, ProblemKind};
use crate::observer::{Change, Event};
use crate::tree::{ChunkRef, DirectoryWriter, Entry, EntryKind, Stream, StreamWriter};

/// A tree that is being written.
#[derive(Default)]
pub(super) struct Replay {
    /// The directories that are open, outermost first; none for `/`.
    open: Vec<(Option<Box<Entry>>, DirectoryWriter)>,
    file: Option<OpenFile>,
    /// The entries of `/`, at the end.
    root: Option<Stream>,
    /// The files that could not be read.
    pub(super) problems: Vec<Problem>,
}

struct OpenFile {
    path: Vec<u8>,
    entry: Box<Entry>,
    stream: StreamWriter,
    lost: Option<Error>,
}

impl Replay {
    /// Takes steps.
    pub(super) fn take(&mut self, steps: Vec<Step>, fetched: &Fetched, storer: &Storer<'_>) -> Result<()> {
        for step in steps {
            match step {
                Step::Enter(entry) => self.open.push((entry, DirectoryWriter::default())),
                Step::Leave => self.leave(storer)?,
                Step::Entry(entry) => self.put(*entry, storer)?,
                Step::File(path, entry) => {
                    self.file = Some(OpenFile { path, entry, stream: StreamWriter::default(), lost: None });
                }
                Step::Here(chunk) => self.chunk(chunk, storer)?,
                Step::Fetched(chunk) => match fetched.get(&chunk.id) {
                    Some(Ok(id)) => self.chunk(ChunkRef { id: *id, bytes: chunk.bytes }, storer)?,
                    Some(Err(error)) => self.lose(Error::corrupt(error.to_string())),
                    None => self.lose(Error::corrupt(format!("chunk {} was not read", chunk.id))),
                },
                Step::Lost(error) => self.lose(error),
                Step::EndFile => self.end_file(storer)?,
            }
        }
        Ok(())
    }

    /// The entries of `/`, once everything was taken.
    pub(super) fn finish(self) -> Result<Stream> {
        self.root.ok_or_else(|| Error::new(ErrorKind::Internal, "a tree has no end"))
    }

    fn put(&mut self, entry: Entry, storer: &Storer<'_>) -> Result<()> {
        match self.open.last_mut() {
            Some((_, writer)) => writer.push(entry, storer),
            None => Err(Error::new(ErrorKind::Internal, "an entry is in no directory")),
        }
    }

    fn leave(&mut self, storer: &Storer<'_>) -> Result<()> {
        let Some((entry, writer)) = self.open.pop() else { return Ok(()) };
        let stream = writer.finish(storer)?;
        match entry {
            Some(mut entry) => {
                entry.kind = EntryKind::Directory(stream);
                self.put(*entry, storer)
            }
            None => {
                self.root = Some(stream);
                Ok(())
            }
        }
    }

    fn chunk(&mut self, chunk: ChunkRef, storer: &Storer<'_>) -> Result<()> {
        match &mut self.file {
            Some(file) => file.stream.push(chunk, storer),
            None => Err(Error::new(ErrorKind::Internal, "a chunk is in no file")),
        }
    }

    fn lose(&mut self, error: Error) {
        if let Some(file) = &mut self.file {
            file.lost.get_or_insert(error);
        }
    }

    fn end_file(&mut self, storer: &Storer<'_>) -> Result<()> {
        let Some(OpenFile { path, mut entry, stream, mut lost }) = self.file.take() else { return Ok(()) };
        let stream = stream.finish(storer)?;
        let EntryKind::File(content) = &mut entry.kind else { return Ok(()) };
        if lost.is_none() && stream.bytes != content.stream.bytes {
            lost = Some(Error::corrupt("its chunks are not as long as it is"));
        }
        if let Some(error) = lost {
            let problem = Problem::new(path, ProblemKind::Damaged, error);
            storer.ctx.problem(&problem);
            self.problems.push(problem);
            return Ok(());
        }
        content.stream = stream;
        storer.ctx.observer.event(&Event::EntryDone { path, change: Change::New, bytes: content.bytes });
        self.put(*entry, storer)
    }
}
