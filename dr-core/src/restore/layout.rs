//! Where the bytes of a file's stream lie in the file.

use crate::tree::Extent;

/// The data extents of a file with holes, each with the place in the stream where its bytes begin.
#[derive(Debug)]
pub(super) struct Layout(Vec<(u64, Extent)>);

impl Layout {
    /// Lays out extents that were checked: ascending, apart from one another, and within the file.
    pub(super) fn new(extents: Vec<Extent>) -> Layout {
        let mut stream_start = 0;
        let place = |extent: Extent| {
            let start = stream_start;
            stream_start += extent.bytes;
            (start, extent)
        };
        Layout(extents.into_iter().map(place).collect())
    }

    /// Where the next bytes of the stream lie: the offset in the file, and how many lie together there.
    fn place(&self, stream_offset: u64) -> Option<(u64, u64)> {
        let after = self.0.partition_point(|(start, _)| *start <= stream_offset);
        let (start, extent) = self.0.get(after.checked_sub(1)?)?;
        let skipped = stream_offset - start;
        let left = extent.bytes.checked_sub(skipped).filter(|left| *left > 0)?;
        Some((extent.offset + skipped, left))
    }

    /// What lies between the extents, and behind the last, in a file of `bytes` bytes: offset and length.
    pub(super) fn holes(&self, bytes: u64) -> Vec<(u64, u64)> {
        let mut holes = Vec::new();
        let mut end = 0;
        for (_, extent) in &self.0 {
            if extent.offset > end {
                holes.push((end, extent.offset - end));
            }
            end = extent.offset + extent.bytes;
        }
        if bytes > end {
            holes.push((end, bytes - end));
        }
        holes
    }
}

/// A run of a file's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Run {
    /// Where it begins in the file.
    pub(super) offset: u64,
    /// How long it is.
    pub(super) bytes: u64,
}

/// The runs of the file that hold `bytes` bytes of the stream from `stream_offset`, in order.
pub(super) fn runs(layout: Option<&Layout>, stream_offset: u64, bytes: u64) -> Vec<Run> {
    let Some(layout) = layout else { return vec![Run { offset: stream_offset, bytes }] };
    let mut runs = Vec::new();
    let (mut at, end) = (stream_offset, stream_offset + bytes);
    while at < end {
        let Some((offset, together)) = layout.place(at) else { break };
        let bytes = together.min(end - at);
        runs.push(Run { offset, bytes });
        at += bytes;
    }
    runs
}

/// Runs of a file, those that touch joined.
#[derive(Debug, Default)]
pub(super) struct Runs(std::collections::BTreeMap<u64, u64>);

impl Runs {
    /// Adds a run that none of the others covers.
    pub(super) fn add(&mut self, run: Run) {
        let mut run = run;
        if let Some((&offset, &bytes)) = self.0.range(..run.offset).next_back()
            && offset + bytes == run.offset
        {
            self.0.remove(&offset);
            run = Run { offset, bytes: bytes + run.bytes };
        }
        if let Some(bytes) = self.0.remove(&(run.offset + run.bytes)) {
            run.bytes += bytes;
        }
        self.0.insert(run.offset, run.bytes);
    }

    /// The runs, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = Run> + '_ {
        self.0.iter().map(|(&offset, &bytes)| Run { offset, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(offset: u64, bytes: u64) -> Run {
        Run { offset, bytes }
    }

    #[test]
    fn a_stream_is_laid_over_its_extents() {
        let extents = [(10, 5), (20, 1), (30, 10)].map(|(offset, bytes)| Extent { offset, bytes });
        let layout = Layout::new(extents.to_vec());
        assert_eq!(runs(Some(&layout), 0, 16), [run(10, 5), run(20, 1), run(30, 10)]);
        assert_eq!(runs(Some(&layout), 3, 4), [run(13, 2), run(20, 1), run(30, 1)]);
        assert_eq!(runs(Some(&layout), 15, 5), [run(39, 1)], "what lies nowhere is left out");
        assert_eq!(runs(Some(&layout), 16, 5), []);
        assert_eq!(runs(None, 7, 5), [run(7, 5)]);
        assert_eq!(layout.holes(50), [(0, 10), (15, 5), (21, 9), (40, 10)]);
        assert_eq!(Layout::new(Vec::new()).holes(3), [(0, 3)]);
    }

    #[test]
    fn runs_that_touch_are_joined_in_any_order() {
        let mut runs = Runs::default();
        for offset in [40, 10, 0, 30, 20, 60] {
            runs.add(run(offset, 10));
        }
        assert_eq!(runs.iter().collect::<Vec<_>>(), [run(0, 50), run(60, 10)]);
    }
}
