//! What the actors of a history share: the store, what the network still carries, the record of everything, and what must
//! hold.

use std::collections::VecDeque;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use dr_core::{Repository, SnapshotFilter};
use dr_store::sim::{SimStore, When};
use dr_store::{Name, Payload, PutMode, Store};

use super::model::Model;
use super::turnstile::Turnstile;
use crate::steps::Dice;

/// Lines of the record that are kept for a person.
const TAIL_LINES: usize = 150;
/// How many calls in a row fail at most: who asks four times has an answer.
const FAULTS_IN_A_ROW: u32 = 3;
/// The store's clock begins here: in 2040.
const START_MS: i64 = 2_208_988_800_000;

/// How many calls in a thousand meet which fate.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rates {
    pub(super) refused: u64,
    pub(super) lost: u64,
    pub(super) delayed: u64,
    pub(super) doubled: u64,
    pub(super) taken: u64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It does what it should.
    Run,
    /// It fails without effect.
    Refused,
    /// It has its effect, and fails.
    Lost,
    /// It fails, and has its effect later, or never.
    Delayed,
    /// It has its effect, and once more later.
    Doubled,
    /// It has its effect, and says that the object was there before.
    Taken,
    /// The client dies at it.
    Crash(When),
}

/// A change on its way to the store.
#[derive(Debug)]
pub(super) enum Late {
    Put(Name, Payload, PutMode),
    Delete(Name),
}

/// How one actor stands.
#[derive(Debug, Default)]
pub(super) struct Standing {
    pub(super) calls: u64,
    pub(super) faults_in_a_row: u32,
    pub(super) crash: Option<(u64, When)>,
    pub(super) is_spared: bool,
}

/// What changes at every call.
#[derive(Debug)]
pub(super) struct State {
    pub(super) dice: Dice,
    pub(super) late: Vec<Late>,
    pub(super) actors: Vec<Standing>,
    pub(super) rates: Rates,
    pub(super) failure: Option<String>,
    pub(super) now_ms: i64,
    calls: u64,
    trace: blake3::Hasher,
    tail: VecDeque<String>,
    operations: Vec<String>,
}

/// What the actors share.
#[derive(Debug)]
pub(super) struct World {
    pub(super) store: SimStore,
    pub(super) turnstile: Turnstile,
    state: Mutex<State>,
    model: Mutex<Model>,
    /// Sees what is in the store at once, and has no part in the history.
    pub(super) seer: OnceLock<Repository>,
}

/// What a client's thread unwinds with when the client dies, or when the history is over.
#[derive(Debug)]
pub(super) struct Died;

impl World {
    pub(super) fn new(seed: u64, clients: usize, rates: Rates) -> World {
        let state = State {
            dice: Dice::new(seed ^ 0x5707),
            late: Vec::new(),
            actors: (0..=clients).map(|_| Standing::default()).collect(),
            rates,
            failure: None,
            now_ms: START_MS,
            calls: 0,
            trace: blake3::Hasher::new(),
            tail: VecDeque::new(),
            operations: Vec::new(),
        };
        World {
            store: SimStore::with_clock(Arc::new(AtomicI64::new(START_MS))),
            turnstile: Turnstile::new(clients, Dice::new(seed ^ 0x7127)),
            state: Mutex::new(state),
            model: Mutex::default(),
            seer: OnceLock::new(),
        }
    }

