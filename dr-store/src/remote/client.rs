//! The HTTP client of all remote stores: TLS with the machine's or the user's authorities, no redirects, no time limit
//! on a whole request, and refusals of servers made into errors that hold no secrets.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpService,
};
use reqwest::StatusCode;
use reqwest::redirect::Policy;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

use super::failure::Refusal;
use super::keys::KeyFilter;
use super::refused;
use crate::{Result, StoreErrorKind, StoreOptions};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a server may be silent when something is read from it. The whole request ends at the deadline of its call.
const READ_TIMEOUT: Duration = Duration::from_secs(60);

/// Servers close idle connections after a while; one that was just closed costs a request that has to be made again.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Makes the clients of one store.
#[derive(Debug, Clone)]
pub(super) struct Connector {
    tls: ClientConfig,
    /// Takes out of listings what the drivers stumble over, where somebody wants to be told of it.
    keys: Option<Arc<KeyFilter>>,
}

impl Connector {
    /// Reads the authorities that servers are checked against.
    pub(super) fn new(place: &str, options: &StoreOptions) -> Result<Connector> {
        let ca_file = options.ca_file_or(|| options.variable("AWS_CA_BUNDLE"));
        let authorities = match &ca_file {
            Some(file) => from_file(file).map_err(|why| {
                let remedy =
                    "name a file with certificates in PEM form with the option s3.ca-file, or AWS_CA_BUNDLE";
                refused(StoreErrorKind::InvalidInput, place, format!("{}: {why}", file.display()), remedy)
            })?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut roots = RootCertStore::empty();
        // The machine's list may hold certificates that are not understood; without any, each connection says so.
        roots.add_parsable_certificates(authorities);
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| refused(StoreErrorKind::Other, place, error, "this build has no TLS"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Connector { tls, keys: options.key_filter() })
    }
}

impl Connector {
    /// A client for services whose own hosts send it on to others.
    #[cfg(feature = "opendal")]
    pub(super) fn following_client(&self) -> reqwest::Result<reqwest::Client> {
        self.builder().https_only(true).build()
    }

    /// What every client here has in common.
    pub(super) fn builder(&self) -> reqwest::ClientBuilder {
        reqwest::Client::builder()
            .user_agent(concat!("dr/", env!("CARGO_PKG_VERSION")))
            .tls_backend_preconfigured(self.tls.clone())
            .http1_only()
            .connect_timeout(CONNECT_TIMEOUT)
            .pool_idle_timeout(IDLE_TIMEOUT)
    }
}

fn from_file(path: &std::path::Path) -> std::result::Result<Vec<CertificateDer<'static>>, String> {
    let certificates: std::result::Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?.collect();
    let certificates = certificates.map_err(|error| error.to_string())?;
    if certificates.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(certificates) }
}

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let allows_http = options.get_config_value(&ClientConfigKey::AllowHttp).as_deref() == Some("true");
        let client = || {
            self.builder()
                // Only the configured server is asked: a redirect is an answer, and says what is wrong.
                .redirect(Policy::none())
                .https_only(!allows_http)
                .default_headers(options.get_default_headers().cloned().unwrap_or_default())
        };
        let failed = |error| object_store::Error::Generic { store: "HTTP", source: Box::new(error) };
        let reading = client().read_timeout(READ_TIMEOUT).build().map_err(failed)?;
        let writing = client().build().map_err(failed)?;
        Ok(HttpClient::new(Client { reading, writing, keys: self.keys.clone() }))
    }
}

/// The library counts the time in which a request's body is sent as time in which the server is silent, so a slow line
/// would not get a large object through: what is not a mere reading has no limit but the deadline of its call.
#[derive(Debug)]
struct Client {
    reading: reqwest::Client,
    writing: reqwest::Client,
    keys: Option<Arc<KeyFilter>>,
}

#[async_trait]
impl HttpService for Client {
    async fn call(&self, request: HttpRequest) -> std::result::Result<HttpResponse, HttpError> {
        let makes_folder = request.method().as_str() == "MKCOL";
        let is_reading = matches!(request.method().as_str(), "GET" | "HEAD");
        let keys = self.keys.as_ref();
        let keys = keys.filter(|_| KeyFilter::concerns(request.method().as_str(), request.uri().query()));
        let client = if is_reading { &self.reading } else { &self.writing };
        let response = client.call(request).await?;
        if makes_folder && response.status() == StatusCode::METHOD_NOT_ALLOWED {
            // The folder is there already: another put was faster to make it.
            let mut made = HttpResponse::new(Vec::new().into());
            *made.status_mut() = StatusCode::CREATED;
            return Ok(made);
        }
        if let Some(keys) = keys.filter(|_| response.status().is_success()) {
            let (parts, body) = response.into_parts();
            let listing = body.bytes().await?;
            // What is no text is for the driver to refuse.
            let filtered = match std::str::from_utf8(&listing) {
                Ok(listing) => keys.filter(listing).into_bytes().into(),
                Err(_) => listing,
            };
            return Ok(HttpResponse::from_parts(parts, filtered.into()));
        }
        if !Refusal::is_final(response.status()) {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        // The answer is a failure already; what can be read of it serves to explain it.
        let body = body.bytes().await.unwrap_or_default();
        match Refusal::read(&parts, &body) {
            Some(refusal) => Err(HttpError::new(HttpErrorKind::Unknown, refusal)),
            None => Ok(HttpResponse::from_parts(parts, body.into())),
        }
    }
}
