//! The outcome of runs for Prometheus, as a file for node_exporter's textfile collector.
//!
//! One file may serve all commands and profiles: a run replaces what it said before, and leaves the rest alone. A run
//! that fails keeps the time of the last success and says that it failed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

/// The longest file that is read again, in bytes.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// How long another run that writes to the same folder is waited for.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// What becomes metrics.
#[derive(Debug)]
pub(crate) struct Outcome<'a> {
    /// The command, its words joined by blanks.
    pub(crate) command: &'a str,
    pub(crate) profile: &'a str,
    pub(crate) host: &'a str,
    /// Where the repository is, without secrets.
    pub(crate) repository: &'a str,
    pub(crate) exit_code: u8,
    pub(crate) seconds: f64,
    /// When it ended, in seconds since 1970-01-01 UTC.
    pub(crate) ended: i64,
    /// What the command said at its end.
    pub(crate) summary: Option<&'a Value>,
}

/// Samples by name and labels.
type Samples = BTreeMap<String, BTreeMap<String, String>>;

/// Writes a run's outcome into a file, which is replaced in one step.
pub(crate) fn update(path: &Path, outcome: &Outcome<'_>) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let lock = File::open(folder)?;
    take(&lock)?;
    let text = match File::open(path) {
        Ok(file) => {
            let mut text = Vec::new();
            file.take(FILE_BYTES_MAX).read_to_end(&mut text)?;
            String::from_utf8_lossy(&text).into_owned()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let mut samples = parse(&text);
    record(&mut samples, outcome);
    replace(path, folder, &render(&samples))
}

/// Locks the folder against other runs.
fn take(folder: &File) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match flock(folder, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > LOCK_WAIT => return Err(error.into()),
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn replace(path: &Path, folder: &Path, text: &str) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_string_lossy().into_owned();
    // The collector reads what ends in .prom only.
    let draft: PathBuf = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = File::create(&draft)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&draft, path));
    written.inspect_err(|_| {
        let _ = fs::remove_file(&draft);
    })
}

/// Reads what an earlier run wrote; what others wrote is not kept.
fn parse(text: &str) -> Samples {
    let mut samples = Samples::new();
    for line in text.lines().filter(|line| line.starts_with("dr_")) {
        let parts = line.rsplit_once("} ").and_then(|(head, value)| {
            let (name, labels) = head.split_once('{')?;
            value.parse::<f64>().ok()?;
            Some((name, labels, value))
        });
        if let Some((name, labels, value)) = parts {
            samples.entry(name.to_owned()).or_default().insert(labels.to_owned(), value.to_owned());
        }
    }
    samples
}

fn record(samples: &mut Samples, outcome: &Outcome<'_>) {
    let prefix = format!("dr_{}_last_", outcome.command.replace([' ', '-'], "_"));
    let labels = format!(
        "profile=\"{}\",host=\"{}\",repository=\"{}\"",
        escaped(outcome.profile),
        escaped(outcome.host),
        escaped(outcome.repository)
    );
    let success_name = format!("{prefix}success_timestamp_seconds");
    let kept = samples.get(&success_name).and_then(|series| series.get(&labels)).cloned();
    for (name, series) in samples.iter_mut() {
        if name.starts_with(&prefix) {
            series.remove(&labels);
        }
    }
    let succeeded = outcome.exit_code == 0;
    let success = if succeeded { outcome.ended.to_string() } else { kept.unwrap_or_else(|| "0".to_owned()) };
    let mut put = |name: &str, value: String| {
        samples.entry(format!("{prefix}{name}")).or_default().insert(labels.clone(), value);
    };
    put("success_timestamp_seconds", success);
    put("run_timestamp_seconds", outcome.ended.to_string());
    put("duration_seconds", format!("{:.3}", outcome.seconds));
    put("exit_code", outcome.exit_code.to_string());
    put("failed", u8::from(!succeeded).to_string());
    let mut numbers = Vec::new();
    flatten(outcome.summary.unwrap_or(&Value::Null), &mut numbers);
    for (name, value) in numbers {
        put(&name, value);
    }
}

