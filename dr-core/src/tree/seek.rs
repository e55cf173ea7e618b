//! Finds the chunks at an offset of a stream, without holding all its references.

use std::collections::VecDeque;
use std::sync::Arc;
use std::vec::IntoIter;

use super::entry::{ChunkRef, Stream};
use super::read::ReadChunk;
use crate::error::{Error, ErrorKind, Result};
use crate::format::tree::decode_refs;
use crate::limits::STREAM_LEVELS_MAX;

/// The most runs whose places are held: those of a file of 100 TiB, if they are as long as a writer makes them.
const RUNS_MAX: usize = 1 << 20;
/// So many runs of references are kept decoded, each of 4,096 at most.
const DECODED_MAX: usize = 4;

/// A reference, and where in the stream its bytes begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    pub(crate) start: u64,
    pub(crate) chunk: ChunkRef,
}

impl Placed {
    /// Where its bytes end.
    pub(crate) fn end(&self) -> u64 {
        self.start + u64::from(self.chunk.bytes)
    }
}

/// Consecutive references, as they stand in one list.
type Run = Arc<Vec<Placed>>;

/// Where the runs of references of a stream begin, as far as anybody has asked. Lists do not say how many bytes are below
/// them, so all before an offset are read once.
pub(crate) struct StreamMap {
    bytes: u64,
    /// Lists that are not looked at yet, and their levels; the next one last.
    ahead: Vec<(u8, IntoIter<ChunkRef>)>,
    /// Where each run begins, and the list that holds it.
    runs: Vec<(u64, ChunkRef)>,
    /// Where the last run ends.
    end: u64,
    decoded: VecDeque<(u64, Run)>,
    /// All references, where the stream holds them itself.
    own: Option<Run>,
}

impl StreamMap {
    pub(crate) fn new(stream: &Stream) -> StreamMap {
        let mut map = StreamMap {
            bytes: stream.bytes,
            ahead: Vec::new(),
            runs: Vec::new(),
            end: 0,
            decoded: VecDeque::new(),
            own: None,
        };
        if stream.level == 0 {
            let own = placed(0, &stream.chunks);
            map.end = own.last().map_or(0, Placed::end);
            map.own = Some(Arc::new(own));
        } else {
            let level = stream.level.min(STREAM_LEVELS_MAX);
            map.ahead.push((level, stream.chunks.clone().into_iter()));
        }
        map
    }

    /// The run of references that holds an offset, and its place in the run. The offset lies inside of the stream.
    pub(crate) fn find(&mut self, offset: u64, reader: &dyn ReadChunk) -> Result<(Run, usize)> {
        while self.end <= offset {
            self.grow(reader)?;
        }
        let run = match &self.own {
            Some(own) => own.clone(),
            None => self.run_at(offset, reader)?,
        };
        let number = run.partition_point(|placed| placed.end() <= offset);
        if number == run.len() {
            return Err(Error::corrupt("a stream's list is shorter than it was"));
        }
        Ok((run, number))
    }

    fn run_at(&mut self, offset: u64, reader: &dyn ReadChunk) -> Result<Run> {
        let number = self.runs.partition_point(|(start, _)| *start <= offset);
        let Some((start, list)) = number.checked_sub(1).and_then(|number| self.runs.get(number)).copied()
        else {
            return Err(Error::corrupt("a stream has no beginning"));
        };
        if let Some((_, run)) = self.decoded.iter().find(|(known, _)| *known == start) {
            return Ok(run.clone());
        }
        let run = Arc::new(placed(start, &decode_refs(&reader.read_tree(&list)?)?));
        self.keep(start, run.clone());
        Ok(run)
    }

    fn keep(&mut self, start: u64, run: Run) {
        self.decoded.push_front((start, run));
        self.decoded.truncate(DECODED_MAX);
    }

