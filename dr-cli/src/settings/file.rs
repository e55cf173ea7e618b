//! Files of settings: where they are, whether they may be trusted, and what stands where in them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use crate::error::{CliError, Result};

/// The longest file of settings, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The machine's settings.
const SYSTEM_FILE: &str = "/etc/dr/dr.toml";

/// Where something stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    file: Arc<PathBuf>,
    line: usize,
}

impl fmt::Display for Place {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}:{}", self.file.display(), self.line)
    }
}

impl Place {
    /// An error about what stands here.
    pub(crate) fn error(&self, why: impl fmt::Display) -> CliError {
        CliError::config(format!("{self}: {why}"))
    }
}

/// A value and where it stands.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    pub(crate) place: Place,
    pub(crate) value: Value,
}

/// A table: what stands under each key.
pub(crate) type Table = BTreeMap<String, Node>;

/// What a file holds.
#[derive(Debug, Clone)]
pub(crate) enum Value {
    /// A string.
    Text(String),
    /// A number or a date, as it is written.
    Literal(String),
    /// `true` or `false`.
    Bool(bool),
    /// A list.
    List(Vec<Node>),
    /// A table.
    Table(Table),
}

impl Node {
    /// The text; what else it is is an error.
    pub(crate) fn text(&self, what: &str) -> Result<&str> {
        match &self.value {
            Value::Text(text) => Ok(text),
            _ => Err(self.place.error(format!("{what} must be a string"))),
        }
    }

    /// The table; what else it is is an error.
    pub(crate) fn table(&self, what: &str) -> Result<&Table> {
        match &self.value {
            Value::Table(table) => Ok(table),
            _ => Err(self.place.error(format!("{what} must be a table"))),
        }
    }

    /// A list of strings that names a program and its arguments.
    pub(crate) fn words(&self, what: &str) -> Result<Vec<String>> {
        let wrong =
            || self.place.error(format!("{what} must be a list of strings: a program and its arguments"));
        let Value::List(list) = &self.value else { return Err(wrong()) };
        let words: Result<Vec<String>> =
            list.iter().map(|word| word.text(what).map(str::to_owned).map_err(|_| wrong())).collect();
        let words = words?;
        if words.is_empty() { Err(wrong()) } else { Ok(words) }
    }
}

/// A file of settings that was read.
#[derive(Debug, Clone)]
pub(crate) struct SettingsFile {
    pub(crate) path: PathBuf,
    pub(crate) root: Table,
    /// Others than its owner may read it.
    pub(crate) is_public: bool,
}

/// The files that are there: the one that was named, else the user's and the machine's.
pub(crate) fn find(
    named: Option<&Path>,
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<Vec<SettingsFile>> {
    if let Some(path) = named {
        return match File::open(path) {
            Ok(file) => Ok(vec![read_open(path, file)?]),
            Err(error) => Err(failed(path, &error).with_remedy("correct --config")),
        };
    }
    let found: Result<Vec<_>> = places(variable).iter().map(|path| read(path)).collect();
    Ok(found?.into_iter().flatten().collect())
}

/// Where files of settings are looked for, the nearest first.
pub(crate) fn places(variable: &dyn Fn(&str) -> Option<OsString>) -> Vec<PathBuf> {
    let absolute = |name: &str| variable(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let base = absolute("XDG_CONFIG_HOME").or_else(|| absolute("HOME").map(|home| home.join(".config")));
    base.map(|base| base.join("dr/dr.toml")).into_iter().chain([PathBuf::from(SYSTEM_FILE)]).collect()
}

/// Reads a file; `None` where there is none, or one that is for others: the machine's may hold what only root may know.
fn read(path: &Path) -> Result<Option<SettingsFile>> {
    match File::open(path) {
        Ok(file) => read_open(path, file).map(Some),
        Err(error) if is_nothing(&error) => Ok(None),
        Err(error) => Err(failed(path, &error)),
    }
}

fn is_nothing(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied)
}

fn failed(path: &Path, error: &io::Error) -> CliError {
    CliError::config("the file of settings cannot be read").with_path(path).with_cause(error)
}

fn read_open(path: &Path, file: File) -> Result<SettingsFile> {
    let failed = |error: io::Error| failed(path, &error);
    let metadata = file.metadata().map_err(failed)?;
    refuse_foreign(path, &metadata)?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(CliError::config("the file of settings is larger than 1 MiB").with_path(path));
    }
    let text = String::from_utf8(bytes)
        .map_err(|_| CliError::config("the file of settings is not UTF-8").with_path(path))?;
    let is_public = metadata.is_file() && metadata.permissions().mode() & 0o044 != 0;
    Ok(SettingsFile { path: path.to_owned(), root: parse(path, &text)?, is_public })
}

