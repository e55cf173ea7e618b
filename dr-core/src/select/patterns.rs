//! Patterns in the syntax of gitignore files, one after the other.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

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
/// back `/cache/keep` with all that is in it, and of `/cache` the bare directory that leads there; `!keep` does not, and
/// [`unreaching`](Self::unreaching) says so. (git has no such rule: there, such a pattern does nothing.)
///
/// Patterns and paths are bytes, and need not be UTF-8.
#[derive(Debug, Clone, Default)]
pub struct Patterns {
    pub(super) patterns: Vec<Pattern>,
    /// Some pattern is compared without regard to case.
    has_folded: bool,
    /// The numbers of patterns without wildcards, ascending, by their text; long lists are mostly these.
    literal: [Numbers; 4],
    /// The numbers of the others, ascending.
    pub(super) wild: Vec<usize>,
}

type Numbers = HashMap<Box<[u8]>, Vec<usize>>;

#[derive(Debug, Clone)]
pub(super) struct Pattern {
    /// As it was written.
    pub(super) text: Box<[u8]>,
    pub(super) glob: Glob,
    case: Case,
    pub(super) scope: Scope,
    pub(super) is_for_directories: bool,
    pub(super) is_negated: bool,
    /// It is negated, and looked for in excluded directories too.
    pub(super) is_reaching: bool,
    /// It decided over a path, here or in a clone.
    is_used: Arc<AtomicBool>,
}

/// What of a path a pattern is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Scope {
    /// The last component.
    Name,
    /// All of it.
    Path,
}

/// What a walk knows of a path once all directories above it were judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Verdict {
    /// No pattern excludes it.
    #[default]
    Kept,
    /// A pattern that begins with `!` says that it is kept.
    Included,
    /// It is left out, and patterns from this number on may bring back what is below it.
    Excluded {
        /// One more than the number of the pattern that excludes it; 0 where something else does.
        until: usize,
    },
}

/// A path in the forms it is compared in.
struct Subject<'p> {
    path: &'p [u8],
    /// Where in the path the last component begins.
    name: usize,
    folded: Cow<'p, [u8]>,
    folded_name: usize,
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
        self.push(Pattern::parse(pattern, case)?);
        Ok(())
    }

    fn push(&mut self, pattern: Pattern) {
        let number = self.patterns.len();
        self.has_folded |= pattern.case == Case::Insensitive;
        match pattern.glob.literal() {
            Some(text) => {
                let numbers = &mut self.literal[table(pattern.case, pattern.scope)];
                numbers.entry(text.into()).or_default().push(number);
            }
            None => self.wild.push(number),
        }
        self.patterns.push(pattern);
    }

    /// Adds the lines of a gitignore file, of which empty ones and those that begin with `#` are none.
    ///
    /// # Errors
    /// `InvalidInput` at the first line that is refused, with its number; then none is added.
    pub fn add_lines(&mut self, text: &[u8], case: Case) -> Result<()> {
        let (patterns, refused) = parse_lines(text, case);
        match refused.into_iter().next() {
            Some(error) => Err(error),
            None => {
                patterns.into_iter().for_each(|pattern| self.push(pattern));
                Ok(())
            }
        }
    }

    /// Adds the lines that are patterns, and returns what is wrong with the others.
    pub(crate) fn add_good_lines(&mut self, text: &[u8], case: Case) -> Vec<Error> {
        let (patterns, refused) = parse_lines(text, case);
        patterns.into_iter().for_each(|pattern| self.push(pattern));
        refused
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// What the patterns say of a path alone, whatever they say of the directories above it. The path begins at the
    /// topmost directory, with or without its `/`.
    pub fn matches(&self, path: &[u8], kind: PathKind) -> Match {
        self.find(path, kind).map_or(Match::None, |(found, _)| found)
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
        verdict.is_excluded() && !(kind == PathKind::Directory && self.leads_on(verdict, path))
    }

    /// The patterns that have decided over no path so far, as they were written: none matched, or a later one matched as
    /// well. What clones were asked counts too. One that is there several times stands here where none of them decided.
    pub fn unused(&self) -> Vec<&[u8]> {
        let is_used = |pattern: &&Pattern| pattern.is_used.load(Ordering::Relaxed);
        let mut seen: HashSet<&[u8]> =
            self.patterns.iter().filter(is_used).map(|pattern| &*pattern.text).collect();
        self.patterns.iter().map(|pattern| &*pattern.text).filter(|text| seen.insert(text)).collect()
    }

    /// Judges a path from what its directory was judged to be.
    pub(crate) fn judge(&self, above: Verdict, path: &[u8], kind: PathKind) -> Verdict {
        if self.is_empty() {
            return if above == Verdict::Included { Verdict::Kept } else { above };
        }
        let decisive = match above {
            Verdict::Kept | Verdict::Included => self.last_match(path, kind, |_, _| true),
            Verdict::Excluded { until } => self.last_match(path, kind, |number, pattern| {
                number >= until && (pattern.is_reaching || !pattern.is_negated)
            }),
        };
        match decisive {
            None if above == Verdict::Included => Verdict::Kept,
            None => above,
            Some(number) => match self.patterns[number].decided() {
                Match::Included => Verdict::Included,
                _ => Verdict::Excluded { until: number + 1 },
            },
        }
    }

    /// Whether something below an excluded directory may be brought back.
    pub(crate) fn leads_on(&self, verdict: Verdict, directory: &[u8]) -> bool {
        let Verdict::Excluded { until } = verdict else { return true };
        let later = self.patterns.get(until..).unwrap_or_default();
        if !later.iter().any(|pattern| pattern.is_reaching) {
            return false;
        }
        let subject = self.subject(directory);
        let reaches = |pattern: &Pattern| pattern.is_reaching && pattern.may_match_below(&subject);
        later.iter().any(reaches)
    }

    /// The pattern that excludes what was judged so, as it was written; none where something else does.
    pub(crate) fn decisive(&self, verdict: Verdict) -> Option<&[u8]> {
        let Verdict::Excluded { until } = verdict else { return None };
        self.patterns.get(until.checked_sub(1)?).map(|pattern| &*pattern.text)
    }

    /// What the patterns say of a path alone, and the pattern that says so, as it was written.
    pub(crate) fn find(&self, path: &[u8], kind: PathKind) -> Option<(Match, &[u8])> {
        let pattern = &self.patterns[self.last_match(path, kind, |_, _| true)?];
        Some((pattern.decided(), &pattern.text))
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
        let may = |pattern: &Pattern| pattern.scope == Scope::Name || pattern.may_match_below(&subject);
        self.patterns.iter().any(|pattern| !pattern.is_negated && may(pattern))
    }

    /// The last pattern that matches, of those that count.
    pub(super) fn last_match(
        &self,
        path: &[u8],
        kind: PathKind,
        counts: impl Fn(usize, &Pattern) -> bool,
    ) -> Option<usize> {
        let subject = self.subject(path);
        if subject.path.is_empty() {
            return None;
        }
        let fits = |number: usize| {
            let pattern = &self.patterns[number];
            (kind == PathKind::Directory || !pattern.is_for_directories) && counts(number, pattern)
        };
        let mut last = None;
        for (case, scope) in TABLES {
            let numbers = &self.literal[table(case, scope)];
            if !numbers.is_empty() {
                let found = numbers.get(subject.of(case, scope)).map_or(&[][..], Vec::as_slice);
                last = last.max(found.iter().rev().copied().find(|number| fits(*number)));
            }
        }
        for number in self.wild.iter().rev().copied() {
            if last.is_some_and(|last| last > number) {
                break;
            }
            if self.patterns[number].matches(&subject) && fits(number) {
                return Some(number);
            }
        }
        last
    }

    fn subject<'p>(&self, path: &'p [u8]) -> Subject<'p> {
        let path = path.strip_prefix(b"/").unwrap_or(path);
        let folded = if self.has_folded { fold(path) } else { Cow::Borrowed(&[][..]) };
        let name = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        Subject { path, name: name(path), folded_name: name(&folded), folded }
    }
}

