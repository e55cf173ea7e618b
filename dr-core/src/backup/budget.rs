//! How much memory a backup takes, and what for.

use super::options::BackupOptions;
use crate::error::{Error, ErrorKind, Result};

/// The least that a caller may allow.
const MEMORY_BYTES_MIN: u64 = 64 << 20;
/// From here on the window has its full length.
const MEMORY_BYTES_ROOMY: u64 = 128 << 20;
/// What a backup takes besides packs and threads, with a small window and with a full one, and what each thread takes: a
/// compressor, two frames, a segment. Measured with 1 to 8 threads over programs, sources and archives.
const BASE_BYTES: [u64; 2] = [36 << 20, 60 << 20];
const THREAD_BYTES: u64 = 12 << 20;
/// Bytes of packs that are open, being sealed and being put, together: where nobody sets a limit, and the bounds otherwise.
const PACK_BYTES: usize = 60 << 20;
const PACK_BYTES_MIN: usize = 12 << 20;
const PACK_BYTES_MAX: usize = 136 << 20;
const WINDOW_BYTES: [usize; 2] = [2 << 20, 8 << 20];

/// The memory of one backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Budget {
    /// Worker threads.
    pub(super) threads: usize,
    /// Packs that are open, being sealed and being put, together.
    pub(super) pack_bytes: usize,
    /// Chunks of small files that are gathered before they are framed.
    pub(super) window_bytes: usize,
}

impl Budget {
    /// Shares out what the options allow. Fewer threads run where it is not enough for all of them.
    pub(super) fn new(options: &BackupOptions, threads: usize) -> Result<Budget> {
        let Some(memory) = options.memory_bytes_max else {
            return Ok(Budget { threads, pack_bytes: PACK_BYTES, window_bytes: WINDOW_BYTES[1] });
        };
        if memory < MEMORY_BYTES_MIN {
            let message = format!("a backup takes {} MiB of memory or more", MEMORY_BYTES_MIN >> 20);
            return Err(Error::new(ErrorKind::InvalidInput, message).with_remedy("set a higher limit"));
        }
        let size = usize::from(memory >= MEMORY_BYTES_ROOMY);
        let beside = memory - BASE_BYTES[size];
        let for_threads = beside.saturating_sub(PACK_BYTES_MIN as u64) / THREAD_BYTES;
        let threads = threads.min(usize::try_from(for_threads).unwrap_or(usize::MAX)).max(1);
        let for_packs = beside.saturating_sub(threads as u64 * THREAD_BYTES);
        let pack_bytes = usize::try_from(for_packs).unwrap_or(usize::MAX);
        Ok(Budget {
            threads,
            pack_bytes: pack_bytes.clamp(PACK_BYTES_MIN, PACK_BYTES_MAX),
            window_bytes: WINDOW_BYTES[size],
        })
    }

    /// What the two open packs of a class hold together; then the larger one is closed before it is full.
    pub(super) fn open_bytes(&self) -> usize {
        self.pack_bytes / 15 * 7
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(mebibytes: u64, threads: usize) -> Budget {
        let mut options = BackupOptions::new();
        options.memory_bytes_max = Some(mebibytes << 20);
        Budget::new(&options, threads).unwrap()
    }

    #[test]
    fn what_is_shared_out_is_no_more_than_what_is_allowed() {
        for mebibytes in [64, 70, 96, 128, 200, 512, 4096, 1 << 40] {
            for threads in [1, 2, 3, 16, 128] {
                let budget = budget(mebibytes, threads);
                let base = BASE_BYTES[usize::from(budget.window_bytes == WINDOW_BYTES[1])];
                let all = base + budget.pack_bytes as u64 + budget.threads as u64 * THREAD_BYTES;
                assert!(all <= mebibytes << 20, "{budget:?} in {mebibytes} MiB");
                assert!((1..=threads).contains(&budget.threads));
                assert!(budget.open_bytes() < budget.pack_bytes);
            }
        }
        assert_eq!(budget(4096, 16).threads, 16);
        assert_eq!(budget(64, 16).threads, 1);
    }

    #[test]
    fn too_little_is_refused() {
        let mut options = BackupOptions::new();
        options.memory_bytes_max = Some(MEMORY_BYTES_MIN - 1);
        assert_eq!(Budget::new(&options, 2).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
