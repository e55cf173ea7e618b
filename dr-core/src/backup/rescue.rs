//! Mends a snapshot that must not be committed as it is, because packs that it needs were condemned while it was made: what
//! is still there of them is stored again under new names.

use std::collections::HashSet;
use std::sync::Arc;

use super::commit::Segments;
use super::storer::Storer;
use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::id::{ChunkId, ObjectHash};
use crate::index::{Index, Part, Table};
use crate::log::{Log, SegmentPlace};
use crate::repository::{ChunkReader, ChunkWriter, load_table, read_segment};
use crate::tree::{ChunkRef, KeepChunks, Stream, TreeKeeper};

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
    let condemned = log.fold.condemned();
    let own = match own_tables(storer, segments, &log) {
        Ok(own) => own,
        // A segment of its own is deleted already, and with it what says where its chunks lie.
        Err(error) if error.is_damage() => return Ok(false),
        Err(error) => return Err(error),
    };
    let mut tables = live.parts().to_vec();
    tables.extend(own.into_iter().map(Part::from));
    // A segment that lists nothing but condemned packs no longer counts; what this backup began with still knows it.
    let mut all = tables.clone();
    all.extend(storer.index().parts().iter().cloned());
    let all = ChunkReader::new(repository, &log, Index::new(all, Default::default()));
    let rescue = Rescue {
        all: &all,
        kept: Index::new(tables, condemned.clone()),
        own: storer.own_packs().into_iter().collect(),
        writer: ChunkWriter::new(repository, storer.ctx)?,
        seen: HashSet::new(),
        entered: HashSet::new(),
        rescued: HashSet::new(),
        dedup: HashSet::new(),
    };
    let mut tree = TreeKeeper::new(&all, rescue, storer.ctx.cancel);
    let walked = streams
        .iter()
        .try_for_each(|(class, stream)| tree.keep_stream(*class, stream))
        .and_then(|()| tree.keep_tree(root));
    let mut rescue = tree.keeper;
    match walked {
        Ok(()) => {}
        Err(error) if error.is_damage() => return Ok(false),
        Err(error) => return Err(error),
    }
    let stored = rescue.writer.take()?;
    // This snapshot needs no more of the condemned packs; a later file of the same run may.
    storer.retain_claims(&|id| {
        // What cannot be looked up now is stored again: that costs space, not data.
        rescue.rescued.contains(id) || rescue.kept.pack_of(id).is_ok_and(|pack| pack.is_some())
    });
    storer.replace_packs(stored, &|pack| condemned.contains_key(pack), rescue.dedup);
    Ok(true)
}

/// The segments that this backup wrote, as tables; those that were condemned themselves are written again.
fn own_tables(storer: &Storer<'_>, segments: &mut Segments, log: &Log) -> Result<Vec<Arc<Table>>> {
    let repository = storer.repository;
    for hash in &mut segments.objects[segments.named..] {
        if log.fold.condemned().contains_key(hash) {
            let (segment, _) = read_segment(repository, &SegmentPlace::Object(*hash))?;
            *hash = repository.put_segment(&segment)?;
        }
    }
    let objects = segments.objects[segments.named..].iter().map(|hash| SegmentPlace::Object(*hash));
    let inline = segments
        .inline
        .iter()
        .map(|bytes| SegmentPlace::Inline(ObjectHash::of_parts([bytes.as_slice()]), bytes.as_slice().into()));
    objects.chain(inline).map(|place| load_table(repository, &place).map(Arc::new)).collect()
}

/// What is kept of a snapshot, and how.
struct Rescue<'a> {
    /// Finds chunks in condemned packs too.
    all: &'a ChunkReader<'a>,
    kept: Index,
    own: HashSet<ObjectHash>,
    writer: ChunkWriter<'a>,
    seen: HashSet<ChunkId>,
    entered: HashSet<ChunkId>,
    rescued: HashSet<ChunkId>,
    dedup: HashSet<ObjectHash>,
}

impl KeepChunks for Rescue<'_> {
    fn keep(&mut self, class: PackClass, chunks: &[ChunkRef]) -> Result<()> {
        for chunk in chunks.iter().filter(|chunk| self.seen.insert(chunk.id)) {
            match self.kept.pack_of(&chunk.id)? {
                Some(pack) if self.own.contains(&pack) => {}
                Some(pack) => _ = self.dedup.insert(pack),
                None => {
                    let bytes = self.all.read(class, chunk)?;
                    self.writer.add_chunk(class, chunk.id, &bytes)?;
                    self.rescued.insert(chunk.id);
                }
            }
        }
        Ok(())
    }

    fn enter(&mut self, runs: &[ChunkRef], new: &mut Vec<ChunkRef>) -> Result<()> {
        self.keep(PackClass::Tree, runs)?;
        new.extend(runs.iter().filter(|run| self.entered.insert(run.id)));
        Ok(())
    }
}
