//! S3 and what speaks its protocol.

use object_store::ClientOptions;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum, S3ConditionalPut};

use super::client::Connector;
use super::{build, driver, location, no_retries, refused};
use crate::object::ObjectStoreDriver;
use crate::{Result, StoreErrorKind, StoreOptions};

/// Where no region is named; servers other than Amazon's mostly do not care.
const REGION: &str = "us-east-1";

/// Variables that name a source of short-lived credentials other than a pair of keys. They are set by the platform, or
/// by whoever wants that source asked; the instance's own is asked only with [`StoreOptions::with_instance_credentials`].
const SOURCES: [(&str, AmazonS3ConfigKey); 7] = [
    ("AWS_WEB_IDENTITY_TOKEN_FILE", AmazonS3ConfigKey::WebIdentityTokenFile),
    ("AWS_ROLE_ARN", AmazonS3ConfigKey::RoleArn),
    ("AWS_ROLE_SESSION_NAME", AmazonS3ConfigKey::RoleSessionName),
    ("AWS_ENDPOINT_URL_STS", AmazonS3ConfigKey::StsEndpoint),
    ("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", AmazonS3ConfigKey::ContainerCredentialsRelativeUri),
    ("AWS_CONTAINER_CREDENTIALS_FULL_URI", AmazonS3ConfigKey::ContainerCredentialsFullUri),
    ("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE", AmazonS3ConfigKey::ContainerAuthorizationTokenFile),
];

/// Opens `//bucket/prefix`, which may be followed by `?endpoint=URL`, as [`Store::endpoint`](crate::Store::endpoint)
/// answers it.
pub(crate) fn open(rest: &str, options: &StoreOptions) -> Result<ObjectStoreDriver> {
    let (rest, in_location) = match rest.split_once("?endpoint=") {
        Some((rest, endpoint)) => (rest, Some(endpoint.to_owned())),
        None => (rest, None),
    };
    let bucket = location::bucket("s3", rest)?;
    let place = bucket.shown.as_str();
    let endpoint = in_location
        .or_else(|| options.endpoint().map(str::to_owned))
        .or_else(|| options.variable("AWS_ENDPOINT_URL_S3"))
        .or_else(|| options.variable("AWS_ENDPOINT_URL"))
        .map(|url| location::server(place, &url, options))
        .transpose()?;
    // A bucket's name with dots is no name that a certificate of the store covers.
    let has_path_style = options.path_style().unwrap_or(endpoint.is_some() || bucket.name.contains('.'));
    let region = (options.region().map(str::to_owned))
        .or_else(|| options.variable("AWS_REGION"))
        .or_else(|| options.variable("AWS_DEFAULT_REGION"))
        .unwrap_or_else(|| REGION.to_owned());

    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(&bucket.name)
        .with_region(region)
        .with_virtual_hosted_style_request(!has_path_style)
        .with_request_payer(options.request_payer())
        .with_conditional_put(S3ConditionalPut::ETagMatch)
        // It is the digest that signs the request, so it costs nothing more, and the store checks what arrives.
        .with_checksum_algorithm(Checksum::SHA256)
        // Objects are deleted one by one, and not every store knows the other way.
        .with_disable_bulk_delete(true)
        .with_retry(no_retries());
    let is_plain = endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
    builder = builder
        .with_client_options(ClientOptions::new().with_allow_http(is_plain))
        .with_http_connector(Connector::new(place, options)?);
    let mut shown = bucket.shown.clone();
    if let Some(mut url) = endpoint {
        shown = format!("{shown}?endpoint={}", location::text(&url));
        if !has_path_style {
            // The driver takes a virtual host as it is.
            let host = format!("{}.{}", bucket.name, url.host_str().unwrap_or_default());
            url.set_host(Some(&host)).map_err(|error| {
                let remedy = "use path style: the option s3.path-style=true";
                refused(StoreErrorKind::InvalidInput, place, format!("{host}: {error}"), remedy)
            })?;
        }
        builder = builder.with_endpoint(location::text(&url));
    }
    let store = build(place, with_credentials(builder, place, options)?.build())?;
    Ok(driver(store, &bucket.prefix, shown, options))
}

fn with_credentials(
    mut builder: AmazonS3Builder,
    place: &str,
    options: &StoreOptions,
) -> Result<AmazonS3Builder> {
    let (key, secret) = (options.variable("AWS_ACCESS_KEY_ID"), options.variable("AWS_SECRET_ACCESS_KEY"));
    let missing = |why: &'static str| {
        let remedy = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or let a machine of Amazon's ask its own \
                      metadata with the option s3.instance-credentials=true";
        refused(StoreErrorKind::PermissionDenied, place, why, remedy)
    };
    match (key, secret) {
        (Some(key), Some(secret)) => {
            builder = builder.with_access_key_id(key).with_secret_access_key(secret);
            if let Some(token) = options.variable("AWS_SESSION_TOKEN") {
                builder = builder.with_token(token);
            }
            return Ok(builder);
        }
        (Some(_), None) => return Err(missing("there is a key id, but no AWS_SECRET_ACCESS_KEY")),
        (None, Some(_)) => return Err(missing("there is a secret key, but no AWS_ACCESS_KEY_ID")),
        (None, None) => {}
    }
    let set = |name: &str| options.variable(name).is_some();
    let has_source = (set("AWS_WEB_IDENTITY_TOKEN_FILE") && set("AWS_ROLE_ARN"))
        || set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        || (set("AWS_CONTAINER_CREDENTIALS_FULL_URI") && set("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"));
    if !has_source && !options.instance_credentials() {
        return Err(missing("there are no credentials"));
    }
    for (name, key) in SOURCES {
        if let Some(value) = options.variable(name) {
            builder = builder.with_config(key, value);
        }
    }
    Ok(builder)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Store;

    fn keyed() -> StoreOptions {
        StoreOptions::new().with_variables(|name| match name {
            "AWS_ACCESS_KEY_ID" => Some("id".to_owned()),
            "AWS_SECRET_ACCESS_KEY" => Some("very-secret".to_owned()),
            "AWS_ENDPOINT_URL" => Some("https://s3.example:9000/".to_owned()),
            _ => None,
        })
    }

    #[test]
    fn without_credentials_nobody_is_asked() {
        for known in [None, Some("AWS_ACCESS_KEY_ID"), Some("AWS_SECRET_ACCESS_KEY"), Some("AWS_ROLE_ARN")] {
            let options = StoreOptions::new()
                .with_variables(move |name| (Some(name) == known).then(|| "very-secret".to_owned()));
            let error = open("//bucket", &options).expect_err("no credentials");
            assert_eq!(error.kind(), StoreErrorKind::PermissionDenied);
            assert!(error.remedy().is_some_and(|remedy| remedy.contains("AWS_ACCESS_KEY_ID")));
            assert!(!format!("{error:?}").contains("very-secret"), "{error:?}");
        }
    }

    #[test]
    fn the_endpoint_names_the_server_and_opens_the_same_place() {
        let store = open("//bucket/prefix", &keyed()).expect("it needs no server");
        assert_eq!(store.endpoint(), "s3://bucket/prefix?endpoint=https://s3.example:9000");
        let again = open(store.endpoint().trim_start_matches("s3:"), &keyed()).expect("its own endpoint");
        assert_eq!(again.endpoint(), store.endpoint());
        assert!(!format!("{store:?}").contains("very-secret"), "{store:?}");
    }
}
