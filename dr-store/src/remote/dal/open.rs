//! Making the stores of OpenDAL from their locations, and from the variables that hold their credentials.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::atomic::AtomicU64;

use opendal::services::{B2, Dropbox, Gdrive, Onedrive, Sftp, Swift};
use opendal::{Builder, HttpTransporter, OperationContext, Operator};
use opendal_http_transport_reqwest::ReqwestTransport;
use reqwest::Url;

use super::DalStore;
use crate::remote::client::Connector;
use crate::remote::{location, refused};
use crate::{Result, StoreError, StoreErrorKind, StoreOptions};

/// Opens `rest`, what follows the colon, of one of the schemes that only OpenDAL knows.
pub(crate) fn open(scheme: &str, rest: &str, options: &StoreOptions) -> Result<DalStore> {
    let secret = |name: &str| options.variable(name).unwrap_or_default();
    let needed = |place: &str, name: &'static str, remedy: &'static str| {
        options.variable(name).ok_or_else(|| {
            refused(StoreErrorKind::PermissionDenied, place, format!("{name} is not set"), remedy)
        })
    };
    match scheme {
        "sftp" => sftp(rest, options),
        "b2" => {
            let bucket = location::bucket(scheme, rest)?;
            let remedy = "set B2_APPLICATION_KEY_ID, B2_APPLICATION_KEY and B2_BUCKET_ID";
            let service = B2::default()
                .bucket(&bucket.name)
                .root(bucket.prefix.as_ref())
                .bucket_id(&needed(&bucket.shown, "B2_BUCKET_ID", remedy)?)
                .application_key_id(&needed(&bucket.shown, "B2_APPLICATION_KEY_ID", remedy)?)
                .application_key(&needed(&bucket.shown, "B2_APPLICATION_KEY", remedy)?);
            over_http(service, bucket.shown, options)
        }
        "swift" => {
            let container = location::bucket(scheme, rest)?;
            let remedy = "set OS_STORAGE_URL and OS_AUTH_TOKEN";
            let service = Swift::default()
                .container(&container.name)
                .root(container.prefix.as_ref())
                .endpoint(&needed(&container.shown, "OS_STORAGE_URL", remedy)?)
                .token(&needed(&container.shown, "OS_AUTH_TOKEN", remedy)?);
            over_http(service, container.shown, options)
        }
        "gdrive" => {
            let (root, shown) = drive(scheme, rest)?;
            let service = Gdrive::default()
                .root(&root)
                .access_token(&secret("GDRIVE_ACCESS_TOKEN"))
                .refresh_token(&secret("GDRIVE_REFRESH_TOKEN"))
                .client_id(&secret("GDRIVE_CLIENT_ID"))
                .client_secret(&secret("GDRIVE_CLIENT_SECRET"));
            over_http(service, shown, options)
        }
        "onedrive" => {
            let (root, shown) = drive(scheme, rest)?;
            let service = Onedrive::default()
                .root(&root)
                .access_token(&secret("ONEDRIVE_ACCESS_TOKEN"))
                .refresh_token(&secret("ONEDRIVE_REFRESH_TOKEN"))
                .client_id(&secret("ONEDRIVE_CLIENT_ID"))
                .client_secret(&secret("ONEDRIVE_CLIENT_SECRET"));
            over_http(service, shown, options)
        }
        _ => {
            let (root, shown) = drive(scheme, rest)?;
            let mut service = Dropbox::default().root(&root);
            // A token that is empty counts as one to this service.
            if let Some(token) = options.variable("DROPBOX_ACCESS_TOKEN") {
                service = service.access_token(&token);
            }
            if let Some(token) = options.variable("DROPBOX_REFRESH_TOKEN") {
                service = service
                    .refresh_token(&token)
                    .client_id(&secret("DROPBOX_CLIENT_ID"))
                    .client_secret(&secret("DROPBOX_CLIENT_SECRET"));
            }
            over_http(service, shown, options)
        }
    }
}

/// Reads `///folder` or `//folder` of a drive that is the account's own.
fn drive(scheme: &str, rest: &str) -> Result<(String, String)> {
    let folder = rest.trim_start_matches('/').trim_end_matches('/');
    let is_folder = rest.starts_with("//") && !folder.contains(['@', '?', '#', '\\']);
    if !is_folder {
        let remedy = "write the location as, for example, gdrive:///backup";
        let why = "a drive's location has the form SCHEME:///FOLDER";
        return Err(refused(StoreErrorKind::InvalidInput, &format!("{scheme}:…"), why, remedy));
    }
    Ok((format!("/{folder}"), format!("{scheme}:///{folder}")))
}

/// Reads `//user@host:port/path`. The system's `ssh` connects, with its configuration and its agent.
fn sftp(rest: &str, options: &StoreOptions) -> Result<DalStore> {
    let wrong = || {
        let why = "an SFTP location has the form sftp://USER@HOST:PORT/PATH, without a password";
        let remedy = "log in with a key: the agent's, or the file that DR_SFTP_KEY_FILE names";
        refused(StoreErrorKind::InvalidInput, "sftp:…", why, remedy)
    };
    let url = Url::parse(&format!("sftp:{rest}")).map_err(|_| wrong())?;
    let host = url.host_str().filter(|host| !host.starts_with('-')).ok_or_else(wrong)?;
    if url.password().is_some() || url.query().is_some() || url.username().starts_with('-') {
        return Err(wrong());
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let service = Sftp::default()
        .endpoint(&format!("ssh://{host}{port}"))
        .user(url.username())
        .root(url.path())
        .key(&options.variable("DR_SFTP_KEY_FILE").unwrap_or_default())
        .known_hosts_strategy(&options.variable("DR_SFTP_KNOWN_HOSTS").unwrap_or_default());
    let operator = built(service, url.as_str())?;
    Ok(DalStore { puts_are_staged: true, ..store(operator, url.to_string()) })
}

fn over_http(service: impl Builder, shown: String, options: &StoreOptions) -> Result<DalStore> {
    let client = Connector::new(&shown, options)?.following_client().map_err(|error| {
        StoreError::new(StoreErrorKind::Other, "open", shown.as_str()).with_source(error.without_url())
    })?;
    let transport = HttpTransporter::new(ReqwestTransport::new(client));
    let context = OperationContext::new().with_http_transport(transport);
    Ok(store(built(service, &shown)?.with_context(context), shown))
}

fn built(service: impl Builder, place: &str) -> Result<Operator> {
    Operator::new(service).map_err(|error| {
        let remedy = "set the variables that hold the service's credentials; the documentation of dr_store::open_with lists them";
        refused(StoreErrorKind::PermissionDenied, place, error.message().to_owned(), remedy)
    })
}

fn store(operator: Operator, endpoint: String) -> DalStore {
    // The hasher's keys are random; that is all that is needed of it.
    let nonce = RandomState::new().hash_one(std::process::id());
    DalStore { operator, endpoint, puts_are_staged: false, staged: AtomicU64::new(0), nonce }
}
