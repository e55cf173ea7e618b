//! One message to one address.

use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;

use super::client::Connector;
use crate::{Result, StoreError, StoreErrorKind, StoreOptions, runtime};

/// Posts JSON and looks at the answer's status only.
pub(crate) fn post_json(url: &str, place: String, body: Vec<u8>, deadline: Duration) -> Result<()> {
    let failed = |kind| StoreError::new(kind, "post", place.clone());
    // No variable of a store says whom to trust here.
    let options = StoreOptions::new().with_variables(|_| None);
    let builder = Connector::new(&place, &options)?.builder();
    let client = builder.redirect(Policy::none()).timeout(deadline).build();
    let client = client.map_err(|error| failed(StoreErrorKind::Other).with_source(error.without_url()))?;
    let request = client.post(url).header(CONTENT_TYPE, "application/json").body(body);
    let answer = runtime::wait("post", &place, Some(deadline), async move {
        request.send().await.map(|response| response.status()).map_err(reqwest::Error::without_url)
    })?;
    match answer {
        Ok(status) if status.is_success() => Ok(()),
        Ok(status) => Err(failed(StoreErrorKind::Other).with_source(format!("it answered {status}"))),
        Err(error) if error.is_builder() => {
            Err(failed(StoreErrorKind::InvalidInput).with_source("this is no URL"))
        }
        Err(error) => Err(failed(StoreErrorKind::Unavailable).with_source(error)),
    }
}
