//! Lists of paths in files.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::Args;
use dr_core::{Case, Match, PathKind, Patterns};

use crate::error::{CliError, Result};

/// Files that hold the paths to save.
#[derive(Debug, Default, Args)]
pub(crate) struct PathListArgs {
    /// Save also the paths in FILE, or in standard input for '-': one on each line; lines that begin with # and empty
    /// ones are none, *, ? and [a-z] stand for what is there (may be repeated)
    #[arg(long, value_name = "FILE")]
    files_from: Vec<PathBuf>,
    /// The same, with each line as it is (may be repeated)
    #[arg(long, value_name = "FILE")]
    files_from_verbatim: Vec<PathBuf>,
    /// The same, with a zero byte behind each path, as find -print0 writes them (may be repeated)
    #[arg(long, value_name = "FILE")]
    files_from_raw: Vec<PathBuf>,
}

impl PathListArgs {
    /// Whether there are none.
    pub(crate) fn is_empty(&self) -> bool {
        let files = [&self.files_from, &self.files_from_verbatim, &self.files_from_raw];
        files.into_iter().all(Vec::is_empty)
    }

    /// All paths that stand in the files.
    pub(crate) fn read(&self) -> Result<Vec<PathBuf>> {
        let files = [&self.files_from, &self.files_from_verbatim, &self.files_from_raw];
        if files.into_iter().flatten().filter(|file| is_standard_input(file)).count() > 1 {
            return Err(CliError::usage("standard input can hold one list of paths only"));
        }
        let mut paths = Vec::new();
        for file in &self.files_from {
            let text = read(file)?;
            for line in text.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(&text).split(|byte| *byte == b'\n') {
                let line = line.trim_ascii();
                if !line.is_empty() && line[0] != b'#' {
                    paths.extend(expand(path_of(line)));
                }
            }
        }
        for file in &self.files_from_verbatim {
            let text = read(file)?;
            let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
            paths.extend(lines.map(path_of));
        }
        for file in &self.files_from_raw {
            let text = read(file)?;
            let names = text.strip_suffix(b"\0").unwrap_or(&text);
            if names.is_empty() {
                continue;
            }
            paths.extend(names.split(|byte| *byte == 0).map(path_of));
        }
        match paths.iter().find(|path| path.as_os_str().as_bytes().contains(&0)) {
            Some(path) => Err(CliError::usage("a path holds a zero byte")
                .with_path(path)
                .with_remedy("a list with zero bytes between its paths is for --files-from-raw")),
            None => Ok(paths),
        }
    }
}

fn is_standard_input(file: &Path) -> bool {
    file.as_os_str() == "-"
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let text = match is_standard_input(file) {
        true => {
            let mut text = Vec::new();
            std::io::stdin().lock().read_to_end(&mut text).map(|_| text)
        }
        false => std::fs::read(file),
    };
    text.map_err(|error| {
        CliError::usage("the list of paths cannot be read").with_path(file).with_cause(&error)
    })
}

fn path_of(bytes: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(bytes.to_vec()))
}

fn is_wild(component: &OsStr) -> bool {
    component.as_bytes().iter().any(|byte| matches!(byte, b'*' | b'?' | b'['))
}

/// The paths that wildcards stand for, ascending; the path itself where it has none, is there as it is written, or stands
/// for nothing: then it is missed.
fn expand(path: PathBuf) -> Vec<PathBuf> {
    if !path.iter().any(is_wild) || path.symlink_metadata().is_ok() {
        return vec![path];
    }
    let mut found = vec![PathBuf::new()];
    for component in path.components() {
        let component = component.as_os_str();
        found = match is_wild(component) {
            false => found.into_iter().map(|above| above.join(component)).collect(),
            true => found.into_iter().flat_map(|above| matching(&above, component)).collect(),
        };
    }
    found.retain(|path| path.symlink_metadata().is_ok());
    if found.is_empty() { vec![path] } else { found }
}

/// What in a directory a pattern for one name matches.
fn matching(directory: &Path, pattern: &OsStr) -> Vec<PathBuf> {
    let mut patterns = Patterns::new();
    if patterns.add(&[b"/", pattern.as_bytes()].concat(), Case::Sensitive).is_err() {
        return Vec::new();
    }
    let place = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let Ok(entries) = std::fs::read_dir(place) else { return Vec::new() };
    let names = entries.filter_map(std::result::Result::ok).map(|entry| entry.file_name());
    let fits = |name: &OsString| patterns.matches(name.as_bytes(), PathKind::Directory) == Match::Excluded;
    let mut found: Vec<PathBuf> = names.filter(fits).map(|name| directory.join(name)).collect();
    found.sort_unstable();
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wildcards_stand_for_what_is_there() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a1/x", "a2/x", "a2/y", "b1/x", "c[1]/x"] {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        }
        let expanded = |pattern: &str| -> Vec<String> {
            let found = expand(folder.path().join(pattern)).into_iter();
            let name = |path: PathBuf| path.strip_prefix(folder.path()).unwrap().to_str().unwrap().to_owned();
            found.map(name).collect()
        };
        assert_eq!(expanded("a?/x"), ["a1/x", "a2/x"]);
        assert_eq!(expanded("a*/y"), ["a2/y"]);
        assert_eq!(expanded("[!a]1/*"), ["b1/x"]);
        assert_eq!(expanded("c[1]/x"), ["c[1]/x"]);
        assert_eq!(expanded("d*"), ["d*"]);
        assert_eq!(expanded("plain"), ["plain"]);
    }
}
