//! The vocabulary of the simulation: calls, crashes and faults.

use crate::{StoreError, StoreErrorKind};

/// Whether the call at which the store crashes has its effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// The call has no effect.
    Before,
    /// The call has its effect, and its caller does not learn of it.
    After,
}

/// How many calls in a thousand fail with kind `Unavailable`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FaultRates {
    /// Calls that fail without effect.
    pub before_per_mille: u32,
    /// Calls that have their effect and fail all the same: the answer is lost.
    pub after_per_mille: u32,
}

/// The kinds of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallKind {
    /// `put` in mode create.
    PutCreate,
    /// `put` in mode replace.
    PutReplace,
    /// `get`.
    Get,
    /// `get_range`.
    GetRange,
    /// `list`.
    List,
    /// `list_folder`.
    ListFolder,
    /// `delete`.
    Delete,
    /// `stat`.
    Stat,
}

impl CallKind {
    /// Whether such a call can change the store.
    pub fn is_mutating(self) -> bool {
        matches!(self, CallKind::PutCreate | CallKind::PutReplace | CallKind::Delete)
    }

    pub(super) fn operation(self) -> &'static str {
        match self {
            CallKind::PutCreate | CallKind::PutReplace => "put",
            CallKind::Get => "get",
            CallKind::GetRange => "get_range",
            CallKind::List => "list",
            CallKind::ListFolder => "list_folder",
            CallKind::Delete => "delete",
            CallKind::Stat => "stat",
        }
    }
}

/// One call as it was made and answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Call {
    /// Its place among all calls, from 0.
    pub index: u64,
    /// What was called.
    pub kind: CallKind,
    /// The object or folder it was about.
    pub object: String,
    /// The bytes it wrote or read, where it succeeded.
    pub bytes: u64,
    /// The kind of its failure, where it failed.
    pub failure: Option<StoreErrorKind>,
}

/// Why a call fails that the content alone would let succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    Crash,
    Unavailable,
}

impl Fault {
    pub(super) fn error(self, kind: CallKind, object: &str) -> StoreError {
        let (error_kind, why) = match self {
            Fault::Crash => (StoreErrorKind::Other, "simulated crash"),
            Fault::Unavailable => (StoreErrorKind::Unavailable, "simulated fault"),
        };
        StoreError::new(error_kind, kind.operation(), object).with_source(why)
    }
}
