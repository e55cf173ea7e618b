//! Patterns against a slow and obvious matcher.

use proptest::prelude::*;

use super::patterns::{Case, Match, PathKind, Patterns};

fn patterns(lines: &[&str]) -> Patterns {
    let mut patterns = Patterns::new();
    for line in lines {
        patterns.add(line.as_bytes(), Case::Sensitive).unwrap();
    }
    patterns
}

/// One pattern of known good form: bytes, `?`, `*`, `**` and classes of one byte, without the `/` at its ends.
fn reference_glob(pattern: &[u8], text: &[u8], is_start: bool) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*'] if is_start => true,
        [b'*', b'*', b'/', rest @ ..] if is_start => {
            let below = text.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at + 1);
            reference_glob(rest, text, true)
                || below.into_iter().any(|at| reference_glob(rest, &text[at..], true))
        }
        [b'*', b'*', rest @ ..] => reference_glob(&[b"*", rest].concat(), text, false),
        [b'*', rest @ ..] => {
            let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=end).any(|at| reference_glob(rest, &text[at..], false))
        }
        [b'?', rest @ ..] => {
            text.first().is_some_and(|byte| *byte != b'/') && reference_glob(rest, &text[1..], false)
        }
        [b'[', b'!', byte, b']', rest @ ..] => {
            text.first().is_some_and(|own| own != byte && *own != b'/')
                && reference_glob(rest, &text[1..], false)
        }
        [byte, rest @ ..] => text.first() == Some(byte) && reference_glob(rest, &text[1..], *byte == b'/'),
    }
}

struct Reference {
    is_negated: bool,
    is_for_directories: bool,
    glob: Vec<u8>,
    is_anchored: bool,
}

impl Reference {
    fn parse(line: &str) -> Reference {
        let is_negated = line.starts_with('!');
        let line = line.trim_start_matches('!');
        let is_for_directories = line.ends_with('/');
        let line = line.strip_suffix('/').unwrap_or(line);
        let is_anchored = line.contains('/');
        let mut glob = line.strip_prefix('/').unwrap_or(line).to_owned();
        while glob.contains("***") {
            // More than two stars are two.
            glob = glob.replace("***", "**");
        }
        let glob = glob.into_bytes();
        Reference { is_negated, is_for_directories, glob, is_anchored }
    }

    fn matches(&self, path: &str, kind: PathKind) -> bool {
        let name = path.rsplit('/').next().unwrap();
        let text = if self.is_anchored { &path[1..] } else { name };
        (kind == PathKind::Directory || !self.is_for_directories)
            && reference_glob(&self.glob, text.as_bytes(), true)
    }

    fn is_reaching(&self) -> bool {
        self.is_negated && self.is_anchored && !self.glob.starts_with(b"**/")
    }
}

/// The number of the pattern that excludes a path, from the words of the documentation.
fn reference_excludes(all: &[Reference], path: &str, kind: PathKind) -> Option<usize> {
    let above = match path.rfind('/') {
        Some(0) | None => None,
        Some(slash) => reference_excludes(all, &path[..slash], PathKind::Directory),
    };
    let mut by = above;
    for (number, pattern) in all.iter().enumerate().filter(|(_, pattern)| pattern.matches(path, kind)) {
        match above {
            None => by = (!pattern.is_negated).then_some(number),
            Some(above) if number < above => {}
            Some(_) if !pattern.is_negated => by = Some(number),
            Some(_) if pattern.is_reaching() => by = None,
            Some(_) => {}
        }
    }
    by
}

fn a_component() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => prop::collection::vec(
            prop_oneof![Just("a"), Just("b"), Just("c"), Just("*"), Just("?"), Just("[!a]")], 1..4
        ).prop_map(|parts| parts.concat()),
        1 => Just("**".to_owned()),
    ]
}

fn a_line() -> impl Strategy<Value = String> {
    let parts = prop::collection::vec(a_component(), 1..4);
    (prop::bool::weighted(0.4), prop::bool::ANY, parts, prop::bool::weighted(0.3)).prop_map(
        |(is_negated, is_anchored, parts, is_for_directories)| {
            let (first, last) =
                (if is_anchored { "/" } else { "" }, if is_for_directories { "/" } else { "" });
            format!("{}{first}{}{last}", if is_negated { "!" } else { "" }, parts.join("/"))
        },
    )
}

