//! Exit codes: what scripts branch on. A number never gets a new meaning.

use dr_core::ErrorKind;

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExitCode {
    /// Everything was done.
    Success = 0,
    /// It failed, for a reason that has no number of its own; also: a check found damage.
    Failure = 1,
    /// The arguments are wrong.
    Usage = 2,
    /// It was done, but not for everything.
    Partial = 3,
    /// There is no repository.
    NoRepository = 10,
    /// The password or key opens nothing.
    WrongCredentials = 12,
    /// The store does not answer.
    StoreUnavailable = 21,
    /// The store is full.
    StorageFull = 22,
    /// The log went back in time.
    RolledBack = 23,
    /// The repository was written by a newer program.
    UnsupportedFormat = 24,
    /// A hook that must succeed first failed: nothing was done.
    HookFailed = 25,
    /// A signal ended it.
    Interrupted = 130,
}

/// One line of the documented table.
struct Meaning {
    code: ExitCode,
    text: &'static str,
    is_retry_safe: &'static str,
}

const TABLE: &[Meaning] = &[
    Meaning { code: ExitCode::Success, text: "done", is_retry_safe: "-" },
    Meaning {
        code: ExitCode::Failure,
        text: "failed; check: damage was found",
        is_retry_safe: "see the message",
    },
    Meaning { code: ExitCode::Usage, text: "wrong arguments or settings", is_retry_safe: "no: correct them" },
    Meaning {
        code: ExitCode::Partial,
        text: "backup: the snapshot exists, but not all could be read\nrestore: all contents are there, something else is not\ndump: the format has no place for some entries\ncopy: something is damaged where it is copied from",
        is_retry_safe: "yes",
    },
    Meaning { code: ExitCode::NoRepository, text: "there is no repository", is_retry_safe: "no" },
    Meaning { code: ExitCode::WrongCredentials, text: "wrong password or key", is_retry_safe: "no" },
    Meaning {
        code: ExitCode::StoreUnavailable,
        text: "the store does not answer",
        is_retry_safe: "yes, later",
    },
    Meaning { code: ExitCode::StorageFull, text: "the store is full", is_retry_safe: "yes, with more space" },
    Meaning {
        code: ExitCode::RolledBack,
        text: "the repository went back in time",
        is_retry_safe: "no: find out why",
    },
    Meaning {
        code: ExitCode::UnsupportedFormat,
        text: "the repository needs a newer dr",
        is_retry_safe: "no: update dr",
    },
    Meaning {
        code: ExitCode::HookFailed,
        text: "a hook before the run failed: nothing was done",
        is_retry_safe: "yes, when the hook is mended",
    },
    Meaning { code: ExitCode::Interrupted, text: "interrupted by a signal", is_retry_safe: "yes" },
];

impl ExitCode {
    /// The number that the operating system is given.
    pub(crate) fn number(self) -> u8 {
        self as u8
    }

    /// The exit code for a failure of the engine.
    pub(crate) fn of_kind(kind: ErrorKind) -> ExitCode {
        match kind {
            ErrorKind::WrongCredentials => ExitCode::WrongCredentials,
            ErrorKind::StoreUnavailable => ExitCode::StoreUnavailable,
            ErrorKind::StorageFull => ExitCode::StorageFull,
            ErrorKind::RolledBack => ExitCode::RolledBack,
            ErrorKind::UnsupportedFormat => ExitCode::UnsupportedFormat,
            ErrorKind::InvalidInput => ExitCode::Usage,
            ErrorKind::Cancelled => ExitCode::Interrupted,
            _ => ExitCode::Failure,
        }
    }
}

