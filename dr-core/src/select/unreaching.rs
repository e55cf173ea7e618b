//! Patterns with `!` that bring nothing back, because the directory above is excluded.
//!
//! What a list is for cannot be known. So only those are told that no earlier pattern gives another purpose: `!keep.tmp`
//! behind `*.tmp` takes an exception from just that, and `!keep.txt` behind `cache` can only mean what is in `cache`.

use std::fmt;

use super::glob::{Glob, Token};
use super::patterns::{Case, PathKind, Pattern, Patterns, Scope};

/// How many steps the comparisons of one list take at most; what is left then is not told.
const STEPS_MAX: usize = 1 << 20;

/// A pattern with `!` that says nothing of what is below a directory that an earlier pattern matches, where it seems to be
/// meant for that.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unreaching {
    /// The pattern, as it was written.
    pub pattern: Vec<u8>,
    /// The earlier one.
    pub behind: Vec<u8>,
    /// What to write instead.
    pub remedy: String,
}

impl fmt::Display for Unreaching {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (pattern, behind) = (shown(&self.pattern), shown(&self.behind));
        write!(
            f,
            "the pattern {pattern} says nothing of what is in a directory that {behind} matches: {}",
            self.remedy
        )
    }
}

/// Which patterns with `!` are looked for in excluded directories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// Those that say where to look.
    OfWholePaths,
    /// None.
    OfFiles,
}

/// The last component of a pattern.
struct Name(Vec<Token>);

/// The last components of patterns, none for those that cannot be compared, and what comparing them may still take.
struct Names {
    own: Vec<Option<Name>>,
    /// Those of the files above.
    above: Vec<Option<Name>>,
    /// The number of the last pattern that includes directories.
    way_back: Option<usize>,
    steps_left: usize,
}

impl Patterns {
    /// The patterns with `!` that say nothing of what is below a directory that an earlier pattern matches, though they seem
    /// to be meant for that: `!keep.txt` after `cache`. Not every such pattern is found.
    pub fn unreaching(&self) -> Vec<Unreaching> {
        self.all_unreaching(Reach::OfWholePaths, &[])
    }

    /// The same for a file of patterns, of which none is looked for in excluded directories; those in `above` are files
    /// that it may take exceptions from.
    pub(crate) fn unreaching_in_file(&self, above: &[&Patterns]) -> Vec<Unreaching> {
        self.all_unreaching(Reach::OfFiles, above)
    }

    fn all_unreaching(&self, reach: Reach, above: &[&Patterns]) -> Vec<Unreaching> {
        let is_meant =
            |pattern: &Pattern| pattern.is_negated && (reach == Reach::OfFiles || !pattern.is_reaching);
        if !self.patterns.iter().any(is_meant) {
            return Vec::new();
        }
        let mut names = Names::of(&self.patterns, above);
        let mut found = Vec::new();
        for (number, pattern) in self.patterns.iter().enumerate().filter(|(_, pattern)| is_meant(pattern)) {
            let behind = match pattern.is_reaching {
                true => self.excluded_above(number, &mut names.steps_left),
                false => self.without_purpose(number, &mut names),
            };
            found.extend(behind.map(|behind| {
                let behind = &self.patterns[behind];
                let remedy = remedy(pattern, behind, reach);
                Unreaching { pattern: pattern.text.to_vec(), behind: behind.text.to_vec(), remedy }
            }));
        }
        found
    }

    /// The earlier pattern that excludes a directory on the way to what a pattern names.
    fn excluded_above(&self, number: usize, left: &mut usize) -> Option<usize> {
        let path = self.patterns[number].glob.prefix();
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
        for end in ends {
            *left = left.checked_sub(self.wild.len() + 1)?;
            let last = self.last_match(&path[..end], PathKind::Directory, |earlier, _| earlier < number);
            if let Some(last) = last.filter(|last| !self.patterns[*last].is_negated) {
                return Some(last);
            }
        }
        None
    }

