//! The arguments that say how a bucket is read which is backed up. They are apart from those of the repository's store: the two
//! may be on different servers, with different keys.

use std::env;

use clap::Args;
use dr_core::BucketTree;

use crate::error::Result;
use crate::session::Session;
use crate::store_args::StoreArgs;

/// What stands before the names of variables that are about the source.
const PREFIX: &str = "DR_SOURCE_";

/// How a bucket is read.
#[derive(Debug, Default, Args)]
pub(crate) struct SourceArgs {
    /// Make a setting of the bucket that is backed up, for example s3.endpoint=URL (may be repeated; each has a variable:
    /// DR_SOURCE_S3_ENDPOINT)
    #[arg(short = 'O', long = "source-opt", value_name = "KEY=VALUE")]
    options: Vec<String>,
}

impl SourceArgs {
    /// Opens a bucket. Its keys are taken from variables like those of the repository's store, or of the same names behind
    /// `DR_SOURCE_`.
    pub(crate) fn open(&self, location: &str, session: &Session) -> Result<BucketTree> {
        let setting = |name: &str| text(&own_name(name));
        let options = StoreArgs::of_options(self.options.clone()).to_options(location, setting)?;
        let (retries, sleep) = session.patience()?;
        let names: Vec<String> = env::vars_os().filter_map(|(name, _)| name.into_string().ok()).collect();
        let options = options.with_retries(retries).with_sleep(sleep).with_variables(move |name| {
            text(&variable_for(name, |own| names.iter().any(|known| known.starts_with(own))))
        });
        Ok(BucketTree::open(dr_store::open_bucket(location, &options)?)?)
    }

    /// Whether settings were made.
    pub(crate) fn is_empty(&self) -> bool {
        self.options.is_empty()
    }
}

fn text(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// The variable of the source that stands for one of the repository's store.
fn own_name(name: &str) -> String {
    format!("{PREFIX}{}", name.strip_prefix("DR_").unwrap_or(name))
}

/// Which variable holds what `name` would for the repository's store: the source's own where there is any of its kind, so that
/// parts of two keys are never put together.
fn variable_for(name: &str, is_set: impl Fn(&str) -> bool) -> String {
    let family = |name: &str| name.split_inclusive('_').next().unwrap_or_default().to_owned();
    let kind = match name.strip_prefix("DR_") {
        Some(rest) => family(rest),
        None => family(name),
    };
    if is_set(&format!("{PREFIX}{kind}")) { own_name(name) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_of_two_places_are_never_mixed() {
        let set = |names: &'static [&'static str]| {
            move |own: &str| names.iter().any(|name: &&str| name.starts_with(own))
        };
        let own = set(&["DR_SOURCE_AWS_ACCESS_KEY_ID"]);
        assert_eq!(variable_for("AWS_ACCESS_KEY_ID", own), "DR_SOURCE_AWS_ACCESS_KEY_ID");
        // Not set, and so none: the repository's token does not fit the source's key.
        assert_eq!(variable_for("AWS_SESSION_TOKEN", own), "DR_SOURCE_AWS_SESSION_TOKEN");
        assert_eq!(variable_for("GOOGLE_APPLICATION_CREDENTIALS", own), "GOOGLE_APPLICATION_CREDENTIALS");
        assert_eq!(variable_for("DR_WEBDAV_USER", own), "DR_WEBDAV_USER");
        assert_eq!(variable_for("DR_WEBDAV_USER", set(&["DR_SOURCE_WEBDAV_USER"])), "DR_SOURCE_WEBDAV_USER");
        // A setting is no key.
        assert_eq!(variable_for("AWS_ACCESS_KEY_ID", set(&["DR_SOURCE_S3_ENDPOINT"])), "AWS_ACCESS_KEY_ID");
    }
}
