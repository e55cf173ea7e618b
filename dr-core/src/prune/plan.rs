//! Decides what becomes of each pack. Pure: it sees only what is needed of them.

use std::collections::HashSet;

use super::marks::PackUse;
use super::options::{MaxUnused, PruneOptions};
use crate::format::envelope::PackClass;
use crate::id::ObjectHash;

/// Packs below this length are merged with others when there are many.
const SMALL_PACK_BYTES: u64 = 8 << 20;
/// So many small packs of a class are let be.
const SMALL_PACKS_MAX: usize = 16;

/// What becomes of the packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Plan {
    /// Nothing of them is needed.
    pub(super) dead: Vec<ObjectHash>,
    /// What is needed of them goes into new packs, worst first.
    pub(super) repack: Vec<ObjectHash>,
    pub(super) dead_bytes: u64,
    pub(super) repack_bytes: u64,
    /// Bytes of frames that nothing needs and that stay.
    pub(super) unused_bytes: u64,
    pub(super) live_bytes: u64,
}

/// Plans over packs that are listed and not condemned, in order of their names: `pack` gives that of a number below `packs`, or
/// none. There may be a million, so none is kept.
pub(super) fn plan(packs: usize, pack: impl Fn(usize) -> Option<PackUse>, options: &PruneOptions) -> Plan {
    let mut plan = Plan::default();
    for pack in (0..packs).filter_map(&pack) {
        if pack.live_chunks == 0 {
            plan.dead.push(pack.hash);
            plan.dead_bytes += pack.bytes;
        } else {
            plan.live_bytes += pack.live_bytes;
            plan.unused_bytes += pack.dead_bytes;
        }
    }
    let limit = match options.max_unused {
        MaxUnused::Bytes(bytes) => bytes,
        // A share of what the repository takes afterwards: live / (1 - share) - live.
        MaxUnused::Percent(percent) if percent < 100.0 => {
            (plan.live_bytes as f64 * f64::from(percent) / (100.0 - f64::from(percent))) as u64
        }
        MaxUnused::Percent(_) | MaxUnused::Unlimited => u64::MAX,
    };
    let ratio = |pack: &PackUse| pack.dead_bytes as f64 / (pack.dead_bytes + pack.live_bytes).max(1) as f64;
    let is_ours = |pack: &PackUse| options.shard.is_none_or(|shard| shard.holds(&pack.hash));
    // The numbers of packs that are kept, the most wasteful first.
    let worst = |is_wanted: &dyn Fn(&PackUse) -> bool| -> Vec<usize> {
        let kept = |number: &usize| {
            let pack = pack(*number)?;
            (pack.live_chunks > 0 && is_ours(&pack) && is_wanted(&pack)).then(|| (ratio(&pack), *number))
        };
        let mut found: Vec<(f64, usize)> = (0..packs).filter_map(|number| kept(&number)).collect();
        // Stable: where they waste alike, their names decide.
        found.sort_by(|a, b| b.0.total_cmp(&a.0));
        found.into_iter().map(|(_, number)| number).collect()
    };
    let budget = options.max_repack_bytes.unwrap_or(u64::MAX);
    let mut chosen: HashSet<ObjectHash> = HashSet::new();
    if plan.unused_bytes > limit {
        for pack in worst(&|pack| pack.dead_bytes > 0).into_iter().filter_map(&pack) {
            if plan.unused_bytes <= limit || plan.repack_bytes + pack.bytes > budget {
                break;
            }
            plan.rewrite(&pack, &mut chosen);
        }
    }
    for class in PackClass::ALL {
        let small = worst(&|pack| pack.class == class && pack.bytes < SMALL_PACK_BYTES);
        if small.len() < SMALL_PACKS_MAX {
            continue;
        }
        for pack in small.into_iter().filter_map(&pack) {
            if plan.repack_bytes + pack.bytes <= budget {
                plan.rewrite(&pack, &mut chosen);
            }
        }
    }
    plan
}

impl Plan {
    /// Rewrites a pack, unless it is rewritten already.
    fn rewrite(&mut self, pack: &PackUse, chosen: &mut HashSet<ObjectHash>) {
        if chosen.insert(pack.hash) {
            self.repack.push(pack.hash);
            self.repack_bytes += pack.bytes;
            self.unused_bytes -= pack.dead_bytes;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prune::options::Shard;

    fn pack(number: u8, live: u64, dead: u64) -> PackUse {
        PackUse {
            hash: ObjectHash::from_bytes([number; 32]),
            class: PackClass::Data,
            bytes: live + dead + 1000,
            live_bytes: live,
            dead_bytes: dead,
            live_chunks: live.min(1),
        }
    }

    fn plan(packs: &[PackUse], options: &PruneOptions) -> Plan {
        super::plan(packs.len(), |number| packs.get(number).cloned(), options)
    }

    fn numbers(hashes: &[ObjectHash]) -> Vec<u8> {
        hashes.iter().map(|hash| hash.as_bytes()[0]).collect()
    }

    const MIB: u64 = 1 << 20;

    #[test]
    fn what_nothing_needs_goes_and_the_worst_is_rewritten_until_little_is_wasted() {
        let packs = [
            pack(1, 0, 30 * MIB),
            pack(2, 30 * MIB, 0),
            pack(3, 10 * MIB, 20 * MIB),
            pack(4, 29 * MIB, MIB),
            pack(5, 5 * MIB, 25 * MIB),
        ];
        let found = plan(&packs, &PruneOptions::new());
        assert_eq!(numbers(&found.dead), [1]);
        // 74 MiB are needed: up to 3.9 MiB may be wasted, so the pack that wastes 1 stays.
        assert_eq!(numbers(&found.repack), [5, 3]);
        assert_eq!(found.unused_bytes, MIB);
        let all = PruneOptions { max_unused: MaxUnused::Percent(0.0), ..PruneOptions::new() };
        assert_eq!(numbers(&plan(&packs, &all).repack), [5, 3, 4]);
        let none = PruneOptions { max_unused: MaxUnused::Unlimited, ..PruneOptions::new() };
        assert!(plan(&packs, &none).repack.is_empty());
        let little = PruneOptions { max_repack_bytes: Some(31 * MIB), ..PruneOptions::new() };
        assert_eq!(numbers(&plan(&packs, &little).repack), [5]);
    }

    #[test]
    fn many_small_packs_become_few() {
        let few: Vec<_> = (0..15).map(|number| pack(number, MIB, 0)).collect();
        assert!(plan(&few, &PruneOptions::new()).repack.is_empty());
        let many: Vec<_> = (0..16).map(|number| pack(number, MIB, 0)).collect();
        assert_eq!(plan(&many, &PruneOptions::new()).repack.len(), 16);
    }

    #[test]
    fn shards_share_the_work_without_rest_or_overlap() {
        let packs: Vec<_> = (0..=255).map(|number| pack(number, 10 * MIB, 20 * MIB)).collect();
        let mut all = Vec::new();
        for number in 1..=3 {
            let shard = Shard::new(number, 3).ok();
            let found = plan(&packs, &PruneOptions { shard, ..PruneOptions::new() });
            all.extend(numbers(&found.repack));
        }
        all.sort_unstable();
        assert_eq!(all, (0..=255).collect::<Vec<u8>>());
    }
}
