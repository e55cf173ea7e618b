//! The real program on a terminal of its own: what somebody types there, and what is shown.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{InputModes, LocalModes, OutputModes, tcgetattr};

/// How long the program may take to do what it is asked.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program that leads a session on a pseudo-terminal, of which this holds the other end.
#[derive(Debug)]
pub struct Terminal {
    keyboard: Option<File>,
    child: Child,
    shown: Vec<u8>,
}

impl Terminal {
    /// Starts a program with the arguments and variables of `command`.
    pub fn start(command: &Command) -> Terminal {
        let keyboard = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&keyboard).unwrap();
        unlockpt(&keyboard).unwrap();
        let path = ptsname(&keyboard, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let screen = File::from(rustix::fs::open(path.as_c_str(), flags, Mode::empty()).unwrap());
        // What the test itself was started to ignore, the program is not to.
        let mut leader = Command::new("setsid");
        leader.args(["--ctty", "env", "--default-signal=HUP,INT"]).arg(command.get_program());
        leader.args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => leader.env(name, value),
                None => leader.env_remove(name),
            };
        }
        leader.env("TERM", "xterm");
        let end = || Stdio::from(screen.try_clone().unwrap());
        let child = leader.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let keyboard = File::from(keyboard);
        rustix::fs::fcntl_setfl(&keyboard, OFlags::RDWR | OFlags::NONBLOCK).unwrap();
        Terminal { keyboard: Some(keyboard), child, shown: Vec::new() }
    }

    fn keyboard(&mut self) -> &mut File {
        self.keyboard.as_mut().unwrap()
    }

    /// All that was shown so far.
    pub fn shown(&mut self) -> String {
        let mut buffer = [0; 4096];
        // Nothing more to read, or nobody left who writes: both are errors here.
        while let Ok(length @ 1..) = self.keyboard().read(&mut buffer) {
            self.shown.extend_from_slice(&buffer[..length]);
        }
        String::from_utf8_lossy(&self.shown).into_owned()
    }

    /// Waits until something is so.
    pub fn wait_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Terminal) -> bool) {
        let begun = Instant::now();
        while !is_so(self) {
            assert!(begun.elapsed() < PATIENCE, "{what}: {}", self.shown());
            sleep(Duration::from_millis(5));
        }
    }

    /// Waits for a prompt that has come so many times by then, and for the terminal to stop showing what is typed.
    pub fn wait_for_prompt(&mut self, prompt: &str, times: usize) {
        self.wait_until(prompt, |terminal| {
            terminal.shown().matches(prompt).count() == times && !terminal.shows_what_is_typed()
        });
    }

    /// Types.
    pub fn type_in(&mut self, text: &str) {
        self.keyboard().write_all(text.as_bytes()).unwrap();
    }

    /// How the terminal is set: what it makes of input, of output, and for whom.
    pub fn settings(&mut self) -> (InputModes, OutputModes, LocalModes) {
        let settings = tcgetattr(self.keyboard()).unwrap();
        (settings.input_modes, settings.output_modes, settings.local_modes)
    }

    /// Whether what is typed is shown.
    pub fn shows_what_is_typed(&mut self) -> bool {
        self.settings().2.contains(LocalModes::ECHO)
    }

    /// Waits for the end; gives the exit code, and all that was shown.
    pub fn end(&mut self) -> (Option<i32>, String) {
        let mut status = None;
        self.wait_until("it does not end", |terminal| {
            terminal.shown();
            status = terminal.child.try_wait().unwrap();
            status.is_some()
        });
        let shown = self.shown();
        assert!(!shown.contains("panicked"), "{shown}");
        (status.and_then(|status| status.code()), shown)
    }

    /// Takes the terminal away, and waits for the end; gives the exit code.
    pub fn hang_up(&mut self) -> Option<i32> {
        self.keyboard = None;
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it goes on without its terminal");
            sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
