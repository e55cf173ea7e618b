//! Walks over everything that trees refer to, for whoever must keep it: each run of entries once, however many trees share it.

use super::entry::{ChunkRef, Stream};
use super::read::{NotingReader, ReadChunk, stream_chunks};
use crate::cancel::CancelToken;
use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::format::skim::{References, Role};

/// So many runs of entries are looked at together.
pub(crate) const RUNS_STEP: usize = 64;
/// References that are gathered from runs before they are kept; one run may add a hundred thousand.
const REFERENCES_STEP: usize = 4096;
/// So many references of a stream are kept at a time: a stream may have any number of them.
const STREAM_STEP: usize = 1024;

/// Keeps chunks, whatever that is to whoever does it.
pub(crate) trait KeepChunks {
    /// Keeps chunks that are of interest for nothing but their bytes.
    fn keep(&mut self, class: PackClass, chunks: &[ChunkRef]) -> Result<()>;

    /// Keeps runs of entries. Adds to `new` those that were not given as runs of entries before: what they refer to is to be
    /// kept too. That a run was kept as something else says nothing of what it refers to.
    fn enter(&mut self, runs: &[ChunkRef], new: &mut Vec<ChunkRef>) -> Result<()>;
}

/// Keeps what trees refer to.
pub(crate) struct TreeKeeper<'r, K> {
    reader: &'r dyn ReadChunk,
    pub(crate) keeper: K,
    cancel: &'r CancelToken,
    references: References,
}

impl<'r, K: KeepChunks> TreeKeeper<'r, K> {
    /// Reads lists and entries through `reader`, until somebody cancels.
    pub(crate) fn new(reader: &'r dyn ReadChunk, keeper: K, cancel: &'r CancelToken) -> TreeKeeper<'r, K> {
        TreeKeeper { reader, keeper, cancel, references: References::default() }
    }

    /// Keeps a tree. The stack is explicit: no tree is too deep.
    pub(crate) fn keep_tree(&mut self, root: &Stream) -> Result<()> {
        let mut runs = Vec::new();
        self.enter_directory(root, &mut runs)?;
        while !runs.is_empty() {
            let last = runs.split_off(runs.len().saturating_sub(RUNS_STEP));
            self.keep_runs(&last, &mut runs)?;
        }
        Ok(())
    }

    /// Keeps the chunks of a directory, and adds to `new` those that hold entries which are to be looked at.
    pub(crate) fn enter_directory(&mut self, directory: &Stream, new: &mut Vec<ChunkRef>) -> Result<()> {
        for_each_step((self.reader, self.cancel), directory, &mut |step| match step {
            Step::Lists(lists) => self.keeper.keep(PackClass::Tree, lists),
            Step::Chunks(chunks) => self.keeper.enter(chunks, new),
        })
    }

    /// Keeps the chunks of a stream, and the lists that name them.
    pub(crate) fn keep_stream(&mut self, class: PackClass, stream: &Stream) -> Result<()> {
        for_each_step((self.reader, self.cancel), stream, &mut |step| match step {
            Step::Lists(lists) => self.keeper.keep(PackClass::Tree, lists),
            Step::Chunks(chunks) => self.keeper.keep(class, chunks),
        })
    }

    /// Keeps what runs of entries refer to, the last one first. Adds the runs of the directories below that are to be looked
    /// at, the last one first.
    pub(crate) fn keep_runs(&mut self, runs: &[ChunkRef], new: &mut Vec<ChunkRef>) -> Result<()> {
        let before = new.len();
        let mut references = std::mem::take(&mut self.references);
        references.clear();
        for run in runs.iter().rev() {
            self.cancel.check()?;
            references.skim(&self.reader.read_tree(run)?)?;
            if references.count() >= REFERENCES_STEP {
                self.keep_references(&references, new)?;
                references.clear();
            }
        }
        self.keep_references(&references, new)?;
        self.references = references;
        new[before..].reverse();
        Ok(())
    }

    fn keep_references(&mut self, references: &References, new: &mut Vec<ChunkRef>) -> Result<()> {
        self.keeper.keep(PackClass::Data, &references.contents)?;
        self.keeper.keep(PackClass::Tree, &references.extents)?;
        self.keeper.enter(&references.directories, new)?;
        for (role, stream) in &references.listed {
            match role {
                Role::Content => self.keep_stream(PackClass::Data, stream)?,
                Role::Extents => self.keep_stream(PackClass::Tree, stream)?,
                Role::Directory => self.enter_directory(stream, new)?,
            }
        }
        Ok(())
    }
}

/// A part of a stream.
enum Step<'s> {
    Lists(&'s [ChunkRef]),
    Chunks(&'s [ChunkRef]),
}

/// Gives a stream's chunks, and the lists above them, some at a time.
fn for_each_step(
    (reader, cancel): (&dyn ReadChunk, &CancelToken),
    stream: &Stream,
    take: &mut dyn FnMut(Step<'_>) -> Result<()>,
) -> Result<()> {
    let lists = NotingReader::new(reader);
    let mut chunks = stream_chunks(stream, &lists);
    let mut step = Vec::new();
    loop {
        let chunk = chunks.next().transpose()?;
        step.extend(chunk);
        if step.len() == STREAM_STEP || chunk.is_none() {
            cancel.check()?;
            take(Step::Lists(&lists.take()))?;
            take(Step::Chunks(&step))?;
            step.clear();
        }
        if chunk.is_none() {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests;
