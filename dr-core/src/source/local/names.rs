//! The names in a directory, in one block of memory.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;

use rustix::fs::{RawDir, SeekFrom, seek};
use rustix::io::Errno;

/// Room for about a thousand names per system call.
const BUFFER_BYTES: usize = 64 << 10;

/// The names of one directory, ascending and without duplicates.
#[derive(Debug)]
pub(super) struct NameList {
    /// All names, each with its NUL, in the order of the directory.
    bytes: Vec<u8>,
    places: Vec<Place>,
}

#[derive(Debug, Clone, Copy)]
struct Place {
    inode: u64,
    start: usize,
    /// After the NUL.
    end: usize,
}

impl NameList {
    /// Reads the directory from its start. The descriptor's position is used, so one caller at a time.
    pub(super) fn read(dir: BorrowedFd<'_>) -> Result<NameList, Errno> {
        seek(dir, SeekFrom::Start(0))?;
        let mut buffer = Vec::with_capacity(BUFFER_BYTES);
        let mut reader = RawDir::new(dir, buffer.spare_capacity_mut());
        let mut list = NameList { bytes: Vec::new(), places: Vec::new() };
        while let Some(next) = reader.next() {
            let entry = match next {
                Ok(entry) => entry,
                Err(Errno::INTR) => continue,
                Err(error) => return Err(error),
            };
            let name = entry.file_name();
            if name == c"." || name == c".." {
                continue;
            }
            let start = list.bytes.len();
            list.bytes.extend_from_slice(name.to_bytes_with_nul());
            list.places.push(Place { inode: entry.ino(), start, end: list.bytes.len() });
        }
        let bytes = &list.bytes;
        list.places.sort_unstable_by(|a, b| bytes[a.start..a.end].cmp(&bytes[b.start..b.end]));
        // A directory that changes while it is read may show a name twice, and a file system in user space always.
        list.places.dedup_by(|a, b| bytes[a.start..a.end] == bytes[b.start..b.end]);
        Ok(list)
    }

    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    pub(super) fn get(&self, index: usize) -> &CStr {
        let place = self.places[index];
        CStr::from_bytes_until_nul(&self.bytes[place.start..place.end]).unwrap_or_default()
    }

    /// The indices in ascending order of inode: in this order a disk with an inode table is read forwards.
    pub(super) fn by_inode(&self) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.places.len()).collect();
        order.sort_unstable_by_key(|&index| self.places[index].inode);
        order
    }
}
