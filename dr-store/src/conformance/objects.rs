//! Checks of single objects.

use std::sync::Arc;

use super::{Check, Outcome, done, ensure, ensure_bytes, ensure_fails, name, pattern};
use crate::{NAME_BYTES_MAX, NAME_PART_BYTES_MAX, Payload, PutMode, Store, StoreErrorKind};

/// The large object: above what a pack is, and above the part size of multi-part uploads.
const LARGE_BYTES: usize = 40 << 20;

pub(super) const CHECKS: &[Check] = &[
    ("round trip", round_trip),
    ("empty object", empty_object),
    ("payload of many parts", payload_of_many_parts),
    ("large object", large_object),
    ("ranges", ranges),
    ("create meets an object", create_meets_an_object),
    ("create meets an empty object", create_meets_an_empty_object),
    ("replace", replace),
    ("delete", delete),
    ("missing objects", missing_objects),
    ("longest names", longest_names),
];

fn round_trip(store: &Arc<dyn Store>) -> Outcome {
    let (config, pack) = (name("config")?, name("data/00/ab-c_d.e")?);
    for (name, bytes) in [(&config, pattern(100, 1)), (&pack, pattern(5000, 2))] {
        done(store.put(name, bytes.clone().into(), PutMode::Create), "a first create")?;
        ensure_bytes(&done(store.get(name), "get")?, &bytes, "the object")?;
        let stat = done(store.stat(name), "stat")?;
        ensure(stat.name == *name && stat.bytes == bytes.len() as u64, || format!("stat answers {stat:?}"))?;
    }
    ensure(!store.endpoint().is_empty(), || "the endpoint is empty".to_owned())
}

fn empty_object(store: &Arc<dyn Store>) -> Outcome {
    let name = name("a/empty")?;
    done(store.put(&name, Payload::default(), PutMode::Create), "a put of no parts")?;
    ensure_bytes(&done(store.get(&name), "get")?, b"", "the object")?;
    ensure_bytes(&done(store.get_range(&name, 0..0), "the range 0..0")?, b"", "the range")?;
    ensure_fails(store.get_range(&name, 0..1), StoreErrorKind::InvalidInput, "the range 0..1")?;
    ensure(done(store.stat(&name), "stat")?.bytes == 0, || "stat says that it is not empty".to_owned())
}

fn create_meets_an_empty_object(store: &Arc<dyn Store>) -> Outcome {
    let name = name("a/empty")?;
    done(store.put(&name, Payload::default(), PutMode::Create), "a put of no parts")?;
    let put = store.put(&name, Payload::from("x"), PutMode::Create);
    ensure_fails(put, StoreErrorKind::AlreadyExists, "a create over an empty object")?;
    ensure_bytes(&done(store.get(&name), "get")?, b"", "the object after a refused create")
}

fn payload_of_many_parts(store: &Arc<dyn Store>) -> Outcome {
    let name = name("a/parts")?;
    let whole = pattern(100_000, 3);
    let cuts = [0, 0, 1, 17, 17, 40_000, 99_999, 100_000, 100_000];
    let parts = cuts.windows(2).map(|cut| whole.slice(cut[0]..cut[1])).collect();
    done(store.put(&name, Payload::from_parts(parts), PutMode::Create), "a put of parts")?;
    ensure_bytes(&done(store.get(&name), "get")?, &whole, "the object")
}

fn large_object(store: &Arc<dyn Store>) -> Outcome {
    let name = name("data/ff/large")?;
    let whole = pattern(LARGE_BYTES, 4);
    let parts = (0..LARGE_BYTES).step_by(1 << 20).map(|at| whole.slice(at..at + (1 << 20))).collect();
    done(store.put(&name, Payload::from_parts(parts), PutMode::Create), "put")?;
    let range = LARGE_BYTES / 2 - 3..LARGE_BYTES / 2 + 4_000_000;
    let read = done(store.get_range(&name, range.start as u64..range.end as u64), "get_range")?;
    ensure_bytes(&read, &whole[range], "the range")?;
    ensure_bytes(&done(store.get(&name), "get")?, &whole, "the object")
}