    /// Looks at one more list. A list that cannot be read stays the next one: nobody knows how long it is.
    fn grow(&mut self, reader: &dyn ReadChunk) -> Result<()> {
        let Some((level, lists)) = self.ahead.last_mut() else {
            return Err(Error::corrupt("a stream is shorter than it says"));
        };
        let level = *level;
        let Some(list) = lists.as_slice().first().copied() else {
            self.ahead.pop();
            return Ok(());
        };
        let refs = decode_refs(&reader.read_tree(&list)?)?;
        lists.next();
        if level > 1 {
            self.ahead.push((level - 1, refs.into_iter()));
            return Ok(());
        }
        if self.runs.len() >= RUNS_MAX {
            return Err(Error::new(
                ErrorKind::LimitExceeded,
                "a stream has too many lists to be read at an offset",
            ));
        }
        let run = placed(self.end, &refs);
        let end = run.last().map_or(self.end, Placed::end);
        if end > self.bytes {
            self.ahead.clear();
            return Err(Error::corrupt("a stream is longer than it says"));
        }
        self.runs.push((self.end, list));
        self.keep(self.end, Arc::new(run));
        self.end = end;
        Ok(())
    }
}

fn placed(start: u64, refs: &[ChunkRef]) -> Vec<Placed> {
    let mut start = start;
    let mut placed = Vec::with_capacity(refs.len());
    for chunk in refs {
        placed.push(Placed { start, chunk: *chunk });
        start = start.saturating_add(u64::from(chunk.bytes));
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::super::memory::Chunks;
    use super::super::{StreamWriter, stream_chunks};
    use super::*;
    use crate::id::ChunkId;

    fn write(count: u32, chunks: &Chunks) -> Stream {
        let mut writer = StreamWriter::default();
        for number in 0..count {
            let id = ChunkId::from_bytes(*blake3::hash(&number.to_le_bytes()).as_bytes());
            writer.push(ChunkRef { id, bytes: 1 + number % 7 }, chunks).unwrap();
        }
        writer.finish(chunks).unwrap()
    }

    #[test]
    fn every_offset_is_found_wherever_one_begins() {
        for count in [1, 64, 65, 300, 5000, 300_000] {
            let chunks = Chunks::default();
            let stream = write(count, &chunks);
            let mut expected = Vec::new();
            for chunk in stream_chunks(&stream, &chunks) {
                let start = expected.last().map_or(0, Placed::end);
                expected.push(Placed { start, chunk: chunk.unwrap() });
            }
            let step = (stream.bytes / 499).max(1);
            let upwards = (0..stream.bytes).step_by(step as usize);
            let mut map = StreamMap::new(&stream);
            for offset in upwards.clone().chain(upwards.rev()) {
                let (run, number) = map.find(offset, &chunks).unwrap();
                let known = expected.partition_point(|placed| placed.end() <= offset);
                assert_eq!(run[number], expected[known], "{offset} of {count}");
            }
            assert!(map.decoded.len() <= DECODED_MAX);
        }
    }

    #[test]
    fn a_list_that_is_lost_hides_what_is_behind_it_and_is_asked_for_again() {
        let chunks = Chunks::default();
        let stream = write(5000, &chunks);
        assert_eq!(stream.level, 1);
        let lost = stream.chunks[1];
        let bytes = chunks.0.borrow_mut().remove(&lost.id).unwrap();
        let mut map = StreamMap::new(&stream);
        assert!(map.find(0, &chunks).is_ok());
        for _ in 0..2 {
            assert!(map.find(stream.bytes - 1, &chunks).is_err());
        }
        chunks.0.borrow_mut().insert(lost.id, bytes);
        assert!(map.find(stream.bytes - 1, &chunks).is_ok());
    }

    #[test]
    fn streams_that_lie_about_their_length_are_refused() {
        let chunks = Chunks::default();
        for change in [-1, 1] {
            let mut stream = write(5000, &chunks);
            stream.bytes = stream.bytes.checked_add_signed(change).unwrap();
            let outcome = StreamMap::new(&stream).find(stream.bytes - 1, &chunks);
            assert_eq!(outcome.err().unwrap().kind(), ErrorKind::Corrupt, "{change}");
        }
    }
}
