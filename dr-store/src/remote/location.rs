//! What stands in a location behind the scheme: a bucket, a prefix of names, or a server.

use object_store::path::Path;
use reqwest::Url;

use super::refused;
use crate::{Result, StoreErrorKind, StoreOptions};

/// A bucket (or container) and the prefix in it.
#[derive(Debug)]
pub(super) struct Bucket {
    pub(super) name: String,
    pub(super) prefix: Path,
    /// The location as it is shown to people.
    pub(super) shown: String,
}

/// Reads `//bucket/prefix`. What is wrong is not repeated in the error: it may hold a password.
pub(super) fn bucket(scheme: &str, rest: &str) -> Result<Bucket> {
    let wrong = || {
        refused(
            StoreErrorKind::InvalidInput,
            &format!("{scheme}:…"),
            "a bucket's location has the form SCHEME://BUCKET/PREFIX",
            "write the location as, for example, s3://my-bucket/my-host; keys belong into the environment",
        )
    };
    let path = rest.strip_prefix("//").ok_or_else(wrong)?;
    let (name, prefix) = path.split_once('/').unwrap_or((path, ""));
    let is_name = !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._$".contains(&b));
    let is_prefix = prefix.bytes().all(|b| b.is_ascii_graphic() && !b"?#%@\\".contains(&b));
    if !is_name || !is_prefix {
        return Err(wrong());
    }
    let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
    if prefix.starts_with('/') || prefix.ends_with('/') {
        return Err(wrong());
    }
    let prefix = Path::parse(prefix).map_err(|_| wrong())?;
    let slash = if prefix.as_ref().is_empty() { "" } else { "/" };
    let shown = format!("{scheme}://{name}{slash}{prefix}");
    Ok(Bucket { name: name.to_owned(), prefix, shown })
}

/// Reads the URL of a server. Without TLS it must be this machine, or have been asked for.
pub(super) fn server(place: &str, url: &str, options: &StoreOptions) -> Result<Url> {
    let wrong = |why: &str| {
        let remedy =
            "give the endpoint as https://HOST or https://HOST:PORT; keys belong into the environment";
        refused(StoreErrorKind::InvalidInput, place, why, remedy)
    };
    let parsed = Url::parse(url).map_err(|error| wrong(&format!("the endpoint is no URL: {error}")))?;
    if !matches!(parsed.scheme(), "http" | "https") || parsed.host_str().is_none() {
        return Err(wrong("the endpoint is not an HTTP URL"));
    }
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(wrong("the endpoint holds a user name or a password"));
    }
    if parsed.query().is_some() || parsed.fragment().is_some() {
        return Err(wrong("the endpoint holds a query or a fragment"));
    }
    if parsed.scheme() == "http" && !options.allows_http() && !is_this_machine(&parsed) {
        return Err(refused(
            StoreErrorKind::InvalidInput,
            place,
            "the endpoint is on another machine and has no TLS: whoever listens could act with this session",
            "use https://, or allow it with the option s3.allow-http=true (azure., gcs., webdav.)",
        ));
    }
    Ok(parsed)
}

fn is_this_machine(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<std::net::IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The URL without the slash that parsing puts behind a bare host.
pub(super) fn text(url: &Url) -> String {
    url.as_str().trim_end_matches('/').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_and_prefixes_are_read() {
        for (rest, name, prefix, shown) in [
            ("//b", "b", "", "s3://b"),
            ("//b/", "b", "", "s3://b"),
            ("//my.bucket/a/b/", "my.bucket", "a/b", "s3://my.bucket/a/b"),
        ] {
            let bucket = bucket("s3", rest).expect("a valid location");
            assert_eq!(
                (bucket.name.as_str(), bucket.prefix.as_ref(), bucket.shown.as_str()),
                (name, prefix, shown)
            );
        }
        for wrong in ["b/a", "///a", "//", "//user:secret@b/a", "//b/../c", "//b//c", "//b/a?key=secret"] {
            let error = bucket("s3", wrong).expect_err(wrong);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
    }

    #[test]
    fn servers_need_tls_unless_they_are_here_or_it_was_allowed() {
        let options = StoreOptions::new();
        for good in ["https://s3.example", "http://127.0.0.1:9000", "http://localhost:1/x", "http://[::1]:1"]
        {
            server("s3://b", good, &options).expect(good);
        }
        for bad in ["s3.example", "ftp://x", "https://u:secret@h", "https://h/?q=secret", "http://s3.example"]
        {
            let error = server("s3://b", bad, &options).expect_err(bad);
            assert!(!format!("{error:?}").contains("secret"), "{error:?}");
        }
        server("s3://b", "http://s3.example", &options.with_allow_http(true)).expect("it was allowed");
    }
}
