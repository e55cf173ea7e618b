//! Signals: the first ends a long call cleanly, the next ends the process; SIGUSR1 asks how far things are.

use std::fs::File;
use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use dr_core::CancelToken;
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1};
use signal_hook::iterator::Signals as Incoming;

use crate::child::SourceCommand;
use crate::error::CliError;
use crate::render::Output;

/// Signals this close together are one: some senders reach a process twice, as itself and as one of its group.
const ECHO: Duration = Duration::from_millis(200);

/// What signals do. Clones share everything.
#[derive(Debug, Clone)]
pub(crate) struct Signals(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    output: Output,
    cancel: CancelToken,
    /// A call is running that looks at `cancel`.
    is_graceful: AtomicBool,
    /// The program whose output is being saved.
    command: Mutex<Option<Arc<SourceCommand>>>,
    /// The terminal's settings from before a prompt, while there is one.
    prompt: Mutex<Option<(File, Termios)>>,
}

impl Signals {
    /// Takes SIGINT and SIGTERM over, and SIGHUP unless whoever started this asked for it to be ignored (`nohup`).
    pub(crate) fn install(output: Output) -> io::Result<Signals> {
        let shared = Arc::new(Shared {
            output,
            cancel: CancelToken::new(),
            is_graceful: AtomicBool::new(false),
            command: Mutex::new(None),
            prompt: Mutex::new(None),
        });
        let hangup = (!is_hangup_ignored()).then_some(SIGHUP);
        let mut received = Incoming::new([SIGINT, SIGTERM, SIGUSR1].into_iter().chain(hangup))?;
        let listener = shared.clone();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            let mut first: Option<Instant> = None;
            for signal in received.forever() {
                if signal == SIGUSR1 {
                    listener.output.tell_state();
                    continue;
                }
                if first.is_some_and(|first| first.elapsed() < ECHO) {
                    continue;
                }
                first = Some(Instant::now());
                listener.take();
            }
        })?;
        Ok(Signals(shared))
    }

    /// The token that the first signal cancels.
    pub(crate) fn cancel(&self) -> &CancelToken {
        &self.0.cancel
    }

    /// From now until the guard is dropped, a call looks at the token: the first signal only cancels.
    pub(crate) fn graceful(&self) -> Graceful<'_> {
        self.0.is_graceful.store(true, Ordering::SeqCst);
        Graceful(&self.0)
    }

    /// Ends this program as well when a signal comes.
    pub(crate) fn watch(&self, command: &Arc<SourceCommand>) {
        *lock(&self.0.command) = Some(command.clone());
    }

    /// Keeps the terminal's settings while something is typed without being shown, so that a signal can restore them.
    pub(crate) fn prompting(&self) -> Prompting<'_> {
        let terminal = File::open("/dev/tty").ok();
        let saved =
            terminal.and_then(|terminal| tcgetattr(&terminal).ok().map(|settings| (terminal, settings)));
        *lock(&self.0.prompt) = saved;
        Prompting(&self.0)
    }
}

impl Shared {
    fn take(&self) {
        if !self.is_graceful.swap(false, Ordering::SeqCst) {
            self.leave();
        }
        self.cancel.cancel();
        if let Some(command) = &*lock(&self.command) {
            command.terminate();
        }
    }

    /// Ends the process. Whatever it holds is left as it is: the repository is valid at every moment.
    fn leave(&self) -> ! {
        if let Some((terminal, settings)) = &*lock(&self.prompt) {
            let _ = tcsetattr(terminal, OptionalActions::Now, settings);
        }
        if let Some(command) = &*lock(&self.command) {
            command.kill();
        }
        let error = CliError::interrupted();
        let mut message = Vec::new();
        if !self.output.is_json() && io::stderr().is_terminal() {
            // What stands on the line is a bar that nobody moves any more, or a prompt.
            message.extend_from_slice(if self.output.is_drawing() { b"\r\x1b[2K" } else { b"\n" });
        }
        let _ = self.output.write_error(&mut message, &error);
        // Straight to the descriptor: the thread that holds the lock may be the one that is stuck.
        let _ = rustix::io::write(io::stderr(), &message);
        std::process::exit(error.details().code.number().into())
    }
}

/// While this lives, the first signal only cancels.
#[derive(Debug)]
pub(crate) struct Graceful<'a>(&'a Shared);

impl Drop for Graceful<'_> {
    fn drop(&mut self) {
        self.0.is_graceful.store(false, Ordering::SeqCst);
        *lock(&self.0.command) = None;
    }
}

/// While this lives, a signal restores the terminal.
#[derive(Debug)]
pub(crate) struct Prompting<'a>(&'a Shared);

impl Drop for Prompting<'_> {
    fn drop(&mut self) {
        *lock(&self.0.prompt) = None;
    }
}

/// Whether SIGHUP was ignored when this process began.
fn is_hangup_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (SIGHUP - 1)) != 0
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
