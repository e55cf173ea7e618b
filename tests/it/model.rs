//! A model of the commit log's protocol: every interleaving of a few processes is tried, and after every step no
//! snapshot may have lost a chunk. What an entry does, and whether it is valid, is asked of the engine itself;
//! `PROTOCOL.md` says what the rest of the model stands for.

mod actors;
mod log;
mod world;

use std::time::Instant;

use dr_core::internals::protocol::Refusal;
use stateright::{Checker, HasDiscoveries, Model, Property};

use actors::Action;
use log::Entry;
use world::{Budget, Chunks, Op, Phase, Reader, World};

const WRITERS: usize = 3;
/// How often a writer tries.
const TRIES: u8 = 2;

const A: Chunks = 1;
const B: Chunks = 2;
const C: Chunks = 4;
const D: Chunks = 8;

/// The two snapshots that are there from the start, and what the pack that each wrote holds.
#[derive(Debug, Clone, Copy)]
struct Seeds {
    contents: [Chunks; 2],
    packs: [Chunks; 2],
}

/// The second found A in the pack of the first.
const SEEDS: Seeds = Seeds { contents: [A | B, A | C], packs: [A | B, C] };

/// What a writer backs up, and whether it takes over what the newest snapshot has without looking.
#[derive(Debug, Clone, Copy)]
struct Writer {
    content: Chunks,
    parent: bool,
}

/// The rules, each of which can be taken away.
#[derive(Debug, Clone, Copy)]
struct Rules {
    /// V1.
    own: bool,
    /// V2.
    dedup: bool,
    /// V3.
    reused: bool,
    /// A Condemn holds only on the state that it was planned on.
    plan: bool,
    /// Or on a newer one, where nothing that came since rests on what is to go.
    rest: bool,
    /// Only forgotten snapshots are collected.
    forgotten: bool,
    /// The inputs of a Reindex are live.
    input: bool,
    /// The output of a Reindex is not condemned.
    output: bool,
    /// A compaction keeps every pack that is not condemned, second copies too.
    copies: bool,
    /// Nothing is appended to a damaged log.
    damage: bool,
}

impl Rules {
    const ALL: Rules = Rules {
        own: true,
        dedup: true,
        reused: true,
        plan: true,
        rest: true,
        forgotten: true,
        input: true,
        output: true,
        copies: true,
        damage: true,
    };
}

#[derive(Debug, Clone, Copy)]
struct Config {
    seeds: Seeds,
    writers: &'static [Writer],
    collectors: &'static [&'static [Op]],
    reader: bool,
    /// Packs and segments are put in steps of their own.
    fine: bool,
    budget: Budget,
    rules: Rules,
    /// What must be seen to happen, so that the model is known to try it.
    reaches: &'static [&'static str],
}

const BUDGET: Budget =
    Budget { forgets: 1, unforgets: 0, protects: 0, crashes: 0, unclear: 0, bad: 0, damages: 0 };

/// Finds A and C, takes A and C over from a parent and stores D, stores D.
const BACKUPS: &[Writer] = &[
    Writer { content: A | C, parent: false },
    Writer { content: A | C | D, parent: true },
    Writer { content: D, parent: false },
];

const BASE: Config = Config {
    seeds: SEEDS,
    writers: BACKUPS,
    collectors: &[&[Op::Prune]],
    reader: false,
    fine: false,
    budget: BUDGET,
    rules: Rules::ALL,
    reaches: &[],
};

const WHOLE: &str = "every chunk of every uncollected snapshot is where the index says";
const KEPT: &str = "no snapshot is lost that was acknowledged and not forgotten";
const READ: &str = "a reader of a live snapshot never fails";
const ONCE: &str = "no pack is listed twice";

impl Model for Config {
    type State = World;
    type Action = Action;

    fn init_states(&self) -> Vec<World> {
        vec![World::new(self)]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        world.actions(actions);
    }

