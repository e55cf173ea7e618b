//! How a store is opened: where its server is, what it may use of the network, and where credentials come from.

use std::env;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread;

use crate::{LimitOptions, Result, RetryOptions, Sleep, StoreError, StoreErrorKind};

/// Looks up a variable that holds a setting or a credential.
type Variables = Arc<dyn Fn(&str) -> Option<String> + Send + Sync>;

/// Options of [`open_with`](crate::open_with). Disks and memory of this machine use none of them.
///
/// Credentials are no options: they are variables, of the environment unless [`StoreOptions::with_variables`] says
/// otherwise, and are kept by nothing that can be printed.
///
/// # Examples
/// ```
/// let options = dr_store::StoreOptions::new().with_endpoint("https://minio.example:9000").with_connections(4);
/// # drop(options);
/// ```
#[derive(Clone)]
pub struct StoreOptions {
    endpoint: Option<String>,
    region: Option<String>,
    path_style: Option<bool>,
    ca_file: Option<PathBuf>,
    request_payer: bool,
    allow_http: bool,
    instance_credentials: bool,
    storage_classes: Vec<(String, String)>,
    limits: LimitOptions,
    retries: RetryOptions,
    sleep: Sleep,
    variables: Variables,
    /// The kinds of store that settings were made for by name.
    kinds: Vec<&'static str>,
    #[cfg(feature = "_http")]
    key_filter: Option<Arc<crate::remote::KeyFilter>>,
}

/// The kinds of store, as they stand before the dot of a setting, and the schemes of their locations.
const KINDS: [(&str, &[&str]); 4] =
    [("s3", &["s3"]), ("gcs", &["gs"]), ("azure", &["az"]), ("webdav", &["http", "https"])];

/// The settings that [`StoreOptions::set`] knows, as `KIND.NAME`.
pub const SETTINGS: [&str; 20] = [
    "s3.endpoint",
    "s3.region",
    "s3.path-style",
    "s3.ca-file",
    "s3.request-payer",
    "s3.allow-http",
    "s3.instance-credentials",
    "s3.storage-class",
    "gcs.endpoint",
    "gcs.ca-file",
    "gcs.allow-http",
    "gcs.instance-credentials",
    "gcs.storage-class",
    "azure.endpoint",
    "azure.ca-file",
    "azure.allow-http",
    "azure.instance-credentials",
    "azure.storage-class",
    "webdav.ca-file",
    "webdav.allow-http",
];

impl StoreOptions {
    /// The defaults: the service's own endpoint, 32 connections, 256 MiB in flight, no limit of rates, retries as
    /// [`RetryOptions::default`] has them, and the environment's variables.
    pub fn new() -> StoreOptions {
        StoreOptions {
            endpoint: None,
            region: None,
            path_style: None,
            ca_file: None,
            request_payer: false,
            allow_http: false,
            instance_credentials: false,
            storage_classes: Vec::new(),
            limits: LimitOptions::default(),
            retries: RetryOptions::default(),
            sleep: Arc::new(thread::sleep),
            variables: Arc::new(|name| env::var(name).ok()),
            kinds: Vec::new(),
            #[cfg(feature = "_http")]
            key_filter: None,
        }
    }

    /// Asks this server, by its URL, instead of the service's own.
    #[must_use]
    pub fn with_endpoint(mut self, url: impl Into<String>) -> Self {
        self.endpoint = Some(url.into());
        self
    }

    /// Names the region of an S3 bucket.
    #[must_use]
    pub fn with_region(mut self, region: impl Into<String>) -> Self {
        self.region = Some(region.into());
        self
    }

    /// Whether an S3 bucket stands in the path of a URL or in its host. By default it stands in the path at an endpoint
    /// that was named, and in the host at Amazon's own.
    #[must_use]
    pub fn with_path_style(mut self, is_in_path: bool) -> Self {
        self.path_style = Some(is_in_path);
        self
    }

    /// Trusts the certificates in this PEM file, and no others.
    #[must_use]
    pub fn with_ca_file(mut self, file: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(file.into());
        self
    }