fn a_path() -> impl Strategy<Value = String> {
    prop::collection::vec("[abc]{1,3}", 1..5).prop_map(|parts| format!("/{}", parts.join("/")))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn select_is_what_the_reference_says(
        lines in prop::collection::vec(a_line(), 1..6),
        paths in prop::collection::vec(a_path(), 1..20),
    ) {
        let all: Vec<Reference> = lines.iter().map(|line| Reference::parse(line)).collect();
        let patterns = patterns(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for path in &paths {
            for kind in [PathKind::Directory, PathKind::Other] {
                let last = all.iter().rfind(|pattern| pattern.matches(path, kind));
                let expected = match last {
                    None => Match::None,
                    Some(pattern) if pattern.is_negated => Match::Included,
                    Some(_) => Match::Excluded,
                };
                prop_assert_eq!(patterns.matches(path.as_bytes(), kind), expected, "{:?} {}", lines, path);
            }
            let is_excluded = reference_excludes(&all, path, PathKind::Other).is_some();
            let found = patterns.excludes(path.as_bytes(), PathKind::Other);
            prop_assert_eq!(found, is_excluded, "{:?} {}", lines, path);
        }
    }

    /// Nothing that is kept lies below a directory that is said to be excluded: a walk may end there.
    #[test]
    fn select_leads_to_all_that_is_kept(
        lines in prop::collection::vec(a_line(), 1..6),
        paths in prop::collection::vec(a_path(), 1..20),
    ) {
        let patterns = patterns(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        for path in paths.iter().filter(|path| !patterns.excludes(path.as_bytes(), PathKind::Other)) {
            for (slash, _) in path.match_indices('/').skip(1) {
                let above = &path[..slash];
                prop_assert!(!patterns.excludes(above.as_bytes(), PathKind::Directory), "{:?} {}", lines, path);
            }
        }
    }

    #[test]
    fn select_takes_any_bytes(
        line in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'['), Just(b'*'), Just(b'/'), Just(b'\\')], 0..24),
        path in prop::collection::vec(prop_oneof![any::<u8>(), Just(b'/')], 0..24),
        case in prop_oneof![Just(Case::Sensitive), Just(Case::Insensitive)],
    ) {
        let mut patterns = Patterns::new();
        let is_taken = patterns.add(&line, case).is_ok();
        prop_assert_eq!(patterns.is_empty(), !is_taken);
        let below = [path.as_slice(), b"/x"].concat();
        if patterns.excludes(&path, PathKind::Directory) {
            prop_assert!(patterns.excludes(&below, PathKind::Other));
        }
    }
}

#[test]
fn select_follows_the_manual() {
    let kind = PathKind::Other;
    let matches =
        |line: &str, path: &str| patterns(&[line]).matches(path.as_bytes(), kind) == Match::Excluded;
    for (line, path) in [
        ("foo", "/a/foo"),
        ("foo ", "/foo"),
        ("foo\\ ", "/foo "),
        ("\\#foo", "/#foo"),
        ("\\!foo", "/!foo"),
        ("f\\*", "/f*"),
        ("*.o", "/a/b.o"),
        ("*.o", "/.o"),
        ("a/b", "/a/b"),
        ("a/**/b", "/a/b"),
        ("a/**/b", "/a/x/y/b"),
        ("a/**", "/a/x/y"),
        ("**/a/b", "/x/y/a/b"),
        ("**", "/x/y"),
        ("x**y", "/xzzy"),
        ("[]a]", "/]"),
        ("[a\\]]", "/]"),
        ("[a-]", "/-"),
        ("[[:digit:]x]", "/7"),
        ("[^a]", "/b"),
        ("[[:]", "/["),
        ("\u{e4}", "/\u{e4}"),
        ("??", "/\u{e4}"),
    ] {
        assert!(matches(line, path), "{line} is to match {path}");
    }
    for (line, path) in [
        ("foo", "/foobar"),
        ("foo\\ ", "/foo"),
        ("foo/", "/foo"),
        ("a/b", "/x/a/b"),
        ("/b", "/a/b"),
        ("a*b", "/a/b"),
        ("/a*b", "/a/b"),
        ("/a[/]b", "/a/b"),
        ("/a?b", "/a/b"),
        ("/a[!x]b", "/a/b"),
        ("a/**", "/a"),
        ("/a**b", "/a/b"),
        ("foo", "/FOO"),
        ("[a-c]", "/d"),
    ] {
        assert!(!matches(line, path), "{line} is not to match {path}");
    }
}

