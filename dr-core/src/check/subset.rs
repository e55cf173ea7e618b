//! Which packs a check reads.

use std::collections::BTreeMap;

use crate::entropy::Entropy;
use crate::error::Result;
use crate::format::envelope::PackClass;
use crate::id::ObjectHash;
use crate::prune::Shard;

/// A part of the packs.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Subset {
    /// Those of one shard: all shards together are all packs.
    Shard(Shard),
    /// A random share of them, in percent.
    Percent(f32),
    /// Random ones of about so many bytes together.
    Bytes(u64),
}

/// Chooses packs.
pub(super) fn choose(
    stored: &BTreeMap<ObjectHash, (PackClass, u64)>,
    subset: Option<Subset>,
    entropy: &dyn Entropy,
) -> Result<BTreeMap<ObjectHash, (PackClass, u64)>> {
    let limit = match subset {
        None => return Ok(stored.clone()),
        Some(Subset::Shard(shard)) => {
            let ours = stored.iter().filter(|(pack, _)| shard.holds(pack));
            return Ok(ours.map(|(pack, found)| (*pack, *found)).collect());
        }
        Some(Subset::Bytes(bytes)) => bytes,
        Some(Subset::Percent(percent)) => {
            let total: u64 = stored.values().map(|(_, bytes)| bytes).sum();
            (total as f64 * f64::from(percent.clamp(0.0, 100.0)) / 100.0).ceil() as u64
        }
    };
    // Names are hashes of ciphertext: keyed anew, their order is a random one.
    let mut key = [0; 32];
    entropy.fill(&mut key)?;
    let mut order: Vec<(&ObjectHash, &(PackClass, u64))> = stored.iter().collect();
    order.sort_by_cached_key(|(pack, _)| *blake3::keyed_hash(&key, pack.as_bytes()).as_bytes());
    let mut chosen = BTreeMap::new();
    let mut bytes = 0;
    for (pack, found) in order {
        if bytes >= limit {
            break;
        }
        bytes += found.1;
        chosen.insert(*pack, *found);
    }
    Ok(chosen)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entropy::SystemEntropy;

    #[test]
    fn parts_are_as_large_as_was_asked_and_shards_make_the_whole() {
        let stored: BTreeMap<ObjectHash, (PackClass, u64)> = (0..1000u32)
            .map(|number| (ObjectHash::of_parts([&number.to_le_bytes()[..]]), (PackClass::Data, 10)))
            .collect();
        let count = |subset| choose(&stored, subset, &SystemEntropy).unwrap().len();
        assert_eq!(count(None), 1000);
        assert_eq!(count(Some(Subset::Percent(2.5))), 25);
        assert_eq!(count(Some(Subset::Bytes(95))), 10);
        assert_eq!(count(Some(Subset::Percent(0.0))), 0);
        let shards = (1..=7).map(|number| count(Shard::new(number, 7).ok().map(Subset::Shard)));
        assert_eq!(shards.sum::<usize>(), 1000);
        let one = choose(&stored, Some(Subset::Bytes(10)), &SystemEntropy).unwrap();
        let several = (0..20).map(|_| choose(&stored, Some(Subset::Bytes(10)), &SystemEntropy).unwrap());
        assert!(several.into_iter().any(|other| other.keys().ne(one.keys())), "it is always the same pack");
    }
}
