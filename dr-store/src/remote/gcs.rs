//! Google Cloud Storage.

use object_store::ClientOptions;
use object_store::gcp::GoogleCloudStorageBuilder;

use super::client::Connector;
use super::{build, driver, location, no_retries, refused};
use crate::object::ObjectStoreDriver;
use crate::{Result, StoreErrorKind, StoreOptions};

/// Opens `//bucket/prefix`.
pub(crate) fn open(rest: &str, options: &StoreOptions) -> Result<ObjectStoreDriver> {
    let bucket = location::bucket("gs", rest)?;
    let place = bucket.shown.as_str();
    let endpoint = options.endpoint().map(|url| location::server(place, url, options)).transpose()?;
    let is_plain = endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
    let mut builder = GoogleCloudStorageBuilder::new()
        .with_bucket_name(&bucket.name)
        .with_retry(no_retries())
        .with_client_options(ClientOptions::new().with_allow_http(is_plain))
        .with_http_connector(Connector::new(place, options)?);
    let mut shown = bucket.shown.clone();
    if let Some(url) = &endpoint {
        shown = format!("{shown}?endpoint={}", location::text(url));
        builder = builder.with_base_url(&location::text(url));
    }
    if let Some(file) = options.variable("GOOGLE_APPLICATION_CREDENTIALS") {
        builder = builder.with_application_credentials(file);
    } else if let Some(key) = options.variable("GOOGLE_SERVICE_ACCOUNT_KEY") {
        builder = builder.with_service_account_key(key);
    } else if !options.instance_credentials() {
        return Err(refused(
            StoreErrorKind::PermissionDenied,
            place,
            "there are no credentials",
            "name the file of a service account in GOOGLE_APPLICATION_CREDENTIALS, or let a machine of Google's ask \
             its own metadata with the option gcs.instance-credentials=true",
        ));
    }
    let store = build(place, builder.build())?;
    Ok(driver(store, &bucket.prefix, shown, options))
}
