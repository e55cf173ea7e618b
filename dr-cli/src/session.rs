//! What a command needs before it can call the engine: the store, the repository, the context.

use std::collections::BTreeMap;
use std::env;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use dr_core::{
    CacheCleanup, Cipher, Context, Credentials, Entropy, Observer, Repository, RepositoryOptions,
    SystemClock, SystemEntropy,
};
use dr_store::{OpenMode, RetryOptions, Sleep, Store};
use zeroize::Zeroizing;

use crate::args::GlobalArgs;
use crate::credentials::{self, Purpose};
use crate::error::{CliError, Result};
use crate::quantity;
use crate::render::{Operation, Output, Progress};
use crate::settings::profile::Variable;
use crate::signals::Signals;
use crate::store_args::StoreArgs;

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
        self.open_store_at(&location, mode, &self.global.store)
    }

    /// Opens the store at a location.
    pub(crate) fn open_store_at(
        &self,
        location: &str,
        mode: OpenMode,
        args: &StoreArgs,
    ) -> Result<Arc<dyn Store>> {
        let variable = self.store_variables()?;
        let (retries, sleep) = self.patience()?;
        let options = args.to_options(location, &*variable)?;
        let options = options.with_retries(retries).with_sleep(sleep);
        let options = options.with_variables(move |name| variable(name));
        dr_store::open_with(location, mode, &options).map_err(|error| match mode {
            // A place that was to be made and is not there is no missing repository.
            OpenMode::Create => CliError::from(dr_core::Error::from(error))
                .with_remedy("make the directory above it, or choose another place"),
            OpenMode::Existing => CliError::from(error),
        })
    }

    /// How calls to another machine that fail for a while are made again: until somebody cancels.
    pub(crate) fn patience(&self) -> Result<(RetryOptions, Sleep)> {
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
        Ok((retries, Arc::new(sleep)))
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
        options.cache_dir = self.cache_directory();
        options.state_dir = own_directory("DR_STATE_DIR", "XDG_STATE_HOME", ".local/state");
        if options.state_dir.is_none() {
            self.output.warn(
                "neither DR_STATE_DIR nor HOME is set: a repository that goes back in time will not be noticed",
            );
        }
        options.accept_rollback = self.global.accept_rollback;
        options.cipher = self.global.cipher.map(Cipher::from).unwrap_or_default();
        options
    }

    /// Where copies of repositories' indexes are kept on this machine.
    pub(crate) fn cache_directory(&self) -> Option<PathBuf> {
        if self.global.no_cache {
            return None;
        }
        let given = self.global.cache_dir.clone();
        given.or_else(|| own_directory("DR_CACHE_DIR", "XDG_CACHE_HOME", ".cache"))
    }

    /// Removes the caches that were used least recently, where all of them take more than they may. The newest stays.
    pub(crate) fn limit_caches(&self) {
        let variable = || text_variable("DR_CACHE_LIMIT").map(|text| quantity::bytes(&text));
        let limit = match self.global.cache_limit.map(Ok).or_else(variable) {
            None => return,
            Some(Ok(limit)) => limit,
            Some(Err(wrong)) => return self.output.warn(&format!("DR_CACHE_LIMIT: {wrong}")),
        };
        let Some(directory) = self.cache_directory() else { return };
        let mut cleanup = CacheCleanup::new();
        (cleanup.max_bytes, cleanup.spare_newest) = (Some(limit), true);
        if let Err(error) = dr_core::clean_caches(&directory, &cleanup, &SystemClock) {
            // The run itself is done, however this ends.
            self.output.warn(&format!("the caches could not be cleaned up: {error}"));
        }
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

    /// Warns of the snapshots that cannot be read, and that whoever asks for all of them does not get. Gives their ids.
    pub(crate) fn warn_of_unreadable(&self, repository: &Repository) -> Result<Vec<String>> {
        let unreadable = repository.unreadable_snapshots()?;
        for (id, error) in &unreadable {
            self.output
                .warn(&format!("snapshot {id} cannot be read: {error}; 'dr check' says what is damaged"));
        }
        Ok(unreadable.iter().map(|(id, _)| id.to_string()).collect())
    }

    /// Makes a long call's answer this program's: what fails after a signal failed because of it.
    pub(crate) fn answer<T>(&self, answer: dr_core::Result<T>) -> Result<T> {
        answer.map_err(|error| {
            if self.signals.cancel().is_cancelled() { CliError::interrupted() } else { CliError::from(error) }
        })
    }
}

/// A variable that holds text; an empty one counts as none.
pub(crate) fn text_variable(name: &str) -> Option<String> {
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
