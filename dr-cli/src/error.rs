//! What ends a run early: an exit code for scripts, a stable name for programs, words for people.

use std::error::Error as _;
use std::io;
use std::path::{Path, PathBuf};

use dr_core::ErrorKind;
use dr_store::{StoreError, StoreErrorKind};

use crate::exit_code::{self, ExitCode};

/// A result of a step of the command line.
pub(crate) type Result<T> = std::result::Result<T, CliError>;

/// What ends a run early.
#[derive(Debug)]
pub(crate) struct CliError(Box<Details>);

/// Everything that is known of a failure.
#[derive(Debug)]
pub(crate) struct Details {
    /// How the process ends.
    pub(crate) code: ExitCode,
    /// A stable name for programs.
    pub(crate) error_code: &'static str,
    /// What failed, on what.
    pub(crate) message: String,
    /// The stored object it is about.
    pub(crate) object: Option<String>,
    /// The file it is about.
    pub(crate) path: Option<PathBuf>,
    /// What the reader can do.
    pub(crate) remedy: Option<String>,
    /// Why, from the nearest cause to the farthest.
    pub(crate) causes: Vec<String>,
    /// Nobody is left to be told.
    pub(crate) is_silent: bool,
}

impl CliError {
    fn new(code: ExitCode, error_code: &'static str, message: impl Into<String>) -> CliError {
        CliError(Box::new(Details {
            code,
            error_code,
            message: message.into(),
            object: None,
            path: None,
            remedy: None,
            causes: Vec::new(),
            is_silent: false,
        }))
    }

    /// Wrong arguments.
    pub(crate) fn usage(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::Usage, "usage", message)
    }

    /// Wrong settings in a file or a variable.
    pub(crate) fn config(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::Usage, "config", message)
    }

    /// A hook that must succeed before a run did not.
    pub(crate) fn hook_failed(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::HookFailed, "hook_failed", message)
    }

    /// A password or key that cannot be had.
    pub(crate) fn credentials(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::Failure, "credentials", message)
    }

    /// A source that cannot be read at all.
    pub(crate) fn source(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::Failure, exit_code::error_code(ErrorKind::Source), message)
    }

    /// Done, but not for everything; the parts were named before.
    pub(crate) fn partial(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::Partial, "partial", message)
    }

    /// Not done for everything, and what is missing matters; the parts were named before.
    pub(crate) fn incomplete(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::Failure, "incomplete", message)
    }

    /// A check found damage; the parts were named before.
    pub(crate) fn damage_found(message: impl Into<String>) -> CliError {
        CliError::new(ExitCode::Failure, "damage_found", message)
    }

    /// A signal ended the run.
    pub(crate) fn interrupted() -> CliError {
        CliError::new(ExitCode::Interrupted, exit_code::error_code(ErrorKind::Cancelled), "interrupted")
            .with_remedy("run it again when you like: the repository is valid")
    }

    /// There is no repository at `place`.
    pub(crate) fn no_repository(place: &str) -> CliError {
        let mut error = CliError::new(
            ExitCode::NoRepository,
            "no_repository",
            format!("there is no repository: {place}"),
        )
        .with_remedy("check the location, or make a repository with 'dr init'");
        error.0.object = Some(place.to_owned());
        error
    }

    /// Standard output cannot be written. That nobody reads it any more is no failure, and nobody is told.
    pub(crate) fn output(error: io::Error) -> CliError {
        if error.kind() == io::ErrorKind::BrokenPipe {
            let mut silent = CliError::new(ExitCode::Success, "broken_pipe", "standard output is closed");
            silent.0.is_silent = true;
            return silent;
        }
        CliError::new(ExitCode::Failure, "output", "standard output cannot be written").with_cause(&error)
    }

    /// What the engine answered while a repository was being opened: nothing there is a kind of its own.
    pub(crate) fn opening(error: dr_core::Error) -> CliError {
        let is_missing = error.kind() == ErrorKind::NotFound;
        let mut converted = CliError::from(error);
        if is_missing {
            converted.0.code = ExitCode::NoRepository;
            converted.0.error_code = "no_repository";
        }
        converted
    }

    /// Names the file that the failure is about.
    pub(crate) fn with_path(mut self, path: &Path) -> CliError {
        self.0.path = Some(path.to_owned());
        self.0.message = format!("{}: {}", self.0.message, path.display());
        self
    }

    /// Says what the reader can do.
    pub(crate) fn with_remedy(mut self, remedy: impl Into<String>) -> CliError {
        self.0.remedy = Some(remedy.into());
        self
    }

    /// Adds a cause.
    pub(crate) fn with_cause(mut self, cause: &dyn std::error::Error) -> CliError {
        self.0.causes.push(cause.to_string());
        self
    }

    /// Everything that is known.
    pub(crate) fn details(&self) -> &Details {
        &self.0
    }
}

impl From<dr_core::Error> for CliError {
    fn from(error: dr_core::Error) -> CliError {
        let kind = error.kind();
        let mut converted =
            CliError::new(ExitCode::of_kind(kind), exit_code::error_code(kind), error.to_string());
        converted.0.object = error.object().map(str::to_owned);
        converted.0.path = error.path().map(Path::to_owned);
        converted.0.remedy = error.remedy().map(str::to_owned);
        let mut cause = error.source();
        while let Some(known) = cause {
            converted.0.causes.push(known.to_string());
            cause = known.source();
        }
        converted
    }
}

/// What the store answered when it was opened: a place that is not there holds no repository.
impl From<StoreError> for CliError {
    fn from(error: StoreError) -> CliError {
        if error.kind() == StoreErrorKind::NotFound {
            return CliError::no_repository(error.object());
        }
        CliError::from(dr_core::Error::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_there_is_told_from_nothing_found() {
        let missing = || dr_core::Error::new(ErrorKind::NotFound, "nothing");
        assert_eq!(CliError::opening(missing()).details().code, ExitCode::NoRepository);
        assert_eq!(CliError::from(missing()).details().code, ExitCode::Failure);
        let store = StoreError::new(StoreErrorKind::NotFound, "open", "/nowhere");
        assert_eq!(CliError::from(store).details().code, ExitCode::NoRepository);
    }

    #[test]
    fn a_closed_pipe_is_no_failure_and_a_full_disk_is_one() {
        let closed = CliError::output(io::ErrorKind::BrokenPipe.into());
        assert!(closed.details().is_silent && closed.details().code == ExitCode::Success);
        let full = CliError::output(io::ErrorKind::StorageFull.into());
        assert!(!full.details().is_silent && full.details().code == ExitCode::Failure);
    }

    #[test]
    fn causes_are_kept_in_order() {
        let error =
            dr_core::Error::new(ErrorKind::Corrupt, "outer").with_source("inner").with_object("packs/1");
        let converted = CliError::from(error);
        assert_eq!(converted.details().causes, ["inner"]);
        assert_eq!(converted.details().object.as_deref(), Some("packs/1"));
    }
}