    /// The last earlier pattern for directories, where the pattern is an exception from no earlier one.
    fn without_purpose(&self, number: usize, names: &mut Names) -> Option<usize> {
        let Names { own, above, way_back, steps_left } = names;
        let exception = own[number].as_ref().filter(|name| !name.is_any())?;
        let mut behind = None;
        for (earlier, pattern) in self.patterns[..number].iter().enumerate().filter(|(_, it)| !it.is_negated)
        {
            let name = own[earlier].as_ref()?;
            if pattern.is_of_everything() && way_back.is_none_or(|number| number < earlier) {
                return Some(earlier);
            }
            if name.meets(exception, steps_left) {
                return None;
            }
            if pattern.is_for_directories || name.is_literal() {
                behind = Some(earlier);
            }
        }
        for name in above.iter().filter(|_| behind.is_some()) {
            if name.as_ref()?.meets(exception, steps_left) {
                return None;
            }
        }
        behind
    }
}

impl Names {
    fn of(patterns: &[Pattern], above: &[&Patterns]) -> Names {
        let mut steps_left = STEPS_MAX;
        let mut name = |pattern: &Pattern| {
            steps_left = steps_left.checked_sub(pattern.text.len())?;
            Name::of(pattern)
        };
        let own = patterns.iter().map(&mut name).collect();
        let ordinary = above.iter().flat_map(|file| &file.patterns).filter(|pattern| !pattern.is_negated);
        let above = ordinary.map(&mut name).collect();
        let way_back = patterns.iter().rposition(|pattern| pattern.is_negated && pattern.is_for_directories);
        Names { own, above, way_back, steps_left }
    }
}

impl Name {
    /// The last component of a pattern, whatever the case of its letters; none where it cannot be taken alone.
    fn of(pattern: &Pattern) -> Option<Name> {
        let glob = Glob::parse(last_component(body(pattern)), Case::Insensitive).ok()?;
        Some(Name(glob.into_tokens()))
    }

    fn is_any(&self) -> bool {
        self.0.iter().all(is_run)
    }

    fn is_literal(&self) -> bool {
        self.0.iter().all(|token| matches!(token, Token::Byte(_)))
    }

    /// Whether some name matches both; also where too many steps would be needed.
    fn meets(&self, other: &Name, left: &mut usize) -> bool {
        let (own, other) = (&self.0, &other.0);
        let Some(rest) = left.checked_sub((own.len() + 1) * (other.len() + 1)) else { return true };
        *left = rest;
        // From the ends on, whether what is left of both has a name in common.
        let mut below = vec![false; other.len() + 1];
        for at in (0..=own.len()).rev() {
            let mut row = vec![false; other.len() + 1];
            for beside in (0..=other.len()).rev() {
                row[beside] = match (own.get(at), other.get(beside)) {
                    (None, None) => true,
                    (Some(token), next) if is_run(token) => {
                        below[beside] || (next.is_some() && row[beside + 1])
                    }
                    (next, Some(token)) if is_run(token) => {
                        row[beside + 1] || (next.is_some() && below[beside])
                    }
                    (Some(token), Some(next)) => below[beside + 1] && have_a_byte(token, next),
                    _ => false,
                };
            }
            below = row;
        }
        below[0]
    }
}

impl Pattern {
    /// Whether it is compared with what is in any directory.
    fn is_anywhere(&self) -> bool {
        self.scope == Scope::Name || self.glob.begins_anywhere()
    }

    /// Whether it matches whatever there is.
    fn is_of_everything(&self) -> bool {
        self.is_anywhere() && body(self).iter().all(|byte| matches!(byte, b'*' | b'/'))
    }
}

fn is_run(token: &Token) -> bool {
    matches!(token, Token::Star | Token::Components | Token::Rest)
}

