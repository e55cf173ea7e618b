//! Why something was left out.

/// Why an entry was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Exclusion {
    /// This pattern.
    Pattern(Vec<u8>),
    /// A line of a file of patterns.
    IgnoreFile {
        /// The file's path.
        file: Vec<u8>,
        /// The pattern.
        pattern: Vec<u8>,
    },
    /// Its directory has this tag file.
    TagFile(Vec<u8>),
    /// It has more than this many bytes.
    Larger(u64),
    /// It carries the mark that it is not to be backed up.
    NoDump,
}