    /// Whether this side pays for requests to an S3 bucket of somebody else.
    #[must_use]
    pub fn with_request_payer(mut self, pays: bool) -> Self {
        self.request_payer = pays;
        self
    }

    /// Whether a server on another machine may be talked to without TLS. One on this machine always may.
    #[must_use]
    pub fn with_allow_http(mut self, allow: bool) -> Self {
        self.allow_http = allow;
        self
    }

    /// Whether the cloud's metadata service may be asked for credentials where the variables hold none.
    #[must_use]
    pub fn with_instance_credentials(mut self, allow: bool) -> Self {
        self.instance_credentials = allow;
        self
    }

    /// Puts objects whose names begin with `prefix` into a storage class. Of several prefixes that fit, the longest
    /// counts.
    #[must_use]
    pub fn with_storage_class(mut self, prefix: impl Into<String>, class: impl Into<String>) -> Self {
        self.storage_classes.push((prefix.into(), class.into()));
        self
    }

    /// How many calls may be under way at once.
    #[must_use]
    pub fn with_connections(mut self, connections: usize) -> Self {
        self.limits.connections = connections;
        self
    }

    /// How many bytes the calls under way may hold together.
    #[must_use]
    pub fn with_bytes_in_flight(mut self, bytes: u64) -> Self {
        self.limits.bytes_in_flight = bytes;
        self
    }

    /// How many bytes a second may be sent.
    #[must_use]
    pub fn with_upload_limit(mut self, bytes_per_second: u64) -> Self {
        self.limits.upload_bytes_per_second = Some(bytes_per_second);
        self
    }

    /// How many bytes a second may be fetched.
    #[must_use]
    pub fn with_download_limit(mut self, bytes_per_second: u64) -> Self {
        self.limits.download_bytes_per_second = Some(bytes_per_second);
        self
    }

    /// How often and how patiently a call that failed for a while is made again.
    #[must_use]
    pub fn with_retries(mut self, retries: RetryOptions) -> Self {
        self.retries = retries;
        self
    }

    /// Waits with `sleep` between attempts, and for the limits of rates.
    #[must_use]
    pub fn with_sleep(mut self, sleep: Sleep) -> Self {
        self.sleep = sleep;
        self
    }

    /// Looks credentials and settings up with `variables` instead of in the environment.
    #[must_use]
    pub fn with_variables(
        mut self,
        variables: impl Fn(&str) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.variables = Arc::new(variables);
        self
    }

    /// Makes one of the [`SETTINGS`], by name. The store that is opened must be of the kind named.
    ///
    /// `s3.storage-class` (`gcs.`, and `azure.` for the access tier) is of all objects, or, as `PREFIX=CLASS`, of those whose names begin so.
    ///
    /// # Errors
    /// `InvalidInput` where there is no such setting, or the value does not fit.
    pub fn set(&mut self, setting: &str, value: &str) -> Result<()> {
        let wrong = |why: String| {
            StoreError::new(StoreErrorKind::InvalidInput, "set", setting.to_owned()).with_source(why)
        };
        let known = SETTINGS.iter().find(|known| **known == setting);
        let Some((kind, name)) = known.and_then(|known| known.split_once('.')) else {
            return Err(wrong(format!("there is no such setting; there are {}", SETTINGS.join(", "))));
        };
        let yes = || match value {
            "true" | "yes" | "1" => Ok(true),
            "false" | "no" | "0" => Ok(false),
            _ => Err(wrong("its value is 'true' or 'false'".to_owned())),
        };
        match name {
            "endpoint" => self.endpoint = Some(value.to_owned()),
            "region" => self.region = Some(value.to_owned()),
            "path-style" => self.path_style = Some(yes()?),
            "ca-file" => self.ca_file = Some(value.into()),
            "request-payer" => self.request_payer = yes()?,
            "allow-http" => self.allow_http = yes()?,
            "instance-credentials" => self.instance_credentials = yes()?,
            _ => {
                let (prefix, class) = value.split_once('=').unwrap_or(("", value));
                self.storage_classes.push((prefix.to_owned(), class.to_owned()));
            }
        }
        self.kinds.push(kind);
        Ok(())
    }

