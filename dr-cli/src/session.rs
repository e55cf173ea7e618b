//! What a command needs before it can call the engine: the store, the repository, the context.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dr_core::{Context, Credentials, Entropy, Observer, Repository, RepositoryOptions, SystemEntropy};
use dr_store::{OpenMode, RetryOptions, Store};
use zeroize::Zeroizing;

use crate::args::GlobalArgs;
use crate::credentials::{self, Purpose};
use crate::error::{CliError, Result};
use crate::render::{Operation, Output, Progress};
use crate::settings::profile::Variable;
use crate::signals::Signals;

/// Looks a variable of the store up.
type StoreVariables = dyn Fn(&str) -> Option<String> + Send + Sync;

/// One run of the program.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) global: GlobalArgs,
    pub(crate) output: Output,
    pub(crate) signals: Signals,
    /// The store's variables that a profile sets.
    variables: BTreeMap<String, Variable>,
}

impl Session {
    /// Begins a run: from here on signals are taken.
    pub(crate) fn begin(
        global: GlobalArgs,
        variables: BTreeMap<String, Variable>,
        output: Output,
    ) -> Result<Session> {
        let signals = Signals::install(output.clone()).map_err(|error| {
            CliError::source("the system does not let this program take signals").with_cause(&error)
        })?;
        Ok(Session { global, output, signals, variables })
    }

    /// Opens the store. Calls to another machine that fail for a while are made again, until somebody cancels.
    pub(crate) fn open_store(&self, mode: OpenMode) -> Result<Arc<dyn Store>> {
        let location = self.location().ok_or_else(|| {
            CliError::usage("no repository was named").with_remedy("use --repo, DR_REPOSITORY or a profile")
        })?;
        let variable = self.store_variables()?;
        let mut seed = [0; 8];
        SystemEntropy.fill(&mut seed)?;
        let retries = RetryOptions {
            attempts_max: 5,
            first_delay: Duration::from_millis(200),
            delay_max: Duration::from_secs(10),
            seed: u64::from_le_bytes(seed),
        };
        let cancel = self.signals.cancel().clone();
        let sleep = move |time: Duration| {
            let step = Duration::from_millis(50);
            let mut left = time;
            while !left.is_zero() && !cancel.is_cancelled() {
                std::thread::sleep(left.min(step));
                left = left.saturating_sub(step);
            }
        };
        let options = self.global.store.to_options(&location, &*variable)?;
        let options = options.with_retries(retries).with_sleep(Arc::new(sleep));
        let options = options.with_variables(move |name| variable(name));
        Ok(dr_store::open_with(&location, mode, &options)?)
    }

    /// Where the repository is, as the user wrote it.
    pub(crate) fn location(&self) -> Option<String> {
        self.global.repo.clone()
    }

    /// The store's variables: those of the environment, else those of the profile, whose programs are run now.
    fn store_variables(&self) -> Result<Arc<StoreVariables>> {
        let mut own: BTreeMap<String, Zeroizing<String>> = BTreeMap::new();
        for (name, variable) in self.variables.iter().filter(|(name, _)| text_variable(name).is_none()) {
            own.insert(name.clone(), variable.read()?);
        }
        Ok(Arc::new(move |name| text_variable(name).or_else(|| own.get(name).map(|value| value.to_string()))))
    }

    /// Opens the repository with the password or key that the user gave.
    pub(crate) fn open_repository(&self) -> Result<Repository> {
        let store = self.open_store(OpenMode::Existing)?;
        let place = credentials::place(&self.global, |name| env::var_os(name))?;
        let credentials = credentials::read(&place, Purpose::Open, &self.signals, &self.output)?;
        self.open_with(store, &credentials)
    }

    /// Opens the repository with these credentials.
    pub(crate) fn open_with(&self, store: Arc<dyn Store>, credentials: &Credentials) -> Result<Repository> {
        Repository::open(store, credentials, self.repository_options()).map_err(CliError::opening)
    }

    /// Where copies and state are kept on this machine.
    pub(crate) fn repository_options(&self) -> RepositoryOptions {
        let mut options = RepositoryOptions::new();
        if !self.global.no_cache {
            let given = self.global.cache_dir.clone();
            options.cache_dir = given.or_else(|| own_directory("DR_CACHE_DIR", "XDG_CACHE_HOME", ".cache"));
        }
        options.state_dir = own_directory("DR_STATE_DIR", "XDG_STATE_HOME", ".local/state");
        if options.state_dir.is_none() {
            self.output.warn(
                "neither DR_STATE_DIR nor HOME is set: a repository that goes back in time will not be noticed",
            );
        }
        options.accept_rollback = self.global.accept_rollback;
        options
    }

    /// The context of a long call.
    pub(crate) fn context<'a>(&'a self, observer: &'a dyn Observer) -> Context<'a> {
        let context = Context::new(observer, self.signals.cancel());
        match self.global.threads {
            Some(threads) => context.with_parallelism(threads.into()),
            None => context,
        }
    }

    /// Makes a long call whose report names no problems, and shows its progress: a signal only cancels it. Gives how long it
    /// took, too.
    pub(crate) fn call<T>(
        &self,
        operation: Operation,
        call: impl FnOnce(&Context<'_>) -> dr_core::Result<T>,
    ) -> Result<(T, Duration)> {
        let progress = Progress::begin(operation, &self.output);
        let graceful = self.signals.graceful();
        let answer = call(&self.context(&progress));
        progress.finish(&[]);
        let answer = self.answer(answer)?;
        drop(graceful);
        Ok((answer, progress.elapsed()))
    }

    /// Makes a long call's answer this program's: what fails after a signal failed because of it.
    pub(crate) fn answer<T>(&self, answer: dr_core::Result<T>) -> Result<T> {
        answer.map_err(|error| {
            if self.signals.cancel().is_cancelled() { CliError::interrupted() } else { CliError::from(error) }
        })
    }
}

/// A variable that holds text; an empty one counts as none.
fn text_variable(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

fn own_directory(own: &str, base: &str, below_home: &str) -> Option<PathBuf> {
    choose_directory(own, base, below_home, |name| env::var_os(name))
}

/// This program's directory: the variable for it, else its place below the desktop's, else below the home directory.
fn choose_directory(
    own: &str,
    base: &str,
    below_home: &str,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Option<PathBuf> {
    let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    if let Some(directory) = set(own) {
        return Some(directory);
    }
    // The XDG specification: a path that is not absolute is to be ignored.
    let absolute = |name: &str| set(name).filter(|path| path.is_absolute());
    let base = absolute(base).or_else(|| absolute("HOME").map(|home| home.join(below_home)))?;
    Some(base.join("dr"))
}

#[cfg(test)]
mod tests {
    use super::*;

    type Variables<'a> = &'a [(&'a str, &'a str)];

    #[test]
    fn directories_follow_the_environment() {
        let cases: &[(Variables<'_>, Option<&str>)] = &[
            (&[("OWN", "x"), ("BASE", "/b"), ("HOME", "/h")], Some("x")),
            (&[("BASE", "/b"), ("HOME", "/h")], Some("/b/dr")),
            (&[("BASE", "b"), ("HOME", "/h")], Some("/h/.cache/dr")),
            (&[("OWN", ""), ("HOME", "/h")], Some("/h/.cache/dr")),
            (&[], None),
        ];
        for (variables, directory) in cases {
            let known =
                |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
            assert_eq!(choose_directory("OWN", "BASE", ".cache", known), directory.map(PathBuf::from));
        }
    }
}
