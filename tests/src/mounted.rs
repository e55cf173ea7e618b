//! The program while it shows snapshots: as a mounted file system, or as a server.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::disk::SmallDisk;
use crate::shell::Shell;
use crate::steps::skip;

/// How long the program may take to do what it is asked.
const PATIENCE: Duration = Duration::from_secs(120);

/// The program, showing snapshots.
#[derive(Debug)]
pub struct Showing {
    child: Child,
    said: Option<JoinHandle<String>>,
    /// What it wrote when it was ready.
    pub ready: String,
}

impl Showing {
    /// Starts it and waits until it says that it is ready.
    pub fn start(command: &mut Command) -> Showing {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let said = std::thread::spawn(move || {
            let mut said = String::new();
            let _ = stderr.read_to_string(&mut said);
            said
        });
        let mut ready = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let mut showing = Showing { child, said: Some(said), ready };
        if showing.ready.is_empty() {
            let (status, said) = showing.wait();
            panic!("{command:?}: {status}: {said}");
        }
        showing
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end; gives how it ended and what it said on standard error.
    pub fn wait(&mut self) -> (ExitStatus, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(10));
        };
        let said = self.said.take().map_or_else(String::new, |said| said.join().unwrap());
        assert!(!said.contains("panicked"), "{said}");
        (status, said)
    }

    /// Ends it as a user does, and gives what it said.
    pub fn end(&mut self) -> String {
        self.signal(Signal::TERM);
        let (status, said) = self.wait();
        assert_eq!(status.code(), Some(0), "{said}");
        said
    }
}

impl Drop for Showing {
    fn drop(&mut self) {
        if self.said.is_some() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Snapshots, mounted. Goes away with this.
#[derive(Debug)]
pub struct Mounted {
    /// The program.
    pub showing: Showing,
    /// Where.
    pub place: PathBuf,
}

impl Mounted {
    /// Whether file systems can be mounted through FUSE here; a skip is noted.
    pub fn is_possible(shell: &Shell) -> bool {
        let opens = OpenOptions::new().read(true).write(true).open("/dev/fuse").is_ok();
        let possible = opens && SmallDisk::mount(&shell.workshop.room(), "size=16k").is_some();
        if !possible {
            skip("mount", "no file system can be mounted through FUSE here");
        }
        possible
    }

    /// Mounts the shell's repository.
    pub fn start(shell: &Shell, arguments: &[&str]) -> Mounted {
        let place = shell.workshop.room();
        std::fs::create_dir(&place).unwrap();
        let showing = Showing::start(shell.command().arg("mount").arg(&place).args(arguments));
        Mounted { showing, place }
    }

    /// Where a path of the source lies in the newest snapshot.
    pub fn latest(&self, path: &Path) -> PathBuf {
        self.place.join("snapshots/latest").join(path.strip_prefix("/").unwrap())
    }

    /// Whether the kernel has it mounted.
    pub fn is_mounted(&self) -> bool {
        is_mounted(&self.place)
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        if is_mounted(&self.place) {
            let _ = Command::new("umount").arg("--lazy").arg(&self.place).status();
        }
    }
}

fn is_mounted(place: &Path) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().any(|line| line.split(' ').nth(1).is_some_and(|mount| Path::new(mount) == place))
}

/// An answer over HTTP.
#[derive(Debug)]
pub struct Answer {
    /// The number of the status.
    pub status: u16,
    /// The headers, as they came.
    pub headers: String,
    /// The body, its pieces joined. It may be cut short.
    pub body: Vec<u8>,
    /// The whole body came.
    pub is_whole: bool,
}

impl Answer {
    /// A header's value; the name is given in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.lines().find_map(|line| {
            let (known, value) = line.split_once(':')?;
            known.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Asks a server on this machine. `target` is sent as it is; of the headers, `Host` and
/// `Content-Length` stand for the usual ones.
pub fn ask(port: u16, method: &str, target: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request = format!("{method} {target} HTTP/1.1\r\nConnection: close\r\n");
    if !headers.iter().any(|(name, _)| *name == "Host") {
        request.push_str("Host: localhost\r\n");
    }
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    if !headers.iter().any(|(name, _)| *name == "Content-Length") {
        request.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    request.push_str(&format!("\r\n{body}"));
    stream.write_all(request.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    // A connection that is cut is an answer as well.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n").expect("no headers came");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let (line, headers) = head.split_once("\r\n").unwrap_or((&head, ""));
    let status = line.split(' ').nth(1).unwrap().parse().unwrap();
    let mut answer =
        Answer { status, headers: headers.to_owned(), body: bytes.split_off(end + 4), is_whole: true };
    if answer.header("transfer-encoding") == Some("chunked") {
        (answer.body, answer.is_whole) = joined(&answer.body);
    } else if let Some(length) = answer.header("content-length").filter(|_| method != "HEAD") {
        answer.is_whole = length.parse() == Ok(answer.body.len());
    }
    answer
}

/// Joins a chunked body's pieces; whether its end came.
fn joined(mut chunked: &[u8]) -> (Vec<u8>, bool) {
    let mut body = Vec::new();
    loop {
        let Some(line) = chunked.windows(2).position(|window| window == b"\r\n") else {
            return (body, false);
        };
        let length = usize::from_str_radix(std::str::from_utf8(&chunked[..line]).unwrap(), 16).unwrap();
        let Some(piece) = chunked.get(line + 2..line + 2 + length) else { return (body, false) };
        if length == 0 {
            return (body, true);
        }
        body.extend_from_slice(piece);
        chunked = chunked.get(line + 4 + length..).unwrap_or_default();
    }
}