    /// Refuses settings that were made for another kind of store than that of `scheme`.
    pub(crate) fn check_kinds(&self, scheme: &str) -> Result<()> {
        let is_of =
            |kind: &str| KINDS.iter().any(|(known, schemes)| *known == kind && schemes.contains(&scheme));
        match self.kinds.iter().find(|kind| !is_of(kind)) {
            None => Ok(()),
            Some(kind) => Err(StoreError::new(StoreErrorKind::InvalidInput, "open", format!("{scheme}:…"))
                .with_source(format!("there are settings for another kind of store ({kind}.…)"))
                .with_remedy("leave out the options that are for another kind of store")),
        }
    }

    /// Has what the drivers stumble over taken out of listings.
    #[cfg(feature = "_http")]
    pub(crate) fn with_key_filter(mut self, keys: Arc<crate::remote::KeyFilter>) -> Self {
        self.key_filter = Some(keys);
        self
    }

    #[cfg(feature = "_http")]
    pub(crate) fn key_filter(&self) -> Option<Arc<crate::remote::KeyFilter>> {
        self.key_filter.clone()
    }

    #[cfg(feature = "_http")]
    pub(crate) fn limits(&self) -> LimitOptions {
        self.limits
    }

    #[cfg(feature = "_http")]
    pub(crate) fn retries(&self) -> RetryOptions {
        self.retries
    }

    #[cfg(feature = "_http")]
    pub(crate) fn sleep(&self) -> Sleep {
        Arc::clone(&self.sleep)
    }
}

#[allow(dead_code, reason = "each kind of store asks for some, and a build may have no kind that does")]
impl StoreOptions {
    pub(crate) fn endpoint(&self) -> Option<&str> {
        self.endpoint.as_deref()
    }

    pub(crate) fn region(&self) -> Option<&str> {
        self.region.as_deref()
    }

    pub(crate) fn path_style(&self) -> Option<bool> {
        self.path_style
    }

    pub(crate) fn ca_file_or(&self, other: impl FnOnce() -> Option<String>) -> Option<PathBuf> {
        self.ca_file.clone().or_else(|| other().map(PathBuf::from))
    }

    pub(crate) fn request_payer(&self) -> bool {
        self.request_payer
    }

    pub(crate) fn allows_http(&self) -> bool {
        self.allow_http
    }

    pub(crate) fn instance_credentials(&self) -> bool {
        self.instance_credentials
    }

    pub(crate) fn storage_classes(&self) -> &[(String, String)] {
        &self.storage_classes
    }

    /// A variable; an empty one counts as none.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        (self.variables)(name).filter(|value| !value.is_empty())
    }
}

impl Default for StoreOptions {
    fn default() -> StoreOptions {
        StoreOptions::new()
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("endpoint", &self.endpoint)
            .field("region", &self.region)
            .field("path_style", &self.path_style)
            .field("ca_file", &self.ca_file)
            .field("storage_classes", &self.storage_classes)
            .field("limits", &self.limits)
            .field("retries", &self.retries)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_is_of_a_kind_and_can_be_made() {
        for setting in SETTINGS {
            let (kind, name) = setting.split_once('.').expect("a kind and a name");
            let (_, schemes) = KINDS.iter().find(|(known, _)| *known == kind).expect("a known kind");
            let mut options = StoreOptions::new();
            let is_switch =
                matches!(name, "path-style" | "request-payer" | "allow-http" | "instance-credentials");
            options.set(setting, if is_switch { "true" } else { "x" }).expect(setting);
            options.check_kinds(schemes[0]).expect(setting);
            assert!(options.check_kinds("other").is_err(), "{setting}");
            if is_switch {
                assert!(options.set(setting, "perhaps").is_err(), "{setting}");
            }
        }
        assert!(StoreOptions::new().set("s3.nonsense", "x").is_err());
        let mut options = StoreOptions::new();
        options.set("s3.storage-class", "data/=STANDARD_IA").expect("a prefix and a class");
        assert_eq!(options.storage_classes(), [("data/".to_owned(), "STANDARD_IA".to_owned())]);
    }
}
