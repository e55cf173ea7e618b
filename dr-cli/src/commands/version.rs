//! `dr version`

use std::collections::BTreeMap;
use std::io::Write;

use clap::Args;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::render::{Verbosity, json};
use crate::session::Session;

/// Says which version this is; with --verbose also which variants of its inner loops this processor runs.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {}

#[derive(Debug, Serialize)]
struct VersionDocument {
    message_type: &'static str,
    schema: u32,
    version: &'static str,
    system: &'static str,
    processor: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    backends: Option<BTreeMap<&'static str, String>>,
}

/// Runs the command.
pub(crate) fn run(_args: &VersionArgs, session: &Session) -> Result<()> {
    let is_verbose = session.output.verbosity() >= Verbosity::Verbose;
    let document = VersionDocument {
        message_type: "version",
        schema: json::SCHEMA,
        version: env!("CARGO_PKG_VERSION"),
        system: std::env::consts::OS,
        processor: std::env::consts::ARCH,
        backends: is_verbose.then(|| dr_core::backends().into_iter().collect()),
    };
    if session.output.is_json() {
        return session.output.document(&document);
    }
    let mut data = session.output.data();
    let mut written = writeln!(data, "dr {}", document.version);
    if let Some(backends) = &document.backends {
        written = written
            .and_then(|()| writeln!(data, "{:<12}{} {}", "system", document.system, document.processor));
        for (name, variant) in backends {
            written = written.and_then(|()| writeln!(data, "{name:<12}{variant}"));
        }
    }
    written.and_then(|()| data.flush()).map_err(CliError::output)
}
