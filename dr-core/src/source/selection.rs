//! What a caller leaves out of a backup.

use crate::error::{Error, ErrorKind, Result};
use crate::select::Patterns;

/// The name and the first bytes of a cache directory's tag. Source: <https://bford.info/cachedir/>.
const CACHE_TAG: (&[u8], &[u8]) = (b"CACHEDIR.TAG", b"Signature: 8a477f597d28d172789f06886806bc55");

/// What a caller leaves out. A path that was named as a source is never left out, whatever is said here, nor is one that
/// a pattern with `!` includes.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Selection {
    /// Patterns over whole paths. Before all else.
    pub patterns: Patterns,
    /// Names of files that hold patterns over what is in their directory and below, as gitignore files do. What the
    /// nearest directory's say comes first, and of these what the last says. Nothing below a directory that they exclude
    /// can be brought back by them.
    pub ignore_files: Vec<Vec<u8>>,
    /// Directories with one of these are saved with nothing in them but that.
    pub tag_files: Vec<TagFile>,
    /// Leaves out files of more bytes.
    pub file_bytes_max: Option<u64>,
    /// Leaves out what carries the mark that it is not to be backed up (`chattr +d`).
    pub exclude_nodump: bool,
}

/// A file that says of its directory that the rest of it is not worth saving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TagFile {
    name: Vec<u8>,
    header: Vec<u8>,
}

impl Selection {
    /// Leaves nothing out.
    pub fn new() -> Selection {
        Selection::default()
    }

    /// Leaves out what patterns exclude.
    #[must_use]
    pub fn patterns(mut self, patterns: Patterns) -> Self {
        self.patterns = patterns;
        self
    }

    /// Leaves out what files of this name exclude.
    #[must_use]
    pub fn ignore_file(mut self, name: impl Into<Vec<u8>>) -> Self {
        self.ignore_files.push(name.into());
        self
    }

    /// Leaves out what is beside such a file.
    #[must_use]
    pub fn tag_file(mut self, tag: TagFile) -> Self {
        self.tag_files.push(tag);
        self
    }

    /// Leaves out files of more bytes.
    #[must_use]
    pub fn file_bytes_max(mut self, bytes: u64) -> Self {
        self.file_bytes_max = Some(bytes);
        self
    }

    /// Leaves out what carries the mark that it is not to be backed up.
    #[must_use]
    pub fn exclude_nodump(mut self) -> Self {
        self.exclude_nodump = true;
        self
    }

    /// Whether nothing is left out.
    pub fn is_empty(&self) -> bool {
        self.ignore_files.is_empty() && self.tag_files.is_empty() && !self.asks_of_entries()
    }

    /// Whether something may speak against any entry, wherever it is.
    pub(super) fn asks_of_entries(&self) -> bool {
        !self.patterns.is_empty() || self.file_bytes_max.is_some() || self.exclude_nodump
    }
}

impl TagFile {
    /// A file of this name. Where `header` is not empty, it must be a regular file that begins with these bytes; otherwise
    /// it is enough that anything of this name is there.
    ///
    /// # Errors
    /// `InvalidInput` for what is no name.
    pub fn new(name: impl Into<Vec<u8>>, header: impl Into<Vec<u8>>) -> Result<TagFile> {
        let (name, header) = (name.into(), header.into());
        if !crate::format::tree::is_name(&name) {
            return Err(Error::new(ErrorKind::InvalidInput, "the name of a tag file is no name")
                .with_remedy("give the name alone, without a directory"));
        }
        Ok(TagFile { name, header })
    }

    /// `CACHEDIR.TAG` with its signature: what programs put into directories that they can fill again.
    pub fn cache() -> TagFile {
        TagFile { name: CACHE_TAG.0.to_vec(), header: CACHE_TAG.1.to_vec() }
    }

    pub(super) fn name(&self) -> &[u8] {
        &self.name
    }

    pub(super) fn header(&self) -> &[u8] {
        &self.header
    }
}