    fn next_state(&self, world: &World, action: Action) -> Option<World> {
        let mut next = world.clone();
        next.act(self, action);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Config>> {
        let mut properties = vec![
            Property::always(WHOLE, |config: &Config, world: &World| world.is_whole(config)),
            Property::always(KEPT, |_, world: &World| world.lost == 0),
            Property::always(READ, |_, world: &World| world.reader != Reader::Failed),
            Property::always(ONCE, |_, world: &World| world.is_listed_once()),
        ];
        properties.extend(sights().into_iter().filter(|sight| self.reaches.contains(&sight.name)));
        properties
    }
}

fn sights() -> Vec<Property<Config>> {
    vec![
        Property::sometimes("condemned", |_, world: &World| {
            world.log.slots.iter().any(|slot| matches!(slot.entry, Entry::Condemn { .. }))
        }),
        Property::sometimes("deleted", |_, world: &World| world.view().condemned_packs & !world.packs != 0),
        Property::sometimes("V1", |_, world: &World| world.is_any_refused(Refusal::OwnCondemned)),
        Property::sometimes("V2", |_, world: &World| world.is_any_refused(Refusal::DedupCondemned)),
        Property::sometimes("V3", |_, world: &World| world.is_any_refused(Refusal::ReusedCollected)),
        Property::sometimes("outdated", |_, world: &World| world.is_any_refused(Refusal::PlanOutdated)),
        Property::sometimes("not forgotten", |_, world: &World| world.is_any_refused(Refusal::NotForgotten)),
        // A commit is refused like this too; a Reindex has no other rule of this kind.
        Property::sometimes("output", |_, world: &World| {
            world.processes[WRITERS..].iter().any(|it| it.phase == Phase::Refused(Refusal::OwnCondemned))
        }),
        Property::sometimes("input", |_, world: &World| world.is_any_refused(Refusal::InputNotLive)),
        Property::sometimes("too late", |_, world: &World| world.came_too_late()),
        Property::sometimes("void", |_, world: &World| {
            world.log.slots.windows(2).any(|pair| pair[0].entry == Entry::Bad)
        }),
        Property::sometimes("stopped", |_, world: &World| {
            world.processes.iter().any(|process| process.phase == Phase::Stopped)
        }),
        Property::sometimes("all done", |_, world: &World| {
            world.processes.iter().all(|process| process.phase == Phase::Done)
        }),
    ]
}

/// Tries everything, and fails where a property does not hold.
#[expect(clippy::print_stdout, reason = "how much was tried is a result too")]
fn holds(name: &str, config: Config) {
    let began = Instant::now();
    let checker = config.checker().threads(threads()).spawn_dfs().join();
    let states = checker.unique_state_count();
    println!("{name}: {states} states, {} steps deep, {:.1?}", checker.max_depth(), began.elapsed());
    checker.assert_properties();
}

/// Expects that a property does not hold, and prints the steps to where it does not.
#[expect(clippy::print_stdout, reason = "how much was tried is a result too")]
fn breaks(config: Config, property: &'static str) {
    let finish = HasDiscoveries::AnyOf([property].into());
    let checker = config.checker().threads(1).finish_when(finish).spawn_bfs().join();
    let path = checker.discovery(property).expect("the rule is needed for something");
    let actions = path.into_actions();
    println!("{} states; {} steps: {actions:?}", checker.unique_state_count(), actions.len());
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[test]
fn nothing_is_lost_between_writers_and_a_collector() {
    holds(
        "three writers, one collector",
        Config { reaches: &["condemned", "deleted", "V1", "V2", "V3", "outdated", "all done"], ..BASE },
    );
}

#[test]
fn nothing_is_lost_by_a_collector_that_goes_on_with_its_plan() {
    let config = Config {
        collectors: &[&[Op::Collect, Op::Delete]],
        reader: true,
        budget: Budget { unforgets: 1, ..BUDGET },
        reaches: &["condemned", "deleted", "V1", "V2", "V3", "outdated", "too late", "all done"],
        ..BASE
    };
    holds("three writers, a collector that goes on with its plan, a reader, and an operator", config);
}

#[test]
fn nothing_is_lost_by_a_repack() {
    let config = Config {
        writers: &BACKUPS[..2],
        collectors: &[&[Op::Repack, Op::Prune], &[Op::PruneListed]],
        reader: true,
        reaches: &["deleted", "V1", "V2", "V3", "outdated", "all done"],
        ..BASE
    };
    holds("two writers, two collectors of which one repacks, a reader", config);
}

#[test]
fn nothing_is_lost_by_a_compaction() {
    let config = Config {
        writers: &BACKUPS[1..],
        collectors: &[&[Op::Compact, Op::PruneListed], &[Op::Compact, Op::Prune]],
        budget: Budget { forgets: 0, ..BUDGET },
        reaches: &["deleted", "V1", "output", "input", "outdated", "all done"],
        ..BASE
    };
    holds("two writers, two collectors that compact", config);
}

#[test]
fn what_is_asked_back_in_time_or_protected_is_kept() {
    let config = Config {
        writers: &BACKUPS[1..2],
        collectors: &[&[Op::Expire]],
        budget: Budget { unforgets: 1, protects: 1, ..BUDGET },
        reaches: &["deleted", "V3", "not forgotten", "outdated", "too late"],
        ..BASE
    };
    holds("one writer, one collector that forgets, and an operator", config);
}

#[test]
fn nothing_is_lost_where_things_fail() {
    let config = Config {
        writers: &BACKUPS[1..2],
        fine: true,
        budget: Budget { crashes: 1, unclear: 1, bad: 1, damages: 1, ..BUDGET },
        reaches: &["deleted", "V1", "V3", "void", "stopped"],
        ..BASE
    };
    holds("one writer, one collector, and faults", config);
}

/// The largest: for a machine with time.
#[test]
fn nothing_is_lost_in_the_long_run() {
    if std::env::var_os("DR_MODEL").is_none_or(|size| size != "long") {
        return;
    }
    for (name, config) in long() {
        holds(name, config);
    }
}

fn long() -> Vec<(&'static str, Config)> {
    let faults = Budget { crashes: 1, unclear: 1, bad: 1, ..BUDGET };
    vec![
        ("three writers, two collectors", Config { collectors: &[&[Op::Prune], &[Op::Prune]], ..BASE }),
        (
            "three writers, two collectors of which one repacks and one compacts",
            Config { collectors: &[&[Op::Repack, Op::Prune], &[Op::Compact]], ..BASE },
        ),
        (
            "one writer, two collectors of which one compacts, a reader, and faults",
            Config {
                writers: &BACKUPS[1..2],
                collectors: &[&[Op::Compact], &[Op::Prune]],
                reader: true,
                budget: faults,
                ..BASE
            },
        ),
        (
            "two writers, two collectors that go on with their plans of which one repacks, an operator, and faults",
            Config {
                writers: &BACKUPS[..2],
                collectors: &[&[Op::Collect, Op::Delete], &[Op::Repack, Op::Delete]],
                budget: Budget { unforgets: 1, crashes: 1, ..BUDGET },
                ..BASE
            },
        ),
        (
            "two writers, two collectors of which one repacks and compacts, a reader",
            Config {
                writers: &BACKUPS[..2],
                collectors: &[&[Op::Repack, Op::Compact, Op::Prune], &[Op::Prune]],
                reader: true,
                ..BASE
            },
        ),
    ]
}

#[test]
fn without_v1_a_pack_is_deleted_that_was_just_written() {
    let rules = Rules { own: false, ..Rules::ALL };
    breaks(Config { writers: &BACKUPS[2..], rules, ..BASE }, WHOLE);
}

#[test]
fn without_v2_a_pack_is_deleted_that_a_backup_found() {
    let rules = Rules { dedup: false, ..Rules::ALL };
    breaks(Config { writers: &BACKUPS[..1], rules, ..BASE }, WHOLE);
}

#[test]
fn without_v3_what_was_taken_over_from_a_parent_is_deleted() {
    let rules = Rules { reused: false, ..Rules::ALL };
    breaks(Config { writers: &BACKUPS[1..2], rules, ..BASE }, WHOLE);
}

#[test]
fn an_old_plan_deletes_what_a_new_snapshot_needs() {
    let rules = Rules { plan: false, ..Rules::ALL };
    breaks(Config { writers: &BACKUPS[..1], rules, ..BASE }, WHOLE);
}

#[test]
fn a_plan_that_goes_on_regardless_deletes_what_a_new_snapshot_rests_on() {
    let config = Config {
        writers: &BACKUPS[..1],
        collectors: &[&[Op::Collect, Op::Delete]],
        rules: Rules { rest: false, ..Rules::ALL },
        ..BASE
    };
    breaks(config, WHOLE);
}

#[test]
fn a_plan_collects_a_snapshot_that_was_protected_meanwhile() {
    let config = Config {
        writers: &[],
        collectors: &[&[Op::Expire]],
        budget: Budget { protects: 1, ..BUDGET },
        rules: Rules { forgotten: false, ..Rules::ALL },
        ..BASE
    };
    // The fold keeps the snapshot, but its packs go.
    breaks(config, WHOLE);
}

#[test]
fn two_compactions_of_the_same_segments_both_count() {
    let config = Config {
        writers: &[],
        collectors: &[&[Op::Compact], &[Op::Compact]],
        rules: Rules { input: false, ..Rules::ALL },
        ..BASE
    };
    breaks(config, ONCE);
}

#[test]
fn an_output_that_is_taken_for_an_orphan_takes_the_index_with_it() {
    let config = Config {
        writers: &[],
        collectors: &[&[Op::Compact], &[Op::Prune]],
        rules: Rules { output: false, ..Rules::ALL },
        ..BASE
    };
    breaks(config, WHOLE);
}

#[test]
fn a_compaction_that_drops_second_copies_fools_v2() {
    let config = Config {
        seeds: Seeds { contents: [A, A], packs: [A, A] },
        writers: &[Writer { content: A, parent: false }],
        collectors: &[&[Op::Compact], &[Op::PruneListed]],
        budget: Budget { forgets: 2, ..BUDGET },
        rules: Rules { copies: false, ..Rules::ALL },
        ..BASE
    };
    breaks(config, WHOLE);
}

#[test]
fn a_collector_that_passes_over_damage_deletes_what_it_does_not_see() {
    let config = Config {
        writers: &[],
        budget: Budget { forgets: 0, damages: 1, ..BUDGET },
        rules: Rules { damage: false, ..Rules::ALL },
        ..BASE
    };
    breaks(config, WHOLE);
}
