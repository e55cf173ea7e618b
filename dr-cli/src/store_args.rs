//! The arguments that say how a store on another machine is used.

use clap::Args;
use dr_store::{SETTINGS, StoreOptions};

use crate::error::{CliError, Result};

/// How a store on another machine is used.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Stores on other machines")]
pub(crate) struct StoreArgs {
    /// Send at most RATE a second: KiB, or with K, M or G behind it
    #[arg(long, global = true, value_name = "RATE")]
    limit_upload: Option<String>,
    /// Fetch at most RATE a second
    #[arg(long, global = true, value_name = "RATE")]
    limit_download: Option<String>,
    /// Make at most N calls at once [default: 32]
    #[arg(long, global = true, value_name = "N")]
    connections: Option<String>,
    /// Make a setting of the store, for example s3.endpoint=URL (may be repeated; each has a variable: DR_S3_ENDPOINT)
    #[arg(short = 'o', long = "option", global = true, value_name = "KEY=VALUE")]
    options: Vec<String>,
}

impl StoreArgs {
    /// The same limits, with settings for another store.
    pub(crate) fn with_options(&self, options: &[String]) -> StoreArgs {
        StoreArgs {
            limit_upload: self.limit_upload.clone(),
            limit_download: self.limit_download.clone(),
            connections: self.connections.clone(),
            options: options.to_vec(),
        }
    }

    /// Nothing but settings.
    pub(crate) fn of_options(options: Vec<String>) -> StoreArgs {
        StoreArgs { options, ..StoreArgs::default() }
    }

    /// The store's options. An argument comes before the variable of its name, which may be of another kind of store
    /// than `location` is of.
    pub(crate) fn to_options(
        &self,
        location: &str,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<StoreOptions> {
        let mut options = StoreOptions::new();
        if let Some(rate) = &self.limit_upload {
            options = options.with_upload_limit(bytes_of("--limit-upload", rate)?);
        }
        if let Some(rate) = &self.limit_download {
            options = options.with_download_limit(bytes_of("--limit-download", rate)?);
        }
        if let Some(count) = &self.connections {
            let count = count.parse().ok().filter(|count| (1..=1024).contains(count));
            let count =
                count.ok_or_else(|| CliError::usage("--connections takes a number from 1 to 1024"))?;
            options = options.with_connections(count);
        }
        for setting in SETTINGS.iter().filter(|setting| is_of(setting, location)) {
            if let Some(value) = variable(&variable_of(setting)) {
                options.set(setting, &value)?;
            }
        }
        for option in &self.options {
            let (setting, value) = option
                .split_once('=')
                .ok_or_else(|| CliError::usage(format!("'{option}' is not of the form KEY=VALUE")))?;
            options.set(setting, value)?;
        }
        Ok(options)
    }
}

/// The variable that stands in for a setting.
pub(crate) fn variable_of(setting: &str) -> String {
    format!("DR_{}", setting.to_ascii_uppercase().replace(['.', '-'], "_"))
}

/// Whether a setting is for stores of the location's scheme.
fn is_of(setting: &str, location: &str) -> bool {
    let scheme = location.split_once(':').map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
    let kind = setting.split_once('.').map_or("", |(kind, _)| kind);
    match scheme.as_str() {
        "s3" => kind == "s3",
        "gs" => kind == "gcs",
        "az" => kind == "azure",
        "http" | "https" => kind == "webdav",
        _ => false,
    }
}

/// Reads a number of bytes a second.
fn bytes_of(argument: &str, rate: &str) -> Result<u64> {
    let (number, unit) = match rate.strip_suffix(['K', 'k']) {
        Some(number) => (number, 1 << 10),
        None => match (rate.strip_suffix(['M', 'm']), rate.strip_suffix(['G', 'g'])) {
            (Some(number), _) => (number, 1 << 20),
            (_, Some(number)) => (number, 1 << 30),
            _ => (rate, 1 << 10),
        },
    };
    let bytes = number.parse::<u64>().ok().filter(|number| *number > 0);
    bytes.and_then(|bytes| bytes.checked_mul(unit)).ok_or_else(|| {
        CliError::usage(format!("{argument} takes a rate such as 500 (KiB a second), 500K, 20M or 1G"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_kib_unless_they_say_otherwise() {
        for (text, bytes) in [("500", 500 << 10), ("500K", 500 << 10), ("20m", 20 << 20), ("1G", 1 << 30)] {
            assert_eq!(bytes_of("--limit-upload", text).unwrap(), bytes, "{text}");
        }
        for wrong in ["", "K", "0", "-1", "1.5M", "20MB", "99999999999999999999G"] {
            assert!(bytes_of("--limit-upload", wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn variables_stand_in_and_those_of_other_stores_are_left_alone() {
        let variable = |name: &str| match name {
            "DR_S3_ENDPOINT" => Some("https://variable.example".to_owned()),
            "DR_AZURE_CA_FILE" => Some("/nowhere".to_owned()),
            _ => None,
        };
        let args = StoreArgs { limit_upload: Some("1M".into()), ..StoreArgs::default() };
        let shown = format!("{:?}", args.to_options("s3://bucket", variable).unwrap());
        assert!(shown.contains("variable.example") && !shown.contains("nowhere"), "{shown}");
        assert!(shown.contains("upload_bytes_per_second: Some(1048576)"), "{shown}");
        let args = StoreArgs { options: vec!["s3.endpoint=https://given.example".into()], ..args };
        let shown = format!("{:?}", args.to_options("s3://bucket", variable).unwrap());
        assert!(shown.contains("given.example") && !shown.contains("variable.example"), "{shown}");
        for wrong in ["s3.endpoint", "s3.nonsense=1", "s3.path-style=perhaps"] {
            let args = StoreArgs { options: vec![wrong.into()], ..StoreArgs::default() };
            assert!(args.to_options("s3://bucket", variable).is_err(), "{wrong}");
        }
    }
}