/// The stable name of a kind of failure, for programs that read JSON.
pub(crate) fn error_code(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::NotFound => "not_found",
        ErrorKind::AlreadyExists => "already_exists",
        ErrorKind::WrongCredentials => "wrong_credentials",
        ErrorKind::Corrupt => "corrupt",
        ErrorKind::RolledBack => "rolled_back",
        ErrorKind::UnsupportedFormat => "unsupported_format",
        ErrorKind::StoreUnavailable => "store_unavailable",
        ErrorKind::StorageFull => "storage_full",
        ErrorKind::StoreFailed => "store_failed",
        ErrorKind::PermissionDenied => "permission_denied",
        ErrorKind::Source => "source",
        ErrorKind::Destination => "destination",
        ErrorKind::InvalidInput => "invalid_input",
        ErrorKind::LimitExceeded => "limit_exceeded",
        ErrorKind::Cancelled => "interrupted",
        ErrorKind::Internal => "internal",
        _ => "failure",
    }
}

/// What `error_code` can be beside the kinds of the engine's failures.
#[cfg(test)]
pub(crate) const OWN_ERROR_CODES: &[&str] = &[
    "usage",
    "config",
    "credentials",
    "partial",
    "incomplete",
    "damage_found",
    "hook_failed",
    "no_repository",
    "output",
];

/// The table for the help text.
pub(crate) fn help() -> String {
    let mut help = format!("Exit codes:\n  {:<5} {:<58} {}\n", "code", "meaning", "safe to retry?");
    for Meaning { code, text, is_retry_safe } in TABLE {
        for (number, line) in text.lines().enumerate() {
            if number == 0 {
                help.push_str(&format!("  {:<5} {line:<58} {is_retry_safe}\n", code.number()));
            } else {
                help.push_str(&format!("  {:<5} {line}\n", ""));
            }
        }
    }
    help.push_str("  Treat any other code as a failure.");
    help
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_have_the_documented_codes() {
        let codes = [
            (ErrorKind::NotFound, 1),
            (ErrorKind::AlreadyExists, 1),
            (ErrorKind::Corrupt, 1),
            (ErrorKind::Source, 1),
            (ErrorKind::Destination, 1),
            (ErrorKind::PermissionDenied, 1),
            (ErrorKind::LimitExceeded, 1),
            (ErrorKind::Internal, 1),
            (ErrorKind::StoreFailed, 1),
            (ErrorKind::InvalidInput, 2),
            (ErrorKind::WrongCredentials, 12),
            (ErrorKind::StoreUnavailable, 21),
            (ErrorKind::StorageFull, 22),
            (ErrorKind::RolledBack, 23),
            (ErrorKind::UnsupportedFormat, 24),
            (ErrorKind::Cancelled, 130),
        ];
        for (kind, number) in codes {
            assert_eq!(ExitCode::of_kind(kind).number(), number, "{kind:?}");
        }
    }

    #[test]
    fn every_error_code_is_documented() {
        let document = include_str!("../docs/JSON.md");
        let kinds = [
            ErrorKind::NotFound,
            ErrorKind::AlreadyExists,
            ErrorKind::WrongCredentials,
            ErrorKind::Corrupt,
            ErrorKind::RolledBack,
            ErrorKind::UnsupportedFormat,
            ErrorKind::StoreUnavailable,
            ErrorKind::StorageFull,
            ErrorKind::StoreFailed,
            ErrorKind::PermissionDenied,
            ErrorKind::Source,
            ErrorKind::Destination,
            ErrorKind::InvalidInput,
            ErrorKind::LimitExceeded,
            ErrorKind::Cancelled,
            ErrorKind::Internal,
        ];
        for code in kinds.map(error_code).iter().chain(OWN_ERROR_CODES) {
            assert!(document.contains(&format!("| `{code}` |")), "{code} is not in JSON.md");
        }
    }

    #[test]
    fn every_code_stands_in_the_help() {
        let help = help();
        for number in [0, 1, 2, 3, 10, 12, 21, 22, 23, 24, 25, 130] {
            assert!(help.lines().any(|line| line.starts_with(&format!("  {number:<5} "))), "{number}");
        }
    }
}
