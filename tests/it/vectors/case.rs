//! The files of the vectors: sections of `name = value` lines, and the bytes in them.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use dr_core::internals::Fields;

/// One section of a file: `name = value` lines in order.
#[derive(Debug, Default, Clone)]
pub(super) struct Case {
    pub(super) title: String,
    pub(super) values: Fields,
}

impl Case {
    pub(super) fn new(title: &str) -> Case {
        Case { title: title.to_owned(), values: Fields::new() }
    }

    pub(super) fn with(mut self, name: &str, value: impl ToString) -> Case {
        self.values.push((name.to_owned(), value.to_string()));
        self
    }

    pub(super) fn with_hex(self, name: &str, bytes: &[u8]) -> Case {
        self.with(name, to_hex(bytes))
    }

    /// What the bytes mean.
    pub(super) fn meaning(mut self, fields: Fields) -> Case {
        self.values.extend(fields.into_iter().map(|(name, value)| (format!("is {name}"), value)));
        self
    }

    pub(super) fn text(&self, name: &str) -> &str {
        let found = self.values.iter().find(|(known, _)| known == name);
        found.map_or_else(|| panic!("[{}] has no {name}", self.title), |(_, value)| value)
    }

    pub(super) fn hex(&self, name: &str) -> Vec<u8> {
        from_hex(self.text(name))
    }

    pub(super) fn array<const N: usize>(&self, name: &str) -> [u8; N] {
        self.hex(name).try_into().unwrap()
    }

    pub(super) fn number<N: std::str::FromStr>(&self, name: &str) -> N {
        self.text(name).parse().unwrap_or_else(|_| panic!("[{}]: {name} is no number", self.title))
    }

    pub(super) fn all<'c>(&'c self, name: &'c str) -> impl Iterator<Item = &'c str> {
        self.values.iter().filter(move |(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(super) fn expected(&self) -> Fields {
        let meaning =
            |(name, value): &(String, String)| Some((name.strip_prefix("is ")?.to_owned(), value.clone()));
        self.values.iter().filter_map(meaning).collect()
    }

    /// Stops the test unless every `reject` line's change of the bytes is refused.
    pub(super) fn assert_rejects(&self, read: impl Fn(&[u8]) -> bool) {
        let bytes = self.hex("bytes");
        for change in self.all("reject") {
            assert!(!read(&changed(&bytes, change)), "[{}] is read after `{change}`", self.title);
        }
    }
}

/// The bytes after `flip BIT`, `truncate LENGTH`, `append HEX` or `replace HEX`.
fn changed(bytes: &[u8], change: &str) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    match change.split_once(' ').unwrap() {
        ("flip", bit) => {
            let bit: usize = bit.parse().unwrap();
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        ("truncate", length) => bytes.truncate(length.parse().unwrap()),
        ("append", more) => bytes.extend(from_hex(more)),
        ("replace", other) => bytes = from_hex(other),
        _ => panic!("there is no change `{change}`"),
    }
    bytes
}

pub(super) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

pub(super) fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

pub(super) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors")
}

pub(super) fn cases(file: &str) -> Vec<Case> {
    let text = fs::read_to_string(folder().join(file)).unwrap();
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        match line.strip_prefix('[') {
            Some(title) => cases.push(Case::new(title.trim_end_matches(']'))),
            None => {
                let (name, value) = line.split_once(" =").unwrap();
                cases.last_mut().unwrap().values.push((name.to_owned(), value.trim_start().to_owned()));
            }
        }
    }
    assert!(!cases.is_empty(), "{file} is empty");
    cases
}

pub(super) fn write(file: &str, about: &str, cases: &[Case]) {
    let mut text = format!("# {about}\n");
    for case in cases {
        write!(text, "\n[{}]\n", case.title).unwrap();
        case.values
            .iter()
            .for_each(|(name, value)| writeln!(text, "{}", format!("{name} = {value}").trim_end()).unwrap());
    }
    fs::write(folder().join(file), text).unwrap();
}
