//! `dr man`

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_mangen::Man;
use serde::Serialize;

use crate::error::{CliError, Result};
use crate::help;
use crate::render::{json, text};
use crate::session::Session;

/// Writes the manual: dr(1) to standard output, or a page for each command into a directory.
#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Where to write dr.1, dr-backup.1 and so on; made if it is not there
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

#[derive(Debug, Serialize)]
struct ManDocument {
    message_type: &'static str,
    schema: u32,
    pages: Vec<Page>,
}

#[derive(Debug, Serialize)]
struct Page {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

/// Runs the command.
pub(crate) fn run(args: &ManArgs, session: &Session) -> Result<()> {
    // Pages are not as wide as a terminal is.
    let mut command = help::command().term_width(100);
    command.build();
    let Some(folder) = &args.folder else { return write_one(command, session) };
    let failed = |path: &Path, error: io::Error| {
        CliError::from(
            dr_core::Error::new(dr_core::ErrorKind::Destination, "a page of the manual cannot be written")
                .with_path(path)
                .with_source(error),
        )
    };
    fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    let mut pages = Vec::new();
    collect(command, &mut pages);
    for (name, text) in &pages {
        let path = folder.join(name);
        fs::write(&path, text).map_err(|error| failed(&path, error))?;
    }
    let count = text::count(pages.len() as u64, "page", "pages");
    let pages = pages.into_iter().map(|(name, _)| Page { name, text: None }).collect();
    let document = ManDocument { message_type: "man", schema: json::SCHEMA, pages };
    session.output.summary(&document, |to| {
        writeln!(to, "wrote {count} to {}", text::printable(&folder.to_string_lossy()))
    })
}

fn write_one(command: Command, session: &Session) -> Result<()> {
    let page = render(command);
    if session.output.is_json() {
        let text = Some(String::from_utf8_lossy(&page).into_owned());
        let pages = vec![Page { name: "dr.1".to_owned(), text }];
        return session.output.document(&ManDocument { message_type: "man", schema: json::SCHEMA, pages });
    }
    let mut data = session.output.data();
    data.write_all(&page).and_then(|()| data.flush()).map_err(CliError::output)
}

/// The pages of a command and of those below it.
fn collect(command: Command, pages: &mut Vec<(String, Vec<u8>)>) {
    for next in command.get_subcommands().filter(|next| next.get_name() != "help") {
        collect(next.clone(), pages);
    }
    let name = command.get_display_name().unwrap_or(command.get_name()).to_owned();
    pages.push((format!("{name}.1"), render(command)));
}

fn render(command: Command) -> Vec<u8> {
    let mut page = Vec::new();
    // Nothing that is written to memory fails.
    let _ = Man::new(command).manual("dr manual").render(&mut page);
    page
}
