//! Where the password or key comes from. Secrets live in buffers that are wiped; none ever stands in an argument.

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use dr_core::Credentials;
use zeroize::Zeroizing;

use crate::args::GlobalArgs;
use crate::child::without_secrets;
use crate::error::{CliError, Result};
use crate::from_args::FromArgs;
use crate::key_args::NewKeyArgs;
use crate::render::Output;
use crate::signals::Signals;
use crate::{key_file, words};

/// The longest password that a command may write, in bytes.
const COMMAND_OUTPUT_BYTES_MAX: usize = 4 << 10;
/// How much of a password file is looked at, in bytes.
const PASSWORD_FILE_BYTES_MAX: usize = 64 << 10;

/// Where the secret is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file that holds a key.
    KeyFile(PathBuf),
    /// A file whose first line is the password.
    PasswordFile(PathBuf),
    /// A program that writes the password.
    PasswordCommand(String),
    /// A variable that is the password.
    Variable(&'static str),
    /// Nobody said.
    Unsaid,
}

/// Whether a password is set or asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It is asked for.
    Open,
    /// It is asked for, and is that of a second repository.
    OpenFrom,
    /// It is set, so it is typed twice.
    Create,
    /// It is set beside, or instead of, the one that opens the repository, and typed twice.
    Change,
}

/// Finds out where the secret is: an option, else the environment.
pub(crate) fn place(global: &GlobalArgs, variable: impl Fn(&str) -> Option<OsString>) -> Result<Place> {
    let options = [
        global.key_file.clone().map(Place::KeyFile),
        global.password_file.clone().map(Place::PasswordFile),
        global.password_command.clone().map(Place::PasswordCommand),
    ];
    place_among(options, ["", "DR_", "DR_PASSWORD"], variable)
}

/// Finds out where the secret of the repository is that is copied from.
pub(crate) fn place_from(from: &FromArgs, variable: impl Fn(&str) -> Option<OsString>) -> Result<Place> {
    let options = [
        from.from_key_file.clone().map(Place::KeyFile),
        from.from_password_file.clone().map(Place::PasswordFile),
        from.from_password_command.clone().map(Place::PasswordCommand),
    ];
    place_among(options, ["from-", "DR_FROM_", "DR_FROM_PASSWORD"], variable)
}

/// Finds out where the secret is that is to open the repository from now on.
pub(crate) fn place_new(new: &NewKeyArgs, variable: impl Fn(&str) -> Option<OsString>) -> Result<Place> {
    let options = [
        new.new_key_file.clone().map(Place::KeyFile),
        new.new_password_file.clone().map(Place::PasswordFile),
        new.new_password_command.clone().map(Place::PasswordCommand),
    ];
    place_among(options, ["new-", "DR_NEW_", "DR_NEW_PASSWORD"], variable)
}

/// The option that was given, else the variable that is set; their names begin so. The last variable is the password.
fn place_among(
    options: [Option<Place>; 3],
    [option, prefix, password]: [&'static str; 3],
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Place> {
    let mut given = options.into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(place), None) => return Ok(place),
        (None, _) => {}
        (Some(_), Some(_)) => {
            return Err(CliError::usage(format!(
                "only one of --{option}key-file, --{option}password-file and --{option}password-command can be used at once",
            )));
        }
    }
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let is_set = variable(password).is_some();
    let variable = |name: &str| variable(&format!("{prefix}{name}"));
    if let Some(path) = variable("KEY_FILE") {
        return Ok(Place::KeyFile(path.into()));
    }
    if let Some(path) = variable("PASSWORD_FILE") {
        return Ok(Place::PasswordFile(path.into()));
    }
    if let Some(command) = variable("PASSWORD_COMMAND") {
        let wrong = |_| CliError::usage(format!("{prefix}PASSWORD_COMMAND is not UTF-8"));
        return Ok(Place::PasswordCommand(command.into_string().map_err(wrong)?));
    }
    Ok(if is_set { Place::Variable(password) } else { Place::Unsaid })
}

