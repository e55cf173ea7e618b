//! The maps of sparse files: GNU's older kind in headers, and the three kinds in extended headers.

use super::header::{Block, number};
use crate::tree::Extent;

/// The most extents of one file: 64 MiB of memory.
const EXTENTS_MAX: usize = 4 << 20;

const WRONG: &str = "the map of a sparse file does not fit the file";
const NO_NUMBER: &str = "the map of a sparse file holds what is no number";
const TOO_LONG: &str = "the map of a sparse file is longer than it may be";

type Result<T> = std::result::Result<T, &'static str>;

/// What extended headers say of a sparse file.
#[derive(Debug, Clone, Default)]
pub(super) struct SparseRecords {
    major: Option<u64>,
    file_bytes: Option<u64>,
    pub(super) name: Option<Vec<u8>>,
    map: Vec<Extent>,
    /// An offset whose length comes next.
    offset: Option<u64>,
}

impl SparseRecords {
    /// Takes a record whose key begins with `GNU.sparse.`; `key` is the rest.
    pub(super) fn take(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        match key {
            b"major" => self.major = Some(decimal(value)?),
            b"size" | b"realsize" => self.file_bytes = Some(decimal(value)?),
            b"name" => self.name = Some(value.to_vec()),
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => {
                let offset = self.offset.take().ok_or(WRONG)?;
                push(&mut self.map, offset, decimal(value)?)?;
            }
            b"map" => {
                self.map.clear();
                let mut numbers = value.split(|byte| *byte == b',').filter(|number| !number.is_empty());
                while let Some(offset) = numbers.next() {
                    let bytes = numbers.next().ok_or(WRONG)?;
                    push(&mut self.map, decimal(offset)?, decimal(bytes)?)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    pub(super) fn file_bytes(&self) -> Result<u64> {
        self.file_bytes.ok_or("a sparse file has no length")
    }

    /// Whether the map stands before the data: version 1.0.
    pub(super) fn has_map_in_data(&self) -> bool {
        self.major == Some(1)
    }

    pub(super) fn map(&self) -> Result<Vec<Extent>> {
        match self.major {
            None | Some(0) => Ok(self.map.clone()),
            Some(_) => Err("a sparse file is of a kind that is not known"),
        }
    }
}

/// A number in decimal digits.
pub(super) fn decimal(digits: &[u8]) -> Result<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(NO_NUMBER);
    }
    digits
        .iter()
        .try_fold(0u64, |value, digit| value.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
        .ok_or(NO_NUMBER)
}

fn push(map: &mut Vec<Extent>, offset: u64, bytes: u64) -> Result<()> {
    if map.len() == EXTENTS_MAX {
        return Err(TOO_LONG);
    }
    map.push(Extent { offset, bytes });
    Ok(())
}

/// Checks that a map is in order, inside the file and as long as the data; `None` where the file has no holes.
pub(super) fn checked(map: Vec<Extent>, file_bytes: u64, data_bytes: u64) -> Result<Option<Vec<Extent>>> {
    let mut extents: Vec<Extent> = Vec::new();
    let (mut end, mut total) = (0u64, 0u64);
    if i64::try_from(file_bytes).is_err() {
        return Err(WRONG);
    }
    for extent in map.into_iter().filter(|extent| extent.bytes > 0) {
        let next = extent.offset.checked_add(extent.bytes).filter(|next| *next <= file_bytes).ok_or(WRONG)?;
        if extent.offset < end {
            return Err(WRONG);
        }
        match extents.last_mut() {
            Some(last) if extent.offset == end => last.bytes += extent.bytes,
            _ => extents.push(extent),
        }
        total += extent.bytes;
        end = next;
    }
    if total != data_bytes {
        return Err(WRONG);
    }
    Ok(if total == file_bytes { None } else { Some(extents) })
}

/// The lines of a map before the data: how many extents there are, then offset and length of each.
#[derive(Debug, Default)]
pub(super) struct MapLines {
    count: Option<u64>,
    line: Vec<u8>,
    offset: Option<u64>,
    map: Vec<Extent>,
}

impl MapLines {
    pub(super) fn is_done(&self) -> bool {
        self.count.is_some_and(|count| self.map.len() as u64 == count)
    }

    /// Takes a block; what is behind the last number only fills it up.
    pub(super) fn add(&mut self, block: &Block) -> Result<()> {
        for byte in block {
            if self.is_done() {
                return Ok(());
            }
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err(NO_NUMBER);
                }
                continue;
            }
            let value = decimal(&std::mem::take(&mut self.line))?;
            match (self.count, self.offset.take()) {
                (None, _) => self.count = Some(value),
                (Some(_), None) => self.offset = Some(value),
                (Some(_), Some(offset)) => push(&mut self.map, offset, value)?,
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Vec<Extent> {
        self.map
    }
}

/// The part of a map that an older header holds.
pub(super) struct OldMap {
    pub(super) map: Vec<Extent>,
    /// Whether blocks with more follow.
    pub(super) goes_on: bool,
    /// The length of the file.
    pub(super) bytes: u64,
}

impl OldMap {
    pub(super) fn read(block: &Block) -> Result<OldMap> {
        let mut map = Vec::new();
        read_pairs(&block[386..482], &mut map)?;
        let bytes = number(&block[483..495]).and_then(|bytes| u64::try_from(bytes).ok());
        Ok(OldMap { map, goes_on: block[482] != 0, bytes: bytes.ok_or(NO_NUMBER)? })
    }
}

/// Reads a block that goes on with a map; whether yet another follows.
pub(super) fn read_more(block: &Block, map: &mut Vec<Extent>) -> Result<bool> {
    read_pairs(&block[..504], map)?;
    Ok(block[504] != 0)
}

fn read_pairs(fields: &[u8], map: &mut Vec<Extent>) -> Result<()> {
    for pair in fields.chunks_exact(24) {
        if pair[12] == 0 {
            return Ok(());
        }
        let field = |field: &[u8]| number(field).and_then(|value| u64::try_from(value).ok()).ok_or(NO_NUMBER);
        push(map, field(&pair[..12])?, field(&pair[12..])?)?;
    }
    Ok(())
}
