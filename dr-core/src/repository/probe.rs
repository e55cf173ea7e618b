//! Whether a store decides who creates a name: everything that several writers agree on rests on it.

use std::time::Duration;

use dr_store::Store;
use dr_store::probe::{CreateSupport, probe_create};

use super::Inner;
use super::state::write_private;
use crate::entropy::{Entropy, random};
use crate::error::{Error, ErrorKind, Result};
use crate::format::config::LogMode;

/// How long an answer is believed.
const BELIEVED: Duration = Duration::from_secs(24 * 3600);

/// Refuses a store that does not. Stores that vouch for themselves are not asked.
pub(super) fn check_create(store: &dyn Store, entropy: &dyn Entropy) -> Result<()> {
    if store.create_is_proven() {
        return Ok(());
    }
    let why = match probe_create(store, random(entropy)?)? {
        CreateSupport::Atomic => return Ok(()),
        CreateSupport::Ignored => "it replaces an object that was only to be created".to_owned(),
        CreateSupport::Racy { winners } => {
            format!("in a race of 32 it told {winners} writers that they had created the same object")
        }
        _ => "it cannot create an object only where there is none".to_owned(),
    };
    Err(Error::new(
        ErrorKind::StoreFailed,
        format!("the store does not decide between several writers: {why}"),
    )
    .with_object(store.endpoint())
    .with_remedy(
        "use another store; or make the repository with --siblings, and prune it only while nobody writes",
    ))
}

impl Inner {
    /// Probes the store before this machine's first write, and once a day.
    pub(crate) fn probe_if_due(&self) -> Result<()> {
        if self.config.mode != LogMode::CreateIfAbsent || self.store.create_is_proven() {
            return Ok(());
        }
        let now = self.clock.now().seconds;
        let path = self.seen.as_ref().map(super::SeenHead::probed_path);
        let believed = path.as_ref().and_then(|path| std::fs::read_to_string(path).ok());
        let probed: Option<i64> = believed.and_then(|text| text.trim_end().parse().ok());
        let is_fresh = probed.is_some_and(|when| (0..BELIEVED.as_secs() as i64).contains(&(now - when)));
        if is_fresh || self.probed.get().is_some() {
            return Ok(());
        }
        check_create(&*self.store, &*self.entropy)?;
        let _ = self.probed.set(());
        if let Some(path) = path {
            // State that cannot be written costs only that the store is asked again.
            let _ = write_private(&path, format!("{now}\n").as_bytes());
        }
        Ok(())
    }
}
