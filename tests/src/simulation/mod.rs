//! Histories drawn from a seed: several clients act on one simulated store whose calls interleave, fail, come late and
//! come twice, while clients die. The code that runs is the engine's own. The same seed gives the same history, call by
//! call.

mod client;
mod derive;
mod model;
mod source;
mod store;
mod turnstile;
mod world;

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use dr_core::{
    Cipher, CreateOptions, MaxUnused, PruneOptions, Repository, RepositoryOptions, SnapshotFilter,
};

use crate::steps::{Dice, alone, check};
use crate::{TestClock, TestEntropy, key};
use client::Client;
use world::{Rates, World};

/// What a history came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    /// The BLAKE3 of its record: every call of the store with its name, length and result, and every operation.
    pub trace: String,
    /// Calls of the store.
    pub calls: u64,
    /// Backups that were acknowledged.
    pub snapshots: u64,
    /// Snapshots that were collected.
    pub collected: u64,
    /// Objects that were deleted.
    pub deleted: u64,
    /// Snapshots that were restored and compared while others acted.
    pub restored: u64,
    /// Streams that were put.
    pub put: u64,
    /// Snapshots that were rewritten.
    pub rewritten: u64,
    /// Snapshots that were merged of others.
    pub merged: u64,
    /// Clients that died.
    pub deaths: u64,
}

/// A history in which something did not hold.
pub struct Failure {
    /// The seed.
    pub seed: u64,
    /// What did not hold.
    pub why: String,
    /// The operations, in order.
    pub operations: Vec<String>,
    /// The last lines of the record.
    pub tail: Vec<String>,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}: {}", self.seed, self.why)?;
        writeln!(f, "operations:\n  {}", self.operations.join("\n  "))?;
        writeln!(f, "the end of the record:\n  {}", self.tail.join("\n  "))?;
        write!(
            f,
            "replay: DR_SIM_FIRST={} DR_SIM_SEEDS=1 cargo test -p dr-tests --test it heavy_histories",
            self.seed
        )
    }
}

/// Runs the history of a seed.
///
/// # Errors
/// Where something does not hold.
pub fn run(seed: u64) -> Result<Summary, Failure> {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
    let mut dice = Dice::new(seed);
    let clients = 2 + dice.below(3) as usize;
    let acts = if seed.is_multiple_of(16) { 12 } else { 2 + dice.below(6) };
    let world = Arc::new(World::new(seed, clients, rates(&mut dice)));
    create(&world, seed);
    let mut summary = Summary::default();
    let actors: Vec<Client> = std::thread::scope(|scope| {
        let world = &world;
        let folder = folder.path();
        let begin = |number| {
            let mut client = Client::new(world, number, seed, folder);
            scope.spawn(move || {
                world.turnstile.enter(number);
                client.run(acts);
                world.turnstile.leave(number);
                client
            })
        };
        let threads: Vec<_> = (0..clients).map(begin).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    for actor in &actors {
        summary.restored += actor.restored;
        summary.deleted += actor.deleted;
        summary.put += actor.put;
        summary.rewritten += actor.rewritten;
        summary.merged += actor.merged;
        summary.deaths += actor.deaths;
    }
    let settled = world.state().failure.is_none();
    if settled
        && let Err(why) = epilogue(&world, Client::last(&world, clients, seed, folder.path()), &mut dice)
    {
        world.fail(why);
    }
    let state = world.state();
    if let Some(why) = state.failure.clone() {
        return Err(Failure { seed, why, operations: state.operations(), tail: state.tail() });
    }
    let model = world.model();
    (summary.snapshots, summary.collected) = (model.acknowledged(), model.collected());
    (summary.trace, summary.calls) = (state.trace(), state.calls());
    Ok(summary)
}

fn rates(dice: &mut Dice) -> Rates {
    let scale = [0, 1, 4][dice.below(3) as usize];
    Rates { refused: scale * 10, lost: scale * 15, delayed: scale * 15, doubled: scale * 5, taken: scale * 5 }
}

fn create(world: &World, seed: u64) {
    let options = RepositoryOptions::new()
        .cipher(Cipher::ChaCha20Poly1305)
        .with_clock(Arc::new(TestClock::default()))
        .with_entropy(Arc::new(TestEntropy::new(seed << 16)));
    let store = Arc::new(world.store.clone());
    let seer = Repository::create(store, &key(), &CreateOptions::new(), options).unwrap();
    world.seer.set(seer).unwrap();
}

/// What must hold when all is over, with everything that was late there or gone; and once more after a collection.
fn epilogue(world: &Arc<World>, mut client: Client, dice: &mut Dice) -> Result<(), String> {
    world.settle();
    let said = |error: dr_core::Error| format!("at the end: {error:?}");
    let repository = client.open().map_err(said)?;
    verify(world, &mut client, &repository)?;
    if dice.below(3) > 0 {
        return Ok(());
    }
    let mut options = PruneOptions::new();
    options.max_unused = MaxUnused::Percent(0.0);
    options.leftover_age = std::time::Duration::ZERO;
    let pruned = alone(&(), |ctx| repository.prune(&options, ctx)).map_err(said)?;
    world.model().collect(&pruned.collected)?;
    verify(world, &mut client, &repository)
}

fn verify(world: &World, client: &mut Client, repository: &Repository) -> Result<(), String> {
    let said = |error: dr_core::Error| format!("at the end: {error:?}");
    let all = SnapshotFilter::new();
    let live = repository.snapshots(&all).map_err(said)?;
    let forgotten = repository.forgotten_snapshots(&all).map_err(said)?;
    world.learn();
    world.model().verify(&live, &forgotten)?;
    let unreadable = repository.unreadable_snapshots().map_err(said)?;
    if !unreadable.is_empty() {
        return Err(format!("snapshots cannot be read: {unreadable:?}"));
    }
    for snapshot in live.iter().chain(&forgotten) {
        client.restore_whole(repository, snapshot)?;
    }
    let report = check(repository).map_err(said)?;
    if report.is_intact() { Ok(()) } else { Err(format!("the check found {:#?}", report.errors)) }
}
