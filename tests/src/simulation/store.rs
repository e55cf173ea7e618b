//! One actor's view of the simulated store: every call waits for its turn, meets a fate, and is recorded.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use dr_store::sim::When;
use dr_store::{
    Bytes, FolderListing, Name, ObjectMeta, Payload, PutMode, Result, Store, StoreError, StoreErrorKind,
};

use super::world::{Died, Fate, Late, World};

/// The store as one actor sees it.
pub(super) struct ActorStore {
    world: Arc<World>,
    actor: usize,
}

impl fmt::Debug for ActorStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActorStore").field("actor", &self.actor).finish_non_exhaustive()
    }
}

impl ActorStore {
    pub(super) fn new(world: Arc<World>, actor: usize) -> ActorStore {
        ActorStore { world, actor }
    }

    /// Makes a call: `effect` is what it does, `bytes` what it moves; `late` gives what arrives later instead.
    fn call<T>(
        &self,
        operation: &'static str,
        object: &str,
        effect: &mut dyn FnMut() -> Result<T>,
        bytes: &dyn Fn(&T) -> u64,
        late: Option<&dyn Fn() -> Late>,
    ) -> Result<T> {
        let fate = self.world.begin(self.actor, late.is_some());
        let failed = |kind| StoreError::new(kind, operation, object).with_source("simulated");
        let answer = match fate {
            Fate::Run => effect(),
            Fate::Refused | Fate::Crash(When::Before) => Err(failed(StoreErrorKind::Unavailable)),
            Fate::Lost | Fate::Crash(When::After) => {
                // Whether it succeeded is what the caller does not learn.
                let _ = effect();
                Err(failed(StoreErrorKind::Unavailable))
            }
            Fate::Delayed => {
                self.world.state().late.extend(late.map(|late| late()));
                Err(failed(StoreErrorKind::Unavailable))
            }
            Fate::Doubled => {
                let answer = effect();
                self.world.state().late.extend(late.map(|late| late()));
                answer
            }
            Fate::Taken => effect().and_then(|answer| match operation {
                "put" => Err(failed(StoreErrorKind::AlreadyExists)),
                _ => Ok(answer),
            }),
        };
        let mut state = self.world.state();
        let said = match &answer {
            Ok(answer) => bytes(answer).to_string(),
            Err(error) => format!("{:?}", error.kind()),
        };
        state.note(format!("{} {operation} {object} {fate:?} {said}", self.actor));
        drop(state);
        if matches!(fate, Fate::Crash(_)) {
            // Nothing of a dead client runs any more; the engine's error paths are not for it.
            std::panic::resume_unwind(Box::new(Died));
        }
        answer
    }

    /// A listing takes a while: what comes or goes meanwhile is in it or is not.
    fn torn<T, K: Ord>(&self, mut look: impl FnMut() -> Result<Vec<(K, T)>>) -> Result<Vec<(K, T)>> {
        let mut first = look()?;
        let is_torn = self.world.state().dice.below(4) == 0;
        if !is_torn {
            return Ok(first);
        }
        self.world.turnstile.pass(self.actor);
        let mut second = look()?;
        let mut state = self.world.state();
        let in_first = |key: &K| first.binary_search_by(|(known, _)| known.cmp(key)).is_ok();
        let mut came: Vec<(K, T)> = Vec::new();
        let mut stayed: Vec<(K, T)> = Vec::new();
        for item in second.drain(..) {
            if in_first(&item.0) { stayed.push(item) } else { came.push(item) }
        }
        came.retain(|_| state.dice.below(2) == 0);
        let is_there = |key: &K| stayed.binary_search_by(|(known, _)| known.cmp(key)).is_ok();
        let mut gone: Vec<(K, T)> = first.extract_if(.., |(key, _)| !is_there(key)).collect();
        gone.retain(|_| state.dice.below(2) == 0);
        let mut all: Vec<(K, T)> = stayed.into_iter().chain(came).chain(gone).collect();
        all.sort_by(|(a, _), (b, _)| a.cmp(b));
        Ok(all)
    }

    fn look_at_folder(&self, folder: &str) -> Result<Vec<(Listed, Option<ObjectMeta>)>> {
        let FolderListing { folders, objects } = self.world.store.list_folder(folder)?;
        let folders = folders.into_iter().map(|name| (Listed::Folder(name), None));
        let objects = objects.into_iter().map(|meta| (Listed::Object(meta.name.clone()), Some(meta)));
        Ok(folders.chain(objects).collect())
    }
}

/// What a listing of one level names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Listed {
    Folder(String),
    Object(Name),
}

impl Store for ActorStore {
    fn put(&self, name: &Name, payload: Payload, mode: PutMode) -> Result<()> {
        let length = payload.bytes();
        let late = || Late::Put(name.clone(), payload.clone(), mode);
        let mut effect = || self.world.store.put(name, payload.clone(), mode);
        self.call("put", name.as_str(), &mut effect, &|()| length, Some(&late))
    }

    fn get(&self, name: &Name) -> Result<Bytes> {
        let length = |bytes: &Bytes| bytes.len() as u64;
        self.call("get", name.as_str(), &mut || self.world.store.get(name), &length, None)
    }

    fn get_range(&self, name: &Name, range: Range<u64>) -> Result<Bytes> {
        let length = |bytes: &Bytes| bytes.len() as u64;
        let mut effect = || self.world.store.get_range(name, range.clone());
        self.call("get_range", name.as_str(), &mut effect, &length, None)
    }

    fn list(
        &self,
        folder: &str,
        after: Option<&Name>,
        visit: &mut dyn FnMut(ObjectMeta) -> Result<()>,
    ) -> Result<()> {
        let mut look = || {
            let mut found = Vec::new();
            self.world.store.list(folder, after, &mut |meta| {
                found.push((meta.name.clone(), meta));
                Ok(())
            })?;
            found.reverse();
            Ok(found)
        };
        let length = |found: &Vec<(Name, ObjectMeta)>| found.len() as u64;
        let found = self.call("list", folder, &mut || self.torn(&mut look), &length, None)?;
        found.into_iter().rev().try_for_each(|(_, meta)| visit(meta))
    }

    fn list_folder(&self, folder: &str) -> Result<FolderListing> {
        let length = |found: &Vec<(Listed, Option<ObjectMeta>)>| found.len() as u64;
        let mut effect = || self.torn(|| self.look_at_folder(folder));
        let found = self.call("list_folder", folder, &mut effect, &length, None)?;
        let mut listing = FolderListing::default();
        for (listed, meta) in found {
            match listed {
                Listed::Folder(name) => listing.folders.push(name),
                Listed::Object(_) => listing.objects.extend(meta),
            }
        }
        Ok(listing)
    }

    fn delete(&self, name: &Name) -> Result<()> {
        let late = || Late::Delete(name.clone());
        self.call("delete", name.as_str(), &mut || self.world.store.delete(name), &|()| 0, Some(&late))
    }

    fn stat(&self, name: &Name) -> Result<ObjectMeta> {
        let length = |meta: &ObjectMeta| meta.bytes;
        self.call("stat", name.as_str(), &mut || self.world.store.stat(name), &length, None)
    }

    fn create_is_proven(&self) -> bool {
        true
    }

    fn endpoint(&self) -> String {
        "sim:".to_owned()
    }
}
