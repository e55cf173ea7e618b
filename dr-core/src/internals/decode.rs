//! Decodes values that stand alone.

use super::*;

/// A value that can be decoded from its bytes alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is a section of FORMAT.md")]
pub enum Kind {
    Header,
    Config,
    KeySlot,
    Wraps,
    Ring,
    LogEntry,
    List,
    Snapshot,
    Entries,
    Refs,
    Extents,
    Checkpoint,
}

/// A decoded value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decoded {
    /// What it holds.
    pub fields: Fields,
    /// Its bytes as this program writes them.
    pub encoded: Vec<u8>,
}

/// Decodes a value.
pub fn decode(kind: Kind, bytes: &[u8]) -> Result<Decoded> {
    let mut text = Text::default();
    let encoded = match kind {
        Kind::Header => {
            let (header, length) = Header::decode(bytes)?;
            text.header("", &header);
            text.put("length", length);
            header.encode()
        }
        Kind::Config => {
            let config = Config::decode(bytes)?;
            text.hex("repository", &config.repository);
            text.put("mode", if config.mode == LogMode::CreateIfAbsent { 0 } else { 1 });
            config.encode()
        }
        Kind::KeySlot => {
            let slot = KeySlot::decode(bytes)?;
            text.key_slot(&slot);
            slot.encode()
        }
        Kind::Wraps => {
            let wraps = Wraps::decode(bytes)?;
            text.hex("salt", &wraps.salt);
            for (number, wrap) in wraps.wraps.iter().enumerate() {
                text.put(&format!("wrap.{number}.slot"), wrap.slot);
                text.hex(&format!("wrap.{number}.sealed_key"), &wrap.sealed_key);
            }
            wraps.encode()
        }
        Kind::Ring => {
            let (ring, config) = KeyRing::decode([0; 16], bytes)?;
            text.ring(&body::decode::<RingBody>("a key ring", bytes)?.value);
            ring.encode(config)
        }
        Kind::LogEntry => {
            let entry = LogEntry::decode(bytes)?;
            text.log_entry(&entry);
            entry.encode()
        }
        Kind::List => {
            let hashes = decode_list(bytes)?;
            text.put("hashes", join(&hashes));
            encode_list(&hashes)
        }
        Kind::Snapshot => {
            let body = SnapshotBody::decode(bytes)?;
            let origins = origins_of(&body.extensions);
            text.snapshot(&body.value, &origins);
            body.value.encode_with(&origins)
        }
        Kind::Entries | Kind::Refs | Kind::Extents => decode_part_of_tree(kind, bytes, &mut text)?,
        Kind::Checkpoint => {
            let checkpoint = CheckpointBody::decode(bytes)?;
            text.checkpoint(&checkpoint);
            checkpoint.encode()
        }
    };
    Ok(Decoded { fields: text.0, encoded })
}

fn decode_part_of_tree(kind: Kind, bytes: &[u8], text: &mut Text) -> Result<Vec<u8>> {
    Ok(match kind {
        Kind::Entries => {
            let entries = decode_entries(bytes)?;
            entries.iter().enumerate().for_each(|(number, entry)| text.entry(number, entry));
            encode_entries(&entries)
        }
        Kind::Refs => {
            let refs = decode_refs(bytes)?;
            text.put("refs", join_refs(&refs));
            encode_refs(&refs)
        }
        _ => {
            let extents = decode_extents(bytes)?;
            text.put("extents", join_extents(&extents));
            encode_extents(&extents)
        }
    })
}
