//! Patterns in the syntax of gitignore files, one after the other.

use std::borrow::Cow;

use super::glob::{Glob, fold};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::PATH_BYTES_MAX;

/// Whether capitals matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Case {
    /// `A` is not `a`.
    Sensitive,
    /// `A` is `a`, also beyond ASCII where a name is UTF-8.
    Insensitive,
}

/// What a path leads to, as far as patterns ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PathKind {
    /// A directory.
    Directory,
    /// Anything else, a symbolic link to a directory included.
    Other,
}

/// What patterns say of one path alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Match {
    /// None matches.
    None,
    /// The last that matches is an ordinary one.
    Excluded,
    /// The last that matches begins with `!`.
    Included,
}

/// Patterns in the syntax of gitignore files.
///
/// - `*` is any run of bytes without `/`, `?` any byte but `/`, `[a-z]`, `[!a-z]` and `[[:alpha:]]` are one byte of a
///   class, and a backslash makes the next byte an ordinary one.
/// - A pattern with a `/` at its beginning or inside is compared with the whole path, which begins at the topmost
///   directory; any other with the last component of every path.
/// - `**/` at the beginning is any directory, `/**/` any number of directories, `/**` at the end everything below.
/// - A `/` at the end lets a pattern match directories only.
/// - The last pattern that matches decides; `!` in front makes it one that includes.
///
/// What is below an excluded directory is excluded, and a later pattern with `!` brings it back only where it says where
/// to look: it has a `/` at its beginning or inside, and does not begin with `**/`. After `/cache`, `!/cache/keep` brings
/// back `/cache/keep` with all that is in it, and of `/cache` the bare directory that leads there; `!keep` does not. (git
/// has no such rule: there, such a pattern does nothing.)
///
/// Patterns and paths are bytes, and need not be UTF-8.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    /// Some pattern is compared without regard to case.
    has_folded: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    /// As it was written.
    text: Box<[u8]>,
    glob: Glob,
    case: Case,
    /// Compared with the last component only.
    is_for_names: bool,
    is_for_directories: bool,
    is_negated: bool,
    /// It is negated, and looked for in excluded directories too.
    is_reaching: bool,
}

/// What a walk knows of a path once all directories above it were judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verdict {
    /// No pattern excludes it.
    #[default]
    Kept,
    /// The pattern of this number excludes it, or a directory above it.
    Excluded(usize),
}

/// A path in the forms it is compared in.
struct Subject<'p> {
    path: &'p [u8],
    folded: Cow<'p, [u8]>,
}

impl Patterns {
    /// No patterns: nothing is excluded.
    pub fn new() -> Patterns {
        Patterns::default()
    }

    /// Adds one pattern, a line of a gitignore file without the line's end. Spaces at its end do not count, unless a
    /// backslash is before them.
    ///
    /// # Errors
    /// `InvalidInput` for a pattern that can never match, which says why; also for a comment and for an empty line, which
    /// [`add_lines`](Self::add_lines) passes over.
    pub fn add(&mut self, pattern: &[u8], case: Case) -> Result<()> {
        if pattern.first() == Some(&b'#') {
            return Err(refused(pattern, "is a comment (write '\\#' where the name begins so)"));
        }
        let pattern = Pattern::parse(pattern, case)?;
        self.has_folded |= case == Case::Insensitive;
        self.patterns.push(pattern);
        Ok(())
    }

    /// Adds the lines of a gitignore file, of which empty ones and those that begin with `#` are none.
    ///
    /// # Errors
    /// `InvalidInput` at the first line that is refused, with its number; then none is added.
    pub fn add_lines(&mut self, text: &[u8], case: Case) -> Result<()> {
        let known = self.patterns.len();
        let refused = self.add_good_lines(text, case);
        match refused.into_iter().next() {
            None => Ok(()),
            Some(error) => {
                self.patterns.truncate(known);
                Err(error)
            }
        }
    }

    /// Adds the lines that are patterns, and returns what is wrong with the others.
    pub(crate) fn add_good_lines(&mut self, text: &[u8], case: Case) -> Vec<Error> {
        let mut refused = Vec::new();
        let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
        for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.first() == Some(&b'#') || without_spaces(line).is_empty() {
                continue;
            }
            if let Err(error) = self.add(line, case) {
                refused.push(Error::new(error.kind(), format!("line {}: {error}", index + 1)));
            }
        }
        refused
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What the patterns say of a path alone, whatever they say of the directories above it. The path begins at the
    /// topmost directory, with or without its `/`.
    pub fn matches(&self, path: &[u8], kind: PathKind) -> Match {
        match self.last_match(path, kind, |_, _| true) {
            None => Match::None,
            Some(number) if self.patterns[number].is_negated => Match::Included,
            Some(_) => Match::Excluded,
        }
    }

    /// Whether a path is left out: by what is said of it, or of a directory above it. A directory that leads to what a
    /// pattern with `!` may bring back is not. So whoever walks a tree need not look below what is excluded.
    pub fn excludes(&self, path: &[u8], kind: PathKind) -> bool {
        if self.is_empty() {
            return false;
        }
        let mut verdict = Verdict::Kept;
        let inner = path.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        for (end, _) in inner {
            verdict = self.judge(verdict, &path[..end], PathKind::Directory);
        }
        let verdict = self.judge(verdict, path, kind);
        verdict != Verdict::Kept && !(kind == PathKind::Directory && self.leads_on(verdict, path))
    }

