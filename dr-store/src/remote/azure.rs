//! Azure Blob Storage.

use object_store::ClientOptions;
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};

use super::client::Connector;
use super::{build, driver, location, no_retries, refused};
use crate::object::ObjectStoreDriver;
use crate::{Result, StoreErrorKind, StoreOptions};

/// The variables that hold credentials, in pairs with what they are to the driver.
const CREDENTIALS: [(&str, AzureConfigKey); 8] = [
    ("AZURE_STORAGE_ACCOUNT_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_KEY", AzureConfigKey::AccessKey),
    ("AZURE_STORAGE_SAS_TOKEN", AzureConfigKey::SasKey),
    ("AZURE_STORAGE_TOKEN", AzureConfigKey::Token),
    ("AZURE_CLIENT_ID", AzureConfigKey::ClientId),
    ("AZURE_CLIENT_SECRET", AzureConfigKey::ClientSecret),
    ("AZURE_TENANT_ID", AzureConfigKey::AuthorityId),
    ("AZURE_FEDERATED_TOKEN_FILE", AzureConfigKey::FederatedTokenFile),
];

/// Opens `//container/prefix` of the account in the environment.
pub(crate) fn open(rest: &str, options: &StoreOptions) -> Result<ObjectStoreDriver> {
    let container = location::bucket("az", rest)?;
    let place = container.shown.as_str();
    let missing = |why: &'static str| {
        let remedy = "set AZURE_STORAGE_ACCOUNT_NAME, and AZURE_STORAGE_ACCOUNT_KEY or AZURE_STORAGE_SAS_TOKEN, or let \
                      a machine of Azure's ask its own metadata with the option azure.instance-credentials=true";
        refused(StoreErrorKind::PermissionDenied, place, why, remedy)
    };
    let account = options
        .variable("AZURE_STORAGE_ACCOUNT_NAME")
        .or_else(|| options.variable("AZURE_STORAGE_ACCOUNT"))
        .ok_or_else(|| missing("no account was named"))?;
    let endpoint = options
        .endpoint()
        .map(str::to_owned)
        .or_else(|| options.variable("AZURE_STORAGE_ENDPOINT"))
        .map(|url| location::server(place, &url, options))
        .transpose()?;
    let is_plain = endpoint.as_ref().is_some_and(|url| url.scheme() == "http");
    let mut builder = MicrosoftAzureBuilder::new()
        .with_container_name(&container.name)
        .with_account(&account)
        .with_retry(no_retries())
        .with_client_options(ClientOptions::new().with_allow_http(is_plain))
        .with_http_connector(Connector::new(place, options)?);
    // A container's name is unique in its account only.
    let mut server = format!("https://{account}.blob.core.windows.net");
    if let Some(url) = &endpoint {
        server = location::text(url);
        builder = builder.with_endpoint(server.clone());
    }
    let mut has_credentials = false;
    for (name, key) in CREDENTIALS {
        if let Some(value) = options.variable(name) {
            builder = builder.with_config(key, value);
            has_credentials = true;
        }
    }
    if !has_credentials && !options.instance_credentials() {
        return Err(missing("there are no credentials"));
    }
    let store = build(place, builder.build())?;
    Ok(driver(store, &container.prefix, format!("{place}?endpoint={server}"), options))
}