/// The numbers of a summary. A table in it gives its own; lists give none.
fn flatten(summary: &Value, numbers: &mut Vec<(String, String)>) {
    const OTHERWISE: &[&str] = &["schema", "seconds", "dry_run"];
    let Value::Object(fields) = summary else { return };
    for (name, value) in fields.iter().filter(|(name, _)| !OTHERWISE.contains(&name.as_str())) {
        match value {
            Value::Number(number) => numbers.push((name.clone(), number.to_string())),
            Value::Bool(value) => numbers.push((name.clone(), u8::from(*value).to_string())),
            Value::Object(_) => flatten(value, numbers),
            _ => {}
        }
    }
}

/// Text in a label's value. Source: Prometheus, text-based exposition format.
fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn render(samples: &Samples) -> String {
    let mut text = String::new();
    for (name, series) in samples.iter().filter(|(_, series)| !series.is_empty()) {
        let _ = writeln!(text, "# HELP {name} {}\n# TYPE {name} gauge", help_of(name));
        for (labels, value) in series {
            let _ = writeln!(text, "{name}{{{labels}}} {value}");
        }
    }
    text
}

fn help_of(name: &str) -> &'static str {
    let known = [
        ("_last_success_timestamp_seconds", "When the command last did all that it was asked, 0 for never."),
        ("_last_run_timestamp_seconds", "When the command last ended, however it did."),
        ("_last_duration_seconds", "How long the last run took."),
        ("_last_exit_code", "The exit code of the last run."),
        ("_last_failed", "Whether the last run ended with another exit code than 0."),
    ];
    let found = known.iter().find(|(end, _)| name.ends_with(end));
    found.map_or("From the summary of the last run.", |(_, help)| help)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome<'a>(profile: &'a str, exit_code: u8, summary: Option<&'a Value>) -> Outcome<'a> {
        let ended = 1000 + i64::from(exit_code);
        Outcome {
            command: "backup",
            profile,
            host: "h",
            repository: "/r",
            exit_code,
            seconds: 1.5,
            ended,
            summary,
        }
    }

    #[test]
    fn a_failure_keeps_the_time_of_the_last_success_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dr.prom");
        let summary =
            serde_json::json!({"schema": 1, "snapshot_id": "x", "complete": true, "totals": {"bytes": 7}});
        update(&path, &outcome("p", 0, Some(&summary))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let labels = "{profile=\"p\",host=\"h\",repository=\"/r\"}";
        for line in ["success_timestamp_seconds", "run_timestamp_seconds"] {
            assert!(text.contains(&format!("\ndr_backup_last_{line}{labels} 1000\n")), "{text}");
        }
        assert!(text.contains(&format!("\ndr_backup_last_bytes{labels} 7\n")), "{text}");
        assert!(text.contains(&format!("\ndr_backup_last_complete{labels} 1\n")), "{text}");
        update(&path, &outcome("p", 1, None)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(&format!("_success_timestamp_seconds{labels} 1000\n")), "{text}");
        assert!(text.contains(&format!("_run_timestamp_seconds{labels} 1001\n")), "{text}");
        assert!(text.contains(&format!("_failed{labels} 1\n")) && !text.contains("last_bytes"), "{text}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn others_are_left_alone_and_a_first_failure_is_no_success() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("dr.prom");
        let odd = "a\"} \\{\n";
        update(&path, &outcome(odd, 0, None)).unwrap();
        let check = Outcome { command: "repair log", ..outcome("p", 1, None) };
        update(&path, &check).unwrap();
        update(&path, &outcome("p", 3, None)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(
            text.contains("exit_code{profile=\"a\\\"} \\\\{\\n\",host=\"h\",repository=\"/r\"} 0\n"),
            "{text}"
        );
        assert!(
            text.contains("\ndr_repair_log_last_exit_code{profile=\"p\",host=\"h\",repository=\"/r\"} 1\n")
        );
        assert!(text.contains(
            "dr_backup_last_success_timestamp_seconds{profile=\"p\",host=\"h\",repository=\"/r\"} 0\n"
        ));
        assert_eq!(parse(&text), parse(&render(&parse(&text))));
        let types = text.lines().filter(|line| line.starts_with("# TYPE dr_backup_last_exit_code ")).count();
        assert_eq!(types, 1);
    }
}