    /// Judges a path from what its directory was judged to be.
    pub(crate) fn judge(&self, above: Verdict, path: &[u8], kind: PathKind) -> Verdict {
        let decisive = match above {
            Verdict::Kept => self.last_match(path, kind, |_, _| true),
            Verdict::Excluded(by) => self.last_match(path, kind, |number, pattern| {
                number > by && (pattern.is_reaching || !pattern.is_negated)
            }),
        };
        match decisive {
            None => above,
            Some(number) if self.patterns[number].is_negated => Verdict::Kept,
            Some(number) => Verdict::Excluded(number),
        }
    }

    /// Whether something below an excluded directory may be brought back.
    pub(crate) fn leads_on(&self, verdict: Verdict, directory: &[u8]) -> bool {
        let Verdict::Excluded(by) = verdict else { return true };
        let later = &self.patterns[by + 1..];
        if !later.iter().any(|pattern| pattern.is_reaching) {
            return false;
        }
        let subject = self.subject(directory);
        let reaches = |pattern: &Pattern| pattern.is_reaching && pattern.may_match_below(&subject);
        later.iter().any(reaches)
    }

    /// Whether something below a directory may be excluded: by a pattern that may match there, or because the directory is.
    pub(crate) fn may_exclude_below(&self, directory: &[u8]) -> bool {
        let inner = directory.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/');
        let ends = inner.map(|(end, _)| end).chain([directory.len()]);
        let verdict = ends
            .fold(Verdict::Kept, |verdict, end| self.judge(verdict, &directory[..end], PathKind::Directory));
        if verdict != Verdict::Kept {
            return true;
        }
        let subject = self.subject(directory);
        let may = |pattern: &Pattern| pattern.is_for_names || pattern.may_match_below(&subject);
        self.patterns.iter().any(|pattern| !pattern.is_negated && may(pattern))
    }

    /// The pattern of this number, as it was written.
    pub(crate) fn text(&self, number: usize) -> &[u8] {
        self.patterns.get(number).map_or(&[], |pattern| &pattern.text)
    }

    /// The last pattern that matches, of those that count.
    fn last_match(
        &self,
        path: &[u8],
        kind: PathKind,
        counts: impl Fn(usize, &Pattern) -> bool,
    ) -> Option<usize> {
        let subject = self.subject(path);
        if subject.path.is_empty() {
            return None;
        }
        let fits = |number: usize, pattern: &Pattern| {
            (kind == PathKind::Directory || !pattern.is_for_directories)
                && counts(number, pattern)
                && pattern.matches(&subject)
        };
        let mut numbered = self.patterns.iter().enumerate();
        numbered.rfind(|(number, pattern)| fits(*number, pattern)).map(|(number, _)| number)
    }

    fn subject<'p>(&self, path: &'p [u8]) -> Subject<'p> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        Subject { path, folded: if self.has_folded { fold(path) } else { Cow::Borrowed(&[]) } }
    }
}

impl Subject<'_> {
    fn of(&self, case: Case) -> &[u8] {
        match case {
            Case::Sensitive => self.path,
            Case::Insensitive => &self.folded,
        }
    }
}

impl Pattern {
    fn parse(line: &[u8], case: Case) -> Result<Pattern> {
        let text = without_spaces(line);
        let (is_negated, body) = match text {
            [b'!', body @ ..] => (true, body),
            body => (false, body),
        };
        let (is_for_directories, body) = match body {
            [body @ .., b'/'] => (true, body),
            body => (false, body),
        };
        let is_for_names = !body.contains(&b'/');
        let body = body.strip_prefix(b"/").unwrap_or(body);
        if let Some(why) = why_useless(body) {
            return Err(refused(line, why));
        }
        let glob = Glob::parse(body, case).map_err(|why| refused(line, why))?;
        let is_reaching = is_negated && !is_for_names && !glob.begins_anywhere();
        Ok(Pattern {
            text: text.into(),
            glob,
            case,
            is_for_names,
            is_for_directories,
            is_negated,
            is_reaching,
        })
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        let text = subject.of(self.case);
        if self.is_for_names {
            let name = text.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            return self.glob.matches(&text[name..]);
        }
        self.glob.matches(text)
    }

    fn may_match_below(&self, directory: &Subject<'_>) -> bool {
        self.glob.may_match_below(directory.of(self.case))
    }
}

/// Why no path can match, whatever the wildcards.
fn why_useless(body: &[u8]) -> Option<&'static str> {
    if body.is_empty() {
        return Some("names nothing");
    }
    if body.len() > PATH_BYTES_MAX {
        return Some("is longer than any path (32 KiB)");
    }
    if body.contains(&0) {
        return Some("holds a zero byte, which no name does");
    }
    let mut components = body.split(|byte| *byte == b'/');
    components.find_map(|component| match component {
        b"" => Some("has two '/' in a row, which no path has"),
        b"." | b".." => Some("has a '.' or '..' between its '/', which no path in a snapshot has"),
        _ => None,
    })
}

/// A line without the spaces at its end that no backslash holds.
fn without_spaces(line: &[u8]) -> &[u8] {
    let mut end = 0;
    let mut at = 0;
    while let Some(byte) = line.get(at) {
        at += if *byte == b'\\' { 2 } else { 1 };
        if *byte != b' ' {
            end = at.min(line.len());
        }
    }
    &line[..end]
}

fn refused(pattern: &[u8], why: &str) -> Error {
    let shown: String = String::from_utf8_lossy(pattern).chars().take(200).collect();
    Error::new(ErrorKind::InvalidInput, format!("the pattern '{}' {why}", shown.escape_debug()))
}
