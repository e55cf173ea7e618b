//! Lets one actor run at a time. Who goes on is drawn from the seed at every call of the store, by whoever runs then.

use std::sync::{Condvar, Mutex, MutexGuard};

use crate::steps::Dice;

/// The turnstile, for actors numbered from 0.
#[derive(Debug)]
pub(super) struct Turnstile {
    state: Mutex<State>,
    turned: Vec<Condvar>,
}

#[derive(Debug)]
struct State {
    dice: Dice,
    /// In how many of a thousand draws whoever runs goes on.
    stay_per_mille: u64,
    running: Option<usize>,
    present: Vec<bool>,
    /// An actor that is left out for so many draws.
    sleeper: Option<(usize, u64)>,
}

impl Turnstile {
    /// A turnstile for so many actors, the first of which runs first.
    pub(super) fn new(actors: usize, mut dice: Dice) -> Turnstile {
        let stay_per_mille = [0, 500, 900, 980][dice.below(4) as usize];
        let state = State {
            dice,
            stay_per_mille,
            running: (actors > 0).then_some(0),
            present: vec![true; actors],
            sleeper: None,
        };
        Turnstile { state: Mutex::new(state), turned: (0..actors).map(|_| Condvar::new()).collect() }
    }

    /// Waits for an actor's first turn.
    pub(super) fn enter(&self, actor: usize) {
        drop(self.wait(self.state.lock().unwrap(), actor));
    }

    /// Draws who goes on, and waits until that is this actor again.
    pub(super) fn pass(&self, actor: usize) {
        let mut state = self.state.lock().unwrap();
        if state.present.get(actor) != Some(&true) {
            // The epilogue, when nobody else is left.
            return;
        }
        let next = state.draw(actor);
        state.running = Some(next);
        if next != actor {
            self.turned[next].notify_one();
            drop(self.wait(state, actor));
        }
    }

    /// Takes an actor out for good.
    pub(super) fn leave(&self, actor: usize) {
        let mut state = self.state.lock().unwrap();
        state.present[actor] = false;
        state.running = state.present.iter().any(|present| *present).then(|| state.draw_other());
        if let Some(next) = state.running {
            self.turned[next].notify_one();
        }
    }

    fn wait<'a>(&self, state: MutexGuard<'a, State>, actor: usize) -> MutexGuard<'a, State> {
        self.turned[actor].wait_while(state, |state| state.running != Some(actor)).unwrap()
    }
}

impl State {
    fn draw(&mut self, actor: usize) -> usize {
        if self.dice.below(1000) < self.stay_per_mille {
            return actor;
        }
        if self.sleeper.is_none() && self.dice.below(60) == 0 {
            self.sleeper = Some((actor, 20 + self.dice.below(400)));
        }
        self.draw_other()
    }

    /// Any actor that is there and does not sleep; the sleeper where there is no other.
    fn draw_other(&mut self) -> usize {
        if let Some((_, left)) = &mut self.sleeper {
            *left = left.saturating_sub(1);
        }
        self.sleeper = self.sleeper.filter(|(_, left)| *left > 0);
        let asleep = self.sleeper.map(|(actor, _)| actor);
        let present = (0..self.present.len()).filter(|actor| self.present[*actor]);
        let mut awake: Vec<usize> = present.clone().filter(|actor| Some(*actor) != asleep).collect();
        if awake.is_empty() {
            awake = present.collect();
        }
        awake[self.dice.below(awake.len() as u64) as usize]
    }
}