fn have_a_byte(token: &Token, other: &Token) -> bool {
    match (token, other) {
        (Token::Byte(byte), other) | (other, Token::Byte(byte)) => other.takes(*byte),
        _ => (0..=u8::MAX).any(|byte| token.takes(byte) && other.takes(byte)),
    }
}

/// A pattern as it was written, without `!` and a `/` at its end.
fn body(pattern: &Pattern) -> &[u8] {
    let text = pattern.text.strip_prefix(b"!").filter(|_| pattern.is_negated).unwrap_or(&*pattern.text);
    text.strip_suffix(b"/").unwrap_or(text)
}

fn last_component(body: &[u8]) -> &[u8] {
    body.rsplit(|byte| *byte == b'/').next().unwrap_or(body)
}

fn remedy(pattern: &Pattern, behind: &Pattern, reach: Reach) -> String {
    let (own, above) = (body(pattern), body(behind));
    let above = above.strip_prefix(b"/").unwrap_or(above);
    let name = last_component(above);
    if behind.is_of_everything() {
        return "write '!*/' before it".to_owned();
    }
    let contents = match behind.is_anywhere() {
        true => [b"**/".as_slice(), name, b"/*"].concat(),
        false => [b"/".as_slice(), above, b"/*"].concat(),
    };
    let in_place = format!("{} in place of {}", shown(&contents), shown(&behind.text));
    if reach == Reach::OfFiles {
        return format!("write {in_place}");
    }
    let mut own = own;
    while let Some(rest) = own.strip_prefix(b"**/") {
        own = rest;
    }
    if !behind.is_anywhere() {
        return format!("write {}", shown(&[b"!/".as_slice(), above, b"/**/", own].concat()));
    }
    let within = own.strip_prefix(name).and_then(|own| own.strip_prefix(b"/")).unwrap_or(own);
    let place = [b"!/path/to/".as_slice(), name, b"/", within].concat();
    format!("write where it is, as in {}, or {in_place}", shown(&place))
}

