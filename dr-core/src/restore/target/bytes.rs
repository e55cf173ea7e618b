//! The bytes of files: written with holes where they are wanted, taken from other files, compared with nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use rustix::fs::{
    Advice, FallocateFlags, SeekFrom, copy_file_range, fadvise, fallocate, fdatasync, ioctl_ficlone, seek,
};
use rustix::io::Errno;

use crate::error::Result;

/// Zeros become a hole where they fill a block that is so long and so aligned.
const BLOCK: usize = 4096;
/// So much is copied between two looks at whether the call was cancelled.
const STEP_BYTES: u64 = 32 << 20;
const BUFFER_BYTES: usize = 256 << 10;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Holes {
    /// As they are.
    Keep,
    /// Blocks of zeros are left out: the file is new, and holds nothing there.
    Skip,
    /// Blocks of zeros are made holes: the file may hold something there.
    Punch,
}

/// Writes bytes at an offset. A file whose last bytes were left out is too short until it gets its length.
///
/// # Errors
/// Any I/O error.
pub(crate) fn write(file: &File, bytes: &[u8], offset: u64, holes: Holes) -> io::Result<()> {
    if holes == Holes::Keep {
        return file.write_all_at(bytes, offset);
    }
    let (mut rest, mut offset) = (bytes, offset);
    while !rest.is_empty() {
        let (is_zero, count) = run_of_blocks(rest, offset);
        let (now, later) = rest.split_at(count);
        match (is_zero, holes) {
            (true, Holes::Skip) => {}
            (true, _) => clear(file, offset, count as u64)?,
            (false, _) => file.write_all_at(now, offset)?,
        }
        rest = later;
        offset += count as u64;
    }
    Ok(())
}

/// Whether the bytes begin with whole blocks of zeros, and how many bytes are alike in that.
fn run_of_blocks(bytes: &[u8], offset: u64) -> (bool, usize) {
    let to_boundary = (offset.next_multiple_of(BLOCK as u64) - offset) as usize;
    let first = if to_boundary == 0 { BLOCK } else { to_boundary };
    let is_zero = |part: &[u8]| part.len() == BLOCK && *part == [0; BLOCK];
    let (head, rest) = bytes.split_at(first.min(bytes.len()));
    let kind = is_zero(head);
    let same = rest.chunks(BLOCK).take_while(|part| is_zero(part) == kind);
    (kind, head.len() + same.map(<[u8]>::len).sum::<usize>())
}

