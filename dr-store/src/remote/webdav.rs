//! WebDAV. Its servers have no creation that fails where an object exists, so such a put is answered with `Unsupported`.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use object_store::http::HttpBuilder;
use object_store::path::Path;
use object_store::{ClientOptions, HeaderMap, HeaderValue};

use super::client::Connector;
use super::{build, driver, location, no_retries, refused};
use crate::object::ObjectStoreDriver;
use crate::{Result, StoreErrorKind, StoreOptions};

/// Opens the folder of a server at `scheme` (`http` or `https`) and `rest` (`//host/folder`).
pub(crate) fn open(scheme: &str, rest: &str, options: &StoreOptions) -> Result<ObjectStoreDriver> {
    let mut url = location::server(&format!("{scheme}:…"), &format!("{scheme}:{rest}"), options)?;
    let place = location::text(&url);
    let wrong = |why: String| {
        refused(
            StoreErrorKind::InvalidInput,
            &place,
            why,
            "correct the location, or DR_WEBDAV_USER and its password",
        )
    };
    let folder = Path::from_url_path(url.path()).map_err(|error| wrong(error.to_string()))?;
    // The driver takes listed paths as they are below the server, so the folder is a prefix of names to it.
    url.set_path("");
    let mut headers = HeaderMap::new();
    if let Some(user) = options.variable("DR_WEBDAV_USER") {
        let password = options.variable("DR_WEBDAV_PASSWORD").unwrap_or_default();
        let pair = format!("Basic {}", BASE64_STANDARD.encode(format!("{user}:{password}")));
        let mut value = HeaderValue::try_from(pair).map_err(|error| wrong(error.to_string()))?;
        value.set_sensitive(true);
        headers.insert("authorization", value);
    }
    let client_options =
        ClientOptions::new().with_allow_http(url.scheme() == "http").with_default_headers(headers);
    let store = HttpBuilder::new()
        .with_url(location::text(&url))
        .with_retry(no_retries())
        .with_client_options(client_options)
        .with_http_connector(Connector::new(&place, options)?)
        .build();
    Ok(driver(build(&place, store)?, &folder, place, options))
}
