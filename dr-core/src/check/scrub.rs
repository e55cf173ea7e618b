//! Compares names with contents: needs no key, so that whoever keeps a copy can watch over it.

use dr_store::{Name, ObjectMeta, Store};

use super::findings::Findings;
use super::report::CheckReport;
use crate::error::Result;
use crate::format::config::Config;
use crate::format::envelope::{Header, ObjectType};
use crate::format::names;
use crate::id::ObjectHash;
use crate::limits::PACK_BYTES_MAX;
use crate::observer::{Context, Event};
use crate::repository::check_bytes;

/// Reads every object of a repository and compares it with its name, without any key. What is missing is not noticed: only
/// the log, which is sealed, knows what should be there.
///
/// # Errors
/// `Cancelled`, and what the store answers. Damage is no error: the report names it.
pub fn scrub(store: &dyn Store, ctx: &Context<'_>) -> Result<CheckReport> {
    let findings = Findings::default();
    let mut objects: Vec<ObjectMeta> = Vec::new();
    store.list("", None, &mut |meta| {
        objects.push(meta);
        Ok(())
    })?;
    if !objects.iter().any(|meta| meta.name == names::config()) {
        findings.error(names::config(), "the repository's config is missing");
    }
    ctx.observer.event(&Event::Total {
        entries: objects.len() as u64,
        bytes: objects.iter().map(|meta| meta.bytes).sum(),
    });
    let (mut bytes_read, mut packs) = (0, 0);
    for meta in objects {
        ctx.cancel.check()?;
        let folder = meta.name.as_str().split('/').next().unwrap_or_default();
        if folder == names::PROBE {
            continue;
        }
        if let Err(error) = check_bytes(&meta.name, meta.bytes, PACK_BYTES_MAX) {
            findings.failure(&meta.name, &error);
            continue;
        }
        let bytes = store.get(&meta.name)?;
        bytes_read += bytes.len() as u64;
        packs += u64::from(matches!(folder, "data" | "tree"));
        scrub_object(folder, &meta.name, &bytes, &findings);
        ctx.observer.event(&Event::Progress { bytes: bytes.len() as u64 });
    }
    let mut report = findings.into_report();
    (report.bytes_read, report.packs) = (bytes_read, packs);
    Ok(report)
}

fn scrub_object(folder: &str, name: &Name, bytes: &[u8], findings: &Findings) {
    match folder {
        names::CONFIG => {
            if let Err(error) = Config::decode(bytes) {
                findings.error(name, error);
            }
        }
        names::LOG => {
            let is_slot = |(header, _): (Header, usize)| header.object == ObjectType::Slot;
            if names::parse_slot(name).is_none() || !Header::decode(bytes).is_ok_and(is_slot) {
                findings.error(name, "the object is no slot of a log");
            }
        }
        names::KEYS | names::RING | names::INDEX | names::LIST | names::CHECKPOINT | "data" | "tree" => {
            match names::parse_hash(name) {
                Some(hash) if hash == ObjectHash::of_parts([bytes]) => {}
                Some(_) => findings.error(name, "the object does not hash to its name"),
                None => findings.note(name, "an object of an unknown name"),
            }
        }
        _ => findings.note(name, "an object of an unknown name"),
    }
}
