//! Reads archives, for fuzz targets.

use super::*;
use crate::source::tar::{MemberKind, TarReader};

/// A member of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArchiveMember {
    /// The name as it stands in the archive.
    pub path: Vec<u8>,
    /// The length of a file.
    pub bytes: Option<u64>,
    /// How many bytes of data it has.
    pub data_bytes: u64,
    /// Where the data lies in a file with holes.
    pub extents: Option<Vec<Extent>>,
}

/// Reads an archive to its end, data included.
pub fn read_archive(mut bytes: &[u8]) -> Result<Vec<ArchiveMember>> {
    let mut archive = TarReader::new(|buffer: &mut [u8]| {
        let count = buffer.len().min(bytes.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        bytes = &bytes[count..];
        Ok(count)
    });
    let mut members = Vec::new();
    let mut buffer = [0; 1000];
    while let Some(member) = archive.next()? {
        let (file_bytes, extents) = match member.kind {
            MemberKind::File { bytes, extents } => (Some(bytes), extents),
            _ => (None, None),
        };
        let mut data_bytes = 0;
        loop {
            match archive.read(&mut buffer)? {
                0 => break,
                count => data_bytes += count as u64,
            }
        }
        members.push(ArchiveMember { path: member.path, bytes: file_bytes, data_bytes, extents });
    }
    Ok(members)
}
