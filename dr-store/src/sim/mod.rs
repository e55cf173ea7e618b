//! A store for tests: in memory, deterministic, with crashes, faults, damage and a record of every call.
//!
//! A crash test runs its scenario once to count the mutating calls, and then once for each of them: it crashes
//! [`When::Before`] and [`When::After`] that call, takes [`SimStore::crash_image`] and checks what is left. A put
//! in flight at a crash has happened or has not: the contract of [`Store`] makes all else impossible.

mod calls;
mod state;

use std::ops::Range;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::calls::{Call, CallKind, FaultRates, When};
use self::state::{Effect, State, Verdict};
use crate::name::check_folder;
use crate::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};

/// The simulated store; clones are handles to the same state.
#[derive(Debug, Clone, Default)]
pub struct SimStore {
    state: Arc<Mutex<State>>,
    clock_ms: Arc<AtomicI64>,
}

/// Control of the simulation.
impl SimStore {
    /// Makes an empty store without faults, whose clock stands at 0.
    pub fn new() -> SimStore {
        SimStore::default()
    }

    /// Makes an empty store that takes its times from `clock_ms`.
    pub fn with_clock(clock_ms: Arc<AtomicI64>) -> SimStore {
        SimStore { state: Arc::default(), clock_ms }
    }

    /// Sets the clock of this store and of its crash images.
    pub fn set_now_ms(&self, now_ms: i64) {
        self.clock_ms.store(now_ms, Ordering::SeqCst);
    }

    /// Crashes at the call of that index, counted from 0 over all calls since the store was made. That call and all
    /// later ones fail with kind `Other`.
    pub fn crash_at(&self, call_index: u64, when: When) {
        self.lock().script.crash_call = Some((call_index, when));
    }

    /// Crashes at the mutating call of that index, counted from 0 over the mutating calls since the store was made.
    pub fn crash_at_mutation(&self, mutation_index: u64, when: When) {
        self.lock().script.crash_mutation = Some((mutation_index, when));
    }

    /// Whether the crash has happened.
    pub fn is_crashed(&self) -> bool {
        self.lock().script.crashed
    }

    /// A new store of the durable content, without crash, faults, capacity or records, on the same clock.
    pub fn crash_image(&self) -> SimStore {
        let image = State::with_objects(self.lock().objects.clone());
        SimStore { state: Arc::new(Mutex::new(image)), clock_ms: Arc::clone(&self.clock_ms) }
    }

    /// Makes calls fail with kind `Unavailable` at random. The seed decides which, so the same calls in the same
    /// order meet the same faults.
    pub fn set_faults(&self, seed: u64, rates: FaultRates) {
        self.lock().script.set_faults(seed, rates);
    }

    /// Makes puts fail with `StorageFull` that would bring the bytes of all objects above `bytes`; `None` lifts the
    /// limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_bytes = bytes;
    }

    /// The calls recorded, in order.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().script.calls.clone()
    }

    /// Forgets the calls recorded; the counts and indexes go on.
    pub fn clear_calls(&self) {
        self.lock().script.calls.clear();
    }

    /// How many calls were made, those after a crash included. It is the index of the next call.
    pub fn call_count(&self) -> u64 {
        self.lock().script.call_count
    }

    /// How many mutating calls were made. It is the index of the next one.
    pub fn mutation_count(&self) -> u64 {
        self.lock().script.mutation_count
    }
}

/// Damage and inspection, which are neither recorded nor stopped by a crash.
impl SimStore {
    /// All objects in ascending order of name.
    pub fn objects(&self) -> Vec<(Name, Bytes)> {
        self.lock().objects.iter().map(|(name, object)| (name.clone(), object.bytes.clone())).collect()
    }

    /// Flips the bits `mask` of the byte at `offset` of an object.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` where the offset is outside the object.
    pub fn corrupt(&self, name: &Name, offset: u64, mask: u8) -> Result<()> {
        self.damage("corrupt", name, |bytes| {
            let byte = bytes.get_mut(usize::try_from(offset).ok()?)?;
            *byte ^= mask;
            Some(())
        })
    }

    /// Cuts an object to its first `length` bytes.
    ///
    /// # Errors
    /// `NotFound`; `InvalidInput` where the object is shorter.
    pub fn truncate(&self, name: &Name, length: u64) -> Result<()> {
        self.damage("truncate", name, |bytes| {
            let length = usize::try_from(length).ok().filter(|length| *length <= bytes.len())?;
            bytes.truncate(length);
            Some(())
        })
    }

    /// Removes an object.
    ///
    /// # Errors
    /// `NotFound`.
    pub fn remove(&self, name: &Name) -> Result<()> {
        match self.lock().objects.remove(name) {
            Some(_) => Ok(()),
            None => Err(StoreError::new(StoreErrorKind::NotFound, "remove", name.as_str())),
        }
    }

    fn damage(
        &self,
        operation: &'static str,
        name: &Name,
        change: impl FnOnce(&mut Vec<u8>) -> Option<()>,
    ) -> Result<()> {
        let failed = |kind| StoreError::new(kind, operation, name.as_str());
        let mut state = self.lock();
        let object = state.objects.get_mut(name).ok_or_else(|| failed(StoreErrorKind::NotFound))?;
        let mut bytes = object.bytes.to_vec();
        change(&mut bytes).ok_or_else(|| failed(StoreErrorKind::InvalidInput))?;
        object.bytes = bytes.into();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes one call: decides its fate, has its effect, records it.
    fn call<T>(
        &self,
        kind: CallKind,
        object: &str,
        effect: impl FnOnce(&mut State) -> Result<Effect<T>>,
    ) -> Result<T> {
        let mut state = self.lock();
        let (index, verdict) = state.script.begin(kind);
        let result = match verdict {
            Verdict::Run => effect(&mut state),
            Verdict::Refuse(fault) => Err(fault.error(kind, object)),
            Verdict::LoseAnswer(fault) => {
                // Whether it succeeded is what the caller does not learn.
                let _ = effect(&mut state);
                Err(fault.error(kind, object))
            }
        };
        state.script.calls.push(Call {
            index,
            kind,
            object: object.to_owned(),
            bytes: result.as_ref().map_or(0, |effect| effect.bytes),
            failure: result.as_ref().err().map(StoreError::kind),
        });
        result.map(|effect| effect.answer)
    }
}

impl Store for SimStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        let kind = match mode {
            PutMode::Create => CallKind::PutCreate,
            PutMode::Replace => CallKind::PutReplace,
        };
        let now_ms = self.clock_ms.load(Ordering::SeqCst);
        self.call(kind, name.as_str(), |state| state.put(name, &payload, mode, now_ms))
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        self.call(CallKind::Get, name.as_str(), |state| state.get(name))
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        self.call(CallKind::GetRange, name.as_str(), |state| state.get_range(name, range))
    }

    /// Visits in descending order, so that a test finds who relies on the ascending one.
    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        check_folder("list", folder)?;
        // The visitor may call this store, so it runs after the lock is released.
        let objects = self.call(CallKind::List, folder, |state| Ok(state.list(folder, after)))?;
        objects.into_iter().rev().try_for_each(visit)
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        check_folder("list_folder", folder)?;
        self.call(CallKind::ListFolder, folder, |state| Ok(state.list_folder(folder)))
    }

    fn delete(&self, name: &Name) -> Result<()> {
        self.call(CallKind::Delete, name.as_str(), |state| state.delete(name))
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        self.call(CallKind::Stat, name.as_str(), |state| state.stat(name))
    }

    fn create_is_proven(&self) -> bool {
        true
    }

    fn endpoint(&self) -> String {
        "sim:".to_owned()
    }
}