    /// Lets the model take notice of every snapshot that is there, oldest first.
    pub(super) fn learn(&self) {
        let Some(seer) = self.seer.get() else { return };
        let all = SnapshotFilter::new();
        let seen = seer.snapshots(&all).and_then(|live| Ok([live, seer.forgotten_snapshots(&all)?].concat()));
        match seen {
            Ok(mut seen) => {
                seen.sort_by_key(|snapshot| snapshot.slot);
                let mut model = self.model();
                seen.iter().for_each(|snapshot| model.learn(snapshot));
            }
            Err(error) => self.fail(format!("the snapshots cannot be listed: {error:?}")),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn model(&self) -> MutexGuard<'_, Model> {
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends the history: what must hold does not.
    pub(super) fn fail(&self, why: String) {
        let mut state = self.state();
        state.note(format!("FAILED: {why}"));
        state.failure.get_or_insert(why);
    }

    /// Lets other actors run, then begins a call: time passes, what is late may arrive, and the call's fate is drawn.
    pub(super) fn begin(&self, actor: usize, is_mutating: bool) -> Fate {
        self.turnstile.pass(actor);
        let mut state = self.state();
        if state.failure.is_some() {
            drop(state);
            std::panic::resume_unwind(Box::new(Died));
        }
        let passed = state.dice.below(3000) as i64;
        self.pass_time(&mut state, passed);
        if !state.late.is_empty() && state.dice.below(12) == 0 {
            let count = state.late.len() as u64;
            let place = state.dice.below(count) as usize;
            let late = state.late.swap_remove(place);
            self.arrive(&mut state, late);
        }
        state.draw_fate(actor, is_mutating)
    }

    /// Moves the store's clock.
    pub(super) fn pass_time(&self, state: &mut State, milliseconds: i64) {
        state.now_ms += milliseconds;
        self.store.set_now_ms(state.now_ms);
    }

    fn arrive(&self, state: &mut State, late: Late) {
        let (what, name, result) = match late {
            Late::Put(name, payload, mode) => ("put", name.clone(), self.store.put(&name, payload, mode)),
            Late::Delete(name) => ("delete", name.clone(), self.store.delete(&name)),
        };
        let kind = result.err().map(|error| error.kind());
        state.note(format!("late {what} {name} {kind:?}"));
    }

    /// Lets everything that is late arrive or vanish.
    pub(super) fn settle(&self) {
        let mut state = self.state();
        for late in std::mem::take(&mut state.late) {
            if state.dice.below(2) == 0 {
                self.arrive(&mut state, late);
            }
        }
    }
}

impl State {
    /// Writes a line into the record.
    pub(super) fn note(&mut self, line: String) {
        self.trace.update(line.as_bytes());
        self.trace.update(b"\n");
        if self.tail.len() >= TAIL_LINES {
            self.tail.pop_front();
        }
        self.tail.push_back(line);
    }

    /// Writes an operation's begin or end into the record and into the list of operations.
    pub(super) fn note_operation(&mut self, line: String) {
        self.operations.push(line.clone());
        self.note(line);
    }

    /// The hash of the record.
    pub(super) fn trace(&self) -> String {
        self.trace.finalize().to_hex().to_string()
    }

    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn tail(&self) -> Vec<String> {
        self.tail.iter().cloned().collect()
    }

    pub(super) fn operations(&self) -> Vec<String> {
        self.operations.clone()
    }

    fn draw_fate(&mut self, actor: usize, is_mutating: bool) -> Fate {
        self.calls += 1;
        let draw = self.dice.below(1000);
        let rates = self.rates;
        let standing = &mut self.actors[actor];
        standing.calls += 1;
        if let Some((_, when)) = standing.crash.take_if(|(at, _)| *at <= standing.calls) {
            return Fate::Crash(when);
        }
        if standing.is_spared {
            return Fate::Run;
        }
        let mut end = 0;
        let mut hits = |rate: u64| {
            end += rate;
            draw < end
        };
        let fate = if hits(rates.refused) {
            Fate::Refused
        } else if !is_mutating {
            Fate::Run
        } else if hits(rates.lost) {
            Fate::Lost
        } else if hits(rates.delayed) {
            Fate::Delayed
        } else if hits(rates.doubled) {
            Fate::Doubled
        } else if hits(rates.taken) {
            Fate::Taken
        } else {
            Fate::Run
        };
        let fails = matches!(fate, Fate::Refused | Fate::Lost | Fate::Delayed);
        if fails && standing.faults_in_a_row >= FAULTS_IN_A_ROW {
            standing.faults_in_a_row = 0;
            return Fate::Run;
        }
        standing.faults_in_a_row = if fails { standing.faults_in_a_row + 1 } else { 0 };
        fate
    }
}
