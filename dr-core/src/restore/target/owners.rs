//! From recorded owners to those of this machine.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use nix::unistd::{Group, User};

use super::TargetOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::restore::options::Owner;
use crate::tree::Metadata;

type Numbers = RwLock<HashMap<Arc<str>, Option<u32>>>;

/// Users and groups that become others.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnerMap {
    users: Vec<(Owner, u32)>,
    groups: Vec<(Owner, u32)>,
}

impl OwnerMap {
    /// Looks the names up that users and groups become.
    ///
    /// # Errors
    /// `InvalidInput` where this machine does not know one.
    pub(crate) fn new(users: &[(Owner, Owner)], groups: &[(Owner, Owner)]) -> Result<OwnerMap> {
        let resolve = |map: &[(Owner, Owner)], what: &str, look_up: fn(&str) -> Option<u32>| {
            let number = |to: &Owner| match to {
                Owner::Number(number) => Ok(*number),
                Owner::Name(name) => look_up(name).ok_or_else(|| {
                    Error::new(ErrorKind::InvalidInput, format!("this machine knows no {what} '{name}'"))
                        .with_remedy("name another, or write its number")
                }),
            };
            map.iter().map(|(from, to)| Ok((from.clone(), number(to)?))).collect::<Result<_>>()
        };
        Ok(OwnerMap {
            users: resolve(users, "user", user_number)?,
            groups: resolve(groups, "group", group_number)?,
        })
    }
}

/// What an owner becomes, by the first that fits.
fn mapped(map: &[(Owner, u32)], number: u32, name: Option<&str>) -> Option<u32> {
    let fits = |owner: &Owner| match owner {
        Owner::Number(wanted) => *wanted == number,
        Owner::Name(wanted) => Some(wanted.as_str()) == name,
    };
    map.iter().find(|(from, _)| fits(from)).map(|(_, to)| *to)
}

/// The numbers of all users and groups asked for so far, by name.
#[derive(Debug, Default)]
pub(super) struct OwnerNumbers {
    users: Numbers,
    groups: Numbers,
}

impl OwnerNumbers {
    /// The numbers that an entry's user and group become: those they are mapped to, else those of their names where this
    /// machine knows them, else the recorded ones.
    pub(super) fn owner(&self, metadata: &Metadata, options: &TargetOptions) -> (u32, u32) {
        let Metadata { uid, gid, user, group, .. } = metadata;
        let by_name = |known: &Numbers, name: &Option<Arc<str>>, look_up: fn(&str) -> Option<u32>| {
            let name = name.as_ref().filter(|_| !options.numeric_ids)?;
            number_of(known, name, look_up)
        };
        let map = &options.owner_map;
        (
            mapped(&map.users, *uid, user.as_deref())
                .or_else(|| by_name(&self.users, user, user_number))
                .unwrap_or(*uid),
            mapped(&map.groups, *gid, group.as_deref())
                .or_else(|| by_name(&self.groups, group, group_number))
                .unwrap_or(*gid),
        )
    }
}

fn user_number(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

fn group_number(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

fn number_of(known: &Numbers, name: &Arc<str>, look_up: fn(&str) -> Option<u32>) -> Option<u32> {
    if let Some(number) = known.read().unwrap_or_else(PoisonError::into_inner).get(name) {
        return *number;
    }
    let number = look_up(name);
    *known.write().unwrap_or_else(PoisonError::into_inner).entry(Arc::clone(name)).or_insert(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_fits_counts() {
        let (name, number) = (|name: &str| Owner::Name(name.to_owned()), Owner::Number);
        let users = [(name("alice"), number(7)), (number(1000), number(8)), (name("bob"), name("root"))];
        let options = TargetOptions {
            owner_map: OwnerMap::new(&users, &[(number(5), number(6))]).unwrap(),
            ..TargetOptions::default()
        };
        let owner = |uid, user: Option<&str>, gid| {
            let metadata = Metadata { uid, gid, user: user.map(Arc::from), ..Metadata::default() };
            OwnerNumbers::default().owner(&metadata, &options)
        };
        assert_eq!(owner(1000, Some("alice"), 5), (7, 6));
        assert_eq!(owner(1000, Some("carol"), 4), (8, 4));
        assert_eq!(owner(3, Some("bob"), 4), (0, 4));
        assert_eq!(owner(3, None, 4), (3, 4));
        let unknown = OwnerMap::new(&[], &[(number(1), name("no such group"))]);
        assert_eq!(unknown.unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