fn ranges(store: &Arc<dyn Store>) -> Outcome {
    let name = name("a/ranges")?;
    let whole = pattern(1000, 5);
    done(store.put(&name, whole.clone().into(), PutMode::Create), "put")?;
    for (start, end) in [(0, 1000), (0, 1), (999, 1000), (300, 700), (0, 0), (500, 500), (1000, 1000)] {
        let read = done(store.get_range(&name, start..end), &format!("the range {start}..{end}"))?;
        ensure_bytes(&read, &whole[start as usize..end as usize], &format!("the range {start}..{end}"))?;
    }
    let outside =
        [(0, 1001), (999, 1001), (1000, 1001), (1001, 1001), (5000, 6000), (700, 300), (0, u64::MAX)];
    for (start, end) in outside {
        let doing = format!("the range {start}..{end} of 1000 bytes");
        ensure_fails(store.get_range(&name, start..end), StoreErrorKind::InvalidInput, &doing)?;
    }
    Ok(())
}

fn create_meets_an_object(store: &Arc<dyn Store>) -> Outcome {
    let name = name("log/0/1")?;
    let first = pattern(64, 6);
    done(store.put(&name, first.clone().into(), PutMode::Create), "a first create")?;
    for second in [pattern(64, 7), first.clone()] {
        let put = store.put(&name, second.into(), PutMode::Create);
        ensure_fails(put, StoreErrorKind::AlreadyExists, "a second create")?;
    }
    ensure_bytes(&done(store.get(&name), "get")?, &first, "the object after a refused create")?;
    done(store.delete(&name), "delete")?;
    done(store.put(&name, pattern(64, 8).into(), PutMode::Create), "a create after a deletion")
}

fn replace(store: &Arc<dyn Store>) -> Outcome {
    let name = name("a/replaced")?;
    for bytes in [pattern(2000, 9), pattern(10, 10), pattern(0, 0), pattern(3000, 11)] {
        done(store.put(&name, bytes.clone().into(), PutMode::Replace), "replace")?;
        ensure_bytes(&done(store.get(&name), "get")?, &bytes, "the object")?;
        ensure(done(store.stat(&name), "stat")?.bytes == bytes.len() as u64, || "stat is stale".to_owned())?;
    }
    Ok(())
}

fn delete(store: &Arc<dyn Store>) -> Outcome {
    let (gone, kept) = (name("a/gone")?, name("a/kept")?);
    for name in [&gone, &kept] {
        done(store.put(name, Payload::from("x"), PutMode::Create), "put")?;
    }
    done(store.delete(&gone), "delete")?;
    ensure_fails(store.get(&gone), StoreErrorKind::NotFound, "get of a deleted object")?;
    ensure_fails(store.stat(&gone), StoreErrorKind::NotFound, "stat of a deleted object")?;
    let listed = done(store.list_folder("a"), "list_folder")?;
    ensure(listed.objects.len() == 1 && listed.objects[0].name == kept, || format!("listed are {listed:?}"))?;
    ensure_bytes(&done(store.get(&kept), "get of the object beside it")?, b"x", "that object")
}

fn missing_objects(store: &Arc<dyn Store>) -> Outcome {
    done(store.put(&name("a/b")?, Payload::from("x"), PutMode::Create), "put")?;
    // The second is a folder; the third is in no folder; the fourth would be below an object.
    for text in ["missing", "a", "x/y/z", "a/b/c"] {
        let name = name(text)?;
        ensure_fails(store.get(&name), StoreErrorKind::NotFound, &format!("get {text}"))?;
        ensure_fails(store.get_range(&name, 0..1), StoreErrorKind::NotFound, &format!("get_range {text}"))?;
        ensure_fails(store.get_range(&name, 0..0), StoreErrorKind::NotFound, &format!("get_range {text}"))?;
        ensure_fails(store.stat(&name), StoreErrorKind::NotFound, &format!("stat {text}"))?;
        // A store need not be able to tell.
        if let Err(error) = store.delete(&name) {
            ensure_fails::<()>(Err(error), StoreErrorKind::NotFound, &format!("delete {text}"))?;
        }
    }
    ensure_bytes(&done(store.get(&name("a/b")?), "get of the only object")?, b"x", "that object")
}

fn longest_names(store: &Arc<dyn Store>) -> Outcome {
    let part = "n".repeat(NAME_PART_BYTES_MAX);
    let last = "m".repeat(NAME_BYTES_MAX - 2 * (NAME_PART_BYTES_MAX + 1));
    let name = name(&format!("{part}/{part}/{last}"))?;
    done(store.put(&name, Payload::from("x"), PutMode::Create), "put")?;
    ensure_bytes(&done(store.get(&name), "get")?, b"x", "the object")
}
