//! What servers and networks answer when a request fails, as errors that say what to do.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use http::response::Parts;
use object_store::client::{HttpError, HttpErrorKind};
use reqwest::StatusCode;
use reqwest::header::HeaderMap;

use crate::{StoreError, StoreErrorKind};

/// No server's message is shown longer than this.
const MESSAGE_CHARS_MAX: usize = 300;

/// An answer of a server that ends a request: the status and what the body says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    status: StatusCode,
    /// The name of the failure, where the server gives one ("SlowDown").
    code: String,
    /// The server's own words, without control characters.
    message: String,
    /// The region that the bucket is in, where the server says that another one was asked.
    region: Option<String>,
}

impl Refusal {
    /// Whether an answer of that status is read here. The others mean something to the driver: an object is missing, or
    /// is there already, or a range lies outside it.
    pub(super) fn is_final(status: StatusCode) -> bool {
        let is_failure = !status.is_success() && !status.is_informational();
        is_failure
            && !matches!(
                status,
                StatusCode::NOT_MODIFIED
                    | StatusCode::METHOD_NOT_ALLOWED
                    | StatusCode::CONFLICT
                    | StatusCode::PRECONDITION_FAILED
                    | StatusCode::RANGE_NOT_SATISFIABLE
            )
    }

    /// Reads an answer; nothing where it merely says that there is no such object.
    pub(super) fn read(parts: &Parts, body: &[u8]) -> Option<Refusal> {
        let body = String::from_utf8_lossy(body);
        let header = |name: &str| text_of(&parts.headers, name);
        let code = element(&body, "Code").or_else(|| header("x-ms-error-code")).unwrap_or_default();
        let is_bucket = matches!(code.as_str(), "NoSuchBucket" | "ContainerNotFound");
        if parts.status == StatusCode::NOT_FOUND && !is_bucket {
            return None;
        }
        Some(Refusal {
            status: parts.status,
            message: element(&body, "Message").unwrap_or_default(),
            region: header("x-amz-bucket-region").or_else(|| element(&body, "Region")),
            code,
        })
    }

    fn kind(&self) -> StoreErrorKind {
        match self.code.as_str() {
            "NoSuchBucket" | "ContainerNotFound" => return StoreErrorKind::NotFound,
            "QuotaExceeded" | "InsufficientCapacity" | "XMinioStorageFull" => {
                return StoreErrorKind::StorageFull;
            }
            // The bytes changed on the way.
            "BadDigest"
            | "InvalidDigest"
            | "XAmzContentSHA256Mismatch"
            | "XAmzContentChecksumMismatch"
            | "Md5Mismatch"
            | "Crc64Mismatch"
            | "RequestTimeout"
            | "IncompleteBody"
            | "OperationAborted" => {
                return StoreErrorKind::Unavailable;
            }
            "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => {
                return StoreErrorKind::PermissionDenied;
            }
            _ => {}
        }
        match self.status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED => {
                StoreErrorKind::PermissionDenied
            }
            StatusCode::INSUFFICIENT_STORAGE => StoreErrorKind::StorageFull,
            StatusCode::NOT_IMPLEMENTED => StoreErrorKind::Unsupported,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS | StatusCode::LOCKED => {
                StoreErrorKind::Unavailable
            }
            status if status.is_server_error() => StoreErrorKind::Unavailable,
            _ => StoreErrorKind::InvalidInput,
        }
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(match self.code.as_str() {
            "NoSuchBucket" | "ContainerNotFound" => {
                "there is no such bucket or container: correct the name, or make it with the store's own tools"
            }
            "InvalidAccessKeyId" => {
                "the store does not know the key: check AWS_ACCESS_KEY_ID, and the endpoint"
            }
            "SignatureDoesNotMatch" => {
                "the secret key is not the one of this access key: check AWS_SECRET_ACCESS_KEY, and the region"
            }
            "AuthenticationFailed" => {
                "the store does not accept the key: check AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY, and the \
                 clock of this machine"
            }
            "RequestTimeTooSkewed" => "the clock of this machine is wrong: set it, best with NTP",
            "ExpiredToken" | "TokenRefreshRequired" | "InvalidToken" => {
                "the session's token has expired or is not valid: get a new one (AWS_SESSION_TOKEN)"
            }
            "AuthorizationHeaderMalformed"
            | "PermanentRedirect"
            | "TemporaryRedirect"
            | "IllegalLocationConstraintException" => {
                "the bucket is in another region: set the option s3.region, or AWS_REGION"
            }
            "InvalidStorageClass" => {
                "the store has no such storage class: correct the option s3.storage-class (gcs., azure.)"
            }
            _ if self.status.is_redirection() => {
                "the endpoint or the region is not the bucket's: set the options s3.endpoint and s3.region"
            }
            _ if self.kind() == StoreErrorKind::PermissionDenied => {
                "check the credentials in the environment, and what they are permitted to do in this bucket"
            }
            _ if self.kind() == StoreErrorKind::StorageFull => return None,
            _ if self.kind() == StoreErrorKind::InvalidInput => {
                "check the location, the endpoint and the credentials: the server did not understand the request"
            }
            _ => return None,
        })
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the server answered {}", self.status)?;
        if !self.code.is_empty() {
            write!(f, ", {}", self.code)?;
        }
        if !self.message.is_empty() {
            write!(f, ": {}", self.message)?;
        }
        match &self.region {
            Some(region) => write!(f, " (the bucket is in the region {region})"),
            None => Ok(()),
        }
    }
}

