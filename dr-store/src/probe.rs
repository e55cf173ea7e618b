//! Finding out whether a store's [`PutMode::Create`] keeps what it promises. Many servers say that they know
//! conditional puts; some ignore the condition, and some check it too early to decide a race.

use std::sync::Barrier;
use std::thread;

use crate::{Name, Payload, PutMode, Result, Store, StoreError, StoreErrorKind};

/// How many callers race for one name.
const RACERS: usize = 32;

/// How many races are run: a store that loses them may well win one.
const RACES: usize = 4;

/// What a store makes of creating an object that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CreateSupport {
    /// Exactly one of all who create a name succeeds, and it is its bytes that stay.
    Atomic,
    /// A second create succeeds, or fails and overwrites.
    Ignored,
    /// One after the other it works, but in a race another number than one was told that it had won, or the one
    /// winner's bytes are not what is stored.
    Racy {
        /// How many were told that they had won.
        winners: usize,
    },
    /// The store refuses such puts.
    Unsupported,
}

/// Tries creating under `probe/`, at names made from `nonce`, which must never have been used before: once after the
/// other, and as races of 32. It removes what it wrote where deleting is permitted.
///
/// That a race was decided rightly is no proof; that it was not, is.
///
/// # Errors
/// What the store answers for another reason; nothing is known then.
pub fn probe_create(store: &dyn Store, nonce: [u8; 16]) -> Result<CreateSupport> {
    let nonce: String = nonce.iter().map(|byte| format!("{byte:02x}")).collect();
    let names: Vec<Name> =
        (0..=RACES).map(|number| Name::new(format!("probe/{nonce}-{number}"))).collect::<Result<_>>()?;
    let found = probe(store, &names);
    let mut cleaned = Ok(());
    for name in &names {
        cleaned = cleaned.and(delete(store, name));
    }
    found.and_then(|found| cleaned.map(|()| found))
}

fn probe(store: &dyn Store, names: &[Name]) -> Result<CreateSupport> {
    let Some((first, others)) = names.split_first() else { return Ok(CreateSupport::Unsupported) };
    let found = in_sequence(store, first)?;
    if found != CreateSupport::Atomic {
        return Ok(found);
    }
    for name in others {
        let found = as_a_race(store, name)?;
        if found != CreateSupport::Atomic {
            return Ok(found);
        }
    }
    Ok(CreateSupport::Atomic)
}

fn in_sequence(store: &dyn Store, name: &Name) -> Result<CreateSupport> {
    let put = |text: &'static str| store.put(name, Payload::from(text), PutMode::Create);
    match put("the first") {
        Err(error) if error.kind() == StoreErrorKind::Unsupported => return Ok(CreateSupport::Unsupported),
        answer => answer?,
    }
    match put("the second, which must not be stored") {
        Ok(()) => return Ok(CreateSupport::Ignored),
        Err(error) if error.kind() == StoreErrorKind::Unsupported => return Ok(CreateSupport::Unsupported),
        Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let is_kept = store.get(name)? == "the first".as_bytes();
    Ok(if is_kept { CreateSupport::Atomic } else { CreateSupport::Ignored })
}

fn as_a_race(store: &dyn Store, name: &Name) -> Result<CreateSupport> {
    let start = Barrier::new(RACERS);
    // Of different lengths, so that a mixture would be seen.
    let bytes_of = |racer: usize| format!("racer {racer} {}", "x".repeat(racer * 64));
    let answers: Vec<Result<()>> = thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS)
            .map(|racer| {
                let (start, bytes_of) = (&start, &bytes_of);
                scope.spawn(move || {
                    let payload = Payload::from(bytes_of(racer));
                    start.wait();
                    store.put(name, payload, PutMode::Create)
                })
            })
            .collect();
        let panicked = || StoreError::new(StoreErrorKind::Other, "put", name.as_str());
        racers.into_iter().map(|racer| racer.join().unwrap_or_else(|_| Err(panicked()))).collect()
    });
    let mut winners = Vec::new();
    for (racer, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(()) => winners.push(racer),
            Err(error) if error.kind() == StoreErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    match winners[..] {
        [winner] if store.get(name)? == bytes_of(winner).as_bytes() => Ok(CreateSupport::Atomic),
        _ => Ok(CreateSupport::Racy { winners: winners.len() }),
    }
}

/// Deletes what may be there. A store that permits no deleting keeps it, which harms nobody.
fn delete(store: &dyn Store, name: &Name) -> Result<()> {
    match store.delete(name) {
        Err(error)
            if !matches!(
                error.kind(),
                StoreErrorKind::NotFound | StoreErrorKind::PermissionDenied | StoreErrorKind::Unsupported
            ) =>
        {
            Err(error)
        }
        _ => Ok(()),
    }
}
