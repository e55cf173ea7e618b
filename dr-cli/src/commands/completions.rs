//! `dr completions`

use std::io::Write;

use clap::Args;
use clap_complete::Shell;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::help;
use crate::render::json;
use crate::session::Session;

/// Writes what a shell needs to complete commands and options, to standard output.
#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum, value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Serialize)]
struct CompletionsDocument {
    message_type: &'static str,
    schema: u32,
    shell: String,
    script: String,
}

/// Runs the command.
pub(crate) fn run(args: &CompletionsArgs, session: &Session) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut help::command(), "dr", &mut script);
    if session.output.is_json() {
        return session.output.document(&CompletionsDocument {
            message_type: "completions",
            schema: json::SCHEMA,
            shell: args.shell.to_string(),
            script: String::from_utf8_lossy(&script).into_owned(),
        });
    }
    let mut data = session.output.data();
    data.write_all(&script).and_then(|()| data.flush()).map_err(CliError::output)
}