/// A profile runs programs: whoever can write it can do what this user can.
fn refuse_foreign(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    let me = rustix::process::geteuid().as_raw();
    let why = if metadata.uid() != me && metadata.uid() != 0 {
        format!("it belongs to another user (number {})", metadata.uid())
    } else if metadata.is_file() && metadata.permissions().mode() & 0o002 != 0 {
        "everybody may write it".to_owned()
    } else {
        return Ok(());
    };
    Err(CliError::config(format!("the file of settings is not trusted, because {why}"))
        .with_path(path)
        .with_remedy("profiles run programs: make it yours alone, with 'chown' and 'chmod 600'"))
}

/// Reads the text of a file.
fn parse(path: &Path, text: &str) -> Result<Table> {
    let reader = Reader { file: Arc::new(path.to_owned()), text };
    match DeTable::parse(text) {
        Ok(table) => Ok(reader.table(table.get_ref())),
        Err(error) => {
            let place = reader.place(error.span().map_or(0, |span| span.start));
            Err(place.error(format!("this is no TOML: {}", error.message())))
        }
    }
}

/// Turns spans into lines.
struct Reader<'t> {
    file: Arc<PathBuf>,
    text: &'t str,
}

impl Reader<'_> {
    fn place(&self, at: usize) -> Place {
        let before = self.text.as_bytes().iter().take(at);
        Place { file: self.file.clone(), line: 1 + before.filter(|byte| **byte == b'\n').count() }
    }

    fn table(&self, table: &DeTable<'_>) -> Table {
        let entry = |(key, value): (&Spanned<std::borrow::Cow<'_, str>>, &Spanned<DeValue<'_>>)| {
            let node = Node { place: self.place(key.span().start), value: self.value(value.get_ref()) };
            (key.get_ref().to_string(), node)
        };
        table.iter().map(entry).collect()
    }

    fn value(&self, value: &DeValue<'_>) -> Value {
        match value {
            DeValue::String(text) => Value::Text(text.to_string()),
            DeValue::Integer(number) => Value::Literal(
                i128::from_str_radix(&number.as_str().replace('_', ""), number.radix())
                    .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
            ),
            DeValue::Float(number) => Value::Literal(number.as_str().to_owned()),
            DeValue::Boolean(value) => Value::Bool(*value),
            DeValue::Datetime(time) => Value::Literal(time.to_string()),
            DeValue::Array(list) => Value::List(
                list.iter()
                    .map(|item| Node {
                        place: self.place(item.span().start),
                        value: self.value(item.get_ref()),
                    })
                    .collect(),
            ),
            DeValue::Table(table) => Value::Table(self.table(table)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_know_their_lines() {
        let text = "a = 1\n[b]\nc = [\"x\",\n  true]\nd = 0x1_0\n[b.e]\nf = 2026-11-20\n";
        let root = parse(Path::new("/dr.toml"), text).unwrap();
        assert_eq!(root["a"].place.to_string(), "/dr.toml:1");
        let b = root["b"].table("b").unwrap();
        let Value::List(list) = &b["c"].value else { unreachable!() };
        assert_eq!((list[0].place.line, list[1].place.line), (3, 4));
        assert!(matches!(&b["d"].value, Value::Literal(number) if number == "16"));
        let e = b["e"].table("e").unwrap();
        assert!(matches!(&e["f"].value, Value::Literal(date) if date == "2026-11-20"));
        assert_eq!(e["f"].place.line, 7);
    }

    #[test]
    fn wrong_text_is_named_by_its_line() {
        let error = parse(Path::new("/dr.toml"), "a = 1\nb = [\nc = 2\n").unwrap_err();
        assert!(error.details().message.starts_with("/dr.toml:"), "{error:?}");
        let twice = parse(Path::new("/dr.toml"), "a = 1\na = 2\n").unwrap_err();
        assert!(twice.details().message.starts_with("/dr.toml:2: this is no TOML: duplicate"), "{twice:?}");
    }

    #[test]
    fn a_file_that_others_may_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dr.toml");
        fs::write(&path, "").unwrap();
        for (mode, is_public) in
            [(0o600, Some(false)), (0o660, Some(true)), (0o644, Some(true)), (0o602, None)]
        {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let read = read(&path);
            assert_eq!(read.ok().flatten().map(|file| file.is_public), is_public, "{mode:o}");
        }
        assert!(read(&folder.path().join("none")).unwrap().is_none());
    }

    #[test]
    fn files_are_looked_for_where_the_desktop_says() {
        let of = |variables: &'static [(&'static str, &'static str)]| {
            let known = move |name: &str| {
                variables.iter().find(|(key, _)| *key == name).map(|(_, value)| OsString::from(value))
            };
            places(&known).iter().map(|path| path.display().to_string()).collect::<Vec<_>>()
        };
        assert_eq!(of(&[("HOME", "/h")]), ["/h/.config/dr/dr.toml", SYSTEM_FILE]);
        assert_eq!(of(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")]), ["/c/dr/dr.toml", SYSTEM_FILE]);
        assert_eq!(of(&[("XDG_CONFIG_HOME", "c")]), [SYSTEM_FILE]);
    }
}