fn shown(pattern: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(pattern).chars().take(200).collect();
    format!("'{}'", text.escape_debug())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn patterns(lines: &[&str]) -> Patterns {
        let mut patterns = Patterns::new();
        lines.iter().for_each(|line| patterns.add(line.as_bytes(), Case::Sensitive).unwrap());
        patterns
    }

    fn told(lines: &[&str]) -> Vec<(String, String, String)> {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let told = patterns(lines).unreaching().into_iter();
        told.map(|it| (text(it.pattern), text(it.behind), it.remedy)).collect()
    }

    #[test]
    fn exceptions_that_do_not_reach_are_told_with_what_to_write() {
        let anywhere = "write where it is, as in '!/path/to/cache/keep.txt', or '**/cache/*' in place of";
        let cases: [(&[&str], &str, &str, String); 7] = [
            (&["cache", "!keep.txt"], "!keep.txt", "cache", format!("{anywhere} 'cache'")),
            (&["cache/", "!**/keep.txt"], "!**/keep.txt", "cache/", format!("{anywhere} 'cache/'")),
            (
                &["**/cache", "!**/cache/keep.txt"],
                "!**/cache/keep.txt",
                "**/cache",
                format!("{anywhere} '**/cache'"),
            ),
            (
                &["/home/me/cache", "!keep.txt"],
                "!keep.txt",
                "/home/me/cache",
                "write '!/home/me/cache/**/keep.txt'".to_owned(),
            ),
            (&["*.o", "a", "b", "!x.c"], "!x.c", "b", {
                "write where it is, as in '!/path/to/b/x.c', or '**/b/*' in place of 'b'".to_owned()
            }),
            (&["*", "!*.txt"], "!*.txt", "*", "write '!*/' before it".to_owned()),
            (&["*.d/", "!x.c"], "!x.c", "*.d/", {
                "write where it is, as in '!/path/to/*.d/x.c', or '**/*.d/*' in place of '*.d/'".to_owned()
            }),
        ];
        for (lines, pattern, behind, remedy) in cases {
            assert_eq!(told(lines), [(pattern.to_owned(), behind.to_owned(), remedy)], "{lines:?}");
        }
    }

    #[test]
    fn exceptions_with_another_purpose_are_not_told() {
        let cases: [&[&str]; 11] = [
            &["*.tmp", "!keep.tmp"],
            &["cache", "*.TXT", "!keep.txt"],
            &["cache", "!cache"],
            &["cache", "!/cache/keep"],
            &["!keep.txt", "cache"],
            &["*.o", "!keep.c"],
            &["*", "!*/", "!*.txt"],
            &["/home/me/tmp/*", "!keep"],
            &["x", "a[bc]d*", "!*[c]de"],
            &["**/cache/*", "!keep.txt"],
            &["cache"],
        ];
        for lines in cases {
            assert_eq!(told(lines), [], "{lines:?}");
        }
    }

    #[test]
    fn in_a_file_no_pattern_reaches() {
        let told = |lines: &[&str], above: &[&str]| -> Vec<String> {
            let above = patterns(above);
            let told = patterns(lines).unreaching_in_file(&[&above]);
            told.iter().map(ToString::to_string).collect()
        };
        let said = told(&["/cache", "!/cache/keep.txt"], &[]);
        let expected = "the pattern '!/cache/keep.txt' says nothing of what is in a directory that '/cache' matches: \
                        write '/cache/*' in place of '/cache'";
        assert_eq!(said, [expected]);
        assert!(
            told(&["cache", "!a/cache/b/*.txt"], &[])[0].ends_with("write '**/cache/*' in place of 'cache'")
        );
        assert_eq!(told(&["cache", "!keep.txt"], &[]).len(), 1);
        // An exception from what a file above says.
        assert_eq!(told(&["cache", "!keep.txt"], &["*.txt"]), [""; 0]);
        for lines in [["cache/*", "!cache/keep"], ["*.o", "!/src/keep.o"], ["/cache/", "!/cache"]] {
            assert_eq!(told(&lines, &[]), [""; 0], "{lines:?}");
        }
    }

    #[test]
    fn what_is_advised_does_what_was_meant() {
        for lines in [&["/home/cache", "!/home/cache/**/keep.txt"][..], &["**/cache/*", "!keep.txt"]] {
            let advised = patterns(lines);
            assert!(!advised.excludes(b"/home/cache/keep.txt", PathKind::Other), "{lines:?}");
            assert!(advised.excludes(b"/home/cache/other", PathKind::Other), "{lines:?}");
        }
    }

    #[test]
    fn long_lists_take_a_bounded_time() {
        let mut long = Patterns::new();
        for number in 0..20_000 {
            long.add(format!("{number}{}", "x".repeat(200)).as_bytes(), Case::Sensitive).unwrap();
            long.add(format!("!y{number}{}", "x".repeat(200)).as_bytes(), Case::Sensitive).unwrap();
        }
        assert!(long.unreaching().len() < 1000);
    }

    proptest! {
        /// What matches both is found, whatever the patterns.
        #[test]
        fn names_that_match_both_let_them_meet(
            own in "[ab*?]{1,6}", other in "([ab*?]|\\[ab\\]|\\[!a\\]){1,6}", name in "[abc]{1,6}",
        ) {
            let of = |text: &str| Name::of(&patterns(&[text]).patterns[0]).unwrap();
            let matches = |text: &str| patterns(&[text]).excludes(name.as_bytes(), PathKind::Other);
            let meets = of(&own).meets(&of(&other), &mut usize::MAX.clone());
            prop_assert!(meets || !(matches(&own) && matches(&other)), "{own} {other} {name}");
            prop_assert_eq!(meets, of(&other).meets(&of(&own), &mut usize::MAX.clone()));
        }
    }
}
