//! JSON for programs. Fields are only ever added; where one changes its meaning, `schema` changes.

use std::io::{self, Write};
use std::path::PathBuf;

use std::os::unix::ffi::OsStrExt;

use dr_core::{Origin, Problem, ProblemKind, Relation, Snapshot, Totals};
use serde::Serialize;

use crate::error::Details;
use crate::instant;

/// The version of every object that is written.
pub(crate) const SCHEMA: u32 = 1;

/// How many digits of an id people are shown.
pub(crate) const SHORT_ID_DIGITS: usize = 8;

/// Writes a value on a line of its own.
pub(crate) fn write_line(to: &mut (impl Write + ?Sized), value: &impl Serialize) -> io::Result<()> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    to.write_all(&line)
}

/// The beginning of an id.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORT_ID_DIGITS).unwrap_or(id)
}

/// Bytes that may not be text, in base64; `None` where they are text, which then stands beside this.
pub(crate) fn unless_text(bytes: &[u8]) -> Option<String> {
    std::str::from_utf8(bytes).is_err().then(|| base64(bytes))
}

/// Base64 with padding. Source: RFC 4648, section 4.
pub(crate) fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        for digit in 0..4 {
            let value = (bits >> (18 - 6 * digit)) & 63;
            text.push(if digit <= group.len() { char::from(DIGITS[value as usize]) } else { '=' });
        }
    }
    text
}

/// The last object on standard error of every run that did not succeed.
#[derive(Debug, Serialize)]
pub(crate) struct ExitError<'a> {
    message_type: &'static str,
    schema: u32,
    code: u8,
    error_code: &'a str,
    message: &'a str,
    object: Option<&'a str>,
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_b64: Option<String>,
    remedy: Option<&'a str>,
    causes: &'a [String],
}

impl<'a> ExitError<'a> {
    /// Describes a failure.
    pub(crate) fn new(details: &'a Details) -> ExitError<'a> {
        ExitError {
            message_type: "exit_error",
            schema: SCHEMA,
            code: details.code.number(),
            error_code: details.error_code,
            message: &details.message,
            object: details.object.as_deref(),
            path: details.path.as_ref().map(|path| path.to_string_lossy().into_owned()),
            path_b64: details.path.as_ref().and_then(|path| unless_text(path.as_os_str().as_bytes())),
            remedy: details.remedy.as_deref(),
            causes: &details.causes,
        }
    }
}

/// Something that is no failure.
#[derive(Debug, Serialize)]
pub(crate) struct Warning<'a> {
    message_type: &'static str,
    schema: u32,
    message: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    item: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_b64: Option<String>,
}

impl<'a> Warning<'a> {
    /// Warns.
    pub(crate) fn new(message: &'a str) -> Warning<'a> {
        Warning { message_type: "warning", schema: SCHEMA, message, item: None, item_b64: None }
    }

    /// Warns of something about a path.
    pub(crate) fn of_path(path: &[u8], message: &'a str) -> Warning<'a> {
        let item = Some(String::from_utf8_lossy(path).into_owned());
        Warning { item, item_b64: unless_text(path), ..Warning::new(message) }
    }
}

/// Something that was not asked for, and is no warning.
#[derive(Debug, Serialize)]
pub(crate) struct Note<'a> {
    message_type: &'static str,
    schema: u32,
    message: &'a str,
}

impl<'a> Note<'a> {
    /// Notes something.
    pub(crate) fn new(message: &'a str) -> Note<'a> {
        Note { message_type: "note", schema: SCHEMA, message }
    }
}

/// One path that is missing, or was not saved or restored as it was; on standard error.
#[derive(Debug, Serialize)]
pub(crate) struct ItemError<'a> {
    message_type: &'static str,
    schema: u32,
    during: &'a str,
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_b64: Option<String>,
    kind: &'static str,
    message: &'a str,
}

impl<'a> ItemError<'a> {
    /// Describes a problem.
    pub(crate) fn new(during: &'a str, problem: &'a Problem) -> ItemError<'a> {
        ItemError::of_path(during, &problem.path, kind_name(problem.kind), &problem.detail)
    }

    /// Describes a path that cannot be read.
    pub(crate) fn of_path(
        during: &'a str,
        path: &[u8],
        kind: &'static str,
        message: &'a str,
    ) -> ItemError<'a> {
        ItemError {
            message_type: "error",
            schema: SCHEMA,
            during,
            item: String::from_utf8_lossy(path).into_owned(),
            item_b64: unless_text(path),
            kind,
            message,
        }
    }
}

fn kind_name(kind: ProblemKind) -> &'static str {
    match kind {
        ProblemKind::Missing => "missing",
        ProblemKind::Unreadable => "unreadable",
        ProblemKind::Vanished => "vanished",
        ProblemKind::Changed => "changed",
        ProblemKind::Attributes => "attributes",
        ProblemKind::Damaged => "damaged",
        ProblemKind::NotRestored => "not_restored",
        ProblemKind::Skipped => "skipped",
        _ => "other",
    }
}

/// A path that is lost.
#[derive(Debug, Serialize)]
pub(crate) struct LostRecord {
    item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    item_b64: Option<String>,
    message: String,
}

