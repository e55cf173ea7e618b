//! Programs that this one starts, and above all those whose output is saved.

use std::ffi::OsString;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use dr_core::{CancelToken, Error, ErrorKind};
use rustix::process::{Pid, Signal, kill_process};

use crate::error::{CliError, Result};
use crate::signals::Signals;

/// How long a program that was asked to end is given before it is killed.
const GRACE: Duration = Duration::from_millis(300);

/// Says whether a program succeeded.
pub(crate) type Confirm = Box<dyn FnOnce() -> dr_core::Result<()> + Send>;

/// The same program without the passwords that this one was given in variables: they are not for others.
pub(crate) fn without_secrets(command: &mut Command) -> &mut Command {
    command.env_remove("DR_PASSWORD").env_remove("DR_FROM_PASSWORD").env_remove("DR_NEW_PASSWORD")
}

/// A running program whose output is saved. It does not outlive this.
#[derive(Debug)]
pub(crate) struct SourceCommand {
    name: String,
    child: Mutex<Child>,
}

impl SourceCommand {
    /// Starts a program; the second part is its output.
    pub(crate) fn spawn(words: &[OsString]) -> Result<(Arc<SourceCommand>, ChildStdout)> {
        let Some((program, arguments)) = words.split_first() else {
            return Err(CliError::usage("there is no command after '--'"));
        };
        let name = program.to_string_lossy().into_owned();
        let failed = || CliError::source(format!("the command '{name}' cannot be run"));
        let spawned = without_secrets(Command::new(program).args(arguments)).stdout(Stdio::piped()).spawn();
        let mut child = spawned.map_err(|error| failed().with_cause(&error))?;
        let output = child.stdout.take().ok_or_else(failed)?;
        Ok((Arc::new(SourceCommand { name, child: Mutex::new(child) }), output))
    }

    /// Runs a program beside `call`, which takes its output, and what says at the end whether it succeeded. It ends with `call`,
    /// and where a signal ends this program.
    pub(crate) fn with<T>(
        words: &[OsString],
        signals: &Signals,
        call: impl FnOnce(ChildStdout, Confirm) -> dr_core::Result<T>,
    ) -> Result<dr_core::Result<T>> {
        let (command, output) = SourceCommand::spawn(words)?;
        signals.watch(&command);
        let (confirming, cancel) = (Arc::clone(&command), signals.cancel().clone());
        let answer = call(output, Box::new(move || confirming.confirm(&cancel)));
        command.finish();
        Ok(answer)
    }

    /// Waits until the program has ended, and fails unless it succeeded.
    pub(crate) fn confirm(&self, cancel: &CancelToken) -> dr_core::Result<()> {
        let failed = |why: String| {
            Error::new(ErrorKind::Source, format!("the command '{}' failed: {why}", self.name))
                .with_remedy("no snapshot was made: see what the command wrote above")
        };
        let mut pause = Duration::from_millis(1);
        loop {
            // Polled, so that the lock is free for whoever wants to end the program meanwhile.
            match self.child().try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => return Err(failed(status.to_string())),
                Ok(None) if cancel.is_cancelled() => {
                    return Err(Error::new(ErrorKind::Cancelled, "cancelled"));
                }
                Ok(None) => {}
                Err(error) => return Err(failed(error.to_string())),
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_millis(50));
        }
    }

    /// Asks the program to end.
    pub(crate) fn terminate(&self) {
        let mut child = self.child();
        // A process that was waited for has no number any more; another one may have it.
        if let Ok(None) = child.try_wait() {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        }
    }

    /// Ends the program.
    pub(crate) fn kill(&self) {
        let _ = self.child().kill();
    }

    /// Sees to it that the program has ended: asks, waits a little, and ends it.
    pub(crate) fn finish(&self) {
        self.terminate();
        let step = Duration::from_millis(10);
        let mut waited = Duration::ZERO;
        while waited < GRACE {
            if !matches!(self.child().try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(step);
            waited += step;
        }
        self.kill();
        let _ = self.child().wait();
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(words: &[&str]) -> (Arc<SourceCommand>, ChildStdout) {
        SourceCommand::spawn(&words.iter().map(OsString::from).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn only_success_confirms() {
        let cancel = CancelToken::new();
        run(&["true"]).0.confirm(&cancel).unwrap();
        let error = run(&["sh", "-c", "exit 3"]).0.confirm(&cancel).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Source);
        assert!(error.to_string().contains("'sh'") && error.to_string().contains('3'), "{error}");
        assert!(SourceCommand::spawn(&["/no/such/program".into()]).is_err());
        assert!(SourceCommand::spawn(&[]).is_err());
    }

    #[test]
    fn a_program_does_not_outlive_its_run() {
        let (command, _output) = run(&["sh", "-c", "trap '' TERM; while :; do sleep 0.01; done"]);
        command.finish();
        assert!(command.child().try_wait().unwrap().is_some());
        let (command, _output) = run(&["sleep", "60"]);
        let cancel = CancelToken::new();
        cancel.cancel();
        assert_eq!(command.confirm(&cancel).unwrap_err().kind(), ErrorKind::Cancelled);
        command.finish();
    }
}
