//! Tests of the crate from outside.
#![allow(clippy::unwrap_used, clippy::panic)]

mod conformance;
mod limit;
mod local;
mod open;
mod probe;
mod remote;
mod sim;
mod wrappers;

use dr_store::{Name, Store};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The names of all objects in ascending order.
fn listed(store: &dyn Store) -> Vec<String> {
    let mut names = Vec::new();
    store
        .list("", None, &mut |object| {
            names.push(object.name.as_str().to_owned());
            Ok(())
        })
        .unwrap();
    names.sort_unstable();
    names
}
