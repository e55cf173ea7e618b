//! Checks of listings.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Check, Outcome, done, ensure, ensure_fails, name, pattern};
use crate::{Name, ObjectMeta, Payload, PutMode, Store, StoreError, StoreErrorKind};

/// More than one page of any store.
const MANY_OBJECTS: usize = 1100;

pub(super) const CHECKS: &[Check] = &[
    ("list by folder", list_by_folder),
    ("list after a name", list_after_a_name),
    ("list of an empty store", list_of_an_empty_store),
    ("list of many objects", list_of_many_objects),
    ("visitor's error", visitors_error),
    ("folders", folders),
    ("emptied folder", emptied_folder),
];

/// Names at the boundaries of prefixes: `ab` and `a.b` are not in the folder `a`, and `.` sorts before `/`.
const NAMES: [&str; 9] = ["a.b", "a/b", "a/b.c", "a/c/d", "a/c/e", "ab", "abc/d", "b/0/1/2", "config"];

fn fill(store: &Arc<dyn Store>) -> Outcome {
    for (index, text) in NAMES.iter().enumerate() {
        done(store.put(&name(text)?, pattern(index * 10, 1).into(), PutMode::Create), "put")?;
    }
    Ok(())
}

/// Lists, and checks that no object was visited twice.
fn listed(
    store: &Arc<dyn Store>,
    folder: &str,
    after: Option<&Name>,
) -> Result<BTreeMap<String, ObjectMeta>, String> {
    let mut found = BTreeMap::new();
    let mut twice = None;
    let answer = store.list(folder, after, &mut |object| {
        if let Some(earlier) = found.insert(object.name.as_str().to_owned(), object) {
            twice = Some(earlier.name);
        }
        Ok(())
    });
    done(answer, &format!("list {folder:?}"))?;
    match twice {
        Some(name) => Err(format!("{name} was visited twice")),
        None => Ok(found),
    }
}

fn ensure_listed(store: &Arc<dyn Store>, folder: &str, after: Option<&str>, expected: &[&str]) -> Outcome {
    let after_name = after.map(name).transpose()?;
    let found = listed(store, folder, after_name.as_ref())?;
    ensure(found.keys().eq(expected.iter()), || {
        format!("list of {folder:?} after {after:?} visits {:?}, not {expected:?}", found.keys())
    })
}

/// Whether two answers speak of the same object. A date of HTTP has no fractions of a second, which listings may have.
fn is_same(listed: &ObjectMeta, stat: &ObjectMeta) -> bool {
    let second = |meta: &ObjectMeta| meta.modified_ms.div_euclid(1000);
    (&listed.name, listed.bytes, second(listed)) == (&stat.name, stat.bytes, second(stat))
}

fn list_by_folder(store: &Arc<dyn Store>) -> Outcome {
    fill(store)?;
    for object in listed(store, "", None)?.values() {
        let stat = done(store.stat(&object.name), "stat")?;
        ensure(is_same(object, &stat), || format!("list says {object:?}, stat says {stat:?}"))?;
    }
    ensure_listed(store, "", None, &NAMES)?;
    ensure_listed(store, "a", None, &["a/b", "a/b.c", "a/c/d", "a/c/e"])?;
    ensure_listed(store, "a/c", None, &["a/c/d", "a/c/e"])?;
    ensure_listed(store, "b", None, &["b/0/1/2"])?;
    ensure_listed(store, "a/b", None, &[])?;
    ensure_listed(store, "missing", None, &[])?;
    for folder in ["/", "a/", "/a", "../a", "A"] {
        let listed = store.list(folder, None, &mut |_| Ok(()));
        ensure_fails(listed, StoreErrorKind::InvalidInput, &format!("list {folder:?}"))?;
    }
    Ok(())
}

fn list_after_a_name(store: &Arc<dyn Store>) -> Outcome {
    fill(store)?;
    for (index, after) in NAMES.iter().enumerate() {
        ensure_listed(store, "", Some(after), &NAMES[index + 1..])?;
    }
    ensure_listed(store, "", Some("0"), &NAMES)?;
    ensure_listed(store, "", Some("a/c"), &["a/c/d", "a/c/e", "ab", "abc/d", "b/0/1/2", "config"])?;
    ensure_listed(store, "", Some("z"), &[])?;
    ensure_listed(store, "a", Some("a/b"), &["a/b.c", "a/c/d", "a/c/e"])?;
    ensure_listed(store, "a", Some("a"), &["a/b", "a/b.c", "a/c/d", "a/c/e"])?;
    ensure_listed(store, "a", Some("b"), &[])?;
    ensure_listed(store, "b", Some("a/c/d"), &["b/0/1/2"])
}

