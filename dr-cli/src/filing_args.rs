//! Under what a new snapshot is filed.

use clap::Args;
use dr_core::{BackupOptions, Timestamp};

use crate::error::{CliError, Result};
use crate::instant::{self, DayMeans};

/// Host, tags and time of a new snapshot.
#[derive(Debug, Args)]
pub(crate) struct FilingArgs {
    /// File the snapshot under this host instead of this machine's name
    #[arg(short = 'H', long)]
    host: Option<String>,
    /// Tag the snapshot (may be repeated, or several joined by commas)
    #[arg(long, value_name = "TAG", value_delimiter = ',')]
    tag: Vec<String>,
    /// Give the snapshot this time instead of now
    #[arg(long, value_name = "TIME")]
    time: Option<String>,
}

impl FilingArgs {
    /// Files the snapshot that these options make.
    ///
    /// # Errors
    /// A time that is none.
    pub(crate) fn apply(&self, options: &mut BackupOptions) -> Result<()> {
        options.host = self.host.clone().unwrap_or_else(host_name);
        options.tags = self.tag.iter().filter(|tag| !tag.is_empty()).cloned().collect();
        options.time = self.time.as_deref().map(time).transpose()?.flatten();
        Ok(())
    }
}

fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// The time that was given; `None` for `now`.
fn time(text: &str) -> Result<Option<Timestamp>> {
    if text == "now" {
        return Ok(None);
    }
    let time = instant::parse(text, DayMeans::Start).ok_or_else(|| {
        CliError::usage(format!("'{text}' is no time"))
            .with_remedy("write it as 2026-11-20T10:00 (local time), or with Z or an offset behind it")
    })?;
    Ok(Some(time))
}