impl LostRecord {
    /// Describes a loss.
    pub(crate) fn new(problem: &Problem) -> LostRecord {
        LostRecord {
            item: String::from_utf8_lossy(&problem.path).into_owned(),
            item_b64: unless_text(&problem.path),
            message: problem.detail.clone(),
        }
    }
}

/// A snapshot on a line of its own, or in a list of nothing else.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotLine {
    message_type: &'static str,
    schema: u32,
    #[serde(flatten)]
    snapshot: SnapshotRecord,
}

impl SnapshotLine {
    /// Describes a snapshot.
    pub(crate) fn new(snapshot: &Snapshot) -> SnapshotLine {
        SnapshotLine { message_type: "snapshot", schema: SCHEMA, snapshot: SnapshotRecord::new(snapshot) }
    }
}

/// A snapshot.
#[derive(Debug, Serialize)]
pub(crate) struct SnapshotRecord {
    id: String,
    short_id: String,
    time: String,
    finished: String,
    host: String,
    paths: Vec<String>,
    /// Beside `paths` where one of them is not text: each in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    paths_b64: Option<Vec<String>>,
    tags: Vec<String>,
    partial: bool,
    protected: bool,
    forgotten: bool,
    problems: u64,
    parent: Option<String>,
    /// The snapshots that it was made of, where it was.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    origins: Vec<OriginRecord>,
    slot: u64,
    program: String,
    totals: TotalsRecord,
}

/// A snapshot that another one was made of.
#[derive(Debug, Serialize)]
struct OriginRecord {
    relation: &'static str,
    repository: String,
    snapshot: String,
}

impl OriginRecord {
    fn new(origin: &Origin) -> OriginRecord {
        let relation = match origin.relation() {
            Some(Relation::Copy) => "copy",
            Some(Relation::Rewritten) => "rewritten",
            Some(Relation::Rest) => "rest",
            Some(Relation::Merged) => "merged",
            _ => "other",
        };
        OriginRecord { relation, repository: origin.repository(), snapshot: origin.snapshot.to_string() }
    }
}

/// Paths as text, and the bytes of all of them where one is no text.
pub(crate) fn paths_record(paths: &[PathBuf]) -> (Vec<String>, Option<Vec<String>>) {
    let raw = || paths.iter().map(|path| path.as_os_str().as_bytes());
    let is_text = raw().all(|path| std::str::from_utf8(path).is_ok());
    let shown = raw().map(|path| String::from_utf8_lossy(path).into_owned()).collect();
    (shown, (!is_text).then(|| raw().map(base64).collect()))
}

impl SnapshotRecord {
    /// Describes a snapshot.
    pub(crate) fn new(snapshot: &Snapshot) -> SnapshotRecord {
        let id = snapshot.id.to_string();
        let (paths, paths_b64) = paths_record(&snapshot.paths);
        SnapshotRecord {
            short_id: short(&id).to_owned(),
            id,
            time: instant::rfc3339(snapshot.time),
            finished: instant::rfc3339(snapshot.finished),
            host: snapshot.host.clone(),
            paths,
            paths_b64,
            tags: snapshot.tags.clone(),
            partial: snapshot.partial,
            protected: snapshot.protected,
            forgotten: snapshot.forgotten,
            problems: snapshot.problems,
            parent: snapshot.parent.map(|parent| parent.to_string()),
            origins: snapshot.origins.iter().map(OriginRecord::new).collect(),
            slot: snapshot.slot,
            program: snapshot.program.clone(),
            totals: TotalsRecord::new(&snapshot.totals),
        }
    }
}

/// What a snapshot holds and what was new.
#[derive(Debug, Serialize)]
pub(crate) struct TotalsRecord {
    files: u64,
    directories: u64,
    others: u64,
    bytes: u64,
    files_read: u64,
    bytes_read: u64,
    new_chunks: u64,
    new_bytes: u64,
    stored_bytes: u64,
}

impl TotalsRecord {
    /// Describes totals.
    pub(crate) fn new(totals: &Totals) -> TotalsRecord {
        TotalsRecord {
            files: totals.files,
            directories: totals.directories,
            others: totals.others,
            bytes: totals.bytes,
            files_read: totals.files_read,
            bytes_read: totals.bytes_read,
            new_chunks: totals.new_chunks,
            new_bytes: totals.new_bytes,
            stored_bytes: totals.stored_bytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_the_rfcs() {
        let cases = [("", ""), ("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("foobar", "Zm9vYmFy")];
        for (bytes, text) in cases {
            assert_eq!(base64(bytes.as_bytes()), text);
        }
        assert_eq!(base64(&[0xff, 0xfe, 0xfd]), "//79");
        assert_eq!(unless_text(b"text"), None);
        assert_eq!(unless_text(b"\xff").as_deref(), Some("/w=="));
    }

    #[test]
    fn paths_keep_their_bytes() {
        let record = ItemError::of_path("ls", b"/a\xffb", "unreadable", "why");
        let json = serde_json::to_value(record).unwrap();
        assert_eq!(json["item"], "/a\u{fffd}b");
        assert_eq!(json["item_b64"], "L2H/Yg==");
        let plain = serde_json::to_value(ItemError::of_path("ls", b"/a", "unreadable", "why")).unwrap();
        assert!(plain.get("item_b64").is_none());
    }
}