fn list_of_an_empty_store(store: &Arc<dyn Store>) -> Outcome {
    ensure_listed(store, "", None, &[])?;
    let top = done(store.list_folder(""), "list_folder")?;
    ensure(top.folders.is_empty() && top.objects.is_empty(), || format!("an empty store lists {top:?}"))
}

fn list_of_many_objects(store: &Arc<dyn Store>) -> Outcome {
    let names: Vec<String> = (0..MANY_OBJECTS).map(|index| format!("log/0/{index:05}")).collect();
    for text in &names {
        done(store.put(&name(text)?, Payload::from("x"), PutMode::Create), "put")?;
    }
    let expected: Vec<&str> = names.iter().map(String::as_str).collect();
    ensure_listed(store, "log", None, &expected)?;
    ensure_listed(store, "", Some(expected[41]), &expected[42..])?;
    let level = done(store.list_folder("log/0"), "list_folder")?;
    ensure(level.objects.iter().map(|object| object.name.as_str()).eq(expected), || {
        format!("list_folder lists {} of {MANY_OBJECTS} objects, or not in order", level.objects.len())
    })
}

fn visitors_error(store: &Arc<dyn Store>) -> Outcome {
    fill(store)?;
    let mut visited = 0;
    let answer = store.list("", None, &mut |object| {
        visited += 1;
        // The visitor may call the store.
        store.stat(&object.name)?;
        Err(StoreError::new(StoreErrorKind::Unavailable, "visit", "the visitor's own"))
    });
    ensure(visited == 1, || format!("{visited} objects were visited after the visitor's error"))?;
    match answer {
        Err(error) if error.object() == "the visitor's own" => Ok(()),
        other => Err(format!("the visitor's error became {other:?}")),
    }
}

fn ensure_folder(store: &Arc<dyn Store>, folder: &str, folders: &[&str], objects: &[&str]) -> Outcome {
    let level = done(store.list_folder(folder), &format!("list_folder {folder:?}"))?;
    let found: Vec<&str> = level.objects.iter().map(|object| object.name.as_str()).collect();
    ensure(level.folders == folders && found == objects, || {
        format!("list_folder {folder:?}: {:?} and {found:?}, not {folders:?} and {objects:?}", level.folders)
    })
}

fn folders(store: &Arc<dyn Store>) -> Outcome {
    for text in ["a.b", "a/b", "a/b.c", "a/c/d", "a/c/e", "a-/x", "ab/c", "b/0/1/2", "config"] {
        done(store.put(&name(text)?, pattern(50, 1).into(), PutMode::Create), "put")?;
    }
    ensure_folder(store, "", &["a", "a-", "ab", "b"], &["a.b", "config"])?;
    ensure_folder(store, "a", &["c"], &["a/b", "a/b.c"])?;
    ensure_folder(store, "a/c", &[], &["a/c/d", "a/c/e"])?;
    ensure_folder(store, "b", &["0"], &[])?;
    ensure_folder(store, "b/0/1", &[], &["b/0/1/2"])?;
    ensure_folder(store, "a/b", &[], &[])?;
    ensure_folder(store, "missing", &[], &[])?;
    for object in done(store.list_folder(""), "list_folder")?.objects {
        let stat = done(store.stat(&object.name), "stat")?;
        ensure(is_same(&object, &stat), || format!("list_folder says {object:?}, stat says {stat:?}"))?;
    }
    for folder in ["/", "a/", "../a"] {
        let listed = store.list_folder(folder);
        ensure_fails(listed, StoreErrorKind::InvalidInput, &format!("list_folder {folder:?}"))?;
    }
    Ok(())
}

fn emptied_folder(store: &Arc<dyn Store>) -> Outcome {
    let only = name("a/b/c")?;
    done(store.put(&only, Payload::from("x"), PutMode::Create), "put")?;
    done(store.delete(&only), "delete")?;
    ensure_folder(store, "", &[], &[])?;
    ensure_folder(store, "a", &[], &[])
}