/// Makes a part of a file a hole, or zeros where the file system has no holes. What lies behind the file's end is left
/// alone.
///
/// # Errors
/// Any I/O error.
pub(crate) fn clear(file: &File, offset: u64, bytes: u64) -> io::Result<()> {
    let end = file.metadata()?.len().min(offset.saturating_add(bytes));
    if end <= offset {
        return Ok(());
    }
    let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    match fallocate(file, flags, offset, end - offset) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {}
        cleared => return Ok(cleared?),
    }
    let zeros = vec![0; BUFFER_BYTES];
    let mut at = offset;
    while at < end {
        let count = usize::try_from(end - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

/// Whether a part of a file holds nothing but zeros. Holes are passed over.
///
/// # Errors
/// Any I/O error.
pub(crate) fn is_clear(file: &File, offset: u64, bytes: u64) -> io::Result<bool> {
    let end = offset.saturating_add(bytes);
    let mut buffer = vec![0; BUFFER_BYTES];
    let mut at = offset;
    while at < end {
        match seek(file, SeekFrom::Data(at)) {
            Ok(data) => at = data.max(at),
            // There is no data up to the file's end.
            Err(Errno::NXIO) => return Ok(true),
            Err(Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
        let count = usize::try_from(end.saturating_sub(at)).unwrap_or(usize::MAX).min(buffer.len());
        let read = file.read_at(&mut buffer[..count], at)?;
        if buffer[..read].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        if read == 0 {
            return Ok(true);
        }
        at += read as u64;
    }
    Ok(true)
}

/// Makes `to`, which is empty, share all bytes of `from`. Whether the file system can.
pub(crate) fn clone_all(from: &File, to: &File) -> bool {
    ioctl_ficlone(to, from).is_ok()
}

/// Copies a part of `from` to the same place of `to`, within the system where it can. `go_on` is asked now and then.
///
/// # Errors
/// Any I/O error, also where `from` ends too early; that of `go_on`.
pub(crate) fn copy(
    from: &File,
    to: &File,
    (offset, bytes): (u64, u64),
    holes: Holes,
    go_on: &dyn Fn() -> Result<()>,
) -> Result<io::Result<()>> {
    let (mut at, end) = (offset, offset + bytes);
    let mut within_system = holes == Holes::Keep;
    let mut buffer = Vec::new();
    while at < end {
        go_on()?;
        let count = (end - at).min(STEP_BYTES);
        if within_system {
            let (mut read_at, mut write_at) = (at, at);
            match copy_file_range(from, Some(&mut read_at), to, Some(&mut write_at), count as usize) {
                Ok(0) => return Ok(Err(io::ErrorKind::UnexpectedEof.into())),
                Ok(copied) => at += copied as u64,
                Err(Errno::INTR) => {}
                Err(error @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Ok(Err(error.into())),
                Err(_) => within_system = false,
            }
            continue;
        }
        buffer.resize(BUFFER_BYTES, 0);
        let count = usize::try_from(count).unwrap_or(usize::MAX).min(BUFFER_BYTES);
        let copied = from
            .read_exact_at(&mut buffer[..count], at)
            .and_then(|()| write(to, &buffer[..count], at, holes));
        if copied.is_err() {
            return Ok(copied);
        }
        at += count as u64;
    }
    Ok(Ok(()))
}

/// Waits until a file's bytes are on the disk.
///
/// # Errors
/// Any I/O error.
pub(crate) fn sync(file: &File) -> io::Result<()> {
    Ok(fdatasync(file)?)
}

/// Asks the system to forget what it keeps of a file in memory, so that the disk is read.
pub(crate) fn forget_cached(file: &File) {
    // Advice: a system that does not take it reads from memory, which is no error.
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn file(bytes: &[u8]) -> File {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file
    }

    fn read(file: &File) -> Vec<u8> {
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn zeros_become_holes_and_nothing_else_does() {
        let mut bytes = vec![0; 20 * BLOCK + 100];
        bytes[3 * BLOCK..4 * BLOCK + 1].fill(7);
        bytes[9 * BLOCK - 1] = 1;
        bytes[20 * BLOCK] = 1;
        for offset in [0, 1, BLOCK as u64 - 1, BLOCK as u64] {
            for (holes, old) in [(Holes::Skip, 0), (Holes::Punch, 9u8), (Holes::Keep, 9)] {
                let expected = [vec![old; offset as usize], bytes.clone()].concat();
                let file = file(&vec![old; if old == 0 { 0 } else { expected.len() }]);
                write(&file, &bytes, offset, holes).unwrap();
                file.set_len(expected.len() as u64).unwrap();
                assert!(read(&file) == expected, "{holes:?} at {offset}");
                if holes == Holes::Skip {
                    assert!(file.metadata().unwrap().blocks() * 512 < 10 * BLOCK as u64, "at {offset}");
                }
            }
        }
    }

    #[test]
    fn parts_are_cleared_and_told_from_data() {
        let mut expected = vec![5; 1 << 20];
        let file = file(&expected);
        assert!(!is_clear(&file, 100, 1).unwrap());
        clear(&file, 5000, 600_000).unwrap();
        expected[5000..605_000].fill(0);
        assert_eq!(read(&file), expected);
        assert!(is_clear(&file, 5000, 600_000).unwrap());
        assert!(!is_clear(&file, 4999, 10).unwrap() && !is_clear(&file, 5000, 600_001).unwrap());
        assert!(is_clear(&file, 2 << 20, 100).unwrap());
        clear(&file, (1 << 20) - 10, 1 << 30).unwrap();
        assert_eq!(file.metadata().unwrap().len(), 1 << 20);
        assert!(is_clear(&file, (1 << 20) - 10, 1 << 30).unwrap());
    }

    #[test]
    fn parts_are_copied_to_the_same_place() {
        let bytes: Vec<u8> = (0..600_000u32).map(|n| (n >> 8) as u8).collect();
        let from = file(&bytes);
        for holes in [Holes::Keep, Holes::Skip, Holes::Punch] {
            let to = file(&[]);
            copy(&from, &to, (1000, 500_000), holes, &|| Ok(())).unwrap().unwrap();
            assert_eq!(read(&to)[1000..], bytes[1000..501_000], "{holes:?}");
            assert!(copy(&from, &to, (599_999, 2), holes, &|| Ok(())).unwrap().is_err());
        }
    }
}
