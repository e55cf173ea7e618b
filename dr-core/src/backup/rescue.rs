//! Mends a snapshot that must not be committed as it is, because packs that it needs were condemned while it was made: what
//! is still there of them is stored again under new names.

use std::collections::HashSet;

use super::commit::Segments;
use super::storer::Storer;
use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::format::tree::decode_entries;
use crate::id::{ChunkId, ObjectHash};
use crate::index::Index;
use crate::log::{Log, SegmentPlace};
use crate::repository::{ChunkReader, ChunkWriter, NewSegment, load_table, read_segment};
use crate::tree::{ChunkRef, EntryKind, NotingReader, ReadChunk, SparseMap, Stream, stream_chunks};

/// Walks all of the snapshot, trees that were taken over too, and stores again every chunk that lies in condemned packs
/// only. False where one is gone already: then only reading the source again helps.
pub(super) fn rescue(
    storer: &Storer<'_>,
    segments: &mut Segments,
    root: &Stream,
    streams: &[(PackClass, Stream)],
) -> Result<bool> {
    let repository = storer.repository;
    segments.write(storer)?;
    let (log, live) = repository.current()?;
    let own = own_segments(storer, segments, &log)?;
    let mut tables = live.parts().to_vec();
    for place in &own {
        tables.push(load_table(repository, place)?.into());
    }
    let mut walk = Walk {
        all: ChunkReader::new(repository, &log, Index::new(tables.clone(), Default::default())),
        kept: Index::new(tables, log.fold.condemned().clone()),
        own: storer.own_packs().into_iter().collect(),
        writer: ChunkWriter::new(repository, storer.ctx)?,
        seen: HashSet::new(),
        dedup: HashSet::new(),
    };
    let walked = streams
        .iter()
        .try_for_each(|(class, stream)| walk.stream(*class, stream))
        .and_then(|()| walk.directory(storer, root));
    match walked {
        Ok(()) => {}
        Err(error) if crate::repository::is_damage(&error) => return Ok(false),
        Err(error) => return Err(error),
    }
    let stored = walk.writer.take()?;
    let condemned = log.fold.condemned();
    storer.replace_packs(stored, &|pack| condemned.contains_key(pack), walk.dedup);
    Ok(true)
}

/// The segments that this backup wrote; those that were condemned themselves are written again.
fn own_segments(storer: &Storer<'_>, segments: &mut Segments, log: &Log) -> Result<Vec<SegmentPlace>> {
    let repository = storer.repository;
    for hash in &mut segments.objects[segments.named..] {
        if log.fold.condemned().contains_key(hash) {
            let (segment, _) = read_segment(repository, &SegmentPlace::Object(*hash))?;
            if let NewSegment::Object(again) = repository.put_segment(&segment, false)? {
                *hash = again;
            }
        }
    }
    let objects = segments.objects[segments.named..].iter().map(|hash| SegmentPlace::Object(*hash));
    let inline = segments
        .inline
        .iter()
        .map(|bytes| SegmentPlace::Inline(ObjectHash::of_parts([bytes.as_slice()]), bytes.as_slice().into()));
    Ok(objects.chain(inline).collect())
}

struct Walk<'a> {
    /// Finds chunks in condemned packs too.
    all: ChunkReader<'a>,
    kept: Index,
    own: HashSet<ObjectHash>,
    writer: ChunkWriter<'a>,
    seen: HashSet<ChunkId>,
    dedup: HashSet<ObjectHash>,
}

impl Walk<'_> {
    fn directory(&mut self, storer: &Storer<'_>, root: &Stream) -> Result<()> {
        let mut stack = vec![root.clone()];
        while let Some(stream) = stack.pop() {
            storer.ctx.cancel.check()?;
            for chunk in self.references(PackClass::Tree, &stream)? {
                for entry in decode_entries(&self.all.read_tree(&chunk)?)? {
                    match entry.kind {
                        EntryKind::Directory(stream) => stack.push(stream),
                        EntryKind::File(content) => {
                            self.stream(PackClass::Data, &content.stream)?;
                            if let Some(SparseMap::Stream(extents)) = &content.sparse {
                                self.stream(PackClass::Tree, extents)?;
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        Ok(())
    }

    fn stream(&mut self, class: PackClass, stream: &Stream) -> Result<()> {
        self.references(class, stream).map(drop)
    }

    /// Keeps every chunk of a stream, and of the lists above it. Gives the chunks that were not seen before.
    fn references(&mut self, class: PackClass, stream: &Stream) -> Result<Vec<ChunkRef>> {
        let lists = NotingReader::new(&self.all);
        let chunks: Vec<ChunkRef> = stream_chunks(stream, &lists).collect::<Result<_>>()?;
        for list in lists.take() {
            self.keep(PackClass::Tree, &list)?;
        }
        let mut new = Vec::new();
        for chunk in chunks {
            if self.keep(class, &chunk)? {
                new.push(chunk);
            }
        }
        Ok(new)
    }

    fn keep(&mut self, class: PackClass, chunk: &ChunkRef) -> Result<bool> {
        if !self.seen.insert(chunk.id) {
            return Ok(false);
        }
        match self.kept.pack_of(&chunk.id)? {
            Some(pack) if self.own.contains(&pack) => {}
            Some(pack) => _ = self.dedup.insert(pack),
            None => {
                let bytes = self.all.read(class, chunk)?;
                self.writer.add_chunk(class, chunk.id, &bytes)?;
            }
        }
        Ok(true)
    }
}
