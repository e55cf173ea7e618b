//! Patterns from the command line and from files, in the one order in which they count everywhere.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use dr_core::{Case, Patterns};

use crate::error::{CliError, Result};
use crate::render::{Output, text};

/// The longest file of patterns that is read, in bytes.
const FILE_BYTES_MAX: u64 = 16 << 20;

/// How many warnings of one kind are written.
const WARNINGS_MAX: usize = 10;

/// In which order patterns count, for a help.
pub(crate) const ORDER: &str = "\
Of all patterns that match, the last one decides: files of patterns come first, then those
  without regard to case, then the others.";

/// What was given of one kind: files of patterns and patterns.
#[derive(Debug)]
pub(crate) struct PatternLists<'a> {
    pub(crate) files: &'a [PathBuf],
    /// Files whose patterns do not regard upper and lower case.
    pub(crate) ifiles: &'a [PathBuf],
    pub(crate) patterns: &'a [OsString],
    pub(crate) ipatterns: &'a [OsString],
}

impl PatternLists<'_> {
    /// All of them as the engine takes them. The last one that matches decides: files come first, so that what is typed
    /// overrules them.
    ///
    /// # Errors
    /// A file that cannot be read or is too long, and a bad pattern.
    pub(crate) fn gather(&self) -> Result<Patterns> {
        let mut gathered = Patterns::new();
        for (files, case) in [(self.files, Case::Sensitive), (self.ifiles, Case::Insensitive)] {
            for file in files {
                gathered
                    .add_lines(&read(file)?, case)
                    .map_err(|error| CliError::from(error.with_path(file)))?;
            }
        }
        for (patterns, case) in [(self.ipatterns, Case::Insensitive), (self.patterns, Case::Sensitive)] {
            patterns.iter().try_for_each(|pattern| gathered.add(pattern.as_bytes(), case))?;
        }
        Ok(gathered)
    }
}

/// Warns of patterns with `!` that do not do what they seem to be for.
pub(crate) fn warn_of_unreaching(patterns: &Patterns, output: &Output) {
    let unreaching = patterns.unreaching();
    for pattern in unreaching.iter().take(WARNINGS_MAX) {
        output.warn(&pattern.to_string());
    }
    if unreaching.len() > WARNINGS_MAX {
        output.warn(&format!("so do {} more patterns", unreaching.len() - WARNINGS_MAX));
    }
}

/// Warns at the end of what was typed with a `/` inside and none in front, as other programs take it for any directory, and
/// had no effect.
pub(crate) fn warn_of_unused(typed: [&[OsString]; 2], patterns: &Patterns, output: &Output) {
    let typed: Vec<&[u8]> = typed.into_iter().flatten().map(|pattern| pattern.as_bytes()).collect();
    let is_typed =
        |pattern: &[u8]| typed.iter().any(|typed| typed.trim_ascii_end() == pattern.trim_ascii_end());
    for pattern in patterns.unused().into_iter().filter(|pattern| is_typed(pattern)) {
        let Some((sign, body)) = begins_at_root_in_silence(pattern) else { continue };
        let (pattern, body) = (text::printable_path(pattern), text::printable_path(body));
        output.warn(&format!(
            "the pattern '{pattern}' had no effect: it begins at '/'; write '{sign}**/{body}' to match at any depth, or \
             '{sign}/{body}' where '/' is meant"
        ));
    }
}

/// The sign of a pattern and the rest, where it begins at the topmost directory and does not say so.
fn begins_at_root_in_silence(pattern: &[u8]) -> Option<(&'static str, &[u8])> {
    let (sign, body) = match pattern {
        [b'!', body @ ..] => ("!", body),
        body => ("", body),
    };
    let has_inner = body.strip_suffix(b"/").unwrap_or(body).contains(&b'/');
    let says_where = body.starts_with(b"/") || body.starts_with(b"**/");
    (has_inner && !says_where).then_some((sign, body))
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(file).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut text)).map_err(
        |error| CliError::usage("a file of patterns cannot be read").with_path(file).with_cause(&error),
    )?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(CliError::usage("a file of patterns is too long (16 MiB)").with_path(file));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use dr_core::PathKind;

    use super::*;

    #[test]
    fn what_is_typed_overrules_files_and_cases_overrule_no_case() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("patterns");
        std::fs::write(&file, "!a.txt\n").unwrap();
        let excludes = |files: &[PathBuf], ifiles: &[PathBuf], ipatterns: &[&str], patterns: &[&str]| {
            let owned = |list: &[&str]| list.iter().map(OsString::from).collect::<Vec<_>>();
            let (patterns, ipatterns) = (owned(patterns), owned(ipatterns));
            let lists = PatternLists { files, ifiles, patterns: &patterns, ipatterns: &ipatterns };
            let gathered = lists.gather().unwrap();
            ["/a.txt", "/B.TXT", "/c.txt"].map(|path| gathered.excludes(path.as_bytes(), PathKind::Other))
        };
        let files = [file];
        assert_eq!(excludes(&files, &[], &[], &["*.txt"]), [true, false, true]);
        assert_eq!(excludes(&[], &files, &["*.txt"], &[]), [true, true, true]);
        assert_eq!(excludes(&[], &[], &["*.txt"], &["!a.txt"]), [false, true, true]);
    }
}