impl StdError for Refusal {}

/// What a failed call becomes where a server or the way to it is the cause; nothing where it is another.
pub(crate) fn error_of_server(
    operation: &'static str,
    object: &str,
    error: &object_store::Error,
) -> Option<StoreError> {
    let http = find::<HttpError>(error)?;
    let failed = |kind| StoreError::new(kind, operation, object);
    if let Some(refusal) = find::<Refusal>(http) {
        let failed = failed(refusal.kind()).with_source(refusal.clone());
        return Some(match refusal.remedy() {
            Some(remedy) => failed.with_remedy(remedy),
            None => failed,
        });
    }
    if let Some(tls) = find::<rustls::Error>(http) {
        let why = format!("the secure connection cannot be made: {tls}");
        return Some(failed(StoreErrorKind::Other).with_source(why).with_remedy(remedy_of_tls(tls)));
    }
    let words = words_of(http);
    let failed = failed(StoreErrorKind::Unavailable).with_source(words.clone());
    Some(match http.kind() {
        _ if words.contains("dns error") || words.contains("lookup address") => {
            failed.with_remedy("the server's name cannot be found: check the endpoint and the network")
        }
        _ if find::<io::Error>(http)
            .is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) =>
        {
            failed.with_remedy("no server listens there: check the endpoint's host and port")
        }
        HttpErrorKind::Connect => failed.with_remedy("check the endpoint and the network"),
        // An https-only client that is given http, or a URL that is none, is no matter of the network.
        HttpErrorKind::Unknown if words.contains("builder error") => {
            StoreError::new(StoreErrorKind::InvalidInput, operation, object)
                .with_source(words)
                .with_remedy("check the endpoint")
        }
        _ => failed,
    })
}

fn remedy_of_tls(error: &rustls::Error) -> &'static str {
    match error {
        rustls::Error::InvalidCertificate(_) => {
            "if the server's certificate is right, name its authority with the option s3.ca-file, or AWS_CA_BUNDLE"
        }
        _ => "check that the endpoint speaks TLS, and that its port is right",
    }
}

/// Looks for an error of a type among the causes, also inside errors of the operating system, which hide theirs.
fn find<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut cause = Some(error);
    while let Some(current) = cause {
        if let Some(found) = current.downcast_ref::<T>() {
            return Some(found);
        }
        let inner = current.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = match inner {
            Some(inner) => Some(inner as &(dyn StdError + 'static)),
            None => current.source(),
        };
    }
    None
}

/// The causes from the outermost to the innermost, each said once. Requests carry their secrets in headers, which no
/// error repeats, and URLs are left out by the client.
fn words_of(error: &HttpError) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut cause = error.source();
    while let Some(current) = cause {
        let text = clean(&current.to_string());
        if !words.iter().any(|said| said.contains(&text)) {
            words.push(text);
        }
        cause = current.source();
    }
    words.join(": ")
}

/// The text of an XML element, which all servers here write without attributes.
fn element(body: &str, name: &str) -> Option<String> {
    let (_, after) = body.split_once(&format!("<{name}>"))?;
    let (text, _) = after.split_once(&format!("</{name}>"))?;
    Some(clean(text)).filter(|text| !text.is_empty())
}

fn text_of(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).and_then(|value| value.to_str().ok()).map(clean).filter(|text| !text.is_empty())
}

fn clean(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    spaced.take(MESSAGE_CHARS_MAX).collect::<String>().trim().to_owned()
}