#[test]
fn select_refuses_what_can_never_match_and_says_why() {
    for (line, why) in [
        ("", "names nothing"),
        ("   ", "names nothing"),
        ("/", "names nothing"),
        ("!", "names nothing"),
        ("# x", "comment"),
        ("a\\", "backslash"),
        ("[a", "without its ']'"),
        ("[a-", "without its ']'"),
        ("[", "without its ']'"),
        ("[[:alhpa:]]", "class"),
        ("./a", "'.'"),
        ("../a", "'..'"),
        ("a//b", "two '/'"),
        ("a\0b", "zero byte"),
    ] {
        let error = Patterns::new().add(line.as_bytes(), Case::Sensitive).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(why), "{line:?}: {error}");
    }
}

#[test]
fn select_reads_the_lines_of_a_file() {
    let mut patterns = Patterns::new();
    patterns.add_lines(b"\xEF\xBB\xBF*.o\r\n\n  \n# no pattern\n!keep.o\n/last", Case::Sensitive).unwrap();
    assert!(patterns.excludes(b"/x/y.o", PathKind::Other));
    assert!(!patterns.excludes(b"/x/keep.o", PathKind::Other));
    assert!(patterns.excludes(b"/last", PathKind::Other));
    assert!(!patterns.excludes(b"/x/last", PathKind::Other));

    let mut patterns = Patterns::new();
    let error = patterns.add_lines(b"a\n[b\nc\n", Case::Sensitive).unwrap_err();
    assert!(error.to_string().contains("line 2"), "{error}");
    assert!(patterns.is_empty());
    assert_eq!(patterns.add_good_lines(b"a\n[b\nc\n", Case::Sensitive).len(), 1);
    assert!(patterns.excludes(b"/a", PathKind::Other) && patterns.excludes(b"/c", PathKind::Other));
}

#[test]
fn select_brings_back_what_is_named_below_an_excluded_directory() {
    let patterns = patterns(&["/cache", "!/cache/keep", "*.tmp", "!name", "!/cache/*/deep/*.txt"]);
    for path in ["/cache/keep", "/cache/keep/a/b", "/cache/x/deep/a.txt", "/name"] {
        assert!(!patterns.excludes(path.as_bytes(), PathKind::Other), "{path}");
    }
    for path in ["/cache/other", "/cache/keep/a.tmp", "/cache/name", "/cache/x/deep/a.bin", "/cache/x/a.txt"]
    {
        assert!(patterns.excludes(path.as_bytes(), PathKind::Other), "{path}");
    }
    for path in ["/cache", "/cache/x", "/cache/x/deep"] {
        assert!(!patterns.excludes(path.as_bytes(), PathKind::Directory), "{path}");
    }
    assert!(patterns.excludes(b"/cache/x/shallow", PathKind::Directory));
}

#[test]
fn select_lets_the_last_pattern_decide_also_over_what_was_brought_back() {
    let patterns = patterns(&["!/cache/keep", "/cache"]);
    assert!(patterns.excludes(b"/cache/keep", PathKind::Other));
    assert!(patterns.excludes(b"/cache", PathKind::Directory));
}

#[test]
fn select_folds_case_beyond_ascii_and_leaves_other_bytes_alone() {
    let mut patterns = Patterns::new();
    for line in ["*.JPG", "ÄRGER", "[a-c]X", "[!D]Q"] {
        patterns.add(line.as_bytes(), Case::Insensitive).unwrap();
    }
    patterns.add(b"\xFF\xFEa", Case::Sensitive).unwrap();
    for path in [&b"/a.jpG"[..], "/ärger".as_bytes(), b"/Bx", b"/bX", b"/eq", b"/\xFF\xFEa", b"/\xFF.jpg"] {
        assert!(patterns.excludes(path, PathKind::Other), "{path:?}");
    }
    for path in [&b"/dx"[..], b"/dq", b"/Dq", b"/\xFF\xFEA", b"/\xFE\xFFa"] {
        assert!(!patterns.excludes(path, PathKind::Other), "{path:?}");
    }
}

/// A matcher that tries every way would never come to the end of this test.
#[test]
fn select_takes_no_exponential_time() {
    let path = format!("/{}", "a/".repeat(2000) + &"a".repeat(200));
    for line in [
        "**/a*a*a*a*a*a*a*a*a*a*a*a*a*b".to_owned(),
        format!("{}b", "**/a/".repeat(100)),
        format!("/{}b", "**/*/".repeat(100)),
        format!("{}b", "*a".repeat(90)),
    ] {
        assert_eq!(patterns(&[&line]).matches(path.as_bytes(), PathKind::Other), Match::None);
    }
}
