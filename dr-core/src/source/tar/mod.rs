//! Reads tar archives, as they come, one member at a time: ustar, pax and GNU's, with sparse files of all kinds.
//!
//! An archive is believed nothing. What is read ahead of a file's content (names, attributes, maps of sparse files) is bounded;
//! contents are passed on as they are read. The first end of an archive is the end.

mod acl;
mod header;
mod pax;
mod sparse;

use crate::error::{Error, ErrorKind, Result};
use crate::observer::as_path;
use crate::time::Timestamp;
use crate::tree::{Extent, Metadata};
use header::{BLOCK_BYTES, Block, Header};
use pax::Records;

/// The longest name of GNU's own long names.
const LONG_NAME_BYTES_MAX: u64 = 1 << 20;
/// The longest extended header: room for all attributes that an entry may have, and for a map of some length.
const EXTENDED_BYTES_MAX: u64 = 8 << 20;
/// Bytes that are skipped at a time.
const SKIP_BYTES: usize = 64 << 10;

/// One member of an archive, without its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// The name as it stands in the archive.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: MemberKind,
    /// Without inode, device and number of links.
    pub(crate) metadata: Metadata,
    /// What of its attributes cannot be kept.
    pub(crate) notes: Vec<&'static str>,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    /// A file of so many bytes; `extents` say where its data lies, where it has holes.
    File {
        bytes: u64,
        extents: Option<Vec<Extent>>,
    },
    Directory,
    Symlink(Vec<u8>),
    /// Another name of an earlier member.
    HardLink(Vec<u8>),
    CharacterDevice(u64),
    BlockDevice(u64),
    Fifo,
    /// Something that is no entry of a tree, and why.
    Skipped(&'static str),
    /// Something about the archive itself.
    Nothing,
}

/// Reads an archive from `input`, which fills as much of a buffer as it can, and gives 0 at the end.
pub(crate) struct TarReader<F> {
    input: F,
    /// What is said of all further members.
    global: Records,
    /// A member had an extended header: the archive follows the newer standard.
    is_pax: bool,
    /// Bytes of the present member's data that were not read, and what fills up its last block.
    left: u64,
    padding: u64,
    /// Bytes read so far.
    at: u64,
    /// The present member, for what is said of it.
    current: Vec<u8>,
}

impl<F: FnMut(&mut [u8]) -> Result<usize>> TarReader<F> {
    pub(crate) fn new(input: F) -> TarReader<F> {
        TarReader {
            input,
            global: Records::default(),
            is_pax: false,
            left: 0,
            padding: 0,
            at: 0,
            current: Vec::new(),
        }
    }

    /// The next member; `None` at the end of the archive. What was not read of the one before is skipped.
    pub(crate) fn next(&mut self) -> Result<Option<Member>> {
        self.skip(self.left.saturating_add(self.padding))?;
        (self.left, self.padding) = (0, 0);
        let (mut long_name, mut long_link) = (None, None);
        let mut own: Option<Records> = None;
        loop {
            let is_amid = long_name.is_some() || long_link.is_some() || own.is_some();
            let Some(block) = self.header_block(is_amid)? else { return Ok(None) };
            let header = Header::read(&block).map_err(|why| self.damaged(why))?;
            match header.kind {
                b'L' => long_name = Some(self.long_name(&header)?),
                b'K' => long_link = Some(self.long_name(&header)?),
                b'x' | b'X' => {
                    self.is_pax = true;
                    let bytes = self.payload(header.size, EXTENDED_BYTES_MAX)?;
                    let mut records = self.global.clone();
                    records.apply(&bytes).map_err(|why| self.damaged(why))?;
                    own = Some(records);
                }
                b'g' => {
                    self.is_pax = true;
                    let bytes = self.payload(header.size, EXTENDED_BYTES_MAX)?;
                    let mut global = std::mem::take(&mut self.global);
                    let applied = global.apply(&bytes).and_then(|()| global.check_global());
                    self.global = global;
                    applied.map_err(|why| self.damaged(why))?;
                }
                _ => {
                    let mut records = own.unwrap_or_else(|| self.global.clone());
                    records.path = records.path.or(long_name);
                    records.link = records.link.or(long_link);
                    return self.member(&block, header, records).map(Some);
                }
            }
        }
    }