/// Reads the secret.
pub(crate) fn read(
    place: &Place,
    purpose: Purpose,
    signals: &Signals,
    output: &Output,
) -> Result<Credentials> {
    let secret = match place {
        Place::KeyFile(path) => return key_file::read(path, output),
        Place::PasswordFile(path) => from_file(path)?,
        Place::PasswordCommand(command) => from_command(command)?,
        Place::Variable(name) => Zeroizing::new(std::env::var_os(name).unwrap_or_default().into_vec()),
        Place::Unsaid => from_terminal(purpose, signals)?,
    };
    if secret.is_empty() {
        return Err(CliError::credentials("the password is empty")
            .with_remedy("give one in --password-file, --password-command, DR_PASSWORD, or when asked"));
    }
    // The engine's copy is wiped by the engine.
    Ok(Credentials::password(secret.as_slice())?)
}

/// The first line of a file.
pub(crate) fn from_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let failed = |error: io::Error| {
        CliError::credentials("the password file cannot be read").with_path(path).with_cause(&error)
    };
    let mut text =
        File::open(path).and_then(|file| read_bounded(file, PASSWORD_FILE_BYTES_MAX)).map_err(failed)?;
    let line = text.iter().position(|byte| *byte == b'\n');
    if line.is_none() && text.len() > PASSWORD_FILE_BYTES_MAX {
        return Err(CliError::credentials("the first line of the password file is too long").with_path(path));
    }
    let end = line.unwrap_or(text.len());
    text.truncate(end);
    strip_end(&mut text, b'\r');
    Ok(text)
}

fn from_command(command: &str) -> Result<Zeroizing<Vec<u8>>> {
    let words = words::split(command)
        .map_err(|error| CliError::usage(format!("the password command is wrong: {}", error.message())))?;
    from_program("the password command", &words)
}

/// Runs a program and takes its output, without the last line's end, as a secret. `what` it is, is for people.
pub(crate) fn from_program(what: &str, words: &[String]) -> Result<Zeroizing<Vec<u8>>> {
    let Some((program, arguments)) = words.split_first() else {
        return Err(CliError::usage(format!("{what} is empty")));
    };
    let failed = |why: &str| CliError::credentials(format!("{what} '{program}' {why}"));
    let spawned = without_secrets(Command::new(program).args(arguments)).stdout(Stdio::piped()).spawn();
    let mut child = spawned.map_err(|error| failed("cannot be run").with_cause(&error))?;
    let output = child.stdout.take().ok_or_else(|| failed("has no output"))?;
    let read = read_bounded(output, COMMAND_OUTPUT_BYTES_MAX);
    let is_too_long = read.as_ref().is_ok_and(|text| text.len() > COMMAND_OUTPUT_BYTES_MAX);
    if is_too_long {
        let _ = child.kill();
    }
    let status = child.wait().map_err(|error| failed("was lost").with_cause(&error))?;
    if is_too_long {
        return Err(failed("wrote more than 4096 bytes"));
    }
    if !status.success() {
        return Err(failed(&format!("failed: {status}")));
    }
    let mut text = read.map_err(|error| failed("cannot be read").with_cause(&error))?;
    strip_end(&mut text, b'\n');
    strip_end(&mut text, b'\r');
    Ok(text)
}

