//! Names of users and groups, asked for once.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use nix::unistd::{Gid, Group, Uid, User};

type Name = Option<Arc<str>>;

/// The names of all users and groups seen so far, and of those that have none.
#[derive(Debug, Default)]
pub(super) struct OwnerNames {
    users: RwLock<HashMap<u32, Name>>,
    groups: RwLock<HashMap<u32, Name>>,
}

/// The last user and group seen by one caller: most entries of a directory belong to the same, and are served from
/// here without taking a lock.
#[derive(Debug, Default)]
pub(super) struct Recent {
    user: Option<(u32, Name)>,
    group: Option<(u32, Name)>,
}

impl OwnerNames {
    pub(super) fn user(&self, uid: u32, recent: &mut Recent) -> Name {
        // A lookup that fails counts as "no name": the number is recorded in any case.
        name_of(&self.users, uid, &mut recent.user, |uid| {
            User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
        })
    }

    pub(super) fn group(&self, gid: u32, recent: &mut Recent) -> Name {
        name_of(&self.groups, gid, &mut recent.group, |gid| {
            Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
        })
    }
}

fn name_of(
    known: &RwLock<HashMap<u32, Name>>,
    id: u32,
    recent: &mut Option<(u32, Name)>,
    look_up: impl FnOnce(u32) -> Option<String>,
) -> Name {
    if let Some((recent_id, name)) = recent
        && *recent_id == id
    {
        return name.clone();
    }
    let cached = known.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
    let name = cached.unwrap_or_else(|| {
        // Asked without the lock: a directory service may take seconds to answer.
        let name = look_up(id).map(Arc::from);
        known.write().unwrap_or_else(PoisonError::into_inner).entry(id).or_insert(name).clone()
    });
    *recent = Some((id, name.clone()));
    name
}