    /// Reads the present member's data, one extent after the other; 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = (self.input)(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(self.cut_off());
        }
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }

    /// Bytes of the present member's data that were not read yet.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.left
    }

    /// Reads what is behind the end of the archive, so that whoever writes it is not cut off; whether there is more than zeros.
    pub(crate) fn drain(&mut self) -> Result<bool> {
        let mut buffer = vec![0; SKIP_BYTES];
        let mut is_zero = true;
        loop {
            let count = (self.input)(&mut buffer)?;
            if count == 0 {
                return Ok(!is_zero);
            }
            is_zero &= buffer[..count].iter().all(|byte| *byte == 0);
        }
    }

    /// The next block that is a header; `None` at the end of the archive.
    fn header_block(&mut self, is_amid: bool) -> Result<Option<Block>> {
        let is_first = self.at == 0;
        let mut block = [0; BLOCK_BYTES];
        let count = self.fill(&mut block)?;
        if is_first {
            header::refuse_others(&block[..count])?;
        }
        if count < BLOCK_BYTES {
            return Err(self.cut_off());
        }
        if block.iter().any(|byte| *byte != 0) {
            return Ok(Some(block));
        }
        if is_amid {
            return Err(self.damaged("it ends behind the name of a member that does not come"));
        }
        match self.fill(&mut block)? {
            // Some writers end with one block of zeros, the last thing they write.
            0 => Ok(None),
            BLOCK_BYTES if block.iter().all(|byte| *byte == 0) => Ok(None),
            BLOCK_BYTES => Err(self.damaged("there is a block of zeros between two members")),
            _ => Err(self.cut_off()),
        }
    }

    fn member(&mut self, block: &Block, header: Header, records: Records) -> Result<Member> {
        let size = records.size.unwrap_or(header.size);
        let path = records.sparse_name().or_else(|| records.path.clone()).unwrap_or(header.path.clone());
        self.current.clone_from(&path);
        let has_slash = path.ends_with(b"/");
        let link = records.link.clone().unwrap_or(header.link.clone());
        let mut notes = Vec::new();
        let mut metadata = header.metadata(&mut notes);
        let has_data = match header.kind {
            b'1' => self.is_pax && !header.is_gnu,
            b'2'..=b'6' => false,
            _ => true,
        };
        if has_data {
            self.left = size;
            self.padding = padding_of(size);
        }
        let kind = match header.kind {
            b'\0' | b'0' | b'7' if has_slash && size == 0 => MemberKind::Directory,
            b'\0' | b'0' | b'7' => self.file(records.sparse.as_deref(), size)?,
            b'S' => self.old_sparse_file(block, size)?,
            b'1' => MemberKind::HardLink(link),
            b'2' => MemberKind::Symlink(link),
            b'3' => MemberKind::CharacterDevice(header.device(&records).map_err(|why| self.damaged(why))?),
            b'4' => MemberKind::BlockDevice(header.device(&records).map_err(|why| self.damaged(why))?),
            b'5' | b'D' => MemberKind::Directory,
            b'6' => MemberKind::Fifo,
            b'V' => MemberKind::Nothing,
            b'M' => MemberKind::Skipped("it is the rest of a file that begins in another volume"),
            _ => MemberKind::Skipped("it is of a type that is not known"),
        };
        records.add_to(&mut metadata, &mut notes);
        Ok(Member { path, kind, metadata, notes })
    }

    fn file(&mut self, records: Option<&sparse::SparseRecords>, size: u64) -> Result<MemberKind> {
        let Some(records) = records else { return Ok(MemberKind::File { bytes: size, extents: None }) };
        let bytes = records.file_bytes().map_err(|why| self.damaged(why))?;
        let map = match records.has_map_in_data() {
            false => records.map().map_err(|why| self.damaged(why))?,
            true => self.map_in_data()?,
        };
        self.sparse_file(map, bytes)
    }

    /// Reads a map that stands before the data, as decimal numbers in lines, up to the end of a block.
    fn map_in_data(&mut self) -> Result<Vec<Extent>> {
        let mut lines = sparse::MapLines::default();
        while !lines.is_done() {
            let mut block = [0; BLOCK_BYTES];
            let mut filled = 0;
            while filled < BLOCK_BYTES {
                match self.read(&mut block[filled..])? {
                    0 => return Err(self.damaged("the map of a sparse file has no end")),
                    count => filled += count,
                }
            }
            lines.add(&block).map_err(|why| self.damaged(why))?;
        }
        Ok(lines.finish())
    }

    /// Reads the map of GNU's older kind of sparse files, which goes on in blocks behind the header.
    fn old_sparse_file(&mut self, block: &Block, size: u64) -> Result<MemberKind> {
        let old = sparse::OldMap::read(block).map_err(|why| self.damaged(why))?;
        let sparse::OldMap { mut map, mut goes_on, bytes } = old;
        while goes_on {
            let mut more = [0; BLOCK_BYTES];
            if self.fill(&mut more)? < BLOCK_BYTES {
                return Err(self.cut_off());
            }
            goes_on = sparse::read_more(&more, &mut map).map_err(|why| self.damaged(why))?;
        }
        (self.left, self.padding) = (size, padding_of(size));
        self.sparse_file(map, bytes)
    }

    fn sparse_file(&mut self, map: Vec<Extent>, bytes: u64) -> Result<MemberKind> {
        let extents = sparse::checked(map, bytes, self.left).map_err(|why| self.damaged(why))?;
        Ok(MemberKind::File { bytes, extents })
    }

    fn long_name(&mut self, header: &Header) -> Result<Vec<u8>> {
        let mut name = self.payload(header.size, LONG_NAME_BYTES_MAX)?;
        let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        name.truncate(end);
        Ok(name)
    }

    /// Reads all of what follows a header. Memory grows with what is there, not with what is said to be.
    fn payload(&mut self, bytes: u64, bytes_max: u64) -> Result<Vec<u8>> {
        if bytes > bytes_max {
            return Err(self.damaged("a name or an extended header is longer than any can be"));
        }
        let mut payload = Vec::new();
        while (payload.len() as u64) < bytes {
            let start = payload.len();
            let step = SKIP_BYTES.min(bytes as usize - start);
            payload.resize(start + step, 0);
            if self.fill(&mut payload[start..])? < step {
                return Err(self.cut_off());
            }
        }
        self.skip(padding_of(bytes))?;
        Ok(payload)
    }

    fn skip(&mut self, mut bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        let mut buffer = vec![0; SKIP_BYTES.min(usize::try_from(bytes).unwrap_or(SKIP_BYTES))];
        while bytes > 0 {
            let wanted = buffer.len().min(usize::try_from(bytes).unwrap_or(usize::MAX));
            let count = (self.input)(&mut buffer[..wanted])?;
            if count == 0 {
                return Err(self.cut_off());
            }
            self.at += count as u64;
            bytes -= count as u64;
        }
        Ok(())
    }

    /// Reads until the buffer is full, or the input ends.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match (self.input)(&mut buffer[filled..])? {
                0 => break,
                count => filled += count,
            }
        }
        self.at += filled as u64;
        Ok(filled)
    }

    fn damaged(&self, why: &'static str) -> Error {
        let message = format!("the archive is damaged near byte {}: {why}", self.at);
        self.about_current(Error::new(ErrorKind::Source, message))
            .with_remedy("no snapshot was made: write the archive again")
    }

    fn cut_off(&self) -> Error {
        let message = format!("the archive ends before its end, after {} bytes: it was cut off", self.at);
        self.about_current(Error::new(ErrorKind::Source, message))
            .with_remedy("no snapshot was made: see whether whatever writes the archive failed")
    }

    fn about_current(&self, error: Error) -> Error {
        if self.current.is_empty() { error } else { error.with_path(as_path(&self.current)) }
    }
}

fn padding_of(bytes: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    (block - bytes % block) % block
}

/// A time that is a whole number of seconds.
fn seconds(seconds: i64) -> Timestamp {
    Timestamp { seconds, nanoseconds: 0 }
}