fn from_terminal(purpose: Purpose, signals: &Signals) -> Result<Zeroizing<Vec<u8>>> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        let (what, remedy) = match purpose {
            Purpose::OpenFrom => (
                "no password and no key of the repository to copy from was given",
                "use --from-password-file, --from-password-command, --from-key-file, DR_FROM_PASSWORD, or run it on a \
                 terminal",
            ),
            Purpose::Change => (
                "no new password and no new key was given",
                "use --new-password-file, --new-password-command, --new-key-file, DR_NEW_PASSWORD, or run it on a \
                 terminal",
            ),
            Purpose::Open | Purpose::Create => (
                "no password and no key was given",
                "use --password-file, --password-command, --key-file, DR_PASSWORD, or run it on a terminal",
            ),
        };
        return Err(CliError::usage(what).with_remedy(remedy));
    }
    let prompt = match purpose {
        Purpose::OpenFrom => "password of the repository to copy from: ",
        Purpose::Change => "new password of the repository: ",
        Purpose::Open | Purpose::Create => "password of the repository: ",
    };
    let password = ask(prompt, signals)?;
    if matches!(purpose, Purpose::Create | Purpose::Change) {
        let again = ask("the same password again: ", signals)?;
        if password != again {
            return Err(CliError::credentials("the two passwords differ"));
        }
    }
    Ok(password)
}

fn ask(prompt: &str, signals: &Signals) -> Result<Zeroizing<Vec<u8>>> {
    let _prompting = signals.prompting();
    match rpassword::prompt_password(prompt) {
        Ok(password) => Ok(Zeroizing::new(password.into_bytes())),
        Err(error) if error.kind() == io::ErrorKind::Interrupted => {
            // The prompt has sent this process the signal, whose thread is about to end it; only one is to say so.
            std::thread::sleep(Duration::from_secs(1));
            Err(CliError::interrupted())
        }
        Err(error) => Err(CliError::credentials("no password could be asked for").with_cause(&error)),
    }
}

/// Reads up to one byte more than `bytes_max`, into a buffer that never moves: a copy left behind would not be wiped.
pub(crate) fn read_bounded(mut from: impl Read, bytes_max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut text = Zeroizing::new(vec![0; bytes_max + 1]);
    let mut filled = 0;
    while filled < text.len() {
        match from.read(&mut text[filled..]) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    text.truncate(filled);
    Ok(text)
}

fn strip_end(text: &mut Vec<u8>, end: u8) {
    if text.last() == Some(&end) {
        text.pop();
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::args::Cli;

    fn chosen(arguments: &[&str], variables: &[(&str, &str)]) -> Result<Place> {
        let cli = Cli::try_parse_from([&["dr", "stats"], arguments].concat()).unwrap();
        let known =
            |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        place(&cli.global, known)
    }

    #[test]
    fn options_come_before_the_environment() {
        let environment = [("DR_KEY_FILE", "k"), ("DR_PASSWORD", "p")];
        let place = chosen(&["--password-file", "f"], &environment).unwrap();
        assert_eq!(place, Place::PasswordFile("f".into()));
        assert_eq!(chosen(&[], &environment).unwrap(), Place::KeyFile("k".into()));
        assert_eq!(
            chosen(&[], &[("DR_PASSWORD", "p"), ("DR_KEY_FILE", "")]).unwrap(),
            Place::Variable("DR_PASSWORD")
        );
        assert_eq!(chosen(&[], &[]).unwrap(), Place::Unsaid);
        assert!(chosen(&["--password-file", "f", "--key-file", "k"], &[]).is_err());
    }

    #[test]
    fn a_password_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        for (text, password) in [("one\r\ntwo\n", "one"), ("one", "one"), (" one \n", " one "), ("\n", "")] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(from_file(&path).unwrap().as_slice(), password.as_bytes());
        }
        assert_eq!(from_file(&folder.path().join("none")).unwrap_err().details().error_code, "credentials");
    }

    #[test]
    fn a_command_gives_its_whole_output() {
        assert_eq!(from_command("printf 'a b\\n'").unwrap().as_slice(), b"a b");
        assert_eq!(from_command("sh -c 'printf \"a\\nb\"'").unwrap().as_slice(), b"a\nb");
        assert!(from_command("sh -c 'echo x; exit 1'").is_err());
        assert!(from_command("head -c 5000 /dev/zero").is_err());
        assert!(from_command("/no/such/program").is_err());
        assert_eq!(from_command("'").unwrap_err().details().error_code, "usage");
    }
}
