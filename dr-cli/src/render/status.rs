//! The lines that progress consists of: how far a call is, and what was done with one entry.

use std::time::Duration;

use dr_core::Exclusion;
use serde::Serialize;

use super::meter::coarse;
use super::{json, text};

/// How many characters of the current path are shown.
const PATH_CHARACTERS: usize = 40;

/// How far things are, once a second.
#[derive(Debug, Serialize)]
pub(super) struct StatusLine {
    pub(super) message_type: &'static str,
    pub(super) schema: u32,
    pub(super) operation: &'static str,
    pub(super) stage: Option<&'static str>,
    /// The entries are snapshots.
    #[serde(skip)]
    pub(super) counts_snapshots: bool,
    pub(super) seconds_elapsed: u64,
    pub(super) seconds_remaining: Option<u64>,
    pub(super) entries_done: u64,
    pub(super) entries_total: Option<u64>,
    pub(super) bytes_done: u64,
    pub(super) bytes_total: Option<u64>,
    /// The totals are what is likely.
    pub(super) total_is_estimate: bool,
    /// Between 0 and 1.
    pub(super) part_done: Option<f64>,
    pub(super) bytes_per_second: u64,
    pub(super) bytes_stored: u64,
    pub(super) problem_count: u64,
    pub(super) current_item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) current_item_b64: Option<String>,
    #[serde(skip)]
    pub(super) current: Vec<u8>,
}

impl StatusLine {
    /// The same for people, in one line.
    pub(super) fn text(&self) -> String {
        let mut parts: Vec<String> = Vec::new();
        let about = if self.total_is_estimate { "~" } else { "" };
        match (self.bytes_total, self.part_done) {
            (Some(total), Some(part)) => {
                // A call that goes on is not done, and an estimate less so.
                let percent = ((part * 100.0) as u64).min(if self.total_is_estimate { 99 } else { 100 });
                parts.push(format!("{about}{percent}%"));
                parts.push(format!("{}/{about}{}", text::bytes(self.bytes_done), text::bytes(total)));
            }
            _ => parts.push(text::bytes(self.bytes_done)),
        }
        parts.push(format!("{}/s", text::bytes(self.bytes_per_second)));
        if let Some(left) = self.seconds_remaining {
            parts.push(format!("eta {}", coarse(Duration::from_secs(left))));
        }
        match self.entries_total.filter(|_| self.counts_snapshots) {
            Some(total) => {
                parts.push(format!("{}/{}", self.entries_done, text::count(total, "snapshot", "snapshots")));
            }
            None if self.entries_done == 0 || self.counts_snapshots => {}
            None => parts.push(text::count(self.entries_done, "entry", "entries")),
        }
        if self.problem_count > 0 {
            parts.push(text::count(self.problem_count, "problem", "problems"));
        }
        parts.extend(self.stage.map(str::to_owned));
        let path = text::printable_path(&self.current);
        let hidden = path.chars().count().saturating_sub(PATH_CHARACTERS);
        let end: String = path.chars().skip(hidden).collect();
        parts.push(format!("{}{end}", if hidden > 0 { "…" } else { "" }));
        parts.join("  ").trim_end().to_owned()
    }
}

/// What was done with one entry.
#[derive(Debug, Serialize)]
pub(super) struct VerboseLine {
    pub(super) message_type: &'static str,
    pub(super) schema: u32,
    pub(super) action: &'static str,
    pub(super) item: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) item_b64: Option<String>,
    /// Why it was left out, as a name for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) reason: Option<&'static str>,
    /// The pattern, file or number that says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) rule: Option<String>,
}

impl VerboseLine {
    /// Says what was done with a path.
    pub(super) fn new(action: &'static str, path: &[u8]) -> VerboseLine {
        VerboseLine {
            message_type: "verbose_status",
            schema: json::SCHEMA,
            action,
            item: String::from_utf8_lossy(path).into_owned(),
            item_b64: json::unless_text(path),
            reason: None,
            rule: None,
        }
    }
}

/// Why something was left out: as a name, as the rule that says so, and in words.
pub(super) fn reason_in_words(reason: &Exclusion) -> (&'static str, String, String) {
    let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match reason {
        Exclusion::Pattern(pattern) => {
            ("pattern", shown(pattern), format!("pattern '{}'", text::printable_path(pattern)))
        }
        Exclusion::IgnoreFile { file, pattern } => (
            "ignore_file",
            format!("{}: {}", shown(file), shown(pattern)),
            format!("'{}' in {}", text::printable_path(pattern), text::printable_path(file)),
        ),
        Exclusion::TagFile(name) => {
            ("tag_file", shown(name), format!("beside {}", text::printable_path(name)))
        }
        Exclusion::Larger(bytes) => {
            ("larger_than", bytes.to_string(), format!("more than {}", text::bytes(*bytes)))
        }
        Exclusion::NoDump => ("nodump", "nodump".to_owned(), "marked nodump".to_owned()),
        _ => ("other", String::new(), "left out".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_counts_what_there_is() {
        let mut line = StatusLine {
            message_type: "status",
            schema: json::SCHEMA,
            operation: "prune",
            stage: Some("following trees"),
            counts_snapshots: true,
            seconds_elapsed: 9,
            seconds_remaining: Some(20),
            entries_done: 0,
            entries_total: Some(3),
            bytes_done: 512,
            bytes_total: Some(1024),
            total_is_estimate: true,
            part_done: Some(0.5),
            bytes_per_second: 100,
            bytes_stored: 0,
            problem_count: 0,
            current_item: String::new(),
            current_item_b64: None,
            current: b"snapshot 1a2b3c4d".to_vec(),
        };
        let shown =
            "~50%  512 B/~1.0 KiB  100 B/s  eta 0:20  0/3 snapshots  following trees  snapshot 1a2b3c4d";
        assert_eq!(line.text(), shown);
        (line.entries_total, line.seconds_remaining, line.stage, line.current) =
            (None, None, None, Vec::new());
        assert_eq!(line.text(), "~50%  512 B/~1.0 KiB  100 B/s");
        (line.counts_snapshots, line.entries_total) = (false, Some(3));
        assert_eq!(line.text(), "~50%  512 B/~1.0 KiB  100 B/s");
        line.entries_done = 2;
        assert_eq!(line.text(), "~50%  512 B/~1.0 KiB  100 B/s  2 entries");
    }
}