/// Every table of patterns without wildcards.
const TABLES: [(Case, Scope); 4] = [
    (Case::Sensitive, Scope::Name),
    (Case::Sensitive, Scope::Path),
    (Case::Insensitive, Scope::Name),
    (Case::Insensitive, Scope::Path),
];

fn table(case: Case, scope: Scope) -> usize {
    2 * case as usize + scope as usize
}

/// The patterns of a gitignore file, and what is wrong with the other lines.
fn parse_lines(text: &[u8], case: Case) -> (Vec<Pattern>, Vec<Error>) {
    let (mut patterns, mut refused) = (Vec::new(), Vec::new());
    let text = text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(text);
    for (index, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        if line.first() == Some(&b'#') || without_spaces(line).is_empty() {
            continue;
        }
        match Pattern::parse(line, case) {
            Ok(pattern) => patterns.push(pattern),
            Err(error) => refused.push(Error::new(error.kind(), format!("line {}: {error}", index + 1))),
        }
    }
    (patterns, refused)
}

impl Verdict {
    /// Whether it is left out.
    pub(crate) fn is_excluded(self) -> bool {
        matches!(self, Verdict::Excluded { .. })
    }
}

impl Subject<'_> {
    fn of(&self, case: Case, scope: Scope) -> &[u8] {
        match (case, scope) {
            (Case::Sensitive, Scope::Path) => self.path,
            (Case::Sensitive, Scope::Name) => &self.path[self.name..],
            (Case::Insensitive, Scope::Path) => &self.folded,
            (Case::Insensitive, Scope::Name) => &self.folded[self.folded_name..],
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
        let scope = if body.contains(&b'/') { Scope::Path } else { Scope::Name };
        let body = body.strip_prefix(b"/").unwrap_or(body);
        if let Some(why) = why_useless(body) {
            return Err(refused(line, why));
        }
        let glob = Glob::parse(body, case).map_err(|why| refused(line, why))?;
        let is_reaching = is_negated && scope == Scope::Path && !glob.begins_anywhere();
        let (text, is_used) = (text.into(), Arc::default());
        Ok(Pattern { text, glob, case, scope, is_for_directories, is_negated, is_reaching, is_used })
    }

    /// Notes that it decides over a path, and returns what it says of it.
    fn decided(&self) -> Match {
        // Many threads ask: nothing is written where all is said.
        if !self.is_used.load(Ordering::Relaxed) {
            self.is_used.store(true, Ordering::Relaxed);
        }
        if self.is_negated { Match::Included } else { Match::Excluded }
    }

    fn matches(&self, subject: &Subject<'_>) -> bool {
        self.glob.matches(subject.of(self.case, self.scope))
    }

    fn may_match_below(&self, directory: &Subject<'_>) -> bool {
        self.glob.may_match_below(directory.of(self.case, Scope::Path))
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
    Error::new(ErrorKind::InvalidInput, format!("the pattern '{}' {why}", shown.escape_debug())).with_remedy(
        "a pattern names whole paths that begin at '/', as in /home/me/tmp, or names in any directory, as in *.tmp",
    )
}
