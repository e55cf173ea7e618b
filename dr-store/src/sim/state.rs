//! The content of the simulated store, and the script that decides which calls reach it.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::calls::{Call, CallKind, Fault, FaultRates, When};
use crate::{Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, StoreError, StoreErrorKind};

/// An object and when it was written.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    modified_ms: i64,
}

/// The answer of a call, and the bytes that it moved.
pub(super) struct Effect<T> {
    pub(super) answer: T,
    pub(super) bytes: u64,
}

/// What becomes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Run,
    Refuse(Fault),
    LoseAnswer(Fault),
}

/// All that clones of a handle share.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) objects: BTreeMap<Name, Object>,
    pub(super) capacity_bytes: Option<u64>,
    pub(super) script: Script,
}

/// Counts, records and fates of calls.
#[derive(Debug, Default)]
pub(super) struct Script {
    pub(super) calls: Vec<Call>,
    pub(super) call_count: u64,
    pub(super) mutation_count: u64,
    pub(super) crash_call: Option<(u64, When)>,
    pub(super) crash_mutation: Option<(u64, When)>,
    pub(super) crashed: bool,
    faults: Option<(ChaCha8Rng, FaultRates)>,
}

impl Script {
    pub(super) fn set_faults(&mut self, seed: u64, rates: FaultRates) {
        self.faults = Some((ChaCha8Rng::seed_from_u64(seed), rates));
    }

    /// Counts a call, and answers its index and its fate.
    pub(super) fn begin(&mut self, kind: CallKind) -> (u64, Verdict) {
        let index = self.call_count;
        self.call_count += 1;
        let mutation_index = kind.is_mutating().then_some(self.mutation_count);
        self.mutation_count += u64::from(kind.is_mutating());
        if self.crashed {
            return (index, Verdict::Refuse(Fault::Crash));
        }
        let due = |crash: Option<(u64, When)>, now: Option<u64>| {
            crash.filter(|(at, _)| Some(*at) == now).map(|(_, when)| when)
        };
        let crash = due(self.crash_call, Some(index)).or(due(self.crash_mutation, mutation_index));
        self.crashed = crash.is_some();
        let verdict = match crash {
            Some(When::Before) => Verdict::Refuse(Fault::Crash),
            Some(When::After) => Verdict::LoseAnswer(Fault::Crash),
            None => self.draw_fault(),
        };
        (index, verdict)
    }

    /// Draws as many numbers for every call, so that one rate does not shift the faults of the other.
    fn draw_fault(&mut self) -> Verdict {
        let Some((random, rates)) = &mut self.faults else { return Verdict::Run };
        let mut hits = |per_mille: u32| random.next_u32() % 1000 < per_mille;
        match (hits(rates.before_per_mille), hits(rates.after_per_mille)) {
            (true, _) => Verdict::Refuse(Fault::Unavailable),
            (false, true) => Verdict::LoseAnswer(Fault::Unavailable),
            (false, false) => Verdict::Run,
        }
    }
}

impl State {
    pub(super) fn with_objects(objects: BTreeMap<Name, Object>) -> State {
        State { objects, ..State::default() }
    }

    pub(super) fn put(
        &mut self,
        name: &Name,
        payload: &Payload,
        mode: PutMode,
        now_ms: i64,
    ) -> Result<Effect<()>> {
        let replaced_bytes = match self.objects.get(name) {
            Some(_) if mode == PutMode::Create => {
                return Err(failed(StoreErrorKind::AlreadyExists, "put", name));
            }
            Some(object) => object.bytes.len() as u64,
            None => 0,
        };
        if let Some(capacity) = self.capacity_bytes {
            let used: u64 = self.objects.values().map(|object| object.bytes.len() as u64).sum();
            if used - replaced_bytes + payload.bytes() > capacity {
                return Err(failed(StoreErrorKind::StorageFull, "put", name));
            }
        }
        let bytes = match payload.parts() {
            [whole] => whole.clone(),
            _ => payload.to_vec().into(),
        };
        self.objects.insert(name.clone(), Object { bytes, modified_ms: now_ms });
        Ok(Effect { answer: (), bytes: payload.bytes() })
    }

    pub(super) fn get(&self, name: &Name) -> Result<Effect<Bytes>> {
        let bytes = self.find("get", name)?.bytes.clone();
        Ok(Effect { bytes: bytes.len() as u64, answer: bytes })
    }

    pub(super) fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Effect<Bytes>> {
        let bytes = &self.find("get_range", name)?.bytes;
        if range.start > range.end || range.end > bytes.len() as u64 {
            return Err(failed(StoreErrorKind::InvalidInput, "get_range", name));
        }
        // Both ends are at most the length of a buffer in memory.
        let answer = bytes.slice(range.start as usize..range.end as usize);
        Ok(Effect { bytes: answer.len() as u64, answer })
    }

    pub(super) fn list(&self, folder: &str, after: Option<&Name>) -> Effect<Vec<ObjectMeta>> {
        let is_wanted =
            |name: &Name| below(folder, name.as_str()).is_some() && after.is_none_or(|after| name > after);
        let listed = self.objects.iter().filter(|(name, _)| is_wanted(name));
        Effect { answer: listed.map(|(name, object)| meta(name, object)).collect(), bytes: 0 }
    }

    pub(super) fn list_folder(&self, folder: &str) -> Effect<FolderListing> {
        let mut folders = BTreeSet::new();
        let mut objects = Vec::new();
        for (name, object) in &self.objects {
            match below(folder, name.as_str()).map(|rest| rest.split_once('/')) {
                Some(Some((part, _))) => _ = folders.insert(part.to_owned()),
                Some(None) => objects.push(meta(name, object)),
                None => {}
            }
        }
        Effect { answer: FolderListing { folders: folders.into_iter().collect(), objects }, bytes: 0 }
    }

    pub(super) fn delete(&mut self, name: &Name) -> Result<Effect<()>> {
        match self.objects.remove(name) {
            Some(_) => Ok(Effect { answer: (), bytes: 0 }),
            None => Err(failed(StoreErrorKind::NotFound, "delete", name)),
        }
    }

    pub(super) fn stat(&self, name: &Name) -> Result<Effect<ObjectMeta>> {
        Ok(Effect { answer: meta(name, self.find("stat", name)?), bytes: 0 })
    }

    fn find(&self, operation: &'static str, name: &Name) -> Result<&Object> {
        self.objects.get(name).ok_or_else(|| failed(StoreErrorKind::NotFound, operation, name))
    }
}

/// What follows the folder and its slash in `name`, where it lies below the folder.
fn below<'a>(folder: &str, name: &'a str) -> Option<&'a str> {
    if folder.is_empty() { Some(name) } else { name.strip_prefix(folder)?.strip_prefix('/') }
}

fn meta(name: &Name, object: &Object) -> ObjectMeta {
    ObjectMeta { name: name.clone(), bytes: object.bytes.len() as u64, modified_ms: object.modified_ms }
}

fn failed(kind: StoreErrorKind, operation: &'static str, name: &Name) -> StoreError {
    StoreError::new(kind, operation, name.as_str())
}
