//! From recorded owners to those of this machine.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use nix::unistd::{Group, User};

use crate::tree::Metadata;

type Numbers = RwLock<HashMap<Arc<str>, Option<u32>>>;

/// The numbers of all users and groups asked for so far, by name.
#[derive(Debug, Default)]
pub(super) struct OwnerNumbers {
    users: Numbers,
    groups: Numbers,
}

impl OwnerNumbers {
    /// The number of the recorded user's name, where this machine knows it, else the recorded number.
    pub(super) fn user(&self, metadata: &Metadata) -> u32 {
        let by_name = metadata.user.as_ref().and_then(|name| {
            number_of(&self.users, name, |name| {
                User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
            })
        });
        by_name.unwrap_or(metadata.uid)
    }

    /// The same for the group.
    pub(super) fn group(&self, metadata: &Metadata) -> u32 {
        let by_name = metadata.group.as_ref().and_then(|name| {
            number_of(&self.groups, name, |name| {
                Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
            })
        });
        by_name.unwrap_or(metadata.gid)
    }
}

fn number_of(known: &Numbers, name: &Arc<str>, look_up: impl FnOnce(&str) -> Option<u32>) -> Option<u32> {
    if let Some(number) = known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return *number;
    }
    let number = look_up(name);
    *known.write().unwrap_or_else(PoisonError::into_inner).entry(Arc::clone(name)).or_insert(number)
}
